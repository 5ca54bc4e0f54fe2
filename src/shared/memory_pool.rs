//! Memory that processes of a node share by name: the public face of [`crate::mm::MemoryPool`].

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId};
use crate::mm::{self, PoolBlock};
use crate::runtime;

/// A named pool of shared memory of a fixed size, from which any process of the node allocates.
///
/// A handle is a value, as that of a [`Channel`](crate::Channel) is: put it into a task or a message. Who builds a type of
/// their own from the two finds an example in `examples/histogram.rs`.
///
/// Blocks have ids, by which other processes find them; freeing a block that another process allocated
/// is legal. What a process held when it died is given back. A pool made with
/// [`create_local`](MemoryPool::create_local) ends with the process that made it.
///
/// **Other nodes.** Memory is of one node: a handle can be put into the argument of a task or a message, and
/// taken out in any process of the same node. Taken out on another node it can only be passed on; what is asked of
/// it there fails with [`InvalidArgument`](ErrorKind::InvalidArgument), and a figure is 0.
///
/// ```
/// let _dragon = dragon::init()?;
/// let pool = dragon::MemoryPool::create("results", 1 << 20)?;
/// let mut block = pool.alloc(1000)?;
/// block[..5].copy_from_slice(b"hello");
/// let id = block.into_id();
///
/// let same = dragon::MemoryPool::open("results")?;
/// let block = same.take(id)?;
/// assert_eq!(&block[..5], b"hello");
/// drop(block);
/// assert!(!pool.allocation_exists(id));
/// pool.destroy();
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryPool(Inside);

#[derive(Clone)]
enum Inside {
    Here(mm::MemoryPool),
    /// Of another node: a handle that can only be passed on.
    Elsewhere {
        node: NodeNumber,
        id: ObjectId,
    },
}

impl MemoryPool {
    /// A pool of at least `bytes`, under a name that no other pool of this node has.
    ///
    /// # Errors
    /// [`Exists`](crate::ErrorKind::Exists), [`OutOfMemory`](crate::ErrorKind::OutOfMemory),
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized).
    pub fn create(name: &str, bytes: usize) -> Result<MemoryPool> {
        Ok(MemoryPool(Inside::Here(mm::MemoryPool::create(runtime::current()?.memory(), name, bytes)?)))
    }

    /// The same, destroyed when this process ends, unless it was [deregistered](MemoryPool::deregister).
    ///
    /// # Errors
    /// As [`create`](MemoryPool::create).
    pub fn create_local(name: &str, bytes: usize) -> Result<MemoryPool> {
        Ok(MemoryPool(Inside::Here(mm::MemoryPool::create_local(runtime::current()?.memory(), name, bytes)?)))
    }

    /// Opens the pool of this name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub fn open(name: &str) -> Result<MemoryPool> {
        Ok(MemoryPool(Inside::Here(mm::MemoryPool::open(runtime::current()?.memory(), name)?)))
    }

    /// The pool, if its memory is this node's.
    fn here(&self) -> Result<&mm::MemoryPool> {
        match &self.0 {
            Inside::Here(pool) => Ok(pool),
            Inside::Elsewhere { node, .. } => {
                let text = format!("a memory pool can be used on its own node only, which is node {node}");
                Err(Error::new(ErrorKind::InvalidArgument, text))
            }
        }
    }

    /// A block of `length` bytes with arbitrary contents, aligned to a cache line.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) if the pool has no room for it.
    pub fn alloc(&self, length: usize) -> Result<Allocation> {
        Ok(Allocation(self.here()?.alloc(length)?))
    }

    /// Makes the block with this id this process's own, with all bytes it has room for.
    ///
    /// # Errors
    /// [`BadHandle`](crate::ErrorKind::BadHandle) if there is no such block any more.
    pub fn take(&self, id: u64) -> Result<Allocation> {
        Ok(Allocation(self.here()?.take(id)?))
    }

    /// Frees the block with this id, whoever allocated it.
    ///
    /// # Errors
    /// [`BadHandle`](crate::ErrorKind::BadHandle) if there is no such block any more.
    pub fn free(&self, id: u64) -> Result<()> {
        Ok(self.here()?.free(id)?)
    }

    /// Whether the block with this id has not been freed.
    pub fn allocation_exists(&self, id: u64) -> bool {
        self.here().is_ok_and(|pool| pool.allocation_exists(id))
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.here().map_or(0, mm::MemoryPool::size)
    }

    /// Bytes that no block takes. Small blocks are cut from pieces of 64 KiB, so that not every size below this
    /// need be there.
    pub fn free_space(&self) -> u64 {
        self.here().map_or(0, mm::MemoryPool::free_space)
    }

    /// How many blocks somebody holds.
    pub fn blocks(&self) -> u64 {
        self.here().map_or(0, mm::MemoryPool::blocks)
    }

    /// Keeps the pool until it is [destroyed](MemoryPool::destroy), whoever ends.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it has been destroyed.
    pub fn deregister(&self) -> Result<()> {
        Ok(self.here()?.deregister()?)
    }

    /// Lets the pool end with this process.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it has been destroyed.
    pub fn register(&self) -> Result<()> {
        Ok(self.here()?.register()?)
    }

    /// Takes the name away and refuses further requests, in all processes. Its memory is given back when the
    /// last process lets go of it. Idempotent.
    pub fn destroy(&self) {
        if let Ok(pool) = self.here() {
            pool.destroy();
        }
    }
}

impl Serialize for MemoryPool {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.0 {
            Inside::Here(pool) => {
                let node = runtime::current().map_err(ser::Error::custom)?.place().node();
                mm::note(pool.object());
                (node, pool.id()).serialize(serializer)
            }
            Inside::Elsewhere { node, id } => (node, id).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MemoryPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<MemoryPool, D::Error> {
        let (node, id) = <(NodeNumber, ObjectId)>::deserialize(deserializer)?;
        let core = runtime::current().map_err(de::Error::custom)?;
        if node != core.place().node() {
            return Ok(MemoryPool(Inside::Elsewhere { node, id }));
        }
        mm::MemoryPool::open_id(core.memory(), id).map(Inside::Here).map(MemoryPool).map_err(de::Error::custom)
    }
}

impl std::fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryPool({} of {} bytes free)", self.free_space(), self.size())
    }
}

/// A block of a [`MemoryPool`]: derefs to its bytes, freed when dropped.
pub struct Allocation(PoolBlock);

impl Allocation {
    /// What another process needs to take it.
    pub fn id(&self) -> u64 {
        self.0.id()
    }

    /// Lets go without freeing. The block is this process's until another takes it, or this one ends.
    pub fn into_id(self) -> u64 {
        self.0.into_id()
    }
}

impl Deref for Allocation {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Allocation {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl std::fmt::Debug for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Allocation({} bytes)", self.len())
    }
}
