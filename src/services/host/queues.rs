//! Queues of this node for processes of other nodes.
//!
//! A queue that another node has open is open here too, in that node's name, until it lets go of it or is lost.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::far::words::{NewQueue, QueueFacts, QueueHead, QueueOp, Why};
use super::super::far::{FarError, Names};
use super::super::threads::Threads;
use super::{Inner, lock, unclear};
use crate::channel::{Chain, Channel, ChannelError, Letter, Payload};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::{Answer, Body, Request};
use crate::mm::{Block, MemError, Memory};
use crate::names;
use crate::names::NameError;
use crate::time::Deadline;
use crate::wait::{Patience, wait_until};
use crate::wire;

const HEAD: usize = size_of::<QueueHead>();

/// How long a call of a node that is lost may still wait.
const SLICE: Duration = Duration::from_millis(200);

/// With a bound, or without.
#[derive(Clone)]
enum Queue {
    Bounded(Channel),
    Unbounded(Chain),
}

/// Calls the same method of either.
macro_rules! either {
    ($queue:expr, $one:ident => $call:expr) => {
        match $queue {
            Queue::Bounded($one) => $call,
            Queue::Unbounded($one) => $call,
        }
    };
}

impl Queue {
    fn open(memory: &Arc<Memory>, id: ObjectId) -> Result<Queue, ChannelError> {
        match Channel::open(memory, id) {
            Ok(channel) => Ok(Queue::Bounded(channel)),
            Err(ChannelError::Memory(MemError::WrongKind { .. })) => Chain::open(memory, id).map(Queue::Unbounded),
            Err(error) => Err(error),
        }
    }

    fn facts(&self) -> QueueFacts {
        let capacity = match self {
            Queue::Bounded(channel) => channel.capacity() as u64,
            Queue::Unbounded(_) => 0,
        };
        QueueFacts { label: either!(self, one => one.label()), capacity }
    }

    /// `Err` gives the message back.
    fn put(&self, message: Message, deadline: Deadline) -> Result<(), (ChannelError, Message)> {
        match (self, message) {
            (Queue::Bounded(channel), Message::Block(block, len)) => {
                let sent = channel.send_block(block, len, deadline);
                sent.map(drop).map_err(|(error, block)| (error, Message::Block(block, len)))
            }
            (Queue::Bounded(channel), message) => {
                let sent = channel.send(message.bytes(), deadline);
                sent.map(drop).map_err(|error| (error, message))
            }
            (Queue::Unbounded(chain), message) => {
                let fill = |space: &mut [u8]| space.copy_from_slice(message.bytes());
                let sent = chain.post(&mut Letter::new(message.bytes().len(), &[], fill));
                sent.map_err(|error| (error, message))
            }
        }
    }

    /// Answers with the next message. `Err` gives the answer back.
    fn get(&self, answer: Answer, deadline: Deadline) -> Result<(), (ChannelError, Option<Answer>)> {
        let mut answer = Some(answer);
        let take = |payload: Payload<'_>| {
            let Some(answer) = answer.take() else { return };
            match payload {
                Payload::Inline(bytes) => answer.send(0, bytes),
                Payload::Block(block) => {
                    let len = block.len();
                    answer.send_block(block, len);
                }
            }
        };
        let taken = either!(self, one => one.receive(deadline, take));
        taken.map_err(|error| (error, answer))
    }
}

/// A message of another node, where it landed.
enum Message {
    Bytes(Body),
    Block(Block, usize),
}

impl Message {
    fn bytes(&self) -> &[u8] {
        match self {
            Message::Bytes(body) => body,
            Message::Block(block, len) => &block.as_slice()[..*len],
        }
    }
}

impl From<Body> for Message {
    fn from(body: Body) -> Message {
        match body {
            Body::Block { block, begin: 0, end } => Message::Block(block, end),
            body => Message::Bytes(body),
        }
    }
}

/// What other nodes have open here.
pub(super) struct Queues {
    shared: Arc<Shared>,
}

struct Shared {
    memory: Arc<Memory>,
    held: Mutex<HashMap<(NodeNumber, ObjectId), (Queue, usize)>>,
    lost: Mutex<HashSet<NodeNumber>>,
}

impl Queues {
    pub(super) fn new(memory: Arc<Memory>) -> Queues {
        Queues { shared: Arc::new(Shared { memory, held: Mutex::default(), lost: Mutex::default() }) }
    }

    /// Lets go of all that a node had open.
    pub(super) fn lost(&self, node: NodeNumber) {
        lock(&self.shared.lost).insert(node);
        let mut held = lock(&self.shared.held);
        let gone: Vec<_> = held.keys().filter(|(holder, _)| *holder == node).copied().collect();
        let gone: Vec<_> = gone.iter().filter_map(|key| held.remove(key)).collect();
        drop(held);
        drop(gone);
    }

    pub(super) fn serve(&self, host: &Arc<Inner>, request: Request, answer: Answer) {
        let threads = &host.threads;
        // A message has its head apart, so that it can stay where it landed.
        let apart = !request.head.is_empty();
        let head = if apart { Some((&request.head[..], &[][..])) } else { request.body.split_at_checked(HEAD) };
        let read =
            head.and_then(|(head, rest)| Some((bytemuck::try_pod_read_unaligned::<QueueHead>(head).ok()?, rest)));
        let Some((head, rest)) = read else {
            return unclear(answer, "a call for a queue that is not as long as its head");
        };
        let (Some(op), Some(id)) = (QueueOp::from_word(head.op), ObjectId::from_word(head.queue)) else {
            return unclear(answer, "a call for a queue that makes no sense");
        };
        if op == QueueOp::Make {
            return self.make(host, request.from, rest, answer);
        }
        let queue = match self.shared.queue(request.from, id, op) {
            Ok(queue) => queue,
            Err(error) => return refuse(answer, &error),
        };
        match op {
            QueueOp::Hold => answer.send(0, bytemuck::bytes_of(&queue.facts())),
            QueueOp::LetGo => self.shared.let_go(request.from, id),
            QueueOp::Close => {
                either!(&queue, one => one.close());
                answer.send(0, &[]);
            }
            QueueOp::Len => {
                let len = either!(&queue, one => one.len()) as u64;
                let closed = either!(&queue, one => one.is_closed());
                answer.send(0, &[&len.to_le_bytes()[..], &[u8::from(closed)]].concat());
            }
            QueueOp::Done => {
                let done = either!(&queue, one => one.declare_done());
                answer.send(0, &done.map_or(0_u64, |done| 1 + u64::from(done)).to_le_bytes());
            }
            QueueOp::Put => {
                self.put(threads, request.from, queue, Message::from(request.body), head.deadline(), answer)
            }
            QueueOp::Make => {}
            QueueOp::Get | QueueOp::Poll | QueueOp::PollRoom | QueueOp::Join => {
                self.wait(threads, request.from, queue, op, head.deadline(), answer);
            }
        }
    }

    /// Makes a queue for another node, which has it open from then on.
    fn make(&self, host: &Arc<Inner>, from: NodeNumber, new: &[u8], answer: Answer) {
        let new: NewQueue = match wire::decode(new) {
            Ok(new) => new,
            Err(error) => return unclear(answer, &error.to_string()),
        };
        let (shared, host) = (self.shared.clone(), host.clone());
        // A name is the leader's to give, who must be waited for.
        let mesh = host.mesh();
        let leader = host.seat.leader;
        host.threads.run(move || {
            let names = Names::new(&mesh, leader);
            match shared.make(from, &new, &names) {
                Ok(id) => answer.send(0, &id.to_word().to_le_bytes()),
                Err((why, text)) => answer.send(why as u16, text.as_bytes()),
            }
        });
    }

    fn put(
        &self,
        threads: &Threads,
        from: NodeNumber,
        queue: Queue,
        message: Message,
        deadline: Deadline,
        answer: Answer,
    ) {
        match queue.put(message, Deadline::Now) {
            Ok(()) => answer.send(0, &[]),
            Err((ChannelError::Full, message)) if deadline != Deadline::Now => {
                let shared = self.shared.clone();
                threads.run(move || {
                    let mut message = Some(message);
                    shared.in_slices(from, deadline, answer, |slice| {
                        let Some(next) = message.take() else { return Ok(()) };
                        queue.put(next, slice).map_err(|(error, back)| {
                            message = Some(back);
                            error
                        })
                    });
                });
            }
            Err((error, _)) => refuse(answer, &error),
        }
    }

    fn wait(&self, threads: &Threads, from: NodeNumber, queue: Queue, op: QueueOp, deadline: Deadline, answer: Answer) {
        let answer = match op {
            QueueOp::Get => match queue.get(answer, Deadline::Now) {
                Ok(()) => return,
                Err((ChannelError::Empty, Some(answer))) if deadline != Deadline::Now => answer,
                Err((error, Some(answer))) => return refuse(answer, &error),
                Err((error, None)) => return tracing::error!(%error, "a message that was answered with is not well"),
            },
            _ => answer,
        };
        let shared = self.shared.clone();
        threads.run(move || match op {
            QueueOp::Get => shared.get_in_slices(from, deadline, answer, &queue),
            QueueOp::Join => {
                let counted = either!(&queue, one => one.wait_done(Deadline::Now)).is_some();
                if !counted {
                    return answer.send(0, &0_u64.to_le_bytes());
                }
                let wait = |slice| either!(&queue, one => one.wait_done(slice)).unwrap_or(Ok(()));
                shared.in_slices_with(from, deadline, answer, &1_u64.to_le_bytes(), wait);
            }
            QueueOp::PollRoom => shared.in_slices(from, deadline, answer, |slice| match &queue {
                Queue::Bounded(channel) => channel.wait_writable(slice),
                Queue::Unbounded(_) => Ok(()),
            }),
            _ => shared.in_slices(from, deadline, answer, |slice| wait_ready(&queue, slice)),
        });
    }
}

fn wait_ready(queue: &Queue, deadline: Deadline) -> Result<(), ChannelError> {
    match queue {
        Queue::Bounded(channel) => channel.wait_readable(deadline),
        Queue::Unbounded(chain) => {
            let ready = || chain.is_ready().then_some(());
            let waited = wait_until(chain.readers(), &mut Patience::new(), deadline, ready);
            // Who only looks must leave the wake-up to one who takes.
            chain.readers().notify_one_if(|| chain.is_ready());
            waited.map_err(|_| ChannelError::TimedOut)
        }
    }
}

impl Shared {
    /// The queue of a call: as its node has it open, or as it is about to.
    fn queue(&self, from: NodeNumber, id: ObjectId, op: QueueOp) -> Result<Queue, ChannelError> {
        let mut held = lock(&self.held);
        if let Some((queue, times)) = held.get_mut(&(from, id)) {
            *times += usize::from(op == QueueOp::Hold);
            return Ok(queue.clone());
        }
        let queue = Queue::open(&self.memory, id)?;
        if op == QueueOp::Hold {
            held.insert((from, id), (queue.clone(), 1));
        }
        Ok(queue)
    }

    fn make(&self, from: NodeNumber, new: &NewQueue, names: &Names<'_>) -> Result<ObjectId, (Why, String)> {
        let NewQueue { capacity, inline, limit, label, joinable, .. } = *new;
        let made = match capacity {
            Some(capacity) => Channel::create_for(&self.memory, capacity, inline, label, joinable).map(Queue::Bounded),
            None => Chain::create(&self.memory, inline, limit, label, joinable).map(Queue::Unbounded),
        };
        let queue = made.map_err(|error| (Why::of(&error), error.to_string()))?;
        let id = either!(&queue, one => one.id());
        if let Some(name) = &new.name {
            names::give(&self.memory, name, id).map_err(|error| (why_not_named(&error), error.to_string()))?;
            names.give(name, id).map_err(|error| match error {
                FarError::Refused { why, text } => (why, text),
                FarError::Mesh(error) => (Why::Other, error.to_string()),
            })?;
        }
        let mut held = lock(&self.held);
        if !lock(&self.lost).contains(&from) {
            held.insert((from, id), (queue, 1));
        }
        Ok(id)
    }

    fn let_go(&self, from: NodeNumber, id: ObjectId) {
        let mut held = lock(&self.held);
        let Some((_, times)) = held.get_mut(&(from, id)) else { return };
        *times -= 1;
        let last = (*times == 0).then(|| held.remove(&(from, id)));
        drop(held);
        drop(last);
    }

    fn in_slices(
        &self,
        from: NodeNumber,
        deadline: Deadline,
        answer: Answer,
        wait: impl FnMut(Deadline) -> Result<(), ChannelError>,
    ) {
        self.in_slices_with(from, deadline, answer, &[], wait);
    }

    /// Waits, as long as the node that asked is there.
    fn in_slices_with(
        &self,
        from: NodeNumber,
        deadline: Deadline,
        answer: Answer,
        well: &[u8],
        mut wait: impl FnMut(Deadline) -> Result<(), ChannelError>,
    ) {
        loop {
            match wait(slice_of(deadline)) {
                Ok(()) => return answer.send(0, well),
                Err(error) => match self.go_on(from, deadline, &error) {
                    true => continue,
                    false => return refuse(answer, &error),
                },
            }
        }
    }

    fn get_in_slices(&self, from: NodeNumber, deadline: Deadline, mut answer: Answer, queue: &Queue) {
        loop {
            match queue.get(answer, slice_of(deadline)) {
                Ok(()) => return,
                Err((error, Some(back))) if self.go_on(from, deadline, &error) => answer = back,
                Err((error, Some(back))) => return refuse(back, &error),
                Err((error, None)) => return tracing::error!(%error, "a message that was answered with is not well"),
            }
        }
    }

    /// Whether to wait on: nothing has happened, the time is not up, and somebody is there who wants to know.
    fn go_on(&self, from: NodeNumber, deadline: Deadline, error: &ChannelError) -> bool {
        let nothing = matches!(error, ChannelError::TimedOut | ChannelError::Full | ChannelError::Empty);
        nothing && !deadline.passed() && !lock(&self.lost).contains(&from)
    }
}

fn why_not_named(error: &NameError) -> Why {
    match error {
        NameError::Length { .. } => Why::BadArgument,
        NameError::Taken { .. } => Why::Taken,
        NameError::TooMany | NameError::Memory(_) => Why::OutOfMemory,
        NameError::Stopped => Why::TimedOut,
    }
}

fn slice_of(deadline: Deadline) -> Deadline {
    match deadline.left() {
        Some(left) if left < SLICE => deadline,
        _ => Deadline::after(SLICE),
    }
}

fn refuse(answer: Answer, error: &ChannelError) {
    answer.send(Why::of(error) as u16, error.to_string().as_bytes());
}
