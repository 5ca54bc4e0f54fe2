//! A channel: a queue of messages between all processes of a node, which no death breaks.
//!
//! It is a ring (`crate::ring`) with a place to sleep for those who wait for messages and one for those who wait
//! for room (`crate::wait`), in the block of a shared object (`crate::mm`). A short message lies in its slot. A longer
//! one lies in a block, whose handle lies in the slot: the block stays the sender's until the receiver has
//! taken it over, which it does before it frees the slot, so that at every moment somebody can be found to
//! whom it belongs. Whoever had a block to begin with sends it without a copy.
//!
//! What a death leaves, [`repair`] mends. A message is lost only if its receiver died after it had freed the
//! slot; it comes again if the receiver died before.

mod batch;
mod cargo;
mod chain;
#[cfg(all(test, feature = "shuttle"))]
mod chain_model;
mod error;
mod figures;
mod layout;
#[cfg(all(test, feature = "shuttle"))]
mod linear;
mod links;
mod message;
#[cfg(all(test, feature = "shuttle"))]
mod model;
mod pipe;
mod receive;
mod repair;
mod send;
mod tally;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;

pub(crate) use batch::Received;
pub(crate) use cargo::{Load, bury, gather, let_go};
pub(crate) use chain::Chain;
pub use error::ChannelError;
pub(crate) use figures::{figures, pieces};
pub(crate) use message::{Message, Payload};
pub(crate) use repair::{Repairs, repair};
pub(crate) use send::Letter;

use std::{cell::Cell, sync::Arc};

use crate::id::{ObjectId, ProcId};
use crate::mm::{Block, Kind, Memory, Object};
use crate::ring::{Mapped, Ring};
use crate::time::Deadline;
use crate::wait::{Patience, TimedOut, WaitCell, wait_until};
use layout::{Layout, Shared};
use pipe::Pipe;
use tally::{Freeing, Tally};

/// A channel as this process has it open. Clones are the same channel; the last to be dropped, in
/// whichever process, frees it with all that is still in it.
#[derive(Clone)]
pub(crate) struct Channel(Arc<Inner>);

struct Inner {
    ring: Ring<Mapped>,
    shared: Shared,
    inline: usize,
    /// Bytes that a message usually has: `figures.rs`.
    usual: u64,
    label: u64,
    /// Where the tally begins in the object's words, if there is one.
    tally: Option<usize>,
    me: ProcId,
    /// `Some` until it is dropped. Last, since the others point into it.
    object: Option<Object>,
}

impl Channel {
    /// A new channel for `capacity` messages (rounded up to a power of two), that carries messages of up to `inline`
    /// bytes without a block (rounded up to whole cache lines).
    pub(crate) fn create(memory: &Arc<Memory>, capacity: usize, inline: usize) -> Result<Channel, ChannelError> {
        // What is no capacity stays none.
        let rounded = capacity.max(1).checked_next_power_of_two().filter(|_| capacity > 0).unwrap_or(capacity);
        Channel::create_for(memory, rounded, inline, 0, false)
    }

    /// A new channel for exactly `capacity` messages, which is for what `label` says, with a tally or without.
    pub(crate) fn create_for(
        memory: &Arc<Memory>,
        capacity: usize,
        inline: usize,
        label: u64,
        tallied: bool,
    ) -> Result<Channel, ChannelError> {
        let layout = Layout::new(capacity, inline)?.labelled(label).tallied(tallied);
        let block = memory.alloc(layout.bytes())?;
        // SAFETY: the block has that many bytes, aligned to a cache line, and nobody else knows it.
        unsafe { layout.initialise(block.ptr()) };
        mark!("channel.create.initialised");
        let object = memory.create_object(Kind::Channel, block)?;
        Ok(Channel::over(object, layout))
    }

    /// Opens a channel that some process has open.
    pub(crate) fn open(memory: &Arc<Memory>, id: ObjectId) -> Result<Channel, ChannelError> {
        let object = memory.open_object(id, Kind::Channel)?;
        // SAFETY: the object has that many bytes, aligned to a cache line.
        let layout = unsafe { Layout::read(object.ptr(), object.len()) };
        match layout {
            Some(layout) => Ok(Channel::over(object, layout)),
            None => Err(ChannelError::Garbled { what: "the channel itself" }),
        }
    }

    fn over(object: Object, layout: Layout) -> Channel {
        // SAFETY: `layout` fits the object, which stays mapped as long as `Inner` holds it.
        let (ring, shared) = unsafe { layout.parts(object.ptr()) };
        let me = object.memory().me();
        Channel(Arc::new(Inner {
            ring,
            shared,
            inline: layout.inline(),
            usual: layout.usual(),
            label: layout.label(),
            tally: layout.tally(),
            me,
            object: Some(object),
        }))
    }

    /// The object of shared memory that it is.
    pub(crate) fn object(&self) -> &Object {
        // It is taken out when the last clone is dropped, and this is one.
        self.0.object.as_ref().expect("held until dropped")
    }

    fn memory(&self) -> &Arc<Memory> {
        self.object().memory()
    }

    #[inline]
    fn pipe(&self) -> Pipe<'_, Mapped> {
        let inner = &*self.0;
        Pipe {
            ring: &inner.ring,
            readers: inner.shared.readers(),
            writers: inner.shared.writers(),
            closed: inner.shared.closed(),
            me: inner.me,
        }
    }

    /// Whether the message at a position is done for ever: received, or void.
    pub(crate) fn is_over(&self, position: u64) -> bool {
        self.0.ring.is_over(position)
    }

    /// The name under which other processes open it.
    pub(crate) fn id(&self) -> ObjectId {
        self.object().id()
    }

    /// What it is for.
    pub(crate) fn label(&self) -> u64 {
        self.0.label
    }

    /// How many messages fit.
    pub(crate) fn capacity(&self) -> usize {
        self.0.ring.limit() as usize
    }

    #[inline]
    fn tally(&self) -> Option<Tally<'_>> {
        self.0.tally.map(|at| Tally::in_words(&self.object().words()[at..]))
    }

    /// Before a slot is freed, to be dropped after it.
    #[inline]
    fn freeing(&self) -> Option<Freeing<'_, impl Fn() -> bool>> {
        self.tally().map(|tally| tally.freeing(|| self.0.ring.all_done()))
    }

    /// Declares a message done that was taken out. False if there is none that could be; none if nobody counts.
    pub(crate) fn declare_done(&self) -> Option<bool> {
        self.tally().map(|tally| tally.declare(self.0.me, || self.0.ring.all_done()))
    }

    /// Waits until every message was taken out and declared done; none if nobody counts.
    pub(crate) fn wait_done(&self, deadline: Deadline) -> Option<Result<(), ChannelError>> {
        self.tally().map(|tally| tally.wait(deadline, || self.0.ring.all_done()))
    }

    /// Where those sleep who wait for messages.
    pub(crate) fn readers(&self) -> &WaitCell {
        self.0.shared.readers()
    }

    /// Whether there is something to receive, or will never be.
    pub(crate) fn is_ready(&self) -> bool {
        let pipe = self.pipe();
        pipe.ring.readable() || pipe.is_closed()
    }

    /// About how many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.0.ring.len() as usize
    }

    /// Whether there is nothing to receive just now.
    pub(crate) fn is_empty(&self) -> bool {
        !self.0.ring.readable()
    }

    /// Whether there is no room just now.
    pub(crate) fn is_full(&self) -> bool {
        !self.0.ring.writable()
    }

    /// The longest message that needs no block.
    pub(crate) fn inline_capacity(&self) -> usize {
        self.0.inline
    }

    /// A block to be filled and sent without a copy.
    pub(crate) fn loan(&self, len: usize) -> Result<Block, ChannelError> {
        Ok(self.memory().alloc(len)?)
    }

    /// No more messages: sends fail from now on, receivers get what is there and then fail too.
    pub(crate) fn close(&self) {
        self.pipe().close();
    }

    /// Whether somebody closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.pipe().is_closed()
    }

    /// Wakes all who wait, so that they look at what they wait for, and at their `stop`, again.
    pub(crate) fn poke(&self) {
        self.pipe().poke();
    }

    /// Waits until there is something to receive, or will never be. Somebody else may be faster to take it, or it may
    /// turn out to be what a dead sender left.
    pub(crate) fn wait_readable(&self, deadline: Deadline) -> Result<(), ChannelError> {
        let pipe = self.pipe();
        let ready = || (pipe.ring.readable() || pipe.is_closed()).then_some(());
        let waited = patiently(|patience| wait_until(pipe.readers, patience, deadline, ready));
        // Who only looks must leave the wake-up to one who takes.
        pipe.readers.notify_one_if(|| pipe.ring.readable());
        waited.map_err(|TimedOut| ChannelError::late(deadline, ChannelError::Empty))
    }

    /// Waits until there is room, or will never be. Somebody else may be faster to take it.
    pub(crate) fn wait_writable(&self, deadline: Deadline) -> Result<(), ChannelError> {
        let pipe = self.pipe();
        let ready = || (pipe.ring.writable() || pipe.is_closed()).then_some(());
        let waited = patiently(|patience| wait_until(pipe.writers, patience, deadline, ready));
        pipe.writers.notify_one_if(|| pipe.ring.writable());
        waited.map_err(|TimedOut| ChannelError::late(deadline, ChannelError::Full))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(remains) = self.object.take().and_then(Object::release) {
            cargo::bury(remains);
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Channel").field(&self.id()).finish()
    }
}

/// Waits with what this thread has learnt about waiting in earlier calls.
fn patiently<R>(wait: impl FnOnce(&mut Patience) -> R) -> R {
    thread_local! {
        static LEARNT: Cell<Option<Patience>> = const { Cell::new(None) };
    }
    let mut patience = LEARNT.get().unwrap_or_else(Patience::new);
    let result = wait(&mut patience);
    LEARNT.set(Some(patience));
    result
}
