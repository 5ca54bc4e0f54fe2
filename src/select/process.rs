//! The end of a process, to wait for.

use std::sync::Arc;
use std::time::Duration;

use super::{Door, Ready, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::latch;
use crate::mm::Life;
use crate::runtime;
use crate::runtime::Core;
use crate::time::Deadline;
use crate::wait::{Patience, wait_until};

/// A process of the job, watched for its end: alone by [`wait`](ProcessWatch::wait), or beside queues and events in a
/// [`Selector`](crate::Selector).
///
/// A process counts as ended when all that it held in shared memory has been given back, some milliseconds after it
/// died. Its number may be another's by then; this watch is still of the one it was made for.
///
/// ```
/// let _dragon = dragon::init()?;
/// let pool = dragon::Pool::new(1)?;
/// let worker = dragon::ProcessWatch::of(pool.workers()[0].pid)?;
/// assert!(!worker.is_over());
/// pool.close();
/// worker.wait()?;
/// assert!(worker.is_over());
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone)]
pub struct ProcessWatch {
    core: Arc<Core>,
    life: Life,
    pid: u32,
}

impl ProcessWatch {
    /// Watches the process with this number, such as that of a [worker](crate::Pool::workers).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is no process of this job on this node, or has ended;
    /// [`NotInitialized`](ErrorKind::NotInitialized).
    pub fn of(pid: u32) -> Result<ProcessWatch> {
        let core = runtime::current()?;
        let none = || Error::new(ErrorKind::NotFound, format!("process {pid} is none of this job, or has ended"));
        let life = core.memory().life_of(pid).ok_or_else(none)?;
        Ok(ProcessWatch { core, life, pid })
    }

    /// The number it had or has.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.core.memory().is_past(self.life)
    }

    /// Waits until it has ended. To wait for this very process, or one that waits for it, is to wait for ever.
    ///
    /// # Errors
    /// None.
    pub fn wait(&self) -> Result<()> {
        self.wait_by(Deadline::Never)
    }

    /// Waits until it has ended, at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut).
    pub fn wait_timeout(&self, patience: Duration) -> Result<()> {
        self.wait_by(Deadline::after(patience))
    }

    fn wait_by(&self, deadline: Deadline) -> Result<()> {
        let cell = latch::cell_of_ends(self.core.memory());
        let over = || self.is_over().then_some(());
        let late = |_| Error::new(ErrorKind::TimedOut, format!("process {} still runs when the time is up", self.pid));
        wait_until(cell, &mut Patience::new(), deadline, over).map_err(late)
    }
}

impl Source for ProcessWatch {
    fn door(&self) -> Door<'_> {
        Door { cell: latch::cell_of_ends(self.core.memory()), ready: self }
    }
}

impl Ready for ProcessWatch {
    fn is_ready(&self) -> bool {
        self.is_over()
    }
}

impl std::fmt::Debug for ProcessWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessWatch({}, {})", self.pid, if self.is_over() { "over" } else { "runs" })
    }
}
