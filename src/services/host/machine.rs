//! What this node has, for those of other nodes who ask.

use std::sync::{Arc, OnceLock};

use super::super::far::words::MACHINE;
use super::super::far::{FarError, Why, well};
use super::Inner;
use crate::id::{NodeId, NodeNumber};
use crate::mesh::{Answer, Mesh};
use crate::policy::Node;
use crate::sys;
use crate::wire;

/// The description of this node, encoded, once somebody has asked.
#[derive(Default)]
pub(super) struct Description(OnceLock<Vec<u8>>);

/// Answers with the description, on another thread: to look takes a while.
pub(super) fn serve(host: &Arc<Inner>, answer: Answer) {
    let asked = host.clone();
    host.threads.run(move || {
        let describe = || {
            let mut bytes = Vec::new();
            // Text and numbers into memory: nothing in it can fail.
            let _ = wire::encode(&sys::machine::describe(NodeId(asked.hub.me())), &mut bytes);
            bytes
        };
        answer.send(0, asked.machine.0.get_or_init(describe));
    });
}

/// Asks another node what it has.
pub(crate) fn describe(mesh: &Mesh, node: NodeNumber) -> Result<Node, FarError> {
    let reply = well(mesh.call(node, MACHINE, &[])?)?;
    wire::decode(&reply.body).map_err(|error| FarError::Refused { why: Why::Unclear, text: error.to_string() })
}
