//! What a queue is made of, without its type: a channel if it has a bound, a chain if not.

use std::sync::Arc;

use crate::channel::{Chain, Channel, ChannelError, Letter, Payload, Received};
use crate::id::ObjectId;
use crate::mm::{Block, MemError, Memory, Object};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until};

/// The shared part of a queue.
#[derive(Clone)]
pub(super) enum Body {
    Bounded(Channel),
    Unbounded(Chain),
}

/// Calls the same method of either.
macro_rules! either {
    ($body:expr, $one:ident => $call:expr) => {
        match $body {
            Body::Bounded($one) => $call,
            Body::Unbounded($one) => $call,
        }
    };
}

impl Body {
    /// Opens whichever it is.
    pub(super) fn open(memory: &Arc<Memory>, id: ObjectId) -> Result<Body, ChannelError> {
        match Channel::open(memory, id) {
            Ok(channel) => Ok(Body::Bounded(channel)),
            Err(ChannelError::Memory(MemError::WrongKind { .. })) => Chain::open(memory, id).map(Body::Unbounded),
            Err(error) => Err(error),
        }
    }

    pub(super) fn object(&self) -> &Object {
        either!(self, one => one.object())
    }

    pub(super) fn label(&self) -> u64 {
        either!(self, one => one.label())
    }

    pub(super) fn len(&self) -> usize {
        either!(self, one => one.len())
    }

    /// Most messages at a time, if there is a bound.
    pub(super) fn capacity(&self) -> Option<usize> {
        match self {
            Body::Bounded(channel) => Some(channel.capacity()),
            Body::Unbounded(_) => None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        match self {
            Body::Bounded(channel) => channel.is_full(),
            Body::Unbounded(_) => false,
        }
    }

    /// Whether there is something to take, or will never be.
    pub(super) fn is_ready(&self) -> bool {
        either!(self, one => one.is_ready())
    }

    /// Waits until it is ready, and leaves what it then has to those who take.
    pub(super) fn wait_ready(&self, deadline: Deadline) -> bool {
        let ready = || self.is_ready().then_some(());
        let waited = wait_until(self.readers(), &mut Patience::new(), deadline, ready);
        self.readers().notify_one_if(|| self.is_ready());
        waited.is_ok()
    }

    pub(super) fn readers(&self) -> &WaitCell {
        either!(self, one => one.readers())
    }

    pub(super) fn close(&self) {
        either!(self, one => one.close());
    }

    pub(super) fn is_closed(&self) -> bool {
        either!(self, one => one.is_closed())
    }

    pub(super) fn declare_done(&self) -> Option<bool> {
        either!(self, one => one.declare_done())
    }

    pub(super) fn wait_done(&self, deadline: Deadline) -> Option<Result<(), ChannelError>> {
        either!(self, one => one.wait_done(deadline))
    }

    /// Sends `len` bytes that `fill` writes, and keeps the objects of `cargo` alive until they were received.
    #[inline]
    pub(super) fn send(
        &self,
        len: usize,
        cargo: &[Object],
        deadline: Deadline,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), ChannelError> {
        match self {
            Body::Bounded(channel) => {
                let sent = match cargo {
                    [] => channel.send_with(len, deadline, fill),
                    cargo => channel.post(&mut Letter::new(len, cargo, fill), deadline),
                };
                sent.map(|position| channel.count_sent(position, len))
            }
            Body::Unbounded(chain) => chain.post(&mut Letter::new(len, cargo, fill)),
        }
    }

    /// The longest message that needs no block.
    pub(super) fn inline(&self) -> usize {
        either!(self, one => one.inline_capacity())
    }

    /// Sends messages that need no block and hold no handles, as many of `count` as go without waiting. Of message `n`,
    /// `len` says how long it is and `fill` writes it. How many were sent, and why no more, if not for want of room.
    pub(super) fn send_run(
        &self,
        count: usize,
        len: impl Fn(usize) -> usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> (usize, Result<(), ChannelError>) {
        match self {
            Body::Bounded(channel) => match channel.send_run(count, len, fill) {
                Ok(sent) => (sent, Ok(())),
                Err(error) => (0, Err(error)),
            },
            Body::Unbounded(chain) => match chain.send_run(count, len, fill) {
                Ok(sent) => (sent, Ok(())),
                Err((sent, error)) => (sent, Err(error)),
            },
        }
    }

    /// Receives what is there, at most `most` messages, each into `take`, as long as that says so; it returns the block that
    /// a message came in.
    pub(super) fn receive_run(&self, most: usize, take: impl FnMut(Payload<'_>) -> (bool, Option<Block>)) -> Received {
        either!(self, one => one.receive_run(most, take))
    }

    /// Receives the next message into `take`, while which it is still in its slot.
    #[inline]
    pub(super) fn receive<R>(
        &self,
        deadline: Deadline,
        take: impl FnOnce(Payload<'_>) -> R,
    ) -> Result<R, ChannelError> {
        either!(self, one => one.receive(deadline, take))
    }
}
