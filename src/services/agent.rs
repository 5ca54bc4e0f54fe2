//! The agent: the one thread of a process that starts its children and sees them end.
//!
//! It sleeps in `poll` on a bell and on one pidfd per child, so an idle agent costs nothing. A turn is
//! bounded: answer the bell, carry out what was ordered, look at those that ended. Repair of shared
//! memory comes before anybody is told of an end, so who hears of it finds everything usable.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use super::ServiceError;
use super::recover::{Orphan, orphans_of, recover};
use super::spawn::{Born, Living, Order, spawn};
use crate::channel::Repairs;
use crate::id::ProcId;
use crate::mm::Memory;
use crate::sys;
use crate::sys::poll::Bell;
use crate::task::birth;

/// The end of a child, told after everything it held in shared memory has been repaired.
pub(crate) struct ChildEnd {
    /// Which child it was.
    pub(crate) serial: u64,
    /// How it ended; an error if somebody else reaped it, so that nobody can know.
    pub(crate) status: io::Result<ExitStatus>,
    /// Why it would not begin, if it said so.
    pub(crate) refusal: Option<String>,
    /// What had to be repaired.
    pub(crate) repairs: Repairs,
}

/// A process of this node that is not a child, and whose end must be noticed all the same: another rank.
pub(crate) struct Watched {
    /// Its place.
    pub(crate) process: ProcId,
    /// Becomes readable when it ends.
    pub(crate) end: OwnedFd,
    /// Called before what it held is repaired. What it returns is called afterwards.
    pub(crate) ended: Box<dyn FnOnce() -> AfterRepair + Send>,
}

/// What is left to say when a death has been repaired.
pub(crate) type AfterRepair = Box<dyn FnOnce() + Send>;

/// Hears of processes of this node that have ended, before what they held is repaired. Must not wait.
pub(crate) type Ended = Box<dyn Fn(ProcId, u32) + Send>;

enum Command {
    Start { orders: Vec<Order>, reply: Sender<Result<Vec<Born>, ServiceError>> },
    Stop,
}

/// The handle on the agent's thread.
pub(crate) struct Agent {
    commands: Sender<Command>,
    bell: Arc<Bell>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Agent {
    /// Starts the thread.
    pub(crate) fn start(memory: Arc<Memory>, watched: Vec<Watched>, tell: Ended) -> Result<Agent, ServiceError> {
        let bell = Arc::new(Bell::new().map_err(|e| ServiceError::spawn("the agent's bell (eventfd)", e))?);
        let (commands, orders) = unbounded();
        let (living, orphans) = (Vec::new(), Vec::new());
        let shell = Shell { memory, commands: orders, bell: bell.clone(), watched, living, started: 0, orphans, tell };
        let thread = thread::Builder::new()
            .name("dragon-agent".into())
            .spawn(move || shell.run())
            .map_err(|e| ServiceError::spawn("the agent's thread", e))?;
        Ok(Agent { commands, bell, thread: Mutex::new(Some(thread)) })
    }

    /// Starts children, all or none.
    pub(crate) fn spawn(&self, orders: Vec<Order>) -> Result<Vec<Born>, ServiceError> {
        let (reply, answer) = bounded(1);
        let sent = self.commands.send(Command::Start { orders, reply });
        self.bell.ring();
        sent.map_err(|_| ServiceError::Stopped)?;
        answer.recv().map_err(|_| ServiceError::Stopped)?
    }

    /// Kills the children that are left, reaps them, repairs what they held, and ends the thread.
    pub(crate) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // Fails only if the thread has ended already.
        let _ = self.commands.send(Command::Stop);
        self.bell.ring();
        if thread.join().is_err() {
            tracing::error!("the agent's thread panicked; children may have been left to end by themselves");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread owns.
struct Shell {
    memory: Arc<Memory>,
    commands: Receiver<Command>,
    bell: Arc<Bell>,
    watched: Vec<Watched>,
    living: Vec<Living>,
    /// Children ever started.
    started: u64,
    orphans: Vec<(Orphan, OwnedFd)>,
    tell: Ended,
}

impl Shell {
    fn run(mut self) {
        loop {
            let ready = match self.sleep() {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "the agent cannot watch its children any more and stops");
                    return self.kill_all();
                }
            };
            self.bell.answer();
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    // Nobody waits for the answer any more only if the asking thread is gone.
                    Command::Start { orders, reply } => drop(reply.send(self.start(orders))),
                    Command::Stop => return self.kill_all(),
                }
            }
            self.look_at(&ready);
        }
    }

    /// Sleeps until something happens. The answer holds the bell, then who is watched, the children, the orphans.
    fn sleep(&self) -> io::Result<Vec<bool>> {
        let bell = std::iter::once(self.bell.as_fd());
        let watched = self.watched.iter().map(|watched| watched.end.as_fd());
        let living = self.living.iter().map(|child| child.born.pidfd.as_fd());
        let orphans = self.orphans.iter().map(|(_, pidfd)| pidfd.as_fd());
        sys::poll::readable(&bell.chain(watched).chain(living).chain(orphans).collect::<Vec<_>>())
    }

    fn start(&mut self, orders: Vec<Order>) -> Result<Vec<Born>, ServiceError> {
        let before = self.living.len();
        for order in orders {
            self.started += 1;
            match spawn(&self.memory, self.started, order) {
                Ok(child) => self.living.push(child),
                Err(error) => {
                    for child in self.living.split_off(before) {
                        self.end_silently(child);
                    }
                    return Err(error);
                }
            }
        }
        Ok(self.living[before..].iter().map(|child| child.born.clone()).collect())
    }

    /// Looks at those whose descriptor was readable. Children started in this turn come behind them in
    /// the list and have no entry in `ready`.
    fn look_at(&mut self, ready: &[bool]) {
        let (watched, rest) = ready[1..].split_at(self.watched.len());
        let (children, orphans) = rest.split_at(rest.len() - self.orphans.len());
        let ended = |flags: &[bool]| (0..flags.len()).rev().filter(|&at| flags[at]).collect::<Vec<_>>();
        for at in ended(orphans) {
            let (orphan, _) = self.orphans.swap_remove(at);
            self.bury(orphan.process);
        }
        for at in ended(watched) {
            let Watched { process, ended, .. } = self.watched.swap_remove(at);
            let repaired = ended();
            self.bury(process);
            repaired();
        }
        for at in ended(children) {
            let child = self.living.remove(at);
            self.report(child);
        }
    }

    /// Reaps a child that has ended, repairs what it held, and says so.
    fn report(&mut self, mut child: Living) {
        let status = child.handle.wait();
        let repairs = self.bury(child.born.process);
        let refusal = birth::refusal(&child.control);
        // Who does not listen any more does not need to know.
        let _ = child.ended.send(ChildEnd { serial: child.born.serial, status, refusal, repairs });
    }

    /// Repairs what a dead process held and adopts its children.
    fn bury(&mut self, dead: ProcId) -> Repairs {
        for orphan in orphans_of(&self.memory, dead) {
            // A rank that the dead had let in looks after itself, and is watched anyway.
            let is_rank = self.watched.iter().any(|watched| watched.process == orphan.process);
            if is_rank || orphan.process == self.memory.me() {
                continue;
            }
            match orphan.watch() {
                Some(pidfd) => self.orphans.push((orphan, pidfd)),
                None => drop(self.bury(orphan.process)),
            }
        }
        recover(&self.memory, dead, &*self.tell)
    }

    fn end_silently(&mut self, mut child: Living) {
        // Both fail only for a child that has ended, which is what is wanted.
        let _ = child.handle.kill();
        let _ = child.handle.wait();
        self.bury(child.born.process);
    }

    fn kill_all(mut self) {
        for child in &mut self.living {
            let _ = child.handle.kill(); // as in `end_silently`
        }
        for child in std::mem::take(&mut self.living) {
            self.report(child);
        }
        self.wait_for_orphans();
    }

    /// Orphans end by themselves at once, since their control socket did; the memory must not go before.
    fn wait_for_orphans(&mut self) {
        while !self.orphans.is_empty() {
            let pidfds: Vec<_> = self.orphans.iter().map(|(_, pidfd)| pidfd.as_fd()).collect();
            let Ok(ready) = sys::poll::readable(&pidfds) else { return };
            for at in (0..ready.len()).rev().filter(|&at| ready[at]) {
                let (orphan, _) = self.orphans.swap_remove(at);
                self.bury(orphan.process);
            }
        }
    }
}
