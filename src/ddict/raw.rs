//! Entries by their bytes, for copies and stored checkpoints: what was encoded once is not decoded on the way.

use super::DDict;
use super::encode::decode;
use crate::codec::Codec;
use crate::error::Result;
use crate::table::{Expect, Item};

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// Puts what a walk has shown at the same manager.
    pub(super) fn put_raw(&self, manager: usize, item: Item<'_>) -> Result<()> {
        if item.cargo {
            // Its handles are to be held by this dictionary too, so they have to be written anew.
            let (key, value) = (decode::<K, C>(item.key)?, decode::<V, C>(item.value)?);
            return self.at_manager(manager).put_if(&key, &value, Expect::Any, item.kept).map(drop);
        }
        let key = self.body.table().key(item.key);
        let fill = |space: &mut [u8]| space.copy_from_slice(item.value);
        self.put_bytes_at(manager, &key, item.value.len(), Expect::Any, item.kept, &[], fill).map(drop)
    }

    /// Removes a key at a manager.
    pub(super) fn remove_raw(&self, manager: usize, key: &[u8]) -> Result<()> {
        let table = self.body.table();
        let key = table.key(key);
        self.write(Expect::Any, |how, cargo| Ok(table.remove(manager, &key, how, cargo)?)).map(drop)
    }
}
