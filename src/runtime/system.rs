//! All nodes of the job with what they have, and where policies put things on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::core::Core;
use crate::error::Result;
use crate::id::{NodeId, NodeNumber};
use crate::mesh::Mesh;
use crate::policy::{Gpu, Node, Placement, Policy, Seat};
use crate::proto::placement;
use crate::services;
use crate::sys;

/// So many nodes are asked at a time.
const AT_A_TIME: usize = 32;

/// The nodes of the job with their cpus, memory and GPUs.
///
/// This process's own node is described as this process may use it: a bound worker sees its own cpus and GPUs. Other nodes
/// are described as those processes may use them that are started there for this one. Each is asked once, when a process asks
/// for the first time; a node that is lost by then is missing.
///
/// ```
/// let dragon = dragon::init()?;
/// let system = dragon.system();
/// let here = system.here();
/// assert!(here.parallelism >= 1 && here.parallelism <= here.cpus.len() && here.memory > 0);
/// assert_eq!(system.node(&here.name).unwrap(), here);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct System {
    nodes: Arc<[Node]>,
    here: usize,
}

impl System {
    /// All nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// This process's node.
    pub fn here(&self) -> &Node {
        &self.nodes[self.here]
    }

    /// The first node on the host of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// How many cpus may be busy at a time, on all nodes.
    pub fn parallelism(&self) -> usize {
        self.nodes.iter().map(|node| node.parallelism).sum()
    }

    /// All cpus that processes may run on, each with its node.
    pub fn cpus(&self) -> Vec<(NodeId, usize)> {
        self.nodes.iter().flat_map(|node| node.cpus.iter().map(|cpu| (node.id, *cpu))).collect()
    }

    /// All GPUs, each with its node.
    pub fn gpus(&self) -> Vec<(NodeId, &Gpu)> {
        self.nodes.iter().flat_map(|node| node.gpus.iter().map(|gpu| (node.id, gpu))).collect()
    }

    /// Bytes of memory, of all nodes.
    pub fn memory(&self) -> u64 {
        self.nodes.iter().fold(0, |sum, node| sum.saturating_add(node.memory))
    }

    /// A policy for each node.
    pub fn node_policies(&self) -> Vec<Policy> {
        self.nodes.iter().map(|node| Policy::new().node(node.id)).collect()
    }

    /// A policy for each cpu of every node.
    pub fn cpu_policies(&self) -> Vec<Policy> {
        self.cpus().into_iter().map(|(node, cpu)| Policy::new().node(node).cpus([cpu])).collect()
    }

    /// A policy for each GPU of every node: a process of it sees that GPU alone.
    ///
    /// ```
    /// let dragon = dragon::init()?;
    /// let policies = dragon.system().gpu_policies();
    /// if !policies.is_empty() {
    ///     let _pool = dragon::Pool::builder().policies(policies, 2).build()?;      // two workers for each GPU
    /// }
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn gpu_policies(&self) -> Vec<Policy> {
        // By the name for all time, because several vendors may have a `0`.
        self.gpus().into_iter().map(|(node, gpu)| Policy::new().node(node).gpus([&gpu.uuid])).collect()
    }
}

/// What this process knows of the nodes.
#[derive(Default)]
pub(super) struct Machines(Mutex<BTreeMap<NodeNumber, Node>>);

impl Machines {
    fn known(&self) -> BTreeMap<NodeNumber, Node> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, nodes: Vec<Node>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(nodes.into_iter().map(|node| (node.id.number(), node)));
    }
}

impl Core {
    /// What all nodes have that are not lost. Asks those of which nothing is known yet.
    pub(crate) fn system(&self) -> System {
        let (me, known) = (self.place().node(), self.machines.known());
        let mut missing: Vec<NodeNumber> = (0..self.place().nodes()).filter(|node| !known.contains_key(node)).collect();
        if missing.contains(&me) {
            missing.retain(|node| *node != me);
            self.machines.learn(vec![sys::machine::describe(NodeId(me))]);
        }
        match self.mesh() {
            Ok(Some(mesh)) => missing.chunks(AT_A_TIME).for_each(|some| self.machines.learn(ask(mesh, some))),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no way to other nodes: their cpus and GPUs stay unknown"),
        }
        let nodes: Arc<[Node]> = self.machines.known().into_values().collect();
        // This node has been learnt above.
        let here = nodes.iter().position(|node| node.id.number() == me).unwrap_or(0);
        System { nodes, here }
    }

    /// The node of an object that is made with this policy.
    pub(crate) fn home(&self, policy: &Policy) -> Result<NodeId> {
        let homes = self.homes(&[(policy.clone(), 1)])?;
        Ok(homes.first().copied().unwrap_or(NodeId(self.place().node())))
    }

    /// The nodes of objects, so many of each policy, completed by that of the scope. Only placement and distribution count.
    pub(crate) fn homes(&self, wanted: &[(Policy, usize)]) -> Result<Vec<NodeId>> {
        let scope = Policy::current();
        let only_where = |policy: &Policy| Policy { cpus: None, gpus: None, ..policy.clone().over(&scope) };
        let wanted: Vec<_> = wanted.iter().map(|(policy, number)| (only_where(policy), *number)).collect();
        Ok(self.seats(&wanted)?.into_iter().map(|seat| seat.node).collect())
    }

    /// The nodes on which processes of this policy may be, with how many each can run at a time.
    pub(crate) fn room(&self, policy: &Policy) -> Result<Vec<(NodeId, usize)>> {
        Ok(placement::room(policy, self.system().nodes(), NodeId(self.place().node()))?)
    }

    /// A seat for each process, so many of each policy in their order, or an error that names what is not there. Nothing is
    /// asked of anybody where the policies leave nothing to decide.
    pub(crate) fn seats(&self, wanted: &[(Policy, usize)]) -> Result<Vec<Seat>> {
        let (me, alone) = (NodeId(self.place().node()), self.place().nodes() == 1);
        let one = wanted.iter().map(|(_, number)| number).sum::<usize>() == 1;
        let is_here = |policy: &Policy| match policy.placement {
            None | Some(Placement::Anywhere) => alone || one,
            Some(Placement::Local) => true,
            Some(Placement::Node(node)) => node == me,
            Some(Placement::Host(_)) => false,
        };
        if wanted.iter().all(|(policy, _)| is_here(policy) && policy.cpus.is_none() && policy.gpus.is_none()) {
            let number = wanted.iter().map(|(_, number)| number).sum();
            return Ok(vec![Seat { node: me, cpus: None, gpus: None, env: Vec::new() }; number]);
        }
        Ok(placement::plan(wanted, self.system().nodes(), me)?)
    }
}

/// Asks nodes, all at the same time. Those that are lost give no answer.
fn ask(mesh: &Mesh, nodes: &[NodeNumber]) -> Vec<Node> {
    let ask_one = |node: NodeNumber| {
        let answer = services::describe(mesh, node);
        answer.inspect_err(|error| tracing::warn!(node, %error, "a node does not say what it has")).ok()
    };
    if let [node] = nodes {
        return ask_one(*node).into_iter().collect();
    }
    thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| ask_one(*node))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}
