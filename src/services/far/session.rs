//! Something that this process has running on another node.

use super::words::{OPEN, Opening, SESSION, SessionTail, Why};
use super::{FarError, well};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::{Mesh, MeshError};
use crate::wire;

/// A session on another node, as its owner has it. The other half is `services/host/sessions.rs`.
pub(crate) struct FarSession {
    mesh: Mesh,
    node: NodeNumber,
    inbox: ObjectId,
}

impl FarSession {
    /// Runs the function of that name on the node, with an encoded argument. It makes the guest, which gets all further calls
    /// of this session; what it returns comes back as bytes. The session ends when `inbox` does, a channel of this process.
    pub(crate) fn open(
        mesh: Mesh,
        node: NodeNumber,
        inbox: ObjectId,
        entry: Vec<u8>,
        argument: Vec<u8>,
    ) -> Result<(FarSession, Vec<u8>), FarError> {
        let session = FarSession { mesh, node, inbox };
        let mut bytes = Vec::new();
        let unclear = |error: wire::WireError| FarError::Refused { why: Why::Unclear, text: error.to_string() };
        wire::encode(&Opening { entry, argument }, &mut bytes).map_err(unclear)?;
        let answer = session.call(OPEN, &bytes)?;
        Ok((session, answer))
    }

    pub(crate) fn node(&self) -> NodeNumber {
        self.node
    }

    /// This node has lost its way to all others: nothing that was asked will be answered.
    pub(crate) fn is_cut(&self) -> bool {
        self.mesh.is_cut()
    }

    /// Asks something; the answer comes into the inbox, with this tag.
    pub(crate) fn ask(&self, op: u32, message: &[u8], tag: u64) -> Result<(), MeshError> {
        self.ask_for(self.inbox, op, message, tag)
    }

    /// The same with the answer into another channel of this process.
    pub(crate) fn ask_for(&self, channel: ObjectId, op: u32, message: &[u8], tag: u64) -> Result<(), MeshError> {
        self.mesh.ask(self.node, SESSION, [message, bytemuck::bytes_of(&self.tail(op))], channel, tag)
    }

    /// Asks something and waits for the answer.
    pub(crate) fn call(&self, op: u32, message: &[u8]) -> Result<Vec<u8>, FarError> {
        Ok(well(self.mesh.call(self.node, SESSION, &self.whole(op, message))?)?.body.to_vec())
    }

    /// Says something that needs no answer.
    pub(crate) fn tell(&self, op: u32, message: &[u8]) -> Result<(), MeshError> {
        self.mesh.tell(self.node, SESSION, &self.whole(op, message))
    }

    fn tail(&self, op: u32) -> SessionTail {
        SessionTail { session: self.inbox.to_word(), op, spare: 0 }
    }

    fn whole(&self, op: u32, message: &[u8]) -> Vec<u8> {
        [message, bytemuck::bytes_of(&self.tail(op))].concat()
    }
}
