//! The heads of what travels: over a lane, and between the processes of a node and their hub.

use bytemuck::{Pod, Zeroable};

use crate::id::{NodeNumber, ObjectId};

/// Kinds of messages on a lane.
pub(super) const CALL: u16 = 1;
/// An answer to a call.
pub(super) const ANSWER: u16 = 2;
/// There will be no answer.
pub(super) const DROPPED: u16 = 3;

/// Head of a message on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LaneHead {
    /// Names the call at the node that made it; 0: nobody waits for an answer.
    pub(super) call: u64,
    /// Of a call: whom it is for. Of an answer: how it went.
    pub(super) service: u16,
    /// The process that calls.
    pub(super) process: u16,
    /// So many bytes at the front of the body are not the call's.
    pub(super) skip: u32,
}

/// Head of what a process posts to its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct PostHead {
    /// The channel that the answer is wanted in, as a word; 0: nobody waits for an answer.
    pub(super) reply: u64,
    /// Names the call at the process that made it.
    pub(super) call: u64,
    /// The node that is called.
    pub(super) node: NodeNumber,
    /// Whom it is for.
    pub(super) service: u16,
    /// The process that calls.
    pub(super) process: u16,
    /// So many bytes behind this are the call's own head.
    pub(super) head: u64,
}

impl PostHead {
    pub(super) fn reply(&self) -> Option<ObjectId> {
        ObjectId::from_word(self.reply)
    }
}

/// Head of an answer as it comes into a channel of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ReplyHead {
    /// The call it is for.
    pub(crate) call: u64,
    /// 0: the answer follows; otherwise an encoded error does.
    pub(crate) failed: u32,
    /// How it went.
    pub(crate) status: u32,
}

/// Splits bytes into a head and the rest.
pub(super) fn split<H: Pod>(bytes: &[u8]) -> Option<(H, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<H>())?;
    Some((bytemuck::pod_read_unaligned(head), rest))
}
