//! The engine of a pool: sends tasks, takes answers, and lets whoever waits do the work.
//!
//! There is no thread between a caller and its answer. The thread that waits takes the role of the
//! *collector*: it reads the ring of results and delivers every answer to its sink, its own and those of
//! others, until its own is there; then it hands the role on to another thread that waits. Deaths of
//! workers are handled by the minder's thread ([`super::minder`]), which interrupts the collector for it;
//! answers that somebody wants a callback for, and tasks that wait for room, are looked after by the
//! callback thread ([`super::attendant`]) while nobody else waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::attendant;
use super::board::Board;
use super::crew::Crew;
use super::flight::{Flights, Launch, Parcel, is_same};
use super::message::op;
use super::message::{ResultHead, Ticket, split};
use super::sink::{Callback, Outcome, Sink, cancelled, lock};
use super::sites::Sites;
use crate::channel::{Channel, ChannelError, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::mm::MemError;
use crate::prim::{AtomicUsize, Ordering};
use crate::task::{self, Thunk};
use crate::time::Deadline;
use crate::wait::Patience;

/// How many tasks may be on their way at once.
pub(super) const WINDOW: usize = 1024;

/// How many bytes of tasks may be on their way before a map waits for answers.
const BYTES_IN_FLIGHT: usize = 256 << 20;

/// How long a worker may take between beginning to send an answer and having sent it, before those behind it are
/// given up: it can only have been stopped in between.
const STANDSTILL: Duration = Duration::from_millis(100);

/// How far a pool's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Takes tasks.
    Open,
    /// Takes no more, finishes those it has.
    Closing,
    /// Finished or given up.
    Ended,
}

/// What the engine's lock guards.
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) broken: Option<Error>,
    pub(super) flights: Flights,
    pub(super) crew: Crew,
    functions: HashMap<usize, u32>,
    /// The workers of a closed pool have been told that nothing more comes.
    finished: bool,
}

/// Shared by the pool, its tasks and its threads.
pub(super) struct Engine {
    pub(super) board: Board,
    pub(super) tasks: Channel,
    pub(super) results: Channel,
    /// The workers on other nodes, of a pool that has such.
    pub(super) sites: OnceLock<Arc<Sites>>,
    pub(super) state: Mutex<State>,
    collector: Mutex<Patience>,
    /// Threads that want the collector's role at once, before those that merely wait.
    urgent: AtomicUsize,
    landed: AtomicUsize,
    /// Threads that sleep on `turn`.
    followers: AtomicUsize,
    turn: Mutex<()>,
    turned: Condvar,
    callbacks: Sender<Callback>,
    /// The other end of `callbacks`, until the attendant is started with it.
    attendant: Mutex<Option<Receiver<Callback>>>,
    /// Tasks on their way that somebody wants a callback for.
    callbacks_due: AtomicUsize,
}

/// Why a launch did not leave.
pub(super) enum Refusal {
    /// No room now; there will be when answers have come.
    Later,
    /// It can never leave.
    Never(Error),
}

impl State {
    /// No worker is left, here or elsewhere.
    fn is_deserted(&self) -> bool {
        self.crew.alive() == 0 && self.flights.loads.iter().skip(1).all(|load| load.is_over)
    }
}

impl Engine {
    pub(super) fn new(board: Board, tasks: Channel, results: Channel, workers: usize) -> Engine {
        let (callbacks, attendant) = unbounded();
        let state = State {
            phase: Phase::Open,
            broken: None,
            flights: Flights::new(WINDOW),
            crew: Crew::new(workers),
            functions: HashMap::new(),
            finished: false,
        };
        Engine {
            board,
            tasks,
            results,
            sites: OnceLock::new(),
            state: Mutex::new(state),
            collector: Mutex::new(Patience::new()),
            urgent: AtomicUsize::new(0),
            landed: AtomicUsize::new(0),
            followers: AtomicUsize::new(0),
            turn: Mutex::new(()),
            turned: Condvar::new(),
            callbacks,
            attendant: Mutex::new(Some(attendant)),
            callbacks_due: AtomicUsize::new(0),
        }
    }

    // ---- sending -------------------------------------------------------------------------------

    /// Where a function's reference stands in the board's log; entered at its first use.
    pub(super) fn function(&self, thunk: &'static Thunk) -> Result<u32> {
        let mut state = lock(&self.state);
        let key = std::ptr::from_ref(thunk) as usize;
        if let Some(&at) = state.functions.get(&key) {
            return Ok(at);
        }
        let name = task::name_in_full(thunk)?;
        let at = self.board.write(&name)?;
        if let Some(sites) = self.sites.get() {
            // Before anybody can send a task that names it.
            sites.tell_all(op::FUNCTION, &name);
        }
        state.functions.insert(key, at);
        Ok(at)
    }

    pub(super) fn phase(&self) -> Phase {
        lock(&self.state).phase
    }

    pub(super) fn is_broken(&self) -> bool {
        lock(&self.state).broken.is_some()
    }

    /// Why nothing more can be done, for others.
    pub(super) fn breakdown(&self) -> Option<(ErrorKind, String)> {
        lock(&self.state).broken.as_ref().map(|error| (error.kind(), error.to_string()))
    }

    /// Whether tasks that were taken can still be done.
    pub(super) fn check_alive(&self) -> Result<()> {
        let state = lock(&self.state);
        if let Some(error) = &state.broken {
            return Err(error.again());
        }
        match state.phase {
            Phase::Ended => Err(Error::new(ErrorKind::WorkerLost, "the workers of this node have ended")),
            _ => Ok(()),
        }
    }

    /// Whether new tasks are taken.
    pub(super) fn check_open(&self) -> Result<()> {
        let state = lock(&self.state);
        if let Some(error) = &state.broken {
            return Err(error.again());
        }
        match state.phase {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Ended => {
                Err(Error::new(ErrorKind::Closed, "the pool is closed and takes no further task"))
            }
        }
    }

    /// Sends a task. `bytes` begin with a [`TaskHead`](super::message::TaskHead) whose ticket is set here.
    pub(super) fn launch(&self, bytes: &mut [u8], launch: Launch) -> std::result::Result<(), (Launch, Refusal)> {
        let mut state = lock(&self.state);
        if let Some(error) = &state.broken {
            return Err((launch, Refusal::Never(error.again())));
        }
        if state.flights.in_flight() > 0 && state.flights.bytes() + bytes.len() > BYTES_IN_FLIGHT {
            return Err((launch, Refusal::Later));
        }
        let (ticket, site) = state.flights.enter(launch, bytes).map_err(|launch| (launch, Refusal::Later))?;
        drop(state);
        bytes[..size_of::<Ticket>()].copy_from_slice(bytemuck::bytes_of(&ticket));
        if site != 0 {
            return self.launch_far(site, ticket, bytes);
        }
        let Err(error) = self.tasks.send(bytes, Deadline::Now) else { return Ok(()) };
        let mut state = lock(&self.state);
        // Gone only if the pool was terminated meanwhile, and then its sink has been told.
        let Some(launch) = state.flights.land(ticket) else { return Ok(()) };
        let others = state.flights.in_flight() > 0;
        Err((launch, refusal(error, others)))
    }

    /// Sends a task now, or lets it wait for its turn.
    pub(super) fn submit(self: &Arc<Self>, mut parcel: Parcel) {
        if lock(&self.state).flights.backlog.is_empty() {
            match self.launch(&mut parcel.bytes, parcel.launch) {
                Ok(()) => return,
                Err((launch, Refusal::Never(error))) => return self.deliver(launch, Outcome::Failed(error)),
                Err((launch, Refusal::Later)) => parcel.launch = launch,
            }
        }
        lock(&self.state).flights.backlog.push_back(parcel);
        self.pump();
        self.call_attendant();
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn pump(&self) {
        loop {
            let Some(mut parcel) = lock(&self.state).flights.backlog.pop_front() else { return };
            match self.launch(&mut parcel.bytes, parcel.launch) {
                Ok(()) => {}
                Err((launch, Refusal::Never(error))) => self.deliver(launch, Outcome::Failed(error)),
                Err((launch, Refusal::Later)) => {
                    parcel.launch = launch;
                    return lock(&self.state).flights.backlog.push_front(parcel);
                }
            }
        }
    }

    /// Gives up the tasks of one job that have not begun. True if none of them has begun or ever will.
    pub(super) fn cancel(&self, sink: &Arc<dyn Sink>) -> bool {
        let mut state = lock(&self.state);
        let (gone, stay): (VecDeque<_>, _) =
            state.flights.backlog.drain(..).partition(|parcel| is_same(&parcel.launch.sink, sink));
        state.flights.backlog = stay;
        let flying = state.flights.of(sink);
        drop(state);
        for Parcel { launch, .. } in gone {
            let error = cancelled(launch.thunk.name());
            self.deliver(launch, Outcome::Failed(error));
        }
        let (here, far): (Vec<_>, Vec<_>) = flying.into_iter().partition(|(_, site)| *site == 0);
        // All of them, though one may have begun.
        let begun = here.into_iter().filter(|(ticket, _)| !self.board.cancel(*ticket)).count();
        let far_never = self.sites.get().is_none_or(|sites| sites.cancel(far));
        begun == 0 && far_never
    }

    // ---- taking answers ------------------------------------------------------------------------

    /// Takes one answer as the collector.
    pub(super) fn collect(
        &self,
        patience: &mut Patience,
        deadline: Deadline,
        stop: &dyn Fn() -> bool,
    ) -> std::result::Result<(), ChannelError> {
        let chores = self.results.recv_with(patience, deadline, stop, |_, payload| self.accept(payload))?;
        if chores {
            self.pump();
            self.finish_if_done();
        }
        Ok(())
    }

    /// Delivers one answer. True if there is something to do besides: tasks wait for room, or the pool closes.
    fn accept(&self, message: Payload<'_>) -> bool {
        let Some((head, rest)) = split::<ResultHead>(&message) else {
            tracing::error!(length = message.len(), "a message from a worker is shorter than its head");
            return false;
        };
        if head.is_news() {
            return self.accept_news(head, rest);
        }
        let mut state = lock(&self.state);
        // Nobody waits any more for what was terminated or answered before.
        let launch = state.flights.land(head.ticket);
        let chores = state.phase != Phase::Open || !state.flights.backlog.is_empty();
        drop(state);
        self.count_landed();
        if let Some(launch) = launch {
            self.after(launch.sink.answered(launch.part, head.status, message, launch.thunk));
        }
        chores
    }

    pub(super) fn count_landed(&self) {
        self.landed.fetch_add(1, Ordering::Relaxed); // read by the thread that collects, or by one that `turn_over` woke
    }

    /// How many answers have come, to see that one more did.
    pub(super) fn landed(&self) -> usize {
        self.landed.load(Ordering::Relaxed)
    }

    /// Hands a part to its sink.
    pub(super) fn deliver(&self, launch: Launch, outcome: Outcome<'_>) {
        self.after(launch.sink.part(launch.part, outcome));
    }

    /// What follows when something was settled: a callback, and a look for those who wait.
    pub(super) fn after(&self, callback: Option<Callback>) {
        if let Some(callback) = callback {
            self.call_back(callback);
        }
        self.turn_over();
    }

    /// Runs something on the callback thread.
    pub(super) fn call_back(&self, callback: Callback) {
        if self.callbacks.send(callback).is_err() {
            tracing::error!("the callback thread of a pool is gone and a callback does not run");
        }
    }

    /// Makes sure that somebody collects answers though nobody waits for them.
    pub(super) fn call_attendant(self: &Arc<Self>) {
        let receiver = lock(&self.attendant).take();
        match receiver.map(|receiver| attendant::start(self, receiver)) {
            // It runs already and may be asleep.
            None => self.call_back(Box::new(|| ())),
            Some(Ok(_detached)) => {}
            Some(Err(error)) => tracing::error!(%error, "no thread for callbacks: they do not run"),
        }
    }

    /// A callback will be wanted. Follow it with `call_attendant`, which sees to it that the answer is collected.
    pub(super) fn expect_callback(&self) {
        self.callbacks_due.fetch_add(1, Ordering::Relaxed); // ordered by the channel in `call_attendant`
    }

    /// A callback is on its way to its thread.
    pub(super) fn callback_sent(&self) {
        self.callbacks_due.fetch_sub(1, Ordering::Relaxed); // read by the attendant itself, or after a wake-up
    }

    pub(super) fn callbacks_due(&self) -> usize {
        self.callbacks_due.load(Ordering::Relaxed)
    }

    /// The pool has ended and no worker is left.
    pub(super) fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.phase == Phase::Ended && state.is_deserted()
    }

    /// No worker is left, here or elsewhere.
    pub(super) fn is_deserted(&self) -> bool {
        lock(&self.state).is_deserted()
    }

    /// Nothing more can be done: everybody is told, now and later.
    pub(super) fn break_down(&self, error: &Error) {
        tracing::error!(%error, "a pool breaks down");
        let mut state = lock(&self.state);
        state.broken.get_or_insert(error.again());
        let waiting = state.flights.clear();
        drop(state);
        for launch in waiting {
            self.deliver(launch, Outcome::Failed(error.again()));
        }
        self.finish_if_done();
        self.turn_over();
    }

    /// Lets the workers of a closed pool go when nothing is left to do.
    pub(super) fn finish_if_done(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Closing && state.flights.is_empty() && !std::mem::replace(&mut state.finished, true) {
            drop(state);
            self.tasks.close();
            if let Some(sites) = self.sites.get() {
                sites.tell_all(op::FINISH, &[]);
            }
        }
    }

    // ---- waiting -------------------------------------------------------------------------------

    /// Waits until `done`, collecting meanwhile. False if the time was up before.
    pub(super) fn wait_for(&self, deadline: Deadline, done: &dyn Fn() -> bool) -> bool {
        loop {
            if done() {
                return true;
            }
            self.look_for_cut();
            if let Some(role) = self.try_role() {
                let in_time = self.collect_until(role, deadline, done);
                self.turn_over();
                if !in_time {
                    return done();
                }
            } else if !self.follow(deadline, done) {
                return done();
            }
        }
    }

    fn try_role(&self) -> Option<MutexGuard<'_, Patience>> {
        // SeqCst, pairs with `interrupt`: who is urgent goes first.
        if self.urgent.load(Ordering::SeqCst) > 0 {
            return None;
        }
        match self.collector.try_lock() {
            Ok(role) => Some(role),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// As the collector, until `done` or somebody urgent (true), or the time is up (false).
    fn collect_until(&self, mut role: MutexGuard<'_, Patience>, deadline: Deadline, done: &dyn Fn() -> bool) -> bool {
        let urgent = || self.urgent.load(Ordering::SeqCst) > 0; // pairs with `interrupt`
        let cut = || self.sites.get().is_some_and(|sites| sites.is_newly_cut());
        let stop = || urgent() || done() || cut();
        while !stop() {
            match self.collect(&mut role, deadline, &stop) {
                Ok(()) => {}
                Err(ChannelError::Interrupted) => return true,
                Err(ChannelError::TimedOut | ChannelError::Empty) => return false,
                Err(error) => {
                    drop(role);
                    self.break_down(&error.into());
                    return true;
                }
            }
        }
        true
    }

    /// Sleeps until the collector's role may be free or something was delivered. False: the time is up.
    fn follow(&self, deadline: Deadline, done: &dyn Fn() -> bool) -> bool {
        let turn = lock(&self.turn);
        // SeqCst, pairs with `turn_over`: either it sees this follower, or the look below sees what it did.
        self.followers.fetch_add(1, Ordering::SeqCst);
        if !done() && self.try_role().is_none() {
            match deadline.left() {
                None => drop(self.turned.wait(turn)),
                Some(left) => drop(self.turned.wait_timeout(turn, left)),
            }
        }
        self.followers.fetch_sub(1, Ordering::SeqCst);
        !deadline.passed()
    }

    /// Tells those who follow that the role is free, or that something came for one of them.
    pub(super) fn turn_over(&self) {
        // SeqCst, pairs with `follow`.
        if self.followers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.turn));
            self.turned.notify_all();
        }
    }

    /// Takes the collector's role from whoever has it, for as long as `work` takes.
    pub(super) fn interrupt(&self, work: impl FnOnce(&mut Patience)) {
        self.urgent.fetch_add(1, Ordering::SeqCst); // pairs with `try_role` and `collect_until`
        self.results.poke();
        let mut role = lock(&self.collector);
        work(&mut role);
        drop(role);
        self.urgent.fetch_sub(1, Ordering::SeqCst);
        self.turn_over();
    }

    /// Lets whoever waits ask again whether that has come.
    pub(super) fn look_again(&self) {
        self.results.poke();
        self.turn_over();
    }

    /// How many workers are there, and whether there can be none any more because all ranks are lost.
    pub(super) fn presence(&self) -> (usize, bool) {
        let state = lock(&self.state);
        (state.crew.alive(), state.crew.is_written_off())
    }

    /// Takes all answers that are there, as the collector.
    pub(super) fn drain(&self, patience: &mut Patience) {
        loop {
            match self.collect(patience, Deadline::Now, &|| false) {
                Ok(()) => {}
                Err(ChannelError::Empty) => return,
                Err(error) => return self.break_down(&error.into()),
            }
        }
    }

    /// Takes all answers of workers that have ended, as the collector: also those behind an answer that a living
    /// worker has begun to send. One that stands still does not hold this up for long.
    pub(super) fn drain_the_dead(&self, patience: &mut Patience) {
        let enough = Deadline::after(STANDSTILL);
        // Counts also what was begun and not sent, unlike `is_empty`.
        let begun = || self.results.len();
        self.drain(patience);
        while begun() > 0 && !enough.passed() {
            std::thread::yield_now();
            self.drain(patience);
        }
    }

    /// Takes the answers that are there, if nobody else is at it. Never waits.
    pub(super) fn glance(&self) {
        let Some(mut role) = self.try_role() else { return };
        self.drain(&mut role);
        drop(role);
        self.turn_over();
    }
}

fn refusal(error: ChannelError, others: bool) -> Refusal {
    match error {
        ChannelError::Full | ChannelError::TimedOut => Refusal::Later,
        ChannelError::Memory(MemError::OutOfMemory { .. } | MemError::Full { .. }) if others => Refusal::Later,
        other => Refusal::Never(other.into()),
    }
}
