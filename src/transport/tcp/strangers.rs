//! Those who came to the port and did not belong to the job: counted, and mentioned now and then.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Between two mentions.
const QUIET: Duration = Duration::from_secs(60);

/// The count, and when it was mentioned last.
#[derive(Default)]
pub(super) struct Strangers {
    count: u64,
    mentioned: Option<(Instant, u64)>,
}

impl Strangers {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// One more; the first is mentioned at once, the next when a minute has gone by.
    pub(super) fn note(&mut self, from: SocketAddr, what: &str, now: Instant) {
        if let Some(unmentioned) = self.count_one(now) {
            tracing::warn!(
                %from, what, unmentioned,
                "somebody who does not belong to the job was refused at the port of this node"
            );
        }
    }

    /// Counts; how many are to be mentioned now, if any.
    fn count_one(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let (at, count) = self.mentioned.unwrap_or((now, 0));
        let due = self.mentioned.is_none() || now.saturating_duration_since(at) >= QUIET;
        due.then(|| {
            self.mentioned = Some((now, self.count));
            self.count - count
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_mentioned_seldom_and_counted_all() {
        let mut strangers = Strangers::default();
        let begin = Instant::now();
        assert_eq!(strangers.count_one(begin), Some(1));
        (0..10_000).for_each(|n| assert_eq!(strangers.count_one(begin + Duration::from_millis(n)), None));
        assert_eq!(strangers.count_one(begin + QUIET), Some(10_001));
        assert_eq!(strangers.count(), 10_002);
    }
}
