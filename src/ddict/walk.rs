//! All keys, all values: as lists, one by one, or counted.

use std::collections::VecDeque;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::DDict;
use super::encode::decode;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::prim::Ordering;
use crate::table::{Cargo, Item, PARTS, View};

/// From so many keys on all processors list them.
const MANY: u64 = 20_000;

/// The keys and values of a [`DDict`], in no order: see [`DDict::iter`].
pub struct Entries<'d, K, V, C> {
    dict: &'d DDict<K, V, C>,
    view: View,
    /// Parts of managers that are still to be read.
    parts: std::vec::IntoIter<(usize, usize)>,
    read: VecDeque<Result<(K, V)>>,
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> Iterator for Entries<'_, K, V, C> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Result<(K, V)>> {
        while self.read.is_empty() {
            let (manager, part) = self.parts.next()?;
            let read = &mut self.read;
            let walked = self.dict.walk_part(manager, part, self.view, |item| {
                let pair = decode::<K, C>(item.key).and_then(|key| Ok((key, decode::<V, C>(item.value)?)));
                read.push_back(pair);
                Ok(())
            });
            if let Err(error) = walked.and_then(|()| self.dict.still_there(self.view.at)) {
                self.parts = Vec::new().into_iter();
                self.read.push_back(Err(error));
            }
        }
        self.read.pop_front()
    }
}

impl<K, V, C> std::fmt::Debug for Entries<'_, K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entries({} parts to come of {:?})", self.parts.len(), self.dict)
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// What there is to walk over: managers, and parts of them.
    pub(super) fn parts(&self) -> Vec<(usize, usize)> {
        self.managers().flat_map(|manager| (0..PARTS).map(move |part| (manager, part))).collect()
    }

    pub(super) fn walk_part(
        &self,
        manager: usize,
        part: usize,
        view: View,
        see: impl FnMut(Item<'_>) -> Result<()>,
    ) -> Result<()> {
        let manager = match &self.tie {
            None => manager,
            Some(tie) => match tie.map.directory.spot(manager as u32) {
                spot if Some(spot.place) == tie.map.here => spot.shard,
                _ => return self.far_walk(&tie.map, manager, part, view, see),
            },
        };
        let mut cargo = Cargo::new();
        let walked = self.body.table().walk(manager, part, view, &mut cargo, see);
        self.body.unload(&mut cargo);
        walked
    }

    /// The view of this handle, at its checkpoint.
    pub(super) fn here(&self) -> View {
        self.view(self.at.load(Ordering::Relaxed))
    }

    /// All keys, in no order. What is there all the time is in it once; what others put or remove meanwhile may be.
    ///
    /// # Errors
    /// [`Codec`](crate::ErrorKind::Codec), [`CheckpointRetired`](crate::ErrorKind::CheckpointRetired),
    /// [`Closed`](crate::ErrorKind::Closed) if it was destroyed.
    pub fn keys(&self) -> Result<Vec<K>>
    where
        K: Send,
    {
        if let Some(tie) = &self.tie {
            return self.far_keys(&tie.map);
        }
        let view = self.here();
        let list = |(manager, part): (usize, usize)| {
            let (mut keys, mut wrong) = (Vec::new(), None);
            self.body.table().walk_keys(manager, part, view, |bytes| match decode::<K, C>(bytes) {
                Ok(key) => keys.push(key),
                Err(error) => wrong = wrong.take().or(Some(error)),
            });
            wrong.map_or(Ok(keys), Err)
        };
        let parts = self.parts();
        let lists: Vec<Vec<K>> = if self.stored() >= MANY {
            parts.into_par_iter().map(list).collect::<Result<_>>()?
        } else {
            parts.into_iter().map(list).collect::<Result<_>>()?
        };
        self.still_there(view.at)?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// The keys that are in the memory of this node.
    ///
    /// # Errors
    /// As [`keys`](DDict::keys).
    pub fn local_keys(&self) -> Result<Vec<K>>
    where
        K: Send,
    {
        match &self.tie {
            Some(tie) => self.keys_here(&tie.map),
            None => self.keys(),
        }
    }

    /// All keys with their values, in no order, read part by part as one goes on: what others put or remove meanwhile
    /// may be in it or not. It can be left at any time.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let dict: dragon::DDict<u32, u32> = dragon::DDict::new()?;
    /// dict.batch(|batch| (0..10).try_for_each(|n| batch.put(&n, &(2 * n))))?;
    /// let mut all = dict.iter()?.collect::<dragon::Result<Vec<_>>>()?;
    /// all.sort();
    /// assert_eq!(all[3], (3, 6));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`keys`](DDict::keys), from the iterator.
    pub fn iter(&self) -> Result<Entries<'_, K, V, C>> {
        let view = self.here();
        self.still_there(view.at)?;
        Ok(Entries { dict: self, view, parts: self.parts().into_iter(), read: VecDeque::new() })
    }

    /// Keys that are stored, at whichever checkpoint.
    fn stored(&self) -> u64 {
        self.managers().map(|manager| self.body.table().tally(manager).entries).sum()
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// [`CheckpointRetired`](crate::ErrorKind::CheckpointRetired), [`Closed`](crate::ErrorKind::Closed).
    pub fn len(&self) -> Result<u64> {
        if let Some(tie) = &self.tie {
            return self.far_len(&tie.map);
        }
        let (view, rules) = (self.here(), self.body.rules);
        let count = if rules.window == 1 && !rules.persists {
            self.stored()
        } else {
            let mut count = 0;
            let table = self.body.table();
            self.parts().into_iter().for_each(|(manager, part)| table.walk_keys(manager, part, view, |_| count += 1));
            count
        };
        self.still_there(view.at)?;
        Ok(count)
    }

    /// Whether there is no key.
    ///
    /// # Errors
    /// As [`len`](DDict::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// [`Frozen`](crate::ErrorKind::Frozen), [`CheckpointRetired`](crate::ErrorKind::CheckpointRetired),
    /// [`Closed`](crate::ErrorKind::Closed), [`OutOfMemory`](crate::ErrorKind::OutOfMemory) if earlier checkpoints still see
    /// them.
    pub fn clear(&self) -> Result<()> {
        if let Some(tie) = &self.tie {
            return self.far_clear(&tie.map);
        }
        let (view, mut keys) = (self.here(), Vec::new());
        let table = self.body.table();
        for (manager, part) in self.parts() {
            table.walk_keys(manager, part, view, |key| keys.push(key.to_vec()));
            for key in keys.drain(..) {
                let key = table.key(&key);
                self.write(crate::table::Expect::Any, |how, cargo| {
                    table.remove(manager, &key, how, cargo).map_err(Error::from)
                })?;
            }
        }
        self.managers().for_each(|manager| table.trim(manager));
        Ok(())
    }
}
