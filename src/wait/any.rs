//! Sleeping at several cells at once: a registration at each, and one sleep on all their words.
//!
//! The protocol is that of `README.md` for every single cell, with one difference at the end. A sleeper at
//! several cells may have been called at each of them and takes what one has, so it has to pass the other calls
//! on: whoever calls [`wait_until_any`] then calls `notify_one_if` at every cell it did not take from.

use super::cell::{first_sleep, second_sleep};
use super::{Patience, TimedOut, WaitCell};
use crate::prim::Ordering;
use crate::sys::futex;
use crate::time::Deadline;

/// As [`super::wait_until`], at all of these cells. What `ready` is about is published as each cell demands it.
pub(crate) fn wait_until_any<T>(
    cells: &[&WaitCell],
    patience: &mut Patience,
    deadline: Deadline,
    ready: &mut dyn FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    if let Some(found) = ready() {
        return Ok(found);
    }
    if deadline == Deadline::Now {
        return Err(TimedOut);
    }
    if let Some(found) = patience.stay_awake(deadline, ready) {
        return Ok(found);
    }
    let slept = patience.begin_sleep();
    loop {
        if let Some(found) = sleep_unless(cells, deadline, ready) {
            patience.end_sleep(slept);
            return Ok(found);
        }
        if deadline.passed() {
            patience.end_sleep(slept);
            // `ready` was asked after the sleep, but perhaps before the deadline.
            return ready().ok_or(TimedOut);
        }
    }
}

fn sleep_unless<T>(cells: &[&WaitCell], deadline: Deadline, ready: &mut dyn FnMut() -> Option<T>) -> Option<T> {
    // First all epochs, then all registrations, as at a single cell.
    let words: Vec<_> = cells.iter().map(|cell| cell.word()).collect();
    let registrations: Vec<_> = cells.iter().map(|cell| cell.register()).collect();
    if let Some(found) = ready() {
        return Some(found);
    }
    if let Some(left) = first_sleep(deadline) {
        cells.iter().for_each(|cell| cell.count_sleep());
        futex::wait_any(&words, left);
        // SeqCst: as in `WaitCell::sleep_unless`.
        if words.iter().all(|(word, value)| word.load(Ordering::SeqCst) == *value)
            && let Some(left) = second_sleep(deadline)
        {
            if let Some(found) = ready() {
                return Some(found);
            }
            futex::wait_any(&words, left);
        }
    }
    drop(registrations);
    ready()
}
