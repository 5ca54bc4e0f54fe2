//! Panics of tasks: caught, with the place they came from, and without a word on the terminal.
//!
//! `catch_unwind` gives the payload but not the location; only the panic hook sees that. So worker
//! processes, and only they, install a hook. On a thread that runs a task it writes message and location
//! down for [`catch`] to find and is silent. Elsewhere (a thread the task started, a rayon thread) nobody
//! can know whether the panic will ever reach the task: there it writes down too, and then does what
//! the hook before it did.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{Mutex, Once, PoisonError},
};

use super::Failure;

/// Panics of other threads that are remembered, in case one of them surfaces in a task.
const REMEMBERED: usize = 16;

struct Record {
    message: String,
    location: String,
}

thread_local! {
    /// How many calls of `catch` this thread is in; rayon may start one inside another.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static LAST: RefCell<Option<Record>> = const { RefCell::new(None) };
}

static ELSEWHERE: Mutex<VecDeque<Record>> = Mutex::new(VecDeque::new());

/// Installs the hook, once. For processes that exist to run tasks; a user's own process keeps its hook.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !record(info) {
                previous(info);
            }
        }));
    });
}

/// Runs `work` and turns its panic into a failure.
#[inline]
pub(super) fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    DEPTH.set(DEPTH.get() + 1);
    // What a task leaves behind half done is its own: it gets its argument by value and its context
    // behind a shared reference, which only interior mutability, made for that, can leave half done.
    let done = panic::catch_unwind(AssertUnwindSafe(work)).map_err(to_failure);
    DEPTH.set(DEPTH.get() - 1);
    done
}

/// Whether the panic was taken note of and need not be shown to anybody.
fn record(info: &PanicHookInfo<'_>) -> bool {
    let record = Record {
        message: text(info.payload()),
        location: info.location().map(ToString::to_string).unwrap_or_default(),
    };
    // Where panics abort nobody will catch it, and this is the last chance to say anything.
    if cfg!(panic = "abort") || DEPTH.get() == 0 {
        let mut elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.truncate(REMEMBERED - 1);
        elsewhere.push_front(record);
        return false;
    }
    // A second panic before the first was caught will most likely abort: that must not be silent.
    LAST.replace(Some(record)).is_none()
}

#[cold]
fn to_failure(payload: Box<dyn Any + Send>) -> Failure {
    let message = text(&*payload);
    let own = LAST.take().filter(|record| record.message == message);
    discard(payload);
    let record = own.or_else(|| take_elsewhere(&message));
    Failure::Panicked { message, location: record.map(|record| record.location), item: None }
}

/// A panic of another thread surfaces here with its payload only; the message tells which one it was.
fn take_elsewhere(message: &str) -> Option<Record> {
    let mut elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner);
    let at = elsewhere.iter().position(|record| record.message == message)?;
    elsewhere.remove(at)
}

fn text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is no text".into()
    }
}

/// Drops a payload, whose destructor may panic in its turn; that one's payload is leaked.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
        LAST.take();
    }
}
