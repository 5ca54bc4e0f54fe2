//! Guests: processes of other nodes that have a place among those of this one.
//!
//! What a process of another node holds here (a lock, say) is held in the name of its place, like what a process of
//! this node holds; so when the guest is gone, the repair of a death hands everything on. A guest has no process id:
//! whoever looks after the orphans of the host finds it ended.

use super::error::MemError;
use super::memory::Memory;
use super::process_table::{ProcessEntry, ProcessState};
use crate::id::{NodeNumber, ProcId};

/// Bits of a guest's note that are its process id at home; its node stands above, counted from 1.
const PID_BITS: u32 = 32;

impl Memory {
    /// Gives a process of another node a place. It is free again after the recovery of its death.
    pub(crate) fn admit_guest(&self, node: NodeNumber, pid: u32) -> Result<ProcId, MemError> {
        let place = self.reserve_process()?;
        let note = (u64::from(node) + 1) << PID_BITS | u64::from(pid);
        self.process_table().join(place, 0, note)?;
        Ok(place)
    }

    /// Which of all processes that ever had this place has it now: one that comes later has a higher number.
    pub(crate) fn incarnation(&self, process: ProcId) -> u32 {
        self.process_table().incarnation(process)
    }
}

impl ProcessEntry {
    /// The node and the process id of a guest.
    pub(crate) fn guest(&self) -> Option<(NodeNumber, u32)> {
        let is_guest = self.pid == 0 && self.state != ProcessState::Reserved;
        let node = (self.start_time >> PID_BITS).checked_sub(1).filter(|_| is_guest)?;
        Some((node as NodeNumber, self.start_time as u32))
    }
}
