//! What is in use, counted by a look at every word, so that no counter can go wrong with a death.

#[cfg(test)]
use crate::mm::heap::cache;
use crate::mm::heap::cache::Heaps;
use crate::mm::heap::scan::Tally;
use crate::mm::memory::Memory;
use crate::prim::Ordering;

/// Figures of a node's memory, in bytes unless they count things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapStats {
    /// In blocks that somebody holds, rounded up to what their blocks take.
    pub in_use_bytes: u64,
    /// Blocks that somebody holds.
    pub in_use_blocks: u64,
    /// Slabs that small blocks are cut from.
    pub slabs: u64,
    /// Set aside by the machine for this job; the most that was ever in use, and a little more.
    pub committed: u64,
    /// The most that may be committed.
    pub limit: u64,
    /// Segments opened.
    pub segments: usize,
}

impl Memory {
    /// Counts what is in use. Takes some 10 µs for each GiB that is committed.
    pub(crate) fn heap_stats(&self) -> HeapStats {
        let mut tally = Tally::default();
        self.while_scanning(|| {
            for index in 0..self.opened() {
                if let Ok(heap) = self.heap(index) {
                    tally.add(heap.tally());
                }
            }
        });
        HeapStats {
            in_use_bytes: tally.bytes,
            in_use_blocks: tally.blocks,
            slabs: tally.slabs,
            committed: self.facts.header().committed.load(Ordering::Relaxed),
            limit: self.facts.limit,
            segments: self.opened(),
        }
    }

    /// Gives slabs in which nothing is held back to everybody. How many.
    #[cfg(test)]
    pub(crate) fn trim(&self) -> usize {
        cache::trim(self)
    }
}
