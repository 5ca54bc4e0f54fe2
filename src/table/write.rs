//! Writing: an entry is filled where nobody sees it, and one word changes what the table refers to.
//!
//! The order of steps is what a death may cut anywhere: take a block and note it; fill it; claim the line; note what
//! goes out and what the figures will be; change the one word; note that it is done; release the line; free what
//! went out; count. Whatever is noted and not in the table is freed by the repair, and whatever is in the table
//! was put.

use super::TableError;
use super::desk::{Change, Desk};
use super::entry::{Entry, Form, Name, Slot, State, store_bytes};
use super::ground::Ground;
use super::layout::{UPPER, form};
use super::page::largest_block;
use super::pin::Cargo;
use super::read::{Found, Key, Look, View, with_words};
use super::shard::Shard;
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

/// Where a new entry goes: into a slot, or behind a newer entry of the same key.
enum Place<'t> {
    Slot(&'t AtomicU64),
    Behind(Entry<'t>),
}

/// A change of one word that is about to be made.
struct Plan<'t> {
    place: Place<'t>,
    /// What the new entry will point to.
    older: Name,
    /// What goes out of the table.
    old: Option<Found<'t>>,
    entries: i64,
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

    /// Puts a value of `len` bytes that `fill` writes. `bound` is told the name of the entry before anybody sees it.
    #[inline]
    pub(super) fn put(
        &self,
        key: &Key<'_>,
        how: &How,
        len: usize,
        cargo: &mut Cargo,
        fill: impl FnOnce(&mut [u8]),
        bound: impl FnOnce(Name),
    ) -> Result<Wrote, TableError> {
        let call = self.begin();
        if self.gate() != how.gate {
            return Ok(Wrote::Stale);
        }
        self.put_at(&call.desk, key, how, len, cargo, fill, bound)
    }

    #[inline]
    #[allow(clippy::too_many_arguments, reason = "the arguments of `put`, and the desk")]
    fn put_at(
        &self,
        desk: &Desk<'t>,
        key: &Key<'_>,
        how: &How,
        len: usize,
        cargo: &mut Cargo,
        fill: impl FnOnce(&mut [u8]),
        bound: impl FnOnce(Name),
    ) -> Result<Wrote, TableError> {
        let form = Form::new(key.bytes.len(), len);
        let large = form.words() > largest_block(self.facts.page_words);
        let form = form.with(form::LARGE, large).with(form::KEPT, how.kept).with(form::CARGO, how.cargo);
        let (new, name) = self.prepare(desk, key, form, how.view.at, fill)?;
        bound(name);
        let number = self.claim(desk, key.hash);
        let newest = self.newest_in(number, key);
        if !self.is_expected(newest, how) {
            self.release(desk, number);
            self.retire(desk, name, cargo);
            return Ok(Wrote::Refused);
        }
        let plan = match self.plan(desk, number, newest, how, cargo) {
            Ok(plan) => plan,
            Err(refused) => {
                self.release(desk, number);
                self.retire(desk, name, cargo);
                return Err(refused);
            }
        };
        let entries = plan.entries;
        self.publish(desk, number, key, plan, (new, name), cargo);
        if entries > 0 {
            self.help(desk);
        }
        Ok(if newest.is_some() { Wrote::Over } else { Wrote::New })
    }

    /// Fills an entry that nobody sees.
    #[inline]
    fn prepare(
        &self,
        desk: &Desk<'t>,
        key: &Key<'_>,
        form: Form,
        version: u32,
        fill: impl FnOnce(&mut [u8]),
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
        let (key_words, value_words) = body.split_at(form.key_words());
        store_bytes(key_words, key.bytes);
        entry.set_hash(key.hash, version);
        entry.set_older(Name::NONE);
        if form.is_large() {
            let filled = self.fill_large(entry, form, value_words, fill);
            filled.inspect_err(|_| self.drop_taken(desk))?;
        } else {
            with_words(value_words.len(), |words| {
                let bytes = &mut bytemuck::cast_slice_mut(words)[..form.value()];
                fill(bytes);
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
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), TableError> {
        let (mut block, given) = self.ground.make(form.value())?;
        fill(self.ground.bytes_of(&mut block));
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

    /// The slot and the newest entry of a key in a line that is in our hands.
    #[inline]
    fn newest_in(&self, number: usize, key: &Key<'_>) -> Option<(&'t AtomicU64, Found<'t>)> {
        self.slots(number).find_map(|word| {
            let slot = Slot(word.load(Ordering::Relaxed)); // nobody else changes a claimed line
            let look = slot.has_tag(key.tag()).then(|| self.look(slot, key));
            match look {
                Some(Look::Yes(found)) => Some((word, found)),
                _ => None,
            }
        })
    }

    fn is_expected(&self, newest: Option<(&AtomicU64, Found<'t>)>, how: &How) -> bool {
        let seen = || match newest.map(|(_, found)| self.visible(found, how.view)) {
            Some(Look::Yes(found)) => Some(found.entry.name(found.head)),
            _ => None,
        };
        match how.expect {
            Expect::Any => true,
            Expect::Absent => seen().is_none(),
            Expect::Same(name) => seen() == Some(name),
        }
    }

    /// Which word will be changed, in a line that is in our hands. What no checkpoint needs any more goes at once.
    #[inline]
    fn plan(
        &self,
        desk: &Desk<'t>,
        number: usize,
        newest: Option<(&'t AtomicU64, Found<'t>)>,
        how: &How,
        cargo: &mut Cargo,
    ) -> Result<Plan<'t>, TableError> {
        let at = how.view.at;
        let Some((slot, newest)) = newest else {
            return Ok(Plan { place: Place::Slot(self.free_slot(number)?), older: Name::NONE, old: None, entries: 1 });
        };
        self.prune(desk, newest, how, cargo);
        let (mut place, mut found) = (Place::Slot(slot), Some(newest));
        while let Some(newer) = found.filter(|found| found.entry.version() > at) {
            (place, found) = (Place::Behind(newer.entry), self.older(&newer));
        }
        let Some(found) = found else { return Ok(Plan { place, older: Name::NONE, old: None, entries: 0 }) };
        let older = found.entry.older();
        let goes = found.entry.version() == at || how.floor >= at;
        let (older, old) = if goes { (older, Some(found)) } else { (found.entry.name(found.head), None) };
        // What is still behind it then is for checkpoints that nobody may look at, and goes with the next pruning.
        Ok(Plan { place, older, old, entries: 0 })
    }

    /// The next entry of the same key. The line is in our hands.
    pub(super) fn older(&self, found: &Found<'t>) -> Option<Found<'t>> {
        let older = found.entry.older();
        let entry = older.is_some().then(|| Entry::at(self.ground, older.spot())).flatten()?;
        let head = entry.head();
        older.means(head).then(|| Found { entry, head, form: entry.form() })
    }

    /// Takes out the entries behind the newest of a key that no checkpoint from the floor on sees, the oldest first.
    pub(super) fn prune(&self, desk: &Desk<'t>, newest: Found<'t>, how: &How, cargo: &mut Cargo) {
        while let Some((before, last)) = self.last_unseen(newest, how) {
            let change = Change { entries: 0, bytes: -(last.form.large_bytes() as i64) };
            let name = last.entry.name(last.head);
            desk.note_old(name);
            desk.note_change(change, false);
            before.entry.set_older(Name::NONE);
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

    /// Makes the planned change, and ends what goes by it.
    #[inline]
    fn publish(
        &self,
        desk: &Desk<'t>,
        number: usize,
        key: &Key<'_>,
        plan: Plan<'t>,
        (new, name): (Entry<'t>, Name),
        cargo: &mut Cargo,
    ) {
        new.set_older(plan.older);
        let old = plan.old.map_or(Name::NONE, |old| old.entry.name(old.head));
        let gone = plan.old.map_or(0, |old| old.form.large_bytes());
        let change = Change { entries: plan.entries, bytes: new.form().large_bytes() as i64 - gone as i64 };
        desk.note_old(old);
        desk.note_change(change, false);
        match plan.place {
            // SeqCst: before the look for sleepers; pairs with the look of one who waits. It is a release too, which
            // pairs with the acquire of a slot.
            Place::Slot(slot) => drop(slot.swap(name.slot(key.tag()).0, Ordering::SeqCst)),
            Place::Behind(newer) => newer.set_older(name),
        }
        mark!("table.slot.published");
        desk.note_change(change, true);
        self.release(desk, number);
        self.tell();
        if old.is_some() {
            self.retire(desk, old, cargo);
        }
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
        let number = self.claim(desk, key.hash);
        let Some((slot, newest)) = self.newest_in(number, key) else {
            self.release(desk, number);
            return Ok(Wrote::Refused);
        };
        let seen = matches!(self.visible(newest, how.view), Look::Yes(_));
        if !seen || !self.is_expected(Some((slot, newest)), how) {
            self.release(desk, number);
            return Ok(Wrote::Refused);
        }
        self.prune(desk, newest, how, cargo);
        let alone = !newest.entry.older().is_some();
        // Else who puts it at an earlier checkpoint would make it seen at this one.
        if alone && how.floor >= how.view.at {
            self.clear(desk, number, slot, newest, cargo);
            return Ok(Wrote::Over);
        }
        let marked = self.mark_gone(desk, number, key, (slot, newest), how, cargo);
        if marked.is_err() {
            self.release(desk, number);
        }
        marked.map(|()| Wrote::Over)
    }

    /// Takes the only entry of a key out of a line that is in our hands, and releases the line.
    pub(super) fn clear(&self, desk: &Desk<'t>, number: usize, slot: &AtomicU64, only: Found<'t>, cargo: &mut Cargo) {
        let name = only.entry.name(only.head);
        let change = Change { entries: -1, bytes: -(only.form.large_bytes() as i64) };
        desk.note_old(name);
        desk.note_change(change, false);
        slot.swap(Slot::EMPTY.0, Ordering::SeqCst); // as in `publish`
        mark!("table.slot.cleared");
        desk.note_change(change, true);
        self.release(desk, number);
        self.tell();
        self.retire(desk, name, cargo);
        desk.count(change);
    }

    /// Puts an entry that says that there is no value any more.
    fn mark_gone(
        &self,
        desk: &Desk<'t>,
        number: usize,
        key: &Key<'_>,
        newest: (&'t AtomicU64, Found<'t>),
        how: &How,
        cargo: &mut Cargo,
    ) -> Result<(), TableError> {
        let form = Form::new(key.bytes.len(), 0).with(form::GONE, true).with(form::KEPT, true);
        let new = self.prepare(desk, key, form, how.view.at, |_| ())?;
        let plan = self.plan(desk, number, Some(newest), how, cargo);
        let plan = plan.inspect_err(|_| self.retire(desk, new.1, cargo))?;
        self.publish(desk, number, key, plan, new, cargo);
        Ok(())
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
