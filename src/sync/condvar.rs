//! Waiting for a change of what a lock guards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lock::{Held, LockGuard};
use super::shared::{Shared, Site, Sort};
use crate::error::{Error, ErrorKind, Result};
use crate::latch;
use crate::mm::Kind;
use crate::runtime::NodeId;
use crate::services::SyncOp;
use crate::time::Deadline;

enum OfCondvar {}

impl Sort for OfCondvar {
    const KIND: Kind = Kind::Condvar;
    const CALLED: &'static str = "condition variable";
}

/// A place to wait for a change of what a [`Lock`](super::Lock) guards.
///
/// Waiting gives the lock back and takes it again before it returns, however often it was taken. It may return
/// without anybody having called: look at the condition in a loop, or use [`wait_while`](Condvar::wait_while).
///
/// **Death.** When a process that has the condition variable open dies, all who wait wake up once, since
/// it might have been the one to call them; if it held the lock, the guard says
/// [`is_poisoned`](LockGuard::is_poisoned). A waiter that dies is forgotten.
///
/// **Other nodes.** It must be on the same node as the lock; a wait from another node is one call, in which the lock is given
/// back, the change waited for and the lock taken again, all at their home.
///
/// **Fairness.** Which of several who wait is called is not said.
///
/// ```
/// use dragon::sync::{Condvar, Lock, Value};
///
/// let _dragon = dragon::init()?;
/// let (lock, changed, stock) = (Lock::new()?, Condvar::new()?, Value::new(0_u32)?);
/// let pool = dragon::Pool::new(1)?;
/// let deliver = |(lock, changed, stock): (Lock, Condvar, Value<u32>)| {
///     let _guard = lock.lock().unwrap();
///     stock.set(3).unwrap();
///     changed.notify_one().unwrap();
/// };
/// let task = pool.submit(deliver, (lock.clone(), changed.clone(), stock.clone()))?;
/// let mut guard = lock.lock()?;
/// changed.wait_while(&mut guard, || stock.get().unwrap() < 3)?;
/// drop(guard);
/// task.get()?;
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Condvar(Shared<OfCondvar>);

impl Condvar {
    /// A place where nobody waits.
    ///
    /// # Errors
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized), [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new() -> Result<Condvar> {
        Ok(Condvar(Shared::create(latch::Condvar::WORDS, |_| ())?))
    }

    /// Gives the lock back, waits to be called, and takes the lock again.
    ///
    /// # Errors
    /// None.
    pub fn wait(&self, guard: &mut LockGuard<'_>) -> Result<()> {
        self.wait_by(guard, Deadline::Never)
    }

    /// As [`wait`](Condvar::wait), but waits to be called at most this long. The lock is taken again in any case.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    pub fn wait_timeout(&self, guard: &mut LockGuard<'_>, patience: Duration) -> Result<()> {
        self.wait_by(guard, Deadline::after(patience))
    }

    /// Waits as long as `condition` holds. It is asked with the lock held.
    ///
    /// # Errors
    /// None.
    pub fn wait_while(&self, guard: &mut LockGuard<'_>, condition: impl FnMut() -> bool) -> Result<()> {
        self.wait_while_by(guard, condition, Deadline::Never)
    }

    /// Waits as long as `condition` holds, at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut) if it holds still.
    pub fn wait_while_timeout(
        &self,
        guard: &mut LockGuard<'_>,
        condition: impl FnMut() -> bool,
        patience: Duration,
    ) -> Result<()> {
        self.wait_while_by(guard, condition, Deadline::after(patience))
    }

    fn wait_while_by(
        &self,
        guard: &mut LockGuard<'_>,
        mut condition: impl FnMut() -> bool,
        deadline: Deadline,
    ) -> Result<()> {
        while condition() {
            if let Err(late) = self.wait_by(guard, deadline) {
                return if condition() { Err(late) } else { Ok(()) };
            }
        }
        Ok(())
    }

    fn wait_by(&self, guard: &mut LockGuard<'_>, deadline: Deadline) -> Result<()> {
        match (self.0.site(), guard.held()) {
            (Site::Near(words), Held::Near(lock, who)) => {
                let refused = |refusal| self.0.refused(refusal, deadline, || "nobody has called".into());
                latch::Condvar::in_words(words).wait(lock, who, deadline).map_err(refused)
            }
            (Site::Far(far), Held::Far(lock)) if far.home() == lock.home() => {
                self.0.ask(far, SyncOp::Wait, [lock.id().to_word(), 0], deadline, &[]).map(drop)
            }
            _ => {
                let text = format!("{} and the lock are on different nodes", self.0.name());
                Err(Error::new(ErrorKind::InvalidArgument, text))
            }
        }
    }

    /// Wakes one who waits, at least, if there is one.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn notify_one(&self) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => latch::Condvar::in_words(words).notify_one(),
            Site::Far(far) => self.0.tell(far, SyncOp::NotifyOne, 0)?,
        }
        Ok(())
    }

    /// Wakes all who wait.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn notify_all(&self) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => latch::Condvar::in_words(words).notify_all(),
            Site::Far(far) => self.0.tell(far, SyncOp::NotifyAll, 0)?,
        }
        Ok(())
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }
}

impl std::fmt::Debug for Condvar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Condvar({})", self.0.name())
    }
}
