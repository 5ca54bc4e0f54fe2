//! An array in shared memory that grows and never moves: rungs of growing length, each a given block.
//!
//! The first rung holds `2^base` elements. From there every octave (as many elements as there were before)
//! follows in one rung, and beyond some length in up to sixteen, so that no single step of growth has to clear much
//! memory. A rung's word is its block's name, written once by compare-and-swap: who loses gives its block back.

use super::ground::Ground;
use crate::id::ProcId;
use crate::mm::{Given, MemError};
use crate::prim::{AtomicU64, Ordering};

/// Up to this octave each has one rung.
const WHOLE_OCTAVES: u32 = 6;
/// Log2 of the most rungs of an octave.
const PARTS_MOST: u32 = 4;
const OCTAVES: usize = 32;

/// Number of the first rung of each octave.
const FIRST: [usize; OCTAVES + 1] = {
    let mut first = [1; OCTAVES + 1];
    let mut octave = 0;
    while octave < OCTAVES {
        first[octave + 1] = first[octave] + (1 << parts(octave as u32));
        octave += 1;
    }
    first
};

const fn parts(octave: u32) -> u32 {
    let parts = octave.saturating_sub(WHOLE_OCTAVES);
    if parts < PARTS_MOST { parts } else { PARTS_MOST }
}

/// A step of growth: the first rung, or the rungs of an octave.
#[derive(Clone, Copy)]
struct Step {
    /// The first element, in units of the first rung.
    start: usize,
    /// Its first rung.
    rung: usize,
    /// Log2 of the elements of each of its rungs, in units of the first rung.
    wide: u32,
}

/// By step, so that finding an element takes no branch; those beyond the last octave have no rungs.
const STEPS: [Step; 64] = {
    let mut steps = [Step { start: 0, rung: 0, wide: 0 }; 64];
    let mut octave = 0;
    while octave < 63 {
        let wide = octave as u32 - parts(octave as u32);
        let rung = if octave < OCTAVES { FIRST[octave] } else { usize::MAX / 2 };
        steps[octave + 1] = Step { start: 1 << octave, rung, wide };
        octave += 1;
    }
    steps
};

/// What a ladder holds, and how many.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Log2 of the elements of the first rung.
    pub(super) base: u32,
    /// Words of an element.
    pub(super) words: usize,
    /// Log2 of the most elements.
    pub(super) most: u32,
}

impl Shape {
    /// Words that name the rungs.
    pub(super) const fn rungs(self) -> usize {
        FIRST[(self.most - self.base) as usize]
    }
}

/// Where an element is.
struct Place {
    rung: usize,
    at: usize,
    /// Elements of the rung.
    len: usize,
}

/// A ladder as this process sees it.
pub(super) struct Ladder<'t, G> {
    ground: &'t G,
    rungs: &'t [AtomicU64],
    shape: Shape,
}

impl<'t, G: Ground> Ladder<'t, G> {
    #[inline]
    pub(super) fn new(ground: &'t G, rungs: &'t [AtomicU64], shape: Shape) -> Ladder<'t, G> {
        Ladder { ground, rungs, shape }
    }

    #[inline(always)]
    fn place(&self, index: usize) -> Place {
        let base = self.shape.base;
        // 0 for the first rung, else one more than the octave.
        let step = STEPS[(index >> base << 1 | 1).ilog2() as usize % STEPS.len()];
        let (within, shift) = (index.wrapping_sub(step.start << base), base + step.wide);
        Place { rung: step.rung + (within >> shift), at: within & ((1 << shift) - 1), len: 1 << shift }
    }

    /// Most elements there can be.
    pub(super) fn most(&self) -> usize {
        1 << self.shape.most
    }

    /// The words of an element, if its rung is there.
    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> Option<&'t [AtomicU64]> {
        let place = self.place(index);
        // Acquire: pairs with `ensure`; the rung is cleared.
        let given = Given::from_word(self.rungs.get(place.rung)?.load(Ordering::Acquire))?;
        let words = self.shape.words;
        self.ground.words(given.spot() + (place.at * words) as u64, words)
    }

    /// The words of an element; makes its rung if need be.
    pub(super) fn ensure(&self, index: usize) -> Result<&'t [AtomicU64], MemError> {
        if let Some(words) = self.get(index) {
            return Ok(words);
        }
        let place = self.place(index);
        let words = place.len * self.shape.words;
        let (block, given) = self.ground.make(words * size_of::<u64>())?;
        let gone = MemError::BadHandle { why: "a table's block is not where it was" };
        for word in self.ground.words(given.spot(), words).unwrap_or_default() {
            word.store(0, Ordering::Relaxed);
        }
        mark!("table.rung.made");
        // Release: pairs with `get`.
        let named = self.rungs[place.rung].compare_exchange(0, given.word(), Ordering::AcqRel, Ordering::Acquire);
        if named.is_ok() {
            mark!("table.rung.named");
            self.ground.give(block);
            mark!("table.rung.given");
        }
        self.get(index).ok_or(gone)
    }

    /// The rungs that are there, with how many elements each has.
    pub(super) fn each_rung(&self) -> impl Iterator<Item = (Given, usize)> {
        // Acquire: pairs with `ensure`.
        let given = |rung: &AtomicU64| Given::from_word(rung.load(Ordering::Acquire));
        self.rungs.iter().enumerate().filter_map(move |(at, rung)| Some((given(rung)?, self.len_of(at))))
    }

    fn len_of(&self, rung: usize) -> usize {
        let octave = FIRST.iter().rposition(|first| *first <= rung);
        octave.map_or(1 << self.shape.base, |octave| 1 << (self.shape.base + octave as u32 - parts(octave as u32)))
    }

    /// Rungs that the dead had named and not given yet belong to the table.
    pub(super) fn repair(&self, dead: ProcId) {
        self.each_rung().for_each(|(given, _)| self.ground.give_for(given, dead));
    }

    /// Gives all rungs back to the memory. Nobody has the table open any more.
    pub(super) fn bury(&self) {
        for rung in self.rungs {
            // Acquire: pairs with `ensure`.
            if let Some(given) = Given::from_word(rung.load(Ordering::Acquire)) {
                drop(self.ground.take_back(given));
                mark!("table.bury.rung");
            }
        }
    }
}
