//! Reading: no lock, no claim, no system call, and not a word of shared memory written.
//!
//! A reader follows a slot to an entry, compares the key, copies the value, and believes it all if the entry's
//! block is still in the same life. A value in a block of its own is pinned while it is read.

use std::cell::Cell;

use super::TableError;
use super::entry::{Entry, Form, HEAD_WORDS, Head, Name, Slot};
use super::ground::Ground;
use super::layout::slot;
use super::pin::{Cargo, Pin};
use super::shard::Shard;
use crate::prim::{Ordering, fetch_ahead, load_words};

/// A key as bytes, with their hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'k> {
    pub(crate) bytes: &'k [u8],
    pub(crate) hash: u64,
}

impl Key<'_> {
    /// What is compared first: the highest bits, since the lowest are the same in a whole line.
    #[inline]
    pub(super) fn tag(&self) -> u64 {
        self.hash >> (64 - slot::TAG.mask().count_ones())
    }
}

/// An entry that was found, in the life that was found.
#[derive(Clone, Copy)]
pub(super) struct Found<'t> {
    pub(super) entry: Entry<'t>,
    pub(super) head: Head,
    pub(super) form: Form,
}

/// What a look at an entry says.
pub(super) enum Look<T> {
    Yes(T),
    No,
    /// It is not what it was when the look began: look again from the start.
    Changed,
}

/// What may be seen at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The checkpoint.
    pub(crate) at: u32,
    /// Values put at other checkpoints are seen only if they are kept for good.
    pub(crate) exact: bool,
}

impl View {
    /// Everything up to a checkpoint.
    #[cfg(test)]
    pub(crate) fn up_to(at: u32) -> View {
        View { at, exact: false }
    }

    /// Whether this entry is what is seen, whatever is behind it.
    #[inline(always)]
    fn shows_plainly(self, found: &Found<'_>) -> bool {
        self.shows(found.entry.version(), found.form) && !found.form.is_gone()
    }

    #[inline(always)]
    fn shows(self, version: u32, form: Form) -> bool {
        version <= self.at && (!self.exact || version == self.at || form.is_kept())
    }
}

impl<'t, G: Ground> Shard<'t, G> {
    /// Calls `see` with the newest entry of a key, again if that says that it changed meanwhile.
    #[inline(always)]
    pub(super) fn seek<R>(
        &self,
        key: &Key<'_>,
        expected: usize,
        mut see: impl FnMut(Found<'t>) -> Option<R>,
    ) -> Option<R> {
        'again: loop {
            let line = self.route(key.hash);
            for slot in self.candidates(line, key.tag()) {
                // Acquire: pairs with the publication of a slot; the entry is whole.
                let slot = Slot(slot.load(Ordering::Acquire));
                if slot == Slot::EMPTY {
                    continue;
                }
                self.fetch(slot, expected);
                match self.look(slot, key) {
                    Look::Yes(found) => match see(found) {
                        Some(seen) => return Some(seen),
                        None => continue 'again,
                    },
                    Look::No => {}
                    Look::Changed => continue 'again,
                }
            }
            if self.is_routed_to(line, key.hash) {
                return None;
            }
        }
    }

    /// Has so many words of an entry on their way, while one still waits for the first: more than a handful.
    #[inline(always)]
    fn fetch(&self, slot: Slot, words: usize) {
        if words > HEAD_WORDS + HANDFUL
            && let Some(words) = self.ground.words(slot.spot(), words.min(MOST_EXPECTED))
        {
            fetch_ahead(words);
        }
    }

    /// Whether the entry of a slot has this key.
    #[inline(always)]
    pub(super) fn look(&self, slot: Slot, key: &Key<'_>) -> Look<Found<'t>> {
        let Some(entry) = Entry::at(self.ground, slot.spot()) else { return Look::Changed };
        let Some(head) = entry.head_for(slot) else { return Look::Changed };
        let form = entry.form();
        match entry.has_key(form, key.bytes) {
            true => Look::Yes(Found { entry, head, form }),
            // What was compared may be another life's.
            false if entry.is_still(head) => Look::No,
            false => Look::Changed,
        }
    }

    /// The entry of a key that may be seen. `Changed` if one on the way is not what it was.
    pub(super) fn visible(&self, newest: Found<'t>, view: View) -> Look<Found<'t>> {
        let mut found = newest;
        while !view.shows(found.entry.version(), found.form) {
            match self.behind(&found) {
                Look::Yes(older) => found = older,
                other => return other,
            }
        }
        let gone = found.form.is_gone();
        match found.entry.is_still(found.head) {
            false => Look::Changed,
            true if gone => Look::No,
            true => Look::Yes(found),
        }
    }

    /// The entry of the same key at an earlier checkpoint, for one who has not claimed the line. What was read of `found`
    /// before is true, unless it is `Changed`.
    pub(super) fn behind(&self, found: &Found<'t>) -> Look<Found<'t>> {
        let older = found.entry.older(found.form);
        if !found.entry.is_still(found.head) {
            return Look::Changed;
        }
        if !older.is_some() {
            return Look::No;
        }
        let Some(entry) = Entry::at(self.ground, older.spot()) else { return Look::Changed };
        let (head, form) = (entry.head(), entry.form());
        if older.means(head) && entry.is_still(head) { Look::Yes(Found { entry, head, form }) } else { Look::Changed }
    }

    /// The entry of a key as seen from a checkpoint. Not to be believed beyond the life that it names.
    pub(super) fn find(&self, key: &Key<'_>, view: View) -> Option<Found<'t>> {
        self.seek(key, 0, |newest| match self.visible(newest, view) {
            Look::Yes(found) => Some(Some(found)),
            Look::No => Some(None),
            Look::Changed => None,
        })?
    }

    /// Copies words of an entry behind its head. False if it is not the same life any more.
    #[inline(always)]
    pub(super) fn copy(&self, found: &Found<'t>, skipped: usize, into: &mut [u64]) -> bool {
        let Some(words) = found.entry.body(skipped, into.len()) else { return false };
        load_words(words, into); // pairs with `store_bytes` of a later life
        found.entry.is_still(found.head)
    }

    /// Calls `take` once with the value of a key, if it is there: the name of the entry that the value is from, or none.
    #[inline(always)]
    pub(super) fn get(
        &self,
        key: &Key<'_>,
        expected: usize,
        view: View,
        cargo: &mut Cargo,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Name, Box<TableError>> {
        // What was found is not handed on but where it must be: it then stays in registers.
        let words = HEAD_WORDS + key.bytes.len().div_ceil(8) + expected.div_ceil(8);
        let got = self.seek(key, words, |newest| {
            let (form, mut words) = (newest.form, [0; HANDFUL]);
            if form.is_large() || form.has_cargo() || form.value_words() > HANDFUL || !view.shows_plainly(&newest) {
                return self.get_slowly(&newest, view, cargo, &mut take);
            }
            if !self.copy(&newest, form.key_words(), &mut words[..form.value_words()]) {
                return None;
            }
            take(&bytemuck::cast_slice(&words)[..form.value()]);
            Some(Ok(newest.entry.name(newest.head)))
        });
        got.unwrap_or(Ok(Name::NONE))
    }

    /// The same for what is not a handful of words seen as it is. `None`: it changed meanwhile.
    #[inline(never)]
    fn get_slowly(
        &self,
        newest: &Found<'t>,
        view: View,
        cargo: &mut Cargo,
        mut take: &mut dyn FnMut(&[u8]),
    ) -> Option<Result<Name, Box<TableError>>> {
        match self.visible(*newest, view) {
            Look::Yes(found) => match self.take(&found, cargo, &mut take) {
                Ok(true) => Some(Ok(found.entry.name(found.head))),
                Ok(false) => None,
                Err(refused) => Some(Err(refused)),
            },
            Look::No => Some(Ok(Name::NONE)),
            Look::Changed => None,
        }
    }

    /// Calls `take` with the value of an entry, unless that is not the same life any more: then it is false.
    #[inline(always)]
    pub(super) fn take(
        &self,
        found: &Found<'t>,
        cargo: &mut Cargo,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<bool, Box<TableError>> {
        if found.form.is_large() || found.form.has_cargo() {
            return self.take_pinned(found, cargo, take);
        }
        Ok(self.take_copied(found, take))
    }

    #[inline(always)]
    fn take_copied(&self, found: &Found<'t>, take: &mut impl FnMut(&[u8])) -> bool {
        let form = found.form;
        with_words(form.value_words(), |words| {
            let copied = self.copy(found, form.key_words(), words);
            if copied {
                take(&bytemuck::cast_slice(words)[..form.value()]);
            }
            copied
        })
    }

    fn take_pinned(
        &self,
        found: &Found<'t>,
        cargo: &mut Cargo,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<bool, Box<TableError>> {
        let pin = self.pin(found.entry, found.head, cargo).map_err(|refused| Box::new(refused.into()))?;
        let Some(pin) = pin else { return Ok(false) };
        let taken = self.pinned_bytes(&pin).map(take);
        self.unpin(pin, cargo);
        taken.map(|()| true).ok_or_else(|| Box::new(TableError::damaged("a value is not where it was")))
    }

    /// The value of a pinned entry, where it is.
    pub(super) fn pinned_bytes(&self, pin: &Pin<'t>) -> Option<&'t [u8]> {
        let form = pin.entry.form();
        let spot = if form.is_large() { pin.entry.large(form)?.spot() } else { pin.entry.value_spot(form) };
        self.ground.bytes(spot, form.value())
    }
}

/// Words that a value may have to be handed over without a further call.
const HANDFUL: usize = 4;
/// Most words of an entry that are asked for before its head has come.
const MOST_EXPECTED: usize = 256;
/// Words that need no more than the stack.
const FEW: usize = 16;
/// Longest buffer that a thread keeps.
const KEPT: usize = 1 << 17;

/// Calls `f` with so many words to write into.
#[inline]
pub(super) fn with_words<R>(count: usize, f: impl FnOnce(&mut [u64]) -> R) -> R {
    thread_local! {
        static WORDS: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
    }
    if count <= FEW {
        return f(&mut [0; FEW][..count]);
    }
    let mut words = WORDS.take();
    if words.len() < count {
        words.resize(count, 0);
    }
    let result = f(&mut words[..count]);
    words.truncate(KEPT);
    WORDS.set(words);
    result
}
