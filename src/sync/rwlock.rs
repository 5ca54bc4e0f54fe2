//! One who writes or many who read, across processes and nodes.

use std::marker::PhantomData;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lock;
use super::shared::{Shared, Site, Sort};
use crate::error::{Error, Result};
use crate::latch;
use crate::latch::{Refusal, Who};
use crate::mm::Kind;
use crate::runtime::NodeId;
use crate::services::{FarObject, SyncOp};
use crate::time::Deadline;

enum OfRwLock {}

impl Sort for OfRwLock {
    const KIND: Kind = Kind::RwLock;
    const CALLED: &'static str = "read-write lock";
}

/// A lock that many threads hold to read, or one to write.
///
/// **Death.** Readers are counted for each process, so a process that dies takes exactly its own readers
/// with it; that makes the lock 2.3 KiB large. A writer that dies (or panics) inside hands the lock on,
/// *poisoned*, as with [`Lock`](super::Lock); one that dies while it waits leaves nothing.
///
/// **Other nodes.** Readers and writers of other nodes count like those of the lock's own: a process or a node that dies takes
/// its readers with it, and leaves poison where it wrote.
///
/// **Fairness.** A writer that waits keeps new readers out, so readers cannot starve it; writers are not
/// queued, and an unbroken row of them can keep readers waiting.
///
/// A thread must not ask to read or write while it reads: it may wait for itself, through a writer that waits.
/// A thread that asks while it *writes* gets [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock).
///
/// ```
/// let _dragon = dragon::init()?;
/// let lock = dragon::sync::RwLock::new()?;
/// let pool = dragon::Pool::new(1)?;
/// let reading = lock.read()?;
/// let there = |lock: dragon::sync::RwLock| {
///     let may_read = lock.try_read().is_ok();
///     (may_read, lock.try_write().is_ok())
/// };
/// assert_eq!(pool.submit(there, lock.clone())?.get()?, (true, false));
/// drop(reading);
/// assert_eq!(pool.submit(there, lock.clone())?.get()?, (true, true));
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct RwLock(Shared<OfRwLock>);

impl RwLock {
    /// A free lock.
    ///
    /// # Errors
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized), [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new() -> Result<RwLock> {
        Ok(RwLock(Shared::create(latch::RwLock::WORDS, |_| ())?))
    }

    /// Becomes a reader, waiting until nobody writes or waits to.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock) if this thread writes;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if this process reads 60,000 times already.
    #[inline]
    pub fn read(&self) -> Result<ReadGuard<'_>> {
        self.read_by(Deadline::Never)
    }

    /// Becomes a reader if nobody writes or waits to.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut), and those of [`read`](RwLock::read).
    #[inline]
    pub fn try_read(&self) -> Result<ReadGuard<'_>> {
        self.read_by(Deadline::Now)
    }

    /// Becomes a reader, waiting at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut), and those of [`read`](RwLock::read).
    pub fn read_timeout(&self, patience: Duration) -> Result<ReadGuard<'_>> {
        self.read_by(Deadline::after(patience))
    }

    #[inline]
    fn read_by(&self, deadline: Deadline) -> Result<ReadGuard<'_>> {
        let reads = match self.0.site() {
            Site::Near(words) => Reads::Near(self.read_near(latch::RwLock::in_words(words), deadline)?, self.0.who()),
            Site::Far(far) => {
                self.0.ask(far, SyncOp::Read, [0; 2], deadline, &[])?;
                Reads::Far(far)
            }
        };
        Ok(ReadGuard { reads, in_its_thread: PhantomData })
    }

    #[inline]
    fn read_near<'a>(&self, latch: latch::RwLock<'a>, deadline: Deadline) -> Result<latch::RwLock<'a>> {
        match latch.read(self.0.who(), deadline) {
            Ok(()) => Ok(latch),
            Err(Refusal::TooMany) => {
                Err(self.0.refused(Refusal::TooMany, deadline, || "this process reads 60,000 times already".into()))
            }
            Err(refusal) => Err(lock::refused(&self.0, latch.writer(), refusal, deadline)),
        }
    }

    /// Becomes the writer, waiting until nobody reads or writes.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock) if this thread writes already.
    pub fn write(&self) -> Result<WriteGuard<'_>> {
        self.write_by(Deadline::Never)
    }

    /// Becomes the writer if nobody reads or writes.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut), and that of [`write`](RwLock::write).
    pub fn try_write(&self) -> Result<WriteGuard<'_>> {
        self.write_by(Deadline::Now)
    }

    /// Becomes the writer, waiting at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut), and that of [`write`](RwLock::write).
    pub fn write_timeout(&self, patience: Duration) -> Result<WriteGuard<'_>> {
        self.write_by(Deadline::after(patience))
    }

    fn write_by(&self, deadline: Deadline) -> Result<WriteGuard<'_>> {
        let writes = match self.0.site() {
            Site::Near(words) => {
                let latch = latch::RwLock::in_words(words);
                let refused = |refusal| self.not_written(latch, refusal, deadline);
                latch.write(self.0.who(), deadline).map_err(refused)?;
                Writes::Near(latch)
            }
            Site::Far(far) => {
                self.0.ask(far, SyncOp::Write, [0; 2], deadline, &[])?;
                Writes::Far(far)
            }
        };
        Ok(WriteGuard { writes, panicking: thread::panicking(), in_its_thread: PhantomData })
    }

    #[cold]
    fn not_written(&self, latch: latch::RwLock<'_>, refusal: Refusal, deadline: Deadline) -> Error {
        match latch.count() {
            0 => lock::refused(&self.0, latch.writer(), refusal, deadline),
            readers => self.0.refused(refusal, deadline, || format!("{readers} threads read")),
        }
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    /// Whether a writer died or panicked since the poison was last cleared.
    pub fn is_poisoned(&self) -> bool {
        lock::figures(&self.0).poisoned
    }

    /// Declares what the lock guards to be sound again.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn clear_poison(&self) -> Result<()> {
        lock::clear_poison(&self.0)
    }

    /// How many threads read at this moment.
    pub fn readers(&self) -> u64 {
        match self.0.site() {
            Site::Near(words) => latch::RwLock::in_words(words).count(),
            Site::Far(far) => far.figures()[2],
        }
    }

    fn is_written(&self) -> bool {
        match self.0.site() {
            Site::Near(words) => latch::RwLock::in_words(words).writer().holder().is_some(),
            Site::Far(far) => far.figures()[1] != 0,
        }
    }
}

impl std::fmt::Debug for RwLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let writer = if self.is_written() { ", a writer" } else { "" };
        let poisoned = if self.is_poisoned() { ", poisoned" } else { "" };
        write!(f, "RwLock({}, {} readers{writer}{poisoned})", self.0.name(), self.readers())
    }
}

/// A read-write lock that is held to read. Dropping it gives it back.
#[must_use = "the lock is given back when its guard is dropped"]
pub struct ReadGuard<'a> {
    reads: Reads<'a>,
    in_its_thread: PhantomData<*const ()>,
}

enum Reads<'a> {
    Near(latch::RwLock<'a>, Who),
    Far(&'a FarObject),
}

impl ReadGuard<'_> {
    /// Whether a writer died or panicked since the poison was last cleared.
    pub fn is_poisoned(&self) -> bool {
        match self.reads {
            Reads::Near(latch, _) => latch.writer().is_poisoned(),
            Reads::Far(far) => far.figures()[0] != 0,
        }
    }
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        match self.reads {
            Reads::Near(latch, who) => latch.leave(who),
            Reads::Far(far) => lock::give_back(far, SyncOp::Leave, false),
        }
    }
}

impl std::fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadGuard")
    }
}

/// A read-write lock that is held to write. Dropping it gives it back.
#[must_use = "the lock is given back when its guard is dropped"]
pub struct WriteGuard<'a> {
    writes: Writes<'a>,
    panicking: bool,
    in_its_thread: PhantomData<*const ()>,
}

enum Writes<'a> {
    Near(latch::RwLock<'a>),
    Far(&'a FarObject),
}

impl WriteGuard<'_> {
    /// Whether a writer died or panicked since the poison was last cleared.
    pub fn is_poisoned(&self) -> bool {
        match self.writes {
            Writes::Near(latch) => latch.writer().is_poisoned(),
            Writes::Far(far) => far.figures()[0] != 0,
        }
    }

    /// Declares what the lock guards to be sound again.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn clear_poison(&self) -> Result<()> {
        match self.writes {
            Writes::Near(latch) => latch.writer().clear_poison(),
            Writes::Far(far) => far.tell(SyncOp::ClearPoison, 0)?,
        }
        Ok(())
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        let poison = thread::panicking() && !self.panicking;
        match self.writes {
            Writes::Near(latch) => {
                if poison {
                    latch.writer().poison();
                }
                latch.write_end();
            }
            Writes::Far(far) => lock::give_back(far, SyncOp::WriteEnd, poison),
        }
    }
}

impl std::fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriteGuard")
    }
}
