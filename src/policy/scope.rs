//! The policy that completes all others of a thread for a while.

use std::cell::RefCell;

use super::Policy;

thread_local! {
    static CURRENT: RefCell<Policy> = RefCell::default();
}

/// Puts the policy back that was there before, also when the body panics.
struct Restore(Option<Policy>);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            CURRENT.set(before);
        }
    }
}

pub(super) fn within<R>(policy: Policy, body: impl FnOnce() -> R) -> R {
    let _restore = Restore(Some(CURRENT.replace(policy)));
    body()
}

pub(super) fn current() -> Policy {
    CURRENT.with_borrow(Policy::clone)
}
