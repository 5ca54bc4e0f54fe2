//! What a plan says about one process.

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// Where one process goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// Its node.
    pub(crate) node: NodeId,
    /// The cpus it is bound to, in order; `None`: it may use those of its parent.
    pub(crate) cpus: Option<Vec<usize>>,
    /// The GPUs it sees, as its node's variable names them; `None`: those that its parent sees.
    pub(crate) gpus: Option<Vec<String>>,
    /// What its environment has besides: the variables that show it those GPUs.
    pub(crate) env: Vec<(String, String)>,
}
