//! What one rank of a job makes for all.

use std::sync::atomic::{AtomicUsize, Ordering};

use dragon::{Message, Queue, Runtime};

use super::LONG;

/// Rank 0 makes something, and all ranks have it.
pub fn share<T: Message + Clone>(dragon: &Runtime, make: impl FnOnce() -> T) -> T {
    share_from(dragon, 0, make)
}

/// Some rank makes something, and all ranks have it.
pub fn share_from<T: Message + Clone>(dragon: &Runtime, rank: usize, make: impl FnOnce() -> T) -> T {
    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("shared {}", TIMES.fetch_add(1, Ordering::Relaxed));
    if dragon.rank() != rank {
        return Queue::<T>::open_timeout(&name, LONG).unwrap().get().unwrap();
    }
    let (made, queue) = (make(), Queue::<T>::builder().name(&name).build().unwrap());
    (1..dragon.size()).for_each(|_| queue.put(made.clone()).unwrap());
    // Kept until all have taken it.
    std::mem::forget(queue);
    made
}
