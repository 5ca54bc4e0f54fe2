//! Names of things: small numbers that mean the same in every process of a job.

use serde::{Deserialize, Serialize};

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
