//! A queue of another node that a selector of this process can wait for, among other things.

use std::ops::Deref;
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use super::FarQueue;
use crate::prim::{AtomicBool, AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{CELL_WORDS, WaitCell};

/// How long one question at the home of a queue waits for a message.
const SPELL: Duration = Duration::from_secs(1);
/// How often a message that nobody takes is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// A place of this process to sleep at.
#[repr(align(64))]
struct Words([AtomicU64; CELL_WORDS]);

/// A queue of another node, and where those of this process sleep who wait for it among other things.
pub(crate) struct WatchedQueue {
    queue: FarQueue,
    words: Words,
    ready: Arc<AtomicBool>,
    watched: Once,
}

impl WatchedQueue {
    pub(crate) fn new(queue: FarQueue) -> Arc<WatchedQueue> {
        let words = Words([const { AtomicU64::new(0) }; CELL_WORDS]);
        Arc::new(WatchedQueue { queue, words, ready: Arc::default(), watched: Once::new() })
    }

    /// Where a selector sleeps for it. From the first time on, a thread asks the queue's home for messages.
    pub(crate) fn cell(self: &Arc<Self>) -> &WaitCell {
        self.watched.call_once(|| {
            let far = Arc::downgrade(self);
            let watch = move || {
                while let Some(far) = far.upgrade() {
                    let ready = far.queue.poll(Deadline::after(SPELL)).unwrap_or(true);
                    far.ready.store(ready, Ordering::SeqCst); // pairs with the look of a selector that has registered
                    if ready {
                        far.here().notify_all();
                        drop(far);
                        thread::park_timeout(PAUSE);
                    }
                }
            };
            if let Err(error) = thread::Builder::new().name("dragon-far".into()).spawn(watch) {
                tracing::error!(%error, "no thread to wait for a queue of another node: a selector looks at it all the time");
                self.ready.store(true, Ordering::SeqCst); // as above
            }
        });
        self.here()
    }

    /// Whether the home said lately that there is something to take.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) // pairs with the store in `cell`
    }

    fn here(&self) -> &WaitCell {
        WaitCell::in_words(&self.words.0)
    }
}

impl Deref for WatchedQueue {
    type Target = FarQueue;

    fn deref(&self) -> &FarQueue {
        &self.queue
    }
}
