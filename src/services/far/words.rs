//! What calls between nodes consist of: services, operations, and why something was refused.

use bytemuck::{Pod, Zeroable};

use crate::channel::ChannelError;
use crate::id::ObjectId;
use crate::mesh::{MeshError, Service};
use crate::mm::MemError;
use crate::time::Deadline;

/// How a world ends, and who is lost: asked of the head of one's node, and by heads of the leader's.
pub(in crate::services) const WORLD: Service = 1;
/// Queues whose home is the node that is called.
pub(in crate::services) const QUEUE: Service = 2;
/// Names of the whole job: asked of the leader's node.
pub(in crate::services) const NAMES: Service = 3;
/// Locks, barriers, values and their like whose home is the node that is called.
pub(in crate::services) const SYNC: Service = 20;
/// Parts of dictionaries whose home is the node that is called.
pub(in crate::services) const DICT: Service = 22;
/// Processes that use objects of other nodes, and their end.
pub(in crate::services) const GUEST: Service = 21;

/// What a node has: cpus, memory, GPUs.
pub(in crate::services) const MACHINE: Service = 30;

/// Sessions: what a process of another node has running here.
pub(in crate::services) const SESSION: Service = 10;

/// Where nodes of MPI teams meet, and at the leader's the names that MPI programs publish.
pub(in crate::services) const MPI: Service = 40;

/// Why the other node refused: the status of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Why {
    Full = 1,
    Empty = 2,
    TimedOut = 3,
    Closed = 4,
    /// The object is not there any more.
    Gone = 5,
    /// It is of another kind.
    WrongKind = 6,
    TooLarge = 7,
    OutOfMemory = 8,
    /// The name is taken.
    Taken = 9,
    /// The call itself made no sense.
    Unclear = 10,
    Other = 11,
    /// The caller holds it and would wait for itself.
    Mine = 12,
    /// The barrier is broken.
    Broken = 13,
    /// More than can be counted, or than was agreed.
    TooMany = 14,
    /// What it was asked for makes no sense to it.
    BadArgument = 15,
}

impl Why {
    const ALL: [Why; 15] = [
        Why::Full,
        Why::Empty,
        Why::TimedOut,
        Why::Closed,
        Why::Gone,
        Why::WrongKind,
        Why::TooLarge,
        Why::OutOfMemory,
        Why::Taken,
        Why::Unclear,
        Why::Other,
        Why::Mine,
        Why::Broken,
        Why::TooMany,
        Why::BadArgument,
    ];

    /// `None`: nothing was refused.
    pub(super) fn from_status(status: u16) -> Option<Why> {
        (status != 0).then(|| Why::ALL.into_iter().find(|why| *why as u16 == status).unwrap_or(Why::Other))
    }

    pub(in crate::services) fn of(error: &ChannelError) -> Why {
        match error {
            ChannelError::Full => Why::Full,
            ChannelError::Empty => Why::Empty,
            ChannelError::TimedOut => Why::TimedOut,
            ChannelError::Closed | ChannelError::Interrupted => Why::Closed,
            ChannelError::TooLarge { .. } | ChannelError::TooLong { .. } => Why::TooLarge,
            ChannelError::Shape { .. } => Why::BadArgument,
            ChannelError::AtLimit { .. } => Why::OutOfMemory,
            ChannelError::Memory(memory) | ChannelError::Lost { source: memory, .. } => Why::of_memory(memory),
            _ => Why::Other,
        }
    }

    pub(in crate::services) fn of_memory(error: &MemError) -> Why {
        match error {
            MemError::OutOfMemory { .. } | MemError::Full { .. } | MemError::PoolFull { .. } => Why::OutOfMemory,
            MemError::LargerThanSegment { .. } => Why::TooLarge,
            MemError::ObjectGone { .. } => Why::Gone,
            MemError::WrongKind { .. } => Why::WrongKind,
            _ => Why::Other,
        }
    }
}

/// Why a call to another node did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FarError {
    /// It did not get there, or no answer came back.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The other node said no.
    #[error("{text}")]
    Refused { why: Why, text: String },
}

/// What can be done to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::services) enum QueueOp {
    Put = 1,
    Get = 2,
    Len = 3,
    Close = 4,
    Done = 5,
    Join = 6,
    /// Waits until there is something to take.
    Poll = 7,
    /// Opens it for the caller's node, which must let go of it some day.
    Hold = 8,
    LetGo = 9,
    /// Makes one, for the caller's node. What it shall be follows.
    Make = 10,
    /// Waits until there is room.
    PollRoom = 11,
}

impl QueueOp {
    pub(in crate::services) fn from_word(word: u32) -> Option<QueueOp> {
        use QueueOp::*;
        [Put, Get, Len, Close, Done, Join, Poll, Hold, LetGo, Make, PollRoom].into_iter().find(|op| *op as u32 == word)
    }
}

/// Head of a call for a queue; behind it, of a put, the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::services) struct QueueHead {
    pub(in crate::services) queue: u64,
    /// Nanoseconds to wait: 0 is not at all, all ones is for ever.
    pub(in crate::services) patience: u64,
    pub(in crate::services) op: u32,
    pub(in crate::services) spare: u32,
}

impl QueueHead {
    pub(super) fn new(queue: ObjectId, op: QueueOp, deadline: Deadline) -> QueueHead {
        QueueHead { queue: queue.to_word(), patience: patience_of(deadline), op: op as u32, spare: 0 }
    }

    pub(in crate::services) fn deadline(&self) -> Deadline {
        deadline_of(self.patience)
    }
}

/// How long to wait, in nanoseconds: 0 is not at all, all ones is for ever. Clocks of two nodes do not agree on times.
pub(crate) fn patience_of(deadline: Deadline) -> u64 {
    match deadline.left() {
        None => u64::MAX,
        Some(left) => u64::try_from(left.as_nanos()).unwrap_or(u64::MAX),
    }
}

pub(crate) fn deadline_of(patience: u64) -> Deadline {
    match patience {
        0 => Deadline::Now,
        u64::MAX => Deadline::Never,
        nanoseconds => Deadline::after(std::time::Duration::from_nanos(nanoseconds)),
    }
}

/// What a queue is, as its home tells it to one who opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::services) struct QueueFacts {
    pub(in crate::services) label: u64,
    /// 0: it has no bound.
    pub(in crate::services) capacity: u64,
}

/// Tail of a call for a session. It stands behind the message, so that a long one lands where it can be handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::services) struct SessionTail {
    /// Which of the sessions of the node that calls: the channel there, as a word, into which answers go.
    pub(in crate::services) session: u64,
    /// [`OPEN`], [`IS_WANTED`], or in the words of who has opened it.
    pub(in crate::services) op: u32,
    pub(in crate::services) spare: u32,
}

/// Begins a session: the message is a [`Opening`].
pub(in crate::services) const OPEN: u32 = 0;
/// Asks the node of a session's owner whether the session's channel is still there.
pub(in crate::services) const IS_WANTED: u32 = 1;

/// What begins a session.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::services) struct Opening {
    /// The name in full of the function that makes the guest.
    pub(in crate::services) entry: Vec<u8>,
    /// Its argument, encoded.
    pub(in crate::services) argument: Vec<u8>,
}

/// What can be asked of the leader about names.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::services) enum NameCall {
    Give {
        name: String,
        node: u32,
        object: ObjectId,
    },
    Find {
        name: String,
    },
    /// To the node that an object is of: whether it is still there.
    Lives {
        object: ObjectId,
    },
}

/// A queue as one asks another node for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct NewQueue {
    /// None: it has no bound.
    pub(crate) capacity: Option<usize>,
    /// Bytes of a message that travel in the queue itself.
    pub(crate) inline: usize,
    /// Most bytes of memory, of one without a bound.
    pub(crate) limit: u64,
    pub(crate) label: u64,
    pub(crate) joinable: bool,
    pub(crate) name: Option<String>,
}
