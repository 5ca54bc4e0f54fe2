//! A place to wait for a change of what a lock guards.
//!
//! ```text
//! word 0  how often somebody was told of a change
//! ```
//! Who waits notes the count while it holds the lock, lets go, and sleeps until the count is another. A
//! change that is told of in between has changed it, so it is not slept through.

use super::{LINE, Lock, Refusal, Who, cell, line, wait, wake_all};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::WaitCell;

/// A condition variable in two lines.
#[derive(Clone, Copy)]
pub(crate) struct Condvar<'a> {
    told: &'a AtomicU64,
    cell: &'a WaitCell,
}

impl<'a> Condvar<'a> {
    pub(crate) const WORDS: usize = 2 * LINE;

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> Condvar<'a> {
        Condvar::over(line(words, 0), cell(words, 1))
    }

    #[inline]
    pub(super) fn over(words: &'a [AtomicU64; LINE], cell: &'a WaitCell) -> Condvar<'a> {
        Condvar { told: &words[0], cell }
    }

    /// Gives the lock back, waits to be told, and takes the lock again, also if the deadline has passed.
    pub(crate) fn wait(&self, lock: Lock<'_>, who: Who, deadline: Deadline) -> Result<(), Refusal> {
        // SeqCst: pairs with `notify_one`; before the lock is free, so no change can come before this.
        let before = self.told.load(Ordering::SeqCst);
        let depth = lock.release_wholly();
        mark!("latch.condvar.waiting");
        let told = || (self.told.load(Ordering::SeqCst) != before).then_some(()); // SeqCst: pairs with `notify_one`
        let waited = wait(self.cell, deadline, told);
        lock.take_back(who, depth);
        waited
    }

    /// Wakes one who waits, at least.
    pub(crate) fn notify_one(&self) {
        self.told.fetch_add(1, Ordering::SeqCst); // SeqCst: pairs with a sleeper's registration
        mark!("latch.condvar.told");
        self.cell.notify_one();
    }

    /// Wakes all who wait.
    pub(crate) fn notify_all(&self) {
        self.told.fetch_add(1, Ordering::SeqCst); // SeqCst: pairs with a sleeper's registration
        mark!("latch.condvar.all_told");
        wake_all(self.cell);
    }

    /// Tells all: the dead cannot do so any more, and may have left something to see.
    pub(super) fn repair(&self) {
        self.told.fetch_add(1, Ordering::SeqCst); // SeqCst: pairs with `wait`
        self.cell.heal();
    }
}
