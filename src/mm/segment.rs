//! A segment as this process has it: a window of the memory file, mapped, with its heap.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    ptr::NonNull,
    sync::Arc,
};

use memmap2::{MmapOptions, MmapRaw};

use crate::mm::error::MemError;
use crate::mm::heap::Ground;
use crate::mm::heap::Heap;
use crate::mm::layout;
use crate::mm::layout::Header;
use crate::prim::AtomicU64;
use crate::prim::Ordering;
use crate::sys::shm;

/// What all segments of a memory have in common.
pub(super) struct Facts {
    pub(super) file: File,
    pub(super) segment_size: u64,
    pub(super) limit: u64,
    pub(super) granule: u64,
    pub(super) ask_huge: bool,
    /// Segment 0 up to its heap, mapped by itself so that it outlives every segment's heap.
    pub(super) head: MmapRaw,
}

/// Committing more than this at once asks first what the machine has left, since the kernel would
/// rather kill somebody than refuse.
const ASK_FIRST: u64 = 64 << 20;

impl Facts {
    pub(super) fn header(&self) -> &Header {
        // SAFETY: `head` maps the committed first page; what is not atomic there is written before it is shared.
        unsafe { &*self.head.as_ptr().cast() }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn somebody_scans(&self) -> bool {
        // SeqCst: after a slab was retired; partner: the flag in `Memory::while_scanning`.
        self.header().scanners.iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// Sets pages of the file aside, with figures when there are none left.
    pub(super) fn commit(&self, from: u64, to: u64) -> Result<(), MemError> {
        let (low, high) = (from / self.granule * self.granule, to.next_multiple_of(self.granule));
        let asked = high - low;
        if asked >= ASK_FIRST && shm::memory_available().is_some_and(|free| asked > free) {
            return Err(MemError::Full { asked, free: shm::memory_available().unwrap_or(0) });
        }
        shm::commit(&self.file, low, asked).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded => {
                MemError::Full { asked, free: self.free() }
            }
            _ => MemError::Io { what: "commit shared memory", source },
        })
    }

    /// Bytes that are left where the file lives.
    fn free(&self) -> u64 {
        shm::free_space(&self.file).or_else(shm::memory_available).unwrap_or(0)
    }
}

/// Maps a window of the memory file.
pub(super) fn map(file: &File, offset: u64, len: u64) -> Result<MmapRaw, MemError> {
    let mut options = MmapOptions::new();
    options.offset(offset).len(len as usize).no_reserve_swap();
    options.map_raw(file).map_err(MemError::io("map a segment (DRAGON_DEFAULT_SEG_SZ sets its size)"))
}

/// A mapped segment.
pub(super) struct Segment {
    pub(super) heap: Heap,
    /// Where the heap starts in the segment.
    pub(super) heap_at: u64,
    /// The whole of it, as words.
    pub(super) start: NonNull<AtomicU64>,
    /// Holds the mapping that the heap points into.
    _map: MmapRaw,
}

// SAFETY: the bytes are shared between processes and only touched through atomics, or by the owner of a block;
// threads are no worse than processes.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Maps segment `index`, whose heap's first pages are committed.
    pub(super) fn map(facts: &Arc<Facts>, index: usize) -> Result<Segment, MemError> {
        let (at, len) = (index as u64 * facts.segment_size, facts.segment_size);
        let map = map(&facts.file, at, len)?;
        let start = NonNull::new(map.as_mut_ptr()).ok_or(MemError::WrongLayout { why: "mapped at zero" })?;
        if facts.ask_huge && len > 2 * shm::HUGE_PAGE {
            // The head stays on small pages: a process that only starts shall not pay for a huge one.
            // SAFETY: the range is the end of the mapping above, which is not empty.
            unsafe { shm::ask_for_huge_pages(start.add(shm::HUGE_PAGE as usize), (len - shm::HUGE_PAGE) as usize) };
        }
        let heap_at = heap_at(index);
        let ground = Box::new(Window { facts: facts.clone(), at: at + heap_at });
        // SAFETY: `_map` keeps the bytes mapped as long as the heap; `heap_at` is a page inside it; only
        // heaps touch what is behind it; `open` and `Facts::create` commit the first page.
        let heap = unsafe { Heap::new(start.add(heap_at as usize), len - heap_at, ground) };
        Ok(Segment { heap, heap_at, start: start.cast(), _map: map })
    }

    /// Commits what segment `index` needs before anybody maps it.
    pub(super) fn prepare(facts: &Facts, index: usize) -> Result<(), MemError> {
        let at = index as u64 * facts.segment_size + heap_at(index);
        facts.commit(at, at + layout::PAGE)
    }
}

/// Where the heap of a segment starts.
pub(super) fn heap_at(index: usize) -> u64 {
    if index == 0 { layout::HEAP_AT } else { 0 }
}

/// What the heap of a segment stands on.
struct Window {
    facts: Arc<Facts>,
    /// Where the heap starts in the file.
    at: u64,
}

impl Ground for Window {
    fn commit(&self, from: u64, to: u64) -> Result<(), MemError> {
        let committed = self.facts.header().committed.load(Ordering::Relaxed);
        let asked = to.saturating_sub(from);
        // Two processes at once may go beyond by what each asks for; the limit is a budget, not a wall.
        if committed.saturating_add(asked) > self.facts.limit {
            return Err(MemError::OutOfMemory { asked, in_use: committed, limit: self.facts.limit });
        }
        self.facts.commit(self.at + from, self.at + to)
    }

    fn somebody_scans(&self) -> bool {
        self.facts.somebody_scans()
    }

    fn account(&self, bytes: u64) {
        self.facts.header().committed.fetch_add(bytes, Ordering::Relaxed);
    }
}
