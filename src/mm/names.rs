//! The place for names: entries of words that the floor above fills and reads, and the words of its lock.

use crate::mm::error::MemError;
use crate::mm::layout;
use crate::mm::memory::Memory;
use crate::prim::AtomicU64;
use crate::prim::Ordering;

/// Entries whose pages are committed at once.
const COMMIT_ENTRIES: u32 = 32;

/// The entries of names that are there, as words; and the lock's, two cache lines of them.
pub(crate) struct NameEntries<'m> {
    pub(crate) entries: &'m [[AtomicU64; layout::NAME_WORDS]],
    pub(crate) lock: &'m [AtomicU64; 16],
}

impl Memory {
    /// The entries of names whose pages are there.
    pub(crate) fn name_entries(&self) -> NameEntries<'_> {
        let header = self.facts.header();
        // Acquire: partner of the release in `more_names`.
        let count = header.names_committed.load(Ordering::Acquire).min(layout::NAMES) as usize;
        // SAFETY: the entries are inside the head, these are committed, and any bits are valid words.
        let entries = unsafe {
            let at = self.facts.head.as_ptr().add(layout::NAMES_AT as usize);
            std::slice::from_raw_parts(at.cast(), count)
        };
        NameEntries { entries, lock: &header.names_lock.0 }
    }

    /// Makes room for more names. False if there can be no more.
    pub(crate) fn more_names(&self) -> Result<bool, MemError> {
        let committed = &self.facts.header().names_committed;
        // Acquire and release: partners of each other; who sees the number may touch the pages.
        let have = committed.load(Ordering::Acquire);
        if have >= layout::NAMES {
            return Ok(false);
        }
        let at = |index: u32| layout::NAMES_AT + u64::from(index) * (layout::NAME_WORDS * 8) as u64;
        self.facts.commit(at(have), at(have + COMMIT_ENTRIES))?;
        committed.fetch_max(have + COMMIT_ENTRIES, Ordering::AcqRel);
        Ok(true)
    }
}
