//! What all ranks agree on, and the star by which they go on agreeing until nobody needs it any more.

use std::{fmt, time::Duration};

use super::auth::{KEY, Meeting};
use super::error::{BootstrapError, Failure, FailureKind};
use super::hub::Hub;
use super::message::{Claims, ROUND_MAX, Welcome};
use super::spoke::Spoke;
use crate::time::Deadline;

/// The ranks that share memory with this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeDomain {
    /// Nodes count from 0, in the order of their lowest ranks.
    pub(crate) index: u32,
    /// All ranks of the node, this one included, in order. The first is its head.
    pub(crate) ranks: Vec<u32>,
}

/// This rank's end of the star.
pub(super) enum Star {
    Alone,
    Hub(Hub),
    Spoke(Spoke),
}

/// The world as it is when all ranks have met.
pub(crate) struct World {
    /// This process's rank.
    pub(crate) rank: u32,
    /// How many ranks there are.
    pub(crate) size: u32,
    /// Unpredictable name of the job, the same on all ranks.
    pub(crate) job: [u8; 16],
    /// The same on all ranks, and known to nobody else.
    pub(crate) secret: [u8; KEY],
    /// What each rank had to tell.
    pub(crate) cards: Vec<Vec<u8>>,
    /// Whom this rank shares memory with: itself alone, until [`share`](super::share) finds others.
    pub(crate) node: NodeDomain,
    /// The node of each rank.
    pub(crate) nodes: Vec<u32>,
    pub(super) claims: Vec<Claims>,
    star: Star,
    patience: Duration,
    /// How often all have heard of all, the first meeting included.
    pub(super) rounds: u32,
}

impl World {
    pub(super) fn new(rank: u32, star: Star, meeting: &Meeting, welcome: Welcome, patience: Duration) -> World {
        let claims = welcome.claims();
        let Welcome { job, cards, .. } = welcome;
        let size = cards.len() as u32;
        let node = NodeDomain { index: rank, ranks: vec![rank] };
        let (secret, nodes) = (meeting.world_secret(&job), (0..size).collect());
        World { rank, size, job, secret, cards, node, nodes, claims, star, patience, rounds: 1 }
    }

    /// Everybody's bytes, by rank. To be called by all ranks. Waits for all, no longer than the patience of the start.
    pub(crate) fn allgather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, BootstrapError> {
        if bytes.len() > ROUND_MAX {
            let text = format!("rank {} has {} bytes to say in one round, at most {ROUND_MAX}", self.rank, bytes.len());
            self.fail(&text);
            return Err(Failure::error(FailureKind::Rank, text));
        }
        let deadline = self.deadline();
        self.rounds += 1;
        match &mut self.star {
            Star::Alone => Ok(vec![bytes.to_vec()]),
            Star::Hub(hub) => hub.round(bytes, deadline),
            Star::Spoke(spoke) => spoke.round(bytes, deadline),
        }
    }

    /// Returns when all ranks have called it.
    pub(crate) fn barrier(&mut self) -> Result<(), BootstrapError> {
        self.allgather(&[]).map(drop)
    }

    /// Tells all ranks that this one cannot go on, and why: their next call, or the one they wait in, fails with this text.
    pub(crate) fn fail(&mut self, why: &str) {
        let failure = Failure { kind: FailureKind::Rank, text: format!("rank {}: {why}", self.rank) };
        match &mut self.star {
            Star::Alone => {}
            Star::Hub(hub) => hub.fail(&failure),
            Star::Spoke(spoke) => spoke.fail(&failure),
        }
    }

    /// Takes the star down when all ranks have called it. A rank that drops its world instead is missed by the others.
    pub(crate) fn finish(mut self) -> Result<(), BootstrapError> {
        let deadline = self.deadline();
        self.rounds += 1;
        match &mut self.star {
            Star::Alone => {}
            Star::Hub(hub) => hub.finish(deadline)?,
            Star::Spoke(spoke) => spoke.finish(deadline)?,
        }
        tracing::debug!(rank = self.rank, size = self.size, rounds = self.rounds, "the ranks have met");
        Ok(())
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.patience)
    }
}

impl fmt::Debug for World {
    /// All but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("World");
        shown.field("rank", &self.rank).field("size", &self.size).field("job", &self.job);
        shown.field("node", &self.node).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}
