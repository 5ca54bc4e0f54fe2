//! Checkpoints that outlive the job: stored when they are retired, or now, and read again.

use std::ops::Range;

use super::archive::{Archive, Record};
use super::body::Gate;
use super::{DDict, Wrote};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{Cargo, Expect, How, Key, PARTS, View};

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    fn archive(&self) -> Result<&Archive> {
        let none = || {
            let text = format!("{} stores no checkpoints: `persist` of its builder says where", self.body.name());
            Error::new(ErrorKind::InvalidArgument, text)
        };
        self.body.archive()?.ok_or_else(none)
    }

    /// Stores what this handle sees at its checkpoint, now, whatever the builder said about how often. What others put at the same
    /// checkpoint meanwhile may be in it or not; [`freeze`](DDict::freeze) it if that matters. Handles of queues and the like
    /// cannot be stored.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) without a [`Persist`](super::Persist), or if a value holds handles;
    /// [`Io`](ErrorKind::Io) with what the store says; [`CheckpointRetired`](ErrorKind::CheckpointRetired);
    /// [`Closed`](ErrorKind::Closed) if it was destroyed.
    pub fn persist(&self) -> Result<u32> {
        if let Some(tie) = &self.tie {
            return self.far_persist(&tie.map);
        }
        let (archive, at) = (self.archive()?, self.checkpoint_id());
        self.still_there(at)?;
        let _keeper = self.body.table().keep();
        self.store_at(archive, at, &self.all_shards())?;
        self.still_there(at)?;
        Ok(at)
    }

    fn all_shards(&self) -> Vec<usize> {
        (0..self.body.table().shards()).collect()
    }

    /// Stores what these shards of this node have at a checkpoint, a part for each.
    pub(super) fn store_at(&self, archive: &Archive, at: u32, shards: &[usize]) -> Result<()> {
        let view = View { at, exact: self.body.rules.waits_for_keys };
        archive.store(at, self.body.table().label(), shards.len(), |part_number, part| {
            for number in 0..PARTS {
                self.walk_part(shards[part_number], number, view, |item| {
                    if item.cargo {
                        let text = "a value holds handles of queues, locks or the like, which cannot be stored";
                        return Err(Error::new(ErrorKind::InvalidArgument, text));
                    }
                    let record = Record { key: item.key, value: item.value, kept: item.kept };
                    part.record(&record).map_err(|why| Error::with_source(ErrorKind::Io, "", why))
                })?;
            }
            Ok(())
        })
    }

    /// Stores those of the checkpoints that have just been retired that shall be.
    pub(super) fn store_retired(&self, retired: Range<u32>) {
        if !self.body.rules.persists {
            return;
        }
        let whole = DDict { manager: None, ..self.clone() };
        let stored = whole.archive().and_then(|archive| {
            let due = retired.filter(|checkpoint| checkpoint.is_multiple_of(archive.every));
            due.into_iter().try_for_each(|checkpoint| whole.store_at(archive, checkpoint, &whole.all_shards()))
        });
        if let Err(error) = stored {
            // Whoever goes on to the next checkpoint cannot help it; `persisted` shows what there is.
            tracing::error!(%error, "a checkpoint of {} was not stored", self.body.name());
        }
    }

    /// The numbers of the stored checkpoints that are whole as far as one can see without reading all of them.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) without a [`Persist`](super::Persist); [`Io`](ErrorKind::Io).
    pub fn persisted(&self) -> Result<Vec<u32>> {
        match &self.tie {
            Some(tie) => self.far_persisted(&tie.map),
            None => self.archive()?.offered(self.body.table().label()),
        }
    }

    /// Puts a stored checkpoint in place of everything that is in the dictionary, and goes to it with this handle. It may have
    /// been stored by a dictionary with another number of managers. Every byte is looked at before anything is changed.
    ///
    /// # Errors
    /// [`NoCheckpoint`](ErrorKind::NoCheckpoint) with the name of what is missing, cut off, changed or of other types, and
    /// nothing has changed; [`InvalidArgument`](ErrorKind::InvalidArgument) without a [`Persist`](super::Persist);
    /// [`OutOfMemory`](ErrorKind::OutOfMemory) if there is too little for it, and [`Io`](ErrorKind::Io): the dictionary has part of
    /// it then; [`Closed`](ErrorKind::Closed) if it was destroyed. With [replicas](super::DDictBuilder::replicas) nobody can write to
    /// one that has part of it, or whose restorer died over it, until it was restored again.
    pub fn restore(&self, checkpoint: u32) -> Result<()> {
        if let Some(tie) = &self.tie {
            return self.far_restore(&tie.map, checkpoint);
        }
        let (archive, table) = (self.archive()?, self.body.table());
        archive.verify(checkpoint, table.label())?;
        self.restore_from(checkpoint, std::slice::from_ref(archive), |key| Some(table.shard_of(key)))
    }

    /// Puts what is stored there in place of everything that is in the memory of this node; `whose` says at which shard.
    pub(super) fn restore_from(
        &self,
        checkpoint: u32,
        archives: &[Archive],
        whose: impl Fn(&Key<'_>) -> Option<usize>,
    ) -> Result<()> {
        let table = self.body.table();
        let _keeper = table.keep();
        let was_frozen = self.is_frozen();
        self.freeze()?;
        let loaded = self.replace_by(checkpoint, archives, whose);
        self.change_gate(|gate| gate.frozen(was_frozen))?;
        self.set_checkpoint_id(checkpoint);
        loaded
    }

    /// The same, while nobody may write.
    pub(super) fn replace_by(
        &self,
        checkpoint: u32,
        archives: &[Archive],
        whose: impl Fn(&Key<'_>) -> Option<usize>,
    ) -> Result<()> {
        self.wipe();
        let loaded = archives.iter().try_for_each(|archive| self.load(archive, checkpoint, &whose));
        self.body.set_floor(checkpoint);
        self.change_gate(|gate| gate.with_newest(checkpoint))?;
        loaded
    }

    /// Puts the entries of a stored checkpoint into the dictionary, which is frozen for all others.
    fn load(&self, archive: &Archive, checkpoint: u32, whose: impl Fn(&Key<'_>) -> Option<usize>) -> Result<()> {
        let (table, gate) = (self.body.table(), self.body.gate());
        let view = View { at: checkpoint, exact: false };
        let how = How { view, floor: checkpoint, kept: false, cargo: false, expect: Expect::Any, gate: gate.0 };
        archive.load(checkpoint, table.label(), |record| {
            let key = table.key(record.key);
            let how = How { kept: record.kept, ..how };
            let fill = |space: &mut [u8]| space.copy_from_slice(record.value);
            let Some(shard) = whose(&key) else { return Ok(()) };
            let put = table.put(shard, &key, &how, record.value.len(), &mut Cargo::new(), fill, |_| ())?;
            if put == Wrote::Stale { Err(self.changed_under(gate)) } else { Ok(()) }
        })
    }

    fn changed_under(&self, gate: Gate) -> Error {
        if self.body.gate().is_destroyed() {
            return self.body.destroyed();
        }
        let text = format!("{} was unfrozen while checkpoint {} was restored", self.body.name(), gate.newest());
        Error::new(ErrorKind::Frozen, text)
    }
}
