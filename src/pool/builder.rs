//! How a pool is put together.

use std::sync::Arc;
use std::thread;

use crossbeam::channel::{bounded, unbounded};

use super::board::Board;
use super::crew::Recruiter;
use super::engine::{Engine, WINDOW};
use super::flight::Context;
use super::minder::Minder;
use super::sink::lock;
use super::worker::{self, Assignment};
use super::{Lifeline, Pool};
use crate::channel;
use crate::channel::{Channel, Load};
use crate::error::{Error, ErrorKind, Result};
use crate::mm::{Memory, MemoryConfig};
use crate::runtime;
use crate::task::thunk::{self, Captures};
use crate::wire::{self, Message};

/// Bytes of a message that travel in the ring itself: two cache lines with their head.
const INLINE: usize = 112;

/// A function that workers run first, named, its encoded argument, and the objects whose handles are in that.
type Initializer = (Vec<u8>, Vec<u8>, Load);

/// Settings of a [`Pool`].
///
/// ```
/// # let _dragon = dragon::init()?;
/// let pool = dragon::Pool::builder().processes(2).retries(1).tasks_per_worker(100).build()?;
/// assert_eq!(pool.size(), 2);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct PoolBuilder {
    processes: Option<usize>,
    initializer: Option<Result<Initializer>>,
    tasks_per_worker: u64,
    retries: u32,
}

impl PoolBuilder {
    pub(super) fn new() -> PoolBuilder {
        PoolBuilder { processes: None, initializer: None, tasks_per_worker: 0, retries: 0 }
    }

    /// How many workers. Default: as many as this process may use processors.
    pub fn processes(mut self, processes: usize) -> PoolBuilder {
        self.processes = Some(processes);
        self
    }

    /// A function that every worker runs once, before its first task, with an argument that is sent along.
    /// If it panics the pool breaks down with [`WorkerStart`](ErrorKind::WorkerStart) and its text.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// use std::sync::OnceLock;
    /// static SCALE: OnceLock<f64> = OnceLock::new();
    /// let pool = dragon::Pool::builder().processes(1).initializer(|s: f64| SCALE.set(s).unwrap(), 2.0).build()?;
    /// assert_eq!(pool.map(|x: f64| x * SCALE.get().unwrap(), [1.0, 2.0])?, [2.0, 4.0]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn initializer<F, T>(mut self, f: F, argument: T) -> PoolBuilder
    where
        F: Fn(T) + Copy + Send + Sync + 'static,
        T: Message,
    {
        const { Captures::<F>::NOTHING };
        let encode = || {
            let mut bytes = Vec::new();
            let (encoded, cargo) = channel::gather(|| wire::encode(&argument, &mut bytes));
            encoded?;
            Ok((worker::name_function(thunk::one(f))?, bytes, cargo))
        };
        self.initializer = Some(encode());
        self
    }

    /// After so many tasks a worker is replaced by a fresh process; a chunk of a map counts as one task.
    /// 0, the default: never.
    pub fn tasks_per_worker(mut self, tasks: u64) -> PoolBuilder {
        self.tasks_per_worker = tasks;
        self
    }

    /// How often a task is run again whose worker was lost. Default 0: it fails with
    /// [`WorkerLost`](ErrorKind::WorkerLost). A task that panics is not run again.
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.retries = retries;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for zero processes,
    /// [`NotInitialized`](ErrorKind::NotInitialized) without a runtime,
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) if the system gives no process or descriptor,
    /// [`OutOfMemory`](ErrorKind::OutOfMemory). On an error nothing of the pool is left.
    pub fn build(self) -> Result<Pool> {
        let workers = match self.processes {
            Some(0) => return Err(Error::new(ErrorKind::InvalidArgument, "a pool needs at least one process, not 0")),
            Some(workers) => workers,
            None => thread::available_parallelism().map_or(1, Into::into),
        };
        let core = runtime::current()?;
        let memory = core.memory().clone();
        let initializer = self.initializer.transpose()?;
        let parts = Parts::create(&memory, core.config().clone(), workers, self.tasks_per_worker, initializer)?;
        let engine = Arc::new(Engine::new(parts.board.clone(), parts.tasks, parts.results, workers));
        let (ended, ends) = unbounded();
        let recruiter = Recruiter { core: core.clone(), board: parts.board, assignment: parts.assignment, ended };
        let places: Vec<usize> = (0..workers).collect();
        let born = recruiter.start(&places)?;
        let mut state = lock(&engine.state);
        places.into_iter().zip(born).for_each(|(place, born)| state.crew.seat(place, born));
        drop(state);
        let (lifeline, pool) = bounded(0);
        let minder = Minder { engine: Arc::downgrade(&engine), recruiter, ends, pool };
        let thread = thread::Builder::new().name("dragon-pool".into()).spawn(move || minder.run());
        let thread = thread.map_err(|e| {
            lock(&engine.state).crew.kill();
            Error::with_source(ErrorKind::ResourceLimit, "no thread to look after the pool's workers", e)
        })?;
        let lifeline = Lifeline { _lifeline: lifeline, thread: Some(thread) };
        Ok(Pool::new_running(core, engine, workers, self.retries, parts.initializer, lifeline))
    }
}

/// What of a pool lies in shared memory.
struct Parts {
    board: Board,
    tasks: Channel,
    results: Channel,
    assignment: Assignment,
    initializer: Option<Context>,
}

impl Parts {
    fn create(
        memory: &Arc<Memory>,
        config: MemoryConfig,
        workers: usize,
        tasks_per_worker: u64,
        initializer: Option<Initializer>,
    ) -> Result<Parts> {
        let board = Board::create(memory, workers, WINDOW)?;
        let tasks = Channel::create(memory, WINDOW, INLINE)?;
        // One more per worker for the word of one whose initializer failed.
        let results = Channel::create(memory, WINDOW + workers, INLINE)?;
        let (block, initializer) = match initializer {
            None => (None, None),
            Some((reference, bytes, _cargo)) => {
                let block = memory.store(&bytes)?;
                let handle = block.handle();
                (Some(Context { _block: block, _cargo }), Some((reference, bytemuck::cast(handle))))
            }
        };
        let assignment = Assignment {
            board: board.id(),
            tasks: tasks.id(),
            results: results.id(),
            workers,
            flights: WINDOW,
            place: 0,
            tasks_per_worker,
            initializer,
            memory: config,
        };
        Ok(Parts { board, tasks, results, assignment, initializer: block })
    }
}
