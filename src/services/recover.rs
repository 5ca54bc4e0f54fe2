//! Taking back what a dead process held, and finding the children it left.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::channel::{self, Repairs};
use crate::id::ProcId;
use crate::latch;
use crate::mm::{Memory, ProcessState};
use crate::names;
use crate::sys;
use crate::table;

/// A process that this one did not start and must look after all the same: its parent died before it.
pub(super) struct Orphan {
    pub(super) process: ProcId,
    pid: u32,
    /// In clock ticks since boot; 0 if it had not attached yet.
    start_time: u64,
}

impl Orphan {
    /// A descriptor that becomes readable when it ends; `None` if it has ended.
    pub(super) fn watch(&self) -> Option<OwnedFd> {
        let pidfd = sys::process::pidfd(self.pid).ok()?;
        // A number alone may be another process's by now; number and time of start may not.
        let same = self.start_time == 0 || sys::process::start_time(self.pid) == Some(self.start_time);
        same.then_some(pidfd)
    }
}

/// Repairs everything in shared memory that named `dead`, wakes all who might wait for it, and frees its
/// place. If `dead` was itself repairing after another death, that repair is taken over. `tell` hears of each that is
/// repaired, and which of those that had its place it was.
pub(super) fn recover(memory: &Arc<Memory>, dead: ProcId, tell: &dyn Fn(ProcId, u32)) -> Repairs {
    if !memory.begin_recovery(dead) {
        return Repairs::default();
    }
    mark!("process.recovery.begun");
    tell(dead, memory.incarnation(dead));
    // First: what the dead had open is known only as long as its objects are not released.
    latch::repair(memory, dead);
    mark!("process.recovery.unlatched");
    names::repair(memory, dead);
    // Before its blocks are taken back: those that its tables name are the tables'.
    table::repair(memory, dead);
    let repairs = channel::repair(memory, dead);
    mark!("process.recovery.repaired");
    memory.end_recovery(dead);
    mark!("process.recovery.over");
    latch::tell_of_end(memory);
    for left in memory.processes().into_iter().filter(|entry| entry.state == ProcessState::Dead) {
        recover(memory, left.id, tell);
    }
    repairs
}

/// The children of `dead` that are still in the process table, which are this process's to look after from
/// now on. Those that never got as far as having a process id hold nothing and cannot come to life any more
/// (their control socket ended with their parent); their places are given back.
pub(super) fn orphans_of(memory: &Memory, dead: ProcId) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for entry in memory.processes().into_iter().filter(|entry| entry.parent == dead) {
        match entry.state {
            ProcessState::Reserved if entry.pid == 0 => memory.abandon_process(entry.id),
            ProcessState::Reserved | ProcessState::Live => {
                memory.adopt_process(entry.id);
                orphans.push(Orphan { process: entry.id, pid: entry.pid, start_time: entry.start_time });
            }
            // Somebody repairs it, or it is repaired with whoever began to.
            _ => {}
        }
    }
    orphans
}
