//! The end of a process as something to wait for: one cell of the node for the ends of all.
//!
//! Whoever repairs a death gives the place of the dead back as its last step, which ends that life for everybody to see
//! (`mm/process_table.rs`), and then wakes all who sleep here. If it dies in between, the repair of its own death
//! does so.

use super::cell;
use crate::mm::Memory;
use crate::wait::WaitCell;

/// Where to wait for the end of any process of the node.
pub(crate) fn cell_of_ends(memory: &Memory) -> &WaitCell {
    cell(memory.words_of_ends(), 0)
}

/// Wakes all who wait for the end of a process: one of them has ended, and its repair is done.
pub(crate) fn tell_of_end(memory: &Memory) {
    cell_of_ends(memory).notify_all();
}
