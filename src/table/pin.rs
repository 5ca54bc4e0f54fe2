//! Pins: entries that readers hold in place, for as long as they like.
//!
//! A reader writes the entry's spot into a pin, with its process, and then marks the head as pinned, which fails if the
//! entry is leaving. Who takes an entry out of the table makes it leaving and then, if it was ever pinned, looks at
//! the pins. All these steps are in one total order (SeqCst), so one of the two sees the other. An entry that is
//! pinned is retired: whoever unpins it last frees it. A pin is not cleared before it has been seen to that: until then
//! it says that it is leaving, and holds nothing. The pins of a process that died are cleared by the repair of its
//! death, in the same way.

use super::TableError;
use super::desk::{Change, Desk};
use super::entry::{Entry, Head, Name, State};
use super::ground::Ground;
use super::ladder::Ladder;
use super::layout::{PIN_RUNGS, PINS, PINS_HIGH, pin};
use super::read::{Key, View};
use super::shard::Shard;
use crate::id::ProcId;
use crate::mm::{Given, MemError};
use crate::prim::{AtomicU64, Ordering};

/// The pins of a shard.
pub(super) struct Pins<'t, G> {
    ladder: Ladder<'t, G>,
    high: &'t AtomicU64,
}

/// A pin as it stands in its word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark(u64);

impl Mark {
    fn new(spot: u64, head: Head, process: ProcId) -> Mark {
        let process = pin::PROCESS.put(u64::from(process.0));
        Mark(pin::SPOT.put(spot) | process | pin::GENERATION.put(head.generation()))
    }

    /// The same, holding nothing any more.
    fn leaving(self) -> Mark {
        Mark(self.0 | pin::LEAVING.mask())
    }

    fn process(self) -> ProcId {
        ProcId(pin::PROCESS.get(self.0) as u16)
    }

    fn spot(self) -> u64 {
        pin::SPOT.get(self.0)
    }

    /// Whether it holds the life of this entry that the head is of.
    fn holds(self, spot: u64, head: Head) -> bool {
        self == Mark::new(spot, head, self.process())
    }

    /// Whether it holds, or held until now, the life of this entry that the head is of.
    fn is_of(self, spot: u64, head: Head) -> bool {
        self.leaving() == Mark::new(spot, head, self.process()).leaving()
    }
}

impl<'t, G: Ground> Pins<'t, G> {
    pub(super) fn of(ground: &'t G, words: &'t [AtomicU64]) -> Pins<'t, G> {
        let rungs = &words[PIN_RUNGS..PIN_RUNGS + PINS.rungs()];
        Pins { ladder: Ladder::new(ground, rungs, PINS), high: &words[PINS_HIGH] }
    }

    pub(super) fn ladder(&self) -> &Ladder<'t, G> {
        &self.ladder
    }

    fn all(&self) -> impl Iterator<Item = &'t AtomicU64> {
        // SeqCst: one total order with the raising of the mark in `take`.
        let high = self.high.load(Ordering::SeqCst) as usize;
        (0..high).filter_map(|index| self.ladder.get(index)?.first())
    }

    /// Writes a pin. It holds when the head has been found, or made, pinned afterwards.
    fn take(&self, mark: Mark) -> Result<(usize, &'t AtomicU64), MemError> {
        let most = self.ladder.most();
        for index in 0..most {
            let word = &self.ladder.ensure(index)?[0];
            if word.load(Ordering::Relaxed) != 0 {
                continue;
            }
            // SeqCst, both: pairs with `all`. First, so that whoever looks at the pins, or mends them, sees this one.
            if self.high.load(Ordering::SeqCst) <= index as u64 {
                self.high.fetch_max(index as u64 + 1, Ordering::SeqCst);
            }
            // SeqCst: before the look at the head; pairs with `is_pinned`.
            if word.compare_exchange(0, mark.0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                mark!("table.pin.written");
                return Ok((index, word));
            }
        }
        Err(MemError::TooManyHolds { most: most as u32 })
    }

    /// Whether some reader holds this life of an entry.
    fn is_pinned(&self, spot: u64, head: Head) -> bool {
        // SeqCst: after the head was made leaving, or retired; pairs with `take` and `unpin`.
        self.all().any(|word| Mark(word.load(Ordering::SeqCst)).holds(spot, head))
    }
}

/// What a reader holds in place. To be given back to [`Shard::unpin`].
pub(super) struct Pin<'t> {
    pub(super) entry: Entry<'t>,
    pub(super) head: Head,
    word: &'t AtomicU64,
    /// The number of its pin.
    at: usize,
}

/// What a reader holds in place for longer than a call.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(super) shard: usize,
    at: usize,
    entry: u64,
    head: Head,
    /// Where the value is.
    pub(super) spot: u64,
    pub(super) len: usize,
}

/// The entries that were freed and kept other objects alive: those can be let go.
pub(crate) type Cargo = Vec<Name>;

impl<'t, G: Ground> Shard<'t, G> {
    pub(super) fn pins(&self) -> Pins<'t, G> {
        Pins::of(self.ground, self.words)
    }

    /// Holds an entry in place, if it still is the life that the head is of and the table refers to it.
    pub(super) fn pin(&self, entry: Entry<'t>, head: Head, cargo: &mut Cargo) -> Result<Option<Pin<'t>>, MemError> {
        let (at, word) = self.pins().take(Mark::new(entry.spot, head, self.ground.me()))?;
        loop {
            // SeqCst: after the pin; pairs with `leave`.
            let now = Head(entry.word().load(Ordering::SeqCst));
            if now.state() != State::Live || now.generation() != head.generation() {
                self.unpin(Pin { entry, head, word, at }, cargo);
                return Ok(None);
            }
            let marked = || entry.word().compare_exchange(now.0, now.pinned().0, Ordering::SeqCst, Ordering::SeqCst);
            if now.is_pinned() || marked().is_ok() {
                mark!("table.pin.held");
                return Ok(Some(Pin { entry, head: now.pinned(), word, at }));
            }
        }
    }

    /// Lets go of an entry, and frees it if it waited for that.
    pub(super) fn unpin(&self, pin: Pin<'t>, cargo: &mut Cargo) {
        let leaving = Mark::new(pin.entry.spot, pin.head, self.ground.me()).leaving();
        pin.word.swap(leaving.0, Ordering::SeqCst); // before the look at the head; pairs with `leave`
        mark!("table.pin.leaving");
        self.free_if_retired(pin.entry, pin.head, cargo);
        pin.word.store(0, Ordering::Release); // pairs with `take`
        mark!("table.pin.cleared");
    }

    /// After a pin on this life of the entry was cleared.
    fn free_if_retired(&self, entry: Entry<'t>, head: Head, cargo: &mut Cargo) {
        // SeqCst: after the pin was cleared; pairs with `leave`.
        let now = Head(entry.word().load(Ordering::SeqCst));
        if now.state() != State::Retired || now.generation() != head.generation() {
            return;
        }
        let desk = self.desk();
        desk.note_old(entry.name(now));
        let leaving = now.to(State::Leaving, desk.claim());
        if entry.word().compare_exchange(now.0, leaving.0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            mark!("table.pin.last");
            self.leave(&desk, entry, leaving, cargo);
        }
        desk.close(Change::default());
    }

    /// Holds the entry of a key in place.
    pub(super) fn pin_key(&self, key: &Key<'_>, view: View, cargo: &mut Cargo) -> Result<Option<Pinned>, TableError> {
        loop {
            let Some(found) = self.find(key, view) else { return Ok(None) };
            let Some(pin) = self.pin(found.entry, found.head, cargo)? else { continue };
            let form = found.form;
            let value =
                if form.is_large() { pin.entry.large(form).map(Given::spot) } else { Some(pin.entry.value_spot(form)) };
            let spot = value.ok_or(TableError::damaged("a value is not where it was"))?;
            let (head, entry, at) = (pin.head, pin.entry.spot, pin.at);
            return Ok(Some(Pinned { shard: self.number, at, entry, head, spot, len: form.value() }));
        }
    }

    /// Lets go of it.
    pub(super) fn unpin_key(&self, pinned: &Pinned, cargo: &mut Cargo) {
        if let (Some(entry), Some(word)) =
            (Entry::at(self.ground, pinned.entry), self.pins().ladder.get(pinned.at).and_then(|words| words.first()))
        {
            self.unpin(Pin { entry, head: pinned.head, word, at: pinned.at }, cargo);
        }
    }

    /// Takes the life of an entry that nothing in the table refers to any more out of use.
    #[inline]
    pub(super) fn retire(&self, desk: &Desk<'t>, name: Name, cargo: &mut Cargo) {
        if let Some(entry) = Entry::at(self.ground, name.spot()) {
            self.retire_entry(desk, entry, name, cargo);
        }
    }

    #[inline]
    pub(super) fn retire_entry(&self, desk: &Desk<'t>, entry: Entry<'t>, name: Name, cargo: &mut Cargo) {
        loop {
            let now = entry.head();
            if now.state() != State::Live || !name.means(now) {
                return;
            }
            let leaving = now.to(State::Leaving, desk.claim());
            // SeqCst: before the look at the pins; pairs with `pin`.
            if entry.word().compare_exchange(now.0, leaving.0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                mark!("table.entry.leaving");
                return self.leave(desk, entry, leaving, cargo);
            }
        }
    }

    /// Frees an entry that is leaving in the hands of this desk, or leaves that to its last reader.
    #[inline]
    pub(super) fn leave(&self, desk: &Desk<'t>, entry: Entry<'t>, leaving: Head, cargo: &mut Cargo) {
        let (retired, name) = (leaving.to(State::Retired, 0), entry.name(leaving));
        let is_pinned = || leaving.is_pinned() && self.pins().is_pinned(entry.spot, leaving);
        loop {
            if !is_pinned() {
                if !self.keep_as_spare(desk, entry, leaving) && self.free_block(entry, leaving) {
                    cargo.push(name);
                }
                return;
            }
            entry.word().store(retired.0, Ordering::SeqCst); // before another look at the pins; pairs with `unpin`
            mark!("table.entry.retired");
            let again = || entry.word().compare_exchange(retired.0, leaving.0, Ordering::SeqCst, Ordering::SeqCst);
            if is_pinned() || again().is_err() {
                return;
            }
        }
    }

    /// Clears the pins of a dead process, and frees what only they held.
    pub(super) fn mend_pins(&self, dead: ProcId) {
        for word in self.pins().all() {
            let pinned = Mark(word.load(Ordering::SeqCst)); // pairs with `take`
            if pinned.0 == 0 || pinned.process() != dead {
                continue;
            }
            let Some(entry) = Entry::at(self.ground, pinned.spot()) else { continue };
            let head = entry.head();
            word.swap(pinned.leaving().0, Ordering::SeqCst); // as in `unpin`
            mark!("table.repair.pin_leaving");
            if pinned.is_of(entry.spot, head) {
                // Holds without a reason are found by the sweep that comes after.
                self.free_if_retired(entry, head, &mut Cargo::new());
            }
            word.store(0, Ordering::Release); // as in `unpin`
            mark!("table.repair.pin_cleared");
        }
    }
}
