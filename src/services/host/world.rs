//! How a world ends together, and how all hear of what is lost.
//!
//! ```text
//! rank ── Finish ──▶ its node's host: waits until all its living ranks have come
//!                    then ── NodeFinish ──▶ the leader's host: waits until all living nodes have come
//! every rank  ◀───── what was lost ◀───────
//! ```

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::super::far::words::{WORLD, Why};
use super::super::far::{self, FarError};
use super::super::gate::{Gate, Opened};
use super::{Inner, Reservist, Seat, lock, unclear};
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::mesh::{Answer, Mesh, MeshError, Request};
use crate::wire;

/// Something that was part of the job and is not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Loss {
    /// A rank.
    Rank { rank: u32, node: NodeNumber, host: String, how: String },
    /// A whole node, or the way to it.
    Node { node: NodeNumber, host: String, ranks: Vec<u32>, how: String },
}

#[derive(Debug, Serialize, Deserialize)]
enum Call {
    /// A rank of this node has nothing more to do; and where it takes orders meanwhile.
    Finish { rank: u32, duty: Option<u64> },
    /// All ranks of a node have nothing more to do; and what it has lost.
    NodeFinish { losses: Vec<String> },
    /// To the leader, and from it to all.
    Lost(Loss),
}

/// Ends this rank's part in the world: returns when all ranks have called it, or are lost, with what was lost.
/// Until then it takes orders at the channel `duty`, if there is one.
pub(crate) fn finish(mesh: &Mesh, rank: u32, duty: Option<ObjectId>) -> Result<Vec<String>, FarError> {
    ask(mesh, mesh.me(), &Call::Finish { rank, duty: duty.map(ObjectId::to_word) })
}

fn ask(mesh: &Mesh, node: NodeNumber, call: &Call) -> Result<Vec<String>, FarError> {
    let unclear = |error: wire::WireError| FarError::Refused { why: Why::Unclear, text: error.to_string() };
    let mut bytes = Vec::new();
    wire::encode(call, &mut bytes).map_err(unclear)?;
    let reply = far::well(mesh.call(node, WORLD, &bytes)?)?;
    wire::decode(&reply.body).map_err(unclear)
}

/// What a host knows of how far the world has come to its end.
pub(super) struct World {
    here: Mutex<Gate<Answer>>,
    /// Used on the leader's node alone.
    everywhere: Mutex<Gate<Answer>>,
    lost_nodes: Mutex<BTreeMap<NodeNumber, String>>,
    tell: Box<dyn Fn(Loss) + Send + Sync>,
}

impl World {
    pub(super) fn new(seat: &Seat, tell: Box<dyn Fn(Loss) + Send + Sync>) -> World {
        World {
            here: Mutex::new(Gate::new(seat.ranks_of(seat.node))),
            everywhere: Mutex::new(Gate::new(0..seat.nodes())),
            lost_nodes: Mutex::default(),
            tell,
        }
    }

    pub(super) fn serve(&self, host: &std::sync::Arc<Inner>, request: &Request, answer: Answer) {
        match wire::decode::<Call>(&request.body) {
            Ok(Call::Finish { rank, duty }) => {
                enlist(host, request.process, rank, duty);
                let opened = lock(&self.here).arrive(rank, answer, &[]);
                self.leave(host, opened);
            }
            Ok(Call::NodeFinish { losses }) => {
                let opened = lock(&self.everywhere).arrive(request.from, answer, &losses);
                open(opened);
            }
            Ok(Call::Lost(loss)) => self.heard(host, request.from, loss),
            Err(error) => unclear(answer, &error.to_string()),
        }
    }

    pub(super) fn rank_is_gone(&self, host: &std::sync::Arc<Inner>, rank: u32, how: &str) {
        let loss = Loss::Rank { rank, node: host.hub.me(), host: host.seat.host(rank), how: how.into() };
        let opened = lock(&self.here).lose(rank, loss.to_string());
        self.leave(host, opened);
        if host.seat.leader == host.hub.me() {
            self.heard(host, host.hub.me(), loss);
        } else {
            let told = host.mesh().tell(host.seat.leader, WORLD, &encode(&Call::Lost(loss)));
            told.unwrap_or_else(|error| tracing::warn!(%error, "the leader does not hear that a rank is lost"));
        }
    }

    pub(super) fn node_is_gone(&self, host: &std::sync::Arc<Inner>, node: NodeNumber, why: &str) {
        let loss = host.seat.lost(node, why);
        lock(&self.lost_nodes).insert(node, why.into());
        if host.seat.leader == host.hub.me() {
            open(lock(&self.everywhere).lose(node, loss.to_string()));
        }
        (self.tell)(loss);
    }

    /// A loss on some node: the leader tells all others.
    fn heard(&self, host: &std::sync::Arc<Inner>, from: NodeNumber, loss: Loss) {
        let me = host.hub.me();
        if host.seat.leader == me {
            let call = encode(&Call::Lost(loss.clone()));
            let lost = lock(&self.lost_nodes).clone();
            for node in (0..host.seat.nodes()).filter(|node| *node != me && *node != from && !lost.contains_key(node)) {
                let told = host.mesh().tell(node, WORLD, &call);
                told.unwrap_or_else(|error| tracing::warn!(node, %error, "a node does not hear of a loss"));
            }
        }
        (self.tell)(loss);
    }

    /// When all ranks of the node have come: asks the leader, who answers when all nodes have.
    fn leave(&self, host: &std::sync::Arc<Inner>, opened: Option<Opened<Answer>>) {
        let Some(opened) = opened else { return };
        let (mesh, leader) = (host.mesh(), host.seat.leader);
        let seat = host.seat.clone();
        host.threads.run(move || {
            let losses = opened.lost;
            match ask(&mesh, leader, &Call::NodeFinish { losses: losses.clone() }) {
                Ok(losses) => settle(opened.waiting, &losses),
                // Nobody leads any more: each node ends for itself.
                Err(FarError::Mesh(MeshError::Lost { node, why })) => {
                    let lost = seat.lost(node, &why).to_string();
                    settle(opened.waiting, &[losses, vec![lost]].concat());
                }
                Err(error) => settle(opened.waiting, &[losses, vec![error.to_string()]].concat()),
            }
        });
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Loss::Rank { rank, node, host, how } => write!(f, "rank {rank} on node {node} ({host}) {how}"),
            Loss::Node { node, host, ranks, how } => {
                let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
                write!(f, "node {node} ({host}) with rank {} is lost: {how}", ranks.join(", rank "))
            }
        }
    }
}

/// A rank that takes orders is known to those who give some.
fn enlist(host: &Inner, process: ProcId, rank: u32, duty: Option<u64>) {
    let Some(duty) = duty.and_then(ObjectId::from_word) else { return };
    let entry = host.memory.processes().into_iter().find(|entry| entry.id == process);
    if let Some(pid) = entry.map(|entry| entry.pid) {
        host.roster.tell(Reservist::Here { rank, process, pid, duty });
    }
}

fn open(opened: Option<Opened<Answer>>) {
    if let Some(opened) = opened {
        settle(opened.waiting, &opened.lost);
    }
}

fn settle(waiting: Vec<Answer>, losses: &[String]) {
    let mut bytes = Vec::new();
    // Text into memory: nothing in it can fail.
    let _ = wire::encode(&losses.to_vec(), &mut bytes);
    // This process may end as soon as it is answered, so it is the last.
    let (here, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(Answer::is_for_here);
    others.into_iter().chain(here).for_each(|answer| answer.send(0, &bytes));
}

fn encode(call: &Call) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Text and numbers into memory: nothing in it can fail.
    let _ = wire::encode(call, &mut bytes);
    bytes
}
