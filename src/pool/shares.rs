//! Where the workers of a pool go: how many on each node, and on which seats.

use std::collections::HashSet;
use std::thread;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeId, NodeNumber};
use crate::policy::{Distribution, Placement, Policy, Seat};
use crate::runtime::{Core, Place};

/// On which nodes workers are wanted.
#[derive(Debug)]
pub(super) enum Nodes {
    All,
    Own,
    Named(Vec<NodeNumber>),
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) processes: Option<usize>,
    pub(super) nodes: Nodes,
    /// Other ranks are the workers.
    pub(super) on_ranks: bool,
    pub(super) policy: Policy,
    /// So many workers for each of these.
    pub(super) policies: Option<(Vec<Policy>, usize)>,
}

/// The workers of one node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) node: NodeNumber,
    /// How many; 0 on another node: as many as there are processors.
    pub(super) workers: usize,
    /// One for each, or none at all: nothing is said about cpus and GPUs.
    pub(super) seats: Vec<Seat>,
    /// These ranks of the node, if they are the workers.
    pub(super) ranks: Option<Vec<u32>>,
}

impl Share {
    fn new(node: NodeNumber, workers: usize) -> Share {
        Share { node, workers, seats: Vec::new(), ranks: None }
    }
}

impl Wish {
    /// Whether a node that is lost must not be left out.
    pub(super) fn is_named(&self) -> bool {
        let by_policy = self.policies.is_some() || !says_nothing(&self.policy());
        !matches!(self.nodes, Nodes::All) || (by_policy && !self.on_ranks)
    }

    fn policy(&self) -> Policy {
        self.policy.clone().over(&Policy::current())
    }

    /// The shares of all nodes: first this one's, though it may have no workers.
    pub(super) fn shares(&self, core: &Core) -> Result<Vec<Share>> {
        let refused = |text: &str| Err(Error::new(ErrorKind::InvalidArgument, text));
        let (here, all) = (core.place().node(), core.place().nodes());
        if self.on_ranks {
            if self.policies.is_some() || !says_nothing(&self.policy) {
                return refused("ranks are where they are, on their own cpus: a policy does not go with `on_ranks`");
            }
            return ranks(self.processes, &order(&self.nodes, here, all)?, core.place());
        }
        let policy = self.policy();
        let (is_listed, is_placed) = (!matches!(self.nodes, Nodes::All), self.policy.placement.is_some());
        let wanted = match &self.policies {
            Some(_) if self.processes.is_some() => {
                return refused("a list of policies says itself how many workers there are: leave `processes` out");
            }
            Some(_) if is_listed => {
                return refused("a list of policies says itself where workers go: leave `nodes` and `local` out");
            }
            Some((policies, per_policy)) if policies.is_empty() || *per_policy == 0 => {
                return refused("a pool needs at least one process: a list of no policies, or 0 for each, gives none");
            }
            Some((policies, per_policy)) => {
                policies.iter().map(|one| (one.clone().over(&policy), *per_policy)).collect()
            }
            None if is_listed && is_placed => {
                return refused(
                    "`nodes` or `local` and a policy with a placement contradict each other: use one of them",
                );
            }
            None if says_nothing(&policy) || (is_listed && policy.cpus.is_none() && policy.gpus.is_none()) => {
                return even(self.processes, &self.nodes, here, all);
            }
            None => self.wanted(core, policy)?,
        };
        Ok(by_node(core.seats(&wanted)?, here))
    }

    /// How many workers of a policy that says something, where its own placement does not say all.
    fn wanted(&self, core: &Core, policy: Policy) -> Result<Vec<(Policy, usize)>> {
        let at = |node: NodeNumber, workers: usize| {
            let placement = Some(Placement::Node(NodeId::new(node)));
            (Policy { placement, ..policy.clone() }, workers)
        };
        let (here, all) = (core.place().node(), core.place().nodes());
        Ok(match (&self.nodes, self.processes) {
            (Nodes::All, Some(processes)) => vec![(policy, processes)],
            (Nodes::All, None) => {
                core.room(&policy)?.into_iter().map(|(node, workers)| at(node.number(), workers)).collect()
            }
            (nodes, Some(_)) => {
                let shares = even(self.processes, nodes, here, all)?;
                shares.into_iter().map(|share| at(share.node, share.workers)).collect()
            }
            (nodes, None) => {
                let shares = even(Some(usize::MAX), nodes, here, all)?;
                let named = shares.into_iter().filter(|share| share.workers > 0).map(|share| at(share.node, 0).0);
                let mut wanted = Vec::new();
                for policy in named {
                    wanted.extend(core.room(&policy)?.into_iter().map(|(_, workers)| (policy.clone(), workers)));
                }
                wanted
            }
        })
    }
}

/// Whether a policy leaves everything as it is without one.
fn says_nothing(policy: &Policy) -> bool {
    matches!(policy.placement, None | Some(Placement::Anywhere))
        && matches!(policy.distribution, None | Some(Distribution::RoundRobin))
        && policy.cpus.is_none()
        && policy.gpus.is_none()
}

fn by_node(seats: Vec<Seat>, here: NodeNumber) -> Vec<Share> {
    let mut shares = vec![Share::new(here, 0)];
    for seat in seats {
        let node = seat.node.number();
        let at = shares.iter().position(|share| share.node == node).unwrap_or_else(|| {
            shares.push(Share::new(node, 0));
            shares.len() - 1
        });
        shares[at].workers += 1;
        shares[at].seats.push(seat);
    }
    shares
}

/// The other ranks on these nodes, at most so many.
fn ranks(most: Option<usize>, nodes: &[NodeNumber], place: &Place) -> Result<Vec<Share>> {
    let of_ranks = place.charter.as_ref().map_or(&[][..], |chartered| &chartered.charter.nodes);
    let others = (0..).zip(of_ranks).filter(|(rank, node)| *rank != place.rank && nodes.contains(node));
    let others: Vec<(u32, NodeNumber)> =
        others.map(|(rank, node)| (rank, *node)).take(most.unwrap_or(usize::MAX)).collect();
    if others.len() < most.unwrap_or(1) {
        let text = format!(
            "{} workers are wanted, and there are {} other ranks on these nodes, in a job of {}: start more, or do without \
             `on_ranks`",
            most.map_or_else(|| "at least 1".to_string(), |most| most.to_string()),
            others.len(),
            place.size()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    let mut shares = vec![Share::new(place.node(), 0)];
    for (rank, node) in others {
        match shares.iter_mut().find_map(|share| share.ranks.as_mut().filter(|_| share.node == node)) {
            Some(ranks) => ranks.push(rank),
            None => shares.push(Share { ranks: Some(vec![rank]), ..Share::new(node, 0) }),
        }
    }
    for share in &mut shares {
        share.workers = share.ranks.as_ref().map_or(0, Vec::len);
    }
    Ok(shares)
}

/// The nodes that are meant, this one first unless they are named.
fn order(nodes: &Nodes, here: NodeNumber, all: u32) -> Result<Vec<NodeNumber>> {
    let mut order: Vec<NodeNumber> = match nodes {
        Nodes::All => (0..all).map(|step| (here + step) % all).collect(),
        Nodes::Own => vec![here],
        Nodes::Named(named) => named.clone(),
    };
    if order.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, "a pool needs at least one node, not 0"));
    }
    if let Some(unknown) = order.iter().find(|node| **node >= all) {
        let text = format!("there is no node {unknown} in this job of {all}");
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    let mut seen = HashSet::new();
    order.retain(|node| seen.insert(*node));
    Ok(order)
}

/// Equal shares; those listed first get one more if it does not come out even.
fn even(processes: Option<usize>, nodes: &Nodes, here: NodeNumber, all: u32) -> Result<Vec<Share>> {
    let order = order(nodes, here, all)?;
    let workers = |at: usize| match processes {
        Some(processes) => processes / order.len() + usize::from(at < processes % order.len()),
        None if order[at] == here => thread::available_parallelism().map_or(1, Into::into),
        None => 0,
    };
    let each = |at: usize| Share::new(order[at], workers(at));
    let none = Share::new(here, 0);
    let mine = order.iter().position(|node| *node == here).map_or(none, each);
    let others =
        (0..order.len()).map(each).filter(|share| share.node != here && (processes.is_none() || share.workers > 0));
    Ok(std::iter::once(mine).chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(shares: &[Share]) -> Vec<(NodeNumber, usize)> {
        shares.iter().map(|share| (share.node, share.workers)).collect()
    }

    #[test]
    fn shares_are_even_and_this_node_is_the_first() {
        assert_eq!(workers(&even(Some(8), &Nodes::All, 1, 3).unwrap()), [(1, 3), (2, 3), (0, 2)]);
        assert_eq!(workers(&even(Some(1), &Nodes::All, 1, 3).unwrap()), [(1, 1)]);
        assert_eq!(workers(&even(Some(5), &Nodes::Named(vec![2, 0, 2]), 1, 3).unwrap()), [(1, 0), (2, 3), (0, 2)]);
        assert_eq!(workers(&even(Some(5), &Nodes::Own, 1, 3).unwrap()), [(1, 5)]);
        assert!(even(Some(5), &Nodes::Named(vec![3]), 1, 3).is_err());
    }

    #[test]
    fn seats_are_sorted_by_node_in_their_order() {
        let seat =
            |node: u32, cpu: usize| Seat { node: NodeId::new(node), cpus: Some(vec![cpu]), gpus: None, env: vec![] };
        let shares = by_node(vec![seat(2, 0), seat(1, 1), seat(2, 2)], 1);
        assert_eq!(workers(&shares), [(1, 1), (2, 2)]);
        assert_eq!(shares[1].seats, [seat(2, 0), seat(2, 2)]);
        assert_eq!(workers(&by_node(vec![seat(0, 0)], 1)), [(1, 0), (0, 1)]);
    }
}
