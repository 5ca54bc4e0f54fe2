//! Where a pool starts its workers: in the runtime of this process, or as the guest of a process of another node.

use std::sync::Arc;

use crossbeam::channel::Sender;

use super::message::News;
use crate::error::Result;
use crate::id::NodeNumber;
use crate::mm::{Memory, MemoryConfig};
use crate::runtime;
use crate::runtime::{Core, Event, NodeId};
use crate::services::{Born, Order, Venue};

/// What a pool needs of the process it is in.
#[derive(Clone)]
pub(super) enum Home {
    /// A runtime, which lives at least as long.
    Own(Arc<Core>),
    /// A node whose runtime may end before: then the workers do. And where news for the owner go.
    Guest(Arc<Venue>, Sender<News>),
}

impl Home {
    pub(super) fn memory(&self) -> &Arc<Memory> {
        match self {
            Home::Own(core) => core.memory(),
            Home::Guest(venue, _) => &venue.memory,
        }
    }

    pub(super) fn config(&self) -> &MemoryConfig {
        match self {
            Home::Own(core) => core.config(),
            Home::Guest(venue, _) => &venue.config,
        }
    }

    pub(super) fn node(&self) -> NodeNumber {
        match self {
            Home::Own(core) => core.place().node(),
            Home::Guest(venue, _) => venue.node(),
        }
    }

    /// Starts children, all or none.
    pub(super) fn spawn(&self, orders: Vec<Order>) -> Result<Vec<Born>> {
        match self {
            Home::Own(core) => core.spawn(orders),
            Home::Guest(venue, _) => Ok(venue.agent.spawn(orders)?),
        }
    }

    /// Tells those who listen that a worker is lost, where the pool's owner is.
    pub(super) fn tell_of_loss(&self, pid: u32, how: &str, task: Option<&str>) {
        let (how, task) = (how.to_string(), task.map(str::to_string));
        match self {
            Home::Own(core) => core.tell(Event::WorkerLost { pid, node: NodeId::new(self.node()), how, task }),
            // Fails only when the site has ended.
            Home::Guest(_, owner) => drop(owner.send(News::Lost { pid, how, task })),
        }
    }

    /// The machine, for errors, and which node it is where there are several.
    pub(super) fn name(&self) -> String {
        match self {
            Home::Own(core) if core.place().nodes() == 1 => runtime::host_name(),
            _ => format!("{} (node {})", runtime::host_name(), self.node()),
        }
    }
}
