//! A look at all words of a heap: to count what is in use, and to finish what a dead process began.
//!
//! The hazard is a unit that is a slab when the scan reads its word and a large block, full of
//! anything, when it reads the "block words" in it. So a scanner first raises its flag in the node's
//! header and then reads unit words; a home first turns its slab's unit word to Retired and then looks
//! at the flags, and the unit stays Retired while one is up. Both sides do both steps in one total
//! order (SeqCst), so that at least one of them sees the other.

use crate::id::ProcId;
use crate::mm::heap::Heap;
use crate::mm::heap::classes;
use crate::mm::heap::slab::Slab;
use crate::mm::heap::word::State;
use crate::mm::heap::word::Word;
use crate::mm::layout;
use crate::prim::Ordering;

/// What is in use in a heap, or what was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::mm) struct Tally {
    pub(in crate::mm) blocks: u64,
    pub(in crate::mm) bytes: u64,
    pub(in crate::mm) slabs: u64,
}

impl Tally {
    pub(in crate::mm) fn add(&mut self, other: Tally) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.slabs += other.slabs;
    }

    fn block(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
    }
}

impl Heap {
    /// Counts the blocks that somebody holds. The caller's flag is up.
    pub(in crate::mm) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for unit in 0..self.committed() {
            let word = self.unit_word_in_order(unit);
            if word.is_block() {
                tally.block(u64::from(word.n()) * layout::UNIT);
            } else if let Some(slab) = self.slab_behind(unit, word) {
                tally.slabs += 1;
                let held = (0..slab.class().count).filter(|index| slab.block_word(*index).is_block()).count() as u64;
                tally.blocks += held;
                tally.bytes += held * u64::from(slab.class().size);
            }
        }
        tally
    }

    /// Finishes what `dead` began and frees what it held, but for the blocks that `keep` (by offset and
    /// generation) says are on their way to somebody: those then belong to nobody. The caller's flag is
    /// up, and nobody else recovers `dead`. Every step can be done again by the next recoverer.
    pub(in crate::mm) fn reclaim(&self, dead: ProcId, keep: &dyn Fn(u64, u32) -> bool) -> Tally {
        let mut freed = Tally::default();
        for unit in 0..self.committed() {
            let word = self.unit_word_in_order(unit);
            if let Some(slab) = self.slab_behind(unit, word) {
                self.reclaim_in_slab(&slab, dead, keep, &mut freed);
            } else if word.owner() == dead {
                self.reclaim_run(unit, word, dead, keep, &mut freed);
            }
            if word.owner() == dead && matches!(word.state(), State::Slab | State::Retired) {
                self.make_homeless(unit, word);
            }
        }
        freed
    }

    fn reclaim_run(&self, first: u32, word: Word, dead: ProcId, keep: &dyn Fn(u64, u32) -> bool, freed: &mut Tally) {
        match word.state() {
            State::Claiming => self.give_back_run(first, word, Word::free(word.generation())),
            State::Freeing => self.finish_freeing_run(first, word),
            State::Held if keep(self.offset_of_unit(first), word.generation()) => {
                self.unit_turns(first, word, word.to(State::Held, ProcId::NONE));
            }
            State::Held => {
                let going = word.to(State::Freeing, dead);
                // Fails if a receiver took it over just now.
                if self.unit_turns(first, word, going) {
                    mark!("heap.reclaim.run");
                    self.finish_freeing_run(first, going);
                    freed.block(u64::from(word.n()) * layout::UNIT);
                }
            }
            State::Free | State::Tail | State::Object | State::Slab | State::Retired => {}
        }
    }

    fn reclaim_in_slab(&self, slab: &Slab, dead: ProcId, keep: &dyn Fn(u64, u32) -> bool, freed: &mut Tally) {
        for index in 0..slab.class().count {
            let word = slab.block_word(index);
            if word.owner() != dead {
                continue;
            }
            match word.state() {
                State::Freeing => slab.finish_freeing(index, word),
                State::Held if keep(slab.payload(index), word.generation()) => {
                    slab.block_turns(index, word, word.to(State::Held, ProcId::NONE));
                }
                State::Held => {
                    let going = word.to(State::Freeing, dead);
                    if slab.block_turns(index, word, going) {
                        mark!("heap.reclaim.block");
                        slab.finish_freeing(index, going);
                        freed.block(u64::from(slab.class().size));
                    }
                }
                _ => {}
            }
        }
    }

    /// A slab that lost its home waits for another. Its bits may have lost some blocks with it.
    fn make_homeless(&self, unit: u32, word: Word) {
        let class = word.n() as usize;
        if class >= classes::CLASSES {
            return;
        }
        self.slab(unit, class).rebuild_bits();
        mark!("heap.slab.rebuilt");
        self.unit_turns(unit, word, word.to(State::Slab, ProcId::NONE));
        mark!("heap.slab.homeless");
        // After the word. Partner: `adopt` clears the bit before it looks at the words.
        self.header().homeless.fetch_or(1 << class, Ordering::SeqCst);
    }

    /// `me` leaves a slab that it allocates from no more.
    pub(super) fn leave_slab(&self, me: ProcId, unit: u32) {
        let word = self.unit_word(unit);
        if word.owner() == me && matches!(word.state(), State::Slab | State::Retired) {
            self.make_homeless(unit, word);
        }
    }

    /// Makes `me` the home of a homeless slab of this class.
    pub(super) fn adopt(&self, me: ProcId, class: usize) -> Option<Slab> {
        if self.header().homeless.load(Ordering::Relaxed) & 1 << class == 0 {
            return None;
        }
        // Before the look at the words. Partner: `make_homeless` sets the bit after its word.
        self.header().homeless.fetch_and(!(1 << class), Ordering::SeqCst);
        for unit in 0..self.committed() {
            let word = self.unit_word_in_order(unit);
            let homeless = word.state() == State::Slab && word.owner() == ProcId::NONE && word.n() as usize == class;
            if homeless && self.unit_turns(unit, word, word.to(State::Slab, me)) {
                mark!("heap.slab.adopted");
                // There may be more of them.
                self.header().homeless.fetch_or(1 << class, Ordering::SeqCst);
                return Some(self.slab(unit, class));
            }
        }
        None
    }

    /// Takes each homeless slab for a moment; `gone` says whether it used it up, else it is put back.
    pub(super) fn each_homeless(&self, me: ProcId, mut gone: impl FnMut(Slab) -> bool) {
        if self.header().homeless.load(Ordering::Relaxed) == 0 {
            return;
        }
        for unit in 0..self.committed() {
            let word = self.unit_word_in_order(unit);
            let class = word.n() as usize;
            let mine = word.to(State::Slab, me);
            let homeless = word.state() == State::Slab && word.owner() == ProcId::NONE && class < classes::CLASSES;
            if homeless && self.unit_turns(unit, word, mine) && !gone(self.slab(unit, class)) {
                self.unit_turns(unit, mine, word);
                // SeqCst: after the word. Partner: `adopt` clears the bit before it looks at the words.
                self.header().homeless.fetch_or(1 << class, Ordering::SeqCst);
            }
        }
    }

    /// First step of giving an unused slab of `me` back.
    pub(super) fn retire(&self, me: ProcId, unit: u32) -> Option<Word> {
        let word = self.unit_word(unit);
        let retired = word.to(State::Retired, me);
        let ours = word.state() == State::Slab && word.owner() == me;
        // SeqCst: before the look at the flags in `leave_retirement`; partner: a scanner's flag.
        let turn = |from: Word, to: Word| {
            self.word(unit).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        (ours && turn(word, retired)).then_some(retired)
    }

    /// Second step: the unit is free, unless somebody might still read it as a slab.
    pub(super) fn leave_retirement(&self, unit: u32, retired: Word) -> bool {
        if self.ground.somebody_scans() {
            return false;
        }
        self.unit_turns(unit, retired, retired.ended());
        mark!("heap.slab.unit_freed");
        self.hint_free(unit);
        true
    }

    /// Reads a unit's word after the scanner's flag went up. SeqCst: partner of `retire`.
    fn unit_word_in_order(&self, unit: u32) -> Word {
        Word(self.word(unit).load(Ordering::SeqCst))
    }

    fn slab_behind(&self, unit: u32, word: Word) -> Option<Slab> {
        let class = word.n() as usize;
        (word.state() == State::Slab && class < classes::CLASSES).then(|| self.slab(unit, class))
    }
}
