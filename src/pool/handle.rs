//! A task that was submitted, as its owner holds it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::engine::Engine;
use super::sink::{Callback, Outcome, Sink, cancelled, lock};
use super::watch::TaskWatch;
use crate::error::{Error, ErrorKind, Result};
use crate::task::Thunk;
use crate::time::Deadline;
use crate::wire::{self, Message};

type Listener<R> = Box<dyn FnOnce(&Result<R>) + Send>;

/// A task on its way, and its result when it is there.
///
/// Dropping it does not stop the task; [`cancel`](Task::cancel) does, if it is not too late.
///
/// ```
/// # let _dragon = dragon::init()?;
/// let pool = dragon::Pool::new(1)?;
/// let task = pool.submit(|(a, b): (u64, u64)| a * b, (6, 7))?;
/// assert_eq!(task.get()?, 42);
/// # Ok::<(), dragon::Error>(())
/// ```
pub struct Task<R> {
    engine: Arc<Engine>,
    cell: Arc<Cell<R>>,
    /// What the pool knows its parts by: the cell itself, or what collects a map for it.
    sink: Arc<dyn Sink>,
    thunk: &'static Thunk,
}

/// Where the result arrives.
pub(super) struct Cell<R> {
    slot: Mutex<Slot<R>>,
    /// Told when the result can be taken.
    watches: Mutex<Vec<TaskWatch>>,
    engine: std::sync::Weak<Engine>,
    decode: fn(&[u8]) -> Result<R>,
}

enum Slot<R> {
    Pending(Vec<Listener<R>>),
    /// Listeners run; then it is there.
    Telling,
    There(Result<R>),
    Taken,
}

impl<R: Send + 'static> Cell<R> {
    pub(super) fn new(engine: &Arc<Engine>, decode: fn(&[u8]) -> Result<R>) -> Arc<Cell<R>> {
        let slot = Mutex::new(Slot::Pending(Vec::new()));
        Arc::new(Cell { slot, watches: Mutex::default(), engine: Arc::downgrade(engine), decode })
    }

    /// Settles the task. Only the first call counts.
    pub(super) fn settle(self: Arc<Self>, result: Result<R>) -> Option<Callback> {
        let mut slot = lock(&self.slot);
        let Slot::Pending(listeners) = &mut *slot else { return None };
        let listeners = std::mem::take(listeners);
        if listeners.is_empty() {
            *slot = Slot::There(result);
            return None;
        }
        *slot = Slot::Telling;
        drop(slot);
        let cell = self;
        Some(Box::new(move || cell.tell(listeners, result)))
    }

    fn tell(&self, listeners: Vec<Listener<R>>, result: Result<R>) {
        let engine = self.engine.upgrade();
        for listener in listeners {
            let call = std::panic::AssertUnwindSafe(|| listener(&result));
            if std::panic::catch_unwind(call).is_err() {
                tracing::error!("a callback of a pool's task panicked");
            }
            if let Some(engine) = &engine {
                engine.callback_sent();
            }
        }
        *lock(&self.slot) = Slot::There(result);
        self.tell_watches();
        if let Some(engine) = engine {
            engine.results.poke();
            engine.turn_over();
        }
    }

    fn tell_watches(&self) {
        std::mem::take(&mut *lock(&self.watches)).iter().for_each(TaskWatch::tell);
    }

    fn is_there(&self) -> bool {
        matches!(*lock(&self.slot), Slot::There(_) | Slot::Taken)
    }
}

impl<R: Send + 'static> Sink for Cell<R> {
    fn part(self: Arc<Self>, _part: u32, outcome: Outcome<'_>) -> Option<Callback> {
        let result = match outcome {
            Outcome::Done(bytes) => (self.decode)(bytes),
            Outcome::Failed(error) => Err(error),
        };
        self.settle(result)
    }
}

/// Decodes the result of a single call.
pub(super) fn decode_one<R: Message>(bytes: &[u8]) -> Result<R> {
    Ok(wire::decode(bytes)?)
}

impl<R: Send + 'static> Task<R> {
    pub(super) fn new(engine: Arc<Engine>, cell: Arc<Cell<R>>, sink: Arc<dyn Sink>, thunk: &'static Thunk) -> Task<R> {
        Task { engine, cell, sink, thunk }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`TaskPanicked`](ErrorKind::TaskPanicked) with message and place,
    /// [`WorkerLost`](ErrorKind::WorkerLost) with how the worker ended,
    /// [`Cancelled`](ErrorKind::Cancelled), [`WrongBuild`](ErrorKind::WrongBuild),
    /// [`Codec`](ErrorKind::Codec). It never hangs because a process died.
    pub fn get(self) -> Result<R> {
        self.wait(Deadline::Never);
        self.take().unwrap_or_else(|| Err(self.taken()))
    }

    /// Waits for the result, at most this long. After a timeout the task goes on and can be asked again.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`get`](Task::get).
    pub fn get_timeout(&self, patience: Duration) -> Result<R> {
        if !self.wait(Deadline::after(patience)) {
            let text = format!("task `{}` has not finished within {patience:?}", self.thunk.name());
            return Err(Error::new(ErrorKind::TimedOut, text));
        }
        self.take().unwrap_or_else(|| Err(self.taken()))
    }

    /// The result if it is there, once. Never waits.
    pub fn try_get(&self) -> Option<Result<R>> {
        self.is_done().then(|| self.take()).flatten()
    }

    /// Whether the result is there. Never waits.
    pub fn is_done(&self) -> bool {
        if !self.cell.is_there() {
            self.engine.glance();
        }
        self.cell.is_there()
    }

    /// Calls `listener` with the result when it is there, on a thread of the pool, before any `get` returns
    /// it. If it is there already the call happens at once, on this thread.
    pub fn on_done(&self, listener: impl FnOnce(&Result<R>) + Send + 'static) {
        self.wait_while_telling();
        let mut slot = lock(&self.cell.slot);
        if let Slot::Pending(listeners) = &mut *slot {
            listeners.push(Box::new(listener));
            self.engine.expect_callback();
            drop(slot);
            return self.engine.call_attendant();
        }
        // The listener runs without the lock, so that it may use the task.
        let result = match std::mem::replace(&mut *slot, Slot::Telling) {
            Slot::There(result) => result,
            _ => Err(self.taken()),
        };
        drop(slot);
        listener(&result);
        *lock(&self.cell.slot) = Slot::There(result);
        self.engine.turn_over();
    }

    /// Something that a [`Selector`](crate::Selector) can wait for beside queues and events: ready when the result is there.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let pool = dragon::Pool::new(1)?;
    /// let task = pool.submit(|x: u64| x + 1, 1)?;
    /// let mut selector = dragon::Selector::new();
    /// let done = selector.add(&task.watch());
    /// assert_eq!(selector.select()?, done);
    /// assert_eq!(task.get()?, 2);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn watch(&self) -> TaskWatch {
        let watch = TaskWatch::new();
        lock(&self.cell.watches).push(watch.clone());
        // Sees to it that somebody collects the answer though nobody waits for it in a call.
        self.on_done(|_| ());
        if self.cell.is_there() {
            self.cell.tell_watches();
        }
        watch
    }

    /// Another listener may be running right now.
    fn wait_while_telling(&self) {
        let telling = || matches!(*lock(&self.cell.slot), Slot::Telling);
        if telling() {
            self.engine.wait_for(Deadline::Never, &|| !telling());
        }
    }

    /// Gives the task up. True if it has not begun and never will; its result is then
    /// [`Cancelled`](ErrorKind::Cancelled). False if it is there, or a worker has taken it already: then
    /// whatever comes of it counts.
    pub fn cancel(&self) -> bool {
        if self.cell.is_there() {
            return false;
        }
        let never = self.engine.cancel(&self.sink);
        if never {
            let error = cancelled(self.thunk.name());
            self.engine.after(self.cell.clone().settle(Err(error)));
        }
        never
    }

    fn wait(&self, deadline: Deadline) -> bool {
        self.engine.wait_for(deadline, &|| self.cell.is_there())
    }

    fn take(&self) -> Option<Result<R>> {
        let mut slot = lock(&self.cell.slot);
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::There(result) => Some(result),
            before => {
                *slot = before;
                None
            }
        }
    }

    fn taken(&self) -> Error {
        Error::new(ErrorKind::Empty, format!("the result of task `{}` has been taken before", self.thunk.name()))
    }
}

impl<R> std::fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match *lock(&self.cell.slot) {
            Slot::Pending(_) => "on its way",
            Slot::Telling | Slot::There(_) => "done",
            Slot::Taken => "taken",
        };
        write!(f, "Task({}, {state})", self.thunk.name())
    }
}
