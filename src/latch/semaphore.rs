//! A number of permits that anybody may take and anybody may give.
//!
//! ```text
//! word 0  permits
//! word 1  the most there may be
//! word 2  how many were ever given, and
//! word 3  taken: figures
//! ```

use super::{LINE, Refusal, cell, count, line, wait};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::WaitCell;

/// A semaphore in two lines.
#[derive(Clone, Copy)]
pub(crate) struct Semaphore<'a> {
    permits: &'a AtomicU64,
    most: &'a AtomicU64,
    given: &'a AtomicU64,
    taken: &'a AtomicU64,
    cell: &'a WaitCell,
}

impl<'a> Semaphore<'a> {
    pub(crate) const WORDS: usize = 2 * LINE;

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> Semaphore<'a> {
        Semaphore::over(line(words, 0), cell(words, 1))
    }

    #[inline]
    pub(super) fn over(words: &'a [AtomicU64; LINE], cell: &'a WaitCell) -> Semaphore<'a> {
        Semaphore { permits: &words[0], most: &words[1], given: &words[2], taken: &words[3], cell }
    }

    /// Sets it up. To be said before anybody else has it.
    pub(crate) fn begin(&self, permits: u64, most: u64) {
        self.permits.store(permits, Ordering::Relaxed); // the handle that others get comes after it
        self.most.store(most, Ordering::Relaxed);
    }

    /// Takes a permit.
    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline) -> Result<(), Refusal> {
        match self.take() {
            Some(()) => Ok(()),
            None => wait(self.cell, deadline, || self.take()),
        }
    }

    #[inline]
    fn take(&self) -> Option<()> {
        // SeqCst: pairs with `release`, and for `wait_until` with the sleepers' roll.
        let taken = self.permits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |permits| permits.checked_sub(1));
        mark!("latch.semaphore.taken");
        taken.ok().map(|_| count(self.taken, 1))
    }

    /// Gives `n` permits, all or none.
    pub(crate) fn release(&self, n: u64) -> Result<(), Refusal> {
        let most = self.most();
        let more = |permits: u64| permits.checked_add(n).filter(|&permits| permits <= most);
        // SeqCst: pairs with `take`, and before `notify_one` looks for sleepers.
        self.permits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).map_err(|_| Refusal::TooMany)?;
        mark!("latch.semaphore.given");
        count(self.given, n);
        for _ in 0..n.min(u64::from(self.cell.sleepers())) {
            self.cell.notify_one();
        }
        Ok(())
    }

    pub(crate) fn permits(&self) -> u64 {
        self.permits.load(Ordering::SeqCst) // SeqCst: pairs with `take` and `release`
    }

    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed) // never changes once it is shared
    }

    /// Wakes all who wait: the dead may have been called in their place, or have died before calling them.
    pub(super) fn repair(&self) {
        self.cell.heal();
    }
}
