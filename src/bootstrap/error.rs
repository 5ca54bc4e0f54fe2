//! What can go wrong before there is a world, in words that name variable, rank, host, port and the knob to turn.

use std::io;

use serde::{Deserialize, Serialize};

/// A reason why the ranks do not become a world.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    /// A process that the runtime started has a place in a world already.
    #[error("a worker process is part of its parent's world and no rank of its own")]
    Worker,
    /// A variable that makes no sense.
    #[error("environment variable {name}={value:?}: {why}")]
    Variable { name: String, value: String, why: String },
    /// The environment says that there are several ranks, and not how to find them.
    #[error("{why}")]
    Unclear { why: String },
    /// There is no secret to know the others by.
    #[error("{why}")]
    Secret { why: String },
    /// The process manager or the folder did not do what was asked.
    #[error("{launcher} bootstrap: cannot {what}: {why}")]
    Channel { launcher: &'static str, what: String, why: String },
    /// The world did not come together. All ranks are told the same.
    #[error("{0}")]
    Failed(Failure),
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
}

/// Why a start failed, as one rank says it to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

/// What sort of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// Somebody did not come in time.
    Timeout,
    /// The ranks do not fit together: one twice, or different ideas of how many there are.
    Mismatch,
    /// Not all ranks are the same program.
    WrongBuild,
    /// Somebody does not know the secret.
    WrongSecret,
    /// A rank ended, or its connection did.
    Lost,
    /// A rank could not do its part.
    Rank,
}

impl Failure {
    /// A failure as an error.
    pub(super) fn error(kind: FailureKind, text: impl Into<String>) -> BootstrapError {
        BootstrapError::Failed(Failure { kind, text: text.into() })
    }
}

impl BootstrapError {
    /// For `map_err`: what was tried when the system refused.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> BootstrapError {
        move |source| BootstrapError::Io { what: what.into(), source }
    }
}
