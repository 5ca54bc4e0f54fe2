//! Where a process stands in its job.
//!
//! ```text
//! charter   word 0         how many ranks the node has
//!           then           a word for each: 1 when it has left in good order
//!           then           length in bytes, and what all processes of the node know of the job, encoded
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::mm::{Kind, Memory, Object};
use crate::prim::Ordering;
use crate::wire;

/// What all processes of a node know of their job. Written by the node's head, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charter {
    /// This node.
    pub(crate) node: NodeNumber,
    /// The node of each rank.
    pub(crate) nodes: Vec<NodeNumber>,
    /// The ranks of this node in order, with their places in its process table. The first is the head.
    pub(crate) ranks: Vec<(u32, ProcId)>,
    /// Where the node's hub takes calls.
    pub(crate) post: ObjectId,
}

/// Where this process stands.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) rank: u32,
    pub(crate) local_rank: u32,
    /// In a job of more than one rank.
    pub(crate) charter: Option<Arc<Chartered>>,
}

/// A charter and its words in shared memory.
pub(crate) struct Chartered {
    pub(crate) charter: Charter,
    object: Object,
}

impl Place {
    /// The only rank of its job.
    pub(super) const SINGLE: Place = Place { rank: 0, local_rank: 0, charter: None };

    pub(super) fn of_rank(rank: u32, chartered: Chartered) -> Place {
        let ranks = &chartered.charter.ranks;
        let local_rank = ranks.iter().position(|(other, _)| *other == rank).unwrap_or(0) as u32;
        Place { rank, local_rank, charter: Some(Arc::new(chartered)) }
    }

    /// That of a process which a rank of this node, or a process that it started, has started.
    pub(super) fn of_child(memory: &Arc<Memory>) -> Place {
        let Some(chartered) = Chartered::find(memory) else { return Place::SINGLE };
        let processes = memory.processes();
        let parent = |of: ProcId| processes.iter().find(|entry| entry.id == of).map(|entry| entry.parent);
        let mut at = memory.me();
        // A chain of parents is as long as there are processes; a garbled one ends here.
        for _ in 0..processes.len() {
            if let Some((rank, _)) = chartered.charter.ranks.iter().find(|(_, process)| *process == at) {
                return Place::of_rank(*rank, chartered);
            }
            at = parent(at).unwrap_or(ProcId::NONE);
        }
        // Its rank is lost: the node's head has it now.
        let head = chartered.charter.ranks.first().map_or(0, |(rank, _)| *rank);
        Place::of_rank(head, chartered)
    }

    pub(crate) fn size(&self) -> usize {
        self.charter.as_ref().map_or(1, |chartered| chartered.charter.nodes.len())
    }

    pub(crate) fn node(&self) -> NodeNumber {
        self.charter.as_ref().map_or(0, |chartered| chartered.charter.node)
    }

    /// How many nodes the job has.
    pub(crate) fn nodes(&self) -> u32 {
        let last = self.charter.as_ref().and_then(|chartered| chartered.charter.nodes.iter().max().copied());
        last.map_or(1, |last| last + 1)
    }
}

impl Chartered {
    /// Writes the charter of this node.
    pub(super) fn write(memory: &Arc<Memory>, charter: Charter) -> Result<Chartered> {
        let mut bytes = Vec::new();
        wire::encode(&charter, &mut bytes)?;
        let mut words = vec![charter.ranks.len() as u64];
        words.resize(1 + charter.ranks.len(), 0);
        words.push(bytes.len() as u64);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let block = memory.store(&[bytemuck::cast_slice(&words), &bytes].concat())?;
        Ok(Chartered { charter, object: memory.create_object(Kind::Charter, block)? })
    }

    /// The charter of this node, if the job has more than one rank.
    pub(super) fn find(memory: &Arc<Memory>) -> Option<Chartered> {
        let (id, _) = memory.objects(Kind::Charter).into_iter().next()?;
        let object = memory.open_object(id, Kind::Charter).ok()?;
        // Relaxed: written once, before anybody could find it.
        let words = object.words().iter().map(|word| word.load(Ordering::Relaxed));
        let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        let (ranks, rest) = bytes.split_first_chunk()?;
        let (len, rest) = rest.get(u64::from_ne_bytes(*ranks) as usize * size_of::<u64>()..)?.split_first_chunk()?;
        let charter = wire::decode(rest.get(..u64::from_ne_bytes(*len) as usize)?).ok()?;
        Some(Chartered { charter, object })
    }

    fn at(&self, rank: u32) -> Option<usize> {
        self.charter.ranks.iter().position(|(other, _)| *other == rank).map(|at| 1 + at)
    }

    /// A rank of this node leaves in good order.
    pub(super) fn leave(&self, rank: u32) {
        if let Some(at) = self.at(rank) {
            // Release: pairs with `has_left`; nothing is published with it but itself.
            self.object.words()[at].store(1, Ordering::Release);
        }
    }

    /// Whether a rank of this node has left in good order.
    pub(super) fn has_left(&self, rank: u32) -> bool {
        self.at(rank).is_none_or(|at| self.object.words()[at].load(Ordering::Acquire) != 0) // pairs with `leave`
    }
}
