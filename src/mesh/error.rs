//! Why a call has no answer.

use serde::{Deserialize, Serialize};

use crate::channel::ChannelError;
use crate::id::NodeNumber;
use crate::mm::MemError;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub(crate) enum MeshError {
    /// The node is gone, or silent for too long.
    #[error("node {node} is lost: {why}")]
    Lost { node: NodeNumber, why: String },
    /// There is no such node.
    #[error("there is no node {node} in this job")]
    NoNode { node: NodeNumber },
    /// The process of this node that talks to the others is gone.
    #[error("the process that connects this node to the others has ended")]
    NoHub,
    /// The node has nobody who answers such calls, or who did has failed.
    #[error("node {node} dropped a call of service {service}")]
    Dropped { node: NodeNumber, service: u16 },
    /// The runtime is ending.
    #[error("the runtime of this process has ended")]
    Closed,
    /// The call is too long for any memory it could land in.
    #[error("a call of {len} bytes cannot be sent: {why}")]
    TooLong { len: usize, why: String },
    /// No memory for it on this node.
    #[error("{0}")]
    Memory(String),
}

impl From<MemError> for MeshError {
    fn from(error: MemError) -> MeshError {
        MeshError::Memory(error.to_string())
    }
}

impl From<ChannelError> for MeshError {
    fn from(error: ChannelError) -> MeshError {
        match error {
            ChannelError::Closed | ChannelError::Interrupted => MeshError::NoHub,
            other => MeshError::Memory(other.to_string()),
        }
    }
}
