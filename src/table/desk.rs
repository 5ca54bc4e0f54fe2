//! Desks: what each call that changes a table is about, written where a repair finds it.
//!
//! A call takes a desk by one compare-and-swap that names its process, and notes there what it is about to have in
//! its hands before it does: the line that it claims, the page, the entry that it fills, the one that it
//! takes out of the table. Claims in lines, pages and entries name the desk. So a death costs a look at the
//! desks, not at the table.
//!
//! The figures of a shard, entries and bytes, are the sum over its desks. Each desk has them twice; which copy
//! holds, the desk's word says. A call writes the new figures into the other copy and turns the word
//! as its last step, so that they change with the end of the call and at no other moment.

use super::entry::Name;
use super::layout::{DESK_WORDS, DESKS, desk};
use crate::id::ProcId;
use crate::prim::{AtomicU64, Ordering};

const WORD: usize = 0;
const LINE: usize = 1;
const NEW: usize = 2;
const OLD: usize = 3;
const PAGE: usize = 4;
const PENDING: usize = 5;
const PENDING_BYTES: usize = 6;
const TALLIES: usize = 8;
const SPARE: usize = 12;
const SPARE_SIZE: usize = 13;

/// Looks at all desks until two in a row are the same.
const LOOKS: usize = if cfg!(feature = "shuttle") { 2 } else { 1000 };

/// What is being done to the page that a desk has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum PageWork {
    /// Blocks are taken out of it.
    None = 0,
    /// It is being made.
    Make = 1,
    /// It is being given back to the memory.
    Drop = 2,
}

/// Change of a shard's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) entries: i64,
    pub(super) bytes: i64,
}

/// Figures of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Keys.
    pub(crate) entries: u64,
    /// Bytes of pages and of values that have a block of their own.
    pub(crate) bytes: u64,
}

/// A desk: a view of its words.
#[derive(Clone, Copy)]
pub(super) struct Desk<'t> {
    words: &'t [AtomicU64; DESK_WORDS],
    number: usize,
}

impl<'t> Desk<'t> {
    /// The figures of a shard as they were at one instant, if the desks stand still for as long as two looks take.
    ///
    /// One desk after the other is no such instant: it may miss what the first have added meanwhile, and see what the
    /// last have taken off.
    pub(super) fn tally(words: &'t [AtomicU64]) -> Tally {
        let look = || std::array::from_fn::<_, DESKS, _>(|number| Desk::number(words, number).part());
        let mut before = look();
        for _ in 0..LOOKS {
            let now = look();
            if now == before {
                break;
            }
            before = now;
        }
        Desk::sum(before.iter().map(|(_, tally)| *tally))
    }

    /// The same, as good as one look gives it.
    pub(super) fn rough_tally(words: &'t [AtomicU64]) -> Tally {
        Desk::sum(Desk::all(words).map(|desk| desk.part().1))
    }

    /// One desk's part may be less than nothing: it wraps. So may a sum that was of no one instant.
    fn sum(parts: impl Iterator<Item = Tally>) -> Tally {
        let add = |sum: (u64, u64), part: Tally| (sum.0.wrapping_add(part.entries), sum.1.wrapping_add(part.bytes));
        let (entries, bytes) = parts.fold((0, 0), add);
        let or_none = |count: u64| (count as i64).max(0) as u64;
        Tally { entries: or_none(entries), bytes: or_none(bytes) }
    }

    /// All desks of a shard.
    pub(super) fn all(words: &'t [AtomicU64]) -> impl Iterator<Item = Desk<'t>> {
        let (desks, _) = words.as_chunks::<DESK_WORDS>();
        desks.iter().take(DESKS).enumerate().map(|(number, words)| Desk { words, number })
    }

    #[inline]
    fn number(words: &'t [AtomicU64], number: usize) -> Desk<'t> {
        let (desks, _) = words.as_chunks::<DESK_WORDS>();
        Desk { words: &desks[number % DESKS], number: number % DESKS }
    }

    /// Takes a free one, if there is one; looks at `hint` first.
    #[inline]
    pub(super) fn take(words: &'t [AtomicU64], me: ProcId, hint: usize) -> Option<Desk<'t>> {
        (0..DESKS).map(|step| Desk::number(words, hint + step)).find(|desk| desk.begin(me))
    }

    #[inline]
    pub(super) fn begin(&self, me: ProcId) -> bool {
        let word = self.words[WORD].load(Ordering::Relaxed); // the swap decides
        let ticket = desk::TICKET.put(desk::TICKET.get(word).wrapping_add(1));
        let busy = desk::PARITY.mask() & word | desk::BUSY.mask() | desk::OWNER.put(u64::from(me.0)) | ticket;
        // SeqCst: before the look at the gate; pairs with `ticket`, and with `close`, whose notes come before these.
        let taken = desk::BUSY.get(word) == 0
            && self.words[WORD].compare_exchange(word, busy, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if taken {
            // What is left of earlier notes does no harm: it names claims and lives that are over.
            self.words[PENDING].store(0, Ordering::Relaxed); // as with every note, before the step that it tells of
        }
        taken
    }

    /// What stands in claims that this desk makes.
    #[inline]
    pub(super) fn claim(&self) -> u64 {
        self.number as u64 + 1
    }

    /// Notes come before the steps that they tell of: those are at least releases.
    #[inline]
    fn note(&self, at: usize, value: u64) {
        self.words[at].store(value, Ordering::Release); // pairs with `noted`
    }

    #[inline]
    fn noted(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Acquire) // pairs with `note`
    }

    #[inline]
    pub(super) fn note_line(&self, line: Option<usize>) {
        self.note(LINE, line.map_or(0, |line| line as u64 + 1));
    }

    pub(super) fn line(&self) -> Option<usize> {
        (self.noted(LINE) as usize).checked_sub(1)
    }

    #[inline]
    pub(super) fn note_page(&self, page: usize) {
        self.note(PAGE, page as u64 + 1);
    }

    pub(super) fn page(&self) -> Option<usize> {
        (self.noted(PAGE) as usize).checked_sub(1)
    }

    #[inline]
    pub(super) fn note_new(&self, name: Name) {
        self.note(NEW, name.0);
    }

    pub(super) fn new_entry(&self) -> Name {
        Name(self.noted(NEW))
    }

    #[inline]
    pub(super) fn note_old(&self, name: Name) {
        self.note(OLD, name.0);
    }

    pub(super) fn old_entry(&self) -> Name {
        Name(self.noted(OLD))
    }

    /// A block that this desk has kept for its next call, and its size in words; none, if that is 0.
    #[inline]
    pub(super) fn spare(&self) -> (Name, usize) {
        (Name(self.noted(SPARE)), self.noted(SPARE_SIZE) as usize)
    }

    #[inline]
    pub(super) fn note_spare(&self, name: Name, size: usize) {
        self.note(SPARE, name.0);
        self.note(SPARE_SIZE, size as u64);
    }

    /// What will change when the entry that is noted as old is out of the table, or if there is none, the new one is
    /// in it. `done`: it is so.
    #[inline]
    pub(super) fn note_change(&self, change: Change, done: bool) {
        self.words[PENDING_BYTES].store(change.bytes as u64, Ordering::Relaxed); // before the next
        let parity = desk::PARITY.get(self.noted(WORD));
        self.note(PENDING, ((change.entries + 1) as u64) << 3 | 4 | parity << 1 | u64::from(done));
    }

    /// The change noted, and whether it is done. One that has been counted names a parity that is past.
    pub(super) fn change(&self) -> Option<(Change, bool)> {
        let pending = self.noted(PENDING);
        let bytes = self.noted(PENDING_BYTES) as i64;
        let change = Change { entries: (pending >> 3) as i64 - 1, bytes };
        let counts = pending != 0 && pending >> 1 & 1 == desk::PARITY.get(self.noted(WORD));
        counts.then_some((change, pending & 1 != 0))
    }

    /// Who has it, if it is taken.
    pub(super) fn owner(&self) -> Option<ProcId> {
        let word = self.noted(WORD);
        (desk::BUSY.get(word) != 0).then(|| ProcId(desk::OWNER.get(word) as u16))
    }

    pub(super) fn page_work(&self) -> PageWork {
        match desk::PAGE_WORK.get(self.noted(WORD)) {
            1 => PageWork::Make,
            2 => PageWork::Drop,
            _ => PageWork::None,
        }
    }

    /// Which call has it, if one has: never the same number for two.
    pub(super) fn ticket(&self) -> Option<u64> {
        // SeqCst: after a change of the gate; pairs with `begin`.
        let word = self.words[WORD].load(Ordering::SeqCst);
        (desk::BUSY.get(word) != 0).then(|| desk::TICKET.get(word))
    }

    /// How many calls have had it so far: a figure.
    pub(super) fn calls(&self) -> u64 {
        desk::TICKET.get(self.words[WORD].load(Ordering::Relaxed))
    }

    /// Says what is done to the page noted. What this call had noted as changed before is counted.
    pub(super) fn begin_page_work(&self, work: PageWork) {
        // The count of the page turns the desk once more, and would make it look as if it were not.
        self.note(PENDING, 0);
        self.note(WORD, desk::PAGE_WORK.set(self.noted(WORD), work as u64));
    }

    /// The work on the page is done, or given up, and this has changed by it.
    pub(super) fn end_page_work(&self, change: Change) {
        self.turn(change, |word| desk::PAGE_WORK.set(word, 0));
    }

    /// What was noted as changed is counted; the call goes on.
    #[inline]
    pub(super) fn count(&self, change: Change) {
        self.turn(change, |word| word);
    }

    /// The call is over, and this has changed by it.
    #[inline]
    pub(super) fn close(&self, change: Change) {
        self.turn(change, |word| word & (desk::PARITY.mask() | desk::TICKET.mask()));
    }

    #[inline]
    fn turn(&self, change: Change, last: impl FnOnce(u64) -> u64) {
        let word = self.words[WORD].load(Ordering::Relaxed); // nobody else writes a desk that is taken
        let parity = desk::PARITY.get(word);
        let mut next = last(word);
        if change != Change::default() {
            let now = self.tally_at(parity);
            let other = TALLIES + 2 * (parity as usize ^ 1);
            self.words[other].store(now.entries.wrapping_add_signed(change.entries), Ordering::Relaxed);
            self.words[other + 1].store(now.bytes.wrapping_add_signed(change.bytes), Ordering::Relaxed);
            next = desk::PARITY.set(next, parity ^ 1);
        }
        self.note(WORD, next);
    }

    #[inline]
    fn tally_at(&self, parity: u64) -> Tally {
        let at = TALLIES + 2 * parity as usize;
        // Acquire: pairs with `turn`; comes before the second look at the word in `tally`.
        let [entries, bytes] = [at, at + 1].map(|at| self.words[at].load(Ordering::Acquire));
        Tally { entries, bytes }
    }

    /// Its part of the shard's figures, and the word that it was read under: as long as that stands, so does the part.
    fn part(&self) -> (u64, Tally) {
        loop {
            let word = self.noted(WORD);
            let tally = self.tally_at(desk::PARITY.get(word));
            if self.noted(WORD) == word {
                return (word, tally);
            }
        }
    }
}
