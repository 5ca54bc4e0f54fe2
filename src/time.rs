//! Time as an argument: deadlines are made once, at the edge, and handed down.

use std::time::{Duration, Instant};

/// When a wait gives up: never, at once, or at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// Do not wait at all.
    Now,
    /// Wait until this instant.
    At(Instant),
    /// Wait as long as it takes.
    Never,
}

impl Deadline {
    /// A deadline this long from now. Zero is [`Deadline::Now`]; more than the clock can hold is never.
    pub(crate) fn after(patience: Duration) -> Deadline {
        if patience.is_zero() {
            return Deadline::Now;
        }
        now().checked_add(patience).map_or(Deadline::Never, Deadline::At)
    }

    /// This deadline, or so much from now, whichever comes first.
    pub(crate) fn within(self, patience: Duration) -> Deadline {
        match (self, Deadline::after(patience)) {
            (Deadline::At(at), Deadline::At(soon)) => Deadline::At(at.min(soon)),
            (Deadline::Never, soon) => soon,
            (first, _) => first,
        }
    }

    /// Whether the time is up.
    pub(crate) fn passed(self) -> bool {
        match self {
            Deadline::Now => true,
            Deadline::At(at) => now() >= at,
            Deadline::Never => false,
        }
    }

    /// What is left: `None` is for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Deadline::Now => Some(Duration::ZERO),
            Deadline::At(at) => Some(at.saturating_duration_since(now())),
            Deadline::Never => None,
        }
    }
}

/// The clock of the shells. Nothing below floor 4 calls it but waiting itself.
pub(crate) fn now() -> Instant {
    Instant::now()
}
