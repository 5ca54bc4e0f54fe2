//! Sleeping until another process has done something, and not a moment longer than needed.
//!
//! The protocol, and the proof that no wake-up is lost, stand in `README.md` beside this file.

mod any;
mod cell;
mod door;
mod idle;
#[cfg(all(test, feature = "shuttle"))]
mod model;
mod patience;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;

pub(crate) use any::wait_until_any;
pub(crate) use cell::WaitCell;
pub(crate) use door::CELL_WORDS;
pub(crate) use idle::{Meanwhile, meanwhile};
pub(crate) use patience::Patience;

use crate::time::Deadline;

/// The deadline passed and what was waited for had not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// Calls `ready` until it gives something, sleeping on `cell` in between: at least once, at every wake-up,
/// and once more after the deadline.
///
/// Whoever makes `ready` true must do so by an operation that releases and then call one of the cell's `notify_*`;
/// what `ready` loads for its decision it must load SeqCst.
#[inline(always)]
pub(crate) fn wait_until<T>(
    cell: &WaitCell,
    patience: &mut Patience,
    deadline: Deadline,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    // The first looks in line with the caller: the answer of an awake peer comes within these, and each call
    // between the look that sees it and the caller would be one more branch that nothing had predicted.
    let looks = if deadline == Deadline::Now { 1 } else { patience.looks() };
    for _ in 0..looks {
        if let Some(found) = ready() {
            return Ok(found);
        }
    }
    if deadline == Deadline::Now {
        return Err(TimedOut);
    }
    wait_longer(cell, patience, deadline, &mut ready)
}

/// As [`wait_until`], where every look of `ready` takes its time, and one that comes soon is not worth more than a few.
pub(crate) fn wait_without_haste<T>(
    cell: &WaitCell,
    patience: &mut Patience,
    deadline: Deadline,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    for _ in 0..if deadline == Deadline::Now { 1 } else { patience.slow_looks() } {
        if let Some(found) = ready() {
            return Ok(found);
        }
    }
    if deadline == Deadline::Now {
        return Err(TimedOut);
    }
    match patience.offer_others(deadline, &mut ready) {
        Some(found) => Ok(found),
        None => wait_asleep(cell, patience, deadline, &mut ready),
    }
}

#[cold]
fn wait_longer<T>(
    cell: &WaitCell,
    patience: &mut Patience,
    deadline: Deadline,
    ready: &mut dyn FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    match patience.stay_awake(deadline, ready) {
        Some(found) => Ok(found),
        None => wait_asleep(cell, patience, deadline, ready),
    }
}

fn wait_asleep<T>(
    cell: &WaitCell,
    patience: &mut Patience,
    deadline: Deadline,
    ready: &mut dyn FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    let slept = patience.begin_sleep();
    loop {
        if let Some(found) = cell.sleep_unless(deadline, ready) {
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
