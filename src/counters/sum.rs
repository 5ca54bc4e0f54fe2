//! A sum that one thread adds to for the price of a plain store.
//!
//! ```text
//! word 0   the thread that owns the sum, or 0
//! word 1   what that thread has added: only it writes this word
//! word 2   what all others have added, each by one atomic step
//! ```
//!
//! The first thread that adds becomes the owner. It stays that until its process is dead, so there is never a
//! second one that writes word 1; a thread that has merely ended leaves the others the third word.

use crate::id::ProcId;
use crate::id::ThreadId;
use crate::prim::{AtomicU64, Ordering};

const OWNER: usize = 0;
const OWN: usize = 1;
const OTHERS: usize = 2;

/// A sum in three words, best in a line that whoever adds writes anyway.
#[derive(Clone, Copy)]
pub(crate) struct Sum<'a>(&'a [AtomicU64; Sum::WORDS]);

impl<'a> Sum<'a> {
    pub(crate) const WORDS: usize = 3;

    /// The sum in these words. Zeros are a fresh one.
    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> Sum<'a> {
        Sum(words.first_chunk().expect("whoever lays out an object leaves room for its sums"))
    }

    /// Adds for the calling thread, which is one of `process`.
    #[inline]
    pub(crate) fn add(self, process: ProcId, more: u64) {
        let me = ThreadId::here(process).to_word();
        // Relaxed, all: figures. Only its owner writes its word.
        if self.0[OWNER].load(Ordering::Relaxed) == me {
            let own = &self.0[OWN];
            own.store(own.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        } else {
            self.add_beside(me, more);
        }
    }

    #[inline(never)]
    fn add_beside(self, me: u64, more: u64) {
        // Relaxed: looked at first, since most often there is an owner, and a swap that fails costs as much as one that does not.
        if self.0[OWNER].load(Ordering::Relaxed) == 0 {
            // AcqRel: pairs with `disown`, so that a new owner goes on from what the dead one has added.
            let _ = self.0[OWNER].compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed);
        }
        self.0[OTHERS].fetch_add(more, Ordering::Relaxed);
    }

    /// What was added.
    pub(crate) fn total(self) -> u64 {
        // Relaxed, both: figures.
        self.0[OWN].load(Ordering::Relaxed).wrapping_add(self.0[OTHERS].load(Ordering::Relaxed))
    }

    /// After the death of a process: another may own the sum, if it was the owner.
    pub(crate) fn disown(self, dead: ProcId) {
        let owner = self.0[OWNER].load(Ordering::Relaxed);
        if ThreadId::from_word(owner).process == dead {
            // AcqRel: pairs with `add_beside`. Failing means that somebody else has done it.
            let _ = self.0[OWNER].compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}
