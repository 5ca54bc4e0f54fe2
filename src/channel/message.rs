//! What a receiver gets: the bytes of a message, wherever they are.

use std::{fmt, mem::MaybeUninit, ops::Deref};

use crate::mm::Block;

/// A message that is still in its slot.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    /// A short one: bytes of the slot.
    Inline(&'a [u8]),
    /// A long one, or one that was sent as a block: the receiver's own by now.
    Block(Block),
}

impl Payload<'_> {
    /// Leaves the block, if there is one, to be kept until the slot is free. If it went before, and this process died in
    /// between, the message would come again without it.
    #[inline]
    pub(crate) fn leave_block(self, kept: &mut Option<Block>) {
        if let Payload::Block(block) = self {
            *kept = Some(block);
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Payload::Inline(bytes) => bytes,
            Payload::Block(block) => block.as_slice(),
        }
    }
}

/// Short messages are copied to the receiver's stack: two cache lines less what a slot needs for itself.
const SHORT: usize = 112;
/// And one cache line less that.
const SHORTER: usize = 48;

/// A received message.
pub(crate) struct Message(Bytes);

enum Bytes {
    Short(usize, Short),
    Copied(Box<[u8]>),
    Block(Block),
}

/// Aligned, so that a message that is handed on is moved in large pieces.
#[repr(align(16))]
struct Short([MaybeUninit<u8>; SHORT]);

impl Short {
    /// A copy of the first `len` bytes, at most as many as fit, and of what lies behind them: of a fixed size each time,
    /// which is faster than as many as there are.
    #[inline]
    fn copy(space: &[u8], len: usize) -> Short {
        let mut short = [MaybeUninit::uninit(); SHORT];
        match (space.first_chunk::<SHORT>(), space.first_chunk::<SHORTER>()) {
            (_, Some(bytes)) if len <= SHORTER => {
                short[..SHORTER].write_copy_of_slice(bytes);
            }
            (Some(bytes), _) => {
                short.write_copy_of_slice(bytes);
            }
            _ => {
                short[..len].write_copy_of_slice(&space[..len]);
            }
        }
        Short(short)
    }
}

impl Message {
    /// A copy of the first `len` bytes of a slot's space.
    #[inline]
    pub(super) fn copy(space: &[u8], len: usize) -> Message {
        Message(if len <= SHORT {
            Bytes::Short(len, Short::copy(space, len))
        } else {
            Bytes::Copied(space[..len].into())
        })
    }

    /// The block the message came in, if it did: to be read, sent on, or kept, without a copy.
    pub(crate) fn into_block(self) -> Result<Block, Box<Message>> {
        match self.0 {
            Bytes::Block(block) => Ok(block),
            other => Err(Box::new(Message(other))),
        }
    }
}

impl From<Payload<'_>> for Message {
    fn from(payload: Payload<'_>) -> Message {
        match payload {
            Payload::Inline(bytes) => Message::copy(bytes, bytes.len()),
            Payload::Block(block) => Message::from(block),
        }
    }
}

impl From<Block> for Message {
    #[inline]
    fn from(block: Block) -> Message {
        Message(Bytes::Block(block))
    }
}

impl Deref for Message {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the first `len` bytes were written when the message was made.
            Bytes::Short(len, short) => unsafe { short.0[..*len].assume_init_ref() },
            Bytes::Copied(bytes) => bytes,
            Bytes::Block(block) => block.as_slice(),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.0 {
            Bytes::Block(_) => "block",
            _ => "inline",
        };
        write!(f, "Message({} bytes, {place})", self.len())
    }
}
