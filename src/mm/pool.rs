//! A pool of memory: a heap of a fixed size with a name, inside one large block of the node's memory.
//!
//! It lives as long as some process has it open, like every object. One that is local to a process is
//! also destroyed when that process ends; one that was deregistered is kept until it is destroyed,
//! even while nobody has it open. Destroying takes the name away at once; the bytes go when the last
//! process that has it open closes it, so that nobody reads what is no longer there.

use std::{fmt, ops::Deref, ops::DerefMut, ptr::NonNull, slice, sync::Arc, thread, time::Duration};

use crate::id::ObjectId;
use crate::id::ProcId;
use crate::mm::error::MemError;
use crate::mm::heap;
use crate::mm::heap::Found;
use crate::mm::heap::Ground;
use crate::mm::heap::Heap;
use crate::mm::heap::Place;
use crate::mm::heap::cache;
use crate::mm::heap::cache::Cache;
use crate::mm::heap::cache::Heaps;
use crate::mm::heap::scan::Tally;
use crate::mm::heap::word;
use crate::mm::heap::word::State;
use crate::mm::heap::word::Word;
use crate::mm::layout;
use crate::mm::memory::Memory;
use crate::mm::objects::Kind;
use crate::mm::objects::Object;
use crate::prim::AtomicU32;
use crate::prim::Ordering;
use crate::time::Deadline;

const NAME_MAX: usize = 255;
/// How long one waits for another who is creating a pool of the same name.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first page of a pool's block; the heap follows. What is not atomic is written before anybody
/// else can see it.
#[repr(C)]
struct PoolHeader {
    heap_len: u64,
    /// Destroyed when this process ends; 0: with no process.
    local_to: AtomicU32,
    destroyed: AtomicU32,
    /// The name is this pool's: no other of that name was there.
    settled: AtomicU32,
    name_len: u32,
    name: [u8; NAME_MAX + 1],
}

const _: () = assert!(size_of::<PoolHeader>() <= layout::PAGE as usize);

/// A pool of memory that this process has open. Clones are the same pool.
#[derive(Clone)]
pub struct MemoryPool(Arc<Shared>);

struct Shared {
    object: Object,
    heap: Heap,
    cache: Cache,
}

/// A block from a pool; freed when dropped. Freeing one that another process allocated is legal.
pub struct PoolBlock {
    pool: Arc<Shared>,
    at: NonNull<u8>,
    id: u64,
    len: usize,
}

// SAFETY: bytes that belong to whoever has this value; which thread that is does not matter.
unsafe impl Send for PoolBlock {}
// SAFETY: through a shared reference bytes can only be read.
unsafe impl Sync for PoolBlock {}

/// The pages of a pool are those of its block, which are there already.
struct Inside(Arc<Memory>);

impl Ground for Inside {
    fn commit(&self, _from: u64, _to: u64) -> Result<(), MemError> {
        Ok(())
    }

    fn somebody_scans(&self) -> bool {
        self.0.facts.somebody_scans()
    }

    fn account(&self, _bytes: u64) {}
}

impl MemoryPool {
    /// A pool of at least `bytes`, under a name that no other pool of this node has.
    pub(crate) fn create(memory: &Arc<Memory>, name: &str, bytes: usize) -> Result<MemoryPool, MemError> {
        Self::create_for(memory, name, bytes, ProcId::NONE)
    }

    /// As [`MemoryPool::create`]; destroyed when this process ends, unless deregistered before.
    pub(crate) fn create_local(memory: &Arc<Memory>, name: &str, bytes: usize) -> Result<MemoryPool, MemError> {
        Self::create_for(memory, name, bytes, memory.me())
    }

    fn create_for(memory: &Arc<Memory>, name: &str, bytes: usize, local_to: ProcId) -> Result<MemoryPool, MemError> {
        let refused = |what| MemError::NameTaken { what, name: name.into() };
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(refused("a pool's name has 1 to 255 bytes, not"));
        }
        if find(memory, name).is_some() {
            return Err(refused("there is already a pool"));
        }
        let heap_len = heap::len_for_units((bytes as u64).div_ceil(layout::UNIT).max(1));
        let block = memory.alloc((layout::PAGE + heap_len) as usize)?;
        let mut header = PoolHeader {
            heap_len,
            local_to: u32::from(local_to.0).into(),
            destroyed: 0.into(),
            settled: 0.into(),
            name_len: name.len() as u32,
            name: [0; NAME_MAX + 1],
        };
        header.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: the block is ours alone, aligned to its page, and longer than the header.
        unsafe { block.ptr().cast::<PoolHeader>().write(header) };
        // SAFETY: the heap's header and table are inside the block, behind the first page.
        unsafe { block.ptr().add(layout::PAGE as usize).write_bytes(0, heap::head_len(heap_len) as usize) };
        mark!("pool.prepared");
        let pool = Self::over(memory.create_object(Kind::MemoryPool, block)?);
        pool.settle(name).map(|()| pool).map_err(|()| refused("there is already a pool"))
    }

    /// Opens the pool of this name.
    pub(crate) fn open(memory: &Arc<Memory>, name: &str) -> Result<MemoryPool, MemError> {
        let found = find(memory, name).map(Self::over);
        found.ok_or_else(|| MemError::NoSuchName { name: name.into() })
    }

    /// Opens a pool by its id: some process has it open, or a message holds it.
    pub(crate) fn open_id(memory: &Arc<Memory>, id: ObjectId) -> Result<MemoryPool, MemError> {
        memory.open_object(id, Kind::MemoryPool).map(Self::over)
    }

    /// The object of shared memory that it is.
    pub(crate) fn object(&self) -> &Object {
        &self.0.object
    }

    fn over(object: Object) -> MemoryPool {
        let ground = Box::new(Inside(object.memory().clone()));
        let heap_len = header(&object).heap_len;
        // SAFETY: the heap lies behind the first page of the object's block, which lives as long as `object`.
        let heap = unsafe { Heap::new(object.ptr().add(layout::PAGE as usize), heap_len, ground) };
        MemoryPool(Arc::new(Shared { object, heap, cache: Cache::new() }))
    }

    /// Makes the name ours, unless another has it or will.
    fn settle(&self, name: &str) -> Result<(), ()> {
        let (memory, mine) = (self.0.object.memory(), self.id());
        let deadline = Deadline::after(PATIENCE);
        'again: loop {
            for (id, _) in memory.objects(Kind::MemoryPool) {
                let Ok(other) = memory.open_object(id, Kind::MemoryPool) else { continue };
                if id == mine || !has_name(&other, name) {
                    continue;
                }
                // SeqCst, one total order with the objects' states: both of two creators are live before
                // either looks, so one sees the other; the one with the lower place waits for the other to give up, or to have been earlier.
                let settled = header(&other).settled.load(Ordering::SeqCst) != 0;
                if settled || id.index < mine.index || deadline.passed() {
                    return Err(());
                }
                thread::yield_now();
                continue 'again;
            }
            // SeqCst: partner of the loads above and in `find`.
            header(&self.0.object).settled.store(1, Ordering::SeqCst);
            return Ok(());
        }
    }

    /// Its id on this node.
    pub(crate) fn id(&self) -> ObjectId {
        self.0.object.id()
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.0.heap.largest()
    }

    /// Bytes that no block takes. Small blocks are cut from pieces of 64 KiB, so that not every size
    /// below this need be there.
    pub fn free_space(&self) -> u64 {
        self.size() - self.tally().bytes
    }

    /// Blocks that somebody holds.
    pub fn blocks(&self) -> u64 {
        self.tally().blocks
    }

    fn tally(&self) -> Tally {
        self.0.object.memory().while_scanning(|| self.0.heap.tally())
    }

    /// A block of `len` bytes with arbitrary contents.
    pub fn alloc(&self, len: usize) -> Result<PoolBlock, MemError> {
        self.0.usable()?;
        let (_, found) = match cache::allocate_at_once(&*self.0, len as u64) {
            Some(block) => block,
            None => cache::allocate(&*self.0, len as u64)?,
        };
        Ok(self.0.block(found.offset, found.generation, len))
    }

    /// Makes the block with this id this process's own, all of the bytes it has room for.
    pub fn take(&self, id: u64) -> Result<PoolBlock, MemError> {
        loop {
            let (found, place, word) = self.0.check(id)?;
            let mine = word.to(State::Held, self.0.me());
            if word::swap(self.0.heap.word_of(&place), word, mine) {
                return Ok(self.0.block(found.offset, found.generation, found.capacity as usize));
            }
        }
    }

    /// Frees the block with this id, whoever allocated it.
    pub fn free(&self, id: u64) -> Result<(), MemError> {
        self.take(id).map(drop)
    }

    /// Whether the block with this id has not been freed.
    pub fn allocation_exists(&self, id: u64) -> bool {
        self.0.check(id).is_ok()
    }

    /// Where the block with this id is in this process.
    #[cfg(test)]
    pub(super) fn resolve(&self, id: u64) -> Result<NonNull<u8>, MemError> {
        self.0.check(id).map(|(found, ..)| self.0.heap.address(found.offset))
    }

    /// The end of any process no longer destroys this pool; it is kept until [`MemoryPool::destroy`],
    /// even while nobody has it open.
    pub fn deregister(&self) -> Result<(), MemError> {
        self.0.usable()?;
        self.0.object.keep(true);
        // SeqCst: partner of the load in `end_local_to`.
        header(&self.0.object).local_to.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// The end of this process destroys this pool.
    pub fn register(&self) -> Result<(), MemError> {
        self.0.usable()?;
        // SeqCst: partner of the load in `end_local_to`.
        header(&self.0.object).local_to.store(u32::from(self.0.me().0), Ordering::SeqCst);
        self.0.object.keep(false);
        Ok(())
    }

    /// Takes the name away and refuses further requests, in all processes.
    pub fn destroy(&self) {
        end(&self.0.object);
        cache::trim(&*self.0);
    }
}

impl Shared {
    fn usable(&self) -> Result<(), MemError> {
        let id = self.object.id();
        // Acquire: partner of the store in `end`.
        match header(&self.object).destroyed.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(MemError::ObjectGone { index: id.index, generation: id.generation }),
        }
    }

    fn block(self: &Arc<Self>, offset: u64, generation: u32, len: usize) -> PoolBlock {
        let id = (u64::from(generation) << ID_GENERATION_AT) | (offset / layout::LINE);
        PoolBlock { pool: self.clone(), at: self.heap.address(offset), id, len }
    }

    fn check(&self, id: u64) -> Result<(Found, Place, Word), MemError> {
        let (offset, generation) = ((id & ID_OFFSET_MASK) * layout::LINE, (id >> ID_GENERATION_AT) as u32);
        let bad = |why| MemError::BadHandle { why };
        let place = self.heap.locate(offset).ok_or(bad("no block starts there"))?;
        let word = word::read(self.heap.word_of(&place));
        if word.state() != State::Held || word.generation() != generation {
            return Err(bad("nobody holds that block"));
        }
        let capacity = self.heap.capacity(&place, word);
        Ok((Found { offset, generation, capacity }, place, word))
    }
}

/// An id is `generation:28 | offset in lines:36`.
const ID_GENERATION_AT: u32 = 36;
const ID_OFFSET_MASK: u64 = (1 << ID_GENERATION_AT) - 1;

impl Heaps for Shared {
    fn me(&self) -> ProcId {
        self.object.memory().me()
    }

    fn cache(&self) -> &Cache {
        &self.cache
    }

    fn opened(&self) -> usize {
        1
    }

    fn heap(&self, _index: usize) -> Result<&Heap, MemError> {
        Ok(&self.heap)
    }

    fn open_another(&self) -> Result<bool, MemError> {
        Ok(false)
    }

    fn largest(&self) -> u64 {
        self.heap.largest()
    }

    fn refusal(&self, asked: u64) -> MemError {
        let in_use = self.object.memory().while_scanning(|| self.heap.tally()).bytes;
        MemError::PoolFull { asked, in_use, size: self.heap.largest() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        cache::abandon(self);
    }
}

impl PoolBlock {
    /// What another process needs to take it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Lets go without freeing. The block is this process's until another takes it, or this one ends.
    pub fn into_id(self) -> u64 {
        let id = self.id;
        // The count of the pool's users goes down, the block stays.
        let block = std::mem::ManuallyDrop::new(self);
        // SAFETY: `block` is never dropped, so its reference is dropped here, once.
        drop(unsafe { std::ptr::read(&block.pool) });
        id
    }
}

impl Deref for PoolBlock {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block is this value's alone; shared pages hold initialised bytes.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for PoolBlock {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for PoolBlock {
    fn drop(&mut self) {
        if let Ok((_, place, word)) = self.pool.check(self.id)
            && word.owner() == self.pool.me()
        {
            self.pool.heap.end(&place, word, self.pool.me());
        }
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPool").field("id", &self.id()).field("size", &self.size()).finish()
    }
}

impl fmt::Debug for PoolBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBlock").field("id", &self.id).field("len", &self.len).finish()
    }
}

/// Name and heap of the pool in a block of `len` bytes, for one who only looks. None if it is no pool any more.
///
/// # Safety
/// The bytes stay mapped as long as the heap, and only what reads of that is called.
pub(super) unsafe fn look(base: NonNull<u8>, len: u64, ground: Box<dyn Ground>) -> Option<(String, Heap)> {
    if len < layout::PAGE {
        return None;
    }
    // SAFETY: long enough, and any bits are valid for a header.
    let header = unsafe { base.cast::<PoolHeader>().as_ref() };
    let name = header.name.get(..header.name_len as usize)?;
    let heap_len = Some(header.heap_len).filter(|heap_len| *heap_len <= len - layout::PAGE)?;
    // SAFETY: the heap lies behind the first page, inside the bytes that were promised.
    let heap = unsafe { Heap::new(base.add(layout::PAGE as usize), heap_len, ground) };
    Some((String::from_utf8_lossy(name).into_owned(), heap))
}

fn header(object: &Object) -> &PoolHeader {
    // SAFETY: a pool's block begins with one, which lives as long as the object is open here; what is
    // not atomic in it was written before the object was live.
    unsafe { object.ptr().cast().as_ref() }
}

fn has_name(object: &Object, name: &str) -> bool {
    let header = header(object);
    let its = header.name.get(..header.name_len as usize);
    // SeqCst: partner of the store in `end`.
    header.destroyed.load(Ordering::SeqCst) == 0 && its == Some(name.as_bytes())
}

fn find(memory: &Arc<Memory>, name: &str) -> Option<Object> {
    let pools = memory.objects(Kind::MemoryPool).into_iter();
    let mut open = pools.filter_map(|(id, _)| memory.open_object(id, Kind::MemoryPool).ok());
    // SeqCst: partner of the store in `settle`.
    open.find(|object| has_name(object, name) && header(object).settled.load(Ordering::SeqCst) != 0)
}

/// Ends a pool, as far as its name and new requests go.
fn end(object: &Object) {
    // SeqCst: partner of the loads in `usable` and `has_name`; before `keep`, which may end the object.
    header(object).destroyed.store(1, Ordering::SeqCst);
    mark!("pool.destroyed");
    object.keep(false);
}

/// All pools that `dead` may have had blocks of, or that end with it.
fn each_pool(memory: &Arc<Memory>, mut see: impl FnMut(MemoryPool)) {
    for (id, _) in memory.objects(Kind::MemoryPool) {
        if let Ok(object) = memory.open_object(id, Kind::MemoryPool) {
            see(MemoryPool::over(object));
        }
    }
}

/// Gives back what `dead` held of the pools.
pub(super) fn reclaim(memory: &Arc<Memory>, dead: ProcId) -> Tally {
    let mut freed = Tally::default();
    each_pool(memory, |pool| {
        memory.while_scanning(|| freed.add(pool.0.heap.reclaim(dead, &|_, _| false)));
        cache::sweep_homeless(&*pool.0);
    });
    freed
}

/// Destroys the pools that were local to `dead`.
pub(super) fn end_local_to(memory: &Arc<Memory>, dead: ProcId) {
    each_pool(memory, |pool| {
        // SeqCst: partner of the stores in `register` and `deregister`.
        if header(&pool.0.object).local_to.load(Ordering::SeqCst) == u32::from(dead.0) {
            end(&pool.0.object);
        }
    });
}
