//! What a queue is made of, without its type: a channel if it has a bound, a chain if not.

use std::sync::Arc;

use crate::channel::{Chain, Channel, ChannelError, Letter, Payload, Received};
use crate::error::Error;
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::Mesh;
use crate::mm::{Block, MemError, Memory, Object};
use crate::services::{FarError, FarQueue, NewQueue, WatchedQueue, Why};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until};

/// The shared part of a queue.
#[derive(Clone)]
pub(super) enum Body {
    Bounded(Channel),
    Unbounded(Chain),
    /// Its home is another node.
    Far(Arc<WatchedQueue>),
}

/// Why a queue did not do what it was to do, wherever it is.
#[derive(Debug)]
pub(super) enum Refused {
    Near(ChannelError),
    Far(FarError),
}

impl From<ChannelError> for Refused {
    fn from(error: ChannelError) -> Refused {
        Refused::Near(error)
    }
}

impl From<FarError> for Refused {
    fn from(error: FarError) -> Refused {
        Refused::Far(error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        match refused {
            Refused::Near(error) => error.into(),
            Refused::Far(error) => error.into(),
        }
    }
}

impl Refused {
    /// Nothing could be done now, or in time.
    pub(super) fn is_timeout(&self) -> bool {
        match self {
            Refused::Near(error) => error.is_timeout(),
            Refused::Far(FarError::Refused { why, .. }) => matches!(why, Why::Full | Why::Empty | Why::TimedOut),
            Refused::Far(FarError::Mesh(_)) => false,
        }
    }
}

/// Calls the same method of either.
macro_rules! either {
    ($body:expr, $one:ident => $call:expr, $far:ident => $there:expr) => {
        match $body {
            Body::Bounded($one) => $call,
            Body::Unbounded($one) => $call,
            Body::Far($far) => $there,
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

    /// Opens one whose home is another node.
    pub(super) fn open_far(mesh: &Mesh, home: NodeNumber, id: ObjectId) -> Result<Body, FarError> {
        Ok(Body::Far(WatchedQueue::new(FarQueue::open(mesh.clone(), home, id)?)))
    }

    /// Has another node make one.
    pub(super) fn make_far(mesh: &Mesh, home: NodeNumber, new: &NewQueue) -> Result<Body, FarError> {
        Ok(Body::Far(WatchedQueue::new(FarQueue::make(mesh.clone(), home, new)?)))
    }

    /// What its home calls it.
    pub(super) fn id(&self) -> ObjectId {
        either!(self, one => one.id(), far => far.id())
    }

    /// The node it is on, if that is another.
    pub(super) fn home(&self) -> Option<NodeNumber> {
        match self {
            Body::Far(far) => Some(far.home()),
            _ => None,
        }
    }

    /// The object in this node's memory, if its home is here.
    pub(super) fn object(&self) -> Option<&Object> {
        either!(self, one => Some(one.object()), _far => None)
    }

    pub(super) fn label(&self) -> u64 {
        either!(self, one => one.label(), far => far.label())
    }

    /// About how many there are; none can be seen of a home that is lost.
    pub(super) fn len(&self) -> usize {
        either!(self, one => one.len(), far => far.len().unwrap_or(0))
    }

    /// Most messages at a time, if there is a bound.
    pub(super) fn capacity(&self) -> Option<usize> {
        match self {
            Body::Bounded(channel) => Some(channel.capacity()),
            Body::Unbounded(_) => None,
            Body::Far(far) => far.capacity(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        match self {
            Body::Bounded(channel) => channel.is_full(),
            Body::Unbounded(_) => false,
            Body::Far(far) => far.capacity().is_some_and(|capacity| self.len() >= capacity),
        }
    }

    /// Whether there is something to take, or will never be.
    pub(super) fn is_ready(&self) -> bool {
        either!(self, one => one.is_ready(), far => far.is_ready())
    }

    /// Waits until it is ready, and leaves what it then has to those who take.
    pub(super) fn wait_ready(&self, deadline: Deadline) -> Result<bool, Refused> {
        if let Body::Far(far) = self {
            return Ok(far.poll(deadline)?);
        }
        let ready = || self.is_ready().then_some(());
        let waited = wait_until(self.readers(), &mut Patience::new(), deadline, ready);
        self.readers().notify_one_if(|| self.is_ready());
        Ok(waited.is_ok())
    }

    pub(super) fn readers(&self) -> &WaitCell {
        either!(self, one => one.readers(), far => far.cell())
    }

    pub(super) fn close(&self) -> Result<(), Refused> {
        either!(self, one => one.close(), far => far.close()?);
        Ok(())
    }

    /// A queue whose home is lost takes and gives nothing any more.
    pub(super) fn is_closed(&self) -> bool {
        either!(self, one => one.is_closed(), far => far.is_closed().unwrap_or(true))
    }

    pub(super) fn declare_done(&self) -> Result<Option<bool>, Refused> {
        Ok(either!(self, one => one.declare_done(), far => far.declare_done()?))
    }

    /// None if nobody counts.
    pub(super) fn wait_done(&self, deadline: Deadline) -> Result<Option<()>, Refused> {
        match self {
            Body::Far(far) => Ok(far.wait_done(deadline)?),
            Body::Bounded(channel) => Ok(channel.wait_done(deadline).transpose()?),
            Body::Unbounded(chain) => Ok(chain.wait_done(deadline).transpose()?),
        }
    }

    /// Sends `len` bytes that `fill` writes, and keeps the objects of `cargo` alive until they were received.
    #[inline]
    pub(super) fn send(
        &self,
        len: usize,
        cargo: &[Object],
        deadline: Deadline,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Refused> {
        match self {
            Body::Bounded(channel) => {
                let position = match cargo {
                    [] => channel.send_with(len, deadline, fill)?,
                    cargo => channel.post(&mut Letter::new(len, cargo, fill), deadline)?,
                };
                channel.count_sent(position, len);
            }
            Body::Unbounded(chain) => chain.post(&mut Letter::new(len, cargo, fill))?,
            Body::Far(far) => far.put(len, deadline, fill)?,
        }
        Ok(())
    }

    /// Sends `len` bytes that `fill` writes, if that takes no more than a slot that is free. Whether it did.
    #[inline(always)]
    pub(super) fn send_now(&self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let Body::Bounded(channel) = self else { return false };
        let Some(position) = channel.send_now(len, fill) else { return false };
        channel.count_sent(position, len);
        true
    }

    /// The next message into `take`, if there is one at once where that is soon told.
    #[inline(always)]
    pub(super) fn receive_now<R>(&self, take: impl FnOnce(&[u8]) -> R) -> Option<Result<R, Box<ChannelError>>> {
        match self {
            Body::Bounded(channel) => channel.receive_now(take),
            _ => None,
        }
    }

    /// The longest message that needs no block, if it is on this node.
    pub(super) fn inline(&self) -> Option<usize> {
        either!(self, one => Some(one.inline_capacity()), _far => None)
    }

    /// Sends messages that need no block and hold no handles, as many of `count` as go without waiting. Of message `n`,
    /// `len` says how long it is and `fill` writes it. How many were sent, and why no more, if not for want of room.
    pub(super) fn send_run(
        &self,
        count: usize,
        len: impl Fn(usize) -> usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> (usize, Result<(), Refused>) {
        match self {
            Body::Bounded(channel) => match channel.send_run(count, len, fill) {
                Ok(sent) => (sent, Ok(())),
                Err(error) => (0, Err(error.into())),
            },
            Body::Unbounded(chain) => match chain.send_run(count, len, fill) {
                Ok(sent) => (sent, Ok(())),
                Err((sent, error)) => (sent, Err(error.into())),
            },
            // None of them needs no block: each goes on its own.
            Body::Far(_) => (0, Ok(())),
        }
    }

    /// Receives what is there, at most `most` messages, each into `take`, as long as that says so; it leaves the block that
    /// a message came in.
    pub(super) fn receive_run(
        &self,
        most: usize,
        take: impl FnMut(Payload<'_>, &mut Option<Block>) -> bool,
    ) -> Received {
        either!(self, one => one.receive_run(most, take), _far => Received { taken: 0, error: None })
    }

    /// Receives the next message into `take`, while which it is still in its slot.
    #[inline]
    pub(super) fn receive<R>(&self, deadline: Deadline, take: impl FnOnce(Payload<'_>) -> R) -> Result<R, Refused> {
        Ok(match self {
            Body::Bounded(channel) => channel.receive(deadline, take)?,
            Body::Unbounded(chain) => chain.receive(deadline, take)?,
            Body::Far(far) => take(Payload::Inline(&far.get(deadline)?)),
        })
    }
}
