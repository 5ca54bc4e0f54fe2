//! The hub of a node: knows whose answer is whose, and passes calls on, between its node's processes and the lanes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::answer::{Answer, Asker, Back};
use super::frame::{LaneHead, PostHead, ReplyHead, split};
use super::link::{Carrier, Link};
use super::slot::{Outcome, Slot};
use super::{Body, MeshError, Reply, Request, Server, Service};
use crate::channel::{Channel, ChannelError, Message};
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::mm::{Block, Memory};
use crate::time::Deadline;
use crate::transport::Steady;
use crate::wait::Patience;
use crate::wire;

/// Calls that processes of the node may have posted and the hub has not looked at.
const POSTS: usize = 256;
/// Calls of so many bytes with their head need no block.
const INLINE: usize = 240;

/// Calls of this node that wait for another's answer.
#[derive(Default)]
struct Calls {
    last: u64,
    waiting: HashMap<u64, (NodeNumber, Asker)>,
}

/// One node's switchboard.
pub(crate) struct Hub {
    me: NodeNumber,
    nodes: u32,
    memory: Arc<Memory>,
    post: Channel,
    calls: Mutex<Calls>,
    server: OnceLock<Arc<dyn Server>>,
    /// To other nodes, if there are any.
    link: OnceLock<Link>,
}

impl Hub {
    /// The hub of a node without others, yet.
    pub(crate) fn new(me: NodeNumber, nodes: u32, memory: Arc<Memory>) -> Result<Arc<Hub>, MeshError> {
        let post = Channel::create(&memory, POSTS, INLINE)?;
        let (calls, server, link) = (Mutex::default(), OnceLock::new(), OnceLock::new());
        Ok(Arc::new(Hub { me, nodes, memory, post, calls, server, link }))
    }

    /// Who answers the calls to this node. Until then they are dropped.
    pub(crate) fn set_server(&self, server: Arc<dyn Server>) {
        let _ = self.server.set(server); // the first stays
    }

    /// What carries bytes to other nodes.
    pub(crate) fn set_carrier(&self, carrier: Box<dyn Carrier>) {
        let _ = self.link.set(Link::new(carrier, self.memory.clone())); // the first stays
    }

    /// The channel through which other processes of the node call.
    pub(crate) fn post(&self) -> ObjectId {
        self.post.id()
    }

    pub(crate) fn me(&self) -> NodeNumber {
        self.me
    }

    /// Passes on what the processes of this node post, until the hub is closed. For a thread of its own.
    pub(crate) fn relay(self: &Arc<Self>) {
        let mut patience = Patience::new();
        loop {
            let posted =
                self.post.recv_with(&mut patience, Deadline::Never, &|| false, |_, payload| Message::from(payload));
            match posted {
                Ok(message) => self.pass_on(message),
                Err(ChannelError::Closed | ChannelError::Interrupted) => return,
                Err(error) => tracing::error!(%error, "a call that a process of this node made is lost"),
            }
        }
    }

    /// No more calls: the relay ends, and who waits for answers of other nodes is told.
    pub(crate) fn close(&self) {
        self.post.close();
        if let Some(link) = self.link.get() {
            link.close();
        }
        let waiting = std::mem::take(&mut self.lock().waiting);
        waiting.into_values().for_each(|(_, asker)| self.settle(&asker, Err(MeshError::Closed)));
    }

    pub(super) fn call(
        self: &Arc<Self>,
        node: NodeNumber,
        service: Service,
        own: &[u8],
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Reply, MeshError> {
        let slot = Arc::new(Slot::default());
        let asker = Asker::Here(slot.clone());
        if node == self.me {
            let mut body = vec![0; len];
            fill(&mut body);
            let head = own.to_vec();
            let request = Request { from: self.me, process: self.memory.me(), service, head, body: Body::Bytes(body) };
            self.serve(request, Back::Asker(asker));
            return slot.wait();
        }
        let link = self.link_to(node)?;
        let call = self.enter(node, asker);
        let head = LaneHead { call, service, process: self.memory.me().0, skip: 0 };
        if let Err(error) = link.call(node, head, own, len, fill) {
            self.forget(call);
            return Err(error);
        }
        mark!("far.call.sent");
        link.wait(|| slot.take())
    }

    pub(super) fn ask(
        self: &Arc<Self>,
        node: NodeNumber,
        service: Service,
        parts: [&[u8]; 2],
        reply: ObjectId,
        tag: u64,
    ) -> Result<(), MeshError> {
        let asker = Asker::There { reply, call: tag };
        if node == self.me {
            let (process, body) = (self.memory.me(), Body::Bytes(parts.concat()));
            let request = Request { from: self.me, process, service, head: Vec::new(), body };
            self.serve(request, Back::Asker(asker));
            return Ok(());
        }
        let link = self.link_to(node)?;
        let call = self.enter(node, asker);
        let head = LaneHead { call, service, process: self.memory.me().0, skip: 0 };
        let sent = link.call_in_parts(node, head, parts);
        // One that waits no more has its answer: the node was lost meanwhile.
        if sent.is_err() && !self.forget(call) { Ok(()) } else { sent }
    }

    pub(super) fn tell(self: &Arc<Self>, node: NodeNumber, service: Service, body: &[u8]) -> Result<(), MeshError> {
        if node == self.me {
            let (process, body) = (self.memory.me(), Body::Bytes(body.to_vec()));
            self.serve(Request { from: self.me, process, service, head: Vec::new(), body }, Back::Nobody);
            return Ok(());
        }
        let head = LaneHead { call: 0, service, process: self.memory.me().0, skip: 0 };
        self.link_to(node)?.tell(node, head, body)
    }

    /// Takes what a process of this node has posted.
    fn pass_on(self: &Arc<Self>, message: Message) {
        let Some((head, rest)) = split::<PostHead>(&message) else {
            return tracing::error!(length = message.len(), "a post to the hub is shorter than its head");
        };
        let end = size_of::<PostHead>() + rest.len();
        let Some(own) = rest.get(..head.head as usize).map(<[u8]>::to_vec) else {
            return tracing::error!(length = rest.len(), "a post to the hub is shorter than it says");
        };
        let begin = size_of::<PostHead>() + own.len();
        let asker = head.reply().map(|reply| Asker::There { reply, call: head.call });
        let body = match message.into_block() {
            Ok(block) => Body::Block { block, begin, end },
            Err(message) => Body::Bytes(message[begin..].to_vec()),
        };
        if head.node == self.me {
            let back = asker.map_or(Back::Nobody, Back::Asker);
            let process = ProcId(head.process);
            return self.serve(Request { from: self.me, process, service: head.service, head: own, body }, back);
        }
        let call = asker.clone().map_or(0, |asker| self.enter(head.node, asker));
        let lane = LaneHead { call, service: head.service, process: head.process, skip: 0 };
        let sent = self.link_to(head.node).and_then(|link| link.call_with(head.node, lane, &own, body));
        if let Err(error) = sent
            && self.forget(call)
            && let Some(asker) = asker
        {
            self.settle(&asker, Err(error));
        }
    }

    /// Lets the floor above answer a call.
    fn serve(self: &Arc<Self>, request: Request, back: Back) {
        let answer = Answer::new(self.clone(), request.service, back);
        if let Some(server) = self.server.get() {
            server.serve(request, answer);
        }
    }

    fn link_to(&self, node: NodeNumber) -> Result<&Link, MeshError> {
        self.link.get().filter(|_| node < self.nodes).ok_or(MeshError::NoNode { node })
    }

    fn enter(&self, node: NodeNumber, asker: Asker) -> u64 {
        let mut calls = self.lock();
        calls.last += 1;
        let call = calls.last;
        calls.waiting.insert(call, (node, asker));
        call
    }

    /// Whether it was still waiting.
    fn forget(&self, call: u64) -> bool {
        self.lock().waiting.remove(&call).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an outcome to who asked.
    pub(super) fn settle(&self, asker: &Asker, outcome: Outcome) {
        match asker {
            Asker::Here(slot) => slot.fill(outcome),
            Asker::There { reply, call } => {
                // A process that has ended wants no answer.
                if let Ok(channel) = Channel::open(&self.memory, *reply) {
                    reply_to(&channel, *call, outcome);
                }
            }
        }
    }

    // ---- what comes over the lanes --------------------------------------------------------------

    pub(super) fn came(self: &Arc<Self>, from: NodeNumber, kind: u16, head: LaneHead, own: Vec<u8>, body: Body) {
        let body = body.skip(head.skip as usize);
        match kind {
            super::frame::CALL => {
                let back = if head.call == 0 { Back::Nobody } else { Back::Node { node: from, call: head.call } };
                let process = ProcId(head.process);
                self.serve(Request { from, process, service: head.service, head: own, body }, back);
            }
            super::frame::ANSWER => self.answered(from, head.call, Ok(Reply { status: head.service, body })),
            super::frame::DROPPED => {
                self.answered(from, head.call, Err(MeshError::Dropped { node: from, service: head.service }));
            }
            _ => tracing::error!(from, kind, "a message of an unknown kind"),
        }
    }

    fn answered(&self, from: NodeNumber, call: u64, outcome: Outcome) {
        let found = self.lock().waiting.remove(&call);
        match found {
            Some((node, asker)) if node == from => self.settle(&asker, outcome),
            Some((_, asker)) => self.settle(&asker, Err(MeshError::Dropped { node: from, service: 0 })),
            // The node was lost and came back, or the call could not be sent whole.
            None => {}
        }
    }

    pub(super) fn lost(&self, node: NodeNumber, why: &str) {
        let mut calls = self.lock();
        let lost: Vec<u64> = calls.waiting.iter().filter(|(_, (to, _))| *to == node).map(|(call, _)| *call).collect();
        let askers: Vec<Asker> =
            lost.iter().filter_map(|call| calls.waiting.remove(call)).map(|(_, asker)| asker).collect();
        drop(calls);
        askers.iter().for_each(|asker| self.settle(asker, Err(MeshError::Lost { node, why: why.into() })));
        if let Some(server) = self.server.get() {
            server.lost(node, why);
        }
    }

    /// A long message of this node has not arrived: whoever waits for what follows from it is told.
    pub(super) fn unsent(&self, node: NodeNumber, kind: u16, head: LaneHead, why: MeshError) {
        match kind {
            super::frame::CALL => self.answered(node, head.call, Err(why)),
            _ => self.answer_dropped(node, head.call),
        }
    }

    pub(super) fn landing(&self, len: usize) -> Option<Block> {
        self.memory
            .alloc(len)
            .inspect_err(|error| tracing::warn!(%error, len, "no memory for what another node sends"))
            .ok()
    }

    // ---- answers to other nodes -----------------------------------------------------------------

    pub(super) fn answer(&self, node: NodeNumber, call: u64, status: u16, bytes: &[u8]) {
        if let Some(link) = self.link.get() {
            link.answer(node, call, status, bytes);
        }
    }

    pub(super) fn answer_block(&self, node: NodeNumber, call: u64, block: Block, begin: usize, end: usize) {
        if let Some(link) = self.link.get() {
            link.answer_with(node, call, block, begin, end);
        }
    }

    pub(super) fn answer_steady(&self, node: NodeNumber, call: u64, bytes: Arc<dyn Steady>) {
        if let Some(link) = self.link.get() {
            link.answer_steady(node, call, bytes);
        }
    }

    pub(super) fn answer_dropped(&self, node: NodeNumber, call: u64) {
        if let Some(link) = self.link.get() {
            link.drop_call(node, call);
        }
    }
}

/// Answers a process of this node.
fn reply_to(channel: &Channel, call: u64, outcome: Outcome) {
    match outcome {
        // There is room for the head in front of it, which the node that answers has had for its own.
        Ok(Reply { status, body: Body::Block { mut block, begin, end } })
            if begin == size_of::<ReplyHead>() && end > channel.inline_capacity() =>
        {
            let head = ReplyHead { call, failed: 0, status: status.into() };
            block.as_mut_slice()[..begin].copy_from_slice(bytemuck::bytes_of(&head));
            if let Err((error, _)) = channel.send_block(block, end, Deadline::Now) {
                tracing::warn!(%error, "a process of this node does not get an answer");
            }
        }
        outcome => reply_with_copy(channel, call, &outcome),
    }
}

fn reply_with_copy(channel: &Channel, call: u64, outcome: &Outcome) {
    let mut text = Vec::new();
    let (failed, status, body): (u32, u16, &[u8]) = match outcome {
        Ok(reply) => (0, reply.status, &reply.body),
        Err(error) => {
            let _ = wire::encode(error, &mut text); // text and numbers into memory
            (1, 0, &text)
        }
    };
    let head = ReplyHead { call, failed, status: status.into() };
    let fill = |space: &mut [u8]| {
        let (front, rest) = space.split_at_mut(size_of::<ReplyHead>());
        front.copy_from_slice(bytemuck::bytes_of(&head));
        rest.copy_from_slice(body);
    };
    // There is room: a thread makes one call at a time, and who asks for more sees to it.
    if let Err(error) = channel.send_with(size_of::<ReplyHead>() + body.len(), Deadline::Now, fill) {
        tracing::warn!(%error, "a process of this node does not get an answer");
        let short = MeshError::Memory(error.to_string());
        if failed == 0 && !matches!(error, ChannelError::Full) {
            reply_with_copy(channel, call, &Err(short));
        }
    }
}
