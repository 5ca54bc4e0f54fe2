//! Walks over all keys: what is there from the beginning to the end of the walk is seen once, what comes or goes
//! meanwhile perhaps, and nobody waits.
//!
//! Lines are split while one walks. A line that is read at a level holds the keys whose hashes end so; the
//! lines that were born of it at lower levels than that hold the others, and none of the keys that it will
//! bear later. So from every first line the walk goes to the line itself, and then to those born before.

use super::TableError;
use super::entry::{Entry, Slot};
use super::ground::Ground;
use super::layout::FIRST_DEPTH;
use super::pin::Cargo;
use super::read::{Found, Key, Look, View, with_words};
use super::shard::Shard;
use crate::prim::Ordering;

/// Lines to begin a walk at: parts of it that have nothing in common.
pub(crate) const PARTS: usize = 1 << FIRST_DEPTH;

/// The keys of one line.
struct Batch<'t> {
    bytes: Vec<u8>,
    found: Vec<Found<'t>>,
}

/// An entry as a walk shows it.
#[derive(Clone, Copy)]
pub(crate) struct Item<'i> {
    pub(crate) key: &'i [u8],
    /// Empty, if the walk was not asked for values.
    pub(crate) value: &'i [u8],
    /// It survives checkpoints by itself.
    pub(crate) kept: bool,
    /// The checkpoint that it was put at.
    pub(crate) version: u32,
    /// It keeps other objects alive.
    pub(crate) cargo: bool,
}

impl<'t, G: Ground> Shard<'t, G> {
    /// Shows the keys of one part.
    pub(super) fn walk_keys(&self, part: usize, view: View, see: impl FnMut(&[u8])) {
        self.walk_seen_keys(part, Some(view), see);
    }

    /// Shows the keys of one part of which anything is there.
    pub(super) fn walk_all_keys(&self, part: usize, see: impl FnMut(&[u8])) {
        self.walk_seen_keys(part, None, see);
    }

    fn walk_seen_keys(&self, part: usize, view: Option<View>, mut see: impl FnMut(&[u8])) {
        self.each_batch(part, view, |batch| {
            let mut rest = batch.bytes.as_slice();
            for found in &batch.found {
                let (key, behind) = rest.split_at(found.form.key());
                see(key);
                rest = behind;
            }
            Ok::<(), std::convert::Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
    }

    /// Shows the keys and values of one part, until `see` refuses.
    pub(super) fn walk<E: From<TableError>>(
        &self,
        part: usize,
        view: View,
        cargo: &mut Cargo,
        mut see: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_batch(part, Some(view), |batch| {
            let mut rest = batch.bytes.as_slice();
            for found in &batch.found {
                let (key, behind) = rest.split_at(found.form.key());
                self.show(key, found, view, cargo, &mut see)?;
                rest = behind;
            }
            Ok(())
        })
    }

    /// Shows one key with the value that it has now.
    fn show<E: From<TableError>>(
        &self,
        bytes: &[u8],
        found: &Found<'t>,
        view: View,
        cargo: &mut Cargo,
        see: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (kept, version) = (found.form.is_kept(), found.entry.version());
        let holds = found.form.has_cargo();
        let mut shown = Ok(());
        let mut take = |value: &[u8]| shown = see(Item { key: bytes, value, kept, version, cargo: holds });
        if !self.take(found, cargo, &mut take).map_err(|refused| *refused)? {
            // It was changed since, and perhaps is not there any more.
            let hash = self.facts.hash(bytes);
            self.get(&Key { bytes, hash }, 0, view, cargo, take).map_err(|refused| *refused)?;
        }
        shown
    }

    /// Batches of keys as they are seen from a checkpoint; none: as the newest of each is.
    fn each_batch<E>(
        &self,
        part: usize,
        view: Option<View>,
        mut see: impl FnMut(&Batch<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut batch = Batch { bytes: Vec::new(), found: Vec::new() };
        let mut left = vec![(part, FIRST_DEPTH)];
        while let Some((number, from)) = left.pop() {
            let level = self.read_line(number, view, &mut batch);
            left.extend((from..level).map(|level| (number | 1 << level, level + 1)));
            see(&batch)?;
        }
        Ok(())
    }

    /// Reads the keys of a line at one level, which it says.
    fn read_line(&self, number: usize, view: Option<View>, batch: &mut Batch<'t>) -> u32 {
        loop {
            batch.bytes.clear();
            batch.found.clear();
            let Some((line, level)) = self.line(number).and_then(|line| Some((line, line.level()?))) else {
                // Those that a walk comes to are born; a table without its first lines has no keys.
                return FIRST_DEPTH;
            };
            // Acquire: pairs with the publication of a slot.
            let mut slots = self.slots(line).map(|slot| Slot(slot.load(Ordering::Acquire)));
            let whole = slots.all(|slot| slot == Slot::EMPTY || self.read_key(slot, (number, level), view, batch));
            if whole && line.level() == Some(level) {
                return level;
            }
        }
    }

    /// Adds the key of a slot, if it is seen and belongs to this line at this level: it may be about to be cleared
    /// after a split. False if it changed under the look.
    fn read_key(&self, slot: Slot, (number, level): (usize, u32), view: Option<View>, batch: &mut Batch<'t>) -> bool {
        let Some(entry) = Entry::at(self.ground, slot.spot()) else { return false };
        let Some(head) = entry.head_for(slot) else { return false };
        let newest = Found { entry, head, form: entry.form() };
        let belongs = entry.hash() as usize & ((1 << level) - 1) == number;
        if !entry.is_still(head) {
            return false;
        }
        if !belongs {
            return true;
        }
        match view.map_or(Look::Yes(newest), |view| self.visible(newest, view)) {
            Look::No => true,
            Look::Changed => false,
            Look::Yes(found) => with_words(found.form.key_words(), |words| {
                let copied = self.copy(&found, 0, words);
                if copied {
                    batch.bytes.extend_from_slice(&bytemuck::cast_slice(words)[..found.form.key()]);
                    batch.found.push(found);
                }
                copied
            }),
        }
    }
}
