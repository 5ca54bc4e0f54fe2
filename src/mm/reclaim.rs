//! Giving back what a dead process held.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id::ProcId;
use crate::mm::handle::BlockKey;
use crate::mm::handle::Handle;
use crate::mm::heap::cache;
use crate::mm::heap::cache::Heaps;
use crate::mm::heap::scan::Tally;
use crate::mm::memory::Memory;
use crate::mm::pool;

/// What was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

impl Memory {
    /// Frees all blocks of `dead`, but for those that `referenced` says are on their way to somebody:
    /// those belong to nobody until they are taken over. To be called between
    /// [`Memory::begin_recovery`] and [`Memory::end_recovery`]; can be done again at any time.
    pub(crate) fn reclaim_blocks(self: &Arc<Self>, dead: ProcId, referenced: &HashSet<Handle>) -> Reclaimed {
        let keys: HashSet<BlockKey> = referenced.iter().map(|handle| handle.key()).collect();
        let mut freed = Tally::default();
        self.while_scanning(|| {
            for index in 0..self.opened() {
                let Ok(segment) = self.segment(index) else { continue };
                let keep = |offset: u64, generation: u32| {
                    let offset = segment.heap_at + offset;
                    keys.contains(&Handle { segment: index as u16, heap: 0, generation, offset, len: 0 }.key())
                };
                freed.add(segment.heap.reclaim(dead, &keep));
            }
        });
        cache::sweep_homeless(&**self);
        freed.add(pool::reclaim(self, dead));
        Reclaimed { blocks: freed.blocks, bytes: freed.bytes }
    }
}
