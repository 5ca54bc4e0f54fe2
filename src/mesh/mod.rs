//! Calls between the nodes of a job, from any process of any node, near or far behind one face.
//!
//! Each node has one [`Hub`]: in the process that is the node's head, with the lanes to other nodes. Every other
//! process of the node posts its calls to the hub through a channel in shared memory and gets the answers through
//! one of its own. So a node has one connection to each other node, whatever runs on it.
//!
//! ```text
//! process ── post ──▶ hub ── lane ──▶ hub of the other node ── Server::serve
//!         ◀─ reply ──     ◀─ lane ──                        ◀─ Answer::send
//! ```
//! What a call means is the business of the [`Server`] above; this floor carries bytes, and knows whose answer is
//! whose. A call ends in an answer or in an error: when the node called is lost, or the own hub.

mod answer;
mod body;
mod error;
mod frame;
mod hub;
mod lanes;
mod link;
mod member;
mod slot;

pub(crate) use crate::transport::Steady;
pub(crate) use answer::Answer;
pub(crate) use body::Body;
pub(crate) use error::MeshError;
pub(crate) use frame::ReplyHead;
pub(crate) use hub::Hub;
pub(crate) use lanes::Lanes;
pub(crate) use member::{Member, read_reply};

use std::sync::Arc;

use crate::id::{NodeNumber, ObjectId, ProcId};

/// Most bytes of a call's head.
pub(crate) const HEAD_MOST: usize = 256;

/// Which part of the floor above a call is for.
pub(crate) type Service = u16;

/// A call as it reaches the node that is to answer it.
pub(crate) struct Request {
    /// The node it comes from.
    pub(crate) from: NodeNumber,
    /// The process there.
    pub(crate) process: ProcId,
    /// Whom it is for.
    pub(crate) service: Service,
    /// What it says first, in few bytes; nothing, if its body says all.
    pub(crate) head: Vec<u8>,
    /// What it says.
    pub(crate) body: Body,
}

/// An answer, as it reaches who called.
#[derive(Debug)]
pub(crate) struct Reply {
    /// How it went, in words of the floor above; 0 is well.
    pub(crate) status: u16,
    /// What it says.
    pub(crate) body: Body,
}

/// Who answers the calls to this node.
pub(crate) trait Server: Send + Sync {
    /// Takes a call. Must not wait: what cannot be answered at once is answered later, from another thread. An answer
    /// that is dropped tells the caller that there will be none.
    fn serve(&self, request: Request, answer: Answer);

    /// A node is lost, and nothing will come from it any more.
    fn lost(&self, node: NodeNumber, why: &str);
}

/// This process's way to all nodes.
#[derive(Clone)]
pub(crate) enum Mesh {
    /// The hub is in this process.
    Hub(Arc<Hub>),
    /// It is in another one of this node.
    Member(Arc<Member>),
}

impl Mesh {
    /// The number of this node.
    pub(crate) fn me(&self) -> NodeNumber {
        match self {
            Mesh::Hub(hub) => hub.me(),
            Mesh::Member(member) => member.me(),
        }
    }

    /// The hub is gone: nothing more comes or goes.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Mesh::Member(member) if member.is_cut())
    }

    /// Calls a node, this one included, and waits for its answer: as long as the node lives and does not answer. Whoever
    /// gives up earlier says so in the call itself.
    pub(crate) fn call(&self, node: NodeNumber, service: Service, body: &[u8]) -> Result<Reply, MeshError> {
        self.call_with(node, service, &[], body.len(), |space| space.copy_from_slice(body))
    }

    /// [`Mesh::call`] with a head of at most [`HEAD_MOST`] bytes and a body of `len` bytes that `fill` writes to where they
    /// are sent from. A long body lands at the start of a block.
    pub(crate) fn call_with(
        &self,
        node: NodeNumber,
        service: Service,
        head: &[u8],
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Reply, MeshError> {
        debug_assert!(head.len() <= HEAD_MOST, "a head is short");
        match self {
            Mesh::Hub(hub) => hub.call(node, service, head, len, fill),
            Mesh::Member(member) => member.call(node, service, head, len, fill),
        }
    }

    /// Calls a node, this one included, and does not wait: the answer, or why there is none, comes as a message into a channel of this node,
    /// behind a [`ReplyHead`] with this tag. The channel must have room for it. `parts` are the call, one behind the other.
    pub(crate) fn ask(
        &self,
        node: NodeNumber,
        service: Service,
        parts: [&[u8]; 2],
        reply: ObjectId,
        tag: u64,
    ) -> Result<(), MeshError> {
        match self {
            Mesh::Hub(hub) => hub.ask(node, service, parts, reply, tag),
            Mesh::Member(member) => member.ask(node, service, parts, reply, tag),
        }
    }

    /// Tells a node something that it does not answer. What one thread tells a node, by calls or so, arrives in its order.
    pub(crate) fn tell(&self, node: NodeNumber, service: Service, body: &[u8]) -> Result<(), MeshError> {
        match self {
            Mesh::Hub(hub) => hub.tell(node, service, body),
            Mesh::Member(member) => member.tell(node, service, body),
        }
    }
}
