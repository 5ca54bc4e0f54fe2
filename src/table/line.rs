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
//! nothing; one that is born has everything it shall have, and the old line is cleared by whoever mends it. Until it is, a
//! slot of it may refer to an entry that belongs to the young line.

use super::TableError;
use super::desk::Desk;
use super::entry::{Entry, Slot};
use super::ground::Ground;
use super::layout::{DEPTH, EXTRAS_NEXT, FIRST_DEPTH, HELPED, LINE, LINES, LOAD, control, slot};
use super::shard::Shard;
use crate::prim::{AtomicU64, Ordering, with_high_bits};

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

/// A line that is there: its number, and its words.
#[derive(Clone, Copy)]
pub(super) struct Line<'t> {
    pub(super) number: usize,
    words: &'t [AtomicU64; LINE],
}

impl Line<'_> {
    /// Acquire: pairs with every change of a control; of a line that is born all slots are seen.
    #[inline]
    fn control(&self) -> Control {
        Control(self.words[0].load(Ordering::Acquire))
    }

    #[inline]
    fn set(&self, control: Control) {
        self.words[0].store(control.0, Ordering::Release); // pairs with `control`
    }

    /// How often it has been split, if it is born.
    #[inline]
    pub(super) fn level(&self) -> Option<u32> {
        let control = self.control();
        control.is_born().then(|| control.level())
    }

    /// Whether a call at this desk has it in hand.
    pub(super) fn is_claimed_at(&self, desk: &Desk<'_>) -> bool {
        self.control().claim() == desk.claim()
    }

    /// Lets go of it, if it is in the hands of this desk.
    fn leave(&self, desk: &Desk<'_>) {
        if self.is_claimed_at(desk) {
            self.set(self.control().with_claim(0));
        }
    }
}

/// The slots of a line and of those linked to it.
pub(super) struct Slots<'t, G> {
    shard: Shard<'t, G>,
    words: &'t [AtomicU64; LINE],
    at: usize,
    /// Whether this is the line itself, which has its link among other things.
    first: bool,
}

impl<'t, G: Ground> Iterator for Slots<'t, G> {
    type Item = &'t AtomicU64;

    #[inline]
    fn next(&mut self) -> Option<&'t AtomicU64> {
        match self.words.get(self.at) {
            Some(slot) => {
                self.at += 1;
                Some(slot)
            }
            None => self.next_line(),
        }
    }
}

impl<'t, G: Ground> Slots<'t, G> {
    #[inline]
    fn next_line(&mut self) -> Option<&'t AtomicU64> {
        self.words = self.shard.next_line(self.words, self.first)?;
        (self.at, self.first) = (2, false);
        Some(&self.words[1])
    }
}

/// The slots of a line, and of those linked to it, that have a tag.
pub(super) struct Candidates<'s, 't, G> {
    shard: &'s Shard<'t, G>,
    words: &'t [AtomicU64; LINE],
    tag: u64,
    /// A bit for each slot that is left.
    left: u32,
    first: bool,
}

/// Which slots have this tag; that of an empty slot is 0, which is some key's too.
#[inline(always)]
fn with_tag(words: &[AtomicU64; LINE], tag: u64) -> u32 {
    // Acquire, as it says there: pairs with a slot's publication. The first word is none.
    with_high_bits::<{ slot::TAG.mask().trailing_zeros() }>(words, tag as u32)
}

impl<'t, G: Ground> Iterator for Candidates<'_, 't, G> {
    type Item = &'t AtomicU64;

    #[inline(always)]
    fn next(&mut self) -> Option<&'t AtomicU64> {
        loop {
            if self.left != 0 {
                let at = self.left.trailing_zeros() as usize;
                self.left &= self.left - 1;
                return Some(&self.words[at % LINE]);
            }
            self.words = self.shard.next_line(self.words, self.first)?;
            (self.left, self.first) = (with_tag(self.words, self.tag), false);
        }
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

    #[inline(always)]
    pub(super) fn line(&self, number: usize) -> Option<Line<'t>> {
        let words = self.lines().get(number)?.first_chunk()?;
        Some(Line { number, words })
    }

    #[inline]
    fn extra(&self, link: u64) -> Option<&'t [AtomicU64; LINE]> {
        self.extras().get((link as usize).checked_sub(1)?)?.first_chunk()
    }

    /// The line that is linked to one.
    #[inline]
    fn next_line(&self, words: &[AtomicU64; LINE], first: bool) -> Option<&'t [AtomicU64; LINE]> {
        // Acquire: pairs with `append`.
        let word = words[0].load(Ordering::Acquire);
        let link = if first { Control(word).link() } else { word };
        if link == 0 { None } else { self.extra(link) }
    }

    /// The slots of a line that may be a key's with this tag.
    #[inline(always)]
    pub(super) fn candidates(&self, line: Line<'t>, tag: u64) -> Candidates<'_, 't, G> {
        Candidates { shard: self, words: line.words, tag, left: with_tag(line.words, tag), first: true }
    }

    /// The same of a line that is in our hands. It was claimed just now, and one slot after the other is sooner read then.
    #[inline(always)]
    pub(super) fn claimed_candidates(&self, line: Line<'t>, tag: u64) -> Candidates<'_, 't, G> {
        let has = |at: usize| slot::TAG.get(line.words[at].load(Ordering::Relaxed)) == tag; // nobody else changes it
        let left = (1..LINE).fold(0, |bits, at| bits | u32::from(has(at)) << at);
        Candidates { shard: self, words: line.words, tag, left, first: true }
    }

    /// The line that a hash belongs to now.
    #[inline(always)]
    pub(super) fn route(&self, hash: u64) -> Line<'t> {
        let mut number = hash as usize & ((1 << self.depth()) - 1);
        loop {
            match self.line(number).filter(|line| line.control().is_born()) {
                Some(line) => return line,
                // The first lines are born with the table.
                None => number = parent(number),
            }
        }
    }

    /// Whether a hash belongs to this line, which was found before, still.
    #[inline]
    pub(super) fn is_routed_to(&self, line: Line<'t>, hash: u64) -> bool {
        line.control().owns(line.number, hash)
    }

    /// The slots of a line. Nobody but who has claimed it changes them.
    #[inline]
    pub(super) fn slots(&self, line: Line<'t>) -> Slots<'t, G> {
        Slots { shard: *self, words: line.words, at: 1, first: true }
    }

    /// Claims the line that a hash belongs to. Waits for who has it.
    #[inline]
    pub(super) fn claim(&self, desk: &Desk<'t>, hash: u64) -> Line<'t> {
        loop {
            let line = self.route(hash);
            let Some(control) = self.claim_line(desk, line, Some(hash)) else { continue };
            if control.level() < self.depth() {
                self.split(desk, line);
                if !line.control().owns(line.number, hash) {
                    self.release(desk, line);
                    continue;
                }
            }
            return line;
        }
    }

    /// Claims a line, if a key with this hash still belongs there.
    #[inline]
    fn claim_line(&self, desk: &Desk<'t>, line: Line<'t>, hash: Option<u64>) -> Option<Control> {
        desk.note_line(Some(line.number));
        let free = || {
            let control = line.control();
            (control.claim() == 0).then_some(control)
        };
        let control = free().unwrap_or_else(|| self.wait(free));
        if !control.is_born() || hash.is_some_and(|hash| !control.owns(line.number, hash)) {
            return None;
        }
        let claimed = control.with_claim(desk.claim());
        // AcqRel: pairs with `release`; what the last one did is seen.
        let swapped = line.words[0].compare_exchange(control.0, claimed.0, Ordering::AcqRel, Ordering::Relaxed);
        mark!("table.line.claimed");
        swapped.is_ok().then_some(claimed)
    }

    /// Claims a line, whatever belongs there. False if somebody was faster.
    pub(super) fn claim_this(&self, desk: &Desk<'t>, line: Line<'t>) -> bool {
        self.claim_line(desk, line, None).is_some()
    }

    /// Gives a claimed line back.
    #[inline]
    pub(super) fn release(&self, desk: &Desk<'t>, line: Line<'t>) {
        line.set(line.control().with_claim(0));
        mark!("table.line.released");
        desk.note_line(None);
    }

    /// Splits a claimed line as often as its keys' hashes ask for. What cannot be had for want of memory stays
    /// undone: the line is only longer than it should be.
    #[cold]
    fn split(&self, desk: &Desk<'t>, line: Line<'t>) {
        while let level = line.control().level()
            && level < self.depth()
        {
            if self.bear(desk, line, level).is_err() {
                return;
            }
            self.finish_split(desk, line);
        }
    }

    /// Makes the young line of a split.
    fn bear(&self, desk: &Desk<'t>, line: Line<'t>, level: u32) -> Result<(), TableError> {
        let number = line.number | 1 << level;
        self.lines().ensure(number)?;
        let young = self.line(number).ok_or(TableError::damaged("a line is not where it was"))?;
        // Whoever tried before may have left something. Nobody looks at it before it is born.
        young.set(Control(control::LINK.put(young.control().link())));
        self.slots(young).for_each(|slot| slot.store(0, Ordering::Relaxed));
        for slot in self.moving(line, level) {
            let free = self.slots(young).find(|slot| slot.load(Ordering::Relaxed) == 0);
            let free = free.map_or_else(|| self.append(young), Ok)?;
            free.store(slot.load(Ordering::Relaxed), Ordering::Relaxed); // nobody else changes a claimed line
        }
        mark!("table.split.filled");
        young.set(Control::born(level + 1, desk.claim(), young.control().link()));
        mark!("table.split.born");
        Ok(())
    }

    /// The slots of a claimed line that belong to the line born at this level.
    fn moving(&self, line: Line<'t>, level: u32) -> impl Iterator<Item = &'t AtomicU64> {
        let ground = self.ground;
        self.slots(line).filter(move |slot| {
            let slot = Slot(slot.load(Ordering::Relaxed)); // nobody else changes a claimed line
            let entry = if slot == Slot::EMPTY { None } else { Entry::at(ground, slot.spot()) };
            entry.is_some_and(|entry| entry.hash() >> level & 1 == 1)
        })
    }

    /// The rest of a split, if the young line has been born: also after a death, at whichever of these steps.
    pub(super) fn finish_split(&self, desk: &Desk<'t>, line: Line<'t>) {
        let old = line.control();
        let is_born = |level: u32| self.line(line.number | 1 << level).is_some_and(|young| young.control().is_born());
        if old.level() < LINES.most && is_born(old.level()) {
            line.set(old.with_level(old.level() + 1));
            mark!("table.split.levelled");
        }
        // Above the first level, since only those lines have borne others.
        let Some(level) = line.control().level().checked_sub(1).filter(|level| *level >= FIRST_DEPTH) else { return };
        for slot in self.moving(line, level) {
            slot.store(0, Ordering::Release); // pairs with readers' loads: who sees it sees the new level
            mark!("table.split.moved");
        }
        if let Some(young) = self.line(line.number | 1 << level) {
            young.leave(desk);
        }
    }

    /// A free slot of a claimed line, which gets longer if need be.
    pub(super) fn free_slot(&self, line: Line<'t>) -> Result<&'t AtomicU64, TableError> {
        let free = self.slots(line).find(|slot| slot.load(Ordering::Relaxed) == 0); // ours alone
        free.map_or_else(|| self.append(line), Ok)
    }

    /// Links an extra line to the end of a line that is in our hands. It stays with it for good.
    #[cold]
    fn append(&self, line: Line<'t>) -> Result<&'t AtomicU64, TableError> {
        self.deepen();
        let index = self.word(EXTRAS_NEXT).fetch_add(1, Ordering::Relaxed);
        if index as usize >= self.extras().most() {
            return Err(TableError::damaged("its lines are full"));
        }
        self.extras().ensure(index as usize)?;
        let extra = self.extra(index + 1).ok_or(TableError::damaged("a line is not where it was"))?;
        let (mut last, mut link) = (None, line.control().link());
        while let Some(next) = self.extra(link) {
            (last, link) = (Some(next), next[0].load(Ordering::Relaxed));
        }
        match last {
            None => line.set(line.control().with_link(index + 1)),
            Some(last) => last[0].store(index + 1, Ordering::Release), // pairs with `next_line`
        }
        mark!("table.line.linked");
        Ok(&extra[1])
    }

    /// Doubles the lines in use, if there are enough entries. The lines themselves come one by one.
    fn deepen(&self) {
        let depth = self.depth();
        let helped = self.word(HELPED).load(Ordering::Relaxed) >= 1 << depth.saturating_sub(1);
        if depth < LINES.most && self.rough_tally().entries > LOAD << depth && (helped || depth == FIRST_DEPTH) {
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
        let line = if number >> (depth - 1) == 0 { self.line(number) } else { None };
        if let Some(line) = line.filter(|line| needs(line.control()))
            && self.claim_this(desk, line)
        {
            self.split(desk, line);
            self.release(desk, line);
        }
    }
}
