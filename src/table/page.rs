//! Pages: pieces of memory cut into blocks of one size for entries.
//!
//! Every process may take blocks from every page, with the page in its hands: a claim in the page's entry, by one
//! compare-and-swap. Everybody may free a block without it: first its bit among those that were freed, then its
//! head. Heads say what is free; bits are hints, which who has the page and finds no more collects from
//! those freed. A page of which all blocks are free is given back to the memory by whoever notices.

use super::TableError;
use super::desk::{Change, Desk, PageWork};
use super::entry::{Entry, Form, Head, Name, State};
use super::ground::Ground;
use super::layout::{PAGES_HIGH, page_word};
use super::shard::Shard;
use crate::mm::Given;
use crate::prim::{AtomicU64, Ordering};

/// Blocks up to so many words are of every size; larger ones go in steps.
const EXACT: usize = 256;
/// Sizes: 256, and 16 and 16 steps to 1024.
pub(super) const CLASSES: usize = EXACT + 33;
const BITS_AT: usize = 4;
/// Where blocks start: at a cache line.
const ALIGN: usize = 8;

/// The size of the blocks for so many words, and its class.
#[inline]
fn class_of(words: usize) -> (usize, usize) {
    match words {
        0..=EXACT => (words, words),
        257..=512 => (words.next_multiple_of(16), EXACT + (words - 256).div_ceil(16)),
        _ => (words.next_multiple_of(32), EXACT + 16 + (words - 512).div_ceil(32)),
    }
}

/// The most words of a block in pages of this size.
#[inline]
pub(super) fn largest_block(page_words: usize) -> usize {
    (page_words / 8).min(super::entry::LARGEST)
}

/// How a page is cut.
#[derive(Clone, Copy)]
struct Cut {
    size: usize,
    count: usize,
    blocks_at: usize,
}

impl Cut {
    /// As many blocks as fit behind the bits.
    fn new(page_words: usize, size: usize) -> Cut {
        let at = |count: usize| (BITS_AT + 2 * count.div_ceil(64)).next_multiple_of(ALIGN);
        let most = page_words / size.max(1);
        let count = (1..=most).rev().find(|count| at(*count) + count * size <= page_words).unwrap_or(0);
        Cut { size, count, blocks_at: at(count) }
    }

    fn word(self) -> u64 {
        self.size as u64 | (self.count as u64) << 16 | (self.blocks_at as u64) << 32
    }

    #[inline]
    fn read(word: u64) -> Cut {
        let part = |at: u32| (word >> at & 0xFFFF) as usize;
        Cut { size: part(0), count: part(16), blocks_at: part(32) }
    }

    fn bit_words(self) -> usize {
        self.count.div_ceil(64)
    }
}

/// A page in this process's hands, or one that has a block in use.
struct Page<'t> {
    spot: u64,
    words: &'t [AtomicU64],
    cut: Cut,
}

impl<'t> Page<'t> {
    #[inline]
    fn at<G: Ground>(ground: &'t G, spot: u64, page_words: usize) -> Option<Page<'t>> {
        let words = ground.words(spot, page_words)?;
        let cut = Cut::read(words.first()?.load(Ordering::Relaxed)); // written before the page was known
        Some(Page { spot, words, cut })
    }

    fn number(&self) -> usize {
        self.words[1].load(Ordering::Relaxed) as usize // as the cut
    }

    /// Where to look first: a hint.
    fn cursor(&self) -> &'t AtomicU64 {
        &self.words[2]
    }

    fn free_bits(&self) -> &'t [AtomicU64] {
        &self.words[BITS_AT..BITS_AT + self.cut.bit_words()]
    }

    fn freed_bits(&self) -> &'t [AtomicU64] {
        let at = BITS_AT + self.cut.bit_words();
        &self.words[at..at + self.cut.bit_words()]
    }

    fn head_of(&self, index: usize) -> &'t AtomicU64 {
        &self.words[self.cut.blocks_at + index * self.cut.size]
    }

    fn heads(&self) -> impl Iterator<Item = (usize, Head)> {
        // Acquire: pairs with the end of `free_block`.
        (0..self.cut.count).map(|index| (index, Head(self.head_of(index).load(Ordering::Acquire))))
    }

    /// Writes a page with nothing in it. Generations begin elsewhere in each life of the memory.
    fn prepare(&self, number: usize, life: u64) {
        let set = |at: usize, value: u64| self.words[at].store(value, Ordering::Relaxed); // the page's name comes after
        set(0, self.cut.word());
        set(1, number as u64);
        set(2, 0);
        set(3, 0);
        let generation = life.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 29;
        for index in 0..self.cut.count {
            let at = self.cut.blocks_at + index * self.cut.size;
            // Of a block that nobody has the form is none.
            set(at + 1, 0);
            set(at, Head::fresh(at, generation).0);
        }
        for at in 0..self.cut.bit_words() {
            let left = self.cut.count - 64 * at;
            set(BITS_AT + at, if left >= 64 { u64::MAX } else { (1 << left) - 1 });
            set(BITS_AT + self.cut.bit_words() + at, 0);
        }
    }

    /// Moves the bits of blocks that were freed to those of free ones. Whether there were any.
    fn collect(&self) -> bool {
        let mut any = false;
        for (free, freed) in self.free_bits().iter().zip(self.freed_bits()) {
            if freed.load(Ordering::Relaxed) != 0 {
                // AcqRel: pairs with `free_block`.
                let bits = freed.swap(0, Ordering::AcqRel);
                free.store(free.load(Ordering::Relaxed) | bits, Ordering::Relaxed); // ours alone: we have the page
                any = true;
            }
        }
        any
    }

    /// A free block. Its bit is cleared when it is taken.
    fn find(&self) -> Option<(usize, Head)> {
        let bits = self.free_bits();
        let start = self.cursor().load(Ordering::Relaxed) as usize % bits.len().max(1);
        for at in (start..bits.len()).chain(0..start) {
            let mut left = bits[at].load(Ordering::Relaxed); // ours alone: we have the page
            while left != 0 {
                let index = 64 * at + left.trailing_zeros() as usize;
                // Acquire: pairs with the end of `free_block`. A bit before its head: that one is not free yet.
                let head = Head(self.head_of(index).load(Ordering::Acquire));
                if head.state() == State::Free {
                    self.cursor().store(at as u64, Ordering::Relaxed); // a hint
                    return Some((index, head));
                }
                left &= left - 1;
            }
        }
        None
    }

    fn clear_bit(&self, index: usize) {
        let bits = &self.free_bits()[index / 64];
        bits.store(bits.load(Ordering::Relaxed) & !(1 << (index % 64)), Ordering::Relaxed); // ours: we have the page
    }

    /// Says again which blocks are free: who had the page has died. A block whose freeing is under way has its bit
    /// among the freed.
    fn rebuild(&self) {
        for (at, bits) in self.free_bits().iter().enumerate() {
            bits.store(0, Ordering::Relaxed); // ours alone
            for index in 64 * at..self.cut.count.min(64 * at + 64) {
                // Acquire: pairs with the end of `free_block`, whose bit comes before.
                let head = Head(self.head_of(index).load(Ordering::Acquire));
                let freed = self.freed_bits()[at].load(Ordering::Acquire) >> (index % 64) & 1;
                if head.state() == State::Free && freed == 0 {
                    bits.store(bits.load(Ordering::Relaxed) | 1 << (index % 64), Ordering::Relaxed);
                }
            }
        }
    }
}

/// Whether a block is in the hands of this desk, in the life that the name means.
#[inline]
fn is_taken_at(desk: &Desk<'_>, name: Name, head: Head) -> bool {
    head.state() == State::Taken && head.claim() == desk.claim() && name.means(head)
}

impl<'t, G: Ground> Shard<'t, G> {
    fn page_bytes(&self) -> u64 {
        (self.facts.page_words * size_of::<u64>()) as u64
    }

    fn pages_high(&self) -> usize {
        self.word(PAGES_HIGH).load(Ordering::Acquire) as usize // pairs with `new_page`
    }

    /// Takes a block for an entry of so many words, and notes it as new.
    #[inline]
    pub(super) fn take_block(&self, desk: &Desk<'t>, words: usize) -> Result<Entry<'t>, TableError> {
        let (size, class) = class_of(words);
        if let Some(entry) = self.take_spare(desk, size) {
            return Ok(entry);
        }
        let hint = &self.hints.pages[class];
        let last = (hint.load(Ordering::Relaxed) as usize).checked_sub(1);
        if let Some(entry) = last.and_then(|page| self.take_from(desk, page, size)) {
            return Ok(entry);
        }
        let (page, entry) = self.take_elsewhere(desk, size, last.unwrap_or(0))?;
        hint.store(page as u32 + 1, Ordering::Relaxed);
        Ok(entry)
    }

    /// The block that an earlier call at this desk has freed, if it is of this size: without a step that others see.
    #[inline]
    fn take_spare(&self, desk: &Desk<'t>, size: usize) -> Option<Entry<'t>> {
        let (name, its_size) = desk.spare();
        if its_size != size {
            return None;
        }
        let entry = Entry::at(self.ground, name.spot())?;
        let mine = is_taken_at(desk, name, entry.head());
        if mine {
            desk.note_new(name);
            mark!("table.spare.taken");
        }
        desk.note_spare(Name::NONE, 0);
        mine.then_some(entry)
    }

    /// Keeps a block that is leaving at this desk for its next call. False if the desk has one already.
    #[inline]
    pub(super) fn keep_as_spare(&self, desk: &Desk<'t>, entry: Entry<'t>, leaving: Head) -> bool {
        let form = entry.form();
        if desk.spare().1 != 0 || form.is_large() || form.has_cargo() {
            return false;
        }
        let next = leaving.ended().to(State::Taken, desk.claim());
        desk.note_spare(entry.name(next), class_of(form.words()).0);
        mark!("table.spare.noted");
        entry.set_form(Form::default());
        entry.word().store(next.0, Ordering::Release); // pairs with `Entry::head`
        mark!("table.spare.kept");
        true
    }

    /// Frees what a desk that is ours has kept, or forgets it, if a death came between.
    pub(super) fn drop_spare(&self, desk: &Desk<'t>) {
        let (name, size) = desk.spare();
        let entry = if size > 0 { Entry::at(self.ground, name.spot()) } else { None };
        if let Some((entry, head)) = entry.map(|entry| (entry, entry.head()))
            && is_taken_at(desk, name, head)
        {
            let leaving = head.to(State::Leaving, desk.claim());
            desk.note_old(name);
            entry.word().store(leaving.0, Ordering::Release); // pairs with `Entry::head`
            mark!("table.spare.leaving");
            self.free_block(entry, leaving);
        }
        desk.note_spare(Name::NONE, 0);
    }

    /// Takes a block from a page, if it has this size, is in nobody's hands and has one.
    #[inline]
    fn take_from(&self, desk: &Desk<'t>, number: usize, size: usize) -> Option<Entry<'t>> {
        let words = self.pages().get(number)?;
        let idle = page_word::SIZE.put(size as u64);
        if words[1].load(Ordering::Relaxed) != idle || !self.claim_page(desk, number, &words[1], idle) {
            return None;
        }
        let entry = self.take_in(desk, number);
        self.leave_page(number, &words[1], idle, entry.is_none());
        entry
    }

    #[inline]
    fn claim_page(&self, desk: &Desk<'t>, number: usize, word: &AtomicU64, idle: u64) -> bool {
        desk.note_page(number);
        let claimed = page_word::CLAIM.set(idle, desk.claim());
        // Acquire: pairs with `leave_page`.
        let swapped = word.compare_exchange(idle, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        mark!("table.page.claimed");
        swapped
    }

    /// Lets go of a page.
    #[inline]
    fn leave_page(&self, number: usize, word: &AtomicU64, idle: u64, full: bool) {
        if full {
            return self.leave_full_page(number, word, idle);
        }
        word.store(idle, Ordering::Release); // pairs with `claim_page`
        mark!("table.page.left");
    }

    #[cold]
    fn leave_full_page(&self, number: usize, word: &AtomicU64, idle: u64) {
        // SeqCst: before the look at the freed bits below; pairs with the look at it after a bit in `free_block`.
        word.store(page_word::FULL.set(idle, 1), Ordering::SeqCst);
        mark!("table.page.full");
        let freed = |page: Page<'t>| page.freed_bits().iter().any(|bits| bits.load(Ordering::SeqCst) != 0); // as above
        if self.page(number).is_some_and(freed) {
            word.fetch_and(!page_word::FULL.mask(), Ordering::SeqCst); // as above
        }
    }

    fn page(&self, number: usize) -> Option<Page<'t>> {
        // Acquire: pairs with `new_page`.
        let given = Given::from_word(self.pages().get(number)?[0].load(Ordering::Acquire))?;
        Page::at(self.ground, given.spot(), self.facts.page_words)
    }

    /// Takes a block from a page in our hands.
    fn take_in(&self, desk: &Desk<'t>, number: usize) -> Option<Entry<'t>> {
        let page = self.page(number)?;
        let (index, head) = match page.find() {
            Some(found) => found,
            None => page.collect().then(|| page.find()).flatten()?,
        };
        let spot = page.spot + head.back() as u64;
        let entry = Entry::at(self.ground, spot)?;
        desk.note_new(entry.name(head));
        mark!("table.block.noted");
        entry.word().store(head.to(State::Taken, desk.claim()).0, Ordering::Release); // pairs with `Entry::head`
        mark!("table.block.taken");
        page.clear_bit(index);
        Some(entry)
    }

    #[cold]
    fn take_elsewhere(&self, desk: &Desk<'t>, size: usize, from: usize) -> Result<(usize, Entry<'t>), TableError> {
        let high = self.pages_high();
        let from = from.min(high);
        let others = (from..high).chain(0..from);
        for number in others {
            if let Some(entry) = self.take_from(desk, number, size) {
                return Ok((number, entry));
            }
        }
        let number = match self.new_page(desk, size) {
            Ok(number) => number,
            // What unused pages hold is the last reserve.
            Err(refused) if refused.is_full() && self.trim_with(desk) > 0 => self.new_page(desk, size)?,
            Err(refused) => return Err(refused),
        };
        let entry = self.take_in(desk, number);
        if let Some(words) = self.pages().get(number) {
            self.leave_page(number, &words[1], page_word::SIZE.put(size as u64), false);
        }
        entry.map(|entry| (number, entry)).ok_or(TableError::damaged("a new page has no block"))
    }

    /// Makes a page, which is then in our hands.
    fn new_page(&self, desk: &Desk<'t>, size: usize) -> Result<usize, TableError> {
        self.check_room(self.page_bytes())?;
        let number = self.free_number(desk, size)?;
        let made = self.make_page(desk, number, size);
        if made.is_err() {
            if let Some(entry) = self.pages().get(number) {
                entry[1].store(0, Ordering::Release); // pairs with `claim_page`
            }
            desk.end_page_work(Change::default());
        }
        made.map(|()| number)
    }

    /// Claims an entry that no page has.
    fn free_number(&self, desk: &Desk<'t>, size: usize) -> Result<usize, TableError> {
        let pages = self.pages();
        for number in 0..pages.most() {
            let entry = pages.ensure(number)?;
            desk.note_page(number);
            let claimed = page_word::CLAIM.put(desk.claim()) | page_word::SIZE.put(size as u64);
            let free = entry[1].load(Ordering::Relaxed) == 0;
            // AcqRel: pairs with who gave the entry up.
            if free && entry[1].compare_exchange(0, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                mark!("table.page.numbered");
                // Release: pairs with `pages_high`.
                self.word(PAGES_HIGH).fetch_max(number as u64 + 1, Ordering::AcqRel);
                return Ok(number);
            }
        }
        Err(TableError::damaged("there are as many pages as there can be"))
    }

    fn make_page(&self, desk: &Desk<'t>, number: usize, size: usize) -> Result<(), TableError> {
        desk.begin_page_work(PageWork::Make);
        let (block, given) = self.ground.make(self.facts.page_words * size_of::<u64>())?;
        let words = self.ground.words(given.spot(), self.facts.page_words);
        let words = words.ok_or(TableError::damaged("a page is not where it was"))?;
        let cut = Cut::new(self.facts.page_words, size);
        Page { spot: given.spot(), words, cut }.prepare(number, given.generation());
        mark!("table.page.prepared");
        let entry = self.pages().ensure(number)?;
        entry[0].store(given.word(), Ordering::Release); // pairs with `page`
        mark!("table.page.named");
        self.ground.give(block);
        mark!("table.page.given");
        desk.end_page_work(Change { entries: 0, bytes: self.page_bytes() as i64 });
        Ok(())
    }

    /// Whether so many more bytes may be used.
    pub(super) fn check_room(&self, asked: u64) -> Result<(), TableError> {
        let limit = self.facts.limit;
        if asked > limit {
            return Err(TableError::TooLarge { asked, limit });
        }
        let fits = |in_use: u64| in_use.saturating_add(asked) <= limit;
        if fits(self.rough_tally().bytes) {
            return Ok(());
        }
        // Nobody is refused because others counted while one looked.
        let in_use = self.tally().bytes;
        if fits(in_use) { Ok(()) } else { Err(TableError::Full { asked, in_use, limit }) }
    }

    /// Frees a block that is leaving, in the hands of this desk. Can be done again from any step.
    /// True if it kept other objects alive.
    pub(super) fn free_block(&self, entry: Entry<'t>, head: Head) -> bool {
        let form = entry.form();
        if let Some(large) = form.is_large().then(|| entry.large(form)).flatten() {
            drop(self.ground.take_back(large));
            mark!("table.block.large_freed");
        }
        entry.set_form(Form::default());
        let Some(page) = Page::at(self.ground, entry.spot - head.back() as u64, self.facts.page_words) else {
            return form.has_cargo();
        };
        let index = (head.back() - page.cut.blocks_at) / page.cut.size.max(1);
        let number = page.number();
        // SeqCst: before the look at the page's word below; pairs with `leave_page`.
        let before = page.freed_bits()[index / 64].fetch_or(1 << (index % 64), Ordering::SeqCst);
        mark!("table.block.bit_set");
        // Release: pairs with `find`. From here on the page is not ours to look at.
        entry.word().store(head.ended().0, Ordering::Release);
        mark!("table.block.freed");
        if before == 0
            && let Some(entry) = self.pages().get(number)
            // SeqCst: as above.
            && entry[1].load(Ordering::SeqCst) & page_word::FULL.mask() != 0
        {
            entry[1].fetch_and(!page_word::FULL.mask(), Ordering::SeqCst); // as above
        }
        form.has_cargo()
    }

    /// Gives all unused pages back to the memory. How many.
    pub(super) fn trim(&self) -> usize {
        let desk = self.desk();
        let given = self.trim_with(&desk);
        desk.close(Change::default());
        given
    }

    fn trim_with(&self, desk: &Desk<'t>) -> usize {
        self.drop_spare(desk);
        let me = self.ground.me();
        for other in self.desks().filter(|other| other.spare().1 != 0) {
            if other.begin(me) {
                self.drop_spare(&other);
                other.close(Change::default());
            }
        }
        (0..self.pages_high()).filter(|number| self.drop_page(desk, *number)).count()
    }

    /// Gives a page back, if all its blocks are free.
    pub(super) fn drop_page(&self, desk: &Desk<'t>, number: usize) -> bool {
        let Some(entry) = self.pages().get(number) else { return false };
        let idle = entry[1].load(Ordering::Relaxed);
        let unused = |page: Page<'t>| page.heads().all(|(_, head)| head.state() == State::Free);
        if idle == 0
            || page_word::CLAIM.get(idle) != 0
            || !self.page(number).is_some_and(unused)
            || !self.claim_page(desk, number, &entry[1], idle)
        {
            return false;
        }
        // In our hands nobody takes blocks out of it.
        if !self.page(number).is_some_and(unused) {
            self.leave_page(number, &entry[1], idle, false);
            return false;
        }
        desk.begin_page_work(PageWork::Drop);
        let given = Given::from_word(entry[0].load(Ordering::Relaxed)); // ours
        let block = given.and_then(|given| self.ground.take_back(given));
        mark!("table.page.taken_back");
        entry[0].store(0, Ordering::Release); // pairs with `page`
        mark!("table.page.unnamed");
        drop(block);
        desk.end_page_work(Change { entries: 0, bytes: -(self.page_bytes() as i64) });
        mark!("table.page.dropped");
        entry[1].store(0, Ordering::Release); // pairs with `claim_page`
        true
    }

    /// Mends the page that a dead process had in its hands, at this desk.
    pub(super) fn mend_page(&self, desk: &Desk<'t>, dead: crate::id::ProcId) {
        let Some(entry) = desk.page().and_then(|number| self.pages().get(number)) else { return };
        let word = entry[1].load(Ordering::Acquire); // pairs with `claim_page`
        if page_word::CLAIM.get(word) != desk.claim() {
            return;
        }
        let given = Given::from_word(entry[0].load(Ordering::Acquire)); // pairs with `make_page`
        let bytes = self.page_bytes() as i64;
        let change = match (desk.page_work(), given) {
            (PageWork::Make, Some(_)) => bytes,
            (PageWork::Drop, None) => -bytes,
            _ => 0,
        };
        // A block that was noted and not yet taken: as soon as the page is out of our hands, somebody else may take it, and the
        // name would be that of their entry.
        let new = desk.new_entry();
        let noted = if new.is_some() { Entry::at(self.ground, new.spot()) } else { None };
        if noted.is_some_and(|entry| entry.head().state() == State::Free && new.means(entry.head())) {
            desk.note_new(Name::NONE);
            mark!("table.repair.new_forgotten");
        }
        if let Some(given) = given {
            self.ground.give_for(given, dead);
            mark!("table.repair.page_given");
            if let Some(page) = Page::at(self.ground, given.spot(), self.facts.page_words) {
                page.rebuild();
            }
        }
        mark!("table.repair.page_mended");
        desk.end_page_work(Change { entries: 0, bytes: change });
        let idle = if given.is_some() { page_word::SIZE.put(page_word::SIZE.get(word)) } else { 0 };
        entry[1].store(idle, Ordering::Release); // pairs with `claim_page`
    }

    /// The heads of all blocks.
    #[cfg(all(test, feature = "shuttle"))]
    pub(super) fn heads(&self) -> Vec<Head> {
        let pages = (0..self.pages_high()).filter_map(|number| self.page(number));
        pages.flat_map(|page| page.heads().map(|(_, head)| head).collect::<Vec<_>>()).collect()
    }

    /// Notes a free block of a page as one that is about to be taken, and gets no further.
    #[cfg(all(test, not(feature = "shuttle")))]
    pub(super) fn note_block_of(&self, desk: &Desk<'t>, number: usize) {
        let word = &self.pages().get(number).unwrap()[1];
        assert!(self.claim_page(desk, number, word, word.load(Ordering::Relaxed)));
        let page = self.page(number).unwrap();
        let (_, head) = page.find().unwrap();
        desk.note_new(Entry::at(self.ground, page.spot + head.back() as u64).unwrap().name(head));
    }

    /// Gives all pages back, with all that they name. Nobody has the table open any more.
    pub(super) fn bury_pages(&self) {
        for entry in (0..self.pages_high()).filter_map(|number| self.pages().get(number)) {
            let Some(given) = Given::from_word(entry[0].load(Ordering::Acquire)) else { continue }; // pairs with `make_page`
            for (_, head) in Page::at(self.ground, given.spot(), self.facts.page_words).iter().flat_map(Page::heads) {
                let block = Entry::at(self.ground, given.spot() + head.back() as u64);
                if let Some((block, form)) =
                    block.map(|block| (block, block.form())).filter(|(_, form)| form.is_large())
                {
                    drop(block.large(form).and_then(|large| self.ground.take_back(large)));
                }
            }
            mark!("table.bury.page_emptied");
            drop(self.ground.take_back(given));
            entry[0].store(0, Ordering::Release); // as above
        }
    }
}
