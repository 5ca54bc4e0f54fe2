//! What a process has once: its view of the node's memory, its agent, and who listens to events.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use once_cell::sync::OnceCell;

use super::events::{Event, Events, Subscribers};
use super::stats::Stats;
use crate::error::{Error, ErrorKind, Result};
use crate::mm::{Memory, MemoryConfig, View};
use crate::prim::{AtomicU8, Ordering};
use crate::services::{Agent, Born, Order, ServiceError};
use crate::sys;

/// Everything a runtime owns. Held by the user's handle and by every object made with it.
pub(crate) struct Core {
    memory: Arc<Memory>,
    config: MemoryConfig,
    agent: OnceCell<Agent>,
    closed: AtomicU8,
    /// The same memory once more, to read figures from; since somebody asked for some.
    view: OnceCell<View>,
    subscribers: Subscribers,
}

/// The world of a process that was started by its user.
static WORLD: Mutex<Weak<Core>> = Mutex::new(Weak::new());

/// The world of a process that we started: it is there from the first instruction to the last.
static CHILD: OnceLock<Arc<Core>> = OnceLock::new();

fn world() -> MutexGuard<'static, Weak<Core>> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
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
    let memory = Memory::create(&config)?;
    tracing::debug!(job = %memory.job(), ?config, "a world begins");
    let core = Arc::new(Core::new(memory, config));
    *world = Arc::downgrade(&core);
    Ok(core)
}

/// Makes the world of a process that was started by another, from the memory it was handed.
pub(crate) fn adopt(memory: Arc<Memory>, config: MemoryConfig) -> &'static Arc<Core> {
    CHILD.get_or_init(|| Arc::new(Core::new(memory, config)))
}

impl Core {
    fn new(memory: Arc<Memory>, config: MemoryConfig) -> Core {
        let (agent, view, closed) = (OnceCell::new(), OnceCell::new(), AtomicU8::new(0));
        Core { memory, config, agent, closed, view, subscribers: Subscribers::default() }
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
        let agent = self.agent.get_or_try_init(|| Agent::start(self.memory.clone()))?;
        Ok(agent.spawn(orders)?)
    }

    /// The name of this node's machine, for errors.
    pub(crate) fn host_name(&self) -> String {
        sys::process::host_name()
    }

    /// Whether the runtime has been finalized.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: who must not go on learns it from the agent, which refuses.
        self.closed.load(Ordering::Relaxed) != 0
    }

    /// Ends the children. Idempotent.
    pub(super) fn shut_down(&self) {
        self.closed.store(1, Ordering::Relaxed); // Relaxed: see `is_closed`
        if let Some(agent) = self.agent.get() {
            agent.stop();
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
        self.subscribers.tell(event);
    }
}
