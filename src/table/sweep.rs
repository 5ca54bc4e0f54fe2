//! Sweeps: taking out of every line what no checkpoint needs any more; and the end of a shard.

use super::desk::Desk;
use super::entry::Slot;
use super::ground::Ground;
use super::line::Line;
use super::pin::Cargo;
use super::read::Found;
use super::shard::Shard;
use super::write::How;
use crate::prim::{AtomicU64, Ordering};

impl<'t, G: Ground> Shard<'t, G> {
    /// Takes out what nobody sees from the floor on; or everything.
    pub(super) fn sweep(&self, how: &How, all: bool, cargo: &mut Cargo) {
        let call = self.begin();
        let mut number = 0;
        // Lines that are born meanwhile have higher numbers, or keys that were swept already.
        while number < 1 << self.depth() {
            while let Some(line) = self.line(number).filter(|line| line.level().is_some())
                && !self.sweep_line(&call.desk, line, how, all, cargo)
            {}
            number += 1;
        }
    }

    /// Whether nothing is left to be done in this line.
    fn sweep_line(&self, desk: &Desk<'t>, line: Line<'t>, how: &How, all: bool, cargo: &mut Cargo) -> bool {
        if !self.claim_this(desk, line) {
            return false;
        }
        let mut past = None;
        for slot in self.slots(line) {
            if let Some(newest) = self.held(slot) {
                self.prune(desk, newest, how, cargo);
                past = past.or((all || self.is_over(&newest, how)).then_some((slot, newest)));
            }
        }
        match past {
            Some((slot, only)) => self.clear(desk, line, slot, only, cargo),
            None => self.release(desk, line),
        }
        past.is_none()
    }

    /// The first line from `from` on with a key that was put at a checkpoint for itself, and of which nothing is said
    /// at the next. Only to be believed if nobody writes at either.
    pub(super) fn lacking(&self, from: usize, at: u32) -> Option<usize> {
        (from..1 << self.depth()).find(|number| {
            let line = self.line(*number).filter(|line| line.level().is_some());
            line.is_some_and(|line| self.slots(line).any(|slot| self.lacks(slot, at)))
        })
    }

    fn lacks(&self, slot: &AtomicU64, at: u32) -> bool {
        loop {
            let now = Slot(slot.load(Ordering::Acquire)); // pairs with the publication of a slot
            if now == Slot::EMPTY {
                return false;
            }
            let (mut next, mut there, mut follows) = (self.held(slot), false, false);
            while let Some(found) = next {
                let version = found.entry.version();
                there |= version == at && !found.form.is_kept();
                follows |= version == at + 1;
                next = if found.entry.is_still(found.head) { self.older(&found) } else { None };
            }
            if Slot(slot.load(Ordering::Acquire)) == now {
                return there && !follows;
            }
        }
    }

    /// Whether a key is nothing but an entry that says so, or that nobody sees.
    fn is_over(&self, newest: &Found<'t>, how: &How) -> bool {
        let gone = newest.form.is_gone() && newest.entry.version() <= how.floor;
        (gone || how.is_past(newest)) && !newest.entry.older(newest.form).is_some()
    }

    /// Gives everything back. Nobody has the table open any more.
    pub(super) fn bury(&self) {
        self.bury_pages();
        for ladder in [self.lines(), self.extras(), self.pages()] {
            ladder.bury();
        }
        self.pins().ladder().bury();
    }
}
