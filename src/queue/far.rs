//! A queue of another node, as the queues of this process see it.

use std::ops::Deref;
use std::sync::Arc;

use crate::select::{SPELL, Watch};
use crate::services::FarQueue;
use crate::time::Deadline;
use crate::wait::WaitCell;

/// A queue of another node, and where those of this process sleep who wait for it among other things.
pub(super) struct Far {
    queue: FarQueue,
    watch: Watch,
}

impl Far {
    pub(super) fn new(queue: FarQueue) -> Arc<Far> {
        Arc::new(Far { queue, watch: Watch::new() })
    }

    /// Where a selector sleeps for it.
    pub(super) fn cell(self: &Arc<Self>) -> &WaitCell {
        // A home that is lost is ready: to take from it says so at once.
        let ask = |far: &Far| far.queue.poll(Deadline::after(SPELL)).unwrap_or(true);
        self.watch.cell(self, |far| &far.watch, ask)
    }

    /// Whether the home said lately that there is something to take.
    pub(super) fn is_ready(&self) -> bool {
        self.watch.is_ready()
    }
}

impl Deref for Far {
    type Target = FarQueue;

    fn deref(&self) -> &FarQueue {
        &self.queue
    }
}
