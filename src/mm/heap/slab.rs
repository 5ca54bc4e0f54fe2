//! A slab: one unit, divided into blocks of one size.
//!
//! Only its home process allocates from it; everybody may free into it. The bits say where a free
//! block may be; the words say whether it is. A bit is set *before* its word becomes free, and is
//! believed only together with the word; so after a word is free, who freed it touches the slab no
//! more, and a home that sees all words free may give the unit back.

use std::ptr::NonNull;

use crate::id::ProcId;
use crate::mm::heap::classes;
use crate::mm::heap::classes::Class;
use crate::mm::heap::word;
use crate::mm::heap::word::State;
use crate::mm::heap::word::Word;
use crate::mm::layout::SlabHeader;
use crate::prim::AtomicU64;
use crate::prim::Ordering;

/// This process's view of a slab.
#[derive(Clone, Copy)]
pub(in crate::mm) struct Slab {
    base: NonNull<u8>,
    /// Where it starts in its heap.
    offset: u64,
    unit: u32,
    class: u8,
}

/// Bits that the home took out of one word of the slab's bits, to use them up without asking again.
/// They are lost with the home, and come back with [`Slab::rebuild_bits`].
#[derive(Clone, Copy, Default)]
pub(super) struct Stock {
    at: u32,
    bits: u64,
}

// SAFETY: only a view; what it points to is shared memory, touched through atomics.
unsafe impl Send for Slab {}

impl Slab {
    pub(super) fn new(base: NonNull<u8>, offset: u64, unit: u32, class: usize) -> Slab {
        Slab { base, offset, unit, class: class as u8 }
    }

    pub(super) fn unit(&self) -> u32 {
        self.unit
    }

    #[inline]
    pub(super) fn class(&self) -> &'static Class {
        &classes::TABLE[usize::from(self.class)]
    }

    /// Writes the head, bits and words of an empty slab. The unit is the caller's alone. Generations
    /// start elsewhere in each life of the unit, so that handles from an earlier life stay stale.
    pub(super) fn prepare(&self, life: u32) {
        let class = self.class();
        // SAFETY: the header is inside the unit; any bits are valid atomics.
        let header: &SlabHeader = unsafe { self.base.cast().as_ref() };
        header.class.store(u32::from(self.class), Ordering::Relaxed);
        let generation = life.wrapping_mul(0x9E37_79B1);
        for index in 0..class.count {
            self.word(index).store(Word::free(generation).0, Ordering::Relaxed);
        }
        for at in 0..class.bit_words {
            let left = class.count - 64 * at;
            let bits = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            self.bits(at).store(bits, Ordering::Relaxed);
        }
    }

    #[inline]
    fn bits(&self, at: u32) -> &AtomicU64 {
        let offset = size_of::<SlabHeader>() as u32 + 8 * at;
        // SAFETY: `at` is below the class's number of bit words, so this is inside the unit.
        unsafe { self.base.add(offset as usize).cast().as_ref() }
    }

    #[inline]
    fn word(&self, index: u32) -> &AtomicU64 {
        // SAFETY: callers pass an index below the count; the mapping outlives the view by `Heap`'s contract.
        unsafe { self.word_ptr(index).as_ref() }
    }

    #[inline]
    pub(super) fn word_ptr(&self, index: u32) -> NonNull<AtomicU64> {
        debug_assert!(index < self.class().count);
        // SAFETY: an index below the count lies inside the unit.
        unsafe { self.base.add((self.class().words_at + 8 * index) as usize).cast() }
    }

    /// Where a block's payload starts in the heap.
    #[inline]
    pub(super) fn payload(&self, index: u32) -> u64 {
        let class = self.class();
        self.offset + u64::from(class.payload_at + index * class.size)
    }

    /// The block whose payload starts at this offset in the slab.
    #[inline]
    pub(super) fn index_of(&self, within: u32) -> Option<u32> {
        let class = self.class();
        let from_first = within.checked_sub(class.payload_at)?;
        let index = from_first / class.size;
        (index < class.count && index * class.size == from_first).then_some(index)
    }

    /// Takes a free block, as its home, which no other thread is just now. Its index and generation.
    #[inline]
    pub(super) fn take(&self, me: ProcId, stock: &mut Stock) -> Option<(u32, u32)> {
        match self.take_stocked(me, stock) {
            Some(block) => Some(block),
            None => self.take_restocked(me, stock),
        }
    }

    #[inline]
    fn take_stocked(&self, me: ProcId, stock: &mut Stock) -> Option<(u32, u32)> {
        let mut bits = stock.bits;
        while bits != 0 {
            let index = 64 * stock.at + bits.trailing_zeros();
            let word = word::read(self.word(index));
            // A bit without a free word: its freeing is between the two steps. It stays in stock.
            if word.state() == State::Free {
                stock.bits &= !(bits & bits.wrapping_neg());
                // A free word is changed by its home only, so this needs no compare-and-swap.
                word::write(self.word(index), Word::new(State::Held, me, 0, word.generation()));
                mark!("heap.slab.held");
                return Some((index, word.generation()));
            }
            bits &= bits - 1;
        }
        None
    }

    /// Puts what could not be used back, and takes the bits of other words into stock.
    fn take_restocked(&self, me: ProcId, stock: &mut Stock) -> Option<(u32, u32)> {
        self.put_back(stock);
        for at in 0..self.class().bit_words {
            if self.bits(at).load(Ordering::Relaxed) == 0 {
                continue;
            }
            *stock = Stock { at, bits: self.bits(at).swap(0, Ordering::Relaxed) };
            mark!("heap.slab.bits_taken");
            if let Some(block) = self.take_stocked(me, stock) {
                return Some(block);
            }
            self.put_back(stock);
        }
        None
    }

    fn put_back(&self, stock: &mut Stock) {
        if stock.bits != 0 {
            self.bits(stock.at).fetch_or(std::mem::take(&mut stock.bits), Ordering::Relaxed);
        }
    }

    /// The last two steps of freeing a block that is `going`.
    #[inline]
    pub(super) fn finish_freeing(&self, index: u32, going: Word) {
        self.bits(index / 64).fetch_or(1 << (index % 64), Ordering::Relaxed);
        mark!("heap.slab.bit_set");
        word::write(self.word(index), going.ended());
        mark!("heap.slab.freed");
    }

    /// What a block is just now.
    pub(super) fn block_word(&self, index: u32) -> Word {
        word::read(self.word(index))
    }

    /// Makes a transition of a block.
    pub(super) fn block_turns(&self, index: u32, from: Word, to: Word) -> bool {
        word::swap(self.word(index), from, to)
    }

    /// Whether nobody has anything in it.
    pub(super) fn is_unused(&self) -> bool {
        (0..self.class().count).all(|index| self.block_word(index).state() == State::Free)
    }

    /// Sets the bit of every free block: a home that is gone took some with it.
    pub(super) fn rebuild_bits(&self) {
        for index in 0..self.class().count {
            if self.block_word(index).state() == State::Free {
                self.bits(index / 64).fetch_or(1 << (index % 64), Ordering::Relaxed);
            }
        }
    }
}
