//! What the tests and the model of the ring share: messages of one number.

use super::{Boxed, Reading, Ring, Store, Writing};
use crate::id::ProcId;

/// An empty ring in this process's heap.
pub(super) fn boxed(capacity: usize, start: u64) -> Ring<Boxed> {
    let store = Boxed::new(capacity);
    Ring::<Boxed>::initialise(&store, start);
    Ring::new(store)
}

pub(super) fn fill<S: Store>(writing: &mut Writing<'_, S>, value: u64) {
    // SAFETY: a claimed slot of at least eight aligned bytes is the writer's alone.
    unsafe { writing.body().cast::<u64>().write(value) };
}

pub(super) fn value<S: Store>(reading: &Reading<'_, S>) -> u64 {
    // SAFETY: the body of a claimed message, written by `fill`.
    unsafe { reading.body().cast::<u64>().read() }
}

/// False: full.
pub(super) fn send<S: Store>(ring: &Ring<S>, me: ProcId, value: u64) -> bool {
    let Some(mut writing) = ring.claim(me) else {
        return false;
    };
    fill(&mut writing, value);
    writing.publish();
    true
}

/// The next message that is not void.
pub(super) fn receive<S: Store>(ring: &Ring<S>, me: ProcId) -> Option<u64> {
    loop {
        let reading = ring.take(me)?;
        let got = (!reading.is_void()).then(|| value(&reading));
        reading.free();
        if got.is_some() {
            return got;
        }
    }
}
