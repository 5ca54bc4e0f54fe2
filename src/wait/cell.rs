//! The word that sleepers sleep on, and the count that tells notifiers whether there are any.
//!
//! ```text
//! line of 64 bytes   0  epoch   u32   the futex: changes whenever somebody is to be woken
//!                    8  roll    u64   | generation:24 | called:20 | registered:20 |
//!                   16  sleeps  u64   how often somebody went to sleep: a figure
//!                   24  wakes   u64   how often the kernel was asked to wake somebody: a figure
//! ```
//! `registered` sleepers are asleep or about to sleep; for `called` of them a wake-up is under way, so that a
//! notifier that finds all called saves its system call. `generation` counts deaths: see `README.md`.

use std::time::Duration;

use crate::prim::{AtomicU32, AtomicU64, Ordering, compiler_fence};
use crate::sys::futex;
use crate::time::Deadline;

const FIELD: u32 = 20;
const FIELD_MASK: u64 = (1 << FIELD) - 1;

/// Longer than what a processor has stored stays unseen by others: after it a sleeper looks once more (`README.md`).
const SETTLED: Duration = Duration::from_millis(1);

/// A place to sleep at. All bytes zero is one where nobody sleeps.
#[repr(C, align(64))]
pub(crate) struct WaitCell {
    pub(super) epoch: AtomicU32,
    pub(super) roll: AtomicU64,
    pub(super) figures: Figures,
}

/// What a cell counts, where it makes a system call anyway.
#[derive(Default)]
pub(super) struct Figures {
    sleeps: AtomicU64,
    wakes: AtomicU64,
}

#[cfg(not(feature = "shuttle"))]
const _: () = assert!(size_of::<WaitCell>() == 64);

/// The three numbers of `roll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Roll {
    generation: u64,
    called: u64,
    registered: u64,
}

impl From<u64> for Roll {
    fn from(raw: u64) -> Roll {
        Roll { generation: raw >> (2 * FIELD), called: raw >> FIELD & FIELD_MASK, registered: raw & FIELD_MASK }
    }
}

impl Roll {
    fn raw(self) -> u64 {
        // The generation wraps: what does not fit is shifted out.
        self.generation << (2 * FIELD) | self.called << FIELD | self.registered
    }

    fn all_called(self) -> bool {
        self.called >= self.registered
    }
}

impl WaitCell {
    /// A fresh cell in this process's own memory.
    pub(crate) fn new() -> WaitCell {
        WaitCell { epoch: AtomicU32::new(0), roll: AtomicU64::new(0), figures: Figures::default() }
    }

    /// Wakes one more sleeper, if there is one that was not called yet. What it shall find must have been
    /// published by an operation that releases.
    #[inline]
    pub(crate) fn notify_one(&self) {
        if !self.all_called() {
            self.call_one();
        }
    }

    /// As [`WaitCell::notify_one`], if there still is something to be found; asked only when it matters.
    #[inline]
    pub(crate) fn notify_one_if(&self, worth_it: impl FnOnce() -> bool) {
        if !self.all_called() && worth_it() {
            self.call_one();
        }
    }

    #[inline]
    fn all_called(&self) -> bool {
        // SeqCst: pairs with nothing, since it is for the compiler: what was published leaves before the look.
        compiler_fence(Ordering::SeqCst);
        // SeqCst: pairs with `register`. Either I see the sleeper, or it sees what I published: at once if I did that by a
        // SeqCst operation, otherwise at its second look.
        Roll::from(self.roll.load(Ordering::SeqCst)).all_called()
    }

    #[cold]
    fn call_one(&self) {
        // SeqCst: as in `notify_one`.
        let mut roll = Roll::from(self.roll.load(Ordering::SeqCst));
        while !roll.all_called() {
            let called = Roll { called: roll.called + 1, ..roll };
            // SeqCst: pairs with `leave`. From here on a sleeper is promised a wake-up.
            match self.roll.compare_exchange(roll.raw(), called.raw(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return self.wake(1),
                Err(now) => roll = Roll::from(now),
            }
        }
    }

    /// Wakes all sleepers, also for reasons that were published by weaker operations.
    pub(crate) fn notify_all(&self) {
        // Unlike `notify_one`, the epoch first: it orders what the caller stored before against the registration.
        // SeqCst: pairs with the load of the epoch in `sleep_unless`.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // SeqCst: pairs with `register`.
        if Roll::from(self.roll.load(Ordering::SeqCst)).registered > 0 {
            mark!("ring.wait.waking_all");
            count(&self.figures.wakes);
            futex::wake(&self.epoch, u32::MAX);
        }
    }

    fn wake(&self, sleepers: u32) {
        mark!("ring.wait.called");
        // SeqCst: pairs with the load of the epoch in `sleep_unless`, and the kernel's own comparison.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        mark!("ring.wait.waking");
        count(&self.figures.wakes);
        futex::wake(&self.epoch, sleepers);
    }

    /// After a death: forgets sleepers that may be dead and calls that may never come, and wakes the living,
    /// who look again and register anew.
    pub(crate) fn heal(&self) {
        // SeqCst: pairs with `register`, `leave` and `notify_one`.
        let mut roll = Roll::from(self.roll.load(Ordering::SeqCst));
        loop {
            let fresh = Roll { generation: roll.generation + 1, called: 0, registered: 0 };
            // SeqCst: as above.
            match self.roll.compare_exchange(roll.raw(), fresh.raw(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return self.wake(u32::MAX),
                Err(now) => roll = Roll::from(now),
            }
        }
    }

    /// How many sleep here, or are about to.
    #[inline]
    pub(crate) fn sleepers(&self) -> u32 {
        // SeqCst: pairs with `register`, as in `notify_one`.
        Roll::from(self.roll.load(Ordering::SeqCst)).registered as u32
    }

    /// Sleeps until woken or the deadline, unless `ready` gives something first. Returns what `ready` gave
    /// before or after.
    pub(super) fn sleep_unless<T>(&self, deadline: Deadline, ready: &mut dyn FnMut() -> Option<T>) -> Option<T> {
        // SeqCst: pairs with the additions in `wake` and `notify_all`. Before the registration: whoever calls me
        // from then on changes it, so that I cannot fall asleep as one who was called already.
        let epoch = self.epoch.load(Ordering::SeqCst);
        let registration = self.register();
        mark!("ring.wait.registered");
        if let Some(found) = ready() {
            return Some(found);
        }
        if let Some(left) = first_sleep(deadline) {
            mark!("ring.wait.sleeping");
            self.count_sleep();
            futex::wait(&self.epoch, epoch, left);
            // SeqCst: as above. Whoever has called me changed it, and then this was all.
            if self.epoch.load(Ordering::SeqCst) == epoch
                && let Some(left) = second_sleep(deadline)
            {
                if let Some(found) = ready() {
                    return Some(found);
                }
                futex::wait(&self.epoch, epoch, left);
            }
        }
        // First struck off the roll, then a look: who found me called and saved the system call published before
        // this, so I see it.
        drop(registration);
        ready()
    }

    /// Counts that somebody goes to sleep.
    pub(super) fn count_sleep(&self) {
        count(&self.figures.sleeps);
    }

    /// How often somebody went to sleep here, and how often the kernel was asked to wake somebody.
    pub(crate) fn figures(&self) -> (u64, u64) {
        let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
        (read(&self.figures.sleeps), read(&self.figures.wakes))
    }

    /// The word to sleep on, and the value that it has while nobody has been called.
    pub(super) fn word(&self) -> (&AtomicU32, u32) {
        // SeqCst: as in `sleep_unless`.
        (&self.epoch, self.epoch.load(Ordering::SeqCst))
    }

    pub(super) fn register(&self) -> Registration<'_> {
        // SeqCst: pairs with the load in `notify_one`.
        let before = Roll::from(self.roll.fetch_add(1, Ordering::SeqCst));
        debug_assert!(before.registered < FIELD_MASK, "a million threads sleep at one place");
        Registration { cell: self, generation: before.generation }
    }
}

/// How long to sleep before the second look; none if there is no time left. The model checker sees every store at once, so
/// there the protocol has to do without that look.
pub(super) fn first_sleep(deadline: Deadline) -> Option<Option<Duration>> {
    let left = deadline.left();
    let most = if cfg!(feature = "shuttle") { left } else { Some(left.map_or(SETTLED, |left| left.min(SETTLED))) };
    left.is_none_or(|left| !left.is_zero()).then_some(most)
}

/// How long to sleep after it, likewise.
pub(super) fn second_sleep(deadline: Deadline) -> Option<Option<Duration>> {
    let left = deadline.left();
    (!cfg!(feature = "shuttle") && left.is_none_or(|left| !left.is_zero())).then_some(left)
}

/// The model checker has nothing to learn from a figure.
fn count(figure: &AtomicU64) {
    if !cfg!(feature = "shuttle") {
        figure.fetch_add(1, Ordering::Relaxed);
    }
}

/// A sleeper's line on the roll; struck off when dropped, also by a panic of `ready`.
pub(super) struct Registration<'a> {
    cell: &'a WaitCell,
    generation: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        // SeqCst: pairs with `notify_one`.
        let mut roll = Roll::from(self.cell.roll.load(Ordering::SeqCst));
        // After a `heal` this registration no longer counts.
        while roll.generation == self.generation {
            let left =
                Roll { registered: roll.registered.saturating_sub(1), called: roll.called.saturating_sub(1), ..roll };
            // SeqCst: pairs with `notify_one`; what was published before it is seen after this.
            match self.cell.roll.compare_exchange(roll.raw(), left.raw(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => roll = Roll::from(now),
            }
        }
    }
}
