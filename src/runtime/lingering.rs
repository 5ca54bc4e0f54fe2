//! Objects that are kept for a while because a handle of them is on its way to another node.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::id::{NodeNumber, ObjectId};

/// How long a handle may be on its way.
const LINGER: Duration = Duration::from_secs(600);
/// How often it is looked for what has been kept long enough.
const SWEEP: Duration = Duration::from_secs(1);

type Kept = HashMap<(NodeNumber, ObjectId), (Instant, Box<dyn Send>)>;

/// What is kept: each object once, however often its handle is sent.
#[derive(Default)]
pub(super) struct Lingering(Mutex<(Kept, Option<Instant>)>);

impl Lingering {
    /// Keeps `what` until long after now.
    pub(super) fn keep(&self, object: (NodeNumber, ObjectId), now: Instant, what: Box<dyn Send>) {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, swept) = &mut *inside;
        let before = kept.insert(object, (now, what));
        let mut old = Kept::new();
        if swept.is_none_or(|swept| now.duration_since(swept) > SWEEP) {
            *swept = Some(now);
            let all = std::mem::take(kept).into_iter();
            (old, *kept) = all.partition(|(_, (since, _))| now.duration_since(*since) > LINGER);
        }
        // To let go may be a call to another node.
        drop(inside);
        drop((before, old));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::time::now;

    #[test]
    fn each_is_kept_once_and_not_for_ever() {
        let (lingering, begun, what) = (Lingering::default(), now(), Arc::new(()));
        let object = |index| (0, ObjectId { index, generation: 0 });
        (0..3).for_each(|_| lingering.keep(object(1), begun, Box::new(what.clone())));
        assert_eq!(Arc::strong_count(&what), 2);
        lingering.keep(object(1), begun + LINGER, Box::new(what.clone()));
        lingering.keep(object(2), begun + LINGER + SWEEP, Box::new(()));
        assert_eq!(Arc::strong_count(&what), 2, "sent again, kept again");
        lingering.keep(object(2), begun + 2 * LINGER + 2 * SWEEP, Box::new(()));
        assert_eq!(Arc::strong_count(&what), 1);
    }
}
