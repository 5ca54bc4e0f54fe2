//! Who holds something, as a word names it; and what a thread has learnt about waiting.

use std::cell::Cell;

use crate::id::{ProcId, ThreadId};
use crate::wait::Patience;

/// A thread of the job.
pub(crate) type Who = ThreadId;

/// The bits of a word that say who.
pub(super) const WHO: u64 = ThreadId::BITS;

/// Who is named in a word, if anybody.
#[inline]
pub(super) fn named(word: u64) -> Option<Who> {
    Some(ThreadId::from_word(word)).filter(|who| who.process != ProcId::NONE)
}

/// The process named in a word; nobody if it names none.
#[inline]
pub(super) fn process(word: u64) -> ProcId {
    ThreadId::from_word(word).process
}

thread_local! {
    /// What this thread has learnt about waiting. Taken out while it waits.
    static PATIENCE: Cell<Option<Patience>> = const { Cell::new(None) };
}

/// A thread that ends may take locks in its last destructors, when this is gone; it begins anew each time.
pub(super) fn take_patience() -> Patience {
    PATIENCE.try_with(Cell::take).ok().flatten().unwrap_or_else(Patience::new)
}

pub(super) fn put_patience(patience: Patience) {
    let _ = PATIENCE.try_with(|place| place.set(Some(patience)));
}
