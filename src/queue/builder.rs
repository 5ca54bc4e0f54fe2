//! How a queue is put together.

use std::marker::PhantomData;

use super::Queue;
use super::body::Body;
use super::handle::label;
use crate::channel::{Chain, Channel};
use crate::codec::{Codec, Postcard};
use crate::error::{Error, ErrorKind, Result};
use crate::names;
use crate::policy::Policy;
use crate::runtime;
use crate::runtime::{Core, NodeId};
use crate::services::NewQueue;

/// Bytes in a slot where messages are of different lengths: two cache lines with their heads.
const INLINE: usize = 112;
/// Messages of one length travel in their slot up to this length.
const INLINE_MOST: usize = 1024;
/// Most bytes for all slots that a default gives.
const SLOTS_MOST: usize = 64 << 20;

/// Settings of a [`Queue`].
///
/// ```
/// # let _dragon = dragon::init()?;
/// let queue = dragon::Queue::<String>::builder().capacity(100).name("lines").joinable().build()?;
/// assert_eq!(queue.capacity(), Some(100));
/// # Ok::<(), dragon::Error>(())
/// ```
#[must_use]
pub struct QueueBuilder<T, C = Postcard> {
    capacity: Option<usize>,
    inline: Option<usize>,
    memory_limit: Option<u64>,
    name: Option<String>,
    node: Option<NodeId>,
    policy: Policy,
    joinable: bool,
    types: PhantomData<fn(T, C) -> T>,
}

impl<T, C: Codec<T>> QueueBuilder<T, C> {
    pub(super) fn new() -> QueueBuilder<T, C> {
        QueueBuilder {
            capacity: None,
            inline: None,
            memory_limit: None,
            name: None,
            node: None,
            policy: Policy::new(),
            joinable: false,
            types: PhantomData,
        }
    }

    /// How many messages fit, exactly. Without it the queue is unbounded.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Messages of up to so many encoded bytes travel in the queue's own memory; longer ones each in a block of their
    /// own, which takes about 0.1 µs more. Default: the length of a message if all have the same and it is at
    /// most 1 KiB, otherwise 112.
    pub fn inline(mut self, bytes: usize) -> Self {
        self.inline = Some(bytes);
        self
    }

    /// Of an unbounded queue: at most so many bytes of shared memory. Default: what the job may have.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// A name for [`Queue::open`]: 1 to 112 bytes that no other object of the job has. It goes with the queue.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The node whose memory it shall be in, whatever a policy says. Default: this process's.
    pub fn node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// Where it shall be: the first node on which the policy, completed by that of the [scope](Policy::scope), places something.
    /// Without a node or a host in it, that is this process's. Its cpus and GPUs do not matter here.
    ///
    /// ```
    /// let dragon = dragon::init()?;
    /// let policy = dragon::Policy::new().node(dragon.node());
    /// let queue = dragon::Queue::<u64>::builder().capacity(8).policy(policy).build()?;
    /// assert_eq!(queue.node(), dragon.node());
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Counts messages that were taken out and not declared [done](Queue::task_done), for [`Queue::join`].
    pub fn joinable(mut self) -> Self {
        self.joinable = true;
        self
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a capacity of 0 or above 16 million, slots above 1 MiB, a memory
    /// limit without need or below 64 KiB, a name of no or too many bytes, a node or host that is not there;
    /// [`Exists`](ErrorKind::Exists) if the name is taken; [`NotInitialized`](ErrorKind::NotInitialized),
    /// [`OutOfMemory`](ErrorKind::OutOfMemory), [`ResourceLimit`](ErrorKind::ResourceLimit) for the 32,769th object.
    pub fn build(self) -> Result<Queue<T, C>> {
        let refused = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
        if self.capacity == Some(0) {
            return refused("a queue holds at least one message, not 0; `Queue::unbounded` has no bound".into());
        }
        if self.capacity.is_some() && self.memory_limit.is_some() {
            return refused("a bounded queue has no `memory_limit`: its `capacity` is its bound".into());
        }
        if self.memory_limit.is_some_and(|limit| limit < 64 << 10) {
            return refused("a `memory_limit` below 64 KiB leaves no room for a message".into());
        }
        let core = runtime::current()?;
        let node = match self.node {
            Some(node) => node,
            None => core.home(&self.policy)?,
        };
        if node.number() != core.place().node() {
            let body = self.make_far(&core, node)?;
            return Ok(Queue { body, core, types: PhantomData });
        }
        let (memory, inline) = (core.memory(), self.inline_bytes());
        let label = label::<T, C>();
        let body = match self.capacity {
            Some(capacity) => Body::Bounded(Channel::create_for(memory, capacity, inline, label, self.joinable)?),
            None => {
                let limit = self.memory_limit.unwrap_or(u64::MAX);
                Body::Unbounded(Chain::create(memory, inline, limit, label, self.joinable)?)
            }
        };
        if let Some(name) = &self.name {
            names::give(memory, name, body.id())?;
            if let Some(names) = core.names()? {
                names.give(name, body.id())?;
            }
        }
        Ok(Queue { body, core, types: PhantomData })
    }

    fn make_far(&self, core: &Core, node: NodeId) -> Result<Body> {
        let none = || Error::new(ErrorKind::InvalidArgument, format!("there is no {node}"));
        let mesh = core.mesh()?.filter(|_| node.number() < core.place().nodes()).ok_or_else(none)?;
        let new = NewQueue {
            capacity: self.capacity,
            inline: self.inline_bytes(),
            limit: self.memory_limit.unwrap_or(u64::MAX),
            label: label::<T, C>(),
            joinable: self.joinable,
            name: self.name.clone(),
        };
        Ok(Body::make_far(mesh, node.number(), &new)?)
    }

    fn inline_bytes(&self) -> usize {
        let most = INLINE_MOST.min(SLOTS_MOST / self.capacity.unwrap_or(1).max(1));
        let fitting = C::width().filter(|width| *width <= most);
        self.inline.or(fitting).unwrap_or(INLINE)
    }
}

impl<T, C> std::fmt::Debug for QueueBuilder<T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { capacity, name, joinable, .. } = self;
        write!(f, "QueueBuilder {{ capacity: {capacity:?}, name: {name:?}, joinable: {joinable} }}")
    }
}
