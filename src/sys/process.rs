//! This process and others: ids, exits, limits.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use rustix::process::{Pid, PidfdFlags, Resource};

/// This process's id.
pub(crate) fn id() -> u32 {
    std::process::id()
}

/// The parent's id; 1 or a subreaper's when the parent is gone.
pub(crate) fn parent() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32)
}

/// A descriptor that becomes readable when the process ends. Call it before the process is reaped.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends SIGKILL to the process behind the descriptor; one that has ended already is no error.
pub(crate) fn kill(pidfd: &OwnedFd) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

/// Reaps the child behind the descriptor, waiting until it has ended, and says how it ended.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let ended = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))?;
    // Without NOHANG there is always an answer; the words are those of `wait`.
    let raw = ended.map_or(0, |status| match status.terminating_signal() {
        Some(signal) => signal | if status.dumped() { 0x80 } else { 0 },
        None => status.exit_status().unwrap_or(0) << 8,
    });
    Ok(ExitStatus::from_raw(raw))
}

/// Sends a signal to the process behind the descriptor; one that has ended already is no error.
pub(crate) fn signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    send(pidfd, signal, 0)
}

/// Sends a signal to all processes of the group that the process behind the descriptor leads or led; that there are none
/// any more is no error.
pub(crate) fn signal_group(pidfd: &OwnedFd, pid: u32, signal: i32) -> io::Result<()> {
    /// The group of that very process, whoever has its number by now (Linux 6.9).
    const PROCESS_GROUP: libc::c_uint = 1 << 2;
    match send(pidfd, signal, PROCESS_GROUP) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        sent => return sent,
    }
    // Before that the number must do, which is the group's as long as the process was not reaped; it may be another's then.
    if try_send(pidfd, 0, 0).is_err() {
        return Ok(());
    }
    let group = i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: sends a signal.
    match unsafe { libc::kill(-group, signal) } {
        0 => Ok(()),
        _ => no_such_process_is_well(io::Error::last_os_error()),
    }
}

fn send(pidfd: &OwnedFd, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    try_send(pidfd, signal, flags).or_else(no_such_process_is_well)
}

fn try_send(pidfd: &OwnedFd, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: sends a signal to the process that the descriptor is of.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn no_such_process_is_well(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Whether this process may execute the file, or enter the directory.
pub(crate) fn may_execute(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Ends this process at once, as `kill -9` would.
#[cfg(feature = "failpoints")]
pub(crate) fn kill_self() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// When the process started, in clock ticks since boot: with the id, its name for all time.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command's name in brackets and may hold anything; count from behind it.
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// How many descriptors this process may have open (soft limit), if there is a limit.
pub(crate) fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// Lets this process have so many descriptors, as far as the hard limit allows: raises the soft limit, and never lowers it.
/// How many it may have now; `None` is no limit.
pub(crate) fn allow_descriptors(wanted: u64) -> Option<u64> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|soft| soft < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |hard| hard.min(wanted)));
        // What is refused here shows in the limit that stays.
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    }
    descriptor_limit()
}

/// How many descriptors this process has open; none where `/proc` does not say.
pub(crate) fn open_descriptors() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Whether a call failed for want of descriptors.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(rustix::io::Errno::from_io_error(error), Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

/// Whether a call failed because no further process may be made.
pub(crate) fn is_out_of_processes(error: &io::Error) -> bool {
    matches!(rustix::io::Errno::from_io_error(error), Some(rustix::io::Errno::AGAIN | rustix::io::Errno::NOMEM))
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A file that some process has open.
pub(crate) struct OpenFile {
    /// Where `/proc` shows it; opening this opens the very file, named or not.
    pub(crate) path: PathBuf,
    /// What it is called.
    pub(crate) name: PathBuf,
}

/// The processes of this machine, or of its container.
pub(crate) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The files that a process has open; none if it is gone, or another user's.
pub(crate) fn open_files(pid: u32) -> Vec<OpenFile> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter_map(|path| fs::read_link(&path).ok().map(|name| OpenFile { path, name })).collect()
}

/// This process's standard output once more.
pub(crate) fn stdout() -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    io::stdout().as_fd().try_clone_to_owned()
}
