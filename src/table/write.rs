//! Writing: an entry is filled where nobody sees it, and one word changes what the table refers to.
//!
//! The order of steps is what a death may cut anywhere: take a block and note it; fill it; claim the line; note what
//! goes out and what the figures will be; change the one word; note that it is done; release the line; free what
//! went out; count. Whatever is noted and not in the table is freed by the repair, and whatever is in the table
//! was put.

use std::cell::Cell;

use super::TableError;
use super::desk::{Change, Desk};
use super::entry::{Entry, Form, Name, Slot, State, store_bytes};
use super::ground::Ground;
use super::layout::{UPPER, form};
use super::line::Line;
use super::page::largest_block;
use super::pin::Cargo;
use super::read::{Found, Key, Look, View, with_words};
use super::shard::Shard;
use crate::mm::Block;
use crate::prim::{AtomicU64, Ordering};

/// What must be so for a call to change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing.
    Any,
    /// The key is not there.
    Absent,
    /// The key has the value of this entry.
    Same(Name),
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// The key was not there before.
    New,
    /// It was.
    Over,
    /// It is not as expected, and nothing was changed.
    Refused,
    /// The gate has changed since the caller looked, and nothing else was.
    Stale,
}

/// What a value is made from: a function that writes it, or a block in which it stands.
pub(super) trait Value {
    fn write(self, space: &mut [u8]);

    /// The block, which becomes the entry's if the value is to have one of its own.
    fn block(&self) -> Option<Block> {
        None
    }
}

impl<F: FnOnce(&mut [u8])> Value for F {
    #[inline(always)]
    fn write(self, space: &mut [u8]) {
        self(space);
    }
}

/// A value that stands in a block of this process, from the first byte on. When it was put it is no more there, and cannot be
/// put again.
pub(crate) struct Filled {
    block: Cell<Option<Block>>,
    len: usize,
}

impl Filled {
    /// The first `len` bytes of a block.
    pub(crate) fn new(block: Block, len: usize) -> Filled {
        Filled { block: Cell::new(Some(block)), len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_there(&self) -> bool {
        let block = self.block.take();
        let there = block.is_some();
        self.block.set(block);
        there
    }
}

impl Value for &Filled {
    fn write(self, space: &mut [u8]) {
        if let Some(block) = self.block.take() {
            space.copy_from_slice(&block.as_slice()[..self.len]);
            self.block.set(Some(block));
        }
    }

    fn block(&self) -> Option<Block> {
        self.block.take()
    }
}

/// When and how something is put or removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// The checkpoint of the caller, and what it sees there.
    pub(crate) view: View,
    /// The oldest checkpoint that anybody may still look at.
    pub(crate) floor: u32,
    /// Whether it survives checkpoints by itself.
    pub(crate) kept: bool,
    /// Whether it keeps other objects alive.
    pub(crate) cargo: bool,
    pub(crate) expect: Expect,
    /// The gate as the caller saw it, when it found that it may.
    pub(crate) gate: u64,
}

impl How {
    /// Whether nobody sees an entry any more, even if nothing hides it.
    pub(super) fn is_past(&self, found: &Found<'_>) -> bool {
        self.view.exact && !found.form.is_kept() && found.entry.version() < self.floor
    }
}

/// A desk for as long as a call lasts. Should what the caller gave panic, what it was to fill is freed.
pub(super) struct Call<'t, G: Ground> {
    shard: Shard<'t, G>,
    pub(super) desk: Desk<'t>,
}

impl<G: Ground> Drop for Call<'_, G> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shard.drop_taken(&self.desk);
        }
        self.desk.close(Change::default());
    }
}

impl<'t, G: Ground> Shard<'t, G> {
    #[inline]
    pub(super) fn begin(&self) -> Call<'t, G> {
        Call { shard: *self, desk: self.desk() }
    }

    #[inline]
    fn gate(&self) -> u64 {
        // SeqCst: after the desk was taken; pairs with the change of the gate before a look at the desks.
        self.ground.root()[UPPER].load(Ordering::SeqCst)
    }

    /// Puts a value of `len` bytes. `bound` is told the name of the entry before anybody sees it.
    #[inline]
    pub(super) fn put(
        &self,
        key: &Key<'_>,
        how: &How,
        len: usize,
        cargo: &mut Cargo,
        value: impl Value,
        bound: impl FnOnce(Name),
    ) -> Result<Wrote, TableError> {
        let call = self.begin();
        if self.gate() != how.gate {
            return Ok(Wrote::Stale);
        }
        self.put_at(&call.desk, key, how, len, cargo, value, bound)
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the arguments of `put`, and the desk")]
    fn put_at(
        &self,
        desk: &Desk<'t>,
        key: &Key<'_>,
        how: &How,
        len: usize,
        cargo: &mut Cargo,
        value: impl Value,
        bound: impl FnOnce(Name),
    ) -> Result<Wrote, TableError> {
        let form = Form::new(key.bytes.len(), len).with(form::CHAINED, self.facts.history);
        let large = form.words() > largest_block(self.facts.page_words);
        let form = form.with(form::LARGE, large).with(form::KEPT, how.kept).with(form::CARGO, how.cargo);
        let (new, name) = self.prepare(desk, key, form, how.view.at, value)?;
        bound(name);
        let line = self.claim(desk, key.hash);
        let newest = self.slot_of(line, key);
        if !self.is_expected(newest.as_ref().map(|(_, found)| found), how) {
            self.release(desk, line);
            self.retire(desk, name, cargo);
            return Ok(Wrote::Refused);
        }
        let Some((slot, found)) = newest else {
            return self.put_new(desk, line, key, (new, name), cargo);
        };
        match self.is_all(found, how) {
            true => self.replace(desk, line, key, slot, found, (new, name), cargo),
            false => self.put_among(desk, line, key, (slot, found), how, (new, name), cargo),
        }
        Ok(Wrote::Over)
    }

    /// Puts the first entry of a key into a line that is in our hands.
    fn put_new(
        &self,
        desk: &Desk<'t>,
        line: Line<'t>,
        key: &Key<'_>,
        (new, name): (Entry<'t>, Name),
        cargo: &mut Cargo,
    ) -> Result<Wrote, TableError> {
        let slot = match self.free_slot(line) {
            Ok(slot) => slot,
            Err(refused) => {
                self.release(desk, line);
                self.retire(desk, name, cargo);
                return Err(refused);
            }
        };
        let change = Change { entries: 1, bytes: new.form().large_bytes() as i64 };
        // SeqCst: before the look for sleepers; pairs with the look of one who waits. It is a release too, which pairs
        // with the acquire of a slot.
        let put = || _ = slot.swap(name.slot(key.tag()).0, Ordering::SeqCst);
        self.publish(desk, line, Name::NONE, change, put, cargo);
        self.help(desk);
        Ok(Wrote::New)
    }

    /// Whether an entry is all there is of a key, and nobody looks at it any more when another is put.
    #[inline(always)]
    fn is_all(&self, found: Found<'t>, how: &How) -> bool {
        let (version, at) = (found.entry.version(), how.view.at);
        !found.entry.older(found.form).is_some() && (version == at || version < at && how.floor >= at)
    }

    /// Puts an entry in place of all there is of a key.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "where, what and in place of what")]
    fn replace(
        &self,
        desk: &Desk<'t>,
        line: Line<'t>,
        key: &Key<'_>,
        slot: &AtomicU64,
        found: Found<'t>,
        (new, name): (Entry<'t>, Name),
        cargo: &mut Cargo,
    ) {
        let bytes = new.form().large_bytes() as i64 - found.form.large_bytes() as i64;
        let old = found.entry.name(found.head);
        // Release: pairs with the acquire of a slot. The SeqCst step before the look for sleepers is that of `retire`.
        let put = || slot.store(name.slot(key.tag()).0, Ordering::Release);
        self.publish(desk, line, old, Change { entries: 0, bytes }, put, cargo);
    }

    /// Fills an entry that nobody sees.
    #[inline(always)]
    fn prepare(
        &self,
        desk: &Desk<'t>,
        key: &Key<'_>,
        form: Form,
        version: u32,
        value: impl Value,
    ) -> Result<(Entry<'t>, Name), TableError> {
        if form.words() > largest_block(self.facts.page_words) {
            let most = (largest_block(self.facts.page_words) - super::entry::HEAD_WORDS - 1) * size_of::<u64>();
            return Err(TableError::KeyTooLong { len: form.key(), most });
        }
        if form.is_large() {
            self.check_room(form.large_bytes())?;
        }
        let entry = self.take_block(desk, form.words())?;
        let (taken, damaged) = (entry.head(), TableError::damaged("an entry is not where it was"));
        let name = entry.name(taken);
        let body = entry.body(0, form.words() - super::entry::HEAD_WORDS).ok_or(damaged)?;
        let (key_words, rest) = body.split_at(form.key_words());
        let value_words = &rest[..form.value_words()];
        store_bytes(key_words, key.bytes);
        entry.set_hash(key.hash, version);
        entry.set_older(form, Name::NONE);
        if form.is_large() {
            let filled = self.fill_large(entry, form, value_words, value);
            filled.inspect_err(|_| self.drop_taken(desk))?;
        } else {
            with_words(value_words.len(), |words| {
                let bytes = &mut bytemuck::cast_slice_mut(words)[..form.value()];
                value.write(bytes);
                store_bytes(value_words, bytes);
            });
            entry.set_form(form);
        }
        mark!("table.entry.filled");
        entry.word().store(taken.to(State::Live, 0).0, Ordering::Release); // pairs with `Entry::head`
        mark!("table.entry.live");
        Ok((entry, name))
    }

    fn fill_large(
        &self,
        entry: Entry<'t>,
        form: Form,
        words: &[AtomicU64],
        value: impl Value,
    ) -> Result<(), TableError> {
        let (block, given) = match value.block() {
            Some(block) => self.ground.adopt(block)?,
            None => {
                let (mut block, given) = self.ground.make(form.value())?;
                value.write(self.ground.bytes_of(&mut block));
                (block, given)
            }
        };
        words.iter().for_each(|word| word.store(given.word(), Ordering::Release)); // pairs with `Entry::large`
        entry.set_form(form);
        mark!("table.entry.large_named");
        self.ground.give(block);
        mark!("table.entry.large_given");
        Ok(())
    }

    /// Frees the block that was noted as new, if it is being filled at this desk and came to nothing.
    pub(super) fn drop_taken(&self, desk: &Desk<'t>) {
        let name = desk.new_entry();
        let Some(entry) = name.is_some().then(|| Entry::at(self.ground, name.spot())).flatten() else { return };
        let head = entry.head();
        if head.state() == State::Taken && head.claim() == desk.claim() && name.means(head) {
            let leaving = head.to(State::Leaving, desk.claim());
            entry.word().store(leaving.0, Ordering::Release); // pairs with `Entry::head`
            mark!("table.block.given_up");
            self.free_block(entry, leaving);
        }
    }

    /// The slot of a key in a line that is in our hands, and the entry that it refers to.
    #[inline(always)]
    fn slot_of(&self, line: Line<'t>, key: &Key<'_>) -> Option<(&'t AtomicU64, Found<'t>)> {
        for word in self.claimed_candidates(line, key.tag()) {
            let slot = Slot(word.load(Ordering::Relaxed)); // nobody else changes a claimed line
            if slot != Slot::EMPTY
                && let Look::Yes(found) = self.look(slot, key)
            {
                return Some((word, found));
            }
        }
        None
    }

    /// The entry of a slot in a line that is in our hands.
    #[inline(always)]
    pub(super) fn held(&self, slot: &AtomicU64) -> Option<Found<'t>> {
        let slot = Slot(slot.load(Ordering::Relaxed)); // nobody else changes a claimed line
        let entry = if slot == Slot::EMPTY { None } else { Entry::at(self.ground, slot.spot()) }?;
        entry.head_for(slot).map(|head| Found { entry, head, form: entry.form() })
    }

    #[inline(always)]
    fn is_expected(&self, newest: Option<&Found<'t>>, how: &How) -> bool {
        how.expect == Expect::Any || self.is_as_expected(newest, how)
    }

    #[cold]
    fn is_as_expected(&self, newest: Option<&Found<'t>>, how: &How) -> bool {
        let seen = match newest.map(|found| self.visible(*found, how.view)) {
            Some(Look::Yes(found)) => Some(found.entry.name(found.head)),
            _ => None,
        };
        match how.expect {
            Expect::Any => true,
            Expect::Absent => seen.is_none(),
            Expect::Same(name) => seen == Some(name),
        }
    }

    /// Puts an entry among those that a key has at several checkpoints. What no checkpoint needs any more goes at once.
    #[cold]
    #[allow(clippy::too_many_arguments, reason = "where, what and among what")]
    fn put_among(
        &self,
        desk: &Desk<'t>,
        line: Line<'t>,
        key: &Key<'_>,
        (slot, newest): (&AtomicU64, Found<'t>),
        how: &How,
        (new, name): (Entry<'t>, Name),
        cargo: &mut Cargo,
    ) {
        let at = how.view.at;
        self.prune(desk, newest, how, cargo);
        let (mut newer, mut next) = (None, Some(newest));
        while let Some(found) = next.filter(|found| found.entry.version() > at) {
            (newer, next) = (Some(found), self.older(&found));
        }
        let goes = next.filter(|found| found.entry.version() == at || how.floor >= at);
        if newer.is_some() && !self.facts.history {
            // Of a checkpoint that was retired since the call began: nobody will ever see it.
            self.release(desk, line);
            return self.retire(desk, name, cargo);
        }
        let older = match (goes, next) {
            (Some(goes), _) => goes.entry.older(goes.form),
            (None, Some(stays)) => stays.entry.name(stays.head),
            (None, None) => Name::NONE,
        };
        new.set_older(new.form(), older);
        let old = goes.map_or(Name::NONE, |goes| goes.entry.name(goes.head));
        let gone = goes.map_or(0, |goes| goes.form.large_bytes());
        let change = Change { entries: 0, bytes: new.form().large_bytes() as i64 - gone as i64 };
        let put = || match newer {
            Some(newer) => newer.entry.set_older(newer.form, name),
            // SeqCst: as in `put_new`.
            None => _ = slot.swap(name.slot(key.tag()).0, Ordering::SeqCst),
        };
        self.publish(desk, line, old, change, put, cargo);
    }

    /// The next entry of the same key. The line is in our hands.
    pub(super) fn older(&self, found: &Found<'t>) -> Option<Found<'t>> {
        let older = found.entry.older(found.form);
        let entry = older.is_some().then(|| Entry::at(self.ground, older.spot())).flatten()?;
        let head = entry.head();
        older.means(head).then(|| Found { entry, head, form: entry.form() })
    }

    /// Takes out the entries behind the newest of a key that no checkpoint from the floor on sees, the oldest first.
    #[inline(always)]
    pub(super) fn prune(&self, desk: &Desk<'t>, newest: Found<'t>, how: &How, cargo: &mut Cargo) {
        if newest.entry.older(newest.form).is_some() {
            self.prune_some(desk, newest, how, cargo);
        }
    }

    #[cold]
    fn prune_some(&self, desk: &Desk<'t>, newest: Found<'t>, how: &How, cargo: &mut Cargo) {
        while let Some((before, last)) = self.last_unseen(newest, how) {
            let change = Change { entries: 0, bytes: -(last.form.large_bytes() as i64) };
            let name = last.entry.name(last.head);
            desk.note_old(name);
            desk.note_change(change, false);
            before.entry.set_older(before.form, Name::NONE);
            mark!("table.entry.pruned");
            desk.note_change(change, true);
            self.retire(desk, name, cargo);
            desk.count(change);
        }
    }

    /// The last entry of a key with the one before it, if nobody sees the last.
    fn last_unseen(&self, newest: Found<'t>, how: &How) -> Option<(Found<'t>, Found<'t>)> {
        let hides = |found: &Found<'t>| found.entry.version() <= how.floor && (!how.view.exact || found.form.is_kept());
        let (mut before, mut hidden) = (newest, hides(&newest));
        let mut last = self.older(&newest)?;
        while let Some(next) = self.older(&last) {
            hidden |= hides(&last);
            (before, last) = (last, next);
        }
        (hidden || how.is_past(&last)).then_some((before, last))
    }

    /// Changes the one word that decides, releases the line, and ends what goes by it.
    #[inline(always)]
    fn publish(
        &self,
        desk: &Desk<'t>,
        line: Line<'t>,
        old: Name,
        change: Change,
        put: impl FnOnce(),
        cargo: &mut Cargo,
    ) {
        desk.note_old(old);
        desk.note_change(change, false);
        put();
        mark!("table.slot.published");
        desk.note_change(change, true);
        self.release(desk, line);
        if old.is_some() {
            self.retire(desk, old, cargo);
        }
        self.tell();
        desk.count(change);
    }

    /// Removes a key as of a checkpoint. Earlier ones that anybody may still look at see it as before.
    pub(super) fn remove(&self, key: &Key<'_>, how: &How, cargo: &mut Cargo) -> Result<Wrote, TableError> {
        let call = self.begin();
        if self.gate() != how.gate {
            return Ok(Wrote::Stale);
        }
        self.remove_at(&call.desk, key, how, cargo)
    }

    fn remove_at(&self, desk: &Desk<'t>, key: &Key<'_>, how: &How, cargo: &mut Cargo) -> Result<Wrote, TableError> {
        let line = self.claim(desk, key.hash);
        let seen = self.slot_of(line, key).filter(|(_, newest)| {
            matches!(self.visible(*newest, how.view), Look::Yes(_)) && self.is_expected(Some(newest), how)
        });
        let Some((slot, newest)) = seen else {
            self.release(desk, line);
            return Ok(Wrote::Refused);
        };
        self.prune(desk, newest, how, cargo);
        let alone = !newest.entry.older(newest.form).is_some();
        // Else who puts it at an earlier checkpoint would make it seen at this one.
        if alone && how.floor >= how.view.at {
            self.clear(desk, line, slot, newest, cargo);
            return Ok(Wrote::Over);
        }
        // An entry that says that there is no value any more.
        let form = Form::new(key.bytes.len(), 0).with(form::CHAINED, self.facts.history);
        let form = form.with(form::GONE, true).with(form::KEPT, true);
        match self.prepare(desk, key, form, how.view.at, |_: &mut [u8]| ()) {
            Ok(new) => self.put_among(desk, line, key, (slot, newest), how, new, cargo),
            Err(refused) => {
                self.release(desk, line);
                return Err(refused);
            }
        }
        Ok(Wrote::Over)
    }

    /// Takes the only entry of a key out of a line that is in our hands, and releases the line.
    pub(super) fn clear(&self, desk: &Desk<'t>, line: Line<'t>, slot: &AtomicU64, only: Found<'t>, cargo: &mut Cargo) {
        let change = Change { entries: -1, bytes: -(only.form.large_bytes() as i64) };
        // SeqCst: as in `put_new`.
        let take = || _ = slot.swap(Slot::EMPTY.0, Ordering::SeqCst);
        self.publish(desk, line, only.entry.name(only.head), change, take, cargo);
    }

    /// Wakes those who wait for a change of the table, if there are any.
    #[inline]
    fn tell(&self) {
        if cfg!(not(feature = "shuttle"))
            && let Some(cell) = super::shard::changed(self.ground)
            // SeqCst in `sleepers`; pairs with a sleeper's registration.
            && cell.sleepers() > 0
        {
            cell.notify_all();
        }
    }
}
