//! Who of the copies of a manager acts, and what that asks for before: what one place knows, and what follows from it.
//!
//! The copies of a manager are at the first `n + 1` places that are not lost, counted round the ring from its own; the first of
//! them acts. The set of lost places only grows. Whoever finds itself first because others are lost tells the set to all that
//! are left before it acts: what a lost place still sends is refused from then on, and since a write is answered only
//! when all other copies have it, none of a deposed place ever is. A write comes to the copies from the last in the ring to
//! the next, so that whoever takes over shows nothing that those behind it lack. `model/` goes through all that can happen to
//! small worlds.
//!
//! Not so of reads: a place that is cut off and has not noticed yet may show what is old.

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

/// How places and managers are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ring {
    /// At most 64: they are the bits of a set.
    pub(crate) places: usize,
    /// Of each place.
    pub(crate) managers: usize,
    /// Copies of each manager beside its own.
    pub(crate) replicas: usize,
}

impl Ring {
    /// How many places may have a copy of a manager, counted from its own.
    pub(crate) fn roles(self) -> usize {
        if self.replicas == 0 { 1 } else { self.places.min(2 * self.replicas + 1) }
    }

    /// The place that a manager has while nothing is lost.
    pub(crate) fn own(self, manager: u32) -> usize {
        manager as usize / self.managers
    }

    fn all(self) -> std::ops::Range<u32> {
        0..(self.places * self.managers) as u32
    }

    /// The places of a manager's copies, of which the first acts, if these are lost.
    pub(crate) fn copies(self, manager: u32, lost: u64) -> Vec<usize> {
        let own = self.own(manager);
        let ring = (0..self.roles()).map(|role| (own + role) % self.places).filter(|place| !has(lost, *place));
        ring.take(self.replicas + 1).collect()
    }
}

fn has(set: u64, place: usize) -> bool {
    set >> place & 1 == 1
}

/// What a place has to do before it acts for a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It acts.
    Nothing,
    /// This one is before it in the ring: is it lost?
    Agree(usize),
    /// This one has not heard which are lost.
    Tell(usize),
}

/// Why a place does not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too few agree with it: others may have gone on without it.
    Alone,
    /// All copies are lost, or the only one left is not full.
    Gone,
    /// Who calls counts as lost.
    Deposed,
}

/// What came of asking others whether a place is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Lost,
    /// It can be reached from here.
    Reachable,
    /// This place finds too few that agree, and must not be used any more.
    Alone,
}

/// What a place knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    ring: Ring,
    place: usize,
    lost: u64,
    /// Who knows that these are lost.
    heard: u64,
    alone: bool,
    /// Managers of which the copy here is full.
    full: BTreeSet<u32>,
    /// Copies elsewhere that were full from the start, or that this place has filled.
    filled: BTreeSet<(u32, usize)>,
}

impl Standing {
    /// While nothing is lost.
    pub(crate) fn new(ring: Ring, place: usize) -> Standing {
        let at = |manager: u32| ring.copies(manager, 0).into_iter().map(move |to| (manager, to));
        let filled: BTreeSet<(u32, usize)> = ring.all().flat_map(at).collect();
        let full = filled.iter().filter(|(_, to)| *to == place).map(|(manager, _)| *manager).collect();
        Standing { ring, place, lost: 0, heard: 0, alone: false, full, filled }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    pub(crate) fn is_lost(&self, place: usize) -> bool {
        has(self.lost, place)
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether it may act for a manager at once.
    pub(crate) fn acts(&self, manager: u32) -> bool {
        self.need(manager) == Ok(Need::Nothing)
    }

    /// What it has to do next so that it may act for a manager.
    pub(crate) fn need(&self, manager: u32) -> Result<Need, Refusal> {
        if self.alone {
            return Err(Refusal::Alone);
        }
        match self.ring.copies(manager, self.lost).first() {
            None => return Err(Refusal::Gone),
            Some(first) if *first != self.place => return Ok(Need::Agree(*first)),
            Some(_) => {}
        }
        if let Some(place) = self.to_tell() {
            return Ok(Need::Tell(place));
        }
        if self.full.contains(&manager) { Ok(Need::Nothing) } else { Err(Refusal::Gone) }
    }

    /// The next that is to be told which are lost.
    pub(crate) fn to_tell(&self) -> Option<usize> {
        let knows = |place: &usize| *place == self.place || has(self.lost | self.heard, *place);
        if self.lost == 0 { None } else { (0..self.ring.places).find(|place| !knows(place)) }
    }

    /// A place has been told that these are lost.
    pub(crate) fn told(&mut self, place: usize, lost: u64) {
        if lost == self.lost {
            self.heard |= 1 << place;
        }
    }

    /// Nodes were asked whether the node of a place is lost to them: of those that are `left`, in order, these agree. `me` is
    /// the node of this place.
    pub(crate) fn judge(&mut self, place: usize, left: &[u32], votes: &[u32], me: u32) -> Verdict {
        if self.is_lost(place) {
            return Verdict::Lost;
        }
        if !votes.contains(&me) {
            return Verdict::Reachable;
        }
        let half = 2 * votes.len() == left.len() && votes.contains(left.first().unwrap_or(&0));
        if 2 * votes.len() > left.len() || half {
            self.grow(self.lost | 1 << place);
            return Verdict::Lost;
        }
        self.alone = true;
        Verdict::Alone
    }

    fn grow(&mut self, lost: u64) {
        if lost != self.lost {
            (self.lost, self.heard) = (lost, 0);
        }
    }

    /// Another place calls, and says which are lost.
    pub(crate) fn adopt(&mut self, from: usize, lost: u64) -> Result<(), Refusal> {
        if self.is_lost(from) {
            return Err(Refusal::Deposed);
        }
        if has(lost, self.place) {
            self.alone = true;
            return Err(Refusal::Alone);
        }
        self.grow(self.lost | lost);
        // It knows them, unless this place knows of more.
        self.told(from, lost);
        Ok(())
    }

    /// The other places that a write of a manager goes to, before it is done here and answered.
    pub(crate) fn followers(&self, manager: u32) -> impl Iterator<Item = usize> {
        let (here, copies) = (self.place, self.ring.copies(manager, self.lost));
        copies.into_iter().filter(move |place| *place != here)
    }

    /// All other places, in the order in which they get a write: the next in the ring last. It acts next, and what it has then
    /// all behind it have too.
    pub(crate) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (place, places) = (self.place, self.ring.places);
        (1..places).rev().map(move |step| (place + step) % places)
    }

    /// The copy of a manager here has been filled.
    pub(crate) fn is_full_now(&mut self, manager: u32) {
        self.full.insert(manager);
    }

    /// Copies that are to be filled, of managers that this place acts for.
    pub(crate) fn to_fill(&self) -> Vec<(u32, usize)> {
        let mine = |manager: &u32| self.ring.copies(*manager, self.lost).first() == Some(&self.place);
        let copies = |manager: u32| self.followers(manager).map(move |to| (manager, to)).collect::<Vec<_>>();
        let all = self.ring.all().filter(mine).flat_map(copies);
        all.filter(|copy| !self.filled.contains(copy)).collect()
    }

    /// This place has filled a copy.
    pub(crate) fn filled(&mut self, manager: u32, to: usize) {
        self.filled.insert((manager, to));
    }
}
