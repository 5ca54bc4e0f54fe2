//! The way back of one call.

use std::sync::Arc;

use super::hub::Hub;
use super::slot::{Outcome, Slot};
use super::{Body, MeshError, Reply, Service};
use crate::id::{NodeNumber, ObjectId};
use crate::mm::Block;
use crate::transport::Steady;

/// Who of this node waits for an answer.
#[derive(Clone)]
pub(super) enum Asker {
    /// A thread of the hub's process.
    Here(Arc<Slot>),
    /// A thread of another process, at this channel.
    There { reply: ObjectId, call: u64 },
}

/// Where an answer goes.
pub(super) enum Back {
    Asker(Asker),
    /// Over the lane to that node.
    Node {
        node: NodeNumber,
        call: u64,
    },
    /// Nowhere: nobody asked for one.
    Nobody,
}

/// To be answered once, by anybody, at any time. Dropped, it tells the caller that there will be no answer.
pub(crate) struct Answer {
    hub: Arc<Hub>,
    service: Service,
    back: Option<Back>,
}

impl Answer {
    pub(super) fn new(hub: Arc<Hub>, service: Service, back: Back) -> Answer {
        Answer { hub, service, back: Some(back) }
    }

    /// Whether a thread of this very process waits for it.
    pub(crate) fn is_for_here(&self) -> bool {
        matches!(self.back, Some(Back::Asker(Asker::Here(_))))
    }

    /// Answers with a copy of the bytes, and a word on how it went; 0 is well.
    pub(crate) fn send(mut self, status: u16, bytes: &[u8]) {
        match self.back.take() {
            Some(Back::Asker(asker)) => {
                self.hub.settle(&asker, Ok(Reply { status, body: Body::Bytes(bytes.to_vec()) }))
            }
            Some(Back::Node { node, call }) => self.hub.answer(node, call, status, bytes),
            Some(Back::Nobody) | None => {}
        }
    }

    /// Answers that it went well, with the first `len` bytes of a block, without a copy where that can be.
    pub(crate) fn send_block(self, block: Block, len: usize) {
        self.send_part_of(block, 0, len);
    }

    /// Answers that it went well, with bytes that stay as they are until they have been sent: to another node without a copy.
    pub(crate) fn send_steady(mut self, bytes: Arc<dyn Steady>) {
        match self.back.take() {
            Some(Back::Asker(asker)) => {
                self.hub.settle(&asker, Ok(Reply { status: 0, body: Body::Bytes(bytes.bytes().to_vec()) }));
            }
            Some(Back::Node { node, call }) => self.hub.answer_steady(node, call, bytes),
            Some(Back::Nobody) | None => {}
        }
    }

    /// The same with the bytes of a block from `begin` to `end`.
    pub(crate) fn send_part_of(mut self, block: Block, begin: usize, end: usize) {
        match self.back.take() {
            Some(Back::Asker(asker)) => {
                self.hub.settle(&asker, Ok(Reply { status: 0, body: Body::Block { block, begin, end } }))
            }
            Some(Back::Node { node, call }) => self.hub.answer_block(node, call, block, begin, end),
            Some(Back::Nobody) | None => {}
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let dropped = || -> Outcome { Err(MeshError::Dropped { node: self.hub.me(), service: self.service }) };
        match self.back.take() {
            Some(Back::Asker(asker)) => self.hub.settle(&asker, dropped()),
            Some(Back::Node { node, call }) => self.hub.answer_dropped(node, call),
            Some(Back::Nobody) | None => {}
        }
    }
}
