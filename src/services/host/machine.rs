//! What this node has, for those of other nodes who ask.

use std::sync::{Arc, OnceLock};

use super::super::far::words::MACHINE;
use super::super::far::{FarError, Why, well};
use super::Inner;
use crate::id::{NodeId, NodeNumber};
use crate::mesh::{Answer, Mesh, Request};
use crate::policy::{Gpu, Node};
use crate::sys;
use crate::wire;

/// What this node has, once somebody has asked.
#[derive(Default)]
pub(super) struct Description {
    plain: OnceLock<Node>,
    gpus: OnceLock<Vec<Gpu>>,
}

/// Answers with the description, on another thread: to look takes a while.
pub(super) fn serve(host: &Arc<Inner>, request: &Request, answer: Answer) {
    let (asked, with_gpus) = (host.clone(), request.body.first() == Some(&1));
    host.threads.run(move || {
        let Description { plain, gpus } = &asked.machine;
        let mut node = plain.get_or_init(|| sys::machine::describe(NodeId(asked.hub.me()))).clone();
        if with_gpus {
            node.gpus = gpus.get_or_init(sys::machine::gpus).clone();
        }
        let mut bytes = Vec::new();
        // Text and numbers into memory: nothing in it can fail.
        let _ = wire::encode(&node, &mut bytes);
        answer.send(0, &bytes);
    });
}

/// Asks another node what it has. To find its GPUs may take seconds, so that must be wished for.
pub(crate) fn describe(mesh: &Mesh, node: NodeNumber, with_gpus: bool) -> Result<Node, FarError> {
    let reply = well(mesh.call(node, MACHINE, &[u8::from(with_gpus)])?)?;
    wire::decode(&reply.body).map_err(|error| FarError::Refused { why: Why::Unclear, text: error.to_string() })
}
