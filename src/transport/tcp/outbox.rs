//! What a lane has to say: bytes and blocks in the order they were given, kept until the other side has them.
//!
//! A position is a number of bytes from the beginning of the stream. `base ≤ sent ≤ end`: what is before `base`
//! has arrived, what is before `sent` was given to a connection. A new connection goes on where the other side
//! says that it stands, so nothing is lost and nothing comes twice.

use std::{collections::VecDeque, io::IoSlice};

use super::frame::Garbled;
use crate::transport::{Bulk, Token};

/// Bytes that small messages are gathered in.
const CHUNK: usize = 64 << 10;

/// Pieces that one write takes.
pub(super) const PIECES: usize = 16;

/// Bytes that one call gives to the kernel at most: with more the reader waits too long for the first of them.
const CALL_MOST: usize = 512 << 10;

/// Bytes that are given in a row at most, so that the engine is not held for long.
pub(super) const WRITE_MOST: u64 = 1 << 20;

enum Piece {
    Bytes(Vec<u8>),
    Bulk(Bulk),
}

impl Piece {
    fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Bulk(bulk) => &bulk.block.bytes()[..bulk.len],
        }
    }

    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }
}

/// An operation that somebody wants to hear of, by where its bytes end.
struct Ending {
    at: u64,
    token: Token,
    refused: bool,
}

/// The sending half of a lane's stream.
#[derive(Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Position of the first byte of the first piece; at most `base`.
    start: u64,
    base: u64,
    sent: u64,
    end: u64,
    /// The piece with the first byte that was not sent, and where it starts.
    next: usize,
    next_start: u64,
    endings: VecDeque<Ending>,
    /// An empty chunk to be used again.
    spare: Option<Vec<u8>>,
}

impl Outbox {
    /// Where the stream ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that have not arrived as far as we know.
    #[inline]
    pub(super) fn kept(&self) -> u64 {
        self.end - self.base
    }

    /// Bytes that were given to a connection.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that were not given to a connection.
    #[inline]
    pub(super) fn unsent(&self) -> u64 {
        self.end - self.sent
    }

    /// Appends bytes: parts of one frame, in order.
    #[inline]
    pub(super) fn push(&mut self, parts: [&[u8]; 3], token: Token) {
        let len = parts.iter().map(|part| part.len()).sum();
        let chunk = self.chunk(len);
        parts.iter().for_each(|part| chunk.extend_from_slice(part));
        self.end += len as u64;
        self.note(token);
    }

    /// Appends a body that stays where it is.
    pub(super) fn push_bulk(&mut self, parts: [&[u8]; 3], body: Bulk, token: Token) {
        self.push(parts, Token::NONE);
        if body.len > 0 {
            self.end += body.len as u64;
            self.pieces.push_back(Piece::Bulk(body));
        }
        self.note(token);
    }

    fn note(&mut self, token: Token) {
        if token != Token::NONE {
            self.endings.push_back(Ending { at: self.end, token, refused: false });
        }
    }

    /// The chunk that takes the next bytes.
    #[inline]
    fn chunk(&mut self, len: usize) -> &mut Vec<u8> {
        let has_room = matches!(self.pieces.back(), Some(Piece::Bytes(bytes)) if bytes.len() + len <= CHUNK);
        if !has_room {
            let mut fresh = self.spare.take().unwrap_or_default();
            fresh.reserve(len);
            self.pieces.push_back(Piece::Bytes(fresh));
        }
        match self.pieces.back_mut() {
            Some(Piece::Bytes(bytes)) => bytes,
            // Either it was one with room, or one has just been put there.
            _ => unreachable!("the last piece is bytes"),
        }
    }

    /// What is to be sent next, if all of it is in one place that may be given to the kernel at once.
    #[inline]
    pub(super) fn next_piece(&self) -> Option<&[u8]> {
        match self.pieces.get(self.next)? {
            Piece::Bytes(bytes) if self.next + 1 == self.pieces.len() => {
                Some(&bytes[(self.sent - self.next_start) as usize..])
            }
            _ => None,
        }
    }

    /// What is to be sent next. Returns how many of the slices were set.
    pub(super) fn next_pieces<'a>(&'a self, into: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut used = 0;
        let mut room = CALL_MOST;
        let mut skip = (self.sent - self.next_start) as usize;
        for piece in self.pieces.range(self.next.min(self.pieces.len())..) {
            let bytes = &piece.as_slice()[skip..];
            skip = 0;
            if bytes.is_empty() {
                continue;
            }
            if used == PIECES || room == 0 {
                break;
            }
            let bytes = &bytes[..bytes.len().min(room)];
            into[used] = IoSlice::new(bytes);
            room -= bytes.len();
            used += 1;
        }
        used
    }

    /// So many bytes more were given to the connection.
    #[inline]
    pub(super) fn advance(&mut self, by: usize) {
        self.sent += by as u64;
        debug_assert!(self.sent <= self.end, "no more was sent than there is");
        self.seek();
    }

    /// Makes `next` the piece that `sent` is in. The last piece stays `next` when all was sent: it may grow.
    fn seek(&mut self) {
        while self.next + 1 < self.pieces.len() && self.next_start + self.pieces[self.next].len() <= self.sent {
            self.next_start += self.pieces[self.next].len();
            self.next += 1;
        }
    }

    /// The other side has everything before this position. Tells what thereby has ended, and whether well.
    #[inline]
    pub(super) fn arrived(&mut self, at: u64, mut ended: impl FnMut(Token, bool)) -> Result<(), Garbled> {
        if at <= self.base {
            return Ok(());
        }
        if at > self.sent {
            return Err(Garbled("it has received more than was sent"));
        }
        self.base = at;
        while let Some(ending) = self.endings.pop_front_if(|ending| ending.at <= at) {
            ended(ending.token, !ending.refused);
        }
        if at == self.end {
            self.clear()
        } else {
            self.drop_arrived()
        }
        Ok(())
    }

    /// Everything has arrived: one chunk is kept, warm, for what comes next.
    fn clear(&mut self) {
        while self.pieces.len() > 1 {
            self.drop_first();
        }
        match self.pieces.front_mut() {
            Some(Piece::Bytes(bytes)) if bytes.capacity() <= 2 * CHUNK => bytes.clear(),
            _ => self.pieces.clear(),
        }
        (self.start, self.next, self.next_start) = (self.end, 0, self.end);
    }

    fn drop_arrived(&mut self) {
        while self.pieces.front().is_some_and(|piece| self.start + piece.len() <= self.base) {
            self.start += self.pieces[0].len();
            self.drop_first();
            if self.next == 0 {
                self.next_start = self.start;
            } else {
                self.next -= 1;
            }
        }
    }

    fn drop_first(&mut self) {
        if let Some(Piece::Bytes(mut bytes)) = self.pieces.pop_front()
            && bytes.capacity() <= 2 * CHUNK
        {
            bytes.clear();
            self.spare = Some(bytes);
        }
    }

    /// The large message that ends there was refused.
    pub(super) fn refused(&mut self, at: u64) {
        if let Ok(found) = self.endings.binary_search_by_key(&at, |ending| ending.at) {
            self.endings[found].refused = true;
        }
    }

    /// A new connection: the other side has everything before this position and nothing else. Returns how much of
    /// what was sent is to be sent again.
    pub(super) fn resume(&mut self, at: u64) -> Result<u64, Garbled> {
        if at < self.base || at > self.sent {
            return Err(Garbled("it stands where it cannot stand"));
        }
        let again = self.sent - at;
        self.sent = at;
        (self.next, self.next_start) = (0, self.start);
        self.seek();
        Ok(again)
    }

    /// Gives up: everything is dropped, and the tokens of what did not arrive come out.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Token> + use<> {
        std::mem::take(self).endings.into_iter().map(|ending| ending.token)
    }
}

#[cfg(test)]
mod tests;
