//! A pair of local sockets that carries records and descriptors: how a child is told who it is.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// What came at once: bytes, and the descriptors that came with them.
pub(crate) type Record = (Vec<u8>, Vec<OwnedFd>);

/// Both ends of a new local socket that keeps records apart and reports the end of its peer.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None)?;
    Ok((a.into(), b.into()))
}

/// Sends one record, with descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, record: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(record)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    if sent != record.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
}

/// Receives one record and its descriptors. `Ok(None)`: the peer is gone.
pub(crate) fn receive(socket: impl AsFd, most: usize) -> io::Result<Option<Record>> {
    receive_with(socket, most, RecvFlags::CMSG_CLOEXEC)
}

/// The same without waiting: `WouldBlock` if there is none.
pub(crate) fn receive_now(socket: impl AsFd, most: usize) -> io::Result<Option<Record>> {
    receive_with(socket, most, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

fn receive_with(socket: impl AsFd, most: usize, flags: RecvFlags) -> io::Result<Option<Record>> {
    match receive_once(&socket, most, flags) {
        // A peer that ended with something unread leaves this error, once, in front of what it had sent.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive_once(&socket, most, flags),
        other => other,
    }
}

fn receive_once(socket: impl AsFd, most: usize, flags: RecvFlags) -> io::Result<Option<Record>> {
    let mut record = vec![0; most];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        let parts = &mut [IoSliceMut::new(&mut record)];
        rustix::net::recvmsg(&socket, parts, &mut ancillary, flags)
    })?;
    if got.bytes == 0 {
        return Ok(None);
    }
    record.truncate(got.bytes);
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(Some((record, descriptors)))
}
