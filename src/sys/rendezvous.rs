//! Sockets of processes that meet before they are a job: waiting with a deadline, who is at the other end, and
//! which addresses this machine has.

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    net::{RecvFlags, SendFlags},
};

use crate::time::Deadline;

/// A socket and what is waited for there. The end of the peer always counts.
pub(crate) type Watched<'a> = (BorrowedFd<'a>, For);

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Something to read, or somebody to accept.
    Reading,
    /// Room to write.
    Writing,
}

/// Who is at the other end of a local socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    /// Zero if it cannot be seen from this process's pid namespace.
    pub(crate) pid: u32,
}

/// Sleeps until there is what is waited for, or an end; says where. Nowhere, if the time is up.
pub(crate) fn ready(sockets: &[Watched<'_>], deadline: Deadline) -> io::Result<Vec<bool>> {
    let flags = |what| if what == For::Writing { PollFlags::OUT } else { PollFlags::IN };
    let mut asked: Vec<_> = sockets.iter().map(|(fd, what)| PollFd::new(fd, flags(*what))).collect();
    loop {
        let left = deadline.left().and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut asked, left.as_ref()) {
            // Again with what is left of the time: a stopped process that goes on is told so, too.
            Err(rustix::io::Errno::INTR) => {}
            other => {
                other?;
                return Ok(asked.iter().map(|fd| !fd.revents().is_empty()).collect());
            }
        }
    }
}

/// Does nothing until the deadline: for what will be there soon and cannot be waited for, like a socket that nobody
/// has opened yet.
pub(crate) fn pause(deadline: Deadline) {
    // Without a descriptor nothing can fail but the waiting itself, and that only makes the pause shorter.
    let _ = ready(&[], deadline);
}

/// Sends what the socket takes at once. A peer that is gone is an error and no signal.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::io::retry_on_intr(|| rustix::net::send(&socket, bytes, flags))?)
}

/// Receives what is there, at least a byte; zero bytes are the end of the peer.
pub(crate) fn receive(socket: impl AsFd, room: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut *room, RecvFlags::DONTWAIT))?.1)
}

/// Who made the other end of a local socket, or listens there.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let at = (&raw mut found).cast();
    // SAFETY: the kernel writes at most `len` bytes to a struct of that size.
    let rc = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, at, &mut len) };
    match rc {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Peer { uid: found.uid, pid: found.pid.max(0) as u32 }),
    }
}

/// Whether this number is an open socket of the process.
pub(crate) fn is_socket(fd: RawFd) -> bool {
    // SAFETY: all zeroes are a valid value of this plain struct.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a number that is no descriptor is an error; the kernel writes one struct.
    let known = unsafe { libc::fstat(fd, &mut stat) } == 0;
    known && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// Who made the other end of a socket that is open under this number.
pub(crate) fn peer_of(fd: RawFd) -> Option<Peer> {
    if !is_socket(fd) {
        return None;
    }
    // SAFETY: the descriptor is open, as was just seen, and is used for one question.
    peer(unsafe { BorrowedFd::borrow_raw(fd) }).ok()
}

/// Another descriptor for a socket that somebody left open for us and that stays his. No program started from now
/// on inherits either.
pub(crate) fn borrow_socket(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a number that is no descriptor is an error; the flag changes nothing for this program.
    let copy = unsafe {
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3)
    };
    match copy {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the descriptor was made by the call above and is nobody else's.
        copy => Ok(unsafe { OwnedFd::from_raw_fd(copy) }),
    }
}

/// Calls `last` when the process ends by itself.
pub(crate) fn at_exit(last: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the function is part of the program and takes nothing.
    match unsafe { libc::atexit(last) } {
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

/// An address that a network interface of this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
    pub(crate) is_loopback: bool,
}

/// The addresses of all interfaces that are up, in the system's order. Those that mean something on one cable only
/// (IPv6 link-local) are left out.
pub(crate) fn interface_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: on success `first` is a list that is ours until `freeifaddrs`.
    if unsafe { libc::getifaddrs(&mut first) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at: *const libc::ifaddrs = first;
    // SAFETY: every entry of the list, and what it points to, lives until `freeifaddrs`; the last has no next.
    while let Some(entry) = unsafe { at.as_ref() } {
        found.extend(of_entry(entry));
        at = entry.ifa_next;
    }
    // SAFETY: the list is not used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

fn of_entry(entry: &libc::ifaddrs) -> Option<InterfaceAddress> {
    let is = |flag: i32| entry.ifa_flags & flag as u32 != 0;
    if entry.ifa_addr.is_null() || !is(libc::IFF_UP) {
        return None;
    }
    // SAFETY: an address that is there begins with its family.
    let family = i32::from(unsafe { (*entry.ifa_addr).sa_family });
    let address = match family {
        libc::AF_INET => {
            // SAFETY: of this family, an address is one of these.
            let found = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_in>() };
            IpAddr::from(Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let found = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_in6>() };
            IpAddr::from(Ipv6Addr::from(found.sin6_addr.s6_addr))
        }
        _ => return None,
    };
    let on_one_cable = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    // SAFETY: the name of an interface is a C string.
    let interface = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
    (!on_one_cable).then_some(InterfaceAddress { interface, address, is_loopback: is(libc::IFF_LOOPBACK) })
}
