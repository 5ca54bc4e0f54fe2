//! How the pieces of a chain are linked: the words and steps alone, over whatever pieces, so that the model checker runs
//! this very code.
//!
//! ```text
//! word 16   first    number of the oldest piece that may still have messages; pieces count from 1
//!      24   last     number of the newest piece; a hint, behind it is looked for further ones
//!      48   window   1024 links: link n mod 1024 is that of piece n
//!
//! link      63      48 47              16 15          0
//!          | lap      | generation       | place + 1   |    lap = n / 1024 + 1; place 65535: the end, no piece
//! ```
//!
//! Senders send to the last piece. One who finds it full makes a new one, closes the piece, and links the new one behind
//! it: of all who try, one compare-and-swap wins. As nobody sends to a piece before the one ahead of it is
//! closed, messages have one order. Receivers begin at `first` and go on to the next piece when one
//! is closed and drained; a piece is retired when all its messages are *done*, so that one which a dead
//! receiver gives back is found. Closing a chain is linking the end.

use super::ChannelError;
use crate::id::ObjectId;
use crate::prim::{AtomicU64, Ordering};

pub(super) const FIRST: usize = 16;
pub(super) const LAST: usize = 24;
pub(super) const WINDOW: usize = 48;
/// Few under the model checker, so that they come round.
pub(super) const LINKS: u64 = if cfg!(feature = "shuttle") { 4 } else { 1024 };
const THE_END: u64 = 0xFFFF;

/// What stands behind a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing yet; the word that says so.
    Vacant(u64),
    Piece(ObjectId),
    End,
    /// That was long ago.
    Passed,
}

impl Link {
    pub(super) fn read(word: u64, number: u64) -> Link {
        let (lap, place) = (word >> 48, word & 0xFFFF);
        match (lap.wrapping_sub(Self::lap(number)) & 0xFFFF, place) {
            (0, THE_END) => Link::End,
            (0, place) if place > 0 => {
                Link::Piece(ObjectId { index: place as u32 - 1, generation: (word >> 16) as u32 })
            }
            // Half of all laps are behind.
            (behind, _) if behind == 0 || behind >= 0x8000 => Link::Vacant(word),
            _ => Link::Passed,
        }
    }

    fn lap(number: u64) -> u64 {
        (number / LINKS + 1) & 0xFFFF
    }

    fn end(number: u64) -> u64 {
        Self::lap(number) << 48 | THE_END
    }

    fn piece(number: u64, id: ObjectId) -> u64 {
        Self::lap(number) << 48 | u64::from(id.generation) << 16 | u64::from(id.index + 1)
    }
}

/// Who looks for a piece: what each used last it finds without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Sending,
    Receiving,
}

/// Pieces that are linked. What is required is what a piece is; what is provided is how they make a chain.
pub(super) trait Pieces {
    type Piece;

    /// The chain's words.
    fn words(&self) -> &[AtomicU64];

    /// Calls `f` with the piece of this number and name. None if it is gone.
    fn with_piece<R>(
        &self,
        side: Side,
        number: u64,
        id: ObjectId,
        f: impl FnOnce(&Self::Piece) -> R,
    ) -> Result<Option<R>, ChannelError>;

    /// Makes a piece that the chain keeps alive as this number; `ahead` pieces are there before it.
    fn make(&self, number: u64, ahead: u64) -> Result<ObjectId, ChannelError>;

    /// Lets go of a piece that was made and not linked.
    fn unmake(&self, number: u64, id: ObjectId);

    /// Lets nobody send to a piece any more.
    fn shut(&self, piece: &Self::Piece);

    /// Whether all messages of a closed piece are done.
    fn is_done(piece: &Self::Piece) -> bool;

    /// Lets go of a piece that was retired just now. It is done.
    fn retired(&self, number: u64, id: ObjectId);

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words()[at]
    }

    /// SeqCst: pairs with the swaps of both in `extend` and `retire`.
    fn number(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::SeqCst)
    }

    fn link_word(&self, number: u64) -> &AtomicU64 {
        self.word(WINDOW + (number % LINKS) as usize)
    }

    fn link(&self, number: u64) -> Link {
        // SeqCst: pairs with the swaps in `add` and `end`.
        Link::read(self.link_word(number).load(Ordering::SeqCst), number)
    }

    /// Calls `f` with a piece. None if it was retired.
    fn with<R>(&self, side: Side, number: u64, f: impl FnOnce(&Self::Piece) -> R) -> Result<Option<R>, ChannelError> {
        match self.link(number) {
            Link::Piece(id) => self.with_piece(side, number, id, f),
            _ => Ok(None),
        }
    }

    /// Sends by `send` to the last piece; if that is full or closed, to one behind it, which is made if need be.
    fn send_to_last<R>(
        &self,
        mut send: impl FnMut(&Self::Piece) -> Result<R, ChannelError>,
    ) -> Result<R, ChannelError> {
        loop {
            let last = self.number(LAST);
            let sent = if last == 0 { None } else { self.with(Side::Sending, last, &mut send)? };
            match sent {
                Some(Err(ChannelError::Full | ChannelError::Closed)) | None => self.extend(last)?,
                Some(settled) => return settled,
            }
        }
    }

    /// Sees to it that `last` is behind this number.
    fn extend(&self, number: u64) -> Result<(), ChannelError> {
        let next = number + 1;
        loop {
            match self.link(next) {
                Link::Piece(_) => {
                    // SeqCst: pairs with `number`. Failing means that somebody else did it.
                    let _ = self.word(LAST).compare_exchange(number, next, Ordering::SeqCst, Ordering::SeqCst);
                    return Ok(());
                }
                Link::Passed => return Ok(()),
                Link::End => return Err(ChannelError::Closed),
                Link::Vacant(word) => self.add(next, word)?,
            }
        }
    }

    /// Adds piece `next`, unless somebody else does.
    fn add(&self, next: u64, vacant: u64) -> Result<(), ChannelError> {
        let ahead = next - self.number(FIRST).min(next);
        // One link is kept for the end.
        if ahead + 1 >= LINKS {
            return Err(ChannelError::TooLong { pieces: LINKS - 1 });
        }
        let id = self.make(next, ahead)?;
        mark!("channel.chain.held");
        if next > 1
            && let Err(error) = self.with(Side::Sending, next - 1, |piece| self.shut(piece))
        {
            self.unmake(next, id);
            return Err(error);
        }
        mark!("channel.chain.closed");
        // SeqCst: pairs with `link`. Of all who try, one.
        let link = Link::piece(next, id);
        let added = self.link_word(next).compare_exchange(vacant, link, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        mark!("channel.chain.linked");
        if !added {
            self.unmake(next, id);
        }
        Ok(())
    }

    /// Receives by `receive` from the oldest piece that has something. `Empty` or `Closed` says that there is nothing.
    fn receive_from_first<R>(
        &self,
        mut receive: impl FnMut(&Self::Piece) -> Result<R, ChannelError>,
    ) -> Result<R, ChannelError> {
        let mut number = self.number(FIRST);
        loop {
            match self.link(number) {
                Link::Vacant(_) => return Err(ChannelError::Empty),
                Link::Passed => number = self.number(FIRST),
                Link::End => return Err(ChannelError::Closed),
                Link::Piece(id) => match self.with_piece(Side::Receiving, number, id, &mut receive)? {
                    Some(Err(ChannelError::Closed)) => {
                        self.retire(number, id)?;
                        number += 1;
                    }
                    // It was retired, so `first` has moved.
                    None => number = self.number(FIRST).max(number + 1),
                    Some(settled) => return settled,
                },
            }
        }
    }

    /// Lets go of the oldest piece, if all that was in it is done. It is closed and drained.
    fn retire(&self, number: u64, id: ObjectId) -> Result<(), ChannelError> {
        if self.with_piece(Side::Receiving, number, id, Self::is_done)? != Some(true) {
            return Ok(());
        }
        // SeqCst: pairs with `number`. Of all who try, one.
        let first = self.word(FIRST);
        if first.compare_exchange(number, number + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.retired(number, id);
        }
        Ok(())
    }

    /// The numbers of the pieces there are.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        (self.number(FIRST)..).take_while(|&number| matches!(self.link(number), Link::Piece(_)))
    }

    /// Links the end behind the last piece, which it closes.
    fn end(&self) {
        loop {
            let last = self.number(LAST);
            // What cannot be opened was closed and retired.
            let _ = self.with(Side::Sending, last, |piece| self.shut(piece));
            mark!("channel.chain.shut");
            match self.link(last + 1) {
                Link::Vacant(word) => {
                    // SeqCst: pairs with `link`. Failing means that there is one more piece.
                    let end = Link::end(last + 1);
                    let _ = self.link_word(last + 1).compare_exchange(word, end, Ordering::SeqCst, Ordering::SeqCst);
                }
                Link::End => break,
                // Moves `last`, and cannot fail then.
                Link::Piece(_) | Link::Passed => drop(self.extend(last)),
            }
        }
        mark!("channel.chain.ended");
    }

    /// Whether the end is linked.
    fn is_ended(&self) -> bool {
        let behind = self.numbers().last().unwrap_or_else(|| self.number(FIRST) - 1);
        self.link(behind + 1) == Link::End
    }
}
