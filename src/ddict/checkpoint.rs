//! Checkpoints: numbers under which values are put, of which the newest few can be looked at.
//!
//! Each handle is at a checkpoint of its own. The first call that writes at a number beyond the newest makes that the
//! newest, and retires those that fall out of the working set: from then on calls at them are refused. Then it waits
//! for the writes that are still under way, stores what shall be stored, and takes out of the table what
//! no checkpoint needs any more. A process that dies on the way has retired them all the same; the rest is done with the next.

use super::body::{Body, Gate};
use super::{DDict, Wrote};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::prim::Ordering;
use crate::table::{Cargo, Expect, How, Key, View};
use crate::time::Deadline;

use std::sync::Arc;

/// A seat at the table, for a handle that writes where others wait for writers; given up when dropped.
pub(super) struct Seat {
    body: Arc<Body>,
    number: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.body.table().leave_seat(self.number);
        self.body.wake();
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// The checkpoint that this handle is at.
    pub fn checkpoint_id(&self) -> u32 {
        self.at.load(Ordering::Relaxed) // this handle's own
    }

    /// Goes on to the next checkpoint with this handle, and returns its number. Others are where they were. It comes into
    /// being with the first [`put`](DDict::put) at it.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let dict: dragon::DDict<String, u32> = dragon::DDict::builder().working_set(3).build()?;
    /// dict.put(&"step".into(), &1)?;
    /// dict.checkpoint();
    /// dict.put(&"step".into(), &2)?;
    /// dict.rollback();
    /// assert_eq!(dict.get(&"step".into())?, 1);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn checkpoint(&self) -> u32 {
        self.set_checkpoint_id(self.checkpoint_id().saturating_add(1));
        self.checkpoint_id()
    }

    /// Goes back to the checkpoint before, and returns its number. Before 0 there is none.
    pub fn rollback(&self) -> u32 {
        self.set_checkpoint_id(self.checkpoint_id().saturating_sub(1));
        self.checkpoint_id()
    }

    /// Goes to a checkpoint.
    pub fn set_checkpoint_id(&self, checkpoint: u32) {
        self.at.store(checkpoint, Ordering::Relaxed); // this handle's own
        if let Some(tie) = &self.tie {
            tie.goes_to(checkpoint);
        }
        if let Some(seat) = self.seat.get() {
            self.sit(seat, checkpoint);
            self.body.wake();
        }
    }

    fn sit(&self, seat: &Seat, checkpoint: u32) {
        if let Some([current, _]) = self.body.table().seat(seat.number) {
            current.store(u64::from(checkpoint), Ordering::SeqCst); // pairs with `waits_for_writer`
        }
    }

    /// Goes to the newest checkpoint that anybody has written at, and returns its number. Managers that are lost are not asked.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if it was destroyed.
    pub fn sync_to_newest(&self) -> Result<u32> {
        if let Some(tie) = &self.tie {
            let newest = self.far_newest(&tie.map)?;
            self.set_checkpoint_id(newest);
            return Ok(newest);
        }
        let gate = self.body.gate();
        if gate.is_destroyed() {
            return Err(self.body.destroyed());
        }
        self.set_checkpoint_id(gate.newest());
        Ok(gate.newest())
    }

    /// Whether what was read at a checkpoint may be believed: it can still be looked at.
    #[inline]
    pub(super) fn still_there(&self, at: u32) -> Result<()> {
        let gate = self.body.gate();
        if gate.frozen(false) == Gate(u64::from(at)) { Ok(()) } else { self.is_there(at, gate) }
    }

    pub(super) fn is_there(&self, at: u32, gate: Gate) -> Result<()> {
        if gate.is_destroyed() {
            return Err(self.body.destroyed());
        }
        let oldest = self.oldest(gate.newest());
        if at >= oldest {
            return Ok(());
        }
        let (name, newest) = (self.body.name(), gate.newest());
        let text = format!(
            "checkpoint {at} of {name} is retired: {oldest} to {newest} can be looked at; `sync_to_newest` goes there, \
             `working_set` keeps more"
        );
        Err(Error::new(ErrorKind::CheckpointRetired, text))
    }

    pub(super) fn oldest(&self, newest: u32) -> u32 {
        newest.saturating_sub(self.body.rules.window - 1)
    }

    /// The gate, if one may write at this checkpoint. Waits for others if the rules say so.
    #[inline]
    pub(super) fn admit(&self, at: u32) -> Result<Gate> {
        let gate = self.body.gate();
        let plain = gate == Gate(u64::from(at)) && !self.body.rules.waits_for_writers;
        if plain { Ok(gate) } else { self.admit_slowly(at) }
    }

    #[cold]
    fn admit_slowly(&self, at: u32) -> Result<Gate> {
        if self.body.rules.waits_for_writers {
            self.note_writing(at)?;
        }
        loop {
            let gate = self.body.gate();
            self.may_write(at, gate)?;
            if at <= gate.newest() {
                return Ok(gate);
            }
            self.wait_for_others(at, gate)?;
            if self.body.turn_gate(gate, gate.with_newest(at)) {
                self.retire();
            }
        }
    }

    /// Whether one may write at a checkpoint, if that is not beyond the newest.
    pub(super) fn may_write(&self, at: u32, gate: Gate) -> Result<()> {
        self.is_there(at, gate)?;
        if !gate.is_frozen() {
            return Ok(());
        }
        let text = match gate.is_restoring() {
            false => format!("{} is frozen: `unfreeze` lets it be changed again", self.body.name()),
            true => format!(
                "{} is being restored, or whoever did that died or failed: `restore` it again if nobody does",
                self.body.name()
            ),
        };
        Err(Error::new(ErrorKind::Frozen, text))
    }

    /// Says that this handle writes at a checkpoint.
    pub(super) fn note_writing(&self, at: u32) -> Result<()> {
        let table = self.body.table();
        let seat = match self.seat.get() {
            Some(seat) => seat,
            None => {
                let number = table.take_seat([u64::from(at), 0])?;
                self.seat.get_or_init(|| Seat { body: self.body.clone(), number })
            }
        };
        self.sit(seat, at);
        if let Some([_, written]) = table.seat(seat.number) {
            written.store(u64::from(at) + 1, Ordering::SeqCst); // pairs with `waits_for_writer`
        }
        Ok(())
    }

    /// Waits until the checkpoints that a newest one retires are complete, by the rules.
    fn wait_for_others(&self, at: u32, gate: Gate) -> Result<()> {
        let retiring = self.oldest(gate.newest())..self.oldest(at);
        let rules = self.body.rules;
        if retiring.is_empty() || !(rules.waits_for_keys || rules.waits_for_writers) {
            return Ok(());
        }
        let mut complete = retiring.start;
        self.wait(Deadline::Never, || {
            // Somebody else has gone on: look again from the start.
            if self.body.gate() != gate {
                return Some(Ok(()));
            }
            while retiring.contains(&complete) && !self.is_incomplete(complete, 0..self.body.table().shards()) {
                complete += 1;
            }
            (complete >= retiring.end).then_some(Ok(()))
        })
    }

    /// Whether somebody is to put or to write something yet, in these shards, before a checkpoint may be retired.
    pub(super) fn is_incomplete(&self, checkpoint: u32, mut shards: impl Iterator<Item = usize>) -> bool {
        let rules = self.body.rules;
        let table = self.body.table();
        let mut lacks_keys = || shards.any(|shard| table.lacking(shard, 0, checkpoint).is_some());
        let writes = |[current, written]: [&crate::prim::AtomicU64; 2]| {
            // SeqCst: pairs with `sit` and `note_writing`.
            let wrote = written.load(Ordering::SeqCst) == u64::from(checkpoint) + 1;
            wrote && current.load(Ordering::SeqCst) <= u64::from(checkpoint)
        };
        let has_writer = || table.seats_taken().any(writes);
        rules.waits_for_keys && lacks_keys() || rules.waits_for_writers && has_writer()
    }

    /// Ends what the last change of the newest checkpoint has retired, and those before it if somebody died over them.
    fn retire(&self) {
        let (table, rules) = (self.body.table(), self.body.rules);
        if rules.window == 1 && !rules.persists {
            return;
        }
        let _keeper = table.keep();
        loop {
            let (floor, oldest) = (self.body.floor(), self.oldest(self.body.gate().newest()));
            if floor >= oldest {
                return;
            }
            table.settle_calls();
            self.store_retired(floor..oldest);
            self.body.raise_floor(oldest);
            self.sweep(oldest);
        }
    }

    /// Takes out of the table what nobody sees from a checkpoint on.
    pub(super) fn sweep(&self, floor: u32) {
        let table = self.body.table();
        let view = View { at: floor, exact: self.body.rules.waits_for_keys };
        let how = How { view, floor, kept: false, cargo: false, expect: Expect::Any, gate: 0 };
        let mut cargo = Cargo::new();
        (0..table.shards()).for_each(|shard| table.sweep(shard, &how, &mut cargo));
        self.body.unload(&mut cargo);
    }

    /// Of a handle that writes where others wait for writers: the checkpoint that it is at, and the last that it wrote at.
    pub(super) fn writes_at(&self) -> Option<(u32, u32)> {
        let [current, written] = self.body.table().seat(self.seat.get()?.number)?;
        // Relaxed: whoever asks has let nobody write meanwhile.
        let [current, written] = [current, written].map(|word| word.load(Ordering::Relaxed));
        Some((current as u32, written.checked_sub(1)? as u32))
    }

    /// Removes a key, if it is as expected.
    pub(super) fn remove_if(&self, key: &K, expect: Expect) -> Result<Wrote> {
        super::encode::with_key::<K, C, _>(key, |bytes| {
            let table = self.body.table();
            let key = table.key(bytes);
            match self.away_to_write(&key) {
                Some(to) => self.far_remove(to, &key, expect),
                None => self.remove_bytes_at(self.shard_of(&key), &key, expect),
            }
        })
    }

    pub(super) fn remove_bytes_at(&self, shard: usize, key: &Key<'_>, expect: Expect) -> Result<Wrote> {
        self.write(expect, |how, cargo| Ok(self.body.table().remove(shard, key, how, cargo)?))
    }
}
