//! The cpus on which a thread may run, and its children and threads after it.

use std::io;

/// Cpus that a mask has room for: more than any kernel is built for.
const MOST: usize = 8192;

type Mask = [u64; MOST / 64];

/// The cpus of this process's first thread, in order.
pub(crate) fn of_process() -> io::Result<Vec<usize>> {
    read(std::process::id() as libc::pid_t).map(|mask| cpus(&mask))
}

/// Runs `body` while the calling thread is on these cpus, and puts it back to where it was, also after a panic. What is
/// started meanwhile inherits them.
pub(crate) fn while_on<R>(on: &[usize], body: impl FnOnce() -> R) -> io::Result<R> {
    let mut wanted: Mask = [0; MOST / 64];
    for cpu in on {
        *wanted.get_mut(cpu / 64).ok_or(io::ErrorKind::InvalidInput)? |= 1 << (cpu % 64);
    }
    let _back = Back(read(0)?);
    write(&wanted)?;
    // The kernel takes away what is not there and refuses only if nothing is left.
    if read(0)? != wanted {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(body())
}

/// Puts the thread back to its cpus.
struct Back(Mask);

impl Drop for Back {
    fn drop(&mut self) {
        if let Err(error) = write(&self.0) {
            tracing::warn!(%error, "a thread that starts processes stays on the cpus of one that it has started");
        }
    }
}

fn cpus(mask: &Mask) -> Vec<usize> {
    (0..MOST).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect()
}

fn read(thread: libc::pid_t) -> io::Result<Mask> {
    let mut mask: Mask = [0; MOST / 64];
    // SAFETY: the kernel writes at most so many bytes of the mask, which is as long as is said.
    match unsafe { libc::sched_getaffinity(thread, size_of::<Mask>(), mask.as_mut_ptr().cast()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(mask),
    }
}

/// Puts the calling thread on these cpus.
fn write(mask: &Mask) -> io::Result<()> {
    // SAFETY: the kernel reads so many bytes of the mask, which is as long as is said.
    match unsafe { libc::sched_setaffinity(0, size_of::<Mask>(), mask.as_ptr().cast()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_bound_for_a_while_and_what_it_starts_for_ever() {
        let before = read(0).unwrap();
        let first = cpus(&before)[0];
        let (inside, started) = while_on(&[first], || {
            let started = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
            (cpus(&read(0).unwrap()), String::from_utf8(started.stdout).unwrap())
        })
        .unwrap();
        assert_eq!(inside, [first]);
        let allowed = started.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(allowed.trim(), first.to_string());
        assert_eq!(read(0).unwrap(), before);
        let panicked = std::panic::catch_unwind(|| while_on(&[first], || panic!("on purpose")));
        assert!(panicked.is_err() && read(0).unwrap() == before);
    }

    #[test]
    fn cpus_that_are_not_there_are_an_error_and_change_nothing() {
        let before = read(0).unwrap();
        let first = cpus(&before)[0];
        for wrong in [&[MOST - 1][..], &[first, MOST - 1], &[MOST], &[]] {
            assert!(while_on(wrong, || panic!("not reached")).is_err(), "{wrong:?}");
            assert_eq!(read(0).unwrap(), before);
        }
    }
}
