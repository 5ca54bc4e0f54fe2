//! Ranks as workers: those of one node that wait at the end of the job, as the pool's site there sees them.
//!
//! A rank comes when it begins to wait, gets an order, and works until nothing more can come. It says itself when it has
//! left; it cannot be killed, so a task that does not end is left behind. One that dies is a lost worker, and nobody takes its
//! place.

use std::time::Duration;

use crossbeam::channel::Receiver;

use super::crew::Recruiter;
use super::engine::{Engine, Phase};
use super::home::Home;
use super::minder::{Lost, lose_task};
use super::sink::lock;
use super::worker::{self, Assignment};
use crate::channel::Channel;
use crate::error::Result;
use crate::id::ObjectId;
use crate::mm::Life;
use crate::runtime;
use crate::services::Reservist;
use crate::task::thunk;
use crate::time::Deadline;

/// How long the repair of a death that another process sees to is waited for. It takes milliseconds, if that process runs.
const REPAIR: Duration = Duration::from_secs(3);

/// How long an order may take to be taken: there is always a thread that waits for one.
const ORDER: Duration = Duration::from_secs(1);

/// A rank that works for the pool.
#[derive(Clone)]
pub(super) struct Conscript {
    pub(super) pid: u32,
    life: Option<Life>,
}

/// The ranks of a node that may work for a pool.
pub(super) struct Ranks {
    /// In the order of their places.
    pub(super) eligible: Vec<u32>,
    pub(super) news: Receiver<Reservist>,
}

impl Ranks {
    fn place(&self, rank: u32) -> Option<usize> {
        self.eligible.iter().position(|other| *other == rank)
    }

    /// A rank has come, or is lost. `drain` takes all answers that are there.
    pub(super) fn attend(&self, engine: &Engine, recruiter: &Recruiter, news: &Reservist, drain: impl FnOnce()) {
        let (Reservist::Here { rank, .. } | Reservist::Gone { rank, .. }) = news;
        let Some(place) = self.place(*rank) else { return };
        match news {
            Reservist::Here { pid, duty, .. } => take(engine, recruiter, place, *pid, *duty),
            Reservist::Gone { how, .. } => {
                bury(engine, recruiter, place, how, drain);
                lock(&engine.state).crew.write_off(place);
            }
        }
    }
}

/// Gives a rank its order.
fn take(engine: &Engine, recruiter: &Recruiter, place: usize, pid: u32, duty: ObjectId) {
    let memory = recruiter.home.memory();
    let conscript = Conscript { pid, life: memory.life_of(pid) };
    let mut state = lock(&engine.state);
    if state.phase != Phase::Open || state.broken.is_some() || conscript.life.is_none() {
        return;
    }
    engine.board.reset(place);
    state.crew.conscribe(place, conscript);
    drop(state);
    let assignment = Assignment { place, ..recruiter.assignment.clone() };
    if let Err(error) = send(&recruiter.home, duty, &assignment) {
        tracing::warn!(pid, %error, "a rank cannot be told to work for a pool");
        lock(&engine.state).crew.discharge(place);
    }
}

fn send(home: &Home, duty: ObjectId, assignment: &Assignment) -> Result<()> {
    let order = runtime::order_to_rank(thunk::one(worker::serve_on_rank), assignment.encode())?;
    Channel::open(home.memory(), duty)?.send(&order, Deadline::after(ORDER))?;
    Ok(())
}

/// Settles what a dead rank had. Who repairs what it held may be any process of its node, so the board and the ring say what
/// became of its task: it is lost if its message is done, nobody else has it, and no answer has come.
fn bury(engine: &Engine, recruiter: &Recruiter, place: usize, how: &str, drain: impl FnOnce()) {
    let Some(conscript) = lock(&engine.state).crew.discharge(place) else { return };
    if let (Home::Guest(venue, _), Some(life)) = (&recruiter.home, conscript.life) {
        venue.wait_for_end(life, Deadline::after(REPAIR));
    }
    let words = engine.board.last_words(place);
    let others = (0..engine.board.size()).filter(|other| *other != place);
    let gone = words.holding.filter(|(ticket, position)| {
        engine.tasks.is_over(*position) && !others.clone().any(|other| engine.board.has(other, *ticket))
    });
    // What it and others have answered meanwhile counts.
    drain();
    let task = gone.and_then(|(ticket, _)| {
        lose_task(engine, &Lost { ticket, pid: conscript.pid, place: &recruiter.home.name(), how })
    });
    if lock(&engine.state).phase != Phase::Ended {
        tracing::warn!(pid = conscript.pid, how, task, "a rank that worked for a pool is lost");
        recruiter.home.tell_of_loss(conscript.pid, how, task);
    }
}
