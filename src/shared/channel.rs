//! Bytes between the processes of a node: the public face of [`crate::channel`].

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::channel::{self, ChannelError};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh;
use crate::mm;
use crate::mm::Block;
use crate::runtime::{self, Core, NodeId};
use crate::select::{Door, Ready, Source};
use crate::services::{FarQueue, WatchedQueue};
use crate::time::Deadline;

/// A bounded queue of byte messages between the processes of a job: any number may send and receive.
///
/// Short messages travel in the ring itself; longer ones in a block of shared memory that the receiver
/// reads in place; a [`loan`](Channel::loan) is filled in place too and is never copied. Messages of one
/// sender arrive in their order, each at one receiver.
///
/// **Other nodes.** The channel lies in the memory of the node that made it. A process of another node that has a handle
/// uses it by calls to that node, in which the bytes are copied, those of a loan too; if the node is lost they
/// fail with [`NodeLost`](ErrorKind::NodeLost).
///
/// A handle is a value: clone it, or put it into the argument of a task, and it is the same channel
/// there. A handle in a task or in a message of a [`Queue`](crate::Queue) counts until it has been taken out; one that
/// you wrote as bytes yourself does not. When the last handle is gone (a killed process counts as letting go)
/// so is the channel. A process that dies while it sends has not sent; one that dies while it receives leaves
/// the message to others.
///
/// ```
/// let _dragon = dragon::init()?;
/// let there = dragon::Channel::create(8, 64)?;
/// let back = dragon::Channel::create(8, 64)?;
/// let pool = dragon::Pool::new(1)?;
/// let task = pool.submit(
///     |(there, back): (dragon::Channel, dragon::Channel)| {
///         let mut bytes = there.recv().unwrap().to_vec();
///         bytes.reverse();
///         back.send(&bytes).unwrap();
///     },
///     (there.clone(), back.clone()),
/// )?;
/// there.send(b"abc")?;
/// assert_eq!(&*back.recv()?, b"cba");
/// task.get()?;
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone)]
pub struct Channel {
    body: Body,
    core: Arc<Core>,
}

#[derive(Clone)]
enum Body {
    Near(channel::Channel),
    /// Its home is another node.
    Far(Arc<WatchedQueue>),
}

impl Channel {
    /// A channel for `capacity` messages (rounded up to a power of two), of which `inline` bytes each travel
    /// in the ring itself (rounded up to what fills its cache lines).
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a capacity of 0,
    /// [`NotInitialized`](ErrorKind::NotInitialized), [`OutOfMemory`](ErrorKind::OutOfMemory).
    pub fn create(capacity: usize, inline: usize) -> Result<Channel> {
        if capacity == 0 {
            return Err(Error::new(ErrorKind::InvalidArgument, "a channel holds at least one message, not 0"));
        }
        let core = runtime::current()?;
        Ok(Channel { body: Body::Near(channel::Channel::create(core.memory(), capacity, inline)?), core })
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed); [`OutOfMemory`](ErrorKind::OutOfMemory) for a message that needs a block.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.send_by(message, Deadline::Never)
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// [`Full`](ErrorKind::Full), and those of [`send`](Channel::send).
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        self.send_by(message, Deadline::Now)
    }

    /// Sends a message, waiting for room at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`send`](Channel::send).
    pub fn send_timeout(&self, message: &[u8], patience: Duration) -> Result<()> {
        self.send_by(message, Deadline::after(patience))
    }

    fn send_by(&self, message: &[u8], deadline: Deadline) -> Result<()> {
        match &self.body {
            Body::Near(channel) => {
                let position = channel.send(message, deadline)?;
                channel.count_sent(position, message.len());
            }
            Body::Far(far) => far.put(message.len(), deadline, |space| space.copy_from_slice(message))?,
        }
        Ok(())
    }

    /// Memory for a message of `length` bytes, to be filled in place and sent without a copy.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let channel = dragon::Channel::create(2, 64)?;
    /// let mut loan = channel.loan(1 << 20)?;
    /// loan.fill(7);
    /// channel.send_loan(loan).map_err(|(error, _loan)| error)?;
    /// let message = channel.recv()?;
    /// assert!(message.len() == 1 << 20 && message.iter().all(|&byte| byte == 7));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfMemory`](ErrorKind::OutOfMemory).
    pub fn loan(&self, length: usize) -> Result<Loan> {
        Ok(Loan(match &self.body {
            Body::Near(channel) => channel.loan(length)?,
            Body::Far(_) => self.core.memory().alloc(length)?,
        }))
    }

    /// Sends what was loaned, waiting for room. The bytes stay where they are.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), with the loan.
    pub fn send_loan(&self, loan: Loan) -> std::result::Result<(), (Error, Loan)> {
        match &self.body {
            Body::Near(channel) => {
                let length = loan.0.len();
                let sent = channel.send_block(loan.0, length, Deadline::Never);
                let position = sent.map_err(|(error, block)| (error.into(), Loan(block)))?;
                channel.count_sent(position, length);
                Ok(())
            }
            Body::Far(far) => {
                let sent = far.put(loan.len(), Deadline::Never, |space| space.copy_from_slice(&loan));
                sent.map_err(|error| (error.into(), loan))
            }
        }
    }

    /// Receives a message, waiting for one.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once a closed channel is empty.
    pub fn recv(&self) -> Result<Received> {
        self.recv_by(Deadline::Never)
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    /// [`Empty`](ErrorKind::Empty), and those of [`recv`](Channel::recv).
    pub fn try_recv(&self) -> Result<Received> {
        self.recv_by(Deadline::Now)
    }

    /// Receives a message, waiting for one at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`recv`](Channel::recv).
    pub fn recv_timeout(&self, patience: Duration) -> Result<Received> {
        self.recv_by(Deadline::after(patience))
    }

    fn recv_by(&self, deadline: Deadline) -> Result<Received> {
        Ok(Received(match &self.body {
            Body::Near(channel) => Message::Near(channel.recv(deadline)?),
            Body::Far(far) => Message::Far(far.get(deadline)?),
        }))
    }

    /// Waits at most this long until there is a message; whether there is. It may be another's before it is yours.
    ///
    /// # Errors
    /// None of waiting itself; [`NodeLost`](ErrorKind::NodeLost).
    pub fn poll(&self, patience: Duration) -> Result<bool> {
        let channel = match &self.body {
            Body::Near(channel) => channel,
            Body::Far(far) => return Ok(far.poll(Deadline::after(patience))? && far.len()? != 0),
        };
        match channel.wait_readable(Deadline::after(patience)) {
            Ok(()) => Ok(true),
            Err(ChannelError::TimedOut | ChannelError::Empty | ChannelError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits at most this long until there is room for a message; whether there is. It may be another's before it is
    /// yours.
    ///
    /// # Errors
    /// None of waiting itself; [`NodeLost`](ErrorKind::NodeLost).
    pub fn poll_send(&self, patience: Duration) -> Result<bool> {
        let channel = match &self.body {
            Body::Near(channel) => channel,
            Body::Far(far) => return Ok(far.poll_room(Deadline::after(patience))? && !far.is_closed()?),
        };
        match channel.wait_writable(Deadline::after(patience)) {
            Ok(()) => Ok(!channel.is_closed()),
            Err(ChannelError::TimedOut | ChannelError::Full | ChannelError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it was closed. One whose node is lost takes and gives nothing any more.
    pub fn is_closed(&self) -> bool {
        match &self.body {
            Body::Near(channel) => channel.is_closed(),
            Body::Far(far) => far.is_closed().unwrap_or(true),
        }
    }

    /// Whether there is no room in it.
    pub fn is_full(&self) -> bool {
        match &self.body {
            Body::Near(channel) => channel.is_full(),
            Body::Far(_) => self.len() >= self.capacity(),
        }
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.home())
    }

    fn home(&self) -> NodeNumber {
        match &self.body {
            Body::Near(_) => self.core.place().node(),
            Body::Far(far) => far.home(),
        }
    }

    fn id(&self) -> ObjectId {
        match &self.body {
            Body::Near(channel) => channel.id(),
            Body::Far(far) => far.id(),
        }
    }

    /// Lets nobody send any more; what was sent can still be received. Idempotent.
    pub fn close(&self) {
        match &self.body {
            Body::Near(channel) => channel.close(),
            Body::Far(far) => {
                if let Err(error) = far.close() {
                    tracing::warn!(home = far.home(), %error, "a channel of another node cannot be closed");
                }
            }
        }
    }

    /// How many messages fit.
    pub fn capacity(&self) -> usize {
        match &self.body {
            Body::Near(channel) => channel.capacity(),
            // A channel has a bound; only chains have none.
            Body::Far(far) => far.capacity().unwrap_or(usize::MAX),
        }
    }

    /// About how many messages there are. Exact while nobody else uses the channel. None can be seen of a lost node.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Near(channel) => channel.len(),
            Body::Far(far) => far.len().unwrap_or(0),
        }
    }

    /// Whether there is no message in it.
    pub fn is_empty(&self) -> bool {
        match &self.body {
            Body::Near(channel) => channel.is_empty(),
            Body::Far(_) => self.len() == 0,
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.id();
        write!(f, "Channel({}.{}, {} of {} messages)", id.index, id.generation, self.len(), self.capacity())
    }
}

impl Source for Channel {
    fn door(&self) -> Door<'_> {
        let cell = match &self.body {
            Body::Near(channel) => channel.readers(),
            Body::Far(far) => far.cell(),
        };
        Door { cell, ready: self }
    }
}

impl Ready for Channel {
    fn is_ready(&self) -> bool {
        match &self.body {
            Body::Near(channel) => channel.is_ready(),
            Body::Far(far) => far.is_ready(),
        }
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.core.is_closed() {
            return Err(ser::Error::custom("the runtime of this channel has been finalized"));
        }
        match &self.body {
            Body::Near(channel) => mm::note(channel.object()),
            // Its home must not hear that this process lets go of it before it hears that another holds it.
            Body::Far(far) => self.core.linger((far.home(), far.id()), far.clone()),
        }
        (self.home(), self.id()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Channel, D::Error> {
        let (home, id) = <(NodeNumber, ObjectId)>::deserialize(deserializer)?;
        let core = runtime::current().map_err(de::Error::custom)?;
        let (body, label) = if home == core.place().node() {
            let channel = channel::Channel::open(core.memory(), id).map_err(de::Error::custom)?;
            let label = channel.label();
            (Body::Near(channel), label)
        } else {
            let none = || de::Error::custom(format!("there is no node {home} in this job"));
            let mesh = core.mesh().map_err(de::Error::custom)?.ok_or_else(none)?;
            let far = FarQueue::open(mesh.clone(), home, id).map_err(de::Error::custom)?;
            let label = far.label();
            (Body::Far(WatchedQueue::new(far)), label)
        };
        if label != 0 {
            return Err(de::Error::custom("it is a queue, not a channel"));
        }
        Ok(Channel { body, core })
    }
}

/// Shared memory on loan for one message: derefs to its bytes. Dropping it gives it back.
pub struct Loan(Block);

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }
}

impl std::fmt::Debug for Loan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loan({} bytes)", self.len())
    }
}

/// A message that was received: derefs to its bytes, which are given back when it is dropped.
pub struct Received(Message);

enum Message {
    Near(channel::Message),
    Far(mesh::Body),
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Message::Near(message) => message,
            Message::Far(body) => body,
        }
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Received({} bytes)", self.len())
    }
}
