//! A heap in mapped bytes: a table of words and the units that they speak for.
//!
//! There is no list in shared memory that a dying process could leave half linked. Every unit, and
//! every small block in a slab, has one word; each transition is one atomic step on it. So after any
//! kill a look at all words naming the dead finds, and finishes, everything it began (`scan.rs`).
//! The same code serves a segment of the node's memory and a `MemoryPool` inside one block.

pub(super) mod cache;
pub(super) mod classes;
pub(super) mod scan;
pub(super) mod slab;
pub(super) mod units;
pub(super) mod word;

use std::ptr::NonNull;

use crate::id::ProcId;
use crate::mm::error::MemError;
use crate::mm::heap::slab::Slab;
use crate::mm::heap::word::State;
use crate::mm::heap::word::Word;
use crate::mm::layout;
use crate::mm::layout::HeapHeader;
use crate::prim::AtomicU64;
use crate::prim::Ordering;

/// What a heap stands on.
pub(super) trait Ground: Send + Sync {
    /// Commits the pages of these bytes of the heap, or refuses.
    fn commit(&self, from: u64, to: u64) -> Result<(), MemError>;
    /// Whether some process reads slabs that need not be its own just now. SeqCst: see `scan.rs`.
    fn somebody_scans(&self) -> bool;
    /// So many more bytes are committed.
    fn account(&self, bytes: u64);
}

/// This process's view of a heap.
pub(super) struct Heap {
    base: NonNull<u8>,
    /// Where units start, from `base`.
    first_unit: u64,
    units: u32,
    ground: Box<dyn Ground>,
}

// SAFETY: the bytes behind `base` are shared between processes and only touched through atomics, or by
// the owner of a block; threads are no worse than processes.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

/// A block found by its offset.
pub(super) enum Place {
    /// The run of units that starts here.
    Run(u32),
    /// A small block.
    Small(Slab, u32),
}

/// A block of this heap as it is just now.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// From the start of the heap.
    pub(super) offset: u64,
    pub(super) generation: u32,
    pub(super) capacity: u64,
}

impl Heap {
    /// The heap in `len` bytes at `base`, which are zero or were a heap of this length before.
    ///
    /// # Safety
    /// The bytes must stay mapped as long as the heap, and nobody may touch them but heaps. `base` is
    /// aligned to a cache line, and the header's page is committed.
    pub(super) unsafe fn new(base: NonNull<u8>, len: u64, ground: Box<dyn Ground>) -> Heap {
        let (first_unit, units) = divide(len);
        Heap { base, first_unit, units, ground }
    }

    /// Bytes of the largest block there can be.
    pub(super) fn largest(&self) -> u64 {
        u64::from(self.units) * layout::UNIT
    }

    fn header(&self) -> &HeapHeader {
        // SAFETY: `new` was promised mapped bytes; all fields are atomics for which any bits are valid.
        unsafe { self.base.cast().as_ref() }
    }

    /// Units whose pages are committed. Acquire: partner of the release in `units::stretch`.
    pub(super) fn committed(&self) -> u32 {
        self.header().committed.load(Ordering::Acquire).min(self.units)
    }

    /// The word of a committed unit.
    fn word(&self, unit: u32) -> &AtomicU64 {
        debug_assert!(unit < self.units);
        // SAFETY: the table has a word for each unit, inside the mapping; callers look at committed ones only.
        unsafe { self.base.add((layout::TABLE_AT + 8 * u64::from(unit)) as usize).cast().as_ref() }
    }

    fn offset_of_unit(&self, unit: u32) -> u64 {
        self.first_unit + u64::from(unit) * layout::UNIT
    }

    /// The address of an offset of this heap.
    pub(super) fn address(&self, offset: u64) -> NonNull<u8> {
        // SAFETY: offsets come from this heap's own units, or were checked against them.
        unsafe { self.base.add(offset as usize) }
    }

    fn unit_of(&self, offset: u64) -> u32 {
        ((offset - self.first_unit) / layout::UNIT) as u32
    }

    fn found_run(&self, unit: u32, n: u32, generation: u32) -> Found {
        Found { offset: self.offset_of_unit(unit), generation, capacity: u64::from(n) * layout::UNIT }
    }

    fn slab(&self, unit: u32, class: usize) -> Slab {
        Slab::new(self.address(self.offset_of_unit(unit)), self.offset_of_unit(unit), unit, class)
    }

    /// The block that starts exactly here, if these units can have one.
    #[inline]
    pub(super) fn locate(&self, offset: u64) -> Option<Place> {
        let from_first = offset.checked_sub(self.first_unit)?;
        let unit = u32::try_from(from_first / layout::UNIT).ok()?;
        if unit >= self.committed() {
            return None;
        }
        let word = word::read(self.word(unit));
        match word.state() {
            State::Slab => {
                let class = word.n() as usize;
                let slab = (class < classes::CLASSES).then(|| self.slab(unit, class))?;
                let index = slab.index_of((from_first % layout::UNIT) as u32)?;
                Some(Place::Small(slab, index))
            }
            _ if from_first % layout::UNIT == 0 => Some(Place::Run(unit)),
            _ => None,
        }
    }

    /// The word of a located block.
    #[inline]
    pub(super) fn word_of(&self, place: &Place) -> &AtomicU64 {
        match place {
            Place::Run(unit) => self.word(*unit),
            // SAFETY: a slab's words live as long as the heap's mapping, which outlives `self`.
            Place::Small(slab, index) => unsafe { slab.word_ptr(*index).as_ref() },
        }
    }

    /// Bytes a located block can hold, its word being `word`.
    #[inline]
    pub(super) fn capacity(&self, place: &Place, word: Word) -> u64 {
        match place {
            Place::Run(unit) => u64::from(word.n().min(self.units - unit)) * layout::UNIT,
            Place::Small(slab, _) => u64::from(slab.class().size),
        }
    }

    /// Ends a block whose word is `word`. False if it was not that any more: a stale handle.
    pub(super) fn end(&self, place: &Place, word: Word, me: ProcId) -> bool {
        let going = word.to(State::Freeing, me);
        if !word::swap(self.word_of(place), word, going) {
            return false;
        }
        mark!("heap.free.begun");
        match place {
            Place::Run(unit) => self.finish_freeing_run(*unit, going),
            Place::Small(slab, index) => slab.finish_freeing(*index, going),
        }
        true
    }
}

/// First unit's offset and number of units in a heap of so many bytes. Units start on a page, so that
/// a page is committed for one reason only.
fn divide(len: u64) -> (u64, u32) {
    let mut units = len / layout::UNIT;
    loop {
        let first = (layout::TABLE_AT + 8 * units).next_multiple_of(layout::PAGE);
        if units == 0 || first + units * layout::UNIT <= len {
            return (first, units as u32);
        }
        units -= 1;
    }
}

/// Bytes of the largest block in a heap of so many bytes.
pub(super) fn largest_in(len: u64) -> u64 {
    u64::from(divide(len).1) * layout::UNIT
}

/// Bytes at the start of a heap of so many bytes that have to be zero in the beginning.
pub(super) fn head_len(len: u64) -> u64 {
    divide(len).0
}

/// Bytes a heap needs to have so many units.
pub(super) fn len_for_units(units: u64) -> u64 {
    (layout::TABLE_AT + 8 * units).next_multiple_of(layout::PAGE) + units * layout::UNIT
}
