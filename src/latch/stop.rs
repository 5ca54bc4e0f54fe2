//! Waiting in the name of another, who may be gone before it ends.
//!
//! A thread that waits for a process of another node says so for as long as it does. When that process is gone its
//! word is set, and then everything it had open is repaired, which wakes this thread.

use std::cell::RefCell;
use std::sync::Arc;

use crate::prim::{AtomicBool, Ordering};

/// Set when whoever is waited for is gone.
pub(crate) type Gone = Arc<AtomicBool>;

thread_local! {
    static GONE: RefCell<Option<Gone>> = const { RefCell::new(None) };
}

/// Whatever `wait` waits for in a latch, it gives up when the word is set, as if its time were up.
pub(crate) fn unless_gone<R>(gone: &Gone, wait: impl FnOnce() -> R) -> R {
    GONE.set(Some(gone.clone()));
    let result = wait();
    GONE.set(None);
    result
}

/// In whose name this thread waits.
#[inline]
pub(super) fn here() -> Option<Gone> {
    // A thread that ends may take locks in its last destructors, when this is gone.
    GONE.try_with(|gone| gone.borrow().clone()).ok().flatten()
}

/// Whether this thread waits for somebody who is gone.
pub(super) fn is_gone() -> bool {
    here().is_some_and(|gone| is_set(&gone))
}

pub(super) fn is_set(gone: &Gone) -> bool {
    // SeqCst: pairs with the store of whoever sees the end, who heals the cells after it.
    gone.load(Ordering::SeqCst)
}
