//! The tally of a channel: how many messages each process has taken out, and how many of them it has declared done.
//!
//! ```text
//! word 0        WaitCell: who waits until everything is done
//! word 8 + 2p   messages that process p + 1 has taken; counted while the message is still in its slot
//! word 9 + 2p   messages that it has declared done
//! ```
//!
//! Everything is done when no slot holds a message and the two sums are equal. A message is counted as taken before
//! its slot is free, so there is no moment at which it is in neither. What a dead process had taken and not
//! declared done nobody will: it is declared done when the death is repaired.

use super::{ChannelError, patiently};
use crate::id::ProcId;
use crate::mm::MOST_PROCESSES;
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{CELL_WORDS, TimedOut, WaitCell, wait_until};

/// The words of one channel's tally.
#[derive(Clone, Copy)]
pub(crate) struct Tally<'a>(&'a [AtomicU64]);

/// Wakes who waits, if everything is done, when it is dropped. With a slot that is free the last message may have gone without
/// being declared done: it could not be read, whoever read it panicked, or it was declared before.
pub(super) struct Freeing<'a, F: Fn() -> bool> {
    tally: Tally<'a>,
    empty: F,
}

impl<F: Fn() -> bool> Drop for Freeing<'_, F> {
    fn drop(&mut self) {
        self.tally.tell(&self.empty);
    }
}

/// Sums of one look at all processes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sums {
    taken: u64,
    done: u64,
}

impl<'a> Tally<'a> {
    /// Words of a tally.
    pub(super) const WORDS: usize = CELL_WORDS + 2 * MOST_PROCESSES;

    /// The tally at the start of these words, which start a cache line. Zeros are a fresh one.
    pub(super) fn in_words(words: &'a [AtomicU64]) -> Tally<'a> {
        Tally(&words[..Self::WORDS])
    }

    /// Where to wait until everything is done.
    pub(super) fn cell(self) -> &'a WaitCell {
        WaitCell::in_words(self.0.first_chunk().expect("a tally begins with a cell"))
    }

    fn line(self, process: ProcId) -> &'a [AtomicU64] {
        let at = CELL_WORDS + 2 * (process.index() - 1);
        &self.0[at..at + 2]
    }

    /// `me` takes a message, whose slot is not free yet.
    #[inline]
    pub(super) fn take(self, me: ProcId) {
        // SeqCst: pairs with the sums; before the slot is free.
        self.line(me)[0].fetch_add(1, Ordering::SeqCst);
        mark!("channel.tally.taken");
    }

    /// `me` declares a message done. False if there is none that could be.
    pub(super) fn done(self, me: ProcId) -> bool {
        let line = self.line(me);
        // SeqCst: pairs with the sums.
        let mut done = line[1].load(Ordering::SeqCst);
        loop {
            // Its own first; otherwise one that another process took and left to this one to declare.
            let own = done < line[0].load(Ordering::SeqCst);
            if !own && self.open() == 0 {
                return false;
            }
            match line[1].compare_exchange(done, done + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => done = now,
            }
        }
    }

    /// Declares a message done for `me`, and wakes who waits if that was the last. `empty` says whether no slot
    /// holds a message. False if there is none that could be declared.
    pub(super) fn declare(self, me: ProcId, empty: impl Fn() -> bool) -> bool {
        let declared = self.done(me);
        mark!("channel.tally.declared");
        if declared {
            self.tell(&empty);
        }
        declared
    }

    /// Wakes who waits, if everything is done.
    fn tell(self, empty: &impl Fn() -> bool) {
        // SeqCst in `sleepers`: either I see the sleeper, or it sees what I declared; a slot that I freed, at the latest at its
        // second look (wait/README.md).
        if self.cell().sleepers() > 0 && self.is_over(empty) {
            self.cell().notify_all();
        }
    }

    /// To be dropped after a slot was freed.
    pub(super) fn freeing<F: Fn() -> bool>(self, empty: F) -> Freeing<'a, F> {
        Freeing { tally: self, empty }
    }

    /// Waits until no slot holds a message and every message that was taken is declared done.
    pub(super) fn wait(self, deadline: Deadline, empty: impl Fn() -> bool) -> Result<(), ChannelError> {
        let over = || self.is_over(&empty).then_some(());
        let waited = patiently(|patience| wait_until(self.cell(), patience, deadline, over));
        waited.map_err(|TimedOut| ChannelError::TimedOut)
    }

    /// First the slots, then the sums: what has left its slot has been counted.
    fn is_over(self, empty: &impl Fn() -> bool) -> bool {
        empty() && self.open() == 0
    }

    /// Messages that were taken and not declared done, at some moment during this call.
    pub(super) fn open(self) -> u64 {
        let mut before = self.sums();
        loop {
            let now = self.sums();
            if now == before {
                return now.taken.saturating_sub(now.done);
            }
            before = now;
        }
    }

    /// Both numbers of every process only grow, so two equal looks in a row were true together.
    fn sums(self) -> Sums {
        let sum = |which: usize| {
            let words = self.0[CELL_WORDS..].iter().skip(which).step_by(2);
            // SeqCst: pairs with `take` and `done`.
            words.fold(0_u64, |sum, word| sum.wrapping_add(word.load(Ordering::SeqCst)))
        };
        let done = sum(1);
        Sums { taken: sum(0), done }
    }

    /// Declares done what `dead` had taken and cannot any more. May be called again.
    pub(super) fn settle(self, dead: ProcId) {
        let line = self.line(dead);
        // SeqCst: pairs with the sums. Nobody else writes them now.
        let (taken, done) = (line[0].load(Ordering::SeqCst), line[1].load(Ordering::SeqCst));
        // Not more than is open in all: others may have declared them done.
        let lost = taken.saturating_sub(done).min(self.open());
        line[1].store(done + lost, Ordering::SeqCst);
    }
}
