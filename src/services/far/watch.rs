//! Waiting here for what is on another node: a thread asks there, and rings here.

use std::sync::{Arc, Once, Weak};
use std::thread;
use std::time::Duration;

use crate::prim::{AtomicBool, AtomicU64, Ordering};
use crate::wait::{CELL_WORDS, WaitCell};

/// How long one question waits on the other node.
pub(crate) const SPELL: Duration = Duration::from_secs(1);
/// How often something that stays ready is asked about.
const PAUSE: Duration = Duration::from_millis(2);

/// A place of this process to sleep at.
#[repr(align(64))]
struct Words([AtomicU64; CELL_WORDS]);

/// Where those of this process sleep who wait for something of another node, among other things.
pub(crate) struct Watch {
    words: Words,
    ready: AtomicBool,
    begun: Once,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        let words = Words([const { AtomicU64::new(0) }; CELL_WORDS]);
        Watch { words, ready: AtomicBool::new(false), begun: Once::new() }
    }

    /// Where to sleep. From the first time on, a thread calls `ask`, which waits for at most [`SPELL`] and says whether it
    /// is ready, for as long as `of` lives; `mine` finds this in it.
    pub(crate) fn cell<T: Send + Sync + 'static>(
        &self,
        of: &Arc<T>,
        mine: fn(&T) -> &Watch,
        ask: fn(&T) -> bool,
    ) -> &WaitCell {
        self.begun.call_once(|| {
            let of = Arc::downgrade(of);
            let started = thread::Builder::new().name("dragon-far".into()).spawn(move || watch(&of, mine, ask));
            if let Err(error) = started {
                tracing::error!(%error, "no thread to wait for another node: a selector asks it again and again");
                self.ready.store(true, Ordering::SeqCst); // as in `watch`
            }
        });
        self.here()
    }

    /// Whether the other node said lately that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) // pairs with the store in `watch`
    }

    fn here(&self) -> &WaitCell {
        WaitCell::in_words(&self.words.0)
    }
}

fn watch<T>(of: &Weak<T>, mine: fn(&T) -> &Watch, ask: fn(&T) -> bool) {
    while let Some(of) = of.upgrade() {
        let (ready, watch) = (ask(&of), mine(&of));
        watch.ready.store(ready, Ordering::SeqCst); // pairs with the look of a selector that has registered
        if ready {
            watch.here().notify_all();
            drop(of);
            // Nobody can say when it will be taken: it is another node's business.
            thread::park_timeout(PAUSE);
        }
    }
}
