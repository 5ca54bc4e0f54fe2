//! One engine for all threads of a process: whoever waits fetches for itself.
//!
//! There is one *seat*, and only who has it polls the engine. A thread that waits for something takes the seat, polls,
//! and sleeps on the engine's sockets, so that between the packet and the thread that needs it there is no other
//! thread. Those who come while the seat is taken sleep on a word; they look again when something came in, and one
//! of them gets the seat when it becomes free. If nobody waits, the agent's thread sees to the engine in its turns
//! (`turn.rs`).
//!
//! The engine and the sink are behind one lock, which is held for one call or one bounded poll and never while
//! anybody sleeps. A poller gives way to threads that want to send, so that spinning for an answer does not keep
//! questions from going out.

mod turn;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use crate::prim::{AtomicBool, AtomicU32, AtomicU64, Ordering, spin_loop};
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::poll::Bell;
use crate::time;
use crate::time::Deadline;
use crate::transport::{Bulk, Engine, Look, SendError, Sink, To, Token, TransportError};
use crate::wait::{CELL_WORDS, Patience, TimedOut, WaitCell, wait_until};

/// The driver's own descriptors in the engine's set: no engine uses a number like this.
const BELL: u64 = u64::MAX;

/// Looks without so much as a pause before a spell of looking with pauses begins.
const LOOKS: usize = 16;

/// While awake, one look in so many is at everything.
const QUICK_LOOKS: usize = 8;

/// Polls that may go by an old clock: asking costs a tenth of a poll.
const STALE: u32 = 8;

/// What comes after so short a sleep would better have been waited for awake.
const SOON: Duration = Duration::from_micros(200);

/// How often a poller looks whether senders have gone before it insists.
const GIVE_WAY: usize = 200;

/// How a thread waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Awake for as long as a wake-up takes, if that paid lately and the processors are not wanted; then asleep.
    #[default]
    Adaptive,
    /// Asleep at once.
    Sleep,
    /// Awake.
    Poll,
}

struct Core {
    engine: Box<dyn Engine>,
    sink: Box<dyn Sink>,
    /// Calls and waits so far: tells the background whether anybody is about.
    activity: u64,
    /// The time, as of the last poll that asked for it.
    now: Instant,
    /// Polls since then.
    since: u32,
}

/// A place to sleep for those who do not have the seat.
#[repr(align(64))]
struct Cell([AtomicU64; CELL_WORDS]);

/// What one poll found.
struct Polled {
    events: usize,
    now: Instant,
    due: Option<Instant>,
}

/// The engine of a process, for all its threads.
pub(crate) struct Driver {
    core: Mutex<Core>,
    /// Threads that want the lock and have found it taken.
    wanted: AtomicU32,
    /// Whether somebody has the seat.
    seat: AtomicU32,
    /// What those who had the seat have learnt about waiting here.
    patience: Mutex<Patience>,
    waiters: Cell,
    epoll: Arc<Epoll>,
    bell: Bell,
    rung: AtomicBool,
    waiting: Waiting,
    background: turn::Background,
}

/// How a sleep of who has the seat ended.
enum Slept<T> {
    Until(Result<T, TimedOut>),
    /// After so long something came in that is not what was waited for.
    For(Duration),
}

/// The right to poll.
struct Seat<'a>(&'a Driver);

thread_local! {
    /// Whether this thread has a seat: then it need not glance.
    static SITS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        SITS.set(false);
        // SeqCst: pairs with `sit` by a waiter that has registered, and by the background that found it taken.
        self.0.seat.store(0, Ordering::SeqCst);
        self.0.cell().notify_one();
        self.0.background.seat_is_free();
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// An engine, and who takes what comes in.
    pub(crate) fn new(
        engine: Box<dyn Engine>,
        sink: Box<dyn Sink>,
        waiting: Waiting,
    ) -> Result<Driver, TransportError> {
        let epoll = engine.watch();
        let bell = Bell::new().map_err(TransportError::io("make a bell (eventfd)"))?;
        epoll.add(&bell, BELL, Interest::READ).map_err(TransportError::io("watch a bell (epoll)"))?;
        Ok(Driver {
            core: Mutex::new(Core { engine, sink, activity: 0, now: time::now(), since: 0 }),
            wanted: AtomicU32::new(0),
            seat: AtomicU32::new(0),
            patience: Mutex::new(Patience::new()),
            waiters: Cell([const { AtomicU64::new(0) }; CELL_WORDS]),
            epoll,
            bell,
            rung: AtomicBool::new(false),
            waiting,
            background: turn::Background::new()?,
        })
    }

    fn cell(&self) -> &WaitCell {
        WaitCell::in_words(&self.waiters.0)
    }

    /// Calls the engine from this thread, between polls. Not from a sink: it has [`Sink::settled`] for that.
    #[inline]
    pub(crate) fn call<R>(&self, order: impl FnOnce(&mut dyn Engine) -> R) -> R {
        self.order(1, order)
    }

    /// As [`Driver::call`], by a thread that does not wait here for what follows, so that the background stays at it.
    pub(crate) fn call_aside<R>(&self, order: impl FnOnce(&mut dyn Engine) -> R) -> R {
        self.order(0, order)
    }

    #[inline]
    fn order<R>(&self, activity: u64, order: impl FnOnce(&mut dyn Engine) -> R) -> R {
        let mut core = self.lock();
        core.activity += activity;
        let result = order(&mut *core.engine);
        let restless = core.engine.wants_poll();
        drop(core);
        if restless {
            self.ring();
        }
        result
    }

    /// Takes the lock ahead of whoever polls.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Core> {
        match self.core.try_lock() {
            Ok(core) => core,
            Err(TryLockError::Poisoned(core)) => core.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.wanted.fetch_add(1, Ordering::Relaxed);
                let core = unpoisoned(&self.core);
                self.wanted.fetch_sub(1, Ordering::Relaxed);
                core
            }
        }
    }

    /// As [`Engine::send`], from any thread.
    #[inline]
    pub(crate) fn send(&self, to: To, kind: u16, header: &[u8], body: &[u8], token: Token) -> Result<(), SendError> {
        self.call(|engine| engine.send(to, kind, header, body, token))
    }

    /// As [`Engine::send_bulk`], from any thread.
    pub(crate) fn send_bulk(
        &self,
        to: To,
        kind: u16,
        header: &[u8],
        body: Bulk,
        token: Token,
    ) -> Result<(), SendError> {
        self.call(|engine| engine.send_bulk(to, kind, header, body, token))
    }

    /// Waits until `ready` gives something: at least one look, then one after everything that came in, after
    /// [`Driver::wake`], and after the deadline.
    pub(crate) fn drive<T>(&self, deadline: Deadline, mut ready: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
        if let Some(found) = ready() {
            return Ok(found);
        }
        let seat = match self.sit() {
            Some(seat) => seat,
            None => match self.wait_for_seat(deadline, &mut ready)? {
                Turn::Found(found) => return Ok(found),
                Turn::Seat(seat) => seat,
            },
        };
        let found = self.drive_seated(deadline, &mut ready);
        drop(seat);
        found
    }

    #[inline]
    fn sit(&self) -> Option<Seat<'_>> {
        // SeqCst: pairs with the store that frees the seat.
        let taken = self.seat.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        // Not `then_some`: a seat that is made and not given would be freed.
        taken.is_ok().then(|| {
            SITS.set(true);
            Seat(self)
        })
    }

    /// As [`Driver::sit`]; if the background has it and only lingers, it goes.
    fn sit_soon(&self) -> Option<Seat<'_>> {
        self.sit().or_else(|| {
            self.background.send_away();
            None
        })
    }

    fn wait_for_seat<T>(
        &self,
        deadline: Deadline,
        ready: &mut impl FnMut() -> Option<T>,
    ) -> Result<Turn<'_, T>, TimedOut> {
        let look = || ready().map(Turn::Found).or_else(|| self.sit_soon().map(Turn::Seat));
        wait_until(self.cell(), &mut Patience::new(), deadline, look)
    }

    /// Drives until it is so. Only with the seat.
    fn drive_seated<T>(&self, deadline: Deadline, ready: &mut impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
        // Before anything is waited for, what was held back goes out.
        let mut polled = self.begin_drive();
        let mut pays = true;
        loop {
            let end = if pays { self.stay_awake(deadline, ready, &mut polled) } else { None };
            let end = end.or_else(|| match self.sleep_until(deadline, ready) {
                Slept::Until(end) => Some(end),
                // It came from others, for whom this thread works as well as for itself. If it came soon, so will more.
                Slept::For(time) => {
                    pays = self.waiting != Waiting::Sleep && time < SOON;
                    None
                }
            });
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Looks again and again for as long as it seems worth it, and anew after everything that came in. `None`: to sleep.
    fn stay_awake<T>(
        &self,
        deadline: Deadline,
        ready: &mut impl FnMut() -> Option<T>,
        polled: &mut Polled,
    ) -> Option<Result<T, TimedOut>> {
        let mut misses = 0;
        let mut look = |polled: &mut Polled| {
            let found = ready().map(|found| Some(Ok(found)));
            if found.is_some() {
                return found;
            }
            misses = (misses + 1) % QUICK_LOOKS;
            *polled = self.poll(if misses == 0 { Look::Around } else { Look::Quick }, false);
            if has_passed(deadline, polled.now) {
                return Some(Some(ready().ok_or(TimedOut)));
            }
            // Nothing yet, but a reason to begin anew.
            (polled.events > 0).then_some(None)
        };
        loop {
            let first = (0..self.looks()).find_map(|_| look(polled));
            let seen = match first {
                None if self.waiting == Waiting::Adaptive => {
                    unpoisoned(&self.patience).stay_awake(deadline, &mut || look(polled))
                }
                first => first,
            };
            match seen {
                Some(None) if self.waiting != Waiting::Sleep => {}
                Some(end) => return end,
                None => return None,
            }
        }
    }

    /// How often to look without so much as a pause.
    fn looks(&self) -> usize {
        match self.waiting {
            Waiting::Sleep => 1,
            Waiting::Adaptive => LOOKS,
            Waiting::Poll => usize::MAX,
        }
    }

    fn begin_drive(&self) -> Polled {
        let mut core = self.lock();
        core.activity += 1;
        core.engine.flush();
        self.poll_core(core, Look::Quick, false)
    }

    /// Sleeps until it is so, or until something else has come in.
    fn sleep_until<T>(&self, deadline: Deadline, ready: &mut impl FnMut() -> Option<T>) -> Slept<T> {
        let began = time::now();
        let slept = loop {
            let polled = self.poll(Look::Around, true);
            if let Some(found) = ready() {
                break Slept::Until(Ok(found));
            }
            if has_passed(deadline, polled.now) {
                break Slept::Until(Err(TimedOut));
            }
            if polled.events > 0 {
                break Slept::For(polled.now.saturating_duration_since(began));
            }
            self.sleep(earlier(deadline, polled.due), polled.now);
        };
        unpoisoned(&self.patience).end_sleep(began);
        slept
    }

    /// Sleeps on the engine until something is there to be polled, or somebody rings.
    fn sleep(&self, until: Option<Instant>, now: Instant) {
        self.epoll.sleep(until.map(|until| until.saturating_duration_since(now)));
        self.answer();
    }

    fn answer(&self) {
        // AcqRel: pairs with the swap in `ring`, so that a ring after this is heard.
        if self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel) {
            self.bell.answer();
        }
    }

    /// Polls once. Only with the seat. `rests`: the caller sleeps if there is nothing.
    #[inline]
    fn poll(&self, look: Look, rests: bool) -> Polled {
        let mut patience = GIVE_WAY;
        while self.wanted.load(Ordering::Relaxed) > 0 && patience > 0 {
            spin_loop();
            patience -= 1;
        }
        self.poll_core(unpoisoned(&self.core), look, rests)
    }

    #[inline]
    fn poll_core(&self, mut core: MutexGuard<'_, Core>, look: Look, rests: bool) -> Polled {
        let Core { engine, sink, now, since, .. } = &mut *core;
        *since += 1;
        if look == Look::Around || *since >= STALE {
            (*now, *since) = (time::now(), 0);
        }
        let now = *now;
        let events = engine.poll(now, look, &mut **sink);
        if events > 0 {
            sink.settled(&mut **engine);
        }
        let mut due = None;
        if rests && events == 0 {
            engine.arm();
            due = engine.poll_by();
        }
        let deaf = self.background.is_deaf(&**engine);
        drop(core);
        if deaf {
            self.ring();
        }
        if events > 0 {
            self.cell().notify_all();
        }
        Polled { events, now, due }
    }

    fn ring(&self) {
        // AcqRel: pairs with the swap in `answer`.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Makes everybody who waits look again, for reasons that have not come through the engine.
    pub(crate) fn wake(&self) {
        self.ring();
        self.cell().notify_all();
    }

    /// Waits until all that was sent has arrived, then says good-bye. Whatever has not by the deadline ends with an
    /// error.
    pub(crate) fn close(&self, deadline: Deadline) -> Result<(), TimedOut> {
        let idle = || unpoisoned(&self.core).engine.is_idle().then_some(());
        let arrived = self.drive(deadline, idle);
        let mut core = self.lock();
        let Core { engine, sink, .. } = &mut *core;
        engine.close(&mut **sink);
        drop(core);
        self.wake();
        arrived
    }
}

/// What a thread that waits for the seat gets.
enum Turn<'a, T> {
    Found(T),
    Seat(Seat<'a>),
}

#[inline]
fn has_passed(deadline: Deadline, now: Instant) -> bool {
    match deadline {
        Deadline::Now => true,
        Deadline::At(at) => now >= at,
        Deadline::Never => false,
    }
}

/// Until when to sleep at the latest.
fn earlier(deadline: Deadline, due: Option<Instant>) -> Option<Instant> {
    let deadline = match deadline {
        Deadline::At(at) => Some(at),
        _ => None,
    };
    deadline.into_iter().chain(due).min()
}

/// How long until then; zero if it is past.
fn left(until: Option<Instant>, now: Instant) -> Option<Duration> {
    until.map(|until| until.saturating_duration_since(now))
}

#[cfg(test)]
mod tests;
