//! Which ranks are a node: those that can hand each other a descriptor. The proof and the handing over are one step.
//!
//! Ranks with the same claims (kernel, `/dev/shm`, user, `DRAGON_NODE_ID`) try: the lowest of them that has no node yet is
//! the head, opens a door with an unpredictable name, and passes the memory file to whoever comes. Who cannot come is apart
//! and tries again among his like, because claims can lie: clones of a virtual machine agree in all of them. What launchers
//! say about nodes, and host names, are not asked.
//!
//! ```text
//! round A   heads say where their doors are
//! between   members fetch the file, their slot and a control socket
//! round B   everybody says how it went; again, as long as somebody is apart
//! ```

mod door;

use std::{collections::HashMap, fmt::Display, hash::Hash, os::fd::OwnedFd};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::error::{BootstrapError, Failure, FailureKind};
use super::message::{Claims, decode, encode};
use super::world::{NodeDomain, World};
use door::{Door, Fetched, Offer};

/// A process of this machine that asks its head for a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applicant {
    pub(crate) rank: u32,
    /// Its process id as the head's kernel says; zero if the head cannot see it.
    pub(crate) pid: u32,
}

/// A rank that its head has let in.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) rank: u32,
    /// See [`Applicant::pid`].
    pub(crate) pid: u32,
    /// What the head has told it to be.
    pub(crate) slot: u32,
    /// Ends when the member does, wherever it is.
    pub(crate) control: OwnedFd,
}

/// What became of this rank on its node.
#[derive(Debug)]
pub(crate) enum NodeShare {
    /// It made the memory of the node.
    Head { members: Vec<Member> },
    /// It was handed the memory of the node.
    Member {
        /// The rank that did.
        head: u32,
        /// What the head's `make` returned.
        file: OwnedFd,
        /// What its `admit` returned.
        slot: u32,
        /// Ends when the head does.
        control: OwnedFd,
    },
}

/// Round A.
#[derive(Serialize, Deserialize)]
enum Announced {
    Nothing,
    Offer(Offer),
    Failed(String),
}

/// Round B.
#[derive(Serialize, Deserialize)]
enum Outcome {
    /// The head and those it let in.
    Placed,
    Apart,
    Failed(String),
}

/// What a rank does in one turn of the search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It has a node.
    Settled,
    /// It is the lowest of those with its claims.
    Head,
    /// It tries this one.
    MemberOf(u32),
}

/// Finds out with whom this rank shares memory, and shares it. To be called by all ranks.
///
/// On the head of each node `make` is called once, for the memory file; then `admit` for each member, from another thread.
/// What either refuses is told to all ranks and ends the start everywhere.
pub(crate) fn share<E: Display>(
    world: &mut World,
    make: impl FnOnce() -> Result<OwnedFd, E>,
    mut admit: impl FnMut(Applicant) -> Result<u32, E> + Send,
) -> Result<NodeShare, BootstrapError> {
    let (mut make, mut mine) = (Some(make), None);
    let mut head_of: Vec<Option<u32>> = vec![None; world.size as usize];
    while head_of.contains(&None) {
        let heads = heads(&world.claims, &head_of);
        let outcomes = match role(world.rank, &head_of, &heads) {
            Role::Settled => {
                offers(world, Announced::Nothing)?;
                outcomes(world, Outcome::Placed)?
            }
            Role::Head => {
                // A rank is head at most once: after its turn it is settled.
                let file = make.take().map(|make| make().map_err(|why| why.to_string()));
                let (share, outcomes) = as_head(world, &heads, file, &mut admit)?;
                mine = Some(share);
                outcomes
            }
            Role::MemberOf(head) => {
                let (share, outcomes) = as_member(world, head)?;
                mine = share;
                outcomes
            }
        };
        place(&mut head_of, &heads, &outcomes);
    }
    settle(world, &head_of);
    mine.ok_or_else(|| Failure::error(FailureKind::Mismatch, "this rank has found no node"))
}

/// What must be equal for two ranks to try each other. A rank that cannot see which kernel it runs on tries nobody.
fn key(rank: u32, claims: &Claims) -> impl Hash + Eq + use<'_> {
    let lonely = claims.boot.is_empty().then_some(rank);
    // Without `/dev/shm` the network is what the ranks of a container have in common.
    let place = claims.shared_memory.ok_or(claims.network);
    (lonely, &claims.boot, claims.uid, &claims.node_id, place)
}

/// The head of each rank: of one that has no node, the lowest such with the same claims.
fn heads(claims: &[Claims], head_of: &[Option<u32>]) -> Vec<u32> {
    let mut lowest = HashMap::new();
    let head = |(rank, (claims, placed)): (u32, (_, &Option<u32>))| match placed {
        Some(head) => *head,
        None => *lowest.entry(key(rank, claims)).or_insert(rank),
    };
    (0..).zip(claims.iter().zip(head_of)).map(head).collect()
}

fn role(rank: u32, head_of: &[Option<u32>], heads: &[u32]) -> Role {
    match (head_of[rank as usize], heads[rank as usize]) {
        (Some(_), _) => Role::Settled,
        (None, head) if head == rank => Role::Head,
        (None, head) => Role::MemberOf(head),
    }
}

/// Makes the memory and lets the members in, while this rank takes part in round B like all.
fn as_head<E: Display>(
    world: &mut World,
    heads: &[u32],
    file: Option<Result<OwnedFd, String>>,
    admit: &mut (impl FnMut(Applicant) -> Result<u32, E> + Send),
) -> Result<(NodeShare, Vec<Outcome>), BootstrapError> {
    let me = world.rank;
    let members: Vec<u32> = (0..world.size).filter(|rank| *rank != me && heads[*rank as usize] == me).collect();
    let claims = members.iter().map(|rank| &world.claims[*rank as usize]);
    let one_network = claims.clone().all(|theirs| theirs.network == world.claims[me as usize].network);
    let opened = match file {
        Some(Ok(file)) if members.is_empty() => Ok((file, None)),
        Some(Ok(file)) => Door::open(one_network)
            .map(|door| (file, Some(door)))
            .map_err(|why| format!("cannot let its node's ranks in: {why}")),
        Some(Err(why)) => Err(why),
        None => Err("it is head of a second node".into()),
    };
    let announced = match &opened {
        Ok((_, door)) => door.as_ref().map_or(Announced::Nothing, |door| Announced::Offer(door.offer())),
        Err(why) => Announced::Failed(why.clone()),
    };
    offers(world, announced)?;
    match opened {
        Ok((file, Some(door))) => {
            let (let_in, outcomes) = door.while_open(&members, &file, admit, || outcomes(world, Outcome::Placed));
            Ok((NodeShare::Head { members: let_in }, outcomes?))
        }
        // One that failed has ended the start in `offers`.
        _ => Ok((NodeShare::Head { members: Vec::new() }, outcomes(world, Outcome::Placed)?)),
    }
}

/// Tries to get in at the head.
fn as_member(world: &mut World, head: u32) -> Result<(Option<NodeShare>, Vec<Outcome>), BootstrapError> {
    let offers = offers(world, Announced::Nothing)?;
    let fetched = match offers.get(head as usize) {
        Some(Announced::Offer(offer)) => offer.fetch(world.rank, world.deadline()),
        _ => Fetched::Apart,
    };
    let (share, outcome) = match fetched {
        Fetched::In { file, slot, control } => (Some(NodeShare::Member { head, file, slot, control }), Outcome::Placed),
        Fetched::Refused(why) => (None, Outcome::Failed(format!("rank {head} did not let it into its node: {why}"))),
        Fetched::Apart => (None, Outcome::Apart),
    };
    Ok((share, outcomes(world, outcome)?))
}

fn offers(world: &mut World, mine: Announced) -> Result<Vec<Announced>, BootstrapError> {
    let said: Vec<Announced> = round(world, &mine)?;
    all_well(said, |announced| match announced {
        Announced::Failed(why) => Some(why.clone()),
        _ => None,
    })
}

fn outcomes(world: &mut World, mine: Outcome) -> Result<Vec<Outcome>, BootstrapError> {
    let said: Vec<Outcome> = round(world, &mine)?;
    all_well(said, |outcome| match outcome {
        Outcome::Failed(why) => Some(why.clone()),
        _ => None,
    })
}

fn round<T: Serialize + DeserializeOwned>(world: &mut World, mine: &T) -> Result<Vec<T>, BootstrapError> {
    let all = world.allgather(&encode(mine))?;
    let all: Option<Vec<T>> = all.iter().map(|bytes| decode(bytes)).collect();
    all.ok_or_else(|| Failure::error(FailureKind::Mismatch, "the ranks are not in step while nodes are made"))
}

/// The first that went wrong ends the start: all ranks see the same, so all end alike.
fn all_well<T>(said: Vec<T>, wrong: impl Fn(&T) -> Option<String>) -> Result<Vec<T>, BootstrapError> {
    let first = said.iter().enumerate().find_map(|(rank, said)| Some((rank, wrong(said)?)));
    match first {
        Some((rank, why)) => Err(Failure::error(FailureKind::Rank, format!("rank {rank}: {why}"))),
        None => Ok(said),
    }
}

fn place(head_of: &mut [Option<u32>], heads: &[u32], outcomes: &[Outcome]) {
    for (rank, slot) in head_of.iter_mut().enumerate() {
        let head = heads[rank];
        let is_placed = head == rank as u32 || matches!(outcomes[rank], Outcome::Placed);
        *slot = slot.or(is_placed.then_some(head));
    }
}

/// Numbers the nodes in the order of their heads.
fn settle(world: &mut World, head_of: &[Option<u32>]) {
    let all: Vec<u32> = (0..).zip(head_of).map(|(rank, head)| head.unwrap_or(rank)).collect();
    let mut heads = all.clone();
    heads.sort_unstable();
    heads.dedup();
    let index = |head: &u32| heads.binary_search(head).map_or(0, |at| at as u32);
    world.nodes = all.iter().map(index).collect();
    let mine = world.nodes[world.rank as usize];
    let ranks = (0..world.size).filter(|rank| world.nodes[*rank as usize] == mine).collect();
    world.node = NodeDomain { index: mine, ranks };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(boot: &str, shared_memory: Option<u64>, network: u64, node_id: Option<&str>) -> Claims {
        Claims { boot: boot.into(), uid: 7, shared_memory, network, node_id: node_id.map(Into::into) }
    }

    fn first_heads(claims: &[Claims]) -> Vec<u32> {
        heads(claims, &vec![None; claims.len()])
    }

    #[test]
    fn only_those_with_equal_claims_try_each_other() {
        let host = claims("k", Some(1), 1, None);
        let own_shm = claims("k", Some(2), 1, None);
        let other_kernel = claims("l", Some(1), 1, None);
        let own_network = claims("k", Some(1), 2, None);
        let masked = claims("", Some(1), 1, None);
        let named = claims("k", Some(1), 1, Some("a"));
        let other_user = Claims { uid: 8, ..host.clone() };
        let all = [host, own_shm, other_kernel, own_network, masked.clone(), masked, named.clone(), named, other_user];
        assert_eq!(first_heads(&all), [0, 1, 2, 0, 4, 5, 6, 6, 8]);
    }

    #[test]
    fn without_shared_memory_those_of_one_network_try() {
        let all = [
            claims("k", None, 1, None),
            claims("k", None, 2, None),
            claims("k", None, 1, None),
            claims("k", Some(1), 1, None),
        ];
        assert_eq!(first_heads(&all), [0, 1, 0, 3]);
    }

    #[test]
    fn clones_that_lie_find_each_other_in_the_second_turn() {
        let all = vec![claims("k", Some(1), 1, None); 5];
        let mut head_of = vec![None; 5];
        // Ranks 1 and 4 are on a clone: they cannot get in at rank 0.
        let outcomes = [Outcome::Placed, Outcome::Apart, Outcome::Placed, Outcome::Placed, Outcome::Apart];
        let tried = heads(&all, &head_of);
        place(&mut head_of, &tried, &outcomes);
        assert_eq!(head_of, [Some(0), None, Some(0), Some(0), None]);
        assert_eq!(heads(&all, &head_of), [0, 1, 0, 0, 1]);
        let outcomes = [Outcome::Placed, Outcome::Placed, Outcome::Placed, Outcome::Placed, Outcome::Placed];
        let tried = heads(&all, &head_of);
        place(&mut head_of, &tried, &outcomes);
        assert_eq!(head_of, [Some(0), Some(1), Some(0), Some(0), Some(1)]);
    }
}
