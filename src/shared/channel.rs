//! Bytes between the processes of a node: the public face of [`crate::channel`].

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::channel::{self, ChannelError};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::mm;
use crate::mm::Block;
use crate::runtime::{self, Core};
use crate::select::{Door, Ready, Source};
use crate::time::Deadline;

/// A bounded queue of byte messages between the processes of a node: any number may send and receive.
///
/// Short messages travel in the ring itself; longer ones in a block of shared memory that the receiver
/// reads in place; a [`loan`](Channel::loan) is filled in place too and is never copied. Messages of one
/// sender arrive in their order, each at one receiver.
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
    channel: channel::Channel,
    core: Arc<Core>,
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
        Ok(Channel { channel: channel::Channel::create(core.memory(), capacity, inline)?, core })
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
        let position = self.channel.send(message, deadline)?;
        self.channel.count_sent(position, message.len());
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
        Ok(Loan(self.channel.loan(length)?))
    }

    /// Sends what was loaned, waiting for room. The bytes stay where they are.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), with the loan.
    pub fn send_loan(&self, loan: Loan) -> std::result::Result<(), (Error, Loan)> {
        let length = loan.0.len();
        match self.channel.send_block(loan.0, length, Deadline::Never) {
            Ok(position) => {
                self.channel.count_sent(position, length);
                Ok(())
            }
            Err((error, block)) => Err((error.into(), Loan(block))),
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
        Ok(Received(self.channel.recv(deadline)?))
    }

    /// Waits at most this long until there is a message; whether there is. It may be another's before it is yours.
    ///
    /// # Errors
    /// None of waiting itself.
    pub fn poll(&self, patience: Duration) -> Result<bool> {
        match self.channel.wait_readable(Deadline::after(patience)) {
            Ok(()) => Ok(true),
            Err(ChannelError::TimedOut | ChannelError::Empty | ChannelError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits at most this long until there is room for a message; whether there is. It may be another's before it is
    /// yours.
    ///
    /// # Errors
    /// None of waiting itself.
    pub fn poll_send(&self, patience: Duration) -> Result<bool> {
        match self.channel.wait_writable(Deadline::after(patience)) {
            Ok(()) => Ok(!self.channel.is_closed()),
            Err(ChannelError::TimedOut | ChannelError::Full | ChannelError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Whether there is no room in it.
    pub fn is_full(&self) -> bool {
        self.channel.is_full()
    }

    /// Lets nobody send any more; what was sent can still be received. Idempotent.
    pub fn close(&self) {
        self.channel.close();
    }

    /// How many messages fit.
    pub fn capacity(&self) -> usize {
        self.channel.capacity()
    }

    /// About how many messages there are. Exact while nobody else uses the channel.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether there is no message in it.
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.channel.id();
        write!(f, "Channel({}.{}, {} of {} messages)", id.index, id.generation, self.len(), self.capacity())
    }
}

impl Source for Channel {
    fn door(&self) -> Door<'_> {
        Door { cell: self.channel.readers(), ready: self }
    }
}

impl Ready for Channel {
    fn is_ready(&self) -> bool {
        self.channel.is_ready()
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.core.is_closed() {
            return Err(ser::Error::custom("the runtime of this channel has been finalized"));
        }
        mm::note(self.channel.object());
        self.channel.id().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Channel, D::Error> {
        let id = ObjectId::deserialize(deserializer)?;
        let core = runtime::current().map_err(de::Error::custom)?;
        let channel = channel::Channel::open(core.memory(), id).map_err(de::Error::custom)?;
        if channel.label() != 0 {
            return Err(de::Error::custom("it is a queue, not a channel"));
        }
        Ok(Channel { channel, core })
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
pub struct Received(channel::Message);

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Received({} bytes)", self.len())
    }
}
