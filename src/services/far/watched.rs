//! A queue of another node that a selector of this process can wait for, among other things.

use std::ops::Deref;
use std::sync::Arc;

use super::FarQueue;
use super::watch::{SPELL, Watch};
use crate::time::Deadline;
use crate::wait::WaitCell;

/// A queue of another node, and where those of this process sleep who wait for it among other things.
pub(crate) struct WatchedQueue {
    queue: FarQueue,
    watch: Watch,
}

impl WatchedQueue {
    pub(crate) fn new(queue: FarQueue) -> Arc<WatchedQueue> {
        Arc::new(WatchedQueue { queue, watch: Watch::new() })
    }

    /// Where a selector sleeps for it.
    pub(crate) fn cell(self: &Arc<Self>) -> &WaitCell {
        // A home that is lost is ready: to take from it says so at once.
        let ask = |far: &WatchedQueue| far.queue.poll(Deadline::after(SPELL)).unwrap_or(true);
        self.watch.cell(self, |far| &far.watch, ask)
    }

    /// Whether the home said lately that there is something to take.
    pub(crate) fn is_ready(&self) -> bool {
        self.watch.is_ready()
    }
}

impl Deref for WatchedQueue {
    type Target = FarQueue;

    fn deref(&self) -> &FarQueue {
        &self.queue
    }
}
