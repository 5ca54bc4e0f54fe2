//! A flag to wait for.
//!
//! ```text
//! word 0  | how often it was set:63 | set:1 |
//! ```
//! The count lets one who waits notice a flag that was set and cleared while it slept.

use super::{LINE, Refusal, cell, line, wait, wake_all};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::WaitCell;

const SET: u64 = 1;

/// An event in two lines.
#[derive(Clone, Copy)]
pub(crate) struct Event<'a> {
    state: &'a AtomicU64,
    cell: &'a WaitCell,
}

impl<'a> Event<'a> {
    pub(crate) const WORDS: usize = 2 * LINE;

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> Event<'a> {
        Event::over(line(words, 0), cell(words, 1))
    }

    #[inline]
    pub(super) fn over(words: &'a [AtomicU64; LINE], cell: &'a WaitCell) -> Event<'a> {
        Event { state: &words[0], cell }
    }

    /// Sets the flag and wakes all who wait for it.
    pub(crate) fn set(&self) {
        let set = |state: u64| (state & SET == 0).then(|| state.wrapping_add(2) | SET);
        // SeqCst: pairs with `wait`, and before `wake_all` looks for sleepers.
        let _ = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, set);
        mark!("latch.event.set");
        // Also if it was set already: who set it may stand just here.
        wake_all(self.cell);
    }

    pub(crate) fn clear(&self) {
        self.state.fetch_and(!SET, Ordering::SeqCst); // SeqCst: pairs with `is_set`
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.state.load(Ordering::SeqCst) & SET != 0 // SeqCst: pairs with `set`
    }

    /// Where those sleep who wait for it.
    pub(crate) fn cell(&self) -> &'a WaitCell {
        self.cell
    }

    /// Waits until the flag is set, or was.
    #[inline]
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<(), Refusal> {
        let before = self.state.load(Ordering::SeqCst); // SeqCst: pairs with `set`
        if before & SET != 0 {
            return Ok(());
        }
        let since = |state: u64| state & SET != 0 || state & !SET != before & !SET;
        wait(self.cell, deadline, || since(self.state.load(Ordering::SeqCst)).then_some(()))
    }

    /// Wakes all who wait: the dead may have set the flag and not woken them.
    pub(super) fn repair(&self) {
        self.cell.heal();
    }
}
