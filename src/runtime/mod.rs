//! The runtime as a value: what `init()` returns and everything else stands on.
//!
//! A process has at most one world at a time. It lives as long as anything holds on to it: the
//! [`Runtime`] itself or an object made with it, such as a [`Pool`](crate::Pool).

mod config;
mod core;
mod duty;
mod events;
mod lingering;
mod place;
mod start;
mod stats;
mod system;

pub use config::Builder;
pub use events::{Event, Events};
pub use stats::{MemoryStats, ObjectKind, ObjectStats, ProcessPhase, ProcessStats, Stats};
pub use system::System;

pub use crate::id::NodeId;

pub(crate) use self::core::{Core, adopt, current, host_name};
pub(crate) use self::duty::{Duty, order_to_rank};
pub(crate) use self::place::Place;

use std::sync::Arc;

use crate::error::Result;

/// A hold on this process's runtime.
///
/// The runtime ends, and with it every worker it started, when the last hold on it is gone: this value,
/// its like from another call of [`init`], and every pool made meanwhile. Ending takes back all shared
/// memory, whoever ends how: a killed process counts as one that let go.
///
/// ```
/// let dragon = dragon::init()?;
/// assert_eq!((dragon.rank(), dragon.size()), (0, 1));
/// # Ok::<(), dragon::Error>(())
/// ```
#[must_use = "the runtime ends when this value is dropped"]
pub struct Runtime {
    core: Arc<Core>,
}

/// Starts the runtime of this process with the settings of the environment.
///
/// Launched alone, the process is a world of one rank. The call takes well under a millisecond, starts
/// no thread and no process, and touches a few pages of memory; everything else comes with its first
/// use. If a runtime is up already, the call returns another hold on the same one, so that libraries and
/// the tests of one binary need not know of each other. In a worker it returns the worker's own.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a `DRAGON_*` variable that makes no sense,
/// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) or [`Io`](crate::ErrorKind::Io) if the system gives no
/// shared memory; the text says which setting helps.
///
/// ```
/// let _dragon = dragon::init()?;
/// let pool = dragon::Pool::new(2)?;
/// assert_eq!(pool.map(|x: u64| x * x, 1..=3)?, [1, 4, 9]);
/// # Ok::<(), dragon::Error>(())
/// ```
pub fn init() -> Result<Runtime> {
    builder().init()
}

/// Settings for a runtime; each is also a `DRAGON_*` variable. Code beats environment beats default.
pub fn builder() -> Builder {
    Builder::new()
}

/// Runs `body` on the leader while all other ranks serve, and returns its value there and `None` elsewhere.
///
/// ```
/// let total = dragon::run(|_runtime| {
///     let pool = dragon::Pool::new(2)?;
///     Ok(pool.map(|x: u32| x + 1, [1, 2, 3])?.into_iter().sum::<u32>())
/// })?;
/// assert_eq!(total, Some(9));
/// # Ok::<(), dragon::Error>(())
/// ```
///
/// # Errors
/// Those of [`init`] and of `body`.
pub fn run<R>(body: impl FnOnce(&Runtime) -> Result<R>) -> Result<Option<R>> {
    let runtime = init()?;
    let value = runtime.is_leader().then(|| body(&runtime)).transpose();
    // Also without a value: the others wait here for the leader.
    let farewell = runtime.finalize();
    let value = value?;
    farewell?;
    Ok(value)
}

impl Runtime {
    /// This process's rank in its job, from 0.
    pub fn rank(&self) -> usize {
        self.core.place().rank as usize
    }

    /// How many ranks the job has.
    pub fn size(&self) -> usize {
        self.core.place().size()
    }

    /// This process's rank among those of its node.
    pub fn local_rank(&self) -> usize {
        self.core.place().local_rank as usize
    }

    /// The node this process runs on.
    pub fn node(&self) -> NodeId {
        NodeId(self.core.place().node())
    }

    /// All nodes of the job.
    pub fn nodes(&self) -> Vec<NodeId> {
        (0..self.core.place().nodes()).map(NodeId).collect()
    }

    /// All nodes of the job with their cpus, memory and GPUs. The first call of a process asks them, which takes a round
    /// trip, and what their GPUs' libraries take to start.
    pub fn system(&self) -> System {
        self.core.system()
    }

    /// The rank that leads the job.
    pub fn leader(&self) -> usize {
        0
    }

    /// Whether this rank leads the job.
    pub fn is_leader(&self) -> bool {
        self.rank() == self.leader()
    }

    /// The number of this leadership: it grows with every change of the leader.
    pub fn term(&self) -> u64 {
        1
    }

    /// What happens in the job from now on. Each call gives an independent stream.
    ///
    /// A stream holds 1,024 events for a slow reader and drops further ones until it has read.
    ///
    /// ```
    /// let dragon = dragon::init()?;
    /// let events = dragon.events();
    /// assert!(events.try_next().is_none());
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn events(&self) -> Events {
        self.core.subscribe()
    }

    /// Figures of this node's shared memory, of the job's processes and of all its objects, read directly from the
    /// memory: no process is asked, and none is held up.
    ///
    /// [`observe`](crate::observe) reads the same from outside of the job.
    ///
    /// ```
    /// let dragon = dragon::init()?;
    /// let queue = dragon::Queue::<u64>::builder().capacity(8).name("figures").build()?;
    /// queue.put_many([1, 2, 3])?;
    /// queue.get()?;
    /// let stats = dragon.stats();
    /// assert!(stats.memory.limit > stats.memory.in_use);
    /// let figures = stats.object("figures").unwrap();
    /// assert_eq!((figures.len, figures.capacity), (Some(2), Some(8)));
    /// assert_eq!((figures.counters.puts, figures.counters.gets, figures.counters.bytes), (3, 1, 24));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Ends the runtime now, whoever still holds on to it: waits until all ranks of the job have called it, then kills
    /// and reaps the workers that are left and takes back what they held. Pools made with it answer
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized) from then on; in a job of one rank a later [`init`] starts anew.
    ///
    /// Until then this rank is a worker of pools that are built [`on_ranks`](crate::PoolBuilder::on_ranks).
    ///
    /// Dropping the last hold does the same and logs what this returns. A rank that ends in any other way is not waited for,
    /// nor does one wait that drops its hold because it panics.
    ///
    /// # Errors
    /// [`NodeLost`](crate::ErrorKind::NodeLost) if ranks ended before, in another way; the text names them.
    pub fn finalize(self) -> Result<()> {
        self.core.shut_down()
    }
}

impl Drop for Runtime {
    /// The last hold of all waits while it is still one, so that tasks that come to this rank meanwhile find a runtime.
    fn drop(&mut self) {
        if self.size() > 1
            && Arc::strong_count(&self.core) == 1
            && let Err(error) = self.core.shut_down()
        {
            tracing::error!(%error, "the runtime ends");
        }
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runtime(rank {} of {}, {})", self.rank(), self.size(), self.node())
    }
}
