//! The attendant: a thread that runs callbacks, and collects answers for those who will not wait.
//!
//! It is started with the first callback or the first task that finds no room, and sleeps while neither
//! is due. A callback may take its time and may use the pool; it only keeps other callbacks waiting.

use std::sync::{Arc, Weak};

use crossbeam::channel::Receiver;

use super::engine::Engine;
use super::sink::{Callback, lock};
use crate::time::Deadline;

/// Runs callbacks as they come, until nobody can send any more.
pub(super) fn run(engine: &Weak<Engine>, callbacks: &Receiver<Callback>) {
    loop {
        while let Ok(callback) = callbacks.try_recv() {
            run_one(callback);
        }
        let Some(strong) = engine.upgrade() else { return };
        if strong.is_over() {
            return callbacks.try_iter().for_each(run_one);
        }
        if strong.is_attended() {
            let due = || !callbacks.is_empty() || !strong.is_attended() || strong.is_over();
            strong.wait_for(Deadline::Never, &due);
        } else {
            drop(strong);
            match callbacks.recv() {
                Ok(callback) => run_one(callback),
                Err(_) => return,
            }
        }
    }
}

/// A callback that panics takes nobody with it.
fn run_one(callback: Callback) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback of a pool's task panicked");
    }
}

impl Engine {
    /// Somebody wants a callback for a task on its way, or a task waits for room: answers must be
    /// collected though nobody waits for them.
    fn is_attended(&self) -> bool {
        self.callbacks_due() > 0 || !lock(&self.state).flights.backlog.is_empty()
    }
}

/// Starts the thread.
pub(super) fn start(
    engine: &Arc<Engine>,
    callbacks: Receiver<Callback>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let engine = Arc::downgrade(engine);
    std::thread::Builder::new().name("dragon-callback".into()).spawn(move || run(&engine, &callbacks))
}
