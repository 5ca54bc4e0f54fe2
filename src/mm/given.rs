//! Given blocks: memory that belongs to a shared object and to no process, seen as words.
//!
//! A structure that grows, such as the table of a dictionary, needs more blocks than the one its object came
//! with. Such a block is made by some process, named in a word of the structure, and then *given*: its own word
//! in the heap says that it is an object's, so that its maker's death does not take it back. Who ends it takes it
//! back first. Between the name and the gift it is still its maker's, and so it is between taking it back and the
//! end of its name: a repair that finds a named block in the hands of the dead gives it again.
//!
//! ```text
//! Given   place:36 | generation:28     place = segment and offset, in lines of 64 bytes; never zero
//! spot    segment and offset, in words of 8 bytes
//! ```

use std::ptr::NonNull;
use std::sync::Arc;

use crate::id::ProcId;
use crate::mm::block::Block;
use crate::mm::error::MemError;
use crate::mm::handle::Handle;
use crate::mm::heap::word;
use crate::mm::heap::word::State;
use crate::mm::layout;
use crate::mm::memory::Memory;
use crate::prim::AtomicU64;
use crate::prim::Ordering;

/// The name of a given block in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given(u64);

const GENERATION_BITS: u32 = 28;
/// Bits of a place in lines: a job's memory up to 4 TiB.
const PLACE_BITS: u32 = 64 - GENERATION_BITS;
/// Bits of a spot: the same in words.
pub(crate) const SPOT_BITS: u32 = PLACE_BITS + 3;
const WORD: u64 = size_of::<u64>() as u64;

impl Given {
    /// As a word, which is never zero.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// From such a word; zero is no block.
    #[inline]
    pub(crate) fn from_word(word: u64) -> Option<Given> {
        (word != 0).then_some(Given(word))
    }

    /// Where the block starts.
    #[inline]
    pub(crate) fn spot(self) -> u64 {
        (self.0 >> GENERATION_BITS) << 3
    }

    /// Which of the blocks that were ever there.
    pub(crate) fn generation(self) -> u64 {
        self.0 & ((1 << GENERATION_BITS) - 1)
    }
}

/// Bits that an offset within a segment takes in a spot.
pub(super) fn spot_bits(segment_size: u64) -> u32 {
    (segment_size / WORD).next_power_of_two().trailing_zeros()
}

impl Memory {
    /// The name that a block of this process will have when it is given.
    pub(crate) fn given_name(&self, block: &Block) -> Result<Given, MemError> {
        let handle = block.handle();
        let bits = self.spot_bits;
        let spot = (u64::from(handle.segment) << bits) | (handle.offset / WORD);
        if spot >> SPOT_BITS != 0 {
            return Err(MemError::BadHandle { why: "it lies beyond the first 4 TiB of the job's memory" });
        }
        Ok(Given((spot >> 3) << GENERATION_BITS | u64::from(handle.generation)))
    }

    /// Lets a block belong to nobody. It must have been named before, where a repair finds it.
    pub(crate) fn give(&self, block: Block) {
        self.turn_given(block.into_handle(), |state, owner| {
            (state == State::Held && owner == self.me()).then_some(State::Object)
        });
    }

    /// Makes a given block this process's own, to end it. `None`: there is no such block any more.
    pub(crate) fn take_back(self: &Arc<Self>, given: Given) -> Option<Block> {
        let handle = self.handle_of(given);
        let taken = self.turn_given(handle, |state, _| (state == State::Object).then_some(State::Held));
        let at = taken.then(|| self.resolve(handle).ok()).flatten()?;
        Some(Block::new(self.clone(), at, handle))
    }

    /// Gives a block again that a dead process had not given yet, or had taken back.
    pub(crate) fn give_for(&self, given: Given, dead: ProcId) {
        let handle = self.handle_of(given);
        self.turn_given(handle, |state, owner| (state == State::Held && owner == dead).then_some(State::Object));
    }

    fn turn_given(&self, handle: Handle, to: impl Fn(State, ProcId) -> Option<State>) -> bool {
        let Ok((heap, place, word)) = self.check(handle) else { return false };
        let Some(next) = to(word.state(), word.owner()) else { return false };
        let owner = if next == State::Held { self.me() } else { ProcId::NONE };
        word::swap(heap.word_of(&place), word, word.to(next, owner))
    }

    fn handle_of(&self, given: Given) -> Handle {
        let (bits, spot) = (self.spot_bits, given.spot());
        let offset = (spot & ((1 << bits) - 1)) * WORD;
        Handle { segment: (spot >> bits) as u16, heap: 0, generation: given.generation() as u32, offset, len: 0 }
    }

    /// A block as words that any process may read and write at any time.
    pub(crate) fn words_of(&self, claim: Handle) -> Result<&[AtomicU64], MemError> {
        let at = self.resolve(claim)?;
        // SAFETY: a live block of at least `len` bytes, aligned to a cache line, of which any bits are a valid word.
        Ok(unsafe { std::slice::from_raw_parts(at.cast().as_ptr(), (claim.len / WORD) as usize) })
    }

    /// So many words from a spot on, or fewer if the segment ends before. They are whoever's the floor above says they
    /// are; nobody may have them in a form other than words. `None` if no segment has the spot.
    #[inline]
    pub(crate) fn words_at(&self, spot: u64, most: usize) -> Option<&[AtomicU64]> {
        let (at, left) = self.place_of(spot)?;
        // SAFETY: inside a mapped segment, aligned to a word since a spot counts words, and any bits are a valid word;
        // shared pages that nobody committed yet read as zero.
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr(), most.min(left)) })
    }

    /// So many bytes from a spot on, which nobody may change as long as they are borrowed: that is the promise of
    /// the floor above.
    #[inline]
    pub(crate) fn bytes_at(&self, spot: u64, len: usize) -> Option<&[u8]> {
        let (at, left) = self.place_of(spot)?;
        let fits = len.div_ceil(WORD as usize) <= left;
        // SAFETY: inside a mapped segment and initialised; that nobody writes is promised above.
        fits.then(|| unsafe { std::slice::from_raw_parts(at.as_ptr().cast(), len) })
    }

    /// Where a spot is in this process, and how many words of its segment there are from there on.
    #[inline(always)]
    fn place_of(&self, spot: u64) -> Option<(NonNull<AtomicU64>, usize)> {
        let index = (spot >> self.spot_bits) as usize;
        let start = NonNull::new(self.starts.get(index)?.load(Ordering::Acquire)); // pairs with `map_segment`
        let start = start.or_else(|| self.start_of(index))?;
        let offset = (spot & ((1 << self.spot_bits) - 1)) as usize;
        let left = self.segment_words.checked_sub(offset).filter(|left| *left > 0)?;
        // SAFETY: less than the words of the segment.
        Some((unsafe { start.add(offset) }, left))
    }

    /// Where a segment starts that this process has not looked into yet.
    #[cold]
    fn start_of(&self, index: usize) -> Option<NonNull<AtomicU64>> {
        Some(self.segment(index).ok()?.start)
    }
}

const _: () = assert!(layout::LINE == 8 * WORD);
