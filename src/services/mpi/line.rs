//! A socket to a rank or to the office: what it does not take at once is kept, and until it has taken that, nothing more is
//! read from it. So who asks and never listens costs no memory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::epoll::{Epoll, Interest};
use crate::sys::rendezvous;

const ROOM: usize = 64 << 10;

/// One end of it.
pub(super) struct Line {
    socket: OwnedFd,
    key: u64,
    unsent: Vec<u8>,
}

impl Line {
    /// Watched under this number from now on.
    pub(super) fn new(epoll: &Epoll, socket: OwnedFd, key: u64) -> io::Result<Line> {
        epoll.add(&socket, key, Interest::READ)?;
        Ok(Line { socket, key, unsent: Vec::new() })
    }

    /// What has come; nothing at all if there is nothing yet. An error is the end.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        if !self.unsent.is_empty() {
            return Ok(Vec::new());
        }
        let mut room = vec![0; ROOM];
        match rendezvous::receive(&self.socket, &mut room) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                room.truncate(length);
                Ok(room)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Sends, now or later. One that is at its end says so when it is read.
    pub(super) fn write(&mut self, epoll: &Epoll, bytes: &[u8]) {
        let waited = !self.unsent.is_empty();
        self.unsent.extend_from_slice(bytes);
        if !waited {
            self.flush(epoll);
        }
    }

    /// Sends what is left, as much as it takes.
    pub(super) fn flush(&mut self, epoll: &Epoll) {
        let before = self.unsent.len();
        let mut sent = 0;
        while sent < before {
            match rendezvous::send(&self.socket, &self.unsent[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => sent = before,
            }
        }
        self.unsent.drain(..sent);
        let interest = if self.unsent.is_empty() { Interest::READ } else { Interest::WRITE };
        // Fails only for a descriptor that is not in the set, and it is.
        let _ = epoll.change(&self.socket, self.key, interest);
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
