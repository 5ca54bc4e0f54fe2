//! The minder: a thread per pool that sleeps until a worker ends, and then puts things right.
//!
//! When the agent reports an end, the dead worker's claims in the rings have been repaired. What is left
//! to find out is which task it had: its line on the board says so, unless the message is ready again
//! for others (it died before it had taken it) or the answer is in the ring already (it died after).

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Weak;

use crossbeam::channel::Receiver;

use super::crew::Recruiter;
use super::engine::{Engine, Phase};
use super::message::Ticket;
use super::sink::{Outcome, lock};
use crate::error::{Error, ErrorKind};
use crate::services::{ChildEnd, Reservist};
use crate::wait::Patience;

/// Workers in a row that end by themselves before they can take a task break the pool when there are so many.
const FAILED_STARTS: u32 = 3;

/// How many that were killed from outside count as one that ended by itself.
const KILLS_PER_FAILURE: u32 = 32;

/// What the thread needs.
pub(super) struct Minder {
    pub(super) engine: Weak<Engine>,
    pub(super) recruiter: Recruiter,
    pub(super) ends: Receiver<ChildEnd>,
    /// Nobody ever sends on it; it ends with the pool.
    pub(super) pool: Receiver<()>,
}

impl Minder {
    /// Runs until the pool is gone.
    pub(super) fn run(self) {
        let none = crossbeam::channel::never();
        let news = self.recruiter.ranks.as_ref().map_or(&none, |ranks| &ranks.news);
        loop {
            crossbeam::select! {
                recv(self.ends) -> end => {
                    let (Ok(end), Some(engine)) = (end, self.engine.upgrade()) else { return };
                    engine.interrupt(|patience| self.attend(&engine, patience, end));
                }
                recv(news) -> news => {
                    // It ends with the node's runtime, and then so does the pool.
                    let (Ok(news), Some(engine)) = (news, self.engine.upgrade()) else { return };
                    engine.interrupt(|patience| self.attend_rank(&engine, patience, &news));
                }
                recv(self.pool) -> _ => return,
            }
        }
    }

    /// Handles this end and all others that are known by now.
    fn attend(&self, engine: &Engine, patience: &mut Patience, first: ChildEnd) {
        let ends: Vec<_> = std::iter::once(first).chain(self.ends.try_iter()).collect();
        // What the dead answered counts.
        engine.drain_the_dead(patience);
        for end in ends {
            self.bury(engine, end);
        }
        engine.pump();
        engine.finish_if_done();
        self.replace(engine);
    }

    /// A rank has come, or is lost.
    fn attend_rank(&self, engine: &Engine, patience: &mut Patience, news: &Reservist) {
        if let Some(ranks) = &self.recruiter.ranks {
            ranks.attend(engine, &self.recruiter, news, || engine.drain_the_dead(patience));
            engine.pump();
            engine.finish_if_done();
        }
    }

    fn bury(&self, engine: &Engine, end: ChildEnd) {
        let Some((place, born)) = lock(&engine.state).crew.unseat(end.serial) else { return };
        let words = engine.board.last_words(place);
        let taken =
            words.holding.filter(|(_, position)| !end.repairs.readied.contains(&(engine.tasks.id(), *position)));
        let how = describe(&end.status, end.refusal.as_deref());
        let (pid, place) = (born.pid, self.recruiter.home.name());
        let name = taken.and_then(|(ticket, _)| lose_task(engine, &Lost { ticket, pid, place: &place, how: &how }));
        let clean = end.status.as_ref().is_ok_and(ExitStatus::success);
        let mut state = lock(&engine.state);
        if state.phase == Phase::Ended {
            return;
        }
        let weight = if killed(&end.status) { 1 } else { KILLS_PER_FAILURE };
        state.crew.failed_starts = if words.attached { 0 } else { state.crew.failed_starts + weight };
        let hopeless = state.crew.failed_starts >= FAILED_STARTS * KILLS_PER_FAILURE;
        drop(state);
        if !clean || name.is_some() {
            tracing::warn!(pid = born.pid, how, task = name, "a worker of a pool was lost");
            self.recruiter.home.tell_of_loss(born.pid, &how, name);
        }
        if hopeless {
            let text = format!(
                "{FAILED_STARTS} or more workers in a row ended before they could take a task; the last (pid {}) {how}",
                born.pid
            );
            engine.break_down(&Error::new(ErrorKind::WorkerStart, text));
        }
    }

    /// Fills empty places while there is something to do for workers.
    fn replace(&self, engine: &Engine) {
        let state = lock(&engine.state);
        let wanted = state.broken.is_none()
            && match state.phase {
                Phase::Open => true,
                Phase::Closing => !state.flights.is_empty(),
                Phase::Ended => false,
            };
        let places = state.crew.vacant();
        drop(state);
        // No rank takes another's place.
        if !wanted || places.is_empty() || self.recruiter.ranks.is_some() {
            return;
        }
        match self.recruiter.start(&places) {
            Ok(born) => {
                let mut state = lock(&engine.state);
                places.into_iter().zip(born).for_each(|(place, born)| state.crew.seat(place, born));
                // Who was terminated meanwhile wants no new workers.
                if state.phase == Phase::Ended {
                    state.crew.kill();
                }
            }
            Err(error) if lock(&engine.state).crew.alive() > 0 => {
                tracing::warn!(%error, "a lost worker of a pool cannot be replaced; the others go on");
            }
            Err(error) => engine.break_down(&error),
        }
    }
}

/// A worker that died, and the task it had.
pub(super) struct Lost<'a> {
    pub(super) ticket: Ticket,
    pub(super) pid: u32,
    pub(super) place: &'a str,
    pub(super) how: &'a str,
}

/// Settles the task that a dead worker had. Its function's name, if there was one.
pub(super) fn lose_task(engine: &Engine, lost: &Lost<'_>) -> Option<&'static str> {
    let crashed = lock(&engine.state).flights.crash(lost.ticket)?;
    match crashed {
        Ok(parcel) => {
            let name = parcel.launch.thunk.name();
            lock(&engine.state).flights.backlog.push_front(parcel);
            Some(name)
        }
        Err(launch) => {
            let (name, part) = (launch.thunk.name(), launch.part);
            let Lost { pid, place, how, .. } = lost;
            let text = format!(
                "worker process {pid} on {place} {how} while it ran task `{name}` (part {part}); \
                 `Pool::builder().retries(n)` runs such a task again"
            );
            engine.deliver(launch, Outcome::Failed(Error::new(ErrorKind::WorkerLost, text)));
            Some(name)
        }
    }
}

/// Whether somebody killed it, a person or the system for want of memory.
fn killed(status: &io::Result<ExitStatus>) -> bool {
    status.as_ref().is_ok_and(|status| status.signal() == Some(9))
}

/// How a process ended, in words that follow its name.
fn describe(status: &io::Result<ExitStatus>, refusal: Option<&str>) -> String {
    if let Some(refusal) = refusal {
        return format!("refused: {refusal}");
    }
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(11)) => "was killed by signal 11 (SIGSEGV: often a stack overflow)".into(),
            (None, _) => format!("was killed by {status}"),
        },
        Err(error) => format!("ended in an unknown way ({error})"),
    }
}
