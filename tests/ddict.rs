//! Dictionaries as a user sees them: one process, and several that come and go. The numbers are those of the cases in
//! which DragonHPC's own tests show the same.

#[path = "ddict/checkpoints.rs"]
mod checkpoints;
#[path = "ddict/handles.rs"]
mod handles;
#[path = "ddict/model.rs"]
mod model;
#[path = "ddict/persist.rs"]
mod persist;
#[path = "ddict/values.rs"]
mod values;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragon::{DDict, Runtime};

/// Some tests look at figures of the whole node, so one runs at a time.
fn alone() -> (MutexGuard<'static, ()>, Runtime) {
    static ONE: Mutex<()> = Mutex::new(());
    (ONE.lock().unwrap_or_else(PoisonError::into_inner), dragon::init().unwrap())
}

fn in_use(dragon: &Runtime) -> u64 {
    dragon.stats().memory.in_use
}

/// Waits until no more memory is held than before: a worker may still be about to let go of its last message.
fn wait_for(dragon: &Runtime, before: u64) {
    let begin = Instant::now();
    while in_use(dragon) > before {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} bytes where {before} were before", in_use(dragon));
        std::thread::yield_now();
    }
}

fn small(managers: usize) -> DDict<u64, Vec<u8>> {
    DDict::builder().memory_per_node(8 << 20).managers_per_node(managers).build().unwrap()
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);
