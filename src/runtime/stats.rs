//! Figures, read straight from shared memory.

use crate::mm::Memory;

/// Figures of a runtime at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The node's shared memory.
    pub memory: MemoryStats,
    /// How many processes of the job share this node's memory, this one included.
    pub processes: usize,
}

/// Figures of a node's shared memory, in bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Handed out and not yet given back.
    pub in_use: u64,
    /// How many blocks that is.
    pub blocks: u64,
    /// Taken from the system so far. It is kept for reuse until the runtime ends.
    pub committed: u64,
    /// The most the job may take on this node.
    pub limit: u64,
}

impl Stats {
    pub(super) fn read(memory: &Memory) -> Stats {
        let heap = memory.heap_stats();
        let memory_stats = MemoryStats {
            in_use: heap.in_use_bytes,
            blocks: heap.in_use_blocks,
            committed: heap.committed,
            limit: heap.limit,
        };
        Stats {
            memory: memory_stats,
            processes: memory.processes().iter().filter(|entry| entry.guest().is_none()).count(),
        }
    }
}
