//! Names of things: small numbers that mean the same in every process of a job.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use crate::prim::{AtomicU32, Ordering};

/// A process's place in its node's process table. Zero is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(transparent)]
pub(crate) struct ProcId(pub(crate) u16);

impl ProcId {
    /// Nobody: the owner of what is free.
    pub(crate) const NONE: ProcId = ProcId(0);
    /// The process that created the node's memory.
    pub(crate) const ROOT: ProcId = ProcId(1);

    /// Its index in a table that starts with nobody.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A node of the job, from 0, without gaps.
pub(crate) type NodeNumber = u32;

/// Which node of the job: a group of processes that share memory. Counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub(crate) NodeNumber);

impl NodeId {
    pub(crate) fn new(number: NodeNumber) -> NodeId {
        NodeId(number)
    }

    /// Its number among the nodes of the job.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// A shared object of a node: its place in the object table, and which of the objects that were ever
/// there. Stale ids are told from live ones by the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ObjectId {
    /// Place in the object table.
    pub(crate) index: u32,
    /// Counts the objects that were ever at this place.
    pub(crate) generation: u32,
}

impl ObjectId {
    /// As one word that is never zero.
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index + 1)
    }

    /// From such a word.
    pub(crate) fn from_word(word: u64) -> Option<ObjectId> {
        let index = (word as u32).checked_sub(1)?;
        Some(ObjectId { index, generation: (word >> 32) as u32 })
    }
}

/// Unpredictable name of a job on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct JobId(pub(crate) u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A thread of a job on its node. Threads are numbered within their process, from 1 and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadId {
    pub(crate) process: ProcId,
    pub(crate) thread: u32,
}

const THREAD_AT: u32 = 16;

impl ThreadId {
    /// The bits of a word that say who: `thread:32 | process:16` at the bottom.
    pub(crate) const BITS: u64 = (u32::MAX as u64) << THREAD_AT | u16::MAX as u64;

    /// The calling thread, as one of this process.
    #[inline]
    pub(crate) fn here(process: ProcId) -> ThreadId {
        ThreadId { process, thread: thread() }
    }

    /// As the lower bits of a word; never all zero.
    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.thread) << THREAD_AT | u64::from(self.process.0)
    }

    /// From such a word, whatever its upper bits.
    #[inline]
    pub(crate) fn from_word(word: u64) -> ThreadId {
        ThreadId { process: ProcId(word as u16), thread: (word >> THREAD_AT) as u32 }
    }
}

#[cfg(not(feature = "shuttle"))]
static THREADS: AtomicU32 = AtomicU32::new(0);

#[cfg(feature = "shuttle")]
shuttle::lazy_static! {
    static ref THREADS: AtomicU32 = AtomicU32::new(0);
}

thread_local! {
    static THREAD: Cell<u32> = const { Cell::new(0) };
}

#[inline]
fn thread() -> u32 {
    let known = THREAD.get();
    if known != 0 { known } else { number() }
}

#[cold]
fn number() -> u32 {
    // Relaxed: only that no number is given twice matters.
    let number = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
    THREAD.set(number);
    number
}
