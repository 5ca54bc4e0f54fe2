//! Names that hold for the whole job: the leader knows whose they are.

use super::words::{NAMES, NameCall, Why};
use super::{FarError, well};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::Mesh;
use crate::wire;

/// The way to the names of the job.
pub(crate) struct Names<'a> {
    mesh: &'a Mesh,
    leader: NodeNumber,
}

impl<'a> Names<'a> {
    pub(crate) fn new(mesh: &'a Mesh, leader: NodeNumber) -> Names<'a> {
        Names { mesh, leader }
    }

    /// Says that an object of this node has a name.
    pub(crate) fn give(&self, name: &str, object: ObjectId) -> Result<(), FarError> {
        self.ask(&NameCall::Give { name: name.into(), node: self.mesh.me(), object }).map(drop)
    }

    /// The object of this name, and its node.
    pub(crate) fn find(&self, name: &str) -> Result<Option<(NodeNumber, ObjectId)>, FarError> {
        let bytes = self.ask(&NameCall::Find { name: name.into() })?;
        wire::decode(&bytes).map_err(|error| FarError::Refused { why: Why::Unclear, text: error.to_string() })
    }

    fn ask(&self, call: &NameCall) -> Result<Vec<u8>, FarError> {
        let mut bytes = Vec::new();
        let unclear = |error: wire::WireError| FarError::Refused { why: Why::Unclear, text: error.to_string() };
        wire::encode(call, &mut bytes).map_err(unclear)?;
        Ok(well(self.mesh.call(self.leader, NAMES, &bytes)?)?.body.to_vec())
    }
}
