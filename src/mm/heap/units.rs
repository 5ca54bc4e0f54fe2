//! Large blocks: runs of units, the first that fits from below, which is what reuses warm memory.
//!
//! A run is claimed by its first word, then by the words of its tail, which name their distance to the
//! first; it is freed in the reverse order. So the first word always says what the whole is, and the
//! tail of a half made run can be told from everybody else's.

use crate::id::ProcId;
use crate::mm::error::MemError;
use crate::mm::heap::Heap;
use crate::mm::heap::word;
use crate::mm::heap::word::State;
use crate::mm::heap::word::Word;
use crate::mm::layout;
use crate::prim::Ordering;

/// Committing grows by as much as there is already, between these.
const STRETCH_MIN: u32 = (256 << 10) / layout::UNIT as u32;
const STRETCH_MAX: u32 = (2 << 20) / layout::UNIT as u32;

/// How far a search may go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::mm) enum Reach {
    /// Only units that are committed already.
    Committed,
    /// All units of the heap.
    All,
}

/// Where a run could be.
struct Gap {
    first: u32,
    /// The search passed no free unit before it.
    is_lowest: bool,
}

impl Heap {
    /// Claims a run of `n` units for `me` and leaves its first word in the state `last`: the first unit
    /// and its generation. `None`: there is no such run within reach.
    pub(super) fn claim_as(
        &self,
        me: ProcId,
        n: u32,
        reach: Reach,
        last: State,
    ) -> Result<Option<(u32, u32)>, MemError> {
        loop {
            let hint = self.header().lowest_free.load(Ordering::Relaxed).min(self.units);
            let gap = match self.find(n, hint, reach) {
                Some(gap) => gap,
                None => match self.find(n, 0, reach) {
                    Some(gap) => Gap { is_lowest: false, ..gap },
                    None => return Ok(None),
                },
            };
            self.stretch(gap.first + n)?;
            if let Some(generation) = self.claim_at(me, gap.first, n, last) {
                if gap.is_lowest {
                    // Fails when a lower unit came free meanwhile, which is then the better hint.
                    let hints = &self.header().lowest_free;
                    let _ = hints.compare_exchange(hint, gap.first + n, Ordering::Relaxed, Ordering::Relaxed);
                }
                return Ok(Some((gap.first, generation)));
            }
        }
    }

    fn find(&self, n: u32, from: u32, reach: Reach) -> Option<Gap> {
        let committed = self.committed();
        let mut free = 0;
        let mut skipped = false;
        let mut unit = from;
        while unit < committed {
            let word = word::read(self.word(unit));
            if word.state() == State::Free {
                free += 1;
                unit += 1;
                if free == n {
                    return Some(Gap { first: unit - n, is_lowest: !skipped });
                }
            } else {
                skipped |= free > 0;
                free = 0;
                unit = unit.saturating_add(length(word));
            }
        }
        // Nobody has ever used what is not committed.
        let first = unit - free;
        let fits = u64::from(first) + u64::from(n) <= u64::from(self.units);
        (reach == Reach::All && fits).then_some(Gap { first, is_lowest: !skipped })
    }

    /// Makes the first `target` units usable.
    fn stretch(&self, target: u32) -> Result<(), MemError> {
        let have = self.committed();
        if target <= have {
            return Ok(());
        }
        let generous = (have + have.clamp(STRETCH_MIN, STRETCH_MAX)).min(self.units);
        let goal = generous.max(target);
        let goal = match self.commit_units(have, goal) {
            Err(_) if goal > target => self.commit_units(have, target).map(|()| target)?,
            other => other.map(|()| goal)?,
        };
        mark!("heap.stretch.committed");
        // Release: partner of the acquire in `committed`; the pages are there before anybody counts on them.
        let before = self.header().committed.fetch_max(goal, Ordering::AcqRel);
        self.ground.account(u64::from(goal.saturating_sub(before)) * layout::UNIT);
        Ok(())
    }

    /// Both the words and the units: the words first, which are few.
    fn commit_units(&self, from: u32, to: u32) -> Result<(), MemError> {
        let word_of = |unit: u32| layout::TABLE_AT + 8 * u64::from(unit);
        // The first page holds the header and is there from the start.
        let (low, high) = (word_of(from) / layout::PAGE * layout::PAGE, word_of(to).next_multiple_of(layout::PAGE));
        if high > layout::PAGE {
            self.ground.commit(low.max(layout::PAGE), high.min(self.first_unit))?;
        }
        self.ground.commit(self.offset_of_unit(from), self.offset_of_unit(to))
    }

    /// Claims exactly this run, unless somebody else has a part of it. Its generation.
    fn claim_at(&self, me: ProcId, first: u32, n: u32, last: State) -> Option<u32> {
        let head = word::read(self.word(first));
        if head.state() != State::Free {
            return None;
        }
        let (claiming, held) =
            (Word::new(State::Claiming, me, n, head.generation()), Word::new(last, me, n, head.generation()));
        if n == 1 {
            return word::swap(self.word(first), head, held).then(|| head.generation());
        }
        if !word::swap(self.word(first), head, claiming) {
            return None;
        }
        mark!("heap.claim.head");
        for distance in 1..n {
            if !self.claim_tail(me, first, distance) {
                mark!("heap.claim.lost");
                self.give_back_run(first, claiming, head);
                return None;
            }
            mark!("heap.claim.tail");
        }
        word::write(self.word(first), held);
        mark!("heap.claim.held");
        Some(head.generation())
    }

    fn claim_tail(&self, me: ProcId, first: u32, distance: u32) -> bool {
        let at = self.word(first + distance);
        let word = word::read(at);
        let tail = Word::new(State::Tail, me, distance, word.generation());
        word.state() == State::Free && word::swap(at, word, tail)
    }

    /// The end of freeing a run whose first word is `going`: by who frees it, or who recovers that one.
    pub(super) fn finish_freeing_run(&self, first: u32, going: Word) {
        self.give_back_run(first, going, going.ended());
    }

    /// Frees the tail from its end, as much as there is of it, then the first unit. The first word
    /// stays `now` until the last step, so that this can be done again from the start by somebody else.
    pub(super) fn give_back_run(&self, first: u32, now: Word, end: Word) {
        let n = now.n().min(self.units - first);
        for distance in (1..n).rev() {
            let at = self.word(first + distance);
            let word = word::read(at);
            if word.state() == State::Tail && word.n() == distance {
                word::swap(at, word, Word::free(word.generation()));
                mark!("heap.free.tail");
            }
        }
        // Only who owns the run, or recovers its owner, is here: nobody else changes this word.
        word::write(self.word(first), end);
        mark!("heap.free.head");
        self.header().lowest_free.fetch_min(first, Ordering::Relaxed);
    }

    /// Changes a slab's unit word; used by its home, or by who recovers that.
    pub(super) fn unit_turns(&self, unit: u32, from: Word, to: Word) -> bool {
        word::swap(self.word(unit), from, to)
    }

    /// What a unit is just now.
    pub(super) fn unit_word(&self, unit: u32) -> Word {
        word::read(self.word(unit))
    }

    /// Tells searchers that this unit is free.
    pub(super) fn hint_free(&self, unit: u32) {
        self.header().lowest_free.fetch_min(unit, Ordering::Relaxed);
    }
}

/// How many units to go on from a word that is not free. Only a hint: words change under the search.
fn length(word: Word) -> u32 {
    match word.state() {
        State::Claiming | State::Held | State::Object | State::Freeing => word.n().max(1),
        State::Free | State::Tail | State::Slab | State::Retired => 1,
    }
}
