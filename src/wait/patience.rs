//! How long it pays to stay awake: a thread's own memory of its recent waits.
//!
//! What is spun for arrives after 0.1 µs; a sleeper on another core is back after 60 to 90 µs. So it pays to stay
//! awake for about as long as a wake-up takes, if things tend to come within that time, and if nobody
//! else needs the processor. Both are learnt: waits that ended soon after going to sleep lengthen the next
//! spell awake, waits that lasted shorten it; and a `sched_yield` that takes long has let somebody run.

use std::{
    thread,
    time::{Duration, Instant},
};

use once_cell::sync::OnceCell;

use super::idle;
use crate::prim::spin_loop;
use crate::time::{Deadline, now};

/// Looks without so much as a pause: the answer of an awake peer arrives within these.
const LOOKS: u32 = 200;
/// The same where what is waited for may come from another node: the answer of an awake neighbour, and no more.
const LOOKS_BESIDE: u32 = 25;
/// Looks with a pause in between, before processors are offered to others.
const PAUSED_LOOKS: u32 = 300;
/// One look in so many of those is also for what other nodes send.
const ASIDE: u32 = 16;
/// Looks that take a microsecond or so each, before the same.
const SLOW_LOOKS: u32 = 4;
/// At first for about what a wake-up costs.
const AWAKE_FIRST: Duration = Duration::from_micros(80);
/// Longer only where that has just paid: what comes again and again within this time (a large message that is being
/// copied) costs a wake-up less each time, and the first wait that lasts halves it.
const AWAKE_MOST: Duration = Duration::from_micros(320);
/// Never shorter: else a thread whose peer became quick would not find out.
const AWAKE_LEAST: Duration = Duration::from_micros(4);
/// A sleep shorter than this would better have been spent awake.
const SHORT_SLEEP: Duration = Duration::from_micros(200);
/// A yield that takes longer than this was a turn of somebody else.
const SLOW_YIELD: Duration = Duration::from_micros(5);
/// After so many slow yields more threads want to run than there are processors.
const CROWDED: u32 = 2;
const CROWDED_MOST: u32 = 6;

/// What one waiting thread has learnt. Private to it: not shared, not in shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    awake: Duration,
    slow_yields: u32,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience { awake: AWAKE_FIRST, slow_yields: if processors() > 1 { 0 } else { CROWDED } }
    }

    /// After [`Patience::looks`]: looks again and again for as long as it seems worth it.
    pub(crate) fn stay_awake<T>(&mut self, deadline: Deadline, ready: &mut dyn FnMut() -> Option<T>) -> Option<T> {
        if cfg!(feature = "shuttle") {
            // A spinning thread tells the model checker nothing that a sleeping one does not.
            return None;
        }
        self.spin(ready).or_else(|| self.offer(deadline, ready))
    }

    /// As [`Patience::stay_awake`], after [`Patience::slow_looks`].
    pub(super) fn offer_others<T>(&mut self, deadline: Deadline, ready: &mut dyn FnMut() -> Option<T>) -> Option<T> {
        if cfg!(feature = "shuttle") { None } else { self.offer(deadline, ready) }
    }

    /// How often to look where each look takes its time.
    pub(super) fn slow_looks(&self) -> u32 {
        if cfg!(feature = "shuttle") { 1 } else { SLOW_LOOKS }
    }

    /// How often to look without a pause: also in a crowd, since it takes less than giving way would.
    #[inline]
    pub(super) fn looks(&self) -> u32 {
        match () {
            _ if cfg!(feature = "shuttle") => 1,
            // Nobody looks at the sockets meanwhile.
            _ if idle::is_used() => LOOKS_BESIDE,
            _ => LOOKS,
        }
    }

    fn spin<T>(&self, ready: &mut dyn FnMut() -> Option<T>) -> Option<T> {
        for look in 0..if self.crowded() { 0 } else { PAUSED_LOOKS } {
            spin_loop();
            if let Some(found) = ready() {
                return Some(found);
            }
            if look % ASIDE == 0 {
                idle::look();
            }
        }
        None
    }

    /// Offers the processor to others between looks.
    fn offer<T>(&mut self, deadline: Deadline, ready: &mut dyn FnMut() -> Option<T>) -> Option<T> {
        let mut began = now();
        let mut at = began;
        loop {
            let busy = idle::look();
            thread::yield_now();
            let after = now();
            if busy {
                // Something came from another node, if not what is waited for: that is no time lost, and more may follow.
                began = after;
            }
            self.learn_yield(after - at);
            if let Some(found) = ready() {
                self.awake = self.awake.max(2 * (after - began)).min(AWAKE_MOST);
                return Some(found);
            }
            let over = matches!(deadline, Deadline::At(end) if after >= end);
            if over || after - began >= self.awake || self.slow_yields == CROWDED_MOST {
                return None;
            }
            at = after;
        }
    }

    fn learn_yield(&mut self, took: Duration) {
        if processors() == 1 {
            return;
        }
        self.slow_yields = if took > SLOW_YIELD {
            (self.slow_yields + 1).min(CROWDED_MOST)
        } else {
            self.slow_yields.saturating_sub(1)
        };
    }

    fn crowded(&self) -> bool {
        self.slow_yields >= CROWDED
    }

    pub(crate) fn begin_sleep(&self) -> Instant {
        idle::leave();
        now()
    }

    pub(crate) fn end_sleep(&mut self, began: Instant) {
        let awake = if now() - began < SHORT_SLEEP { self.awake * 2 } else { self.awake / 2 };
        self.awake = awake.clamp(AWAKE_LEAST, AWAKE_MOST);
    }
}

fn processors() -> usize {
    // Not prim's: it is nobody's business but this process's, and the model checker has no statics.
    static PROCESSORS: OnceCell<usize> = OnceCell::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}
