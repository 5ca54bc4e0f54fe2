//! A number of permits that processes take and give.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shared::{Shared, Site, Sort};
use crate::error::Result;
use crate::latch;
use crate::mm::Kind;
use crate::runtime::NodeId;
use crate::services::SyncOp;
use crate::time::Deadline;

enum OfSemaphore {}

impl Sort for OfSemaphore {
    const KIND: Kind = Kind::Semaphore;
    const CALLED: &'static str = "semaphore";
}

/// A number of permits. Taking one waits until there is one; anybody may give some.
///
/// As in Dragon a permit belongs to nobody: one process may take it and another give it. So **a process
/// that dies with permits takes them with it**, since nobody can know that it had them; where that
/// matters use a [`Lock`](super::Lock), or give with a timeout in mind. A process that dies *waiting* is
/// forgotten.
///
/// **Other nodes.** Permits are at the semaphore's home; to take or give some from another node is one call there.
///
/// **Fairness.** None: permits go to whoever is quickest; one sleeper is woken for each.
///
/// ```
/// let _dragon = dragon::init()?;
/// let slots = dragon::sync::Semaphore::new(2)?;
/// slots.acquire()?;
/// slots.acquire()?;
/// assert!(slots.try_acquire().unwrap_err().is_timeout());
/// let pool = dragon::Pool::new(1)?;
/// pool.submit(|slots: dragon::sync::Semaphore| slots.release(1).unwrap(), slots.clone())?.get()?;
/// slots.acquire()?;
/// assert_eq!(slots.permits(), 0);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Semaphore(Shared<OfSemaphore>);

impl Semaphore {
    /// A semaphore with so many permits, to which any number may be added.
    ///
    /// # Errors
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized), [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new(permits: u64) -> Result<Semaphore> {
        Semaphore::with_most(permits, u64::MAX)
    }

    /// A semaphore that never has more permits than at its start: who gives one that was not taken gets an error.
    ///
    /// # Errors
    /// As [`new`](Semaphore::new).
    pub fn bounded(permits: u64) -> Result<Semaphore> {
        Semaphore::with_most(permits, permits)
    }

    fn with_most(permits: u64, most: u64) -> Result<Semaphore> {
        let begin = |words: &_| latch::Semaphore::in_words(words).begin(permits, most);
        Ok(Semaphore(Shared::create(latch::Semaphore::WORDS, begin)?))
    }

    /// Takes a permit, waiting for one.
    ///
    /// # Errors
    /// None.
    pub fn acquire(&self) -> Result<()> {
        self.acquire_by(Deadline::Never)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    pub fn try_acquire(&self) -> Result<()> {
        self.acquire_by(Deadline::Now)
    }

    /// Takes a permit, waiting for one at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    pub fn acquire_timeout(&self, patience: Duration) -> Result<()> {
        self.acquire_by(Deadline::after(patience))
    }

    fn acquire_by(&self, deadline: Deadline) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => {
                let refused = |refusal| self.0.refused(refusal, deadline, || "nobody gave a permit".into());
                latch::Semaphore::in_words(words).acquire(deadline).map_err(refused)
            }
            Site::Far(far) => self.0.ask(far, SyncOp::Take, [0; 2], deadline, &[]).map(drop),
        }
    }

    /// Gives `n` permits at once.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there would be more than a
    /// [`bounded`](Semaphore::bounded) one had at its start; then none is given.
    pub fn release(&self, n: u64) -> Result<()> {
        let latch = match self.0.site() {
            Site::Near(words) => latch::Semaphore::in_words(words),
            // A time that never passes: a refusal says why.
            Site::Far(far) => return self.0.ask(far, SyncOp::Give, [n, 0], Deadline::Never, &[]).map(drop),
        };
        let state = || format!("{} are there, at most {} may be, and {n} were given", latch.permits(), latch.most());
        latch.release(n).map_err(|refusal| self.0.refused(refusal, Deadline::Now, state))
    }

    /// How many permits there are at this moment.
    pub fn permits(&self) -> u64 {
        match self.0.site() {
            Site::Near(words) => latch::Semaphore::in_words(words).permits(),
            Site::Far(far) => far.figures()[0],
        }
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Semaphore({}, {} permits)", self.0.name(), self.permits())
    }
}
