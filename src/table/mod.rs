//! A hash table in shared memory that no death breaks, and that readers read without waiting for anybody.
//!
//! A table is a number of shards; a key belongs to one of them. A shard (`shard.rs`) has lines of slots (`line.rs`), whose
//! slots refer to entries (`entry.rs`) in pages (`page.rs`). All of it is words, drawn in `layout.rs`. Who changes a
//! table has a desk (`desk.rs`), where a repair (`repair.rs`) finds what a dead process was about. Readers that
//! hold an entry in place have a pin (`pin.rs`). Of a key there may be several values, each since
//! another checkpoint; how many are needed the floor above knows.
//!
//! This floor knows bytes: neither types nor what checkpoints mean.

mod desk;
mod entry;
mod error;
mod figures;
mod ground;
mod ladder;
mod layout;
mod line;
#[cfg(all(test, feature = "shuttle"))]
mod model;
mod page;
mod past;
mod pin;
mod read;
mod repair;
mod seat;
mod shard;
mod sweep;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;
mod walk;
mod write;

pub(crate) use desk::Tally;
pub(crate) use entry::Name;
pub use error::TableError;
pub(crate) use figures::figures;
pub(crate) use past::Past;
pub(crate) use pin::{Cargo, Pinned};
pub(crate) use read::{Key, View};

pub(crate) use walk::{Item, PARTS};
pub(crate) use write::{Expect, Filled, How, Wrote};

use std::sync::Arc;

use self::ground::{Estate, Ground};
use self::layout::{ROOT_WORDS, SHARD_WORDS, UPPER, UPPER_WORDS};
use self::shard::{Facts, Hints, Shard};
use crate::id::{ObjectId, ProcId};
use crate::mm::{Hold, Kind, MemError, Memory, Object, Remains};
use crate::prim::{AtomicU64, Ordering};
use crate::wait::WaitCell;

/// What a new table shall be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What it is for, in words of the floor above.
    pub(crate) label: u64,
    pub(crate) shards: usize,
    /// Bytes that the entries of each shard may take.
    pub(crate) limit: u64,
    /// Whether there may be several entries of a key, of different checkpoints. It takes 8 bytes of each.
    pub(crate) history: bool,
    /// What the hash begins with: the same in all tables of the job whose keys shall be at the same shards.
    pub(crate) seed: u64,
    /// The floor above's own words.
    pub(crate) upper: [u64; UPPER_WORDS],
}

/// A table as this process has it open.
pub(crate) struct Table<G = Object> {
    ground: G,
    facts: Facts,
    hints: Box<[Hints]>,
}

impl Table {
    /// A new table.
    pub(crate) fn create(memory: &Arc<Memory>, plan: &Plan) -> Result<Table, TableError> {
        let words = ROOT_WORDS + plan.shards * SHARD_WORDS;
        let mut block = memory.alloc(words * size_of::<u64>())?;
        block.as_mut_slice().fill(0);
        let object = memory.create_object(Kind::Dict, block)?;
        mark!("table.created");
        let table = Table::over_new(object, plan);
        (0..plan.shards).try_for_each(|number| table.shard(number).lay_first_lines())?;
        Ok(table)
    }

    /// Opens a table that somebody has open, or hands to us.
    pub(crate) fn open(memory: &Arc<Memory>, id: ObjectId) -> Result<Table, TableError> {
        Ok(Table::over(memory.open_object(id, Kind::Dict)?))
    }

    /// The object that it is.
    pub(crate) fn object(&self) -> &Object {
        &self.ground
    }

    /// The object, to let go of.
    pub(crate) fn into_object(self) -> Object {
        self.ground
    }
}

impl<G: Ground> Table<G> {
    fn over_new(ground: G, plan: &Plan) -> Table<G> {
        let page = (page_bytes(plan.limit) / size_of::<u64>()) as u64;
        let page = page | if plan.history { layout::HISTORY } else { 0 };
        let head = [plan.label, plan.shards as u64, page, plan.limit, plan.seed];
        let root = ground.root();
        // Relaxed: others get the table's handle after this.
        head.iter().zip(root).for_each(|(value, word)| word.store(*value, Ordering::Relaxed));
        plan.upper.iter().zip(&root[UPPER..]).for_each(|(value, word)| word.store(*value, Ordering::Relaxed));
        Table::over(ground)
    }

    fn over(ground: G) -> Table<G> {
        let facts = Facts::read(ground.root());
        let hints = (0..facts.shards).map(|_| Hints::new()).collect();
        Table { ground, facts, hints }
    }

    /// What it is for.
    pub(crate) fn label(&self) -> u64 {
        self.ground.root()[layout::LABEL].load(Ordering::Relaxed) // never changes
    }

    /// What the hashes of its keys begin with.
    pub(crate) fn seed(&self) -> u64 {
        self.ground.root()[layout::SEED].load(Ordering::Relaxed) // never changes
    }

    /// The words of the floor above.
    #[inline]
    pub(crate) fn upper(&self) -> &[AtomicU64; UPPER_WORDS] {
        self.ground.root()[UPPER..].first_chunk().expect("a root is longer than its head")
    }

    /// Where those sleep who wait for a change.
    pub(crate) fn changed(&self) -> Option<&WaitCell> {
        shard::changed(&self.ground)
    }

    pub(crate) fn shards(&self) -> usize {
        self.facts.shards
    }

    /// Bytes that each shard may take.
    pub(crate) fn limit(&self) -> u64 {
        self.facts.limit
    }

    /// A key from its bytes.
    #[inline]
    pub(crate) fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key { bytes, hash: self.facts.hash(bytes) }
    }

    /// The shard of a key.
    #[inline]
    pub(crate) fn shard_of(&self, key: &Key<'_>) -> usize {
        // Of other bits than lines and tags are, as far as there are enough.
        (((key.hash >> 20 & 0xFFFF_FFFF) * self.facts.shards as u64) >> 32) as usize
    }

    #[inline]
    fn shard(&self, number: usize) -> Shard<'_, G> {
        let at = ROOT_WORDS + number * SHARD_WORDS;
        let words = &self.ground.root()[at..at + SHARD_WORDS];
        Shard { ground: &self.ground, number, words, facts: &self.facts, hints: &self.hints[number] }
    }

    /// Puts a value of `len` bytes, which `fill` writes, at a shard. `bound` is told the name of the entry
    /// before anybody sees it.
    #[inline]
    #[allow(clippy::too_many_arguments, reason = "who, what and how; each of its own type")]
    pub(crate) fn put(
        &self,
        shard: usize,
        key: &Key<'_>,
        how: &How,
        len: usize,
        cargo: &mut Cargo,
        fill: impl FnOnce(&mut [u8]),
        bound: impl FnOnce(Name),
    ) -> Result<Wrote, TableError> {
        self.shard(shard).put(key, how, len, cargo, fill, bound)
    }

    /// As [`Table::put`], with a value that stands in a block: a large one stays there.
    pub(crate) fn put_filled(
        &self,
        shard: usize,
        key: &Key<'_>,
        how: &How,
        value: &Filled,
        cargo: &mut Cargo,
    ) -> Result<Wrote, TableError> {
        if !value.is_there() {
            return Err(TableError::damaged("a value was put a second time"));
        }
        self.shard(shard).put(key, how, value.len(), cargo, value, |_| ())
    }

    /// Calls `take` once with the value of a key, if it is there: the name of the entry that the value is from, or none.
    #[cfg(test)]
    pub(crate) fn get(
        &self,
        shard: usize,
        key: &Key<'_>,
        view: View,
        cargo: &mut Cargo,
        take: impl FnMut(&[u8]),
    ) -> Result<Option<Name>, Box<TableError>> {
        self.get_expecting(shard, key, 0, view, cargo, take)
    }

    /// The same. Who expects so many bytes of value, if they are many, waits less for them.
    #[inline]
    pub(crate) fn get_expecting(
        &self,
        shard: usize,
        key: &Key<'_>,
        bytes: usize,
        view: View,
        cargo: &mut Cargo,
        take: impl FnMut(&[u8]),
    ) -> Result<Option<Name>, Box<TableError>> {
        let name = self.shard(shard).get(key, bytes, view, cargo, take)?;
        Ok(name.is_some().then_some(name))
    }

    /// Whether a key is there.
    #[inline]
    pub(crate) fn contains(&self, shard: usize, key: &Key<'_>, view: View) -> bool {
        self.shard(shard).find(key, view).is_some()
    }

    /// Removes a key.
    pub(crate) fn remove(
        &self,
        shard: usize,
        key: &Key<'_>,
        how: &How,
        cargo: &mut Cargo,
    ) -> Result<Wrote, TableError> {
        self.shard(shard).remove(key, how, cargo)
    }

    /// Shows the keys of one part of a shard, of [`PARTS`].
    pub(crate) fn walk_keys(&self, shard: usize, part: usize, view: View, see: impl FnMut(&[u8])) {
        self.shard(shard).walk_keys(part, view, see);
    }

    /// The same of all keys of which anything is there, at whichever checkpoint, also that they were removed.
    pub(crate) fn walk_all_keys(&self, shard: usize, part: usize, see: impl FnMut(&[u8])) {
        self.shard(shard).walk_all_keys(part, see);
    }

    /// What a key has, the newest first.
    pub(crate) fn past(&self, shard: usize, key: &Key<'_>, cargo: &mut Cargo) -> Result<Vec<Past>, TableError> {
        self.shard(shard).past(key, cargo).map_err(|refused| *refused)
    }

    /// Shows the keys and values of one part of a shard, until `see` refuses.
    pub(crate) fn walk<E: From<TableError>>(
        &self,
        shard: usize,
        part: usize,
        view: View,
        cargo: &mut Cargo,
        see: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.shard(shard).walk(part, view, cargo, see)
    }

    /// Figures of a shard.
    pub(crate) fn tally(&self, shard: usize) -> Tally {
        self.shard(shard).tally()
    }

    /// Waits until every call that writes, and had begun when this was called, is over.
    pub(crate) fn settle_calls(&self) {
        (0..self.facts.shards).for_each(|number| self.shard(number).settle_calls());
    }

    /// Takes out of a shard what nobody sees from the floor on.
    pub(crate) fn sweep(&self, shard: usize, how: &How, cargo: &mut Cargo) {
        self.shard(shard).sweep(how, false, cargo);
    }

    /// Takes everything out of a shard, of all checkpoints.
    pub(crate) fn wipe(&self, shard: usize, how: &How, cargo: &mut Cargo) {
        let everything = How { floor: u32::MAX, view: View { exact: false, ..how.view }, ..*how };
        self.shard(shard).sweep(&everything, true, cargo);
        self.shard(shard).trim();
    }

    /// The first line from `from` on with a key that was put at a checkpoint for itself, and of which nothing is said
    /// at the next.
    pub(crate) fn lacking(&self, shard: usize, from: usize, at: u32) -> Option<usize> {
        self.shard(shard).lacking(from, at)
    }

    /// Holds the entry of a key in place, until [`Table::unpin`].
    pub(crate) fn pin(
        &self,
        shard: usize,
        key: &Key<'_>,
        view: View,
        cargo: &mut Cargo,
    ) -> Result<Option<Pinned>, TableError> {
        self.shard(shard).pin_key(key, view, cargo)
    }

    /// The value of an entry that is held.
    pub(crate) fn pinned_bytes(&self, pinned: &Pinned) -> &[u8] {
        self.ground.bytes(pinned.spot, pinned.len).unwrap_or_default()
    }

    /// Lets go of what is held.
    pub(crate) fn unpin(&self, pinned: Pinned, cargo: &mut Cargo) {
        self.shard(pinned.shard).unpin_key(&pinned, cargo);
    }

    /// Gives the pages of a shard in which nothing is back to the memory.
    pub(crate) fn trim(&self, shard: usize) {
        self.shard(shard).trim();
    }
}

/// Bytes of a page, for a shard of so many: so few that there is room for one of every class.
fn page_bytes(limit: u64) -> usize {
    match limit >> 20 {
        0 => 4 << 10,
        1..32 => 8 << 10,
        _ => 64 << 10,
    }
}

/// Mends every table that `dead` had open.
///
/// To be called between `Memory::begin_recovery` and `Memory::end_recovery`, before the blocks and objects of the dead are
/// released. May be called again from the start.
pub(crate) fn repair(memory: &Arc<Memory>, dead: ProcId) {
    for (id, _) in memory.objects_held_by(dead, &[Kind::Dict]) {
        // Opened, so that it does not end under our hands. The dead one's own hold keeps it until then.
        if let Ok(table) = Table::open(memory, id) {
            (0..table.shards()).for_each(|number| table.shard(number).repair(dead));
            table.repair_seats(dead);
            for cell in [shard::unclaimed(&table.ground), shard::changed(&table.ground)].into_iter().flatten() {
                cell.heal();
            }
        }
        mark!("table.repair.mended");
    }
}

/// Gives all memory of a table back that nobody has open any more.
pub(crate) fn bury(remains: &Remains) {
    let memory = remains.memory();
    let Ok(root) = memory.words_of(remains.handle()) else { return };
    let table = Table::over(Estate { memory, root });
    let fits = ROOT_WORDS + table.facts.shards * SHARD_WORDS <= root.len();
    (0..table.facts.shards).filter(|_| fits).for_each(|number| table.shard(number).bury());
    table.bury_seats();
}

/// Whether the entry of a table is gone that kept an object alive. `None`: it is no table that does.
pub(crate) fn is_idle(memory: &Arc<Memory>, hold: &Hold) -> Option<bool> {
    match memory.open_object(hold.by, Kind::Dict) {
        Ok(object) => Some(!Table::over(object).shard(0).is_there(Name(hold.tag))),
        Err(MemError::WrongKind { .. }) => None,
        // It is ending, and whoever ends it ends its holds.
        Err(_) => Some(false),
    }
}
