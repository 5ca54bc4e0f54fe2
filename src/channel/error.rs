//! Why a message was not sent or received.

use crate::mm::MemError;
use crate::time::Deadline;

/// A refusal of a channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// There is no room, and the caller did not want to wait.
    #[error("the channel is full")]
    Full,
    /// There is no message, and the caller did not want to wait.
    #[error("the channel is empty")]
    Empty,
    /// The caller's time ran out.
    #[error("the time ran out")]
    TimedOut,
    /// Somebody closed the channel.
    #[error("the channel is closed")]
    Closed,
    /// The caller was told to stop waiting.
    #[error("interrupted")]
    Interrupted,
    /// A channel that cannot be made like that.
    #[error("a channel of {capacity} messages with {inline} bytes each in their slots: {why}")]
    Shape {
        /// Messages asked for.
        capacity: usize,
        /// Bytes in a slot asked for.
        inline: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More bytes of a block were to be sent than it has.
    #[error("{used} bytes of a block of {len} cannot be sent")]
    TooLarge {
        /// Bytes to be sent.
        used: usize,
        /// Bytes there are.
        len: usize,
    },
    /// A message whose block was not there. Its slot is free again.
    #[error("message {position} is lost: {source}")]
    Lost {
        /// Which message of the channel.
        position: u64,
        /// What is wrong with the block.
        source: MemError,
    },
    /// Bytes in shared memory that no sender of this build would write.
    #[error("{what} makes no sense: the memory is corrupt")]
    Garbled {
        /// What cannot be read.
        what: &'static str,
    },
    /// A chain has as much in it as it may have.
    #[error(
        "the queue is at its memory limit: asked for {asked} bytes with {in_use} bytes in use of {limit}; take something \
         out, or set a higher `memory_limit`"
    )]
    AtLimit {
        /// Bytes asked for.
        asked: u64,
        /// Bytes in use.
        in_use: u64,
        /// Bytes that may be.
        limit: u64,
    },
    /// A chain has as many pieces as it can have.
    #[error("the queue has {pieces} pieces, which is the most there can be; take something out")]
    TooLong {
        /// How many.
        pieces: u64,
    },
    /// No memory for the message.
    #[error(transparent)]
    Memory(#[from] MemError),
}

impl ChannelError {
    /// What a wait that found nothing says: `at_once` if the caller did not want to wait.
    pub(super) fn late(deadline: Deadline, at_once: ChannelError) -> ChannelError {
        if deadline == Deadline::Now { at_once } else { ChannelError::TimedOut }
    }

    /// Whether waiting, or waiting longer, might have helped.
    pub fn is_timeout(&self) -> bool {
        matches!(self, ChannelError::Full | ChannelError::Empty | ChannelError::TimedOut)
    }
}
