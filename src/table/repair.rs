//! After a death: what the dead had noted at its desks is finished or undone, and what it held is let go.
//!
//! Every step can be done again by the next who repairs, should this one die too.

use super::desk::Desk;
use super::entry::{Entry, Name, Slot, State};
use super::ground::Ground;
use super::pin::Cargo;
use super::shard::Shard;
use crate::id::ProcId;
use crate::prim::Ordering;

impl<'t, G: Ground> Shard<'t, G> {
    /// Mends the shard. Holds of what was freed are left without a reason, for the sweep that comes after.
    pub(super) fn repair(&self, dead: ProcId) {
        self.lines().repair(dead);
        self.extras().repair(dead);
        self.pages().repair(dead);
        self.pins().ladder().repair(dead);
        mark!("table.repair.rungs_given");
        for desk in self.desks_of(dead) {
            self.mend_desk(&desk, dead);
        }
        self.mend_pins(dead);
    }

    fn mend_desk(&self, desk: &Desk<'t>, dead: ProcId) {
        self.mend_page(desk, dead);
        let (new, old) = (desk.new_entry(), desk.old_entry());
        let line = desk.line().and_then(|number| self.line(number)).filter(|line| line.level().is_some());
        if let Some(line) = line
            && line.is_claimed_at(desk)
        {
            self.finish_split(desk, line);
        }
        mark!("table.repair.split_finished");
        // As long as the line is claimed nobody else can have changed what decides.
        let change = desk.change().and_then(|(change, done)| {
            let happened = done || if old.is_some() { !self.refers_to(old) } else { self.refers_to(new) };
            happened.then_some(change)
        });
        let change = change.unwrap_or_default();
        desk.note_change(change, true);
        mark!("table.repair.decided");
        if let Some(line) = line.filter(|line| line.is_claimed_at(desk)) {
            self.release(desk, line);
        }
        self.drop_taken(desk);
        for name in [new, old] {
            self.settle(desk, name);
        }
        // Last, since it notes an entry as old itself.
        self.drop_spare(desk);
        mark!("table.repair.settled");
        desk.close(change);
    }

    /// Frees an entry that a desk has noted, if the table does not refer to it.
    fn settle(&self, desk: &Desk<'t>, name: Name) {
        let Some(entry) = name.is_some().then(|| Entry::at(self.ground, name.spot())).flatten() else { return };
        let head = entry.head();
        if !name.means(head) {
            return;
        }
        // Holds without a reason are found by the sweep that comes after.
        let mut cargo = Cargo::new();
        match head.state() {
            State::Live if !self.refers_to(name) => self.retire(desk, name, &mut cargo),
            State::Leaving if head.claim() == desk.claim() => self.leave(desk, entry, head, &mut cargo),
            _ => {}
        }
    }

    /// Whether the table refers to an entry.
    pub(super) fn refers_to(&self, name: Name) -> bool {
        let Some(entry) = name.is_some().then(|| Entry::at(self.ground, name.spot())).flatten() else { return false };
        let head = entry.head();
        if !name.means(head) || head.state() != State::Live {
            return false;
        }
        let hash = u64::from(entry.hash());
        loop {
            let line = self.route(hash);
            // Acquire: pairs with the publication of a slot.
            let slots = self.slots(line).map(|slot| Slot(slot.load(Ordering::Acquire)));
            let found = slots.filter(|slot| *slot != Slot::EMPTY).any(|slot| self.leads_to(slot, name));
            if found || self.is_routed_to(line, hash) {
                return found;
            }
        }
    }

    fn leads_to(&self, slot: Slot, name: Name) -> bool {
        let mut next = Entry::at(self.ground, slot.spot());
        while let Some(entry) = next {
            let head = entry.head();
            if entry.spot == name.spot() {
                return name.means(head);
            }
            let older = entry.older(entry.form());
            let on = older.is_some() && head.state() == State::Live && entry.is_still(head);
            next = if on { Entry::at(self.ground, older.spot()) } else { None };
        }
        false
    }

    /// Whether an entry with this name is still there for somebody: the reason of what it keeps alive.
    pub(super) fn is_there(&self, name: Name) -> bool {
        let entry = name.is_some().then(|| Entry::at(self.ground, name.spot())).flatten();
        entry.is_some_and(|entry| {
            let head = entry.head();
            name.means(head) && head.state() != State::Free
        })
    }
}
