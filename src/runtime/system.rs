//! All nodes of the job with what they have, and where policies put things on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

    /// A policy for each NUMA node of every node: a process of it runs on all of its cpus.
    pub fn numa_policies(&self) -> Vec<Policy> {
        let numa = self.nodes.iter().flat_map(|node| node.numa.iter().map(|numa| (node.id, numa)));
        let some = numa.filter(|(_, numa)| !numa.cpus.is_empty());
        some.map(|(node, numa)| Policy::new().node(node).cpus(numa.cpus.iter().copied())).collect()
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

/// What this process knows of the nodes, and whether that is with their GPUs.
#[derive(Default)]
pub(super) struct Machines(Mutex<BTreeMap<NodeNumber, (Node, bool)>>);

impl Machines {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeNumber, (Node, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of all these nodes, those of which not enough is known.
    fn unknown(&self, nodes: u32, with_gpus: bool) -> Vec<NodeNumber> {
        let known = self.lock();
        let is_known = |node: &NodeNumber| known.get(node).is_some_and(|(_, has_gpus)| *has_gpus || !with_gpus);
        (0..nodes).filter(|node| !is_known(node)).collect()
    }

    fn learn(&self, nodes: Vec<Node>, with_gpus: bool) {
        let known = |node: Node| (node.id.number(), (node, with_gpus));
        self.lock().extend(nodes.into_iter().map(known));
    }

    /// It is lost, and nothing goes there any more.
    pub(super) fn forget(&self, node: NodeId) {
        self.lock().remove(&node.number());
    }
}

impl Core {
    /// What all nodes have that are not lost.
    pub(crate) fn system(&self) -> System {
        self.look_up(true)
    }

    /// The nodes, with their GPUs if they matter. Asks those of which nothing is known yet.
    fn look_up(&self, with_gpus: bool) -> System {
        let me = self.place().node();
        let mut missing = self.machines.unknown(self.place().nodes(), with_gpus);
        if missing.contains(&me) {
            missing.retain(|node| *node != me);
            let gpus = if with_gpus { sys::machine::gpus() } else { Vec::new() };
            self.machines.learn(vec![Node { gpus, ..sys::machine::describe(NodeId(me)) }], with_gpus);
        }
        match self.mesh() {
            Ok(Some(mesh)) => {
                missing.chunks(AT_A_TIME).for_each(|some| self.machines.learn(ask(mesh, some, with_gpus), with_gpus));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no way to other nodes: their cpus and GPUs stay unknown"),
        }
        let nodes: Arc<[Node]> = self.machines.lock().values().map(|(node, _)| node.clone()).collect();
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
        let system = self.look_up(policy.gpus.is_some());
        Ok(placement::room(policy, system.nodes(), NodeId(self.place().node()))?)
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
        let system = self.look_up(wanted.iter().any(|(policy, _)| policy.gpus.is_some()));
        Ok(placement::plan(wanted, system.nodes(), me)?)
    }
}

/// Asks nodes, all at the same time. Those that are lost give no answer.
fn ask(mesh: &Mesh, nodes: &[NodeNumber], with_gpus: bool) -> Vec<Node> {
    let ask_one = |node: NodeNumber| {
        let answer = services::describe(mesh, node, with_gpus);
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
