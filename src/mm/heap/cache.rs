//! Which slabs this process is home of, and the way a request goes: own slab, homeless slab, new unit.
//!
//! All of this is local to the process. It dies with it, and nothing is lost: the slabs' unit words
//! name their home.

use std::cell::UnsafeCell;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::id::ProcId;
use crate::mm::error::MemError;
use crate::mm::heap::Found;
use crate::mm::heap::Heap;
use crate::mm::heap::classes;
use crate::mm::heap::classes::CLASSES;
use crate::mm::heap::slab::Slab;
use crate::mm::heap::slab::Stock;
use crate::mm::heap::units::Reach;
use crate::mm::heap::word::State;
use crate::mm::heap::word::Word;
use crate::mm::layout;
use crate::prim::AtomicU8;
use crate::prim::AtomicUsize;
use crate::prim::Ordering;

/// Other slabs of a class that are looked at before a new one is made.
const LOOKS: usize = 8;
/// Slabs that may be kept before unused ones are first looked for.
const TRIM_FROM: usize = 64;

/// The heaps that a request may be served from: the segments of a node's memory, or a pool's only one.
pub(in crate::mm) trait Heaps {
    /// On whose behalf.
    fn me(&self) -> ProcId;
    /// This process's slabs of these heaps.
    fn cache(&self) -> &Cache;
    /// How many heaps there are now.
    fn opened(&self) -> usize;
    /// One of them.
    fn heap(&self, index: usize) -> Result<&Heap, MemError>;
    /// Opens one more, if there may be more.
    fn open_another(&self) -> Result<bool, MemError>;
    /// The largest block that any of them, opened or not, could ever hold.
    fn largest(&self) -> u64;
    /// The error for a request that cannot be served.
    fn refusal(&self, asked: u64) -> MemError;
}

/// A slab, in which heap it is, and some of its bits.
#[derive(Clone, Copy)]
struct Owned {
    heap: usize,
    slab: Slab,
    stock: Stock,
}

/// The slabs of one class.
#[derive(Default)]
struct Shelf {
    slabs: Vec<Owned>,
    current: usize,
}

/// Where a class's blocks are had: a shelf for whoever comes first, and one for those who find that
/// one busy. Taking from the first costs one atomic exchange; nobody waits for it.
#[derive(Default)]
struct Counter {
    busy: AtomicU8,
    first: UnsafeCell<Shelf>,
    second: Mutex<Shelf>,
}

// SAFETY: `first` is only touched by the thread that set `busy`.
unsafe impl Sync for Counter {}

impl Counter {
    /// Uses one of the shelves.
    #[inline]
    fn with<R>(&self, mut work: impl FnMut(&mut Shelf) -> R) -> R {
        match self.try_first(&mut work) {
            Some(result) => result,
            None => work(&mut lock(&self.second)),
        }
    }

    /// Uses each of the shelves that is not in use.
    fn each_free(&self, mut work: impl FnMut(&mut Shelf)) {
        self.try_first(&mut work);
        if let Ok(mut shelf) = self.second.try_lock() {
            work(&mut shelf);
        }
    }

    #[inline]
    fn try_first<R>(&self, work: &mut impl FnMut(&mut Shelf) -> R) -> Option<R> {
        // Acquire: partner of the release below; what the last user did is seen.
        if self.busy.swap(1, Ordering::Acquire) != 0 {
            return None;
        }
        // SAFETY: `busy` was clear and is ours now. Should `work` panic it stays set, and the second is used.
        let result = work(unsafe { &mut *self.first.get() });
        self.busy.store(0, Ordering::Release);
        Some(result)
    }
}

/// A unit that was retired while somebody might still be reading it as a slab.
struct Limbo {
    heap: usize,
    unit: u32,
    word: Word,
}

/// The slabs this process allocates from.
pub(in crate::mm) struct Cache {
    counters: [Counter; CLASSES],
    limbo: Mutex<Vec<Limbo>>,
    count: AtomicUsize,
    trim_at: AtomicUsize,
}

impl Cache {
    pub(in crate::mm) fn new() -> Cache {
        Cache {
            counters: std::array::from_fn(|_| Counter::default()),
            limbo: Mutex::default(),
            count: AtomicUsize::new(0),
            trim_at: AtomicUsize::new(TRIM_FROM),
        }
    }

    /// Whether so many slabs were added since the last look that another is worth while.
    fn wants_trim(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.trim_at.load(Ordering::Relaxed)
    }
}

/// A small block from the slab in use: what nearly always succeeds, apart so that it stays short.
#[inline]
pub(in crate::mm) fn allocate_at_once<H: Heaps>(heaps: &H, len: u64) -> Option<(usize, Found)> {
    let counter = &heaps.cache().counters[classes::class_of(len)?];
    counter.try_first(&mut |shelf| shelf.take_current(heaps.me()))?
}

/// A block of at least `len` bytes, held by the heaps' process: in which heap, and where.
#[inline(never)]
pub(in crate::mm) fn allocate<H: Heaps>(heaps: &H, len: u64) -> Result<(usize, Found), MemError> {
    match classes::class_of(len) {
        Some(class) => heaps.cache().counters[class].with(|shelf| match shelf.take_current(heaps.me()) {
            Some(block) => Ok(block),
            None => shelf.take_elsewhere(heaps, class),
        }),
        None => {
            if len > heaps.largest() {
                return Err(heaps.refusal(len));
            }
            let units = len.div_ceil(layout::UNIT) as u32;
            claim(heaps, units, State::Held)?.ok_or_else(|| heaps.refusal(len))
        }
    }
}

/// A run of units: where memory is committed already, else where it can be, else in a further heap.
fn claim<H: Heaps>(heaps: &H, units: u32, last: State) -> Result<Option<(usize, Found)>, MemError> {
    let committed = |heaps: &H| claim_within(heaps, 0, units, last, Reach::Committed);
    if let Some(block) = committed(heaps)? {
        return Ok(Some(block));
    }
    if heaps.cache().wants_trim()
        && trim(heaps) > 0
        && let Some(block) = committed(heaps)?
    {
        return Ok(Some(block));
    }
    match claim_beyond(heaps, units, last) {
        Ok(Some(block)) => Ok(Some(block)),
        // Nothing more to be had: what unused slabs hold is the last reserve.
        _ if trim(heaps) > 0 => match committed(heaps)? {
            Some(block) => Ok(Some(block)),
            None => claim_beyond(heaps, units, last),
        },
        refused => refused,
    }
}

fn claim_beyond<H: Heaps>(heaps: &H, units: u32, last: State) -> Result<Option<(usize, Found)>, MemError> {
    let mut from = 0;
    loop {
        if let Some(block) = claim_within(heaps, from, units, last, Reach::All)? {
            return Ok(Some(block));
        }
        from = heaps.opened();
        if !heaps.open_another()? {
            return Ok(None);
        }
    }
}

fn claim_within<H: Heaps>(
    heaps: &H,
    from: usize,
    units: u32,
    last: State,
    reach: Reach,
) -> Result<Option<(usize, Found)>, MemError> {
    for index in from..heaps.opened() {
        let heap = heaps.heap(index)?;
        if let Some((unit, generation)) = heap.claim_as(heaps.me(), units, reach, last)? {
            return Ok(Some((index, heap.found_run(unit, units, generation))));
        }
    }
    Ok(None)
}

impl Shelf {
    #[inline]
    fn take_current(&mut self, me: ProcId) -> Option<(usize, Found)> {
        self.slabs.get_mut(self.current)?.take(me)
    }

    /// Looks at the next slabs in turn, so that in time all are looked at.
    fn take_next(&mut self, me: ProcId, looks: usize) -> Option<(usize, Found)> {
        for _ in 0..looks.min(self.slabs.len()) {
            self.current = (self.current + 1) % self.slabs.len();
            if let Some(block) = self.take_current(me) {
                return Some(block);
            }
        }
        None
    }

    #[cold]
    fn take_elsewhere<H: Heaps>(&mut self, heaps: &H, class: usize) -> Result<(usize, Found), MemError> {
        if let Some(block) = self.take_next(heaps.me(), LOOKS) {
            return Ok(block);
        }
        while let Some(adopted) = adopt(heaps, class)? {
            self.add(heaps.cache(), adopted);
            if let Some(block) = self.take_current(heaps.me()) {
                return Ok(block);
            }
        }
        match new_slab(heaps, class) {
            Ok(Some(slab)) => self.add(heaps.cache(), slab),
            refused => {
                let all = self.slabs.len();
                let found = self.take_next(heaps.me(), all);
                return found.map_or_else(|| Err(why(heaps, class, refused.err())), Ok);
            }
        }
        // A fresh slab has free blocks, and nobody else takes from it.
        self.take_current(heaps.me()).ok_or_else(|| heaps.refusal(u64::from(classes::TABLE[class].size)))
    }

    fn add(&mut self, cache: &Cache, slab: Owned) {
        self.slabs.push(slab);
        self.current = self.slabs.len() - 1;
        cache.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives unused slabs back, all but the one in use. How many.
    fn trim<H: Heaps>(&mut self, heaps: &H) -> usize {
        let before = self.slabs.len();
        self.slabs.retain(|owned| !owned.slab.is_unused() || !retire(heaps, owned));
        self.current = 0;
        before - self.slabs.len()
    }
}

impl Owned {
    fn new(heap: usize, slab: Slab) -> Owned {
        Owned { heap, slab, stock: Stock::default() }
    }

    #[inline]
    fn take(&mut self, me: ProcId) -> Option<(usize, Found)> {
        let (index, generation) = self.slab.take(me, &mut self.stock)?;
        let capacity = u64::from(self.slab.class().size);
        Some((self.heap, Found { offset: self.slab.payload(index), generation, capacity }))
    }
}

fn why<H: Heaps>(heaps: &H, class: usize, refused: Option<MemError>) -> MemError {
    refused.unwrap_or_else(|| heaps.refusal(u64::from(classes::TABLE[class].size)))
}

fn new_slab<H: Heaps>(heaps: &H, class: usize) -> Result<Option<Owned>, MemError> {
    let Some((index, found)) = claim(heaps, 1, State::Claiming)? else { return Ok(None) };
    let heap = heaps.heap(index)?;
    let unit = heap.unit_of(found.offset);
    let slab = heap.slab(unit, class);
    slab.prepare(found.generation);
    mark!("heap.slab.prepared");
    let claimed = Word::new(State::Claiming, heaps.me(), 1, found.generation);
    let home = Word::new(State::Slab, heaps.me(), class as u32, found.generation);
    // The claim is ours, so this succeeds; were it not, somebody else would have the unit.
    Ok(heap.unit_turns(unit, claimed, home).then_some(Owned::new(index, slab)))
}

/// Becomes home of a slab whose home died.
fn adopt<H: Heaps>(heaps: &H, class: usize) -> Result<Option<Owned>, MemError> {
    for index in 0..heaps.opened() {
        let heap = heaps.heap(index)?;
        if let Some(slab) = heap.adopt(heaps.me(), class) {
            return Ok(Some(Owned::new(index, slab)));
        }
    }
    Ok(None)
}

/// Gives all unused slabs back that can be: this process's, and those without a home. How many.
pub(in crate::mm) fn trim<H: Heaps>(heaps: &H) -> usize {
    let cache = heaps.cache();
    let mut given = leave_limbo(heaps);
    for counter in &cache.counters {
        // The caller may be using one of them.
        counter.each_free(|shelf| {
            let trimmed = shelf.trim(heaps);
            cache.count.fetch_sub(trimmed, Ordering::Relaxed);
            given += trimmed;
        });
    }
    cache.trim_at.store(2 * cache.count.load(Ordering::Relaxed) + TRIM_FROM, Ordering::Relaxed);
    given + sweep_homeless(heaps)
}

/// Gives unused slabs without a home back. How many.
pub(in crate::mm) fn sweep_homeless<H: Heaps>(heaps: &H) -> usize {
    let mut given = 0;
    for index in 0..heaps.opened() {
        let Ok(heap) = heaps.heap(index) else { continue };
        heap.each_homeless(heaps.me(), |slab| {
            let unused = slab.is_unused() && retire(heaps, &Owned::new(index, slab));
            given += usize::from(unused);
            unused
        });
    }
    given
}

/// The unit of an unused slab of this process becomes free, at once or when nobody reads it any more.
/// False if the slab is not ours.
fn retire<H: Heaps>(heaps: &H, owned: &Owned) -> bool {
    let Ok(heap) = heaps.heap(owned.heap) else { return false };
    let unit = owned.slab.unit();
    let Some(word) = heap.retire(heaps.me(), unit) else { return false };
    mark!("heap.slab.retired");
    if !heap.leave_retirement(unit, word) {
        lock(&heaps.cache().limbo).push(Limbo { heap: owned.heap, unit, word });
    }
    true
}

/// Leaves all slabs to whoever needs them: this process will not come back to these heaps.
pub(in crate::mm) fn abandon<H: Heaps>(heaps: &H) {
    trim(heaps);
    let cache = heaps.cache();
    let mut units = Vec::new();
    for counter in &cache.counters {
        counter.each_free(|shelf| units.extend(shelf.slabs.drain(..).map(|owned| (owned.heap, owned.slab.unit()))));
    }
    units.extend(lock(&cache.limbo).drain(..).map(|at| (at.heap, at.unit)));
    for (index, unit) in units {
        if let Ok(heap) = heaps.heap(index) {
            heap.leave_slab(heaps.me(), unit);
        }
    }
}

fn leave_limbo<H: Heaps>(heaps: &H) -> usize {
    let mut limbo = lock(&heaps.cache().limbo);
    let before = limbo.len();
    limbo.retain(|at| heaps.heap(at.heap).is_ok_and(|heap| !heap.leave_retirement(at.unit, at.word)));
    before - limbo.len()
}

/// What these locks guard is whole at any time, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
