//! Where a pool starts its workers: in the runtime of this process, or as the guest of a process of another node.

use std::sync::Arc;

use crate::error::Result;
use crate::id::NodeNumber;
use crate::mm::{Memory, MemoryConfig};
use crate::runtime;
use crate::runtime::{Core, Event};
use crate::services::{Born, Order, Venue};

/// What a pool needs of the process it is in.
#[derive(Clone)]
pub(super) enum Home {
    /// A runtime, which lives at least as long.
    Own(Arc<Core>),
    /// A node whose runtime may end before: then the workers do.
    Guest(Arc<Venue>),
}

impl Home {
    pub(super) fn memory(&self) -> &Arc<Memory> {
        match self {
            Home::Own(core) => core.memory(),
            Home::Guest(venue) => &venue.memory,
        }
    }

    pub(super) fn config(&self) -> &MemoryConfig {
        match self {
            Home::Own(core) => core.config(),
            Home::Guest(venue) => &venue.config,
        }
    }

    pub(super) fn node(&self) -> NodeNumber {
        match self {
            Home::Own(core) => core.place().node(),
            Home::Guest(venue) => venue.node(),
        }
    }

    /// Starts children, all or none.
    pub(super) fn spawn(&self, orders: Vec<Order>) -> Result<Vec<Born>> {
        match self {
            Home::Own(core) => core.spawn(orders),
            Home::Guest(venue) => Ok(venue.agent.spawn(orders)?),
        }
    }

    /// Tells those who listen here. A guest's owner learns from it what it has to know.
    pub(super) fn tell(&self, event: Event) {
        if let Home::Own(core) = self {
            core.tell(event);
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
