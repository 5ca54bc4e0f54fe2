//! Where a thread of the hub's process waits for one answer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{MeshError, Reply};

/// An answer, or why there is none.
pub(super) type Outcome = Result<Reply, MeshError>;

/// Filled once, taken once.
#[derive(Default)]
pub(super) struct Slot {
    outcome: Mutex<Option<Outcome>>,
    filled: Condvar,
}

impl Slot {
    pub(super) fn fill(&self, outcome: Outcome) {
        *self.lock() = Some(outcome);
        self.filled.notify_one();
    }

    /// The outcome if it is there.
    pub(super) fn take(&self) -> Option<Outcome> {
        self.lock().take()
    }

    /// Sleeps until it is there.
    pub(super) fn wait(&self) -> Outcome {
        let mut outcome = self.lock();
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            outcome = self.filled.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
