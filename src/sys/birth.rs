//! What a process does to itself before it can work for another: its descriptors, signals and name.
//!
//! A child of ours starts with nothing of the standard library's own start-up done, because `main` is
//! never reached; what of it matters is done here.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags},
    net::{AddressFamily, SocketType, sockopt},
};

/// Whether the process runs with rights its caller does not have, so that the environment is not to be
/// trusted.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: getauxval only reads what the kernel left for us.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Whether standard input is a local socket of the kind that `socket::pair` makes.
pub(crate) fn stdin_is_control() -> bool {
    let stdin = io::stdin();
    sockopt::socket_domain(&stdin).is_ok_and(|domain| domain == AddressFamily::UNIX)
        && sockopt::socket_type(&stdin).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

/// Whether standard input is a local socket without records.
pub(crate) fn stdin_is_local_stream() -> bool {
    let stdin = io::stdin();
    sockopt::socket_domain(&stdin).is_ok_and(|domain| domain == AddressFamily::UNIX)
        && sockopt::socket_type(&stdin).is_ok_and(|kind| kind == SocketType::STREAM)
}

/// Moves what is on standard input to a descriptor of its own that no child inherits, and puts
/// `/dev/null` in its place.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    let taken = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    let null = File::open("/dev/null")?;
    // SAFETY: both are descriptors; that 0 is no longer what it was is the purpose.
    match unsafe { libc::dup2(null.as_raw_fd(), stdin.as_fd().as_raw_fd()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(taken),
    }
}

/// Puts a descriptor in the place of standard input.
pub(crate) fn set_stdin(descriptor: &OwnedFd) -> io::Result<()> {
    // SAFETY: both are descriptors; that 0 is no longer what it was is the purpose.
    match unsafe { libc::dup2(descriptor.as_raw_fd(), io::stdin().as_fd().as_raw_fd()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes writing to a closed pipe an error instead of the end, as the standard library does in `main`.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Names the calling thread; the first thread's name is the process's in `ps` and `top`.
pub(crate) fn set_name(name: &std::ffi::CStr) {
    // A name is a courtesy.
    let _ = rustix::thread::set_name(name);
}

/// Returns when the peer of `control` or the process behind `pidfd` is gone.
pub(crate) fn wait_for_end(control: BorrowedFd<'_>, pidfd: Option<BorrowedFd<'_>>) {
    // Of the socket only its end counts: what comes over it is somebody else's to read.
    let mut all = vec![PollFd::from_borrowed_fd(control, PollFlags::RDHUP)];
    all.extend(pidfd.map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN)));
    while rustix::event::poll(&mut all, None) == Err(rustix::io::Errno::INTR) {}
}

/// Ends the process at once: no destructor, no exit handler, no buffer written.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: ends the process; nothing of ours can be in a wrong state afterwards.
    unsafe { libc::_exit(code) }
}
