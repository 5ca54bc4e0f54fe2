//! Waiting for several things at once: a [`Selector`] sleeps at all their wait cells in one call of the kernel.

mod process;

pub use process::ProcessWatch;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::prim::{AtomicUsize, Ordering};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until_any};

/// What a [`Selector`] can wait for: a message in a [`Queue`](crate::Queue) or a [`Channel`](crate::Channel), an
/// [`Event`](crate::sync::Event) that is set, the end of a task ([`TaskWatch`](crate::TaskWatch)) or of a process
/// ([`ProcessWatch`]). Not to be implemented elsewhere.
pub trait Source: Send + Sync {
    #[doc(hidden)]
    fn door(&self) -> Door<'_>;
}

/// Where to wait for a source, and how to see whether it is ready.
#[doc(hidden)]
pub struct Door<'a> {
    pub(crate) cell: &'a WaitCell,
    pub(crate) ready: &'a dyn Ready,
}

/// Whether something need not be waited for any more.
#[doc(hidden)]
pub trait Ready {
    fn is_ready(&self) -> bool;
}

/// Waits until one of several things is ready: a queue or a channel has a message or is closed, an event is set, a task or
/// a process has ended.
///
/// It costs nothing while it waits: the thread sleeps at all of them at once, and whoever puts a message into one, or
/// sets an event, wakes it. (A kernel before Linux 5.16, and more than 128 sources, mean a look every millisecond instead.)
///
/// That a queue is ready is not yet its message: another may be faster to take it, so take with
/// `try_get` and be prepared for [`Empty`](ErrorKind::Empty).
///
/// ```
/// let _dragon = dragon::init()?;
/// let (left, right) = (dragon::Queue::<u32>::bounded(4)?, dragon::Queue::<String>::unbounded()?);
/// let mut selector = dragon::Selector::new();
/// let (l, r) = (selector.add(&left), selector.add(&right));
/// right.put("message".into())?;
/// let ready = selector.select()?;
/// assert!(ready == r && ready != l);
/// assert_eq!(right.try_get()?, "message");
///
/// // Events, tasks and processes as well.
/// let (stop, pool) = (dragon::sync::Event::new()?, dragon::Pool::new(1)?);
/// let worker = dragon::ProcessWatch::of(pool.workers()[0].pid)?;
/// let task = pool.submit(|stop: dragon::sync::Event| stop.set().unwrap(), stop.clone())?;
/// let [stopped, done, lost] = [selector.add(&stop), selector.add(&task.watch()), selector.add(&worker)];
/// let first = selector.select()?;
/// assert!(first == stopped || first == done && first != lost);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Default)]
pub struct Selector {
    sources: Vec<Arc<dyn Source>>,
    /// Where the next look begins, so that a busy source does not hide the others.
    next: AtomicUsize,
}

impl Selector {
    /// A selector of nothing yet.
    pub fn new() -> Selector {
        Selector::default()
    }

    /// Adds a source; its number is how [`select`](Selector::select) names it. The selector keeps a clone.
    pub fn add<S: Source + Clone + 'static>(&mut self, source: &S) -> usize {
        self.sources.push(Arc::new(source.clone()));
        self.sources.len() - 1
    }

    /// Waits until a source is ready, and returns its number. If several are, each gets its turn.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is no source.
    pub fn select(&self) -> Result<usize> {
        self.select_by(Deadline::Never)
    }

    /// The number of a source that is ready now.
    ///
    /// # Errors
    /// [`Empty`](ErrorKind::Empty) if none is, and those of [`select`](Selector::select).
    pub fn try_select(&self) -> Result<usize> {
        self.select_by(Deadline::Now)
    }

    /// Waits at most this long until a source is ready.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`select`](Selector::select).
    pub fn select_timeout(&self, patience: Duration) -> Result<usize> {
        self.select_by(Deadline::after(patience))
    }

    fn select_by(&self, deadline: Deadline) -> Result<usize> {
        if self.sources.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a selector without sources would wait for ever"));
        }
        let doors: Vec<Door<'_>> = self.sources.iter().map(|source| source.door()).collect();
        let cells: Vec<&WaitCell> = doors.iter().map(|door| door.cell).collect();
        let mut look = || self.look(&doors);
        let waited = wait_until_any(&cells, &mut Patience::new(), deadline, &mut look);
        // I only looked: a call that woke me must go on to somebody who takes.
        for door in &doors {
            door.cell.notify_one_if(|| door.ready.is_ready());
        }
        waited.map_err(|_| match deadline {
            Deadline::Now => Error::new(ErrorKind::Empty, "none of the sources is ready"),
            _ => Error::new(ErrorKind::TimedOut, "the time ran out before one of the sources was ready"),
        })
    }

    fn look(&self, doors: &[Door<'_>]) -> Option<usize> {
        // Relaxed: any beginning is a good one.
        let begin = self.next.load(Ordering::Relaxed) % doors.len();
        let found = (begin..doors.len()).chain(0..begin).find(|&at| doors[at].ready.is_ready())?;
        self.next.store(found + 1, Ordering::Relaxed); // as above
        Some(found)
    }
}

impl std::fmt::Debug for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Selector({} sources)", self.sources.len())
    }
}
