//! One team at the shell: its share of PMI, and what its PMIx server asks of other nodes.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam::channel::Sender;

use super::exchange::Exchange;
use super::{Billet, Plan};
use crate::pmi::{Ending, News, RANKS_DESCRIPTOR, Share, Speaks, Team, of_rank};
use crate::sys::pmix_words::Opening;
use crate::wire;

/// What the shell keeps of a team.
pub(super) struct Desk {
    pub(super) team: Team,
    pub(super) place: u32,
    pub(super) hosts: Vec<String>,
    pub(super) speaks: Speaks,
    pub(super) share: Share,
    pub(super) exchange: Arc<dyn Exchange>,
    /// The number of each rank's line.
    pub(super) lines: HashMap<u32, u64>,
    ends: Sender<(u64, Ending)>,
    key: u64,
    over: bool,
    /// How often the same ranks had a fence.
    fences: HashMap<Vec<u32>, u64>,
}

/// A fence of some nodes.
pub(super) struct Fence {
    pub(super) name: String,
    pub(super) places: Vec<u32>,
}

impl Desk {
    pub(super) fn new(plan: Plan) -> Desk {
        let Plan { team, place, hosts, speaks, exchange, ends, key } = plan;
        let share = Share::new(team.clone(), place);
        let (lines, fences) = (HashMap::new(), HashMap::new());
        Desk { team, place, hosts, speaks, share, exchange, lines, ends, key, over: false, fences }
    }

    /// What its ranks here are started with, but for their descriptors.
    pub(super) fn billets(&self) -> Vec<Billet> {
        let billet = |rank| Billet { rank, environment: of_rank(&self.team, rank, self.speaks), descriptor: None };
        self.team.ranks_at(self.place).into_iter().map(billet).collect()
    }

    /// What a server of PMIx wants to know.
    pub(super) fn opening(&self) -> Opening {
        let places = (0..self.team.size() as u32).filter_map(|rank| self.team.place(rank)).collect();
        Opening { name: self.team.name.clone(), hosts: self.hosts.clone(), places, place: self.place }
    }

    /// Says that it must end, once.
    pub(super) fn end(&mut self, ending: Ending) {
        if !std::mem::replace(&mut self.over, true) {
            tracing::debug!(team = self.team.name, ?ending, "a team of MPI ranks ends");
            // Who does not listen any more has ended it.
            let _ = self.ends.send((self.key, ending));
        }
    }

    /// The fence that these ranks have come to; all ranks, if none are named. Each node counts alike.
    pub(super) fn next_fence(&mut self, ranks: Vec<u32>) -> Fence {
        let mut places: Vec<u32> = match ranks.is_empty() {
            true => (0..self.team.nodes()).collect(),
            false => ranks.iter().filter_map(|rank| self.team.place(*rank)).collect(),
        };
        places.sort_unstable();
        places.dedup();
        let which = ranks.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let round = self.fences.entry(ranks).or_default();
        *round += 1;
        Fence { name: format!("fence {round} of [{which}]"), places }
    }
}

/// News of a node, as bytes.
pub(super) fn pack(news: News) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Text into memory: nothing in it can fail.
    let _ = wire::encode(&news, &mut bytes);
    bytes
}

/// The news of all nodes.
pub(super) fn unpack(all: &[Vec<u8>]) -> Result<News, String> {
    let each = all.iter().map(|bytes| wire::decode::<News>(bytes).map_err(|error| error.to_string()));
    Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Adds variables to a billet; those that are there already are replaced.
pub(super) fn add(billet: &mut Billet, more: Vec<(String, String)>) {
    billet.environment.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    billet.environment.extend(more.into_iter().filter(|(name, _)| !name.is_empty()));
}

/// How many variables name the descriptor: those of PMI. A rank without PMI has none.
pub(super) fn has_descriptor(billet: &Billet) -> bool {
    let number = RANKS_DESCRIPTOR.to_string();
    billet.environment.iter().any(|(name, value)| name == "PMI_FD" && *value == number)
}
