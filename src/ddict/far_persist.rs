//! Stored checkpoints of a dictionary of several nodes: each node stores its managers' keys, under a name of its own.
//!
//! Part `p` of `n` of the dictionary `name` is stored as a dictionary of the name `name@p.n` would be; one of one node as
//! `name`. All `n` together are a *family*. A checkpoint is offered if all of a family have it, and it can be restored by a
//! dictionary with any number of nodes and managers: each node reads all of it, and takes the keys that are its own.
//!
//! With replicas part `p` is what the managers of place `p` have, wherever they act; so it stays the same part when place `p` is
//! lost, and nobody sees of what is stored whether there were copies.

use super::DDict;
use super::archive::Archive;
use super::far::{Head, op};
use super::far_whole::{Did, Sent, did};
use super::home::Note;
use super::home_restore::step;
use super::place::{Directory, Map};
use super::store::Persist;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::wire;

/// What part `place` of `places` is stored as.
pub(super) fn part_name(base: &str, place: usize, places: usize) -> String {
    format!("{base}@{place}.{places}")
}

/// What the table of each place notes of a [`Persist`].
pub(super) fn notes(persist: &Persist, base: &str, places: usize) -> Result<Vec<Option<Vec<u8>>>> {
    (0..places).map(|place| Archive::note(persist.clone(), &part_name(base, place, places)).map(Some)).collect()
}

/// A stored checkpoint, and of how many places the dictionary is that it is for.
pub(super) type Stored = (u32, usize);

/// The parts of a stored dictionary, by their number.
type Family = Vec<Archive>;

/// All families of this name that are stored, that of so many parts first.
fn families(note: &[u8], base: &str, places: usize) -> Result<Vec<Family>> {
    let mut counts = Archive::counts(note, base)?;
    counts.sort_by_key(|count| (*count != places, *count));
    let member = |count: usize, place: usize| match count {
        1 => vec![Archive::named(note, base)],
        _ => vec![Archive::named(note, &part_name(base, place, count))],
    };
    let family = |count: usize| (0..count).flat_map(|place| member(count, place)).collect::<Result<Family>>();
    counts.into_iter().map(family).collect()
}

/// The checkpoints that all parts of a family have.
fn offered(family: &Family, label: u64) -> Result<Vec<u32>> {
    let lists = family.iter().map(|part| part.offered(label)).collect::<Result<Vec<_>>>()?;
    let Some((first, rest)) = lists.split_first() else { return Ok(Vec::new()) };
    Ok(first.iter().copied().filter(|checkpoint| rest.iter().all(|list| list.contains(checkpoint))).collect())
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    pub(super) fn far_persist(&self, map: &Map) -> Result<u32> {
        if map.directory.shape.replicas > 0 {
            // Whoever acts without the others must not store what is theirs.
            self.far_quiet(map)?;
        }
        self.whole().everywhere(map, persist_at::<K, V, C>, &()).map(|_| self.checkpoint_id())
    }

    pub(super) fn far_persisted(&self, map: &Map) -> Result<Vec<u32>> {
        // All see the same store, so the first that is asked knows.
        let one = self.at_manager(0);
        let mut stored = one.everywhere(map, persisted_at::<K, V, C>, &map.directory.places.len())?;
        Ok(stored.pop().map(|(_, stored)| stored).unwrap_or_default())
    }

    pub(super) fn far_restore(&self, map: &Map, checkpoint: u32) -> Result<()> {
        let (whole, argument) = (self.whole(), (checkpoint, map.directory.places.len()));
        // Every byte before anything is changed anywhere.
        whole.everywhere_of(map, verify_at::<K, V, C>, |places| (argument, places.to_vec()))?;
        if map.directory.shape.replicas > 0 {
            let mut stored = Vec::new();
            wire::encode::<Stored>(&argument, &mut stored)?;
            for at in [step::BEGIN, step::LOAD, step::END] {
                whole.at_homes(map, &Head { at, ..Head::new(op::RESTORE) }, &stored)?;
                mark!("far.restorer.step");
            }
            self.set_checkpoint_id(checkpoint);
            return Ok(());
        }
        let loaded = whole.everywhere(map, restore_at::<K, V, C>, &argument).map(drop);
        self.set_checkpoint_id(checkpoint);
        loaded
    }

    /// The family that has a checkpoint.
    pub(super) fn family(&self, checkpoint: u32, places: usize) -> Result<Family> {
        let none = || {
            let text = format!("there is no whole stored checkpoint {checkpoint} of {}", self.body.name());
            Error::new(ErrorKind::NoCheckpoint, text)
        };
        let (archive, base) = self.stored_as()?;
        for family in families(&archive, &base, places)? {
            if offered(&family, self.body.table().label())?.contains(&checkpoint) {
                return Ok(family);
            }
        }
        Err(none())
    }

    /// Stores what the managers of each place have of which this one acts, if these are its shards.
    fn persist_copies(&self, directory: &Directory, place: usize, shards: &[u32]) -> Result<u32> {
        let at = self.checkpoint_id();
        self.still_there(at)?;
        let _keeper = self.body.table().keep();
        for own in 0..directory.places.len() {
            let here = directory.managers_of(own).map(|manager| directory.shard_at(manager, place));
            let Some(here) = here.collect::<Option<Vec<usize>>>() else { continue };
            if here.iter().all(|shard| shards.contains(&(*shard as u32))) {
                self.store_at(&self.archive_of(own, directory.places.len())?, at, &here)?;
            }
        }
        self.still_there(at)?;
        Ok(at)
    }

    /// Where it is stored what the managers of a place have.
    pub(super) fn archive_of(&self, own: usize, places: usize) -> Result<Archive> {
        let (archive, base) = self.stored_as()?;
        Archive::named(&archive, &part_name(&base, own, places))
    }

    /// What the table notes of where it is stored, and the dictionary's name.
    fn stored_as(&self) -> Result<(Vec<u8>, String)> {
        let note = Note::of(&self.body)?;
        note.and_then(|note| Some((note.archive?, note.base?))).ok_or_else(|| {
            let text = format!("{} stores no checkpoints: `persist` of its builder says where", self.body.name());
            Error::new(ErrorKind::InvalidArgument, text)
        })
    }
}

fn persist_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<()>) -> Did<u32> {
    did(sent.dict::<K, V, C>().and_then(|dict| {
        let directory = Note::of(&dict.body)?.and_then(|note| note.directory);
        match directory.filter(|directory| directory.shape.replicas > 0).zip(sent.shards.as_ref()) {
            Some((directory, shards)) => dict.persist_copies(&directory, sent.place as usize, shards),
            None => dict.persist(),
        }
    }))
}

fn persisted_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<usize>) -> Did<Vec<u32>> {
    did(sent.dict::<K, V, C>().and_then(|dict| {
        let (archive, base) = dict.stored_as()?;
        let mut stored = Vec::new();
        for family in families(&archive, &base, sent.argument)? {
            stored.extend(offered(&family, dict.body.table().label())?);
        }
        stored.sort_unstable();
        stored.dedup();
        Ok(stored)
    }))
}

/// Looks at its share of the stored bytes; the places that have one are named.
fn verify_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<(Stored, Vec<usize>)>) -> Did<()> {
    did(sent.dict::<K, V, C>().and_then(|dict| {
        let ((checkpoint, places), sharers) = &sent.argument;
        let (checkpoint, family) = (*checkpoint, dict.family(*checkpoint, *places)?);
        let first = sharers.iter().position(|place| *place == sent.place as usize).unwrap_or(0);
        let mine = family.iter().skip(first).step_by(sharers.len().max(1));
        mine.into_iter().try_for_each(|part| part.verify(checkpoint, dict.body.table().label()))
    }))
}

fn restore_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<Stored>) -> Did<()> {
    did(sent.dict::<K, V, C>().and_then(|dict| {
        let (checkpoint, places) = sent.argument;
        let family = dict.family(checkpoint, places)?;
        let none = || Error::new(ErrorKind::Io, "a part of a dictionary does not know where the others are");
        let directory = Note::of(&dict.body)?.and_then(|note| note.directory).ok_or_else(none)?;
        dict.restore_from(checkpoint, &family, |key| {
            let spot = directory.spot(directory.manager_of(key));
            (spot.place == sent.place as usize).then_some(spot.shard)
        })
    }))
}
