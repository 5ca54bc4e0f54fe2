//! A pool of worker processes: functions and items go out, results come back, a death is an error.

mod attendant;
mod board;
mod builder;
mod conscript;
mod crew;
mod engine;
mod flight;
mod handle;
mod home;
mod imap;
mod map;
mod message;
mod minder;
mod news;
mod shares;
mod sink;
mod site;
mod sites;
mod watch;
mod worker;

pub use builder::PoolBuilder;
pub use crew::{WorkerInfo, WorkerState};
pub use handle::Task;
pub use imap::Stream;
pub use map::Chunked;
pub use watch::TaskWatch;

use std::sync::Arc;
use std::time::Duration;

use self::engine::{Engine, Phase};
use self::flight::{Context, Parcel};
use self::handle::{Cell, decode_one};
use self::home::Home;
use self::map::Recipe;
use self::message::op;
use self::sink::{Outcome, cancelled, lock};
use crate::channel;
use crate::error::{Error, ErrorKind, Result};
use crate::prim::{AtomicU64, Ordering};
use crate::runtime::NodeId;
use crate::task::thunk::{self, Captures};
use crate::time::Deadline;
use crate::wire::{self, Message};

/// Worker processes that run functions of this program.
///
/// A function is an `fn` item or a closure that captures nothing; what it needs goes in as its argument,
/// or as the context of [`map_with`](Pool::map_with). Capturing is a compile error that says so. Nothing
/// has to be registered, and `main` of the program never runs in a worker.
///
/// A task that panics is an error of that task and the worker lives on. A worker that dies, however, is
/// an error of the task it ran and of no other, and is replaced. No call hangs because a process died.
///
/// Dropping the pool kills its workers; [`close`](Pool::close) and [`join`](Pool::join) let them finish.
/// A pool may be used from many threads at once, and inside tasks of another pool. It mirrors DragonHPC's
/// native pool and Python's `multiprocessing.Pool`, with two improvements on purpose: a killed worker's
/// task fails instead of hanging, and [`terminate`](Pool::terminate) really ends the processes.
///
/// ```
/// let _dragon = dragon::init()?;
/// let pool = dragon::Pool::new(2)?;
/// let squares: Vec<u64> = pool.map(|x: u64| x * x, 0..5)?;
/// assert_eq!(squares, [0, 1, 4, 9, 16]);
/// # Ok::<(), dragon::Error>(())
/// ```
///
/// What does not compile, because `k` would have to travel silently:
///
/// ```compile_fail
/// let _dragon = dragon::init().unwrap();
/// let pool = dragon::Pool::new(1).unwrap();
/// let k = 3;
/// let _: Vec<u64> = pool.map(move |x: u64| x * k, [1]).unwrap();
/// ```
pub struct Pool {
    home: Home,
    engine: Arc<Engine>,
    workers: usize,
    retries: u32,
    contexts: AtomicU64,
    /// Read by workers that are started later, so kept as long as the pool.
    _initializer: Option<Context>,
    lifeline: Lifeline,
}

/// The minder's thread, which ends when this does.
struct Lifeline {
    _lifeline: crossbeam::channel::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pool {
    /// A pool of so many workers with default settings.
    ///
    /// Returns when the processes have been started; they take tasks as soon as they are ready.
    ///
    /// # Errors
    /// See [`PoolBuilder::build`].
    pub fn new(processes: usize) -> Result<Pool> {
        Pool::builder().processes(processes).build()
    }

    /// A pool with settings.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    fn new_running(
        home: Home,
        engine: Arc<Engine>,
        workers: usize,
        retries: u32,
        initializer: Option<Context>,
        lifeline: Lifeline,
    ) -> Pool {
        Pool { home, engine, workers, retries, contexts: AtomicU64::new(1), _initializer: initializer, lifeline }
    }

    fn next_context(&self) -> u64 {
        self.contexts.fetch_add(1, Ordering::Relaxed) // only has to differ
    }

    /// How many workers the pool keeps.
    pub fn size(&self) -> usize {
        self.workers
    }

    /// Applies a function to every item and returns the results in order.
    ///
    /// The items are cut into chunks, four per worker; [`chunk`](Pool::chunk) overrides that. Waits until
    /// all are done or one has failed; then what has not begun is given up.
    ///
    /// # Errors
    /// The first of its parts that failed: [`TaskPanicked`](ErrorKind::TaskPanicked),
    /// [`WorkerLost`](ErrorKind::WorkerLost), [`Codec`](ErrorKind::Codec),
    /// [`WrongBuild`](ErrorKind::WrongBuild), [`OutOfMemory`](ErrorKind::OutOfMemory); and
    /// [`Closed`](ErrorKind::Closed) after [`close`](Pool::close).
    pub fn map<F, T, R, I>(&self, f: F, items: I) -> Result<Vec<R>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        self.chunked().map(f, items)
    }

    /// [`map`](Pool::map) with a context that is sent once per worker, not once per item.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let pool = dragon::Pool::new(2)?;
    /// let table = vec![10.0, 20.0, 30.0];
    /// let picked = pool.map_with(&table, |table: &Vec<f64>, at: usize| table[at], [2, 0])?;
    /// assert_eq!(picked, [30.0, 10.0]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    pub fn map_with<C, F, T, R, I>(&self, context: &C, f: F, items: I) -> Result<Vec<R>>
    where
        F: Fn(&C, T) -> R + Copy + Send + Sync + 'static,
        C: Message + Sync,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        self.chunked().map_with(context, f, items)
    }

    /// [`map`](Pool::map) with `rayon` inside: one chunk per worker, whose items run on all processors
    /// that the worker was given. For few workers with many processors each.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let pool = dragon::Pool::new(1)?;
    /// assert_eq!(pool.par_map(|x: u32| x + 1, 0..4)?, [1, 2, 3, 4]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    pub fn par_map<F, T, R, I>(&self, f: F, items: I) -> Result<Vec<R>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        self.chunked().par_map(f, items)
    }

    /// [`map`](Pool::map) without waiting: the task's result is the whole vector.
    ///
    /// # Errors
    /// As [`map`](Pool::map); failures of parts come as the task's result.
    pub fn map_async<F, T, R, I>(&self, f: F, items: I) -> Result<Task<Vec<R>>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        self.chunked().map_async(f, items)
    }

    /// Results as a stream, in order. Items are drawn as results are taken, four parts per worker ahead;
    /// a part is one item unless [`chunk`](Pool::chunk) says otherwise.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let pool = dragon::Pool::new(2)?;
    /// let first = pool.imap(|x: u64| x * x, 1..)?.take(3).collect::<dragon::Result<Vec<_>>>()?;
    /// assert_eq!(first, [1, 4, 9]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`](Pool::map); failures of parts come as items of the stream.
    pub fn imap<'p, F, T, R, I>(&'p self, f: F, items: I) -> Result<Stream<'p, T, R, I::IntoIter>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        Chunked { pool: self, chunk: Some(1) }.imap(f, items)
    }

    /// [`imap`](Pool::imap) with the results as they come.
    ///
    /// # Errors
    /// As [`imap`](Pool::imap).
    pub fn imap_unordered<'p, F, T, R, I>(&'p self, f: F, items: I) -> Result<Stream<'p, T, R, I::IntoIter>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        Chunked { pool: self, chunk: Some(1) }.imap_unordered(f, items)
    }

    /// This pool with maps that cut their items into chunks of `items`. Small chunks balance better and
    /// cost more messages.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let pool = dragon::Pool::new(2)?;
    /// assert_eq!(pool.chunk(1).map(|x: u8| x / 2, [8, 6])?, [4, 3]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn chunk(&self, items: usize) -> Chunked<'_> {
        Chunked { pool: self, chunk: Some(items) }
    }

    fn chunked(&self) -> Chunked<'_> {
        Chunked { pool: self, chunk: None }
    }

    /// Sends one task and returns at once. Tasks for which there is no room wait on this side.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), [`Codec`](ErrorKind::Codec) if the argument cannot be encoded.
    pub fn submit<F, T, R>(&self, f: F, argument: T) -> Result<Task<R>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
    {
        const { Captures::<F>::NOTHING };
        self.engine.check_open()?;
        let recipe = Recipe::new(self, thunk::one(f))?;
        let mut bytes = Vec::with_capacity(64);
        recipe.begin(&mut bytes);
        let (encoded, cargo) = channel::gather(|| wire::encode(&argument, &mut bytes));
        encoded?;
        let cell = Cell::new(&self.engine, decode_one::<R>);
        let launch = recipe.launch(cell.clone(), 0, self.retries, cargo);
        self.engine.submit(Parcel { launch, bytes });
        Ok(Task::new(self.engine.clone(), cell.clone(), cell, recipe.thunk()))
    }

    /// The workers at this moment.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let pool = dragon::Pool::new(3)?;
    /// assert_eq!(pool.workers().len(), 3);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let here = lock(&self.engine.state).crew.infos(&self.engine.board, NodeId::new(self.home.node()));
        let far = self.engine.sites.get().map(|sites| sites.infos());
        here.into_iter().chain(far.into_iter().flatten()).collect()
    }

    /// Takes no further task; those that were submitted are finished. Returns at once. Idempotent.
    pub fn close(&self) {
        let mut state = lock(&self.engine.state);
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.engine.finish_if_done();
    }

    /// Waits until a closed pool has finished its tasks and its workers have ended.
    ///
    /// # Errors
    /// [`StillOpen`](ErrorKind::StillOpen) if the pool was neither closed nor terminated.
    pub fn join(&self) -> Result<()> {
        if lock(&self.engine.state).phase == Phase::Open {
            return Err(Error::new(ErrorKind::StillOpen, "close the pool before it is joined: `pool.close()`"));
        }
        self.wait_for_workers(Deadline::Never);
        lock(&self.engine.state).phase = Phase::Ended;
        self.engine.results.poke();
        self.engine.turn_over();
        Ok(())
    }

    /// Gives up all tasks, lets those that run have `patience` to finish (their results are lost), then
    /// kills what is left, and waits until every worker has ended.
    ///
    /// # Errors
    /// None.
    pub fn terminate(&self, patience: Duration) -> Result<()> {
        self.give_up(ErrorKind::Cancelled, "");
        self.tell_sites(op::STOP);
        if !self.wait_for_workers(Deadline::after(patience)) {
            lock(&self.engine.state).crew.kill();
            self.tell_sites(op::KILL);
            self.wait_for_workers(Deadline::Never);
        }
        self.engine.results.poke();
        self.engine.turn_over();
        Ok(())
    }

    /// [`terminate`](Pool::terminate) without patience.
    ///
    /// # Errors
    /// None.
    pub fn kill(&self) -> Result<()> {
        self.terminate(Duration::ZERO)
    }

    /// Ends all tasks that have not been answered, and lets no worker of this node begin another.
    fn give_up(&self, kind: ErrorKind, why: &str) {
        let mut state = lock(&self.engine.state);
        state.phase = Phase::Ended;
        let waiting = state.flights.clear();
        drop(state);
        for launch in waiting {
            let error = match why {
                "" => cancelled(launch.thunk.name()),
                why => Error::new(kind, format!("task `{}` was given up: {why}", launch.thunk.name())),
            };
            self.engine.deliver(launch, Outcome::Failed(error));
        }
        self.engine.board.stop();
        self.engine.tasks.close();
        self.engine.tasks.poke();
    }

    fn tell_sites(&self, op: u32) {
        if let Some(sites) = self.engine.sites.get() {
            sites.tell_all(op, &[]);
        }
    }

    fn wait_for_workers(&self, deadline: Deadline) -> bool {
        self.engine.wait_for(deadline, &|| self.engine.is_deserted())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.kill(); // cannot fail
        if let Some(sites) = self.engine.sites.get() {
            sites.news.close();
        }
        let Some(thread) = self.lifeline.thread.take() else { return };
        drop(std::mem::replace(&mut self.lifeline._lifeline, crossbeam::channel::bounded(0).0));
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the thread that looked after a pool's workers panicked");
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = lock(&self.engine.state);
        let (phase, alive, waiting) = (state.phase, state.crew.alive(), state.flights.in_flight());
        write!(f, "Pool({alive} workers here, {} in all, {waiting} tasks on their way, {phase:?})", self.workers)
    }
}
