//! A look at a node's memory that changes nothing: mapped for reading only, by a process that need not be of the job.
//!
//! What it sees may change under its eyes, and a block that was an object's may be something else by the time it
//! is read. So everything is read as atomic words, is checked before it is followed, and is a figure for people.

use std::{fs::File, os::fd::OwnedFd, ptr::NonNull};

use memmap2::{MmapOptions, MmapRaw};
use once_cell::sync::OnceCell;

use crate::id::JobId;
use crate::id::ObjectId;
use crate::id::ProcId;
use crate::mm::backing;
use crate::mm::error::MemError;
use crate::mm::handle::Handle;
use crate::mm::heap::Ground;
use crate::mm::heap::Heap;
use crate::mm::heap::scan::Tally;
use crate::mm::heap::word;
use crate::mm::layout;
use crate::mm::layout::Header;
use crate::mm::layout::ObjectEntry;
use crate::mm::memory;
use crate::mm::memory::Memory;
use crate::mm::objects;
use crate::mm::objects::Kind;
use crate::mm::objects::Sight;
use crate::mm::pool;
use crate::mm::process_table::ProcessEntry;
use crate::mm::process_table::ProcessTable;
use crate::mm::segment;
use crate::mm::stats::HeapStats;
use crate::prim::AtomicU64;
use crate::prim::Ordering;
use crate::sys::shm;

/// A node's memory, to be read.
pub(crate) struct View {
    file: File,
    head: MmapRaw,
    segment_size: u64,
    segments: Box<[OnceCell<Pane>]>,
}

/// What is seen of a pool of memory.
pub(crate) struct PoolSight {
    pub(crate) name: String,
    /// About how many blocks somebody holds.
    pub(crate) blocks: u64,
}

/// A segment, to be read.
struct Pane {
    heap: Heap,
    heap_at: u64,
    /// Holds the mapping that the heap points into.
    _map: MmapRaw,
}

/// Nobody commits pages by looking.
struct Glass;

impl Ground for Glass {
    fn commit(&self, _from: u64, _to: u64) -> Result<(), MemError> {
        Err(MemError::WrongLayout { why: "it is only looked at" })
    }

    fn somebody_scans(&self) -> bool {
        true
    }

    fn account(&self, _bytes: u64) {}
}

impl View {
    /// The memory that this process has.
    pub(crate) fn of(memory: &Memory) -> Result<View, MemError> {
        let own = memory.descriptor().try_clone_to_owned();
        View::open(own.map_err(MemError::io("open the memory file once more"))?)
    }

    /// The memory of a job that this process need not belong to. It must be this user's, and laid out as this build
    /// expects.
    pub(crate) fn open(file: OwnedFd) -> Result<View, MemError> {
        let seen = shm::facts(&file).map_err(MemError::io("look at the memory file"))?;
        if seen.uid != shm::user() {
            return Err(MemError::NotOurs { owner: seen.uid });
        }
        if seen.len < layout::SEGMENT_SIZE_MIN {
            return Err(MemError::WrongLayout { why: "it is too short" });
        }
        let file = file.into();
        let head = map(&file, 0, layout::HEAP_AT)?;
        // SAFETY: the file has at least this length, and its creator committed the first page.
        let header: &Header = unsafe { &*head.as_ptr().cast() };
        memory::check(header, seen.len)?;
        let segment_size = header.segment_size;
        let segments = (0..seen.len / segment_size).map(|_| OnceCell::new()).collect();
        Ok(View { file, head, segment_size, segments })
    }

    /// What may be memories among the files of a process; none if it is gone, or another user's.
    pub(crate) fn of_process(pid: u32) -> Vec<Result<View, MemError>> {
        backing::of_process(pid).into_iter().map(View::open).collect()
    }

    fn header(&self) -> &Header {
        // SAFETY: `head` maps the committed first page; what is not atomic there was written before it was shared.
        unsafe { &*self.head.as_ptr().cast() }
    }

    /// The job it belongs to.
    pub(crate) fn job(&self) -> JobId {
        JobId(self.header().job)
    }

    /// All processes there are, were, or will be shortly.
    pub(crate) fn processes(&self) -> Vec<ProcessEntry> {
        let (at, count) = (layout::PROCESS_TABLE_AT as usize, layout::PROCESSES as usize);
        // SAFETY: the table is inside the head, committed by the creator; all its fields are atomics, or
        // never written, and any bits are valid.
        let slots = unsafe { std::slice::from_raw_parts(self.head.as_ptr().add(at).cast(), count) };
        ProcessTable::new(slots).entries()
    }

    fn entry(&self, index: u32) -> Option<&ObjectEntry> {
        // Acquire: partner of the release in `free_entry`; the pages of a used entry are there.
        let used = self.header().objects_used.load(Ordering::Acquire).min(layout::OBJECTS);
        let at = layout::OBJECT_TABLE_AT as usize + index as usize * size_of::<ObjectEntry>();
        // SAFETY: the entry is inside the head and committed, and any bits are valid for its atomics.
        (index < used).then(|| unsafe { &*self.head.as_ptr().add(at).cast() })
    }

    /// All live objects.
    pub(crate) fn objects(&self) -> Vec<Sight> {
        let entries = (0..).map_while(|index| Some((index, self.entry(index)?)));
        entries.filter_map(|(index, entry)| objects::see(index, entry)).collect()
    }

    /// An object that is live.
    pub(crate) fn object(&self, id: ObjectId) -> Option<Sight> {
        objects::see(id.index, self.entry(id.index)?).filter(|sight| sight.id == id)
    }

    /// Whether a process has an object open.
    pub(crate) fn has_open(&self, process: ProcId, id: ObjectId) -> bool {
        self.entry(id.index).is_some_and(|entry| objects::is_holder(entry, process))
    }

    /// A pool of memory, if the object is one.
    pub(crate) fn memory_pool(&self, sight: &Sight) -> Option<PoolSight> {
        let words = self.words(sight.handle).filter(|_| sight.kind == Kind::MemoryPool)?;
        let base = NonNull::from_ref(words).cast::<u8>();
        // SAFETY: the words are an object's whole block, mapped as long as `self`, and its kind says what it is.
        let (name, heap) = unsafe { pool::look(base, sight.handle.len, Box::new(Glass)) }?;
        Some(PoolSight { name, blocks: heap.tally().blocks })
    }

    /// The words of an object's block, as far as the block was the object's when it was looked at.
    pub(crate) fn words(&self, handle: Handle) -> Option<&[AtomicU64]> {
        let pane = self.pane(usize::from(handle.segment))?;
        let place = pane.heap.locate(handle.offset.checked_sub(pane.heap_at)?)?;
        let word = word::read(pane.heap.word_of(&place));
        if word.generation() != handle.generation || handle.len > pane.heap.capacity(&place, word) {
            return None;
        }
        let at = pane.heap.address(handle.offset - pane.heap_at);
        // SAFETY: a block of at least `len` bytes, committed, aligned to a cache line, mapped as long as `self`;
        // any bits are valid words, and they are read as atomics.
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr().cast(), handle.len as usize / size_of::<AtomicU64>()) })
    }

    /// The entries of names that are there, as words.
    pub(crate) fn name_entries(&self) -> &[[AtomicU64; layout::NAME_WORDS]] {
        // Acquire: partner of the release in `more_names`.
        let count = self.header().names_committed.load(Ordering::Acquire).min(layout::NAMES) as usize;
        // SAFETY: the entries are inside the head, these are committed, and any bits are valid words.
        unsafe { std::slice::from_raw_parts(self.head.as_ptr().add(layout::NAMES_AT as usize).cast(), count) }
    }

    /// About what is in use: whoever only looks cannot keep others from changing what a unit is meanwhile.
    pub(crate) fn heap_stats(&self) -> HeapStats {
        let mut tally = Tally::default();
        let opened = self.opened();
        (0..opened).filter_map(|index| self.pane(index)).for_each(|pane| tally.add(pane.heap.tally()));
        HeapStats {
            in_use_bytes: tally.bytes,
            in_use_blocks: tally.blocks,
            slabs: tally.slabs,
            committed: self.header().committed.load(Ordering::Relaxed),
            limit: self.header().limit,
            segments: opened,
        }
    }

    fn opened(&self) -> usize {
        // Acquire: partner of the release in `open_another`; the segment's first page is committed.
        let more = self.header().more_segments.load(Ordering::Acquire) as usize;
        (1 + more).min(self.segments.len())
    }

    fn pane(&self, index: usize) -> Option<&Pane> {
        let slot = self.segments.get(index).filter(|_| index < self.opened())?;
        slot.get_or_try_init(|| self.map_pane(index)).ok()
    }

    fn map_pane(&self, index: usize) -> Result<Pane, MemError> {
        let map = map(&self.file, index as u64 * self.segment_size, self.segment_size)?;
        let start = NonNull::new(map.as_mut_ptr()).ok_or(MemError::WrongLayout { why: "mapped at zero" })?;
        let heap_at = segment::heap_at(index);
        // SAFETY: `_map` keeps the bytes mapped as long as the heap, of which only what reads is called; its first
        // page is committed, since the segment was opened.
        let heap = unsafe { Heap::new(start.add(heap_at as usize), self.segment_size - heap_at, Box::new(Glass)) };
        Ok(Pane { heap, heap_at, _map: map })
    }
}

/// Maps a window of the memory file for reading.
fn map(file: &File, offset: u64, len: u64) -> Result<MmapRaw, MemError> {
    let mut options = MmapOptions::new();
    options.offset(offset).len(len as usize).no_reserve_swap();
    options.map_raw_read_only(file).map_err(MemError::io("map a segment to read it"))
}
