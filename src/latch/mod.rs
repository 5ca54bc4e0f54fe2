//! The words of locks, barriers and their like in shared memory, and what a death does to them.
//!
//! Each type here is a view of a few words and wait cells: the protocol alone, without handles, errors or
//! texts, which are `sync`'s. Two rules make a death harmless. *One word decides*: every change of who
//! holds what is one compare-and-swap on a word that names the holder, so a process dies before or after
//! it and never within. *Who must be woken looks by itself*: [`repair`] settles what the dead held and then
//! wakes everybody, who look again.
//!
//! The words of an object's block, in lines of eight:
//!
//! ```text
//! Lock       0 state   1 cell
//! RwLock     0 state   1 writers   2 readers   3 drained   4.. readers of each process, 16 bits each
//! Semaphore  0 state   1 cell
//! Barrier    0 state   1 cell
//! Event      0 state   1 cell
//! Condvar    0 state   1 cell
//! Copies     0 state   1 cell      2.. the bytes, twice            (a Value)
//! Array      0 state   1 cell      2.. the elements                (state and cell are a Lock's)
//! ```

mod barrier;
pub(crate) mod bytes;
mod condvar;
mod copies;
mod end;
mod event;
mod figures;
mod lock;
#[cfg(all(test, feature = "shuttle"))]
mod model;
mod repair;
mod row;
mod rwlock;
mod semaphore;
mod stop;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;
mod who;

pub(crate) use barrier::{Arrival, Barrier, Generation};
pub(crate) use condvar::Condvar;
pub(crate) use copies::Copies;
pub(crate) use end::{cell_of_ends, tell_of_end};
pub(crate) use event::Event;
pub(crate) use figures::figures;
pub(crate) use lock::Lock;
pub(crate) use repair::{KINDS, repair, rouse};
pub(crate) use row::Row;
pub(crate) use rwlock::RwLock;
pub(crate) use semaphore::Semaphore;
pub(crate) use stop::{Gone, unless_gone};
pub(crate) use who::Who;

use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{CELL_WORDS, Patience, WaitCell, wait_until};

/// Words of a line.
pub(crate) const LINE: usize = CELL_WORDS;

/// Why a call did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The deadline passed.
    TimedOut,
    /// The calling thread holds it and would wait for itself.
    Mine,
    /// The barrier is broken.
    Broken,
    /// More than can be counted, or than was agreed.
    TooMany,
}

/// A line of an object's words.
#[inline]
fn line(words: &[AtomicU64], at: usize) -> &[AtomicU64; LINE] {
    words[at * LINE..].first_chunk().expect("an object is made with all the lines of its kind")
}

/// A line that is a wait cell.
#[inline]
fn cell(words: &[AtomicU64], at: usize) -> &WaitCell {
    WaitCell::in_words(line(words, at))
}

/// Waits with what this thread has learnt in earlier waits.
fn wait<T>(cell: &WaitCell, deadline: Deadline, ready: impl FnMut() -> Option<T>) -> Result<T, Refusal> {
    let mut patience = who::take_patience();
    let waited = match stop::here() {
        None => wait_until(cell, &mut patience, deadline, ready).map_err(|_| Refusal::TimedOut),
        Some(gone) => wait_in_the_name_of(&gone, cell, &mut patience, deadline, ready),
    };
    who::put_patience(patience);
    waited
}

#[cold]
fn wait_in_the_name_of<T>(
    gone: &Gone,
    cell: &WaitCell,
    patience: &mut Patience,
    deadline: Deadline,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, Refusal> {
    let either = || ready().map(Ok).or_else(|| stop::is_set(gone).then_some(Err(Refusal::TimedOut)));
    wait_until(cell, patience, deadline, either).unwrap_or(Err(Refusal::TimedOut))
}

/// Adds to a figure. The model checker has nothing to learn from one.
#[inline]
fn count(figure: &AtomicU64, more: u64) {
    if !cfg!(feature = "shuttle") {
        figure.fetch_add(more, Ordering::Relaxed);
    }
}

/// Wakes everybody, without a step into shared memory if nobody sleeps. What they shall find was published
/// by a SeqCst operation.
#[inline]
fn wake_all(cell: &WaitCell) {
    // SeqCst in `sleepers`, pairs with a sleeper's registration: either I see it, or it sees what I published.
    if cell.sleepers() > 0 {
        cell.notify_all();
    }
}
