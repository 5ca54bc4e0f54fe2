//! The end of a task as something to wait for beside other things.

use std::sync::Arc;

use crate::prim::{AtomicBool, Ordering};
use crate::select::{Door, Ready, Source};
use crate::wait::WaitCell;

/// A task, watched for its result by a [`Selector`](crate::Selector): see [`Task::watch`](crate::Task::watch).
#[derive(Clone)]
pub struct TaskWatch(Arc<Flag>);

/// In this process's own memory: a task's result arrives in the process that submitted it.
struct Flag {
    there: AtomicBool,
    cell: WaitCell,
}

impl TaskWatch {
    pub(super) fn new() -> TaskWatch {
        TaskWatch(Arc::new(Flag { there: AtomicBool::new(false), cell: WaitCell::new() }))
    }

    /// The result is there.
    pub(super) fn tell(&self) {
        // SeqCst: pairs with `is_done`, and before the cell looks for sleepers.
        self.0.there.store(true, Ordering::SeqCst);
        self.0.cell.notify_all();
    }

    /// Whether the result is there: [`Task::try_get`](crate::Task::try_get) will have it, unless it was taken already.
    pub fn is_done(&self) -> bool {
        self.0.there.load(Ordering::SeqCst) // pairs with `tell`
    }
}

impl Source for TaskWatch {
    fn door(&self) -> Door<'_> {
        Door { cell: &self.0.cell, ready: self }
    }
}

impl Ready for TaskWatch {
    fn is_ready(&self) -> bool {
        self.is_done()
    }
}

impl std::fmt::Debug for TaskWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TaskWatch({})", if self.is_done() { "done" } else { "on its way" })
    }
}
