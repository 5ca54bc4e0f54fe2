//! How a pool is put together.

use std::sync::Arc;
use std::thread;

use crossbeam::channel::{bounded, unbounded};

use super::board::Board;
use super::crew::Recruiter;
use super::engine::{Engine, WINDOW};
use super::flight::Context;
use super::home::Home;
use super::minder::Minder;
use super::shares::{Nodes, Share, Wish};
use super::sink::lock;
use super::sites::{Founding, Sites};
use super::worker::Assignment;
use super::{Lifeline, Pool};
use crate::channel;
use crate::channel::{Channel, Load};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::{Policy, Seat};
use crate::runtime;
use crate::runtime::NodeId;
use crate::task;
use crate::task::thunk::{self, Captures};
use crate::wire::{self, Message};

/// Bytes of a message that travel in the ring itself: two cache lines with their head.
const INLINE: usize = 112;

/// A function that workers run first, named, its encoded argument, and the objects whose handles are in that.
pub(super) type Initializer = (Vec<u8>, Vec<u8>, Load);

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
    wish: Wish,
    initializer: Option<Result<Initializer>>,
    tasks_per_worker: u64,
    retries: u32,
}

impl PoolBuilder {
    pub(super) fn new() -> PoolBuilder {
        let wish = Wish { processes: None, nodes: Nodes::All, policy: Policy::new(), policies: None };
        PoolBuilder { wish, initializer: None, tasks_per_worker: 0, retries: 0 }
    }

    /// How many workers. Default: on each node as many as a process there may use processors.
    pub fn processes(mut self, processes: usize) -> PoolBuilder {
        self.wish.processes = Some(processes);
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
            Ok((task::name_in_full(thunk::one(f))?, bytes, cargo))
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

    /// All workers on this process's node. The default spreads them over all nodes of the job, this one first, in equal
    /// parts; [`workers`](Pool::workers) says where each is.
    pub fn local(mut self) -> PoolBuilder {
        self.wish.nodes = Nodes::Own;
        self
    }

    /// The workers on these nodes, in equal parts; those listed first get one more if it does not come out even.
    ///
    /// ```
    /// let dragon = dragon::init()?;
    /// let pool = dragon::Pool::builder().processes(2).nodes(dragon.nodes()).build()?;
    /// assert!(pool.workers().iter().all(|worker| worker.node == dragon.node()), "a job of one node");
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = NodeId>) -> PoolBuilder {
        self.wish.nodes = Nodes::Named(nodes.into_iter().map(NodeId::number).collect());
        self
    }

    /// Where the workers go, and which cpus and GPUs each has: the policy, completed by that of the [scope](Policy::scope). What
    /// a worker starts inherits them. Without [`processes`](PoolBuilder::processes) there are as many workers as its nodes,
    /// or its cpus if it names some, can run at a time. A worker that takes a dead one's place has its seat.
    ///
    /// ```
    /// let dragon = dragon::init()?;
    /// let cpu = dragon.system().here().cpus[0];
    /// let pool = dragon::Pool::builder().processes(2).policy(dragon::Policy::new().local().cpus([cpu])).build()?;
    /// let seen = pool.map(|_: u8| std::thread::available_parallelism().unwrap().get(), 0..2)?;
    /// assert_eq!(seen, [1, 1]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn policy(mut self, policy: Policy) -> PoolBuilder {
        self.wish.policy = policy;
        self
    }

    /// So many workers for each of these policies, each completed by [`policy`](PoolBuilder::policy) and the scope: with
    /// [`System::gpu_policies`](crate::System::gpu_policies), so many for each GPU of the job.
    pub fn policies(mut self, policies: impl IntoIterator<Item = Policy>, per_policy: usize) -> PoolBuilder {
        self.wish.policies = Some((policies.into_iter().collect(), per_policy));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for zero processes, for an unknown node or host, or for a cpu or GPU
    /// that is not there, which the text names, and for settings that contradict each other;
    /// [`NotInitialized`](ErrorKind::NotInitialized) without a runtime,
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) if the system gives no process or descriptor,
    /// [`OutOfMemory`](ErrorKind::OutOfMemory), [`NodeLost`](ErrorKind::NodeLost) for a node that was named. On an error
    /// nothing of the pool is left.
    pub fn build(self) -> Result<Pool> {
        let core = runtime::current()?;
        let initializer = self.initializer.transpose()?;
        let named = self.wish.is_named();
        let mut far = self.wish.shares(&core)?;
        let here = far.remove(0); // it is always there
        let told = initializer.as_ref().map(|(name, bytes, _)| (name.clone(), bytes.clone()));
        let founding = |share: Share| Founding {
            workers: share.workers as u64,
            seats: share.seats,
            tasks_per_worker: self.tasks_per_worker,
            initializer: told.clone(),
        };
        let wanted: Vec<_> = far.into_iter().map(|share| (share.node, founding(share))).collect();
        let (workers, tasks_per_worker, retries) = (here.workers, self.tasks_per_worker, self.retries);
        let seats = here.seats;
        let plan = Plan { workers, seats, tasks_per_worker, initializer, retries, sites: wanted.len(), far: false };
        let mesh = core.mesh()?.filter(|_| !wanted.is_empty()).cloned();
        plan.carry_out(Home::Own(core.clone()), |engine| {
            let Some(mesh) = mesh else { return Ok(0) };
            let (sites, far) = Sites::found(&mesh, engine, &wanted, named)?;
            engine.take_in(sites, workers, &far);
            Ok(far.iter().sum())
        })
    }
}

/// Everything to be known before the workers of one node are started.
pub(super) struct Plan {
    pub(super) workers: usize,
    /// One for each worker, or none at all.
    pub(super) seats: Vec<Seat>,
    pub(super) tasks_per_worker: u64,
    pub(super) initializer: Option<Initializer>,
    pub(super) retries: u32,
    /// How many other nodes have workers of this pool.
    pub(super) sites: usize,
    /// They work for a pool of another node.
    pub(super) far: bool,
}

impl Plan {
    /// Starts the workers of this node, and then, by `others`, those of other nodes, which returns how many those are.
    pub(super) fn carry_out(self, home: Home, others: impl FnOnce(&Engine) -> Result<usize>) -> Result<Pool> {
        let workers = self.workers;
        let parts = Parts::create(&home, workers, self.tasks_per_worker, self.initializer, (self.sites, self.far))?;
        let engine = Arc::new(Engine::new(parts.board.clone(), parts.tasks, parts.results, workers));
        let (ended, ends) = unbounded();
        let (board, assignment) = (parts.board, parts.assignment);
        let recruiter = Recruiter { home: home.clone(), board, assignment, seats: self.seats, ended };
        let places: Vec<usize> = (0..workers).collect();
        let born = if workers > 0 { recruiter.start(&places)? } else { Vec::new() };
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
        let mut pool = Pool::new_running(home, engine.clone(), workers, self.retries, parts.initializer, lifeline);
        // On an error the pool is dropped, which ends what there is of it.
        pool.workers += others(&engine)?;
        Ok(pool)
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
        home: &Home,
        workers: usize,
        tasks_per_worker: u64,
        initializer: Option<Initializer>,
        (sites, far): (usize, bool),
    ) -> Result<Parts> {
        let memory = home.memory();
        let board = Board::create(memory, workers, WINDOW)?;
        let tasks = Channel::create(memory, WINDOW, INLINE)?;
        // One more per worker for the word of one whose initializer failed, and per site for its last.
        let results = Channel::create(memory, WINDOW + workers + sites, INLINE)?;
        let (block, initializer) = match initializer {
            None => (None, None),
            Some((reference, bytes, _cargo)) => {
                let block = memory.store(&bytes)?;
                let handle = block.handle();
                (Some(Context { _block: block, _cargo, _far: None }), Some((reference, bytemuck::cast(handle))))
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
            far,
            memory: home.config().clone(),
        };
        Ok(Parts { board, tasks, results, assignment, initializer: block })
    }
}
