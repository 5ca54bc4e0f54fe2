//! Streams to other machines: bytes in and out without waiting, and the interfaces of this machine.

use std::{
    ffi::CStr,
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd},
    ptr,
    time::Duration,
};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

/// Takes what has come, at most as much as fits; 0 is the end. `WouldBlock`: nothing is there.
#[inline]
pub(crate) fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut *into, RecvFlags::DONTWAIT))?.0)
}

/// Gives the kernel as much as it takes now. `WouldBlock`: nothing. A closed peer is an error, not a signal.
#[inline]
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::io::retry_on_intr(|| rustix::net::send(&socket, bytes, flags))?)
}

/// As [`send`], from several places at once.
pub(crate) fn send_pieces(socket: impl AsFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut nothing = SendAncillaryBuffer::default();
    Ok(rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, pieces, &mut nothing, flags))?)
}

/// Whether connecting has begun and goes on by itself.
pub(crate) fn is_under_way(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS)
}

/// Bounds the pauses after which the kernel sends again what got lost, so that a cable that was out for two seconds is
/// not silent for four. Kernels before 6.15 do not know how; they go on as ever.
pub(crate) fn bound_retries(socket: impl AsFd, most: Duration) {
    let milliseconds = most.as_millis().min(120_000) as libc::c_int;
    set_option(socket, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, milliseconds);
}

/// Bytes that must have come before who sleeps on the socket is woken. At most as many as the kernel can keep.
pub(crate) fn wake_at(socket: impl AsFd, bytes: usize) {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes.min(1 << 30) as libc::c_int);
}

/// Sets a number that only makes things better, so that a kernel which does not know it does no harm.
fn set_option(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    let (at, len) = (ptr::from_ref(&value).cast(), size_of_val(&value) as libc::socklen_t);
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and the length are those of a local number, which the kernel copies.
    let _ = unsafe { libc::setsockopt(descriptor, level, option, at, len) };
}

/// `linux/tcp.h`; the kernel takes no less than a second.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// One address of one interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// As in `ip address`.
    pub(crate) name: String,
    /// Its number, which link-local addresses need.
    pub(crate) index: u32,
    /// The address.
    pub(crate) address: IpAddr,
    /// Up and with a carrier.
    pub(crate) running: bool,
    /// Leads to this machine only.
    pub(crate) loopback: bool,
}

/// All addresses of this machine, in the system's order. Interfaces without an address are not among them.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut first = ptr::null_mut();
    // SAFETY: the pointer is to a local variable, which the call fills in.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: `next` is a link of the list that getifaddrs made, which is freed only below.
        let entry = unsafe { &*next };
        // SAFETY: as above.
        found.extend(unsafe { interface(entry) });
        next = entry.ifa_next;
    }
    // SAFETY: `first` came from getifaddrs, and nothing refers to the list any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// One link of the list, if it has an internet address.
///
/// # Safety
/// The entry's pointers must be null or valid, as getifaddrs makes them.
unsafe fn interface(entry: &libc::ifaddrs) -> Option<Interface> {
    // SAFETY: null or a valid address, as the caller promises.
    let address = unsafe { internet_address(entry.ifa_addr) }?;
    // SAFETY: a name is always there, and ends with a zero byte.
    let name = unsafe { CStr::from_ptr(entry.ifa_name) };
    // SAFETY: as above.
    let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
    let has = |flag: libc::c_int| entry.ifa_flags & flag as u32 != 0;
    Some(Interface {
        name: name.to_string_lossy().into_owned(),
        index,
        address,
        running: has(libc::IFF_UP) && has(libc::IFF_RUNNING),
        loopback: has(libc::IFF_LOOPBACK),
    })
}

/// # Safety
/// `at` must be null or point to an address as long as its family says.
unsafe fn internet_address(at: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null or valid, as the caller promises.
    let family = unsafe { at.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a `sockaddr_in`; it may lie unaligned.
            let v4 = unsafe { at.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a `sockaddr_in6`; it may lie unaligned.
            let v6 = unsafe { at.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_among_the_interfaces() {
        let all = interfaces().unwrap();
        let lo = all.iter().find(|interface| interface.address == IpAddr::from([127, 0, 0, 1])).unwrap();
        assert!(lo.loopback && lo.running && lo.index > 0, "{all:?}");
    }
}
