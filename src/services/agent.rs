//! The agent: the one thread of a process that starts its children and sees them end.
//!
//! It sleeps on a set of descriptors: a bell and one pidfd per child, so an idle agent costs nothing, and a turn costs
//! what happened and not what lives. A turn is bounded: answer the bell, carry out what was ordered, look at those that
//! ended. Repair of shared memory comes before anybody is told of an end, so who hears of it finds everything usable.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use super::ServiceError;
use super::recover::{Orphan, orphans_of, recover};
use super::spawn::{Born, Inherited, Living, Order, spawn};
use crate::channel::Repairs;
use crate::id::ProcId;
use crate::mm::Memory;
use crate::sys;
use crate::sys::epoll::{Epoll, Interest, Ready};
use crate::sys::poll::Bell;
use crate::task::birth;

/// The end of a child, told after everything it held in shared memory has been repaired.
pub(crate) struct ChildEnd {
    /// Which child it was.
    pub(crate) serial: u64,
    /// What its order was told under.
    pub(crate) key: u64,
    /// The process id that it had.
    pub(crate) pid: u32,
    /// How it ended; an error if somebody else reaped it, so that nobody can know.
    pub(crate) status: io::Result<ExitStatus>,
    /// Why it would not begin, if it said so.
    pub(crate) refusal: Option<String>,
    /// What had to be repaired.
    pub(crate) repairs: Repairs,
}

impl ChildEnd {
    /// Whether it ended otherwise than with code 0.
    pub(crate) fn is_bad(&self) -> bool {
        self.refusal.is_some() || !self.status.as_ref().is_ok_and(ExitStatus::success)
    }
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

/// What nothing survives.
const KILL: i32 = 9;

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
        let set = Epoll::new().map_err(|e| ServiceError::spawn("the agent's set of descriptors (epoll)", e))?;
        set.add(&*bell, BELL, Interest::READ).map_err(|e| ServiceError::spawn("the agent's bell", e))?;
        let (beings, keys, started) = (HashMap::new(), BELL, 0);
        let mut shell = Shell { memory, commands: orders, bell: bell.clone(), set, beings, keys, started, tell };
        for one in watched {
            shell.keep(Being::Watched(one)).map_err(|e| ServiceError::spawn("watching a rank", e))?;
        }
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

/// The bell's number in the set.
const BELL: u64 = 0;

/// Whose end is waited for.
enum Being {
    Child(Living),
    /// A process of this node that is not a child.
    Watched(Watched),
    /// A child of one that has died.
    Orphan(Orphan, OwnedFd),
}

impl Being {
    fn end(&self) -> &OwnedFd {
        match self {
            Being::Child(child) => &child.born.pidfd,
            Being::Watched(watched) => &watched.end,
            Being::Orphan(_, pidfd) => pidfd,
        }
    }
}

/// What the thread owns.
struct Shell {
    memory: Arc<Memory>,
    commands: Receiver<Command>,
    bell: Arc<Bell>,
    set: Epoll,
    /// By their numbers in the set.
    beings: HashMap<u64, Being>,
    /// The last of those numbers.
    keys: u64,
    /// Children ever started.
    started: u64,
    tell: Ended,
}

impl Shell {
    fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            self.set.sleep(None);
            ready.clear();
            if let Err(error) = self.set.look(&mut ready) {
                tracing::error!(%error, "the agent cannot watch its children any more and stops");
                return self.kill_all();
            }
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

    /// From now on its end is noticed.
    fn keep(&mut self, being: Being) -> io::Result<u64> {
        self.keys += 1;
        self.set.add(being.end(), self.keys, Interest::READ)?;
        self.beings.insert(self.keys, being);
        Ok(self.keys)
    }

    /// Takes it out. Its descriptor may live on elsewhere, so it leaves the set by name.
    fn let_go(&mut self, key: u64) -> Option<Being> {
        let being = self.beings.remove(&key)?;
        // Fails only for what is not in the set, which is what is wanted.
        let _ = self.set.remove(being.end());
        Some(being)
    }

    fn start(&mut self, orders: Vec<Order>) -> Result<Vec<Born>, ServiceError> {
        let (mut born, mut keys) = (Vec::with_capacity(orders.len()), Vec::with_capacity(orders.len()));
        let mut inherited = Inherited::default();
        for order in orders {
            match self.start_one(order, &mut inherited) {
                Ok((one, key)) => {
                    born.push(one);
                    keys.push(key);
                }
                Err(error) => {
                    keys.into_iter().for_each(|key| self.end_silently(key));
                    return Err(error);
                }
            }
        }
        Ok(born)
    }

    fn start_one(&mut self, order: Order, inherited: &mut Inherited) -> Result<(Born, u64), ServiceError> {
        self.started += 1;
        let child = spawn(&self.memory, self.started, order, inherited)?;
        let born = child.born.clone();
        match self.keep(Being::Child(child)) {
            Ok(key) => Ok((born, key)),
            Err(error) => {
                // Not in the set, so nobody else looks at it: it is dropped with its socket, killed, reaped, repaired.
                let _ = born.kill();
                let _ = sys::process::wait(born.pidfd.as_fd());
                self.bury(born.process);
                Err(ServiceError::spawn("watching it", error))
            }
        }
    }

    /// Looks at those whose descriptor was readable.
    fn look_at(&mut self, ready: &[Ready]) {
        for Ready { key, .. } in ready.iter().filter(|ready| ready.key != BELL) {
            match self.let_go(*key) {
                Some(Being::Child(child)) => self.report(child),
                Some(Being::Watched(Watched { process, ended, .. })) => {
                    let repaired = ended();
                    self.bury(process);
                    repaired();
                }
                Some(Being::Orphan(orphan, _)) => drop(self.bury(orphan.process)),
                None => {}
            }
        }
    }

    /// Reaps a child that has ended, repairs what it held, and says so.
    fn report(&mut self, child: Living) {
        let status = child.wait();
        let repairs = self.bury(child.born.process);
        let refusal = child.control.as_ref().and_then(birth::refusal);
        // Who does not listen any more does not need to know.
        let Born { serial, pid, .. } = child.born;
        let _ = child.ended.send(ChildEnd { serial, key: child.key, pid, status, refusal, repairs });
    }

    /// Repairs what a dead process held and adopts its children.
    fn bury(&mut self, dead: ProcId) -> Repairs {
        if dead == ProcId::NONE {
            return Repairs::default();
        }
        for orphan in orphans_of(&self.memory, dead) {
            // A rank that the dead had let in looks after itself, and is watched anyway.
            let mut watched = self.beings.values().filter_map(|being| match being {
                Being::Watched(watched) => Some(watched.process),
                _ => None,
            });
            if watched.any(|rank| rank == orphan.process) || orphan.process == self.memory.me() {
                continue;
            }
            let process = orphan.process;
            let kept = orphan.watch().map(|pidfd| self.keep(Being::Orphan(orphan, pidfd)));
            if !matches!(kept, Some(Ok(_))) {
                self.bury(process);
            }
        }
        recover(&self.memory, dead, &*self.tell)
    }

    fn end_silently(&mut self, key: u64) {
        let Some(Being::Child(child)) = self.let_go(key) else { return };
        // Both fail only for a child that has ended, which is what is wanted.
        let _ = child.born.signal(KILL);
        let _ = child.wait();
        self.bury(child.born.process);
    }

    fn kill_all(mut self) {
        let mut children: Vec<u64> = Vec::new();
        for (key, being) in &self.beings {
            if let Being::Child(child) = being {
                let _ = child.born.signal(KILL); // as in `end_silently`
                children.push(*key);
            }
        }
        for key in children {
            if let Some(Being::Child(child)) = self.let_go(key) {
                self.report(child);
            }
        }
        self.wait_for_orphans();
    }

    /// Orphans end by themselves at once, since their control socket did; the memory must not go before.
    fn wait_for_orphans(&mut self) {
        let is_orphan = |being: &Being| matches!(being, Being::Orphan(..));
        let others: Vec<u64> = self.beings.iter().filter(|(_, being)| !is_orphan(being)).map(|(key, _)| *key).collect();
        others.into_iter().for_each(|key| drop(self.let_go(key)));
        self.bell.answer();
        while !self.beings.is_empty() {
            let mut ready = Vec::new();
            self.set.sleep(None);
            if self.set.look(&mut ready).is_err() {
                return;
            }
            self.bell.answer();
            self.look_at(&ready);
        }
    }
}
