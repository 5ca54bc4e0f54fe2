//! Calls about a dictionary as a whole.

use super::DDict;
use super::body::Gate;
use super::encode::with_key;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::NodeId;
use crate::table::{Cargo, Expect, How, View};

/// Figures of a dictionary at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DDictStats {
    /// Of each manager.
    pub managers: Vec<ManagerStats>,
    /// The newest checkpoint that anybody has written at.
    pub newest_checkpoint: u32,
    /// Whether it is frozen.
    pub frozen: bool,
}

/// Figures of a manager at one moment. Sizes are bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ManagerStats {
    /// Its number.
    pub manager: u32,
    /// The node whose memory it is in.
    pub node: NodeId,
    /// Keys, at whichever checkpoint.
    pub keys: u64,
    /// What keys, values and the pages they are in take.
    pub in_use: u64,
    /// The most that they may take.
    pub limit: u64,
}

impl ManagerStats {
    /// What is left.
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.in_use)
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// The same dictionary with every call going to one manager, whatever the key. The same key may be at several.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is no such manager.
    pub fn manager(&self, manager: u32) -> Result<DDict<K, V, C>> {
        let managers = self.manager_count();
        if manager >= managers {
            let text = format!("{} has managers 0 to {}, and no {manager}", self.body.name(), managers - 1);
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        Ok(self.at_manager(manager as usize))
    }

    pub(super) fn at_manager(&self, manager: usize) -> DDict<K, V, C> {
        DDict { manager: Some(manager as u32), ..self.clone() }
    }

    /// How many managers there are.
    pub fn manager_count(&self) -> u32 {
        match &self.tie {
            Some(tie) => tie.map.directory.managers(),
            None => self.body.table().shards() as u32,
        }
    }

    /// The manager that a key belongs to: always the same.
    ///
    /// # Errors
    /// [`Codec`](ErrorKind::Codec) if the key cannot be written.
    pub fn which_manager(&self, key: &K) -> Result<u32> {
        with_key::<K, C, _>(key, |bytes| {
            let table = self.body.table();
            let key = table.key(bytes);
            Ok(match (&self.tie, self.manager) {
                (_, Some(manager)) => manager,
                (Some(tie), None) => tie.map.directory.manager_of(&key),
                (None, None) => table.shard_of(&key) as u32,
            })
        })
    }

    /// The node whose memory a manager is in.
    ///
    /// # Errors
    /// As [`manager`](DDict::manager).
    pub fn manager_node(&self, manager: u32) -> Result<NodeId> {
        let node = |_| match &self.tie {
            Some(tie) => tie.map.directory.node_of(manager),
            None => self.body.core.place().node(),
        };
        self.manager(manager).map(node).map(NodeId::new)
    }

    /// Makes it read-only for everybody, until [`unfreeze`](DDict::unfreeze). When this returns, no write is under way.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if it was destroyed.
    pub fn freeze(&self) -> Result<()> {
        if let Some(tie) = &self.tie {
            return self.far_freeze(&tie.map, true);
        }
        self.change_gate(|gate| gate.frozen(true))?;
        self.body.table().settle_calls();
        Ok(())
    }

    /// Lets it be changed again.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if it was destroyed.
    pub fn unfreeze(&self) -> Result<()> {
        match &self.tie {
            Some(tie) => self.far_freeze(&tie.map, false),
            None => self.change_gate(|gate| gate.frozen(false)),
        }
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        match &self.tie {
            Some(tie) => self.far_is_frozen(&tie.map),
            None => self.body.gate().is_frozen(),
        }
    }

    pub(super) fn change_gate(&self, change: impl Fn(Gate) -> Gate) -> Result<()> {
        self.body.change_gate(|gate| Some(change(gate))).map(drop)
    }

    /// Ends it for everybody: all that is in it is gone and its memory free, and every further call is refused with
    /// [`Closed`](ErrorKind::Closed), also one that waits. What a [`Ref`](super::Ref) holds stays until it is dropped. Idempotent.
    pub fn destroy(&self) {
        if let Some(tie) = &self.tie {
            return self.far_destroy(&tie.map);
        }
        // Refused only if it is destroyed already.
        if self.change_gate(Gate::destroyed).is_ok() {
            self.body.table().settle_calls();
            self.wipe();
        }
    }

    /// Takes everything out, of all checkpoints. Nobody may write meanwhile.
    pub(super) fn wipe(&self) {
        let view = View { at: u32::MAX, exact: false };
        let how = How { view, floor: u32::MAX, kept: false, cargo: false, expect: Expect::Any, gate: 0 };
        let mut cargo = Cargo::new();
        for manager in 0..self.body.table().shards() {
            self.body.table().wipe(manager, &how, &mut cargo);
            self.body.unload(&mut cargo);
        }
    }

    /// Figures.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if it was destroyed.
    pub fn stats(&self) -> Result<DDictStats> {
        if let Some(tie) = &self.tie {
            return self.far_stats(&tie.map);
        }
        let (table, gate) = (self.body.table(), self.body.gate());
        if gate.is_destroyed() {
            return Err(self.body.destroyed());
        }
        let node = NodeId::new(self.body.core.place().node());
        let of = |manager: usize| {
            // What is free is not counted as used because nobody has noticed.
            table.trim(manager);
            let tally = table.tally(manager);
            let (keys, in_use, limit) = (tally.entries, tally.bytes, table.limit());
            ManagerStats { manager: manager as u32, node, keys, in_use, limit }
        };
        Ok(DDictStats {
            managers: self.managers().map(of).collect(),
            newest_checkpoint: gate.newest(),
            frozen: gate.is_frozen(),
        })
    }

    /// A new dictionary of the same shape and under this name, with all that is in this one, at all checkpoints that can
    /// be looked at. What others write meanwhile may be in it or not.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let dict: dragon::DDict<String, u32> = dragon::DDict::new()?;
    /// dict.put(&"a".into(), &1)?;
    /// let other = dict.copy("the copy of the example")?;
    /// dict.put(&"a".into(), &2)?;
    /// assert_eq!(other.get(&"a".into())?, 1);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Exists`](ErrorKind::Exists) if the name is taken, and those of [`put`](DDict::put) and [`iter`](DDict::iter).
    pub fn copy(&self, name: &str) -> Result<DDict<K, V, C>> {
        let copy = super::builder::alike(self, name)?;
        match (&self.tie, &copy.tie) {
            (Some(tie), Some(into)) => self.far_copy(&tie.map, &into.map)?,
            _ => self.copy_into(&copy)?,
        }
        copy.at.store(self.checkpoint_id(), crate::prim::Ordering::Relaxed);
        Ok(copy)
    }

    /// Copies all that can be looked at into an empty dictionary of the same shape, on this node.
    pub(super) fn copy_into(&self, copy: &DDict<K, V, C>) -> Result<()> {
        let (newest, window) = (self.body.gate().newest(), self.body.rules.window);
        let whole = DDict { manager: None, ..self.clone() };
        for at in newest.saturating_sub(window - 1)..=newest {
            whole.copy_view(copy, at)?;
        }
        Ok(())
    }

    /// Puts what is new at one checkpoint into the copy, and removes there what is gone.
    fn copy_view(&self, copy: &DDict<K, V, C>, at: u32) -> Result<()> {
        let (from, view) = (copy.body.gate().newest(), View { at, exact: false });
        copy.at.store(at, crate::prim::Ordering::Relaxed);
        let table = self.body.table();
        for (manager, part) in self.parts() {
            self.walk_part(manager, part, view, |item| {
                let is_new = item.version == at || at == from;
                if is_new { copy.put_raw(manager, item) } else { Ok(()) }
            })?;
            let mut gone = Vec::new();
            copy.body.table().walk_keys(manager, part, view, |key| {
                let there = table.contains(manager, &table.key(key), view);
                gone.extend((!there).then(|| key.to_vec()));
            });
            gone.into_iter().try_for_each(|key| copy.remove_raw(manager, &key))?;
        }
        Ok(())
    }
}
