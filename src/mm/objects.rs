//! Shared objects: things with an id that live as long as some process has them open.
//!
//! An entry of the object table is Free → Building(by) → Live → Dying(by) → Burying(by) → Free. Every
//! process that has an object open has its bit among the holders; whoever clears the last bit ends the
//! object. Who opens sets its bit and then looks at the state; who ends sets the state to Dying and
//! then looks at the bits; all four steps are in one total order (SeqCst), so that one of them sees the
//! other. Dying can be taken back; Burying cannot. The death of a process counts as clearing its bits.

use std::{collections::HashMap, ptr::NonNull, sync::Arc, sync::MutexGuard, sync::PoisonError, thread, time::Duration};

use crate::id::ObjectId;
use crate::id::ProcId;
use crate::mm::block::Block;
use crate::mm::error::MemError;
use crate::mm::handle::Handle;
use crate::mm::heap::word;
use crate::mm::heap::word::State as BlockState;
use crate::mm::layout;
use crate::mm::layout::ObjectEntry;
use crate::mm::memory::Memory;
use crate::mm::pool;
use crate::prim::AtomicU64;
use crate::prim::Ordering;
use crate::time::Deadline;

/// What an object is to the floors above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A channel.
    Channel = 1,
    /// A pool of memory.
    MemoryPool = 2,
    /// The control block of a pool of processes.
    PoolBoard = 3,
    /// A lock.
    Lock = 4,
    /// A lock for one who writes or many who read.
    RwLock = 5,
    /// A number of permits.
    Semaphore = 6,
    /// A meeting of a fixed number of parties.
    Barrier = 7,
    /// A flag to wait for.
    Event = 8,
    /// A place to wait for a change of what a lock guards.
    Condvar = 9,
    /// A value of a plain type.
    Value = 10,
    /// A row of values of a plain type.
    Array = 11,
    /// What the processes of a node know of their job.
    Charter = 12,
    /// A node's part of a dictionary.
    Dict = 13,
    /// A chain of channels, which is one without a bound.
    Chain = 16,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::Channel,
        Kind::MemoryPool,
        Kind::PoolBoard,
        Kind::Lock,
        Kind::RwLock,
        Kind::Semaphore,
        Kind::Barrier,
        Kind::Event,
        Kind::Condvar,
        Kind::Value,
        Kind::Array,
        Kind::Chain,
        Kind::Dict,
    ];

    fn of(number: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// An object as somebody sees it who does not have it open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) id: ObjectId,
    pub(crate) kind: Kind,
    /// Its block, at that moment.
    pub(crate) handle: Handle,
    /// How many processes have it open.
    pub(crate) open_in: u32,
    /// How many died that had it open.
    pub(crate) deaths: u32,
}

/// What an entry of the table holds, if it is a live object.
pub(super) fn see(index: u32, entry: &ObjectEntry) -> Option<Sight> {
    let word = read(entry);
    let kind = Kind::of(entry.kind.load(Ordering::Relaxed))?;
    let handle = read_handle(entry);
    let open_in = entry.holders.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
    let deaths = entry.deaths.load(Ordering::Relaxed); // a figure, as the one above
    // The same word before and after: all that is that object's.
    let same = word.state() == State::Live && read(entry) == word;
    let id = ObjectId { index, generation: word.generation() };
    same.then_some(Sight { id, kind, handle, open_in, deaths })
}

/// A state: `generation:32 | by:16 | state:16`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum State {
    Free = 0,
    Building = 1,
    Live = 2,
    Dying = 3,
    Burying = 4,
}

impl Word {
    fn state(self) -> State {
        match self.0 & 0xFFFF {
            1 => State::Building,
            2 => State::Live,
            3 => State::Dying,
            4 => State::Burying,
            _ => State::Free,
        }
    }

    fn by(self) -> ProcId {
        ProcId((self.0 >> 16) as u16)
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn to(self, state: State, by: ProcId) -> Word {
        Word(u64::from(self.generation()) << 32 | u64::from(by.0) << 16 | state as u64)
    }

    fn ended(self) -> Word {
        Word(u64::from(self.generation().wrapping_add(1)) << 32)
    }
}

/// How long one who opens waits for one who is in two minds about ending it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Entries whose pages are committed at once.
const COMMIT_ENTRIES: u32 = 128;

/// The objects this process has open, and how often. The bit among the holders is set once.
#[derive(Default)]
pub(super) struct OpenObjects(HashMap<u32, Open>);

struct Open {
    generation: u32,
    times: usize,
}

/// A shared object that this process has open. The last clone anywhere to be dropped ends it.
#[derive(Clone)]
pub(crate) struct Object(Arc<Held>);

struct Held {
    memory: Arc<Memory>,
    id: ObjectId,
    at: NonNull<u8>,
    handle: Handle,
    let_go: bool,
}

// SAFETY: `at` is a shared block; what is in it is the business of the floors above, which use atomics.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

/// An object that nobody has open any more, in the hands of the one who ends it. Its block is still
/// there, for the floor that knows what is in it to clear up. Dropping this frees the block.
pub(crate) struct Remains {
    memory: Arc<Memory>,
    id: ObjectId,
    kind: u32,
    handle: Handle,
}

impl Object {
    /// Its name on this node.
    pub(crate) fn id(&self) -> ObjectId {
        self.0.id
    }

    /// Where its block is in this process.
    #[inline]
    pub(crate) fn ptr(&self) -> NonNull<u8> {
        self.0.at
    }

    /// Bytes of its block.
    pub(crate) fn len(&self) -> usize {
        self.0.handle.len as usize
    }

    /// Its block.
    #[cfg(test)]
    pub(crate) fn handle(&self) -> Handle {
        self.0.handle
    }

    /// Its block as words that any process may read and write at any time.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the block lives as long as the object is held, is aligned to a cache line and initialised,
        // and any bits are a valid word; nobody writes it in any other way once it is an object.
        unsafe { std::slice::from_raw_parts(self.ptr().as_ptr().cast(), self.len() / size_of::<AtomicU64>()) }
    }

    /// The memory it is in.
    #[inline]
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.0.memory
    }

    /// A guest of this process has it open too, as long as this process does.
    pub(crate) fn lend(&self, guest: ProcId) {
        self.memory().set_holder_of(self.memory().entry(self.id().index), guest);
    }

    /// The guest does not have it open any more.
    pub(crate) fn end_loan(&self, guest: ProcId) {
        clear_holder(self.memory().entry(self.id().index), guest);
    }

    /// Whether it shall live on when nobody has it open.
    pub(super) fn keep(&self, kept: bool) {
        let memory = self.memory();
        // SeqCst: as a holder's bit, with the same partner. This process has it open, so nobody ends it just now.
        memory.entry(self.id().index).kept.store(u32::from(kept), Ordering::SeqCst);
    }

    /// From now on whoever would end it looks at the table of holds first.
    pub(super) fn expect_holds(&self) {
        // SeqCst: as a holder's bit, with the same partner; before the hold is there.
        self.memory().entry(self.id().index).held.store(1, Ordering::SeqCst);
    }

    /// Drops this reference. If it was the last one anywhere, what remains of the object.
    pub(crate) fn release(self) -> Option<Remains> {
        let mut held = Arc::into_inner(self.0)?;
        held.let_go = true;
        held.memory.close_object(held.id)
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({}.{})", self.0.id.index, self.0.id.generation)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.let_go {
            drop(self.memory.close_object(self.id));
        }
    }
}

impl Remains {
    /// The name it had.
    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    /// Whether it was of this kind.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as u32
    }

    /// The block it had; `resolve` gives its address.
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// The memory it is in.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.memory.bury(self.id.index);
    }
}

impl Memory {
    fn entry(&self, index: u32) -> &ObjectEntry {
        debug_assert!(index < layout::OBJECTS);
        let at = layout::OBJECT_TABLE_AT as usize + index as usize * size_of::<ObjectEntry>();
        // SAFETY: the table is inside the head, callers look at committed entries only, and any bits are
        // valid for its atomics.
        unsafe { &*self.facts.head.as_ptr().add(at).cast() }
    }

    /// Entries that were ever used. Acquire: partner of the release in `free_entry`.
    fn entries(&self) -> impl Iterator<Item = (u32, &ObjectEntry)> {
        let used = self.facts.header().objects_used.load(Ordering::Acquire).min(layout::OBJECTS);
        (0..used).map(|index| (index, self.entry(index)))
    }

    fn open_objects(&self) -> MutexGuard<'_, OpenObjects> {
        self.open_objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a block into an object that this process has open.
    pub(crate) fn create_object(self: &Arc<Self>, kind: Kind, block: Block) -> Result<Object, MemError> {
        let mut open = self.open_objects();
        let (index, building) = self.free_entry()?;
        let entry = self.entry(index);
        mark!("object.building");
        entry.kind.store(kind as u32, Ordering::Relaxed);
        entry.kept.store(0, Ordering::Relaxed);
        entry.held.store(0, Ordering::Relaxed);
        entry.deaths.store(0, Ordering::Relaxed);
        let (_, at, handle) = block.into_parts();
        write_handle(entry, handle);
        mark!("object.named");
        self.set_holder(entry);
        if let Ok((heap, place, word)) = self.check(handle) {
            word::swap(heap.word_of(&place), word, word.to(BlockState::Object, ProcId::NONE));
        }
        mark!("object.block_given");
        // Release: partner of `read`; whoever sees it live sees its kind and handle.
        entry.word.store(building.to(State::Live, ProcId::NONE).0, Ordering::SeqCst);
        mark!("object.live");
        let id = ObjectId { index, generation: building.generation() };
        open.0.insert(index, Open { generation: id.generation, times: 1 });
        drop(open);
        Ok(self.held(id, at, handle))
    }

    /// Opens an object that somebody has open, or is about to hand to us.
    pub(crate) fn open_object(self: &Arc<Self>, id: ObjectId, kind: Kind) -> Result<Object, MemError> {
        let gone = MemError::ObjectGone { index: id.index, generation: id.generation };
        // Acquire: partner of the release in `free_entry`.
        if id.index >= self.facts.header().objects_used.load(Ordering::Acquire) {
            return Err(gone);
        }
        let entry = self.entry(id.index);
        let mut open = self.open_objects();
        match open.0.get_mut(&id.index) {
            Some(here) if here.generation != id.generation => return Err(gone),
            Some(here) => here.times += 1,
            None => {
                if !self.hold(entry, id.generation) {
                    drop(open);
                    drop(self.end_if_unheld(id.index));
                    return Err(gone);
                }
                open.0.insert(id.index, Open { generation: id.generation, times: 1 });
            }
        }
        drop(open);
        let handle = read_handle(entry);
        let found = entry.kind.load(Ordering::Relaxed) == kind as u32;
        let address = if found { self.resolve(handle) } else { Err(MemError::WrongKind { index: id.index }) };
        match address {
            Ok(at) => Ok(self.held(id, at, handle)),
            Err(error) => {
                drop(self.close_object(id));
                Err(error)
            }
        }
    }

    fn held(self: &Arc<Self>, id: ObjectId, at: NonNull<u8>, handle: Handle) -> Object {
        Object(Arc::new(Held { memory: self.clone(), id, at, handle, let_go: false }))
    }

    /// The live objects of a kind, with their blocks.
    pub(crate) fn objects(&self, kind: Kind) -> Vec<(ObjectId, Handle)> {
        let mut live = Vec::new();
        for (index, entry) in self.entries() {
            let word = read(entry);
            let (found, handle) = (entry.kind.load(Ordering::Relaxed), read_handle(entry));
            // The same word before and after: kind and handle are that object's.
            if word.state() == State::Live && found == kind as u32 && read(entry) == word {
                live.push((ObjectId { index, generation: word.generation() }, handle));
            }
        }
        live
    }

    /// The live objects of these kinds that a process has open.
    pub(crate) fn objects_held_by(&self, holder: ProcId, kinds: &[Kind]) -> Vec<(ObjectId, Kind)> {
        let held = |(index, entry): (u32, &ObjectEntry)| {
            let word = read(entry);
            let found = entry.kind.load(Ordering::Relaxed);
            let kind = kinds.iter().copied().find(|&kind| kind as u32 == found)?;
            let live = word.state() == State::Live && is_holder(entry, holder) && read(entry) == word;
            live.then(|| (ObjectId { index, generation: word.generation() }, kind))
        };
        self.entries().filter_map(held).collect()
    }

    /// Counts a death as closing everything that `dead` had open, and finishes what it began. What then
    /// nobody has open any more is returned, and freed when the caller drops it.
    pub(crate) fn release_objects_of(self: &Arc<Self>, dead: ProcId) -> Vec<Remains> {
        pool::end_local_to(self, dead);
        self.forget_claims_of(dead);
        let mut ended = Vec::new();
        let indices: Vec<u32> = self.entries().map(|(index, _)| index).collect();
        for index in indices {
            let entry = self.entry(index);
            if is_holder(entry, dead) {
                entry.deaths.fetch_add(1, Ordering::Relaxed); // a figure
                clear_holder(entry, dead);
            }
            let word = read(entry);
            if word.by() == dead {
                match word.state() {
                    // What it was building, nobody has seen; what it was burying stays buried.
                    State::Building | State::Burying => {
                        let mine = word.to(State::Burying, self.me());
                        if swap(entry, word, mine) {
                            ended.extend(self.remains(index, mine));
                        }
                        continue;
                    }
                    State::Dying => {
                        swap(entry, word, word.to(State::Live, ProcId::NONE));
                    }
                    State::Live | State::Free => {}
                }
            }
            ended.extend(self.end_if_unheld(index));
        }
        ended
    }

    fn free_entry(&self) -> Result<(u32, Word), MemError> {
        let header = self.facts.header();
        let hint = header.objects_hint.load(Ordering::Relaxed) % layout::OBJECTS;
        // Acquire: partner of the release below.
        let used = header.objects_used.load(Ordering::Acquire);
        for index in (hint..layout::OBJECTS).chain(0..hint.min(used)) {
            self.commit_entry(index)?;
            let entry = self.entry(index);
            let word = read(entry);
            let building = word.to(State::Building, self.me());
            if word.state() == State::Free && swap(entry, word, building) {
                mark!("object.claimed");
                // Release: partner of the acquire in `entries`.
                header.objects_used.fetch_max(index + 1, Ordering::AcqRel);
                header.objects_hint.store(index + 1, Ordering::Relaxed);
                return Ok((index, building));
            }
        }
        Err(MemError::TooManyObjects { most: layout::OBJECTS })
    }

    fn commit_entry(&self, index: u32) -> Result<(), MemError> {
        let committed = &self.facts.header().objects_committed;
        // Acquire and release: partners of each other; who sees the number may touch the pages.
        let have = committed.load(Ordering::Acquire);
        if index < have {
            return Ok(());
        }
        let want = (index + COMMIT_ENTRIES).min(layout::OBJECTS);
        let at = |index: u32| layout::OBJECT_TABLE_AT + u64::from(index) * size_of::<ObjectEntry>() as u64;
        self.facts.commit(at(have), at(want))?;
        committed.fetch_max(want, Ordering::AcqRel);
        Ok(())
    }

    fn set_holder(&self, entry: &ObjectEntry) {
        self.set_holder_of(entry, self.me());
    }

    fn set_holder_of(&self, entry: &ObjectEntry, of: ProcId) {
        let bit = of.index() - 1;
        // SeqCst: before the look at the state in `hold`; partner: Dying before the look at the holders.
        entry.holders[bit / 64].fetch_or(1 << (bit % 64), Ordering::SeqCst);
    }

    /// Sets this process's bit; false, and the bit is clear again, if the object is not there any more.
    fn hold(&self, entry: &ObjectEntry, generation: u32) -> bool {
        self.set_holder(entry);
        mark!("object.bit_set");
        let deadline = Deadline::after(PATIENCE);
        loop {
            let word = read(entry);
            match word.state() {
                State::Live if word.generation() == generation => return true,
                // In two minds: our bit decides it, unless the holders were looked at before.
                State::Dying if word.generation() == generation && !deadline.passed() => thread::yield_now(),
                _ => break,
            }
        }
        clear_holder(entry, self.me());
        false
    }

    /// Drops one of this process's references. If nobody has the object any more, what remains.
    fn close_object(self: &Arc<Self>, id: ObjectId) -> Option<Remains> {
        let mut open = self.open_objects();
        let here = open.0.get_mut(&id.index).filter(|here| here.generation == id.generation)?;
        here.times -= 1;
        if here.times > 0 {
            return None;
        }
        open.0.remove(&id.index);
        clear_holder(self.entry(id.index), self.me());
        mark!("object.bit_cleared");
        drop(open);
        self.end_if_unheld(id.index)
    }

    /// As [`Memory::end_if_unheld`], if it still is this object.
    pub(super) fn end_if_unheld_as(self: &Arc<Self>, id: ObjectId) -> Option<Remains> {
        let same = read(self.entry(id.index)).generation() == id.generation;
        same.then(|| self.end_if_unheld(id.index)).flatten()
    }

    /// Whether the object is there: built, and not ended.
    pub(crate) fn is_live(&self, id: ObjectId) -> bool {
        // Acquire: partner of the release in `free_entry`.
        let used = self.facts.header().objects_used.load(Ordering::Acquire).min(layout::OBJECTS);
        let word = (id.index < used).then(|| read(self.entry(id.index)));
        // One in two minds counts: it may well live on.
        word.is_some_and(|word| {
            word.generation() == id.generation && matches!(word.state(), State::Live | State::Dying)
        })
    }

    /// Ends an object that nobody has open. Several may try; one wins.
    fn end_if_unheld(self: &Arc<Self>, index: u32) -> Option<Remains> {
        let entry = self.entry(index);
        loop {
            let word = read(entry);
            let dying = word.to(State::Dying, self.me());
            if word.state() != State::Live || self.is_held(index, word) || !swap(entry, word, dying) {
                return None;
            }
            mark!("object.dying");
            if self.is_held(index, word) {
                // Somebody opened it in between. If that one saw Dying and gave up, we end it in the
                // next round, or it does.
                swap(entry, dying, word);
                continue;
            }
            let burying = word.to(State::Burying, self.me());
            swap(entry, dying, burying);
            mark!("object.burying");
            return self.remains(index, burying);
        }
    }

    /// Whether anything keeps the object alive. First its holders, then the holds: a process that had it open and
    /// closed it before its bit was looked at had bound its hold before that; and a hold that ends while the
    /// object is Dying ends without anybody having opened it, since nobody can.
    fn is_held(&self, index: u32, word: Word) -> bool {
        let entry = self.entry(index);
        // SeqCst: after Dying; partner: the bit set before the look at the state in `hold`.
        entry.kept.load(Ordering::SeqCst) != 0
            || entry.holders.iter().any(|word: &AtomicU64| word.load(Ordering::SeqCst) != 0)
            // SeqCst: partner of `expect_holds`.
            || (entry.held.load(Ordering::SeqCst) != 0
                && self.is_held_by_object(ObjectId { index, generation: word.generation() }))
    }

    fn remains(self: &Arc<Self>, index: u32, burying: Word) -> Option<Remains> {
        let entry = self.entry(index);
        let id = ObjectId { index, generation: burying.generation() };
        let kind = entry.kind.load(Ordering::Relaxed);
        Some(Remains { memory: self.clone(), id, kind, handle: read_handle(entry) })
    }

    /// Frees the block of an object that this process ends, then its entry.
    fn bury(&self, index: u32) {
        let entry = self.entry(index);
        let word = read(entry);
        if word.state() != State::Burying || word.by() != self.me() {
            return;
        }
        // A block that was not made the object's yet is still its builder's, and goes with that.
        if let Ok((heap, place, block)) = self.check(read_handle(entry))
            && block.state() == BlockState::Object
        {
            heap.end(&place, block, self.me());
        }
        mark!("object.block_freed");
        clear_handle(entry);
        swap(entry, word, word.ended());
        mark!("object.buried");
        let hint = &self.facts.header().objects_hint;
        hint.fetch_min(index, Ordering::Relaxed);
    }
}

pub(super) fn is_holder(entry: &ObjectEntry, process: ProcId) -> bool {
    let Some(bit) = process.index().checked_sub(1) else { return false };
    // SeqCst: pairs with `set_holder`.
    entry.holders.get(bit / 64).is_some_and(|word| word.load(Ordering::SeqCst) >> (bit % 64) & 1 == 1)
}

fn clear_holder(entry: &ObjectEntry, of: ProcId) {
    let Some(bit) = of.index().checked_sub(1) else { return };
    if let Some(word) = entry.holders.get(bit / 64) {
        // SeqCst: before the look at the state; partner: back to Live before the look at the holders.
        word.fetch_and(!(1 << (bit % 64)), Ordering::SeqCst);
    }
}

/// SeqCst: one total order with the holders' bits.
fn read(entry: &ObjectEntry) -> Word {
    Word(entry.word.load(Ordering::SeqCst))
}

/// SeqCst: as [`read`].
fn swap(entry: &ObjectEntry, from: Word, to: Word) -> bool {
    entry.word.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// The offset last: without it the other words mean nothing.
fn write_handle(entry: &ObjectEntry, handle: Handle) {
    let [place, offset, len] = handle.to_words();
    entry.handle[0].store(place, Ordering::Relaxed);
    entry.handle[2].store(len, Ordering::Relaxed);
    // Release: partner of the acquire in `read_handle`.
    entry.handle[1].store(offset, Ordering::Release);
}

fn clear_handle(entry: &ObjectEntry) {
    // Release: partner of the acquire in `read_handle`.
    entry.handle[1].store(0, Ordering::Release);
}

fn read_handle(entry: &ObjectEntry) -> Handle {
    // Acquire: partner of the release in `write_handle`.
    let offset = entry.handle[1].load(Ordering::Acquire);
    let [place, len] = [0, 2].map(|at: usize| entry.handle[at].load(Ordering::Relaxed));
    Handle::from_words([place, offset, len])
}
