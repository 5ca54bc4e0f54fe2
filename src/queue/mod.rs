//! A queue of typed messages between all processes of a job.

mod body;
mod builder;
mod error;
mod handle;
mod many;

pub use builder::QueueBuilder;
pub use error::{GetManyError, PutError};
pub use many::Iter;

use std::any::type_name;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use self::body::{Body, Refused};
use crate::channel;
use crate::codec::{Codec, Postcard, Undecoded};
use crate::error::{Error, ErrorKind, Result};
use crate::names;
use crate::runtime::{Core, NodeId};
use crate::time::Deadline;
use crate::wire::Message;

/// A queue of messages of type `T` between all processes of a job: any number may put and get.
///
/// [`bounded`](Queue::bounded) queues let producers wait when they are full; [`unbounded`](Queue::unbounded) ones
/// grow until their memory limit. Messages of one producer come out in the order they went in, each at one
/// consumer. How values become bytes is `C`'s business: [`Postcard`] takes anything that `serde` knows,
/// [`codec::Pod`](crate::codec::Pod) plain old data without a serializer.
///
/// A handle is a value: clone it, put it into the argument or the result of a task or into a message of another
/// queue, and it is the same queue where it is taken out. A handle in a message that nobody has taken out
/// yet counts: it keeps the queue alive. When the last handle is gone (a killed process counts as letting
/// go), its memory is free again, with all messages that were left in it. Two queues that carry each other's
/// handles, and nobody has open, keep each other alive until the runtime ends.
///
/// No call hangs because a process died. One that dies while it puts has not put; one that dies while it gets
/// leaves the message to others, unless it had it already. Such a message comes out of its turn, after those that
/// others took meanwhile.
///
/// It mirrors DragonHPC's native `Queue` and Python's `multiprocessing.JoinableQueue`, with these differences: a
/// capacity of 0 is an error, since an unbounded queue is another thing; a refused message comes back; after
/// [`close`](Queue::close) consumers get what is left.
///
/// ```
/// let _dragon = dragon::init()?;
/// let squares = dragon::Queue::<u64>::bounded(64)?;
/// let pool = dragon::Pool::new(2)?;
/// let task = pool.submit(
///     |(squares, most): (dragon::Queue<u64>, u64)| (0..most).for_each(|x| squares.put(x * x).unwrap()),
///     (squares.clone(), 4),
/// )?;
/// let got: Vec<u64> = squares.iter().take(4).collect::<dragon::Result<_>>()?;
/// assert_eq!(got, [0, 1, 4, 9]);
/// task.get()?;
/// # Ok::<(), dragon::Error>(())
/// ```
pub struct Queue<T, C = Postcard> {
    body: Body,
    core: Arc<Core>,
    types: PhantomData<fn(T, C) -> T>,
}

impl<T: Message> Queue<T> {
    /// A queue for exactly `capacity` messages.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a capacity of 0 or above 16 million,
    /// [`NotInitialized`](ErrorKind::NotInitialized), [`OutOfMemory`](ErrorKind::OutOfMemory).
    pub fn bounded(capacity: usize) -> Result<Queue<T>> {
        Self::builder().capacity(capacity).build()
    }

    /// A queue that grows: nobody ever waits to put. At its memory limit, which is the job's unless the
    /// [builder](QueueBuilder::memory_limit) sets one, a put fails with [`OutOfMemory`](ErrorKind::OutOfMemory).
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let queue = dragon::Queue::unbounded()?;
    /// queue.put_many(0..10_000)?;
    /// assert_eq!((queue.len(), queue.get()?), (10_000, 0));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotInitialized`](ErrorKind::NotInitialized), [`OutOfMemory`](ErrorKind::OutOfMemory).
    pub fn unbounded() -> Result<Queue<T>> {
        Self::builder().build()
    }

    /// The queue that somebody gave this name, and still has open.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let jobs = dragon::Queue::<u32>::builder().capacity(8).name("jobs of the example").build()?;
    /// jobs.put(7)?;
    /// assert_eq!(dragon::Queue::<u32>::open("jobs of the example")?.get()?, 7);
    /// let other = dragon::Queue::<String>::open("jobs of the example");
    /// assert_eq!(other.unwrap_err().kind(), dragon::ErrorKind::WrongType);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if nothing has this name; [`WrongType`](ErrorKind::WrongType) if what has it is no
    /// queue, or one of other messages; [`NotInitialized`](ErrorKind::NotInitialized).
    pub fn open(name: &str) -> Result<Queue<T>> {
        Self::open_with(name)
    }

    /// [`open`](Queue::open), waiting at most this long until somebody has given the name: another rank may be about to.
    ///
    /// # Errors
    /// As [`open`](Queue::open).
    pub fn open_timeout(name: &str, patience: Duration) -> Result<Queue<T>> {
        handle::open_by(name, Deadline::after(patience))
    }

    /// Settings for a queue.
    pub fn builder() -> QueueBuilder<T> {
        Self::builder_with()
    }
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// [`bounded`](Queue::bounded) for any codec: `Queue::<f64, Pod>::bounded_with(64)`.
    ///
    /// # Errors
    /// As [`bounded`](Queue::bounded).
    pub fn bounded_with(capacity: usize) -> Result<Queue<T, C>> {
        Self::builder_with().capacity(capacity).build()
    }

    /// [`unbounded`](Queue::unbounded) for any codec.
    ///
    /// # Errors
    /// As [`unbounded`](Queue::unbounded).
    pub fn unbounded_with() -> Result<Queue<T, C>> {
        Self::builder_with().build()
    }

    /// [`open`](Queue::open) for any codec.
    ///
    /// # Errors
    /// As [`open`](Queue::open).
    pub fn open_with(name: &str) -> Result<Queue<T, C>> {
        handle::open(name)
    }

    /// [`builder`](Queue::builder) for any codec.
    pub fn builder_with() -> QueueBuilder<T, C> {
        QueueBuilder::new()
    }

    /// Puts a message, waiting for room.
    ///
    /// # Errors
    /// With the message: [`Closed`](ErrorKind::Closed), [`Codec`](ErrorKind::Codec) if it cannot be written as bytes,
    /// [`TooLarge`](ErrorKind::TooLarge) if the memory could never hold it,
    /// [`OutOfMemory`](ErrorKind::OutOfMemory) if it cannot now.
    #[inline]
    pub fn put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_by(message, Deadline::Never)
    }

    /// Puts a message if there is room now.
    ///
    /// # Errors
    /// [`Full`](ErrorKind::Full), and those of [`put`](Queue::put).
    #[inline]
    pub fn try_put(&self, message: T) -> Result<(), PutError<T>> {
        self.put_by(message, Deadline::Now)
    }

    /// Puts a message, waiting for room at most this long. Zero is [`try_put`](Queue::try_put).
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`put`](Queue::put).
    pub fn put_timeout(&self, message: T, patience: Duration) -> Result<(), PutError<T>> {
        self.put_by(message, Deadline::after(patience))
    }

    #[inline]
    fn put_by(&self, message: T, deadline: Deadline) -> Result<(), PutError<T>> {
        // Most messages find a slot at once: a way of their own, on which nothing is made that says what went wrong.
        if let Some(len) = C::length(&message)
            && self.body.send_now(len, |space| C::write(&message, space))
        {
            return Ok(());
        }
        self.put_later(message, deadline)
    }

    #[inline(never)]
    fn put_later(&self, message: T, deadline: Deadline) -> Result<(), PutError<T>> {
        self.send(&message, deadline).map_err(|error| PutError::new(error, message, 0))
    }

    #[inline]
    fn send(&self, message: &T, deadline: Deadline) -> Result<()> {
        let sent = match C::length(message) {
            Some(len) => self.body.send(len, &[], deadline, |space| C::write(message, space)),
            None => return self.send_encoded(message, deadline),
        };
        sent.map_err(|error| self.refused(error))
    }

    fn send_encoded(&self, message: &T, deadline: Deadline) -> Result<()> {
        with_scratch(|bytes| {
            let (encoded, cargo) = channel::gather(|| C::encode(message, bytes));
            encoded.map_err(|why| {
                let text = format!("a message for {} cannot be written as bytes", self.name());
                Error::with_source(ErrorKind::Codec, text, why)
            })?;
            if self.body.home().is_some() && !cargo.is_empty() {
                let here = self.core.place().node();
                cargo.iter().for_each(|object| self.core.linger((here, object.id()), object.clone()));
            }
            let sent = self.body.send(bytes.len(), &cargo, deadline, |space| space.copy_from_slice(bytes));
            sent.map_err(|error| self.refused(error))
        })
    }

    /// Takes a message out, waiting for one.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once a closed queue is empty. [`Codec`](ErrorKind::Codec) for a message that cannot be
    /// read as a `T`: it is taken out all the same, and its bytes are in [`Error::undecoded`].
    #[inline]
    pub fn get(&self) -> Result<T> {
        self.get_by(Deadline::Never)
    }

    /// Takes a message out if there is one now.
    ///
    /// A message that somebody is just putting holds up those behind it, since messages have an order. While one is under
    /// way the answer may be [`Empty`](ErrorKind::Empty), though a later one is there already. In the same way a
    /// message that is just being taken out may make [`try_put`](Queue::try_put) answer [`Full`](ErrorKind::Full). But for
    /// that, all calls of all processes together are those of a plain queue (`tests/linear.rs`).
    ///
    /// # Errors
    /// [`Empty`](ErrorKind::Empty), and those of [`get`](Queue::get).
    #[inline]
    pub fn try_get(&self) -> Result<T> {
        self.get_by(Deadline::Now)
    }

    /// Takes a message out, waiting for one at most this long. Zero is [`try_get`](Queue::try_get).
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`get`](Queue::get).
    pub fn get_timeout(&self, patience: Duration) -> Result<T> {
        self.get_by(Deadline::after(patience))
    }

    #[inline]
    fn get_by(&self, deadline: Deadline) -> Result<T> {
        let undecoded = |why, bytes: &[u8]| Box::new(Undecoded::new(why, bytes));
        match self.body.receive_now(|bytes| C::decode(bytes).map_err(|why| undecoded(why, bytes))) {
            Some(Ok(Ok(message))) => Ok(message),
            Some(Ok(Err(undecoded))) => Err(self.undecodable(*undecoded)),
            Some(Err(error)) => Err(self.refused((*error).into())),
            None => self.get_later(deadline),
        }
    }

    #[inline(never)]
    fn get_later(&self, deadline: Deadline) -> Result<T> {
        // Put here from where it is read: what is handed from call to call is copied by each.
        let (mut message, mut undecoded, mut block) = (None, None, None);
        let received = self.body.receive(deadline, |payload| {
            match C::decode(&payload) {
                Ok(decoded) => message = Some(decoded),
                Err(why) => undecoded = Some(Undecoded::new(why, &payload)),
            }
            payload.leave_block(&mut block);
        });
        if let Err(error) = received {
            return Err(self.refused(error));
        }
        match undecoded {
            Some(undecoded) => Err(self.undecodable(undecoded)),
            // Whoever receives has been given the message once.
            None => Ok(message.expect("it was received")),
        }
    }

    #[cold]
    fn undecodable(&self, undecoded: Undecoded) -> Error {
        let text = format!("a message of {} cannot be read as `{}`", self.name(), type_name::<T>());
        Error::with_source(ErrorKind::Codec, text, undecoded)
    }

    #[cold]
    fn refused(&self, error: Refused) -> Error {
        // What a caller may meet in a loop costs no look around for its text.
        if error.is_timeout() {
            return error.into();
        }
        let error = Error::from(error);
        Error::with_source(error.kind(), self.name(), error)
    }

    /// Waits at most this long until there is a message; whether there is. It may be another's before it is yours. False at
    /// once if the queue is closed and empty.
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost) if its node is.
    pub fn poll(&self, patience: Duration) -> Result<bool> {
        let ready = self.body.wait_ready(Deadline::after(patience)).map_err(|error| self.refused(error))?;
        Ok(ready && !self.is_empty())
    }

    /// Of a [joinable](QueueBuilder::joinable) queue: says that a message which was taken out has been dealt with.
    ///
    /// Where one process takes messages out and another says that they are done, the death of the first
    /// may count a message as done twice. What a process that died had taken counts as done.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the queue is not joinable, or every message that was taken out
    /// is done already.
    pub fn task_done(&self) -> Result<()> {
        match self.body.declare_done().map_err(|error| self.refused(error))? {
            Some(true) => Ok(()),
            Some(false) => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{}: `task_done` was called more often than messages were taken out", self.name()),
            )),
            None => Err(self.not_joinable()),
        }
    }

    /// Waits until every message that was put has been taken out and declared [done](Queue::task_done).
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let queue = dragon::Queue::<u8>::builder().capacity(4).joinable().build()?;
    /// queue.put(1)?;
    /// assert!(queue.join_timeout(std::time::Duration::ZERO).unwrap_err().is_timeout());
    /// queue.get()?;
    /// queue.task_done()?;
    /// queue.join()?;
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the queue is not joinable.
    pub fn join(&self) -> Result<()> {
        self.join_by(Deadline::Never)
    }

    /// [`join`](Queue::join), at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`join`](Queue::join).
    pub fn join_timeout(&self, patience: Duration) -> Result<()> {
        self.join_by(Deadline::after(patience))
    }

    fn join_by(&self, deadline: Deadline) -> Result<()> {
        self.body.wait_done(deadline).map_err(|error| self.refused(error))?.ok_or_else(|| self.not_joinable())
    }

    fn not_joinable(&self) -> Error {
        let text = format!("{} is not joinable: make it with `Queue::builder().joinable()`", self.name());
        Error::new(ErrorKind::InvalidArgument, text)
    }

    /// Lets nobody put any more: producers that wait are told so at once. Consumers get what is there, and then
    /// [`Closed`](ErrorKind::Closed). Idempotent.
    pub fn close(&self) {
        if let Err(error) = self.body.close() {
            tracing::warn!(queue = self.name(), error = %self.refused(error), "a queue cannot be closed");
        }
    }

    /// Whether somebody closed it.
    pub fn is_closed(&self) -> bool {
        self.body.is_closed()
    }

    /// About how many messages there are. Exact while nobody else uses the queue.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is about nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a put would have to wait. Never, if it is unbounded.
    pub fn is_full(&self) -> bool {
        self.body.is_full()
    }

    /// How many messages fit, if there is a bound.
    pub fn capacity(&self) -> Option<usize> {
        self.body.capacity()
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.body.home().unwrap_or(self.core.place().node()))
    }

    /// What to call it in a text.
    fn name(&self) -> String {
        let id = self.body.id();
        if let Some(home) = self.body.home() {
            return format!("queue {}.{} of node {home}", id.index, id.generation);
        }
        match names::of(self.core.memory(), id) {
            Some(name) => format!("queue `{name}`"),
            None => format!("queue {}.{}", id.index, id.generation),
        }
    }
}

/// Longest scratch buffer that a thread keeps.
const KEPT: usize = 1 << 20;

/// Calls `f` with an empty buffer that the thread keeps between calls.
fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut bytes = SCRATCH.take();
    bytes.clear();
    let result = f(&mut bytes);
    bytes.shrink_to(KEPT);
    SCRATCH.set(bytes);
    result
}
