//! What a process has once: its view of the node's memory, its agent, and who listens to events.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

use once_cell::sync::OnceCell;

use super::duty::Duty;
use super::events::{Event, Events, Subscribers};
use super::lingering::Lingering;
use super::place::Place;
use super::start;
use super::stats::Stats;
use super::system::Machines;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::{Hub, Member, Mesh, MeshError};
use crate::mm::{Kind, Memory, MemoryConfig, View};
use crate::prim::{AtomicU8, Ordering};
use crate::services::{
    self, Agent, Born, Ended, FarDict, FarError, FarObject, Host, Names, Order, ServiceError, Travels,
};
use crate::sys;
use crate::time::now;

/// Everything a runtime owns. Held by the user's handle and by every object made with it.
pub(crate) struct Core {
    memory: Arc<Memory>,
    config: MemoryConfig,
    place: Place,
    mesh: OnceCell<Mesh>,
    agent: OnceCell<Arc<Agent>>,
    hub: Mutex<Option<HubThreads>>,
    /// Whether this is a rank that the others expect at the end.
    expected: AtomicU8,
    closed: AtomicU8,
    /// The same memory once more, to read figures from; since somebody asked for some.
    view: OnceCell<View>,
    subscribers: Subscribers,
    lingering: Lingering,
    travels: Travels,
    /// What the nodes have, since somebody asked.
    pub(super) machines: Machines,
}

/// The hub of this node, if it is in this process, and the threads that work for it.
pub(super) struct HubThreads {
    pub(super) hub: Arc<Hub>,
    pub(super) host: Host,
    pub(super) threads: Vec<thread::JoinHandle<()>>,
}

/// What a rank of several has from the start.
pub(super) struct Ties {
    pub(super) agent: Arc<Agent>,
    pub(super) hub: Option<HubThreads>,
}

/// The world of a process that was started by its user.
static WORLD: Mutex<Weak<Core>> = Mutex::new(Weak::new());

/// The world of a process that we started: it is there from the first instruction to the last.
static CHILD: OnceLock<Arc<Core>> = OnceLock::new();

fn world() -> MutexGuard<'static, Weak<Core>> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of this machine, for errors.
pub(crate) fn host_name() -> String {
    sys::process::host_name()
}

/// The runtime of this process.
pub(crate) fn current() -> Result<Arc<Core>> {
    if let Some(core) = CHILD.get() {
        return Ok(core.clone());
    }
    let core = world().upgrade().filter(|core| !core.is_closed());
    core.ok_or_else(|| {
        Error::new(
            ErrorKind::NotInitialized,
            "no runtime in this process: call `let _dragon = dragon::init()?;` first and keep the value alive",
        )
    })
}

/// Finds the world or makes it. `asked` are the settings that the program names itself.
pub(super) fn enter(config: MemoryConfig, asked: bool) -> Result<Arc<Core>> {
    if let Some(core) = CHILD.get() {
        return core.check(&config, asked).map(|()| core.clone());
    }
    let mut world = world();
    if let Some(core) = world.upgrade().filter(|core| !core.is_closed()) {
        return core.check(&config, asked).map(|()| core);
    }
    let plan = start::plan()?;
    let core =
        if plan.is_alone() { Core::alone(Memory::create(&config)?, config) } else { start::start(&plan, &config)? };
    tracing::debug!(job = %core.memory.job(), rank = core.place.rank, size = core.place.size(), "a world begins");
    *world = Arc::downgrade(&core);
    Ok(core)
}

/// Makes the world of a process that was started by another, from the memory it was handed.
pub(crate) fn adopt(memory: Arc<Memory>, config: MemoryConfig) -> &'static Arc<Core> {
    CHILD.get_or_init(|| {
        let place = Place::of_child(&memory);
        Arc::new(Core::new(memory, config, place))
    })
}

impl Core {
    fn new(memory: Arc<Memory>, config: MemoryConfig, place: Place) -> Core {
        Core {
            memory,
            config,
            place,
            mesh: OnceCell::new(),
            agent: OnceCell::new(),
            hub: Mutex::new(None),
            expected: AtomicU8::new(0),
            closed: AtomicU8::new(0),
            view: OnceCell::new(),
            subscribers: Subscribers::default(),
            lingering: Lingering::default(),
            travels: Travels::default(),
            machines: Machines::default(),
        }
    }

    /// The core of a job of one rank.
    pub(super) fn alone(memory: Arc<Memory>, config: MemoryConfig) -> Arc<Core> {
        Arc::new(Core::new(memory, config, Place::SINGLE))
    }

    /// The core of a rank of several, with its way to the others.
    pub(super) fn in_world(memory: Arc<Memory>, config: MemoryConfig, place: Place, mesh: Mesh) -> Arc<Core> {
        let core = Core::new(memory, config, place);
        let _ = core.mesh.set(mesh); // it is new
        Arc::new(core)
    }

    /// What a rank of several has from the start. From now on the others expect it at the end.
    pub(super) fn tie(&self, ties: Ties) {
        let _ = self.agent.set(ties.agent); // there is none before
        *self.hub.lock().unwrap_or_else(PoisonError::into_inner) = ties.hub;
        self.expected.store(1, Ordering::Relaxed); // read by whoever ends it, who has got it from here
    }

    /// Where this process stands in its job.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the hub of this node is in this process.
    pub(super) fn is_head(&self) -> bool {
        matches!(self.mesh.get(), Some(Mesh::Hub(_)))
    }

    /// The way to all nodes; none in a job of one rank.
    pub(crate) fn mesh(&self) -> Result<Option<&Mesh>> {
        let Some(chartered) = &self.place.charter else { return Ok(None) };
        let charter = &chartered.charter;
        let seat = || {
            Member::new(charter.node, self.memory.clone(), charter.post).map(|member| Mesh::Member(Arc::new(member)))
        };
        Ok(Some(self.mesh.get_or_try_init(seat)?))
    }

    fn check(&self, config: &MemoryConfig, asked: bool) -> Result<()> {
        if asked && *config != self.config {
            return Err(Error::new(
                ErrorKind::AlreadyInitialized,
                "a runtime with other settings is up in this process: build it with these settings at its \
                 first `init()`, or finalize it before",
            ));
        }
        Ok(())
    }

    /// The settings of this world.
    pub(crate) fn config(&self) -> &MemoryConfig {
        &self.config
    }

    /// The node's memory.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Starts children, all or none. The first call starts the agent.
    pub(crate) fn spawn(&self, orders: Vec<Order>) -> Result<Vec<Born>> {
        if self.is_closed() {
            return Err(ServiceError::Stopped.into());
        }
        let start = || -> Result<Arc<Agent>> {
            let told = tell_of_ends(self.mesh()?, self.place.nodes());
            Ok(Arc::new(Agent::start(self.memory.clone(), Vec::new(), told)?))
        };
        let agent = self.agent.get_or_try_init(start)?;
        Ok(agent.spawn(orders)?)
    }

    /// The names of the whole job; none in a job of one node, whose own names are all there are.
    pub(crate) fn names(&self) -> Result<Option<Names<'_>>> {
        let leader = self.place.charter.as_ref().and_then(|chartered| chartered.charter.nodes.first().copied());
        let mesh = self.mesh()?.filter(|_| self.place.nodes() > 1);
        Ok(mesh.zip(leader).map(|(mesh, leader)| Names::new(mesh, leader)))
    }

    /// Opens an object whose home is another node.
    pub(crate) fn open_far(&self, home: NodeNumber, id: ObjectId, kind: Kind) -> Result<FarObject> {
        let none = || Error::new(ErrorKind::NotFound, format!("there is no node {home} in this job"));
        let mesh = self.mesh()?.ok_or_else(none)?;
        Ok(FarObject::open(mesh, &self.memory, &self.travels, (home, id, kind))?)
    }

    /// Has a node make or open a part of a dictionary: see [`FarDict::open`].
    pub(crate) fn open_far_dict(
        &self,
        home: NodeNumber,
        entry: Vec<u8>,
        argument: Vec<u8>,
    ) -> Result<(Option<FarDict>, Vec<u8>)> {
        let none = || Error::new(ErrorKind::NotFound, format!("there is no node {home} in this job"));
        let mesh = self.mesh()?.ok_or_else(none)?;
        Ok(FarDict::open(mesh, &self.memory, &self.travels, home, entry, argument)?)
    }

    /// Keeps an object whose handle is on its way to another node, until that has surely said that it holds it.
    pub(crate) fn linger(&self, (home, id): (NodeNumber, ObjectId), what: impl Send + 'static) {
        self.lingering.keep((home, id), now(), Box::new(what));
    }

    /// Whether the runtime has been finalized.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: who must not go on learns it from the agent, which refuses.
        self.closed.load(Ordering::Relaxed) != 0
    }

    /// Waits for all ranks to end, and ends the children. Idempotent.
    pub(super) fn shut_down(&self) -> Result<()> {
        let farewell = self.farewell();
        self.closed.store(1, Ordering::Relaxed); // Relaxed: see `is_closed`
        let hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(HubThreads { host, .. }) = &hub {
            host.close();
        }
        if let Some(agent) = self.agent.get() {
            agent.stop();
        }
        if let Some(HubThreads { hub, threads, .. }) = hub {
            hub.close();
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread that carries calls panicked");
                }
            }
        }
        farewell
    }

    /// Meets the other ranks at the end, once. One that panics does not wait: others may wait for it.
    fn farewell(&self) -> Result<()> {
        // Relaxed: whoever is first.
        if self.expected.swap(0, Ordering::Relaxed) == 0 || thread::panicking() {
            return Ok(());
        }
        let Some(mesh) = self.mesh()? else { return Ok(()) };
        let finish = |duty| services::finish(mesh, self.place.rank, duty);
        // Who holds the last of a core that is being dropped has no runtime to give to a task.
        let is_held = world().upgrade().is_some_and(|core| std::ptr::eq(&*core, self));
        let met = if is_held { Duty::during(&self.memory, finish) } else { Some(finish(None)) };
        let panicked = || Error::new(ErrorKind::Io, "the thread that meets the other ranks panicked");
        let lost = met.ok_or_else(panicked)?.map_err(|error| self.unfinished(error))?;
        if let Some(chartered) = &self.place.charter {
            chartered.leave(self.place.rank);
        }
        match &lost[..] {
            [] => Ok(()),
            lost => Err(Error::new(ErrorKind::NodeLost, format!("the job ends without all: {}", lost.join("; ")))),
        }
    }

    fn unfinished(&self, error: FarError) -> Error {
        let head = self.place.charter.as_ref().and_then(|chartered| chartered.charter.ranks.first().copied());
        match (error, head) {
            (FarError::Mesh(MeshError::NoHub), Some((head, _))) => {
                let text = format!("rank {head}, by way of which this node talked to the others, has ended before");
                Error::new(ErrorKind::NodeLost, text)
            }
            (error, _) => error.into(),
        }
    }

    /// Figures of the node.
    pub(super) fn stats(&self) -> Stats {
        let memory = self.memory.heap_stats();
        match self.view.get_or_try_init(|| View::of(&self.memory)) {
            Ok(view) => Stats::read(view, memory),
            Err(error) => {
                tracing::warn!(%error, "the memory cannot be mapped once more: no figures of processes and objects");
                Stats::of_memory(memory)
            }
        }
    }

    pub(super) fn subscribe(&self) -> Events {
        self.subscribers.add()
    }

    /// Tells all who listen.
    pub(crate) fn tell(&self, event: Event) {
        if let Event::NodeLost { node, .. } = &event {
            self.machines.forget(*node);
        }
        self.subscribers.tell(event);
    }
}

/// Says to other nodes, by way of this one's host, which processes have ended.
pub(super) fn tell_of_ends(mesh: Option<&Mesh>, nodes: u32) -> Ended {
    let Some(mesh) = mesh.filter(|_| nodes > 1).cloned() else { return Box::new(|_, _| ()) };
    Box::new(move |process, incarnation| {
        let mesh = mesh.clone();
        let tell = move || {
            // Without a hub nobody of this node holds anything elsewhere any more.
            if let Err(error) = services::tell_end(&mesh, process, incarnation) {
                tracing::debug!(%error, "other nodes do not hear that a process has ended");
            }
        };
        // On a thread of its own: the hub may be what has ended, which is seen only by who is not waiting for it.
        if let Err(error) = thread::Builder::new().name("dragon-end".into()).spawn(tell) {
            tracing::error!(%error, "no thread to tell other nodes that a process has ended: what it held there stays held");
        }
    })
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::error!(%error, "the runtime ends");
        }
    }
}
