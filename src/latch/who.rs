//! Who holds something: a process, and which of its threads.

use std::cell::Cell;

use crate::id::ProcId;
use crate::prim::{AtomicU32, Ordering};
use crate::wait::Patience;

/// A thread of the job. Threads are numbered within their process, from 1 and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) process: ProcId,
    pub(crate) thread: u32,
}

const OWNER: u64 = 0xFFFF;
const THREAD_AT: u32 = 16;

/// The bits of a word that say who: `thread:32 | process:16` at the bottom.
pub(super) const WHO: u64 = (u32::MAX as u64) << THREAD_AT | OWNER;

impl Who {
    /// The calling thread, as one of this process.
    #[inline]
    pub(crate) fn here(process: ProcId) -> Who {
        Who { process, thread: thread() }
    }

    #[inline]
    pub(super) fn bits(self) -> u64 {
        u64::from(self.thread) << THREAD_AT | u64::from(self.process.0)
    }

    /// Who is named in a word, if anybody.
    #[inline]
    pub(super) fn named(word: u64) -> Option<Who> {
        (word & OWNER != 0).then(|| Who { process: process(word), thread: (word >> THREAD_AT) as u32 })
    }
}

/// The process named in a word; nobody if it names none.
#[inline]
pub(super) fn process(word: u64) -> ProcId {
    ProcId((word & OWNER) as u16)
}

#[cfg(not(feature = "shuttle"))]
static THREADS: AtomicU32 = AtomicU32::new(0);

#[cfg(feature = "shuttle")]
shuttle::lazy_static! {
    static ref THREADS: AtomicU32 = AtomicU32::new(0);
}

thread_local! {
    static THREAD: Cell<u32> = const { Cell::new(0) };
    /// What this thread has learnt about waiting. Taken out while it waits.
    static PATIENCE: Cell<Option<Patience>> = const { Cell::new(None) };
}

#[inline]
fn thread() -> u32 {
    let known = THREAD.get();
    if known != 0 { known } else { number() }
}

#[cold]
fn number() -> u32 {
    // Relaxed: only that no number is given twice matters.
    let number = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
    THREAD.set(number);
    number
}

/// A thread that ends may take locks in its last destructors, when this is gone; it begins anew each time.
pub(super) fn take_patience() -> Patience {
    PATIENCE.try_with(Cell::take).ok().flatten().unwrap_or_else(Patience::new)
}

pub(super) fn put_patience(patience: Patience) {
    let _ = PATIENCE.try_with(|place| place.set(Some(patience)));
}
