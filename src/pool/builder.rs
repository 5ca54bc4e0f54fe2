//! How a pool is put together.

use std::sync::Arc;
use std::thread;

use crossbeam::channel::{bounded, unbounded};

use super::board::Board;
use super::conscript::Ranks;
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
        let wish = Wish { processes: None, nodes: Nodes::All, on_ranks: false, policy: Policy::new(), policies: None };
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

    /// The other ranks of the job are the workers, one each, instead of processes that are started: those that wait in
    /// [`finalize`](crate::Runtime::finalize), in [`run`](crate::run), or where they drop their last hold on the runtime.
    ///
    /// A rank takes tasks as soon as it waits, on the thread that does; as long as it works for one pool, another one has a
    /// thread of its own there. Tasks for which no rank is there yet wait at the pool. With
    /// [`processes`](PoolBuilder::processes) so many ranks at most, those with the lowest numbers; with
    /// [`nodes`](PoolBuilder::nodes) or [`local`](PoolBuilder::local) those of these nodes.
    ///
    /// A rank that dies is a lost worker, as any, and nobody takes its place; when all are lost, so is the pool. A rank is never
    /// killed: a task that still runs when its pool is terminated or dropped is left to its end, and its rank waits for it
    /// before it goes on. A task that panics says so on its rank's standard error, and the error has no place in the source.
    ///
    /// ```no_run
    /// let squares = dragon::run(|_dragon| {                 // `mpirun -n 64 ./program`: rank 0 is here
    ///     let pool = dragon::Pool::builder().on_ranks().build()?;
    ///     pool.map(|x: u64| x * x, 0..1_000_000)            // on ranks 1 to 63
    /// })?;
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn on_ranks(mut self) -> PoolBuilder {
        self.wish.on_ranks = true;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for zero processes, for an unknown node or host, or for a cpu or GPU
    /// that is not there, which the text names, for settings that contradict each other, for ranks where there are none or
    /// that are to be replaced;
    /// [`NotInitialized`](ErrorKind::NotInitialized) without a runtime,
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) if the system gives no process or descriptor,
    /// [`OutOfMemory`](ErrorKind::OutOfMemory), [`NodeLost`](ErrorKind::NodeLost) for a node that was named. On an error
    /// nothing of the pool is left.
    pub fn build(self) -> Result<Pool> {
        if self.wish.processes == Some(0) {
            return Err(Error::new(ErrorKind::InvalidArgument, "a pool needs at least one process, not 0"));
        }
        if self.wish.on_ranks && self.tasks_per_worker > 0 {
            let text = "`tasks_per_worker` replaces workers, and no rank is replaced: not with `on_ranks`";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let core = runtime::current()?;
        let initializer = self.initializer.transpose()?;
        let named = self.wish.is_named();
        let mut far = self.wish.shares(&core)?;
        let here = far.remove(0); // it is always there
        let told = initializer.as_ref().map(|(name, bytes, _)| (name.clone(), bytes.clone()));
        let founding = |share: Share| Founding {
            workers: share.workers as u64,
            seats: share.seats,
            ranks: share.ranks,
            tasks_per_worker: self.tasks_per_worker,
            initializer: told.clone(),
        };
        let wanted: Vec<_> = far.into_iter().map(|share| (share.node, founding(share))).collect();
        let (workers, tasks_per_worker, retries) = (here.workers, self.tasks_per_worker, self.retries);
        let (seats, sites) = (here.seats, wanted.len());
        let plan = Plan { workers, seats, tasks_per_worker, initializer, retries, sites, far: false, ranks: None };
        let mesh = core.mesh()?.filter(|_| !wanted.is_empty()).cloned();
        plan.carry_out(Home::Own(core.clone()), |engine| {
            let Some(mesh) = mesh else { return Ok(0) };
            let (sites, far) = Sites::found(&mesh, (&core, engine), &wanted, named)?;
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
    /// They are ranks, which come when they wait.
    pub(super) ranks: Option<Ranks>,
}

impl Plan {
    /// Starts the workers of this node, and then, by `others`, those of other nodes, which returns how many those are.
    pub(super) fn carry_out(self, home: Home, others: impl FnOnce(&Arc<Engine>) -> Result<usize>) -> Result<Pool> {
        let workers = self.workers;
        let parts = Parts::create(&home, workers, self.tasks_per_worker, self.initializer, (self.sites, self.far))?;
        let engine = Arc::new(Engine::new(parts.board.clone(), parts.tasks, parts.results, workers));
        let (ended, ends) = unbounded();
        let (board, assignment, ranks) = (parts.board, parts.assignment, self.ranks);
        let recruiter = Recruiter { home: home.clone(), board, assignment, seats: self.seats, ended, ranks };
        let places: Vec<usize> = (0..workers).collect();
        let children = workers > 0 && recruiter.ranks.is_none();
        let born = if children { recruiter.start(&places)? } else { Vec::new() };
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
        // Two more per worker, for the word of one whose initializer failed and of a rank that leaves, and one per site
        // for its last word.
        let results = Channel::create(memory, WINDOW + 2 * workers + sites, INLINE)?;
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
