//! Threads for calls that may wait: as many as wait at a time, each kept for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

/// How long a thread without work is kept.
const IDLE: Duration = Duration::from_secs(5);
/// More calls than these at a time have to wait for each other.
const MOST: usize = 512;

type Work = Box<dyn FnOnce() + Send>;

/// Runs what may wait.
pub(crate) struct Threads {
    work: Sender<Work>,
    todo: Receiver<Work>,
    count: Arc<Mutex<Count>>,
}

#[derive(Default)]
struct Count {
    threads: usize,
    /// Threads that look for work, less the pieces of work that nobody has taken yet.
    free: isize,
}

impl Threads {
    pub(super) fn new() -> Threads {
        let (work, todo) = unbounded();
        Threads { work, todo, count: Arc::default() }
    }

    /// Runs it soon, on a thread of its own if none is free. Never waits.
    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) {
        let mut count = lock(&self.count);
        count.free -= 1;
        let more = count.free < 0 && count.threads < MOST;
        if more {
            count.threads += 1;
            count.free += 1;
        }
        drop(count);
        // Cannot fail: this value holds the other end.
        let _ = self.work.send(Box::new(work));
        if !more {
            return;
        }
        let (todo, count) = (self.todo.clone(), self.count.clone());
        let started = thread::Builder::new().name("dragon-call".into()).spawn(move || work_off(&todo, &count));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for a call of another process; it waits for one that is free");
            let mut count = lock(&self.count);
            count.threads -= 1;
            count.free -= 1;
        }
    }
}

fn work_off(todo: &Receiver<Work>, count: &Mutex<Count>) {
    loop {
        match todo.recv_timeout(IDLE) {
            Ok(work) => {
                work();
                lock(count).free += 1;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let mut count = lock(count);
                // Else something is on its way to me.
                if count.free > 0 && todo.is_empty() {
                    count.free -= 1;
                    count.threads -= 1;
                    return;
                }
            }
        }
    }
}

fn lock(count: &Mutex<Count>) -> MutexGuard<'_, Count> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_does_not_hold_up_what_does_not() {
        let threads = Threads::new();
        let (go, gate) = crossbeam::channel::bounded::<()>(0);
        let (done, finished) = unbounded();
        for _ in 0..8 {
            let (gate, done) = (gate.clone(), done.clone());
            threads.run(move || {
                let _ = gate.recv();
                let _ = done.send("waited");
            });
        }
        threads.run({
            let done = done.clone();
            move || assert!(done.send("at once").is_ok())
        });
        assert_eq!(finished.recv(), Ok("at once"));
        drop(go);
        assert!((0..8).all(|_| finished.recv() == Ok("waited")));
        assert!(lock(&threads.count).threads <= 9);
    }
}
