//! A flag that processes wait for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shared::{Far, Shared, Site, Sort};
use crate::error::Result;
use crate::latch;
use crate::mm::Kind;
use crate::runtime::NodeId;
use crate::select::{Door, Ready, Source};
use crate::services::{FarError, SPELL, SyncOp, Why};
use crate::time::Deadline;

enum OfEvent {}

impl Sort for OfEvent {
    const KIND: Kind = Kind::Event;
    const CALLED: &'static str = "event";
}

/// A flag: one sets it, and all who wait for it go on, now and later, until it is cleared.
///
/// All who waited when it was set go on, also if it is cleared before they are awake. Nobody can know who will set
/// it: if that process dies, use [`wait_timeout`](Event::wait_timeout). A process that dies while it sets
/// the flag has set it or not; if it has, all wake.
///
/// **Other nodes.** Who waits on another node waits at the event's home, and learns it if that is lost.
///
/// ```
/// let _dragon = dragon::init()?;
/// let ready = dragon::sync::Event::new()?;
/// let pool = dragon::Pool::new(1)?;
/// let task = pool.submit(|ready: dragon::sync::Event| ready.wait().unwrap(), ready.clone())?;
/// ready.set()?;
/// task.get()?;
/// ready.clear()?;
/// assert!(!ready.is_set());
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Event(Shared<OfEvent>);

impl Event {
    /// An event that is not set.
    ///
    /// # Errors
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized), [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new() -> Result<Event> {
        Ok(Event(Shared::create(latch::Event::WORDS, |_| ())?))
    }

    /// Sets the flag and wakes all who wait.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn set(&self) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => latch::Event::in_words(words).set(),
            Site::Far(far) => self.0.tell(far, SyncOp::Set, 0)?,
        }
        Ok(())
    }

    /// Clears the flag.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost).
    pub fn clear(&self) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => latch::Event::in_words(words).clear(),
            Site::Far(far) => self.0.tell(far, SyncOp::Clear, 0)?,
        }
        Ok(())
    }

    /// Whether the flag is set. That of a lost node counts as not set.
    pub fn is_set(&self) -> bool {
        match self.0.site() {
            Site::Near(words) => latch::Event::in_words(words).is_set(),
            Site::Far(far) => far.figures()[0] != 0,
        }
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    /// Waits until the flag is set.
    ///
    /// # Errors
    /// None.
    pub fn wait(&self) -> Result<()> {
        self.wait_by(Deadline::Never)
    }

    /// Fails if the flag is not set; [`is_set`](Event::is_set) as a result.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    pub fn try_wait(&self) -> Result<()> {
        self.wait_by(Deadline::Now)
    }

    /// Waits until the flag is set, at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    pub fn wait_timeout(&self, patience: Duration) -> Result<()> {
        self.wait_by(Deadline::after(patience))
    }

    fn wait_by(&self, deadline: Deadline) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => {
                let refused = |refusal| self.0.refused(refusal, deadline, || "nobody has set it".into());
                latch::Event::in_words(words).wait(deadline).map_err(refused)
            }
            Site::Far(far) => self.0.ask(far, SyncOp::Wait, [0; 2], deadline, &[]).map(drop),
        }
    }
}

/// Ready while the flag is set. One that is set and cleared again while the selector sleeps may pass unnoticed.
/// Waits on the event's node; one that is lost is not waited for.
fn ask(far: &Far) -> bool {
    match far.ask(SyncOp::Wait, [0; 2], Deadline::after(SPELL), &[]) {
        Err(FarError::Refused { why: Why::TimedOut, .. }) => false,
        Ok(_) | Err(_) => true,
    }
}

impl Source for Event {
    fn door(&self) -> Door<'_> {
        let cell = self.0.cell(|words| latch::Event::in_words(words).cell(), ask);
        Door { cell, ready: self }
    }
}

impl Ready for Event {
    fn is_ready(&self) -> bool {
        self.0.was_ready().unwrap_or_else(|| self.is_set())
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event({}, {})", self.0.name(), if self.is_set() { "set" } else { "not set" })
    }
}
