//! Values read where they are.

use std::ops::Deref;
use std::sync::Arc;

use super::DDict;
use super::body::Body;
use super::encode::with_key;
use crate::codec::Codec;
use crate::error::Result;
use crate::mesh::Body as Bytes;
use crate::prim::Ordering;
use crate::table::{Cargo, Pinned};

/// A value of a [`DDict`] in shared memory: derefs to its bytes, which stay as they are while this is held.
///
/// Others may put, remove and clear meanwhile; the memory of this value is free again when it has been replaced and its
/// last reader has let go of it. A process that is killed counts as letting go.
pub struct Ref {
    body: Arc<Body>,
    /// `Some` until it is dropped, unless the value is of another node.
    pinned: Option<Pinned>,
    /// A value of another node, where it landed here.
    landed: Option<Bytes>,
}

impl Ref {
    #[inline]
    fn pinned(&self) -> &Pinned {
        self.pinned.as_ref().expect("taken out only when it is dropped")
    }
}

impl Deref for Ref {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.landed {
            Some(bytes) => bytes,
            None => self.body.table().pinned_bytes(self.pinned()),
        }
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        let mut cargo = Cargo::new();
        if let Some(pinned) = self.pinned.take() {
            self.body.table().unpin(pinned, &mut cargo);
        }
        self.body.unload(&mut cargo);
    }
}

impl std::fmt::Debug for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ref({} bytes)", self.len())
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// The value of a key as its bytes, read where they are: whatever their number, nothing is copied. They are
    /// aligned to at least 8 bytes. One of another node comes here, long ones from block to block; those up to
    /// 4 KiB are aligned to nothing then.
    ///
    /// ```
    /// use dragon::codec::{Pod, bytemuck};
    ///
    /// let _dragon = dragon::init()?;
    /// let weights = dragon::DDict::<u64, [f64; 1024], Pod>::builder_with().build()?;
    /// weights.put(&1, &[0.5; 1024])?;
    /// let layer = weights.get_ref(&1)?;
    /// let numbers: &[f64] = bytemuck::cast_slice(&layer);
    /// assert_eq!(numbers.iter().sum::<f64>(), 512.0);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](DDict::get); [`ResourceLimit`](crate::ErrorKind::ResourceLimit) for more than 131,072 at a time.
    pub fn get_ref(&self, key: &K) -> Result<Ref> {
        with_key::<K, C, _>(key, |bytes| {
            let (table, at) = (self.body.table(), self.at.load(Ordering::Relaxed));
            let key = table.key(bytes);
            if let Some(to) = self.away(&key) {
                let landed = self.far_bytes(to, &key)?.ok_or_else(Self::not_found)?;
                return Ok(Ref { body: self.body.clone(), pinned: None, landed: Some(landed) });
            }
            let mut cargo = Cargo::new();
            let pinned = table.pin(self.shard_of(&key), &key, self.view(at), &mut cargo);
            self.body.unload(&mut cargo);
            let reference = pinned?.map(|pinned| Ref { body: self.body.clone(), pinned: Some(pinned), landed: None });
            self.still_there(at)?;
            reference.ok_or_else(Self::not_found)
        })
    }
}
