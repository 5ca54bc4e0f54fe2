//! Lines: where a key's slot is found, who may change it, and how there come to be more of them.
//!
//! A key belongs to the line that the lowest bits of its hash number: so many of them as the line's level says.
//! A line is split by bearing the line whose number has one more bit: entries whose hash has that bit move there.
//! Lines are split when a call that writes comes past them, so growth is spread over all of them, and
//! readers never wait: who finds nothing looks whether the line it should have looked in was born meanwhile.
//!
//! Who changes the slots of a line has claimed it, in the line's first word. In a split the young line is
//! invisible until it is whole; it is born in the hands of who splits, and free only when the slots that moved are
//! cleared. If that process dies, the words alone tell how far it came: a young line that is not born is
//! nothing; one that is born has everything it shall have, and the old line is cleared by whoever mends it.

use super::TableError;
use super::desk::Desk;
use super::entry::{Entry, Slot};
use super::ground::Ground;
use super::layout::{DEPTH, EXTRAS_NEXT, FIRST_DEPTH, HELPED, LINE, LINES, LOAD, control};
use super::shard::Shard;
use crate::prim::{AtomicU64, Ordering};

/// A line's first word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Control(u64);

impl Control {
    fn born(level: u32, claim: u64, link: u64) -> Control {
        let level = control::LEVEL.put(u64::from(level));
        Control(control::BORN.mask() | level | control::CLAIM.put(claim) | control::LINK.put(link))
    }

    #[inline]
    fn is_born(self) -> bool {
        control::BORN.get(self.0) != 0
    }

    #[inline]
    fn level(self) -> u32 {
        control::LEVEL.get(self.0) as u32
    }

    #[inline]
    fn claim(self) -> u64 {
        control::CLAIM.get(self.0)
    }

    #[inline]
    fn with_claim(self, claim: u64) -> Control {
        Control(control::CLAIM.set(self.0, claim))
    }

    fn with_level(self, level: u32) -> Control {
        Control(control::LEVEL.set(self.0, u64::from(level)))
    }

    /// The first extra line, + 1.
    #[inline]
    fn link(self) -> u64 {
        control::LINK.get(self.0)
    }

    fn with_link(self, link: u64) -> Control {
        Control(control::LINK.set(self.0, link))
    }

    /// Whether a key with this hash belongs here.
    #[inline]
    fn owns(self, number: usize, hash: u64) -> bool {
        hash as usize & ((1 << self.level()) - 1) == number
    }
}

/// The line whose splitting bears this one.
#[inline]
fn parent(number: usize) -> usize {
    number & !(1 << number.max(1).ilog2())
}

/// The slots of a line and of those linked to it.
pub(super) struct Slots<'t, G> {
    shard: Shard<'t, G>,
    words: Option<&'t [AtomicU64; LINE]>,
    at: usize,
    /// Whether this is the line itself, which has its link among other things.
    first: bool,
}

impl<'t, G: Ground> Iterator for Slots<'t, G> {
    type Item = &'t AtomicU64;

    #[inline]
    fn next(&mut self) -> Option<&'t AtomicU64> {
        let words = self.words?;
        if self.at < LINE {
            self.at += 1;
            return Some(&words[self.at - 1]);
        }
        self.next_line()
    }
}

impl<'t, G: Ground> Slots<'t, G> {
    fn next_line(&mut self) -> Option<&'t AtomicU64> {
        // Acquire: pairs with `append`.
        let word = self.words?[0].load(Ordering::Acquire);
        let link = if self.first { Control(word).link() } else { word };
        let words = self.shard.extra(link);
        (self.words, self.at, self.first) = (words, 2, false);
        words.map(|words| &words[1])
    }
}

impl<'t, G: Ground> Shard<'t, G> {
    /// The first lines of a new shard.
    pub(super) fn lay_first_lines(&self) -> Result<(), TableError> {
        for number in 0..1 << FIRST_DEPTH {
            self.lines().ensure(number)?[0].store(Control::born(FIRST_DEPTH, 0, 0).0, Ordering::Relaxed);
        }
        self.word(DEPTH).store(u64::from(FIRST_DEPTH), Ordering::Release); // pairs with `depth`
        Ok(())
    }

    #[inline]
    fn line(&self, number: usize) -> Option<&'t [AtomicU64; LINE]> {
        self.lines().get(number)?.first_chunk()
    }

    #[inline]
    fn extra(&self, link: u64) -> Option<&'t [AtomicU64; LINE]> {
        self.extras().get((link as usize).checked_sub(1)?)?.first_chunk()
    }

    /// Acquire: pairs with every change of a control; of a line that is born all slots are seen.
    #[inline]
    fn control(&self, number: usize) -> Control {
        Control(self.line(number).map_or(0, |line| line[0].load(Ordering::Acquire)))
    }

    fn set_control(&self, number: usize, control: Control) {
        if let Some(line) = self.line(number) {
            line[0].store(control.0, Ordering::Release); // pairs with `control`
        }
    }

    /// The line that a hash belongs to now.
    #[inline]
    pub(super) fn route(&self, hash: u64) -> usize {
        let mut number = hash as usize & ((1 << self.depth()) - 1);
        while number >> FIRST_DEPTH != 0 && !self.control(number).is_born() {
            number = parent(number);
        }
        number
    }

    /// The slots of a line. Nobody but who has claimed it changes them.
    #[inline]
    pub(super) fn slots(&self, number: usize) -> Slots<'t, G> {
        Slots { shard: *self, words: self.line(number), at: 1, first: true }
    }

    /// How often a line has been split, and that it is there.
    pub(super) fn level(&self, number: usize) -> Option<u32> {
        let control = self.control(number);
        control.is_born().then(|| control.level())
    }

    /// Claims the line that a hash belongs to. Waits for who has it.
    #[inline]
    pub(super) fn claim(&self, desk: &Desk<'t>, hash: u64) -> usize {
        loop {
            let number = self.route(hash);
            if !self.claim_line(desk, number, Some(hash)) {
                continue;
            }
            if self.control(number).level() < self.depth() {
                self.split(desk, number);
                if !self.control(number).owns(number, hash) {
                    self.release(desk, number);
                    continue;
                }
            }
            return number;
        }
    }

    /// Claims a line, if a key with this hash still belongs there.
    #[inline]
    pub(super) fn claim_line(&self, desk: &Desk<'t>, number: usize, hash: Option<u64>) -> bool {
        let Some(line) = self.line(number) else { return false };
        desk.note_line(Some(number));
        let free = || {
            let control = self.control(number);
            (control.claim() == 0).then_some(control)
        };
        let control = free().unwrap_or_else(|| self.wait(free));
        if !control.is_born() || hash.is_some_and(|hash| !control.owns(number, hash)) {
            return false;
        }
        let claimed = control.with_claim(desk.claim());
        // AcqRel: pairs with `release`; what the last one did is seen.
        let swapped = line[0].compare_exchange(control.0, claimed.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if swapped {
            mark!("table.line.claimed");
        }
        swapped
    }

    /// Gives a claimed line back.
    #[inline]
    pub(super) fn release(&self, desk: &Desk<'t>, number: usize) {
        self.set_control(number, self.control(number).with_claim(0));
        mark!("table.line.released");
        desk.note_line(None);
    }

    /// Whether a line is claimed by a call at this desk.
    pub(super) fn has_claimed(&self, desk: &Desk<'t>, number: usize) -> bool {
        self.control(number).claim() == desk.claim()
    }

    /// Splits a claimed line as often as its keys' hashes ask for. What cannot be had for want of memory stays
    /// undone: the line is only longer than it should be.
    fn split(&self, desk: &Desk<'t>, number: usize) {
        while let level = self.control(number).level()
            && level < self.depth()
        {
            if self.bear(desk, number, level).is_err() {
                return;
            }
            self.finish_split(desk, number);
        }
    }

    /// Makes the young line of a split.
    fn bear(&self, desk: &Desk<'t>, number: usize, level: u32) -> Result<(), TableError> {
        let young = number | 1 << level;
        let line: &[AtomicU64; LINE] =
            self.lines().ensure(young)?.first_chunk().ok_or(TableError::damaged("a line is too short"))?;
        // Whoever tried before may have left something. Nobody looks at it before it is born.
        let link = Control(line[0].load(Ordering::Relaxed)).link();
        line[0].store(control::LINK.put(link), Ordering::Relaxed);
        self.slots(young).for_each(|slot| slot.store(0, Ordering::Relaxed));
        for slot in self.moving(number, level) {
            let free = self.slots(young).find(|slot| slot.load(Ordering::Relaxed) == 0);
            let free = free.map_or_else(|| self.append(young), Ok)?;
            free.store(slot.load(Ordering::Relaxed), Ordering::Relaxed); // nobody else changes a claimed line
        }
        mark!("table.split.filled");
        let link = Control(line[0].load(Ordering::Relaxed)).link();
        self.set_control(young, Control::born(level + 1, desk.claim(), link));
        mark!("table.split.born");
        Ok(())
    }

    /// The slots of a claimed line that belong to the line born at this level.
    fn moving(&self, number: usize, level: u32) -> impl Iterator<Item = &'t AtomicU64> {
        let ground = self.ground;
        self.slots(number).filter(move |slot| {
            let slot = Slot(slot.load(Ordering::Relaxed)); // nobody else changes a claimed line
            let entry = if slot == Slot::EMPTY { None } else { Entry::at(ground, slot.spot()) };
            entry.is_some_and(|entry| entry.hash() >> level & 1 == 1)
        })
    }

    /// The rest of a split, if the young line has been born: also after a death.
    pub(super) fn finish_split(&self, desk: &Desk<'t>, number: usize) {
        let old = self.control(number);
        let young = number | 1 << old.level();
        if old.level() >= LINES.most || !self.control(young).is_born() {
            return;
        }
        for slot in self.moving(number, old.level()) {
            slot.store(0, Ordering::Release); // pairs with readers' loads: who sees it sees the young line born
            mark!("table.split.moved");
        }
        self.set_control(number, old.with_level(old.level() + 1));
        mark!("table.split.levelled");
        self.free_young(desk, young);
    }

    /// Lets go of a line that was born in the hands of this desk.
    fn free_young(&self, desk: &Desk<'t>, young: usize) {
        let control = self.control(young);
        if control.claim() == desk.claim() {
            self.set_control(young, control.with_claim(0));
        }
    }

    /// After a death between the two last steps of a split: the line that was born last.
    pub(super) fn free_last_young(&self, desk: &Desk<'t>, number: usize) {
        let level = self.control(number).level();
        if level > FIRST_DEPTH {
            self.free_young(desk, number | 1 << (level - 1));
        }
    }

    /// A free slot of a claimed line, which gets longer if need be.
    pub(super) fn free_slot(&self, number: usize) -> Result<&'t AtomicU64, TableError> {
        let free = self.slots(number).find(|slot| slot.load(Ordering::Relaxed) == 0); // ours alone
        free.map_or_else(|| self.append(number), Ok)
    }

    /// Links an extra line to the end of a line that is in our hands. It stays with it for good.
    #[cold]
    fn append(&self, number: usize) -> Result<&'t AtomicU64, TableError> {
        self.deepen();
        let index = self.word(EXTRAS_NEXT).fetch_add(1, Ordering::Relaxed);
        if index as usize >= self.extras().most() {
            return Err(TableError::damaged("its lines are full"));
        }
        let damaged = TableError::damaged("a line is not where it was");
        let extra: &[AtomicU64; LINE] =
            self.extras().ensure(index as usize)?.first_chunk().ok_or(TableError::damaged("a line is too short"))?;
        let mut last = self.line(number).ok_or(damaged)?;
        let mut link = Control(last[0].load(Ordering::Relaxed)).link();
        let first = link == 0;
        while let Some(next) = self.extra(link) {
            (last, link) = (next, next[0].load(Ordering::Relaxed));
        }
        let before = last[0].load(Ordering::Relaxed);
        let linked = if first { Control(before).with_link(index + 1).0 } else { index + 1 };
        last[0].store(linked, Ordering::Release); // pairs with `next_line`
        mark!("table.line.linked");
        Ok(&extra[1])
    }

    /// Doubles the lines in use, if there are enough entries. The lines themselves come one by one.
    fn deepen(&self) {
        let depth = self.depth();
        let helped = self.word(HELPED).load(Ordering::Relaxed) >= 1 << depth.saturating_sub(1);
        if depth < LINES.most && self.tally().entries > LOAD << depth && (helped || depth == FIRST_DEPTH) {
            let (now, next) = (u64::from(depth), u64::from(depth) + 1);
            // AcqRel: pairs with `depth`. Failing means that somebody else did it.
            if self.word(DEPTH).compare_exchange(now, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                mark!("table.line.deepened");
                self.word(HELPED).store(0, Ordering::Relaxed);
            }
        }
    }

    /// Splits a line that nobody may come past soon, so that a doubling comes to its end.
    #[inline]
    pub(super) fn help(&self, desk: &Desk<'t>) {
        let depth = self.depth();
        if depth > FIRST_DEPTH && self.word(HELPED).load(Ordering::Relaxed) < 1 << (depth - 1) {
            self.help_one(desk, depth);
        }
    }

    #[cold]
    fn help_one(&self, desk: &Desk<'t>, depth: u32) {
        let number = self.word(HELPED).fetch_add(1, Ordering::Relaxed) as usize;
        let needs = |control: Control| control.is_born() && control.claim() == 0 && control.level() < depth;
        if number >> (depth - 1) == 0 && needs(self.control(number)) && self.claim_line(desk, number, None) {
            self.split(desk, number);
            self.release(desk, number);
        }
    }
}
