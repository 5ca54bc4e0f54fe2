//! The memory of a node: one file, mapped by every process of the job, with a heap and a table of
//! shared objects in it, of which no process's death at any instruction leaves anything lost or broken.
//!
//! [`Memory`] is the way in. `layout.rs` is the drawing; `heap/` gives out blocks; `process_table.rs`
//! says who is who; `objects.rs` counts who has what open; `reclaim.rs` takes back what the dead held.
//! This floor knows nothing of what is in a block.

mod backing;
mod block;
mod config;
mod error;
mod given;
mod guests;
mod handle;
mod heap;
mod holds;
mod layout;
mod memory;
mod names;
mod objects;
mod pool;
mod process_table;
mod reclaim;
mod segment;
mod stats;
#[cfg(test)]
mod tests;
mod view;

/// Most processes of a job on a node: ids go from 1 to this.
pub(crate) const MOST_PROCESSES: usize = layout::PROCESSES as usize;

pub(crate) use block::Block;
pub(crate) use config::MemoryConfig;
pub use config::{Backing, HugePages};
pub use error::MemError;
pub(crate) use given::{Given, SPOT_BITS};
pub(crate) use handle::Handle;
pub(crate) use holds::{Claim, Hold, gather, note};
pub(crate) use memory::Memory;
pub(crate) use objects::{Kind, Object, Remains, Sight};
pub use pool::{MemoryPool, PoolBlock};
#[cfg(test)]
pub(crate) use process_table::ProcessEntry;
pub(crate) use process_table::{Life, ProcessState};
pub(crate) use stats::HeapStats;
pub(crate) use view::View;
