//! The face of the mesh in a process that is not the hub's: posts to the hub, and a channel of one's own for answers.

use std::cell::RefCell;
use std::sync::Arc;

use super::frame::{PostHead, ReplyHead, split};
use super::{Body, MeshError, Reply, Service};
use crate::channel::{Channel, ChannelError, Message};
use crate::id::{JobId, NodeNumber, ObjectId};
use crate::mm::Memory;
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::Patience;
use crate::wire;

/// Answers of so many bytes need no block.
const INLINE: usize = 112;

/// This process's seat at its node's hub.
pub(crate) struct Member {
    me: NodeNumber,
    memory: Arc<Memory>,
    post: Channel,
    calls: AtomicU64,
}

thread_local! {
    /// Where this thread gets its answers, of the world it called in last.
    static REPLY: RefCell<Option<(JobId, Channel)>> = const { RefCell::new(None) };
}

impl Member {
    /// Takes a seat at the hub that has this channel for posts.
    pub(crate) fn new(me: NodeNumber, memory: Arc<Memory>, post: ObjectId) -> Result<Member, MeshError> {
        let post = Channel::open(&memory, post)?;
        Ok(Member { me, memory, post, calls: AtomicU64::new(1) })
    }

    pub(crate) fn me(&self) -> NodeNumber {
        self.me
    }

    /// The hub is gone: whoever waits for it, in any process of this node, learns it when the death is repaired.
    pub(crate) fn hub_is_gone(&self) {
        self.post.close();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.post.is_closed()
    }

    pub(super) fn tell(&self, node: NodeNumber, service: Service, body: &[u8]) -> Result<(), MeshError> {
        let head = PostHead { reply: 0, call: 0, node, service, process: self.memory.me().0, head: 0 };
        self.post(head, &[], body.len(), |space| space.copy_from_slice(body))
    }

    pub(super) fn ask(
        &self,
        node: NodeNumber,
        service: Service,
        parts: [&[u8]; 2],
        reply: ObjectId,
        tag: u64,
    ) -> Result<(), MeshError> {
        let head = PostHead { reply: reply.to_word(), call: tag, node, service, process: self.memory.me().0, head: 0 };
        let [one, other] = parts;
        self.post(head, &[], one.len() + other.len(), |space| {
            let (front, rest) = space.split_at_mut(one.len());
            front.copy_from_slice(one);
            rest.copy_from_slice(other);
        })
    }

    pub(super) fn call(
        &self,
        node: NodeNumber,
        service: Service,
        own: &[u8],
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Reply, MeshError> {
        let reply = self.reply_channel()?;
        let call = self.calls.fetch_add(1, Ordering::Relaxed); // only has to differ
        let process = self.memory.me().0;
        let head = PostHead { reply: reply.id().to_word(), call, node, service, process, head: own.len() as u64 };
        self.post(head, own, len, fill)?;
        mark!("far.call.posted");
        let mut patience = Patience::new();
        loop {
            // A hub that dies is repaired, which wakes all; and whoever repairs it has closed its channel before.
            let stop = || self.post.is_closed();
            let mut receive = |deadline, stop: &dyn Fn() -> bool| {
                reply.recv_with(&mut patience, deadline, stop, |_, payload| Message::from(payload))
            };
            let answer = match receive(Deadline::Never, &stop) {
                // The last that a hub does may be to answer.
                Err(ChannelError::Interrupted) => receive(Deadline::Now, &|| false).map_err(|_| MeshError::NoHub)?,
                received => received?,
            };
            let Some((head, rest)) = split::<ReplyHead>(&answer) else { continue };
            // Else it is for an earlier call, whose thread gave up with its hub.
            if head.call == call {
                let len = rest.len();
                return opened(head, answer, len);
            }
        }
    }

    fn post(&self, head: PostHead, own: &[u8], len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), MeshError> {
        let all = |space: &mut [u8]| {
            let (front, rest) = space.split_at_mut(size_of::<PostHead>());
            let (middle, rest) = rest.split_at_mut(own.len());
            front.copy_from_slice(bytemuck::bytes_of(&head));
            middle.copy_from_slice(own);
            fill(rest);
        };
        self.post.send_with(size_of::<PostHead>() + own.len() + len, Deadline::Never, all)?;
        Ok(())
    }

    /// This thread's channel for answers. One thread makes one call at a time, so few places are enough.
    fn reply_channel(&self) -> Result<Channel, MeshError> {
        REPLY.with_borrow_mut(|reply| match reply {
            Some((job, channel)) if *job == self.memory.job() => Ok(channel.clone()),
            _ => {
                let channel = Channel::create(&self.memory, 4, INLINE)?;
                *reply = Some((self.memory.job(), channel.clone()));
                Ok(channel)
            }
        })
    }
}

/// An answer as it came into a channel, with the number or tag of the call. `None`: it is shorter than its head.
pub(crate) fn read_reply(answer: Message) -> Option<(u64, Result<Reply, MeshError>)> {
    let (head, rest) = split::<ReplyHead>(&answer)?;
    let len = rest.len();
    Some((head.call, opened(head, answer, len)))
}

/// What stands behind the head of an answer.
fn opened(head: ReplyHead, answer: Message, len: usize) -> Result<Reply, MeshError> {
    if head.failed != 0 {
        let bytes = &answer[size_of::<ReplyHead>()..];
        return Err(wire::decode::<MeshError>(bytes).unwrap_or(MeshError::NoHub));
    }
    let body = match answer.into_block() {
        Ok(block) => Body::Block { block, begin: size_of::<ReplyHead>(), end: size_of::<ReplyHead>() + len },
        Err(answer) => Body::Bytes(answer[size_of::<ReplyHead>()..].to_vec()),
    };
    Ok(Reply { status: head.status as u16, body })
}
