//! A connection between a rank and the hub after both have proved themselves: messages, each with its proof.
//!
//! ```text
//! u32 length | 32 bytes HMAC(key of the direction, number of the message, SHA-256 of the body) | body
//! ```
//! The number makes a repeated, left out or reordered message a wrong one. The digest of a body that goes to all ranks
//! is made once. A body is read as it comes: what is announced takes no memory before it is there.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use socket2::Socket;

use super::auth::{KEY, SessionKeys, digest, mac, same};
use crate::sys::rendezvous::{self, For};
use crate::time::Deadline;

const HEAD: usize = 4 + KEY;
const STEP: usize = 16 << 10;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Hub,
    Spoke,
}

/// A body to be sent to one or to all, with its digest.
#[derive(Clone)]
pub(super) struct Body {
    bytes: Arc<[u8]>,
    digest: [u8; KEY],
}

impl Body {
    pub(super) fn new(bytes: Vec<u8>) -> Body {
        Body { digest: digest(&bytes), bytes: bytes.into() }
    }
}

/// One direction: its key, and how many messages it has seen.
struct Direction {
    key: [u8; KEY],
    number: u64,
}

impl Direction {
    fn seal(&mut self, digest: &[u8; KEY]) -> [u8; KEY] {
        self.number += 1;
        mac(&self.key, &[&self.number.to_le_bytes(), digest])
    }
}

/// The connection. Its socket never blocks.
pub(super) struct Link {
    socket: Socket,
    outward: Direction,
    inward: Direction,
    unsent: VecDeque<(Vec<u8>, Body, usize)>,
    got: Vec<u8>,
}

impl Link {
    /// Takes over a socket on which the first words have been exchanged.
    pub(super) fn new(socket: Socket, end: End, keys: SessionKeys) -> io::Result<Link> {
        socket.set_nonblocking(true)?;
        let (out, inn) = match end {
            End::Hub => (keys.to_spoke, keys.to_hub),
            End::Spoke => (keys.to_hub, keys.to_spoke),
        };
        let direction = |key| Direction { key, number: 0 };
        Ok(Link { socket, outward: direction(out), inward: direction(inn), unsent: VecDeque::new(), got: Vec::new() })
    }

    /// Whether there is something that has not gone out yet.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Queues a message; [`Link::push`] moves it on.
    pub(super) fn queue(&mut self, body: Body) {
        let mut head = (body.bytes.len() as u32).to_le_bytes().to_vec();
        head.extend(self.outward.seal(&body.digest));
        self.unsent.push_back((head, body, 0));
    }

    /// Sends as much as the socket takes now.
    pub(super) fn push(&mut self) -> io::Result<()> {
        while let Some((head, body, sent)) = self.unsent.front_mut() {
            let rest = if *sent < HEAD { &head[*sent..] } else { &body.bytes[*sent - HEAD..] };
            if !rest.is_empty() {
                match rendezvous::send(&self.socket, rest) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    sent_now => *sent += sent_now?,
                }
            }
            if *sent == HEAD + body.bytes.len() {
                self.unsent.pop_front();
            }
        }
        Ok(())
    }

    /// Reads what has come, up to one message of at most `most` bytes. `None`: not all of it is there yet.
    pub(super) fn pull(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            let missing = match self.announced(most)? {
                Some(length) if self.got.len() == HEAD + length => return self.take().map(Some),
                Some(length) => HEAD + length - self.got.len(),
                None => HEAD - self.got.len(),
            };
            if !self.read_some(missing.min(STEP))? {
                return Ok(None);
            }
        }
    }

    fn announced(&self, most: usize) -> io::Result<Option<usize>> {
        if self.got.len() < HEAD {
            return Ok(None);
        }
        // `first_chunk` is there: there are more bytes than four.
        let length = u32::from_le_bytes(*self.got.first_chunk().unwrap_or(&[0xFF; 4])) as usize;
        if length > most {
            return Err(invalid(format!("a message of {length} bytes where at most {most} make sense")));
        }
        Ok(Some(length))
    }

    /// Reads at most so many bytes. False: there is nothing at this moment.
    fn read_some(&mut self, most: usize) -> io::Result<bool> {
        let before = self.got.len();
        self.got.resize(before + most, 0);
        let read = rendezvous::receive(&self.socket, &mut self.got[before..]);
        self.got.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self) -> io::Result<Vec<u8>> {
        let body = self.got.split_off(HEAD);
        let proof = self.inward.seal(&digest(&body));
        let good = same(&self.got[4..], &proof);
        self.got.clear();
        if good { Ok(body) } else { Err(invalid("a message that its sender did not write".into())) }
    }

    /// Sends all that is queued.
    pub(super) fn flush(&mut self, deadline: Deadline) -> io::Result<()> {
        self.push()?;
        while self.has_unsent() {
            self.wait(For::Writing, deadline)?;
            self.push()?;
        }
        Ok(())
    }

    /// The next message.
    pub(super) fn receive(&mut self, most: usize, deadline: Deadline) -> io::Result<Vec<u8>> {
        loop {
            if let Some(body) = self.pull(most)? {
                return Ok(body);
            }
            self.wait(For::Reading, deadline)?;
        }
    }

    fn wait(&self, what: For, deadline: Deadline) -> io::Result<()> {
        let ready = rendezvous::ready(&[(self.as_fd(), what)], deadline)?;
        if ready[0] { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn keys() -> SessionKeys {
        SessionKeys { to_hub: [1; KEY], to_spoke: [2; KEY] }
    }

    fn pair() -> (Link, Link) {
        let (a, b) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        (Link::new(a, End::Hub, keys()).unwrap(), Link::new(b, End::Spoke, keys()).unwrap())
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    #[test]
    fn messages_arrive_in_order_whatever_their_length() {
        let (mut hub, mut spoke) = pair();
        let bodies: Vec<Vec<u8>> = [0, 1, 100_000, 3].map(|len| vec![len as u8; len]).into();
        let sent = bodies.clone();
        let sender = std::thread::spawn(move || {
            sent.into_iter().for_each(|body| hub.queue(Body::new(body)));
            hub.flush(soon()).unwrap();
            hub
        });
        for body in bodies {
            assert_eq!(spoke.receive(1 << 20, soon()).unwrap(), body);
        }
        drop(sender.join().unwrap());
        assert_eq!(spoke.receive(10, soon()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_message_that_is_too_long_or_not_the_senders_is_refused() {
        let (mut hub, mut spoke) = pair();
        hub.queue(Body::new(vec![0; 100]));
        hub.flush(soon()).unwrap();
        assert_eq!(spoke.receive(99, soon()).unwrap_err().kind(), io::ErrorKind::InvalidData);

        let (hub, mut spoke) = pair();
        let mut forged = 3u32.to_le_bytes().to_vec();
        forged.extend([0; KEY + 3]);
        rendezvous::send(&hub.socket, &forged).unwrap();
        assert_eq!(spoke.receive(99, soon()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_message_that_is_said_again_is_refused() {
        let (mut hub, mut spoke) = pair();
        hub.queue(Body::new(b"once".to_vec()));
        let (head, body, _) = hub.unsent.front().unwrap();
        let again = [&head[..], &body.bytes[..]].concat();
        hub.flush(soon()).unwrap();
        rendezvous::send(&hub.socket, &again).unwrap();
        assert_eq!(spoke.receive(99, soon()).unwrap(), b"once");
        assert_eq!(spoke.receive(99, soon()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn silence_ends_with_the_deadline() {
        let (_hub, mut spoke) = pair();
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(spoke.receive(99, deadline).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
