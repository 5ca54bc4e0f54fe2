//! A lock whose word names its holder.
//!
//! ```text
//! word 0  state   | poisoned:1 | unused:15 | thread:32 | process:16 |      no process: free
//! word 1  mode    1 if its holder may take it again
//! word 2  depth   how often beyond the first; written by the holder alone
//! word 5  taken   how often it was taken, a figure; likewise
//! ```

use super::who::{WHO, named, process};
use super::{LINE, Refusal, Who, cell, line, stop, wait};
use crate::id::ProcId;
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::WaitCell;

const POISONED: u64 = 1 << 63;

/// A lock in two lines.
#[derive(Clone, Copy)]
pub(crate) struct Lock<'a> {
    state: &'a AtomicU64,
    mode: &'a AtomicU64,
    depth: &'a AtomicU64,
    taken: &'a AtomicU64,
    cell: &'a WaitCell,
}

impl<'a> Lock<'a> {
    pub(crate) const WORDS: usize = 2 * LINE;

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> Lock<'a> {
        Lock::over(line(words, 0), cell(words, 1))
    }

    #[inline]
    pub(super) fn over(words: &'a [AtomicU64; LINE], cell: &'a WaitCell) -> Lock<'a> {
        Lock { state: &words[0], mode: &words[1], depth: &words[2], taken: &words[5], cell }
    }

    /// Lets the holder take it again and again. To be said before anybody else has the lock.
    pub(crate) fn make_recursive(&self) {
        self.mode.store(1, Ordering::Relaxed); // the handle that others get comes after it
    }

    pub(crate) fn is_recursive(&self) -> bool {
        self.mode.load(Ordering::Relaxed) != 0 // never changes once the lock is shared
    }

    /// Takes the lock.
    #[inline]
    pub(crate) fn acquire(&self, who: Who, deadline: Deadline) -> Result<(), Refusal> {
        // SeqCst: pairs with `release`, and for `wait_until` with the sleepers' roll.
        match self.state.compare_exchange(0, who.to_word(), Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {
                mark!("latch.lock.taken");
                self.count();
                Ok(())
            }
            Err(held) => self.acquire_slowly(held, who, deadline),
        }
    }

    #[cold]
    fn acquire_slowly(&self, held: u64, who: Who, deadline: Deadline) -> Result<(), Refusal> {
        if named(held) == Some(who) {
            return self.take_again();
        }
        wait(self.cell, deadline, || self.take(who))
    }

    fn take(&self, who: Who) -> Option<()> {
        // SeqCst: as in `acquire`. A look first: a failed swap would take the line from its holder.
        let state = self.state.load(Ordering::SeqCst);
        let mine = state & POISONED | who.to_word();
        let swap = || self.state.compare_exchange(state, mine, Ordering::SeqCst, Ordering::SeqCst);
        (named(state).is_none() && swap().is_ok()).then(|| self.count())
    }

    /// Counts that this thread has taken it.
    #[inline]
    fn count(&self) {
        if !cfg!(feature = "shuttle") {
            // Relaxed: a figure, which only the holder changes.
            self.taken.store(self.taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Where those sleep who wait for it.
    pub(super) fn cell(&self) -> &'a WaitCell {
        self.cell
    }

    /// How often it was taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed) // a figure
    }

    fn take_again(&self) -> Result<(), Refusal> {
        if !self.is_recursive() {
            return Err(Refusal::Mine);
        }
        // Relaxed: only this thread and, when it is dead, `repair` write it.
        self.depth.store(self.depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the lock back, once. Only its holder may call this.
    #[inline]
    pub(crate) fn release(&self) {
        let depth = self.depth.load(Ordering::Relaxed); // Relaxed: see `take_again`
        if depth > 0 {
            return self.depth.store(depth - 1, Ordering::Relaxed);
        }
        self.free();
    }

    #[inline]
    fn free(&self) {
        // SeqCst: pairs with `acquire`, and before `notify_one` looks for sleepers.
        self.state.fetch_and(POISONED, Ordering::SeqCst);
        mark!("latch.lock.freed");
        self.cell.notify_one();
    }

    /// Gives the lock back however often it was taken; [`Lock::take_back`] undoes it.
    pub(super) fn release_wholly(&self) -> u64 {
        let depth = self.depth.swap(0, Ordering::Relaxed); // Relaxed: see `take_again`
        self.free();
        depth
    }

    /// Takes the lock again as it was.
    pub(super) fn take_back(&self, who: Who, depth: u64) {
        // Refused only if this thread waits for another who is gone, and must not take anything for it: it does not hold the
        // lock and waits as long as it takes.
        if !stop::is_gone() && self.acquire(who, Deadline::Never).is_ok() {
            self.depth.store(depth, Ordering::Relaxed); // Relaxed: see `take_again`
        }
    }

    /// Says that what the lock guards may be half changed.
    pub(crate) fn poison(&self) {
        self.state.fetch_or(POISONED, Ordering::SeqCst); // SeqCst: pairs with `is_poisoned`
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.state.load(Ordering::SeqCst) & POISONED != 0 // SeqCst: pairs with `poison` and `repair`
    }

    pub(crate) fn clear_poison(&self) {
        self.state.fetch_and(!POISONED, Ordering::SeqCst); // SeqCst: pairs with `is_poisoned`
    }

    /// Who holds it just now.
    pub(crate) fn holder(&self) -> Option<Who> {
        named(self.state.load(Ordering::SeqCst)) // SeqCst: pairs with `acquire`
    }

    /// How often its holder has taken it; 0 if it is free. Exact for the holder.
    pub(crate) fn times(&self) -> u64 {
        let depth = self.depth.load(Ordering::Relaxed); // a figure for people
        self.holder().map_or(0, |_| depth + 1)
    }

    /// Takes it from the dead, poisoned if `poison`, and wakes all who wait.
    pub(super) fn repair(&self, dead: ProcId, poison: bool) {
        let state = self.state.load(Ordering::SeqCst); // SeqCst: pairs with the dead one's `acquire`
        if process(state) == dead {
            // Before the lock is free: its next holder finds its own depth.
            self.depth.store(0, Ordering::Relaxed);
            if poison {
                self.poison();
            }
            mark!("latch.repair.poisoned");
            // SeqCst: as in `free`. Nobody but us changes who holds it: the holder is dead.
            self.state.fetch_and(!WHO, Ordering::SeqCst);
        }
        mark!("latch.repair.freed");
        self.cell.heal();
    }
}
