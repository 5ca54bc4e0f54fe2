//! Sleeping on a word of shared memory, and waking who sleeps there.
//!
//! The kernel's futex, between processes. Under the model checker, which knows no kernel, a small model
//! of it that keeps the one property that matters: comparing and going to sleep is one step.

#[cfg(not(feature = "shuttle"))]
pub(crate) use kernel::{wait, wait_any, wake};
#[cfg(feature = "shuttle")]
pub(crate) use modelled::{wait, wait_any, wake};

#[cfg(not(feature = "shuttle"))]
mod kernel {
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::thread::futex::{self, ClockId, Flags, Timespec, WaitFlags, WaitPtr, WaitvFlags};
    use rustix::time::clock_gettime;

    use crate::prim::AtomicU32;

    /// Words that the kernel watches in one call.
    const MOST_WORDS: usize = 128;
    /// How long to sleep at one of several words where the kernel cannot watch them all.
    const SLICE: Duration = Duration::from_millis(1);

    /// Sleeps while the word has this value, at most for so long. Returns for any reason or none: the
    /// caller looks for itself.
    pub(crate) fn wait(word: &AtomicU32, value: u32, most: Option<Duration>) {
        // A time too long for the kernel is as good as for ever.
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        // Not private to the process: the word is in memory that others map too.
        let _ = futex::wait(word, Flags::empty(), value, most.as_ref());
    }

    /// Sleeps while every word has its value, at most for so long. Returns for any reason or none. A kernel
    /// before 5.16, or one that is told not to, cannot do that; then the sleep is a short one at the first word.
    pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], most: Option<Duration>) {
        let watch = |&(word, value): &(&AtomicU32, u32)| {
            let mut watch = futex::Wait::new();
            watch.val = u64::from(value);
            watch.uaddr = WaitPtr::new(word.as_ptr().cast());
            watch.flags = WaitFlags::SIZE_U32;
            watch
        };
        let watched: Vec<_> = words.iter().take(MOST_WORDS).map(watch).collect();
        let until = most.and_then(from_now);
        let all = words.len() <= MOST_WORDS && !words.is_empty();
        let slept = match all {
            true => futex::waitv(&watched, WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic).map(drop),
            false => Err(Errno::NOSYS),
        };
        if matches!(slept, Err(Errno::NOSYS | Errno::PERM))
            && let Some(&(word, value)) = words.first()
        {
            wait(word, value, Some(most.map_or(SLICE, |most| most.min(SLICE))));
        }
    }

    /// That instant on the clock of `wait_any`; none if it is too far for the kernel, which is as good as never.
    fn from_now(most: Duration) -> Option<Timespec> {
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).ok()?;
        Timespec::try_from(now.checked_add(most)?).ok()
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

    /// A sleep at several words is one that may end at any moment.
    pub(crate) fn wait_any(_words: &[(&AtomicU32, u32)], _most: Option<Duration>) {
        shuttle::thread::yield_now();
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
