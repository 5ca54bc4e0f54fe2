//! The workers of a pool on a node that is not its owner's: a small pool that works for the owner's.
//!
//! It is made of the same parts. Tasks come from the owner over the mesh, each a call, with the owner's ticket, and go into
//! the ring of tasks of this node; the answer of a worker goes back as the answer of that call, as it is. So names of
//! functions, contexts and results mean the same on both sides: the board's log is the same, entry by entry, and only the
//! place of a context differs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::Pool;
use super::builder::Plan;
use super::conscript::Ranks;
use super::crew::WorkerState;
use super::engine::Phase;
use super::flight::{Context, Launch, Parcel};
use super::home::Home;
use super::message::{ContextRef, News, ResultHead, Status, TaskHead, op, split};
use super::sink::{Callback, Outcome, Sink, lock};
use super::sites::{Figures, Founded, Founding};
use crate::channel::{Load, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::mesh::{Answer, Body};
use crate::services::{Guest, Venue};
use crate::task::{self, Thunk};
use crate::time::Deadline;
use crate::wire;

/// How long nothing need happen until it is asked whether the owner is still there.
const SILENCE: Duration = Duration::from_secs(1);

/// What is known of a task: the owner's ticket, the function, the context.
type Prepared = (u64, &'static Thunk, Option<Arc<Context>>);

/// Answers that are still owed, by the owner's ticket.
type Owed = Mutex<HashMap<u64, Arc<dyn Sink>>>;

/// Where in this node's memory a context lies, and what keeps it there.
type Kept = ([u8; 24], Arc<Context>);

/// A site.
struct Site {
    pool: Pool,
    venue: Arc<Venue>,
    owed: Arc<Owed>,
    contexts: Mutex<HashMap<u64, Kept>>,
    functions: Mutex<HashMap<u32, &'static Thunk>>,
    /// The owner's question when this ends.
    standing: (Sender<Answer>, Receiver<Answer>),
    /// The owner's question what is new, and how many ranks it knows of.
    asked: Mutex<Option<(Answer, u64)>>,
    news: Receiver<News>,
    ranks: bool,
}

/// Where the answer of one task goes.
struct Relay {
    ticket: u64,
    answer: Mutex<Option<Answer>>,
    owed: Weak<Owed>,
}

/// What the owner of a pool has called on this node.
pub(super) fn open(founding: Founding) -> Founded {
    found(founding).map_err(|error| (error.kind(), error.to_string()))
}

fn found(founding: Founding) -> Result<u64> {
    let nowhere = || Error::new(ErrorKind::Start, "a pool's site is founded outside of a session");
    let venue = Arc::new(Venue::here().ok_or_else(nowhere)?);
    let ranks = founding.ranks.map(|eligible| Ranks { eligible, news: venue.reservists() });
    let workers = match founding.workers {
        _ if ranks.is_some() => ranks.as_ref().map_or(0, |ranks| ranks.eligible.len()),
        0 => thread::available_parallelism().map_or(1, Into::into),
        workers => workers as usize,
    };
    let initializer = founding.initializer.map(|(name, bytes)| (name, bytes, Load::default()));
    let tasks_per_worker = founding.tasks_per_worker;
    let on_ranks = ranks.is_some();
    let (seats, retries) = (founding.seats, 0);
    let plan = Plan { workers, seats, tasks_per_worker, initializer, retries, sites: 0, far: true, ranks };
    let (tell, news) = unbounded();
    let pool = plan.carry_out(Home::Guest(venue.clone(), tell), |_| Ok(0))?;
    let site = Arc::new(Site {
        pool,
        venue,
        owed: Arc::default(),
        contexts: Mutex::default(),
        functions: Mutex::default(),
        standing: unbounded(),
        asked: Mutex::default(),
        news,
        ranks: on_ranks,
    });
    Venue::seat(site.clone());
    let run = thread::Builder::new().name("dragon-site".into()).spawn(move || site.run());
    run.map_err(|error| Error::with_source(ErrorKind::ResourceLimit, "no thread for a pool's site", error))?;
    Ok(workers as u64)
}

impl Site {
    /// Collects what the workers answer, until there are none.
    fn run(&self) {
        let engine = &self.pool.engine;
        loop {
            let seen = engine.landed();
            let hopeless = || self.ranks && engine.presence().1;
            let ended = || engine.is_broken() || hopeless() || (engine.phase() != Phase::Open && engine.is_deserted());
            let due = || ended() || self.has_news();
            if engine.wait_for(Deadline::after(SILENCE), &due) {
                self.say_news();
                if ended() {
                    break;
                }
                continue;
            }
            if engine.landed() == seen && !self.venue.is_wanted() {
                tracing::debug!("the owner of a pool is gone, and its site ends");
                self.dismiss();
            }
        }
        let broken = engine.breakdown();
        self.pool.give_up(ErrorKind::WorkerLost, "the workers of its node are lost");
        let _ = self.pool.kill(); // cannot fail
        while self.say_news() {}
        let standing = self.wait_for_question();
        match (standing, broken) {
            (Some(answer), Some(error)) => answer.send(Status::ERROR.word(), &in_bytes(&error)),
            (Some(answer), None) => answer.send(Status::ENDED.word(), &[]),
            (None, _) => {}
        }
        // Not before: whoever is told that there is no such session must have heard why.
        self.venue.leave();
    }

    /// There is something that the owner has asked for.
    fn has_news(&self) -> bool {
        let known = lock(&self.asked).as_ref().map(|(_, known)| *known);
        known
            .is_some_and(|known| !self.news.is_empty() || (self.ranks && known != self.pool.engine.presence().0 as u64))
    }

    /// Answers what is new, if the owner asks and there is something.
    fn say_news(&self) -> bool {
        if !self.has_news() {
            return false;
        }
        let Some((answer, _)) = lock(&self.asked).take() else { return false };
        let news = self.news.try_recv().unwrap_or_else(|_| News::Ranks(self.pool.engine.presence().0 as u64));
        answer.send(Status::NEWS.word(), &in_bytes(&news));
        true
    }

    /// The owner's question when this ends, which it asks soon, if it is there.
    fn wait_for_question(&self) -> Option<Answer> {
        loop {
            match self.standing.1.recv_timeout(SILENCE) {
                Ok(answer) => return Some(answer),
                Err(_) if !self.venue.is_wanted() => return None,
                Err(_) => {}
            }
        }
    }

    fn take_task(&self, body: Body, answer: Answer) {
        let mut bytes = match body {
            Body::Bytes(bytes) => bytes,
            block => block.to_vec(),
        };
        let (ticket, thunk, context) = match self.prepare(&mut bytes) {
            Ok(found) => found,
            Err(text) => return answer.send(Status::REFUSED.word(), text.as_bytes()),
        };
        let relay: Arc<dyn Sink> =
            Arc::new(Relay { ticket, answer: Mutex::new(Some(answer)), owed: Arc::downgrade(&self.owed) });
        lock(&self.owed).insert(ticket, relay.clone());
        let launch = Launch { sink: relay, part: 0, thunk, retries: 0, _context: context, _cargo: Load::default() };
        if let Err(error) = self.pool.engine.check_alive() {
            return self.pool.engine.deliver(launch, Outcome::Failed(error));
        }
        self.pool.engine.submit(Parcel { launch, bytes });
    }

    /// Finds what a task names, and puts in where its context is on this node.
    fn prepare(&self, bytes: &mut [u8]) -> std::result::Result<Prepared, String> {
        let (head, rest) = split::<TaskHead>(bytes).ok_or("a task is shorter than its head")?;
        let thunk = self.function(head.function)?;
        if head.with_context == 0 {
            return Ok((head.ticket.0, thunk, None));
        }
        let (mut reference, _) = split::<ContextRef>(rest).ok_or("a task's context is missing")?;
        let contexts = lock(&self.contexts);
        let (block, context) = contexts.get(&reference.id).ok_or("a task's context has not come")?;
        reference.block = bytemuck::pod_read_unaligned(block);
        let at = size_of::<TaskHead>();
        bytes[at..at + size_of::<ContextRef>()].copy_from_slice(bytemuck::bytes_of(&reference));
        Ok((head.ticket.0, thunk, Some(context.clone())))
    }

    fn function(&self, at: u32) -> std::result::Result<&'static Thunk, String> {
        if let Some(thunk) = lock(&self.functions).get(&at) {
            return Ok(thunk);
        }
        let name = self.pool.engine.board.entry(at).ok_or("its function has not come")?;
        let thunk = task::find_in_full(&name)?;
        lock(&self.functions).insert(at, thunk);
        Ok(thunk)
    }

    fn take_context(&self, body: &[u8], answer: Answer) {
        let Some((id, bytes)) = body.split_first_chunk() else { return drop(answer) };
        match self.venue.memory.store(bytes) {
            Ok(block) => {
                let handle = bytemuck::cast(block.handle());
                let context = Arc::new(Context { _block: block, _cargo: Load::default(), _far: None });
                lock(&self.contexts).insert(u64::from_le_bytes(*id), (handle, context));
                answer.send(0, &[]);
            }
            Err(error) => answer.send(crate::services::Why::OutOfMemory as u16, error.to_string().as_bytes()),
        }
    }

    fn forget(&self, body: &[u8]) {
        let gone = body.first_chunk().and_then(|id| lock(&self.contexts).remove(&u64::from_le_bytes(*id)));
        drop(gone);
    }

    fn cancel(&self, tickets: &[u8]) -> bool {
        let mut never = true;
        for ticket in tickets.chunks_exact(8).filter_map(|bytes| bytes.first_chunk()) {
            let owed = lock(&self.owed).get(&u64::from_le_bytes(*ticket)).cloned();
            // What was answered has begun.
            never &= owed.is_some_and(|sink| self.pool.engine.cancel(&sink));
        }
        never
    }

    fn figures(&self) -> Vec<Figures> {
        let state = |state| match state {
            WorkerState::Starting => 0,
            WorkerState::Idle => 1,
            WorkerState::Busy => 2,
        };
        self.pool.workers().iter().map(|info| (info.pid, info.tasks_done, state(info.state))).collect()
    }
}

impl Guest for Site {
    fn message(&self, op: u32, body: Body, answer: Answer) {
        match op {
            op::TASK => self.take_task(body, answer),
            op::FUNCTION => {
                if let Err(error) = self.pool.engine.board.write(&body) {
                    tracing::error!(%error, "a pool's site has no room for a function");
                }
            }
            op::CONTEXT => self.take_context(&body, answer),
            op::FORGET => self.forget(&body),
            // Cannot fail: the other end is here too.
            op::STAND => drop(self.standing.0.send(answer)),
            op::CANCEL => answer.send(0, &[u8::from(self.cancel(&body))]),
            op::FINISH => self.pool.close(),
            op::STOP => self.pool.give_up(ErrorKind::Cancelled, "its pool was terminated"),
            op::KILL => {
                self.pool.give_up(ErrorKind::Cancelled, "its pool was terminated");
                lock(&self.pool.engine.state).crew.kill();
            }
            op::NEWS => {
                let known = body.first_chunk().map_or(0, |known| u64::from_le_bytes(*known));
                *lock(&self.asked) = Some((answer, known));
                self.pool.engine.look_again();
            }
            op::WORKERS => answer.send(0, &in_bytes(&self.figures())),
            other => tracing::error!(op = other, "a message that a pool's site does not understand"),
        }
    }

    fn dismiss(&self) {
        self.pool.give_up(ErrorKind::WorkerLost, "its node's runtime ends");
        lock(&self.pool.engine.state).crew.kill();
    }
}

impl Relay {
    fn take(&self) -> Option<Answer> {
        if let Some(owed) = self.owed.upgrade() {
            lock(&owed).remove(&self.ticket);
        }
        lock(&self.answer).take()
    }
}

impl Sink for Relay {
    fn part(self: Arc<Self>, _: u32, outcome: Outcome<'_>) -> Option<Callback> {
        let answer = self.take()?;
        match outcome {
            Outcome::Done(bytes) => answer.send(Status::DONE.word(), bytes),
            Outcome::Failed(error) if error.kind() == ErrorKind::WorkerLost => {
                answer.send(Status::LOST.word(), error.to_string().as_bytes());
            }
            Outcome::Failed(error) => answer.send(Status::ERROR.word(), &in_bytes(&(error.kind(), error.to_string()))),
        }
        None
    }

    fn answered(self: Arc<Self>, _: u32, status: Status, message: Payload<'_>, _: &'static Thunk) -> Option<Callback> {
        let (answer, head) = (self.take()?, size_of::<ResultHead>());
        match message {
            // Its head makes room for the one that it gets on its owner's node.
            Payload::Block(block) if status == Status::DONE => {
                let len = block.len();
                answer.send_part_of(block, head, len);
            }
            message => answer.send(status.word(), &message[head..]),
        }
        None
    }
}

fn in_bytes<T: wire::Message>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Numbers and text into memory: nothing in it can fail.
    let _ = wire::encode(value, &mut bytes);
    bytes
}
