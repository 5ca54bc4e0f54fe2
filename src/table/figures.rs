//! Figures of a table for whoever may only look: read out of the words of its root, where the desks are.

use super::desk::{Desk, Tally};
use super::layout::{DESKS_AT, ROOT_WORDS, SHARD_WORDS, UPPER, UPPER_WORDS};
use super::shard::{Facts, sum};
use crate::prim::{AtomicU64, Ordering};

/// What a table is like at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Of each shard.
    pub(crate) shards: Vec<Tally>,
    /// Bytes that each shard may take.
    pub(crate) limit: u64,
    /// Calls that have taken a desk so far: those that write, and the few others that clear away.
    pub(crate) calls: u64,
    /// The words of the floor above.
    pub(crate) upper: [u64; UPPER_WORDS],
}

impl Figures {
    /// All shards together.
    pub(crate) fn total(&self) -> Tally {
        self.shards.iter().copied().fold(Tally::default(), sum)
    }
}

/// The figures of the table with this root; none if it is no table, or gone meanwhile.
pub(crate) fn figures(root: &[AtomicU64]) -> Option<Figures> {
    let facts = Facts::read(root);
    let end = facts.shards.checked_mul(SHARD_WORDS)?.checked_add(ROOT_WORDS)?;
    let (shards, _) = root.get(ROOT_WORDS..end)?.as_chunks::<SHARD_WORDS>();
    let desks = || shards.iter().map(|shard| Desk::all(&shard[DESKS_AT..]));
    let upper: &[AtomicU64; UPPER_WORDS] = root.get(UPPER..)?.first_chunk()?;
    Some(Figures {
        shards: shards.iter().map(|shard| Desk::tally(&shard[DESKS_AT..])).collect(),
        limit: facts.limit,
        calls: desks().flatten().map(|desk| desk.calls()).sum(),
        upper: std::array::from_fn(|at| upper[at].load(Ordering::Relaxed)), // figures
    })
}
