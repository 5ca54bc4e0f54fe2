//! One at a time, across processes and nodes.

use std::marker::PhantomData;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shared::{Shared, Site, Sort};
use crate::error::{Error, Result};
use crate::latch;
use crate::latch::{Refusal, Who};
use crate::mm::Kind;
use crate::runtime::NodeId;
use crate::services::{FarObject, SyncOp};
use crate::time::Deadline;

pub(super) enum OfLock {}

impl Sort for OfLock {
    const KIND: Kind = Kind::Lock;
    const CALLED: &'static str = "lock";
}

/// A lock that one thread of one process of the job holds at a time.
///
/// Taking a free lock and giving it back is two operations on one word, some 20 ns, without a system call.
/// A lock is held by a *thread*, through a [`LockGuard`] that stays in it; dropping the guard gives it
/// back, so unlike Dragon's it cannot be given back by another process or when it is free. A thread that
/// asks for a lock it holds gets [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock), or with
/// [`recursive`](Lock::recursive) the lock once more.
///
/// **Death.** When a process dies its locks are handed on, and are *poisoned* from then on: what they guard
/// may be half changed. (Dragon leaves such a lock locked for ever.) A thread that panics while it
/// holds a lock poisons it too. A poisoned lock works as before; look at
/// [`is_poisoned`](Lock::is_poisoned) where it matters, mend what was guarded, and
/// [`clear_poison`](Lock::clear_poison).
///
/// **Other nodes.** A thread of another node takes the lock by a call to its home, where it waits if need be, and is its
/// holder like any other; if its process or its node dies the lock is handed on, poisoned. If the home is lost,
/// so is the lock: [`NodeLost`](crate::ErrorKind::NodeLost).
///
/// **Fairness.** None: when the lock becomes free one sleeper is woken, and a thread that asks at that
/// moment may be quicker.
///
/// ```
/// let _dragon = dragon::init()?;
/// let lock = dragon::sync::Lock::new()?;
/// let pool = dragon::Pool::new(1)?;
/// let guard = lock.lock()?;
/// let free_there = |lock: dragon::sync::Lock| lock.try_lock().is_ok();
/// assert!(!pool.submit(free_there, lock.clone())?.get()?);
/// drop(guard);
/// assert!(pool.submit(free_there, lock.clone())?.get()?);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Lock(Shared<OfLock>);

impl Lock {
    /// A free lock.
    ///
    /// # Errors
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized), [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new() -> Result<Lock> {
        Ok(Lock(Shared::create(latch::Lock::WORDS, |_| ())?))
    }

    /// A free lock that the thread which holds it may take again; it is free when all its guards are dropped.
    ///
    /// ```
    /// let _dragon = dragon::init()?;
    /// let lock = dragon::sync::Lock::recursive()?;
    /// let (first, again) = (lock.lock()?, lock.lock()?);
    /// drop(first);
    /// assert!(std::thread::scope(|s| s.spawn(|| lock.try_lock().is_err()).join().unwrap()));
    /// drop(again);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Lock::new).
    pub fn recursive() -> Result<Lock> {
        let recursive = |words: &_| latch::Lock::in_words(words).make_recursive();
        Ok(Lock(Shared::create(latch::Lock::WORDS, recursive)?))
    }

    /// Takes the lock, waiting for it.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock) if this thread holds it and it is not recursive.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>> {
        self.lock_by(Deadline::Never)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut) if another thread holds it, and that of [`lock`](Lock::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>> {
        self.lock_by(Deadline::Now)
    }

    /// Takes the lock, waiting for it at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut), and that of [`lock`](Lock::lock).
    pub fn lock_timeout(&self, patience: Duration) -> Result<LockGuard<'_>> {
        self.lock_by(Deadline::after(patience))
    }

    #[inline]
    fn lock_by(&self, deadline: Deadline) -> Result<LockGuard<'_>> {
        guard(&self.0, deadline)
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    /// Whether a holder died or panicked since the poison was last cleared.
    pub fn is_poisoned(&self) -> bool {
        figures(&self.0).poisoned
    }

    /// Declares what the lock guards to be sound again.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn clear_poison(&self) -> Result<()> {
        clear_poison(&self.0)
    }

    /// Whether somebody holds it at this moment.
    pub fn is_locked(&self) -> bool {
        figures(&self.0).is_held
    }

    /// Whether the calling thread holds it.
    pub fn is_mine(&self) -> bool {
        figures(&self.0).is_mine
    }

    /// How often its holder has taken it; 0 if it is free.
    pub fn depth(&self) -> u64 {
        figures(&self.0).times
    }
}

/// What can be seen of a lock. Nothing, if its node is lost.
pub(super) struct Figures {
    pub(super) poisoned: bool,
    is_held: bool,
    is_mine: bool,
    times: u64,
}

pub(super) fn figures<S: Sort>(shared: &Shared<S>) -> Figures {
    match shared.site() {
        Site::Near(words) => {
            let (latch, holder) = (latch::Lock::in_words(words), latch::Lock::in_words(words).holder());
            let (is_held, is_mine) = (holder.is_some(), holder == Some(shared.who()));
            Figures { poisoned: latch.is_poisoned(), is_held, is_mine, times: latch.times() }
        }
        Site::Far(far) => {
            let [poisoned, held, mine, times] = far.figures();
            Figures { poisoned: poisoned != 0, is_held: held != 0, is_mine: mine != 0, times }
        }
    }
}

pub(super) fn clear_poison<S: Sort>(shared: &Shared<S>) -> Result<()> {
    match shared.site() {
        Site::Near(words) => latch::Lock::in_words(words).clear_poison(),
        Site::Far(far) => shared.tell(far, SyncOp::ClearPoison, 0)?,
    }
    Ok(())
}

/// Takes the lock at the head of an object.
#[inline]
pub(super) fn guard<S: Sort>(shared: &Shared<S>, deadline: Deadline) -> Result<LockGuard<'_>> {
    let held = match shared.site() {
        Site::Near(words) => {
            let (latch, who) = (latch::Lock::in_words(words), shared.who());
            match latch.acquire(who, deadline) {
                Ok(()) => Held::Near(latch, who),
                Err(refusal) => return Err(refused(shared, latch, refusal, deadline)),
            }
        }
        Site::Far(far) => {
            shared.ask(far, SyncOp::Take, [0; 2], deadline, &[])?;
            Held::Far(far)
        }
    };
    Ok(LockGuard { held, panicking: thread::panicking(), in_its_thread: PhantomData })
}

#[cold]
pub(super) fn refused<S: Sort>(
    shared: &Shared<S>,
    latch: latch::Lock<'_>,
    refusal: Refusal,
    deadline: Deadline,
) -> Error {
    shared.refused(refusal, deadline, || match latch.holder() {
        Some(holder) => format!("{} holds it", shared.process(holder.process)),
        None => "others were quicker".into(),
    })
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held = if self.is_locked() { "held" } else { "free" };
        let poisoned = if self.is_poisoned() { ", poisoned" } else { "" };
        write!(f, "Lock({}, {held}{poisoned})", self.0.name())
    }
}

/// A lock that is held. Dropping it gives the lock back.
#[must_use = "the lock is given back when its guard is dropped"]
pub struct LockGuard<'a> {
    held: Held<'a>,
    panicking: bool,
    /// A lock is its thread's.
    in_its_thread: PhantomData<*const ()>,
}

/// Where the lock is.
#[derive(Clone, Copy)]
pub(super) enum Held<'a> {
    Near(latch::Lock<'a>, Who),
    Far(&'a FarObject),
}

impl<'a> LockGuard<'a> {
    /// Whether a holder died or panicked since the poison was last cleared.
    pub fn is_poisoned(&self) -> bool {
        match self.held {
            Held::Near(latch, _) => latch.is_poisoned(),
            Held::Far(far) => far.figures()[0] != 0,
        }
    }

    /// Declares what the lock guards to be sound again.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn clear_poison(&self) -> Result<()> {
        match self.held {
            Held::Near(latch, _) => latch.clear_poison(),
            Held::Far(far) => far.tell(SyncOp::ClearPoison, 0)?,
        }
        Ok(())
    }

    pub(super) fn held(&self) -> Held<'a> {
        self.held
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let poison = thread::panicking() && !self.panicking;
        match self.held {
            Held::Near(latch, _) => {
                if poison {
                    latch.poison();
                }
                latch.release();
            }
            Held::Far(far) => give_back(far, SyncOp::Give, poison),
        }
    }
}

/// Gives back what is held on another node. A call and no mere message, so that whoever hears of it, by whatever way, finds
/// it done.
#[cold]
pub(super) fn give_back(far: &FarObject, op: SyncOp, poison: bool) {
    if let Err(error) = far.tell(op, u64::from(poison)) {
        // A home that is lost has nothing to give back to.
        tracing::debug!(%error, home = far.home(), "a lock of another node is not given back");
    }
}

impl std::fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_poisoned() { "LockGuard(poisoned)" } else { "LockGuard" })
    }
}
