//! The memory of a node as one process of the job has it.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::{Arc, Mutex, PoisonError},
};

use once_cell::sync::OnceCell;

use crate::id::JobId;
use crate::id::ProcId;
use crate::mm::backing;
use crate::mm::block::Block;
use crate::mm::config::HugePages;
use crate::mm::config::MemoryConfig;
use crate::mm::error::MemError;
use crate::mm::given;
use crate::mm::handle::Handle;
use crate::mm::heap::Heap;
use crate::mm::heap::Place;
use crate::mm::heap::cache;
use crate::mm::heap::cache::Cache;
use crate::mm::heap::cache::Heaps;
use crate::mm::heap::word;
use crate::mm::heap::word::State;
use crate::mm::heap::word::Word;
use crate::mm::layout;
use crate::mm::layout::Header;
use crate::mm::objects::OpenObjects;
use crate::mm::process_table::Life;
use crate::mm::process_table::ProcessEntry;
use crate::mm::process_table::ProcessTable;
use crate::mm::segment;
use crate::mm::segment::Facts;
use crate::mm::segment::Segment;
use crate::prim::AtomicPtr;
use crate::prim::AtomicU64;
use crate::prim::Ordering;
use crate::sys::process;
use crate::sys::shm;

/// The memory of a job on this node, mapped by this process under one place of the process table.
pub(crate) struct Memory {
    pub(super) facts: Arc<Facts>,
    me: ProcId,
    segments: Box<[OnceCell<Segment>]>,
    /// Where those that are mapped start; null for the others. See `given.rs` for these three.
    pub(super) starts: Box<[AtomicPtr<AtomicU64>]>,
    pub(super) spot_bits: u32,
    pub(super) segment_words: usize,
    cache: Cache,
    pub(super) open_objects: Mutex<OpenObjects>,
    /// Looks at all words that threads of this process take just now.
    scans: Mutex<usize>,
}

impl Memory {
    /// A new memory, of which this process is [`ProcId::ROOT`].
    pub(crate) fn create(config: &MemoryConfig) -> Result<Arc<Memory>, MemError> {
        config.validate()?;
        let (segment_size, size) = sizes(config)?;
        let no_huge = |why| match config.huge_pages {
            HugePages::Always => MemError::NoHugePages,
            _ => why,
        };
        let file = backing::create(config, size).map_err(no_huge)?.into();
        let granule = config.granule();
        let head = segment::map(&file, 0, layout::HEAP_AT.next_multiple_of(granule)).map_err(no_huge)?;
        let ask_huge = config.huge_pages == HugePages::Auto;
        let facts = Facts { file, segment_size, limit: config.limit, granule, ask_huge, head };
        // All but the objects' pages, which come with the objects.
        facts.commit(0, layout::OBJECT_TABLE_AT).map_err(no_huge)?;
        let job = getrandom::u64().map_err(|error| MemError::io("make up a name")(error.into()))?;
        // SAFETY: the first page is committed and mapped, and nobody else has the file yet.
        unsafe { facts.head.as_mut_ptr().cast::<Header>().write(first_header(&facts, job)) };
        Segment::prepare(&facts, 0)?;
        let memory = Memory::over(facts, ProcId::ROOT, size);
        let root = memory.process_table().reserve(ProcId::NONE)?;
        debug_assert_eq!(root, ProcId::ROOT);
        memory.join()
    }

    /// Takes the place `me`, kept by [`Memory::reserve_process`], in a memory that somebody else created.
    pub(crate) fn attach(file: OwnedFd, me: ProcId) -> Result<Arc<Memory>, MemError> {
        let seen = shm::facts(&file).map_err(MemError::io("look at the memory file"))?;
        if seen.uid != shm::user() {
            return Err(MemError::NotOurs { owner: seen.uid });
        }
        if seen.len < layout::SEGMENT_SIZE_MIN {
            return Err(MemError::WrongLayout { why: "it is too short" });
        }
        let file = file.into();
        let head = segment::map(&file, 0, layout::HEAP_AT.next_multiple_of(shm::HUGE_PAGE))?;
        // SAFETY: the file has at least this length, and its creator committed the first page.
        let header: &Header = unsafe { &*head.as_ptr().cast() };
        check(header, seen.len)?;
        let (segment_size, limit, granule, ask_huge) =
            (header.segment_size, header.limit, header.granule, header.ask_huge != 0);
        let facts = Facts { file, segment_size, limit, granule, ask_huge, head };
        Memory::over(facts, me, seen.len).join()
    }

    fn over(facts: Facts, me: ProcId, size: u64) -> Memory {
        let count = size / facts.segment_size;
        Memory {
            starts: (0..count).map(|_| AtomicPtr::default()).collect(),
            spot_bits: given::spot_bits(facts.segment_size),
            segment_words: (facts.segment_size / 8) as usize,
            facts: Arc::new(facts),
            me,
            segments: (0..count).map(|_| OnceCell::new()).collect(),
            cache: Cache::new(),
            open_objects: Mutex::default(),
            scans: Mutex::new(0),
        }
    }

    fn join(self) -> Result<Arc<Memory>, MemError> {
        let pid = process::id();
        self.process_table().join(self.me, pid, process::start_time(pid).unwrap_or(0))?;
        Ok(Arc::new(self))
    }

    /// The memory file, to be handed to a child.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.facts.descriptor()
    }

    /// The job this memory belongs to.
    pub(crate) fn job(&self) -> JobId {
        JobId(self.facts.header().job)
    }

    /// This process's place.
    pub(crate) fn me(&self) -> ProcId {
        self.me
    }

    pub(super) fn process_table(&self) -> ProcessTable<'_> {
        let (at, count) = (layout::PROCESS_TABLE_AT as usize, layout::PROCESSES as usize);
        // SAFETY: the table is inside the head, committed by the creator; all its fields are atomics, or
        // never written, and any bits are valid.
        ProcessTable::new(unsafe { std::slice::from_raw_parts(self.facts.head.as_ptr().add(at).cast(), count) })
    }

    /// Keeps a place for a child of this process.
    pub(crate) fn reserve_process(&self) -> Result<ProcId, MemError> {
        self.process_table().reserve(self.me)
    }

    /// Says which process a place is kept for. To be called before that process can attach.
    pub(crate) fn process_started(&self, id: ProcId, pid: u32) {
        self.process_table().started(id, pid);
    }

    /// Gives up a place that no process has taken or will take.
    pub(crate) fn abandon_process(&self, id: ProcId) {
        self.process_table().abandon(id);
    }

    /// Becomes the one that looks after a process whose parent is gone.
    pub(crate) fn adopt_process(&self, id: ProcId) {
        self.process_table().adopt(id, self.me);
    }

    /// All processes there are, were, or will be shortly.
    pub(crate) fn processes(&self) -> Vec<ProcessEntry> {
        self.process_table().entries()
    }

    /// Which life of a place in the table a process is, by its id; none if it is not there, or ends just now.
    pub(crate) fn life_of(&self, pid: u32) -> Option<Life> {
        self.process_table().life_of(pid)
    }

    /// Whether that process has ended, and all that it held has been given back.
    pub(crate) fn is_past(&self, life: Life) -> bool {
        self.process_table().is_past(life)
    }

    /// Words for those who wait for the end of a process: two lines.
    pub(crate) fn words_of_ends(&self) -> &[AtomicU64; 16] {
        &self.facts.header().ends.0
    }

    /// Becomes the one who gives back what `dead` held. False if somebody else does, or it is done.
    pub(crate) fn begin_recovery(&self, dead: ProcId) -> bool {
        self.process_table().begin_recovery(dead, self.me)
    }

    /// Frees the place of `dead`, whose recovery this process began. Whatever `dead` was recovering is
    /// then in state Dead, to be recovered by anybody.
    pub(crate) fn end_recovery(&self, dead: ProcId) {
        self.lower_flag_of(dead);
        self.process_table().end_recovery(dead, self.me);
    }

    /// A block of `len` bytes with arbitrary contents, aligned to a cache line; its pages are there.
    #[inline]
    pub(crate) fn alloc(self: &Arc<Self>, len: usize) -> Result<Block, MemError> {
        let (index, found) = match cache::allocate_at_once(&**self, len as u64) {
            Some(block) => block,
            None => cache::allocate(&**self, len as u64).map_err(|error| self.with_figures(error, len as u64))?,
        };
        let segment = self.segment(index)?;
        let handle = Handle {
            segment: index as u16,
            heap: 0,
            generation: found.generation,
            offset: segment.heap_at + found.offset,
            len: len as u64,
        };
        Ok(Block::new(self.clone(), segment.heap.address(found.offset), handle))
    }

    /// A block with these bytes in it.
    pub(crate) fn store(self: &Arc<Self>, bytes: &[u8]) -> Result<Block, MemError> {
        let mut block = self.alloc(bytes.len())?;
        block.as_mut_slice().copy_from_slice(bytes);
        Ok(block)
    }

    /// The bytes of a block that somebody else holds, who has promised not to write or free it meanwhile.
    pub(crate) fn bytes(&self, claim: Handle) -> Result<&[u8], MemError> {
        let at = self.resolve(claim)?;
        // SAFETY: the claim was checked, so this is a live block of at least `len` bytes; that its holder
        // leaves it alone is the promise above.
        Ok(unsafe { std::slice::from_raw_parts(at.as_ptr(), claim.len as usize) })
    }

    /// Makes the block behind a claim this process's own.
    pub(crate) fn take_over(self: &Arc<Self>, claim: Handle) -> Result<Block, MemError> {
        self.take_over_if(claim, |_| true)
    }

    /// As [`Memory::take_over`], from the process that sent it; or from nobody if that has died; or from a receiver that
    /// had taken it over and died before it was done, while its repair is on the way. A block that belongs to
    /// somebody who lives was received already.
    pub(crate) fn take_over_from(self: &Arc<Self>, claim: Handle, sender: ProcId) -> Result<Block, MemError> {
        let table = self.process_table();
        self.take_over_if(claim, |owner| owner == sender || owner == ProcId::NONE || table.is_dead(owner))
    }

    fn take_over_if(self: &Arc<Self>, claim: Handle, from: impl Fn(ProcId) -> bool) -> Result<Block, MemError> {
        loop {
            let (heap, place, word) = self.check(claim)?;
            if word.state() != State::Held {
                return Err(MemError::BadHandle { why: "the block belongs to an object" });
            }
            if !from(word.owner()) {
                return Err(MemError::BadHandle { why: "somebody else has that block by now" });
            }
            if word::swap(heap.word_of(&place), word, word.to(State::Held, self.me)) {
                mark!("heap.taken_over");
                return Ok(Block::new(self.clone(), self.address(claim)?, claim));
            }
        }
    }

    /// The address of a block in this process, if the claim names a block that somebody holds.
    pub(crate) fn resolve(&self, claim: Handle) -> Result<NonNull<u8>, MemError> {
        self.check(claim)?;
        self.address(claim)
    }

    fn address(&self, checked: Handle) -> Result<NonNull<u8>, MemError> {
        let segment = self.segment(usize::from(checked.segment))?;
        Ok(segment.heap.address(checked.offset - segment.heap_at))
    }

    /// Finds the block that a claim names, or says why there is none.
    #[inline]
    pub(super) fn check(&self, claim: Handle) -> Result<(&Heap, Place, Word), MemError> {
        let bad = |why| MemError::BadHandle { why };
        let index = usize::from(claim.segment);
        if claim.heap != 0 || index >= self.opened() {
            return Err(bad("it names no segment of this memory"));
        }
        let segment = self.segment(index)?;
        let heap = &segment.heap;
        let offset = claim.offset.checked_sub(segment.heap_at);
        let place = offset.and_then(|offset| heap.locate(offset)).ok_or(bad("no block starts there"))?;
        let word = word::read(heap.word_of(&place));
        if !word.is_block() {
            return Err(bad("nobody holds that block"));
        }
        if word.generation() != claim.generation {
            return Err(bad("that block is gone, another is in its place"));
        }
        if claim.len > heap.capacity(&place, word) {
            return Err(bad("it is longer than the block"));
        }
        Ok((heap, place, word))
    }

    /// Frees a block that this process made or took over. Nothing happens if it is not this process's any more.
    #[inline]
    pub(super) fn free(&self, handle: Handle) {
        // Without the words of `check`, which nobody would read; this is the hot path.
        let segment = self.segments.get(usize::from(handle.segment)).and_then(OnceCell::get);
        let Some(segment) = segment else { return };
        let heap = &segment.heap;
        let Some(place) = heap.locate(handle.offset - segment.heap_at) else { return };
        let word = word::read(heap.word_of(&place));
        if word.state() == State::Held && word.owner() == self.me && word.generation() == handle.generation {
            heap.end(&place, word, self.me);
        }
    }

    /// A segment, mapped by this call if it was not yet.
    #[inline]
    pub(super) fn segment(&self, index: usize) -> Result<&Segment, MemError> {
        match self.segments.get(index).and_then(OnceCell::get) {
            Some(segment) => Ok(segment),
            None => self.map_segment(index),
        }
    }

    #[cold]
    fn map_segment(&self, index: usize) -> Result<&Segment, MemError> {
        let slot = self.segments.get(index).ok_or(MemError::BadHandle { why: "there is no such segment" })?;
        let segment = slot.get_or_try_init(|| Segment::map(&self.facts, index))?;
        self.starts[index].store(segment.start.as_ptr(), Ordering::Release); // pairs with `place_of`
        Ok(segment)
    }

    /// Raises this process's flag while `scan` looks at words of slabs that need not be its own.
    pub(super) fn while_scanning<R>(&self, scan: impl FnOnce() -> R) -> R {
        let bit = usize::from(self.me.0 - 1);
        let flag = &self.facts.header().scanners[bit / 64];
        let count = || self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut count = count();
            *count += 1;
            // SeqCst: before the look at unit words; partner: `Heap::retire` and the look at this flag.
            flag.fetch_or(1 << (bit % 64), Ordering::SeqCst);
        }
        let result = scan();
        let mut count = count();
        *count -= 1;
        if *count == 0 {
            // SeqCst: after the scan; partner: the look at this flag, as above.
            flag.fetch_and(!(1 << (bit % 64)), Ordering::SeqCst);
        }
        result
    }

    fn lower_flag_of(&self, dead: ProcId) {
        let Some(bit) = dead.index().checked_sub(1) else { return };
        if let Some(word) = self.facts.header().scanners.get(bit / 64) {
            // SeqCst: as in `while_scanning`.
            word.fetch_and(!(1 << (bit % 64)), Ordering::SeqCst);
        }
    }

    /// An error from below with what the caller asked for, and what is in use.
    #[cold]
    fn with_figures(&self, error: MemError, asked: u64) -> MemError {
        match error {
            MemError::OutOfMemory { limit, .. } => {
                MemError::OutOfMemory { asked, in_use: self.heap_stats().in_use_bytes, limit }
            }
            MemError::Full { free, .. } => MemError::Full { asked, free },
            other => other,
        }
    }
}

impl Heaps for Memory {
    #[inline]
    fn me(&self) -> ProcId {
        self.me
    }

    #[inline]
    fn cache(&self) -> &Cache {
        &self.cache
    }

    #[inline]
    fn opened(&self) -> usize {
        // Acquire: partner of the release in `open_another`; the segment's first page is committed.
        let more = self.facts.header().more_segments.load(Ordering::Acquire) as usize;
        (1 + more).min(self.segments.len())
    }

    fn heap(&self, index: usize) -> Result<&Heap, MemError> {
        Ok(&self.segment(index)?.heap)
    }

    fn open_another(&self) -> Result<bool, MemError> {
        let opened = self.opened();
        if opened >= self.segments.len() {
            return Ok(false);
        }
        Segment::prepare(&self.facts, opened)?;
        mark!("heap.segment.prepared");
        let (now, next) = (opened as u32 - 1, opened as u32);
        // Release: partner of the acquire in `opened`. Failing means that somebody else opened it.
        let more = &self.facts.header().more_segments;
        let _ = more.compare_exchange(now, next, Ordering::AcqRel, Ordering::Acquire);
        Ok(true)
    }

    fn largest(&self) -> u64 {
        let first = self.segment(0).map_or(0, |segment| segment.heap.largest());
        if self.segments.len() > 1 { crate::mm::heap::largest_in(self.facts.segment_size) } else { first }
    }

    fn refusal(&self, asked: u64) -> MemError {
        let most = self.largest();
        if asked > most && asked <= self.facts.limit {
            return MemError::LargerThanSegment { asked, most };
        }
        MemError::OutOfMemory { asked, in_use: self.heap_stats().in_use_bytes, limit: self.facts.limit }
    }
}

fn first_header(facts: &Facts, job: u64) -> Header {
    Header {
        magic: layout::MAGIC,
        version: layout::VERSION,
        uid: shm::user(),
        segment_size: facts.segment_size,
        limit: facts.limit,
        granule: facts.granule,
        job,
        ask_huge: u64::from(facts.ask_huge),
        committed: layout::OBJECT_TABLE_AT.into(),
        more_segments: 0.into(),
        objects_used: 0.into(),
        objects_committed: 0.into(),
        objects_hint: 0.into(),
        holds_used: 0.into(),
        holds_committed: 0.into(),
        holds_hint: 0.into(),
        names_committed: 0.into(),
        names_lock: Default::default(),
        ends: Default::default(),
        scanners: Default::default(),
    }
}

/// The size of a segment, and of the whole file.
fn sizes(config: &MemoryConfig) -> Result<(u64, u64), MemError> {
    let align = |size: u64| size / shm::HUGE_PAGE * shm::HUGE_PAGE;
    // A file beyond the limit on files would be the end of the process, not an error.
    let most = shm::file_size_limit().unwrap_or(u64::MAX);
    let segment = align(config.segment_size.min(most));
    if segment < layout::SEGMENT_SIZE_MIN {
        let why = "the limit on file sizes (ulimit -f) is below the smallest segment";
        return Err(MemError::BadConfig { knob: "DRAGON_DEFAULT_SEG_SZ", value: config.segment_size, why });
    }
    let count = config.limit.div_ceil(segment).min(most / segment).min(u64::from(u16::MAX));
    Ok((segment, count * segment))
}

/// Whether this build can work with what is in the file.
pub(super) fn check(header: &Header, len: u64) -> Result<(), MemError> {
    let wrong = |why| Err(MemError::WrongLayout { why });
    if header.magic != layout::MAGIC {
        return wrong("it is no memory of ours");
    }
    if header.version != layout::VERSION {
        return wrong("it has another layout version");
    }
    if header.uid != shm::user() {
        return Err(MemError::NotOurs { owner: header.uid });
    }
    let size = header.segment_size;
    let sound = (layout::SEGMENT_SIZE_MIN..=layout::SEGMENT_SIZE_MAX).contains(&size)
        && size.is_multiple_of(shm::HUGE_PAGE)
        && len.is_multiple_of(size)
        && (header.granule == shm::page_size() || header.granule == shm::HUGE_PAGE);
    if sound { Ok(()) } else { wrong("its sizes contradict each other") }
}
