//! A dictionary over the memory of all nodes, for all processes of a job.

mod archive;
mod body;
mod builder;
mod change;
mod checkpoint;
mod encode;
mod far;
mod far_batch;
mod far_persist;
mod far_whole;
mod handle;
mod home;
mod home_copies;
mod home_restore;
mod home_steps;
mod near;
#[cfg(feature = "object-store")]
mod objects;
mod outside;
mod pack;
mod persist;
mod place;
mod raw;
mod reference;
mod replica;
mod store;
mod walk;
mod whole;

pub use builder::DDictBuilder;
pub use change::{Batch, Whole};
#[cfg(feature = "object-store")]
pub use objects::Objects;
pub(crate) use outside::seen;
pub use outside::{DDictSight, ManagerSight};
pub use reference::Ref;
pub use store::{Persist, Posix, Store};
pub use walk::Entries;
pub use whole::{DDictStats, ManagerStats};

use std::any::type_name;
use std::marker::PhantomData;
use std::sync::Arc;

use once_cell::sync::OnceCell;

use self::body::Body;
use self::checkpoint::Seat;
use self::encode::{decode, with_key, with_value};
use self::place::Tie;
use crate::codec::{Codec, Postcard};
use crate::error::{Error, ErrorKind, Result};
use crate::mm::{Claim, Object};
use crate::prim::{AtomicU32, Ordering};
use crate::table::{Cargo, Expect, Filled, How, Key, Name, View, Wrote};
use crate::time::Deadline;
use crate::wire::Message;

/// A dictionary over the memory of all nodes of a job, or of some: every process of a node reads and writes directly
/// what is in the memory of that node, and calls the other nodes for the rest, one message there and one back.
///
/// A read takes no lock and makes no system call; a write takes part of the table for a moment. Every call is
/// atomic: nobody ever sees half a value, whoever dies at whatever moment. How keys and values become bytes is
/// `C`'s business: [`Postcard`] takes anything that `serde` knows, [`codec::Pod`](crate::codec::Pod) plain old data without a
/// serializer. Keys are equal if their bytes are.
///
/// A handle is a value: clone it, put it into a task, a message or another dictionary, and it is the same
/// dictionary where it is taken out. It also works the other way round: handles of queues, locks and dictionaries can be
/// values, which keep what they are of alive. When the last handle anywhere is gone (a killed process counts as letting go), the
/// memory is free again.
///
/// Nothing is ever evicted: when the memory is used up, a put fails with [`OutOfMemory`](ErrorKind::OutOfMemory), and the
/// dictionary goes on as it was.
///
/// It mirrors DragonHPC's `DDict`, with these differences: an integer and the text of it are different keys, whatever
/// the codec; there are no manager processes, a manager is a part of the table; waiting and timeouts are
/// as everywhere in this library.
///
/// ```
/// let _dragon = dragon::init()?;
/// let squares: dragon::DDict<u64, u64> = dragon::DDict::new()?;
/// let pool = dragon::Pool::new(2)?;
/// pool.map_with(&squares, |squares: &dragon::DDict<u64, u64>, n: u64| squares.put(&n, &(n * n)).unwrap(), 0..100)?;
/// assert_eq!((squares.len()?, squares.get(&7)?), (100, 49));
/// # Ok::<(), dragon::Error>(())
/// ```
pub struct DDict<K, V, C = Postcard> {
    body: Arc<Body>,
    /// The checkpoint of this handle.
    at: AtomicU32,
    /// The manager that all calls go to, if there is one.
    manager: Option<u32>,
    seat: OnceCell<Seat>,
    /// Of a dictionary of several nodes.
    tie: Option<Tie>,
    types: PhantomData<fn(K, V, C) -> V>,
}

impl<K: Message, V: Message> DDict<K, V> {
    /// A dictionary with all settings as they come: see [`DDictBuilder`].
    ///
    /// # Errors
    /// [`NotInitialized`](ErrorKind::NotInitialized), [`OutOfMemory`](ErrorKind::OutOfMemory).
    pub fn new() -> Result<DDict<K, V>> {
        Self::builder().build()
    }

    /// Settings for a dictionary.
    pub fn builder() -> DDictBuilder<K, V> {
        Self::builder_with()
    }

    /// The dictionary that somebody gave this name, and still has open, at its newest checkpoint.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if nothing has this name; [`WrongType`](ErrorKind::WrongType) if what has it is no
    /// dictionary, or one of other types; [`NotInitialized`](ErrorKind::NotInitialized).
    pub fn open(name: &str) -> Result<DDict<K, V>> {
        Self::open_with(name)
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// [`builder`](DDict::builder) for any codec: `DDict::<u64, [f32; 128], Pod>::builder_with()`.
    pub fn builder_with() -> DDictBuilder<K, V, C> {
        DDictBuilder::new()
    }

    /// [`open`](DDict::open) for any codec.
    ///
    /// # Errors
    /// As [`open`](DDict::open).
    pub fn open_with(name: &str) -> Result<DDict<K, V, C>> {
        handle::open(name)
    }

    /// Puts a value, whether the key is there or not.
    ///
    /// # Errors
    /// [`OutOfMemory`](ErrorKind::OutOfMemory) with figures, and nothing has changed; [`TooLarge`](ErrorKind::TooLarge) if it could
    /// never fit, or the key is longer than 8,144 bytes (less in small dictionaries); [`Codec`](ErrorKind::Codec);
    /// [`Frozen`](ErrorKind::Frozen); [`CheckpointRetired`](ErrorKind::CheckpointRetired); [`Closed`](ErrorKind::Closed) if it was
    /// destroyed.
    #[inline]
    pub fn put(&self, key: &K, value: &V) -> Result<()> {
        self.put_if(key, value, Expect::Any, false).map(drop)
    }

    #[inline]
    fn put_if(&self, key: &K, value: &V, expect: Expect, kept: bool) -> Result<Wrote> {
        with_key::<K, C, _>(key, |bytes| {
            let key = self.body.table().key(bytes);
            if let Some(to) = self.away_to_write(&key) {
                return self.far_put_value(to, &key, value, expect, kept);
            }
            match <C as Codec<V>>::length(value) {
                Some(len) => self.put_bytes(&key, len, expect, kept, &[], |space| <C as Codec<V>>::write(value, space)),
                None => with_value::<V, C, _>(value, |bytes, cargo| {
                    self.put_bytes(&key, bytes.len(), expect, kept, cargo, |space| space.copy_from_slice(bytes))
                }),
            }
        })
    }

    /// Puts a value at a shard of this node.
    fn put_value_at(&self, shard: usize, key: &Key<'_>, value: &V, expect: Expect, kept: bool) -> Result<Wrote> {
        with_value::<V, C, _>(value, |bytes, cargo| {
            let fill = |space: &mut [u8]| space.copy_from_slice(bytes);
            self.put_bytes_at(shard, key, bytes.len(), expect, kept, cargo, fill)
        })
    }

    #[inline]
    fn put_bytes(
        &self,
        key: &Key<'_>,
        len: usize,
        expect: Expect,
        kept: bool,
        objects: &[Object],
        fill: impl Fn(&mut [u8]),
    ) -> Result<Wrote> {
        self.put_bytes_at(self.shard_of(key), key, len, expect, kept, objects, fill)
    }

    #[inline]
    #[allow(clippy::too_many_arguments, reason = "where, what and how; each of its own type")]
    fn put_bytes_at(
        &self,
        shard: usize,
        key: &Key<'_>,
        len: usize,
        expect: Expect,
        kept: bool,
        objects: &[Object],
        fill: impl Fn(&mut [u8]),
    ) -> Result<Wrote> {
        let table = self.body.table();
        self.write(expect, |how, cargo| {
            let how = How { kept, cargo: !objects.is_empty(), ..*how };
            let claims = if objects.is_empty() { Vec::new() } else { self.claim_holds(objects)? };
            Ok(table.put(shard, key, &how, len, cargo, &fill, |name| self.bind_holds(claims, name))?)
        })
    }

    /// Puts a value that stands in a block.
    fn put_filled_at(&self, shard: usize, key: &Key<'_>, value: &Filled, expect: Expect, kept: bool) -> Result<Wrote> {
        let table = self.body.table();
        self.write(expect, |how, cargo| Ok(table.put_filled(shard, key, &How { kept, ..*how }, value, cargo)?))
    }

    #[cold]
    fn claim_holds(&self, objects: &[Object]) -> Result<Vec<Claim>> {
        let memory = self.body.core.memory();
        objects.iter().map(|object| memory.claim_hold(object).map_err(Error::from)).collect()
    }

    #[inline]
    fn bind_holds(&self, claims: Vec<Claim>, name: Name) {
        if claims.is_empty() {
            return;
        }
        let id = self.body.object().id();
        claims.into_iter().for_each(|claim| claim.bind(id, name.word()));
    }

    /// Calls what writes with what is allowed now, again if that changes before it has begun.
    #[inline]
    fn write(&self, expect: Expect, mut call: impl FnMut(&How, &mut Cargo) -> Result<Wrote>) -> Result<Wrote> {
        let mut cargo = Cargo::new();
        loop {
            let at = self.at.load(Ordering::Relaxed);
            let gate = self.admit(at)?;
            let rules = &self.body.rules;
            // With one checkpoint and none stored, nobody looks at earlier values.
            let floor = if rules.window == 1 && !rules.persists { at } else { self.body.floor() };
            let how = How { view: self.view(at), floor, kept: false, cargo: false, expect, gate: gate.0 };
            let wrote = call(&how, &mut cargo);
            self.body.unload(&mut cargo);
            match wrote? {
                Wrote::Stale => {}
                wrote => return Ok(wrote),
            }
        }
    }

    #[inline]
    fn view(&self, at: u32) -> View {
        View { at, exact: self.body.rules.waits_for_keys }
    }

    #[inline]
    fn shard_of(&self, key: &Key<'_>) -> usize {
        match (&self.tie, self.manager) {
            (Some(tie), manager) => tie.map.shard_here(manager, key),
            (None, Some(manager)) => manager as usize,
            (None, None) => self.body.table().shard_of(key),
        }
    }

    /// The value of a key. Where the dictionary [waits for keys](DDictBuilder::wait_for_keys) it waits until the key was put at
    /// this checkpoint.
    ///
    /// # Errors
    /// [`KeyNotFound`](ErrorKind::KeyNotFound); [`Codec`](ErrorKind::Codec) for one that cannot be read as a `V`, with its bytes in
    /// [`Error::undecoded`]; [`CheckpointRetired`](ErrorKind::CheckpointRetired); [`Closed`](ErrorKind::Closed) if it was destroyed.
    #[inline]
    pub fn get(&self, key: &K) -> Result<V> {
        let mut value = None;
        self.find_named(key, false, &mut value)?;
        match value {
            Some(value) => Ok(value),
            None if self.body.rules.waits_for_keys => self.await_value(key, Deadline::Never),
            None => Err(Self::not_found()),
        }
    }

    #[cold]
    fn not_found() -> Error {
        let (key, value) = (type_name::<K>(), type_name::<V>());
        Error::new(ErrorKind::KeyNotFound, format!("the dictionary from `{key}` to `{value}` has no such key"))
    }

    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// As [`get`](DDict::get), but for a missing key.
    #[inline]
    pub fn try_get(&self, key: &K) -> Result<Option<V>> {
        let mut value = None;
        self.find_named(key, false, &mut value)?;
        Ok(value)
    }

    /// Sets the value of a key, if it is there, and returns the name of the entry that it is from. Large values are not
    /// handed from call to call.
    #[inline]
    fn find(&self, key: &K, value: &mut Option<V>) -> Result<Option<Name>> {
        self.find_named(key, true, value)
    }

    /// The same; of a value of another node the name of the entry only if it is wanted.
    #[inline]
    fn find_named(&self, key: &K, named: bool, value: &mut Option<V>) -> Result<Option<Name>> {
        with_key::<K, C, _>(key, |bytes| {
            let mut refused = None;
            let take = |bytes: &[u8]| match decode::<V, C>(bytes) {
                Ok(found) => *value = Some(found),
                Err(error) => refused = Some(error),
            };
            let name = match self.tie.as_ref().and_then(|_| self.away(&self.body.table().key(bytes))) {
                None => self.look_for(bytes, <C as Codec<V>>::width().unwrap_or(0), take)?,
                Some(to) => self.far_look(to, &self.body.table().key(bytes), named, take)?,
            };
            refused.map_or(Ok(name), Err)
        })
    }

    /// Calls `take` with the bytes of a key's value, and says from which entry they are.
    #[inline]
    fn look(&self, key: &[u8], take: impl FnMut(&[u8])) -> Result<Option<Name>> {
        self.look_for(key, 0, take)
    }

    /// The same, where so many bytes of value are expected.
    #[inline]
    fn look_for(&self, key: &[u8], expected: usize, take: impl FnMut(&[u8])) -> Result<Option<Name>> {
        let (table, at) = (self.body.table(), self.at.load(Ordering::Relaxed)); // this handle's own
        let key = table.key(key);
        let mut cargo = Cargo::new();
        let found = table.get_expecting(self.shard_of(&key), &key, expected, self.view(at), &mut cargo, take);
        self.body.unload(&mut cargo);
        self.still_there(at)?;
        found.map_err(|refused| Error::from(*refused))
    }

    /// Whether a key is there. Never waits.
    ///
    /// # Errors
    /// As [`try_get`](DDict::try_get).
    pub fn contains(&self, key: &K) -> Result<bool> {
        with_key::<K, C, _>(key, |bytes| match self.away(&self.body.table().key(bytes)) {
            Some(to) => self.far_contains(to, &self.body.table().key(bytes)),
            None => self.contains_bytes(bytes),
        })
    }

    fn contains_bytes(&self, bytes: &[u8]) -> Result<bool> {
        let (table, view) = (self.body.table(), self.here());
        let key = table.key(bytes);
        let there = table.contains(self.shard_of(&key), &key, view);
        self.still_there(view.at).map(|()| there)
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`KeyNotFound`](ErrorKind::KeyNotFound), [`Frozen`](ErrorKind::Frozen),
    /// [`CheckpointRetired`](ErrorKind::CheckpointRetired), [`Closed`](ErrorKind::Closed).
    pub fn remove(&self, key: &K) -> Result<()> {
        let removed = self.remove_if(key, Expect::Any)?;
        if removed == Wrote::Refused { Err(Self::not_found()) } else { Ok(()) }
    }

    /// The managers that this handle's calls go to.
    fn managers(&self) -> std::ops::Range<usize> {
        match self.manager {
            Some(manager) => manager as usize..manager as usize + 1,
            None => 0..self.manager_count() as usize,
        }
    }
}
