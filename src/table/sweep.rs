//! Sweeps: taking out of every line what no checkpoint needs any more; and the end of a shard.

use super::desk::Desk;
use super::entry::{Entry, Slot};
use super::ground::Ground;
use super::pin::Cargo;
use super::read::Found;
use super::shard::Shard;
use super::write::How;
use crate::prim::{AtomicU64, Ordering};

impl<'t, G: Ground> Shard<'t, G> {
    /// Takes out what nobody sees from the floor on.
    pub(super) fn sweep(&self, how: &How, cargo: &mut Cargo) {
        let call = self.begin();
        let mut number = 0;
        // Lines that are born meanwhile have higher numbers, or keys that were swept already.
        while number < 1 << self.depth() {
            while self.level(number).is_some() && !self.sweep_line(&call.desk, number, how, cargo) {}
            number += 1;
        }
    }

    /// Whether nothing is left to be done in this line.
    fn sweep_line(&self, desk: &Desk<'t>, number: usize, how: &How, cargo: &mut Cargo) -> bool {
        if !self.claim_line(desk, number, None) {
            return false;
        }
        let mut past = None;
        for slot in self.slots(number) {
            if let Some(newest) = self.held(slot) {
                self.prune(desk, newest, how, cargo);
                past = past.or(self.is_over(&newest, how).then_some((slot, newest)));
            }
        }
        match past {
            Some((slot, only)) => self.clear(desk, number, slot, only, cargo),
            None => self.release(desk, number),
        }
        past.is_none()
    }

    /// The entry of a slot in a line that is in our hands.
    fn held(&self, slot: &AtomicU64) -> Option<Found<'t, G>> {
        let slot = Slot(slot.load(Ordering::Relaxed)); // nobody else changes a claimed line
        let entry = if slot == Slot::EMPTY { None } else { Entry::at(self.ground, slot.spot()) }?;
        entry.head_for(slot).map(|head| Found { entry, head, form: entry.form() })
    }

    /// Whether a key is nothing but an entry that says so, or that nobody sees.
    fn is_over(&self, newest: &Found<'t, G>, how: &How) -> bool {
        let gone = newest.form.is_gone() && newest.entry.version() <= how.floor;
        (gone || how.is_past(newest)) && !newest.entry.older().is_some()
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
