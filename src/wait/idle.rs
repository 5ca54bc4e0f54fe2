//! What a thread that stays awake for one thing may do for others meanwhile: carry messages of other nodes.
//!
//! Between nodes, what a thread waits for often comes over a socket that somebody has to look at. A thread that is awake
//! anyway does it between its own looks; before it falls asleep it says so, so that another takes over.

use std::sync::{Arc, PoisonError, RwLock};

use once_cell::sync::OnceCell;

/// What can be done meanwhile.
pub(crate) trait Meanwhile: Send + Sync {
    /// A short look. Must not wait. Whether there was anything, so that more is about to come.
    fn look(&self) -> bool;

    /// Nobody looks from here any more.
    fn leave(&self);
}

/// Made when there first is something, so that a process that never has any asks one word.
static WHAT: OnceCell<RwLock<Option<Arc<dyn Meanwhile>>>> = OnceCell::new();

/// From now on this is what threads of this process do meanwhile.
pub(crate) fn meanwhile(what: Option<Arc<dyn Meanwhile>>) {
    *WHAT.get_or_init(RwLock::default).write().unwrap_or_else(PoisonError::into_inner) = what;
}

/// Whether there is, or was, something to be done meanwhile.
#[inline]
pub(super) fn is_used() -> bool {
    WHAT.get().is_some()
}

#[inline]
pub(super) fn look() -> bool {
    WHAT.get().is_some_and(|what| with(what, |what| what.look()))
}

#[inline]
pub(super) fn leave() {
    if let Some(what) = WHAT.get() {
        with(what, |what| what.leave());
    }
}

#[cold]
fn with<R: Default>(what: &RwLock<Option<Arc<dyn Meanwhile>>>, act: impl FnOnce(&dyn Meanwhile) -> R) -> R {
    let what = what.read().unwrap_or_else(PoisonError::into_inner).clone();
    what.map_or_else(R::default, |what| act(&*what))
}
