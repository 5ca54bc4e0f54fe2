//! Sleeping on a word of shared memory, and waking who sleeps there.
//!
//! The kernel's futex, between processes. Under the model checker, which knows no kernel, a small model
//! of it that keeps the one property that matters: comparing and going to sleep is one step.

#[cfg(not(feature = "shuttle"))]
pub(crate) use kernel::{wait, wake};
#[cfg(feature = "shuttle")]
pub(crate) use modelled::{wait, wake};

#[cfg(not(feature = "shuttle"))]
mod kernel {
    use std::time::Duration;

    use rustix::thread::futex::{self, Flags, Timespec};

    use crate::prim::AtomicU32;

    /// Sleeps while the word has this value, at most for so long. Returns for any reason or none: the
    /// caller looks for itself.
    pub(crate) fn wait(word: &AtomicU32, value: u32, most: Option<Duration>) {
        // A time too long for the kernel is as good as for ever.
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        // Not private to the process: the word is in memory that others map too.
        let _ = futex::wait(word, Flags::empty(), value, most.as_ref());
    }

    /// Wakes at most so many that sleep on the word.
    pub(crate) fn wake(word: &AtomicU32, sleepers: u32) {
        // The kernel takes a signed number.
        let _ = futex::wake(word, Flags::empty(), sleepers.min(i32::MAX as u32));
    }
}

#[cfg(feature = "shuttle")]
mod modelled {
    use std::time::Duration;

    use shuttle::rand::Rng;
    use shuttle::sync::{Condvar, Mutex};

    use crate::prim::{AtomicU32, Ordering};

    /// Who sleeps where: the word's address and the sleeper's number.
    struct Kernel {
        asleep: Mutex<(u64, Vec<(usize, u64)>)>,
        changed: Condvar,
    }

    shuttle::lazy_static! {
        static ref KERNEL: Kernel = Kernel { asleep: Mutex::new((0, Vec::new())), changed: Condvar::new() };
    }

    pub(crate) fn wait(word: &AtomicU32, value: u32, most: Option<Duration>) {
        let mut asleep = KERNEL.asleep.lock().expect("no sleeper panics");
        // SeqCst: as the kernel's own look; partner of whatever changes the word before it wakes.
        if word.load(Ordering::SeqCst) != value {
            return;
        }
        asleep.0 += 1;
        let me = (std::ptr::from_ref(word).addr(), asleep.0);
        asleep.1.push(me);
        while asleep.1.contains(&me) {
            if most.is_none() {
                asleep = KERNEL.changed.wait(asleep).expect("no sleeper panics");
            } else if shuttle::rand::thread_rng().gen_bool(0.5) {
                // A time that runs out may do so at any moment.
                asleep.1.retain(|sleeper| *sleeper != me);
            } else {
                drop(asleep);
                shuttle::thread::yield_now();
                asleep = KERNEL.asleep.lock().expect("no sleeper panics");
            }
        }
    }

    pub(crate) fn wake(word: &AtomicU32, sleepers: u32) {
        let mut asleep = KERNEL.asleep.lock().expect("no sleeper panics");
        for _ in 0..sleepers {
            let here = std::ptr::from_ref(word).addr();
            let Some(first) = asleep.1.iter().position(|sleeper| sleeper.0 == here) else {
                break;
            };
            asleep.1.remove(first);
        }
        KERNEL.changed.notify_all();
    }
}
