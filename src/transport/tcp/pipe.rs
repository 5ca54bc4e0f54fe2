//! The bytes of one connection: as they are, or in sealed records.
//!
//! ```text
//! a record   0    4
//!            ├ len ┤ len bytes of ciphertext │ 16 bytes of tag │
//! ```
//! ChaCha20-Poly1305, the record's number as nonce and its length as associated data, one key for each direction
//! of each connection: a record that was changed, left out, repeated or moved ends the connection.

use std::{
    io::{self, IoSlice},
    mem,
    os::fd::{AsFd, BorrowedFd},
};

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use socket2::Socket;

use crate::sys::net;

/// Most bytes of a record's text.
const RECORD: usize = 64 << 10;
const LENGTH: usize = 4;
const TAG: usize = 16;

/// A connected socket.
pub(super) struct Pipe {
    socket: Socket,
    sealed: Option<Box<Sealed>>,
}

/// What one read got.
pub(super) struct Got {
    /// Bytes; 0 is the end.
    pub(super) bytes: usize,
    /// There may be more that the socket does not tell of.
    pub(super) more: bool,
}

impl Pipe {
    /// Bytes as they are, or sealed with a key for each direction.
    pub(super) fn new(socket: Socket, keys: Option<(&[u8; 32], &[u8; 32])>) -> Pipe {
        Pipe { socket, sealed: keys.map(|(out, back)| Box::new(Sealed::new(out, back))) }
    }

    /// Takes what has come. `WouldBlock`: nothing.
    #[inline]
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Got> {
        match &mut self.sealed {
            None => net::receive(&self.socket, into).map(|bytes| Got { bytes, more: bytes == into.len() }),
            Some(sealed) => sealed.read(&self.socket, into),
        }
    }

    /// Gives as much as is taken now. `WouldBlock`: nothing.
    #[inline]
    pub(super) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match (&mut self.sealed, pieces) {
            (None, [one]) => net::send(&self.socket, one),
            (None, pieces) => net::send_pieces(&self.socket, pieces),
            (Some(sealed), pieces) => sealed.write(&self.socket, pieces),
        }
    }

    /// Who sleeps on it is woken only when so many bytes have come.
    pub(super) fn wake_at(&self, bytes: usize) {
        net::wake_at(&self.socket, bytes);
    }

    /// Whether bytes go sealed, and so in records.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Whether the kernel has all that was taken.
    pub(super) fn is_flushed(&self) -> bool {
        self.sealed.as_ref().is_none_or(|sealed| sealed.out.is_empty())
    }

    /// Tries to give the kernel what it has not yet.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.sealed.as_mut().map_or(Ok(()), |sealed| sealed.flush(&self.socket))
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One direction's key and the number of its next record.
struct Seal {
    cipher: ChaCha20Poly1305,
    next: u64,
}

impl Seal {
    fn new(key: &[u8; 32]) -> Seal {
        Seal { cipher: ChaCha20Poly1305::new(key.into()), next: 0 }
    }

    /// The nonce of the next record. 2^64 of them do not come.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        nonce.into()
    }

    fn close(&mut self, length: [u8; LENGTH], text: &mut [u8]) -> io::Result<Tag> {
        let nonce = self.nonce();
        self.cipher.encrypt_inout_detached(&nonce, &length, text.into()).map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    fn open(&mut self, length: [u8; LENGTH], text: &mut [u8], tag: [u8; TAG]) -> io::Result<()> {
        let nonce = self.nonce();
        let opened = self.cipher.decrypt_inout_detached(&nonce, &length, text.into(), &tag.into());
        opened.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a record was changed on the way"))
    }
}

struct Sealed {
    seal: Seal,
    /// A closed record, and how much of it the kernel has.
    out: Vec<u8>,
    flushed: usize,
    unseal: Seal,
    /// What came, up to `came`: a record that is being handed out, and what follows it.
    raw: Vec<u8>,
    came: usize,
    /// The text of the last record: which bytes of `raw` have not been handed out.
    text: std::ops::Range<usize>,
}

impl Sealed {
    fn new(out: &[u8; 32], back: &[u8; 32]) -> Sealed {
        Sealed {
            seal: Seal::new(out),
            out: Vec::new(),
            flushed: 0,
            unseal: Seal::new(back),
            raw: vec![0; LENGTH + RECORD + TAG],
            came: 0,
            text: 0..0,
        }
    }

    fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while self.flushed < self.out.len() {
            self.flushed += net::send(socket, &self.out[self.flushed..])?;
        }
        self.out.clear();
        self.flushed = 0;
        Ok(())
    }

    fn write(&mut self, socket: &Socket, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(socket)?;
        let mut out = mem::take(&mut self.out);
        out.extend_from_slice(&[0; LENGTH]);
        for piece in pieces {
            let room = LENGTH + RECORD - out.len();
            out.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let taken = out.len() - LENGTH;
        debug_assert!(taken > 0, "nobody writes nothing: an empty record is an error at the other end");
        // At most RECORD.
        let length = (taken as u32).to_le_bytes();
        out[..LENGTH].copy_from_slice(&length);
        let tag = self.seal.close(length, &mut out[LENGTH..])?;
        out.extend_from_slice(&tag);
        self.out = out;
        match self.flush(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            // What did not fit is ours to send: it was taken.
            _ => Ok(taken),
        }
    }

    fn read(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<Got> {
        if self.text.is_empty() && self.next_record(socket)? == 0 {
            return Ok(Got { bytes: 0, more: false });
        }
        let bytes = self.text.len().min(into.len());
        into[..bytes].copy_from_slice(&self.raw[self.text.start..self.text.start + bytes]);
        self.text.start += bytes;
        Ok(Got { bytes, more: true })
    }

    /// Reads until a record with text in it is complete, and opens it. 0 is the end.
    fn next_record(&mut self, socket: &Socket) -> io::Result<usize> {
        // The record that was handed out ends where its tag ends.
        if self.text.end > 0 {
            let used = self.text.end + TAG;
            self.raw.copy_within(used..self.came, 0);
            self.came -= used;
            self.text = 0..0;
        }
        loop {
            if let Some(length) = self.raw[..self.came].first_chunk::<LENGTH>().copied() {
                let text = u32::from_le_bytes(length) as usize;
                if text == 0 || text > RECORD {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a record of impossible length"));
                }
                if self.came >= LENGTH + text + TAG {
                    return self.open(length, text);
                }
            }
            match net::receive(socket, &mut self.raw[self.came..])? {
                0 => return Ok(0),
                more => self.came += more,
            }
        }
    }

    fn open(&mut self, length: [u8; LENGTH], text: usize) -> io::Result<usize> {
        let end = LENGTH + text;
        let (record, after) = self.raw.split_at_mut(end);
        // The caller has seen that the tag is there.
        let tag = *after.first_chunk().expect("a complete record ends with its tag");
        self.unseal.open(length, &mut record[LENGTH..], tag)?;
        self.text = LENGTH..end;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(there: bool) -> (Pipe, Pipe) {
        let (a, b) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let (one, two) = ([1; 32], [2; 32]);
        let keys = there.then_some((&one, &two));
        (Pipe::new(a, keys), Pipe::new(b, keys.map(|(one, two)| (two, one))))
    }

    fn drain(pipe: &mut Pipe, want: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < want {
            let mut some = [0; 1000];
            match pipe.read(&mut some) {
                Ok(got) => all.extend(&some[..got.bytes]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        all
    }

    #[test]
    fn bytes_come_through_as_they_were() {
        for sealed in [false, true] {
            let (mut a, mut b) = pair(sealed);
            let text: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
            let mut sent = 0;
            let mut read: Vec<u8> = Vec::new();
            while read.len() < text.len() {
                if sent < text.len() {
                    match a.write(&[IoSlice::new(&text[sent..]), IoSlice::new(b"")]) {
                        Ok(n) => sent += n,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                }
                let mut some = vec![0; 10_000];
                if let Ok(got) = b.read(&mut some) {
                    read.extend(&some[..got.bytes]);
                }
                if sent == text.len() {
                    // Fails with what is to be tried again.
                    let _ = a.flush();
                }
            }
            assert!(read == text);
        }
    }

    #[test]
    fn nothing_readable_is_on_the_wire() {
        let (mut a, b) = pair(true);
        a.write(&[IoSlice::new(b"the secret recipe")]).unwrap();
        let mut raw = [0; 200];
        let got = net::receive(&b.socket, &mut raw).unwrap();
        assert_eq!(got, LENGTH + 17 + TAG);
        assert!(!raw.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_changed_or_repeated_record_is_an_error() {
        let record = |pipe: &mut Pipe, peer: &Pipe| {
            pipe.write(&[IoSlice::new(b"hello")]).unwrap();
            let mut raw = vec![0; 200];
            let got = net::receive(&peer.socket, &mut raw).unwrap();
            raw.truncate(got);
            raw
        };
        let (mut a, mut b) = pair(true);
        let first = record(&mut a, &b);
        net::send(&a.socket, &first).unwrap();
        assert_eq!(drain(&mut b, 5), b"hello");
        net::send(&a.socket, &first).unwrap();
        assert_eq!(b.read(&mut [0; 10]).err().unwrap().kind(), io::ErrorKind::InvalidData, "repeated");
        for at in 0..first.len() {
            let (mut a, mut b) = pair(true);
            let mut bent = record(&mut a, &b);
            bent[at] ^= 4;
            net::send(&a.socket, &bent).unwrap();
            drop(a);
            let seen = b.read(&mut [0; 10]);
            // A longer length is noticed when the rest does not come.
            assert!(!matches!(seen, Ok(got) if got.bytes > 0), "byte {at}");
        }
    }
}
