//! A message of the handshake: so many bytes, neither more nor less, however they come.

use std::io;

use socket2::Socket;

use crate::sys::net;

/// `N` bytes that are being read.
pub(super) struct Record<const N: usize> {
    bytes: [u8; N],
    have: usize,
}

impl<const N: usize> Record<N> {
    pub(super) fn new() -> Self {
        Record { bytes: [0; N], have: 0 }
    }

    /// Reads what has come. `None`: not all of it. Never reads what follows it.
    pub(super) fn read(&mut self, socket: &Socket) -> io::Result<Option<&[u8; N]>> {
        while self.have < N {
            match net::receive(socket, &mut self.bytes[self.have..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => self.have += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(&self.bytes))
    }
}

/// Sends a message of the handshake. It is small and the first on its way, so the kernel has room for it.
pub(super) fn say(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    match net::send(socket, bytes)? {
        all if all == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}
