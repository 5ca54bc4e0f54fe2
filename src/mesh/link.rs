//! The lanes to other nodes, as the hub uses them.

use super::frame::{ANSWER, CALL, DROPPED, LaneHead};
use super::slot::Outcome;
use super::{Body, MeshError};
use crate::id::NodeNumber;
use crate::mm::{Block, Memory};
use crate::transport::Steady;
use std::sync::Arc;

/// Where something is sent, as what, and who follows it.
#[derive(Clone, Copy)]
pub(crate) struct Lane {
    pub(super) node: NodeNumber,
    pub(super) kind: u16,
    /// The thread that sends will wait for the answer, and carry meanwhile.
    pub(super) waits: bool,
}

impl Lane {
    fn new(node: NodeNumber, kind: u16) -> Lane {
        Lane { node, kind, waits: false }
    }
}

/// What carries bytes to other nodes: the transport, or a test's substitute.
pub(crate) trait Carrier: Send + Sync {
    /// Sends a short message: all of it is copied before this returns. Waits while the lane is full.
    fn send(&self, to: Lane, head: &[u8], body: &[u8]) -> Result<(), MeshError>;

    /// Sends the first `len` bytes of a block or the like.
    fn send_block(&self, to: Lane, head: &[u8], block: Arc<dyn Steady>, len: usize) -> Result<(), MeshError>;

    /// The longest that [`Carrier::send`] takes.
    fn short(&self) -> usize;

    /// Waits until `ready`, carrying meanwhile.
    fn wait(&self, ready: &mut dyn FnMut() -> bool);

    /// Nothing more goes out or comes in, when what was sent has arrived or cannot.
    fn close(&self);
}

/// The hub's end of all lanes.
pub(super) struct Link {
    carrier: Box<dyn Carrier>,
    memory: Arc<Memory>,
}

impl Link {
    pub(super) fn new(carrier: Box<dyn Carrier>, memory: Arc<Memory>) -> Link {
        Link { carrier, memory }
    }

    /// Calls with a body of `len` bytes that `fill` writes, for a thread that then waits for the answer.
    pub(super) fn call(
        &self,
        node: NodeNumber,
        head: LaneHead,
        own: &[u8],
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), MeshError> {
        let lane = Lane { waits: true, ..Lane::new(node, CALL) };
        let head = [bytemuck::bytes_of(&head), own].concat();
        if len <= self.carrier.short() {
            let mut body = vec![0; len];
            fill(&mut body);
            return self.carrier.send(lane, &head, &body);
        }
        let mut block = self.memory.alloc(len)?;
        fill(&mut block.as_mut_slice()[..len]);
        self.carrier.send_block(lane, &head, Arc::new(block), len)
    }

    /// Calls for nobody who waits here.
    pub(super) fn tell(&self, node: NodeNumber, head: LaneHead, body: &[u8]) -> Result<(), MeshError> {
        self.send(Lane::new(node, CALL), head, body)
    }

    /// Calls with a body that came from a process of this node: from the block in which it lies.
    pub(super) fn call_with(
        &self,
        node: NodeNumber,
        mut head: LaneHead,
        own: &[u8],
        body: Body,
    ) -> Result<(), MeshError> {
        match body {
            Body::Block { block, begin, end } if end - begin > self.carrier.short() => {
                head.skip = begin as u32;
                let head = [bytemuck::bytes_of(&head), own].concat();
                self.carrier.send_block(Lane::new(node, CALL), &head, Arc::new(block), end)
            }
            body => {
                let head = [bytemuck::bytes_of(&head), own].concat();
                let lane = Lane::new(node, CALL);
                if body.len() <= self.carrier.short() {
                    return self.carrier.send(lane, &head, &body);
                }
                let block = self.memory.store(&body)?;
                self.carrier.send_block(lane, &head, Arc::new(block), body.len())
            }
        }
    }

    /// Calls with a body in two parts.
    pub(super) fn call_in_parts(
        &self,
        node: NodeNumber,
        head: LaneHead,
        [front, rest]: [&[u8]; 2],
    ) -> Result<(), MeshError> {
        let len = front.len() + rest.len();
        let head = bytemuck::bytes_of(&head);
        if len <= self.carrier.short() {
            return self.carrier.send(Lane::new(node, CALL), head, &[front, rest].concat());
        }
        let mut block = self.memory.alloc(len)?;
        block.as_mut_slice()[..front.len()].copy_from_slice(front);
        block.as_mut_slice()[front.len()..len].copy_from_slice(rest);
        self.carrier.send_block(Lane::new(node, CALL), head, Arc::new(block), len)
    }

    pub(super) fn answer(&self, node: NodeNumber, call: u64, status: u16, body: &[u8]) {
        let head = LaneHead { call, service: status, process: 0, skip: 0 };
        if let Err(error) = self.send(Lane::new(node, ANSWER), head, body) {
            self.unanswered(node, call, &error);
        }
    }

    pub(super) fn answer_with(&self, node: NodeNumber, call: u64, block: Block, begin: usize, end: usize) {
        let mut head = LaneHead { call, service: 0, process: 0, skip: 0 };
        let sent = if end - begin > self.carrier.short() {
            head.skip = begin as u32;
            self.carrier.send_block(Lane::new(node, ANSWER), bytemuck::bytes_of(&head), Arc::new(block), end)
        } else {
            self.carrier.send(Lane::new(node, ANSWER), bytemuck::bytes_of(&head), &block.as_slice()[begin..end])
        };
        if let Err(error) = sent {
            self.unanswered(node, call, &error);
        }
    }

    /// Answers with bytes that are sent from where they are.
    pub(super) fn answer_steady(&self, node: NodeNumber, call: u64, bytes: Arc<dyn Steady>) {
        let (head, len) = (LaneHead { call, service: 0, process: 0, skip: 0 }, bytes.bytes().len());
        let sent = if len > self.carrier.short() {
            self.carrier.send_block(Lane::new(node, ANSWER), bytemuck::bytes_of(&head), bytes, len)
        } else {
            self.carrier.send(Lane::new(node, ANSWER), bytemuck::bytes_of(&head), bytes.bytes())
        };
        if let Err(error) = sent {
            self.unanswered(node, call, &error);
        }
    }

    pub(super) fn drop_call(&self, node: NodeNumber, call: u64) {
        let head = LaneHead { call, service: 0, process: 0, skip: 0 };
        // A node that is lost waits for nothing.
        let _ = self.carrier.send(Lane::new(node, DROPPED), bytemuck::bytes_of(&head), &[]);
    }

    /// Waits for an outcome, carrying meanwhile.
    pub(super) fn wait(&self, mut take: impl FnMut() -> Option<Outcome>) -> Outcome {
        let mut found = None;
        self.carrier.wait(&mut || {
            found = found.take().or_else(&mut take);
            found.is_some()
        });
        // It comes back before only when the transport is closed.
        found.unwrap_or(Err(MeshError::Closed))
    }

    pub(super) fn close(&self) {
        self.carrier.close();
    }

    fn send(&self, to: Lane, head: LaneHead, body: &[u8]) -> Result<(), MeshError> {
        let head = bytemuck::bytes_of(&head);
        if body.len() <= self.carrier.short() {
            return self.carrier.send(to, head, body);
        }
        let block = self.memory.store(body)?;
        self.carrier.send_block(to, head, Arc::new(block), body.len())
    }

    fn unanswered(&self, node: NodeNumber, call: u64, error: &MeshError) {
        tracing::warn!(node, %error, "an answer does not reach its node");
        self.drop_call(node, call);
    }
}
