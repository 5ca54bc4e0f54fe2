//! The cpus on which a process may run.

use std::io;

/// Cpus that a mask has room for: more than any kernel is built for.
const MOST: usize = 8192;

type Mask = [u64; MOST / 64];

/// The cpus of this process's first thread, in order: those of its affinity that are in its cpuset and online.
pub(crate) fn of_process() -> io::Result<Vec<usize>> {
    let mut mask: Mask = [0; MOST / 64];
    let process = std::process::id() as libc::pid_t;
    // SAFETY: the kernel writes at most so many bytes of the mask, which is as long as is said.
    match unsafe { libc::sched_getaffinity(process, size_of::<Mask>(), mask.as_mut_ptr().cast()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((0..MOST).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cpus_are_those_that_the_kernel_shows() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let listed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(crate::policy::numbers(&super::of_process().unwrap()), listed.trim());
    }
}
