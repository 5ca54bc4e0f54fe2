//! The ranks of one MPI program, and which node each is on.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::limits::MAPPING_MOST;

/// Who belongs together. Equal on all nodes that take part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Team {
    /// Unlike that of any other team of the job. Letters, digits, `-` and `_` only: it is part of names of files.
    pub(crate) name: String,
    /// The place of each rank's node among the nodes of the team, in the order in which they first come.
    places: Vec<u32>,
}

impl Team {
    /// A team whose rank `r` is on the node of number `nodes[r]`.
    pub(crate) fn new(name: String, nodes: &[u32]) -> Team {
        let mut met: Vec<u32> = Vec::new();
        let place = |node: &u32| match met.iter().position(|other| other == node) {
            Some(at) => at as u32,
            None => {
                met.push(*node);
                met.len() as u32 - 1
            }
        };
        let places = nodes.iter().map(place).collect();
        Team { name, places }
    }

    /// How many ranks there are.
    pub(crate) fn size(&self) -> usize {
        self.places.len()
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> u32 {
        self.places.iter().max().map_or(0, |last| last + 1)
    }

    /// The place of a rank's node.
    pub(crate) fn place(&self, rank: u32) -> Option<u32> {
        self.places.get(rank as usize).copied()
    }

    /// The ranks on the node at that place.
    pub(crate) fn ranks_at(&self, place: u32) -> Vec<u32> {
        (0..).zip(&self.places).filter(|(_, at)| **at == place).map(|(rank, _)| rank).collect()
    }

    /// Which ranks share a node, in the words of PMI: `(vector,(first node, nodes, ranks on each),..)`, to be repeated
    /// until there are enough ranks. `None` if that would be too long.
    pub(crate) fn mapping(&self) -> Option<String> {
        let runs = runs(&self.places);
        let mut text = "(vector".to_string();
        for (node, nodes, ranks) in blocks(&runs[..period(&runs)]) {
            // Writing into a string cannot fail.
            let _ = write!(text, ",({node},{nodes},{ranks})");
        }
        text.push(')');
        (text.len() <= MAPPING_MOST).then_some(text)
    }
}

/// Neighbours on one node: its place, and how many.
fn runs(places: &[u32]) -> Vec<(u32, u32)> {
    places.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}

/// How many runs come before all repeats. The last repeat may be cut short.
fn period(runs: &[(u32, u32)]) -> usize {
    let last = runs.len() - 1;
    let fits = |at: usize, of: usize| {
        let ((node, ranks), (other, most)) = (runs[at], runs[at % of]);
        node == other && (ranks == most || at == last && ranks < most)
    };
    (1..runs.len()).find(|of| (*of..runs.len()).all(|at| fits(at, *of))).unwrap_or(runs.len())
}

/// Runs of equal length on nodes that follow each other, as one.
fn blocks(runs: &[(u32, u32)]) -> Vec<(u32, u32, u32)> {
    let mut blocks: Vec<(u32, u32, u32)> = Vec::new();
    for &(node, ranks) in runs {
        match blocks.last_mut() {
            Some((first, nodes, each)) if *first + *nodes == node && *each == ranks => *nodes += 1,
            _ => blocks.push((node, 1, ranks)),
        }
    }
    blocks
}
