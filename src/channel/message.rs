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
    /// The block, to be kept until the slot is free. If it went before, and this process died in between, the message
    /// would come again without it.
    #[inline]
    pub(crate) fn into_block(self) -> Option<Block> {
        match self {
            Payload::Inline(_) => None,
            Payload::Block(block) => Some(block),
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

/// A received message.
pub(crate) struct Message(Bytes);

enum Bytes {
    Short(u8, [MaybeUninit<u8>; SHORT]),
    Copied(Box<[u8]>),
    Block(Block),
}

impl Message {
    /// The block the message came in, if it did: to be read, sent on, or kept, without a copy.
    #[cfg(test)]
    pub(crate) fn into_block(self) -> Result<Block, Message> {
        match self.0 {
            Bytes::Block(block) => Ok(block),
            other => Err(Message(other)),
        }
    }
}

impl From<Payload<'_>> for Message {
    #[inline]
    fn from(payload: Payload<'_>) -> Message {
        Message(match payload {
            Payload::Block(block) => Bytes::Block(block),
            Payload::Inline(bytes) if bytes.len() <= SHORT => {
                let mut short = [MaybeUninit::uninit(); SHORT];
                short[..bytes.len()].write_copy_of_slice(bytes);
                Bytes::Short(bytes.len() as u8, short)
            }
            Payload::Inline(bytes) => Bytes::Copied(bytes.into()),
        })
    }
}

impl Deref for Message {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the first `len` bytes were written when the message was made.
            Bytes::Short(len, short) => unsafe { short[..usize::from(*len)].assume_init_ref() },
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
