//! What happens in a job, for those who want to watch.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::NodeId;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

/// How many events a stream holds for a reader that does not come.
const BACKLOG: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A rank of the job ended without [`finalize`](crate::Runtime::finalize).
    RankLost {
        /// Which one.
        rank: usize,
        /// Where it was.
        node: NodeId,
        /// How, in words.
        how: String,
    },
    /// A node of the job has ended, or cannot be reached for so long that it is given up.
    NodeLost {
        /// Which one.
        node: NodeId,
        /// Why it is given up.
        how: String,
    },
    /// A worker process ended that should not have.
    WorkerLost {
        /// Its process id there.
        pid: u32,
        /// Where it was.
        node: NodeId,
        /// How it ended, in words.
        how: String,
        /// The function it was running, if any.
        task: Option<String>,
    },
}

/// A stream of events. As an iterator it waits for the next one and ends with the runtime.
#[derive(Debug)]
pub struct Events(Receiver<Event>);

impl Events {
    /// The next event if there is one already. Never waits.
    pub fn try_next(&self) -> Option<Event> {
        self.0.try_recv().ok()
    }

    /// The next event, waiting at most this long.
    pub fn next_timeout(&self, patience: Duration) -> Option<Event> {
        self.0.recv_timeout(patience).ok()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.recv().ok()
    }
}

/// Who listens.
#[derive(Default)]
pub(super) struct Subscribers(Mutex<Vec<Sender<Event>>>);

impl Subscribers {
    pub(super) fn add(&self) -> Events {
        let (sender, receiver) = bounded(BACKLOG);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Events(receiver)
    }

    pub(super) fn tell(&self, event: Event) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| match one.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!(?event, "an event stream is full and misses this event");
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }
}
