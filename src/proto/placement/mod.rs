//! The plan: policies and nodes go in, a seat for every process comes out, or what is not there, before anything starts.

use crate::id::NodeId;
use crate::policy::{Distribution, Gpu, Node, Placement, Policy, Seat, Vendor, numbers};

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misplaced {
    /// A policy names a node that the job has not.
    #[error("there is no {node} in this job, or it is lost; there are: {there}")]
    Node { node: NodeId, there: String },
    /// A policy names a host on which the job has no node.
    #[error("this job has no node on host `{name}`; its hosts: {there}")]
    Host { name: String, there: String },
    /// A policy names a cpu that no node has on which it may place something.
    #[error("there is no cpu {cpu} to be used on {at}: its cpus are {there}{others}")]
    Cpu { cpu: usize, at: String, there: String, others: String },
    /// A policy names a GPU that no node has on which it may place something.
    #[error("there is no GPU `{gpu}` to be seen on {at}: its GPUs are {there}{others}")]
    Gpu { gpu: String, at: String, there: String, others: String },
    /// A process on no cpu at all.
    #[error("a policy names no cpu at all: leave `cpus` out to bind nothing")]
    Unbound,
}

/// So many names an error lists.
const LISTED: usize = 8;

/// Seats for `wanted`, in its order: so many processes of each policy, started by a process of node `here`. The nodes are
/// taken in their order, beginning with `here`. Pure: the same input gives the same plan on every node.
pub(crate) fn plan(wanted: &[(Policy, usize)], nodes: &[Node], here: NodeId) -> Result<Vec<Seat>, Misplaced> {
    let first = nodes.iter().position(|node| node.id == here).unwrap_or(0);
    let mut cursor = Cursor { nodes, next: first, taken: vec![0; nodes.len()] };
    let mut seats = Vec::new();
    for (policy, number) in wanted {
        let fitting = fitting(policy, nodes, here)?;
        let distribution = policy.distribution.unwrap_or(Distribution::RoundRobin);
        for _ in 0..*number {
            let (_, bound) = &fitting[cursor.take(&fitting, distribution)];
            seats.push(bound.clone());
        }
    }
    Ok(seats)
}

/// The nodes on which processes of this policy may be, with how many processors each gives them.
pub(crate) fn room(policy: &Policy, nodes: &[Node], here: NodeId) -> Result<Vec<(NodeId, usize)>, Misplaced> {
    let room = |(at, seat): (usize, Seat)| {
        let most = seat.cpus.map_or(usize::MAX, |cpus| cpus.len());
        (seat.node, nodes[at].parallelism.min(most))
    };
    Ok(fitting(policy, nodes, here)?.into_iter().map(room).collect())
}

/// How far the sharing out has come.
struct Cursor<'a> {
    nodes: &'a [Node],
    /// The node whose turn is next.
    next: usize,
    /// How many processes each node has got.
    taken: Vec<usize>,
}

impl Cursor<'_> {
    /// Takes a place on one of the fitting nodes, which are in order and at least one: which.
    fn take(&mut self, fitting: &[(usize, Seat)], distribution: Distribution) -> usize {
        let turn = fitting.iter().position(|(node, _)| *node >= self.next).unwrap_or(0);
        let has_room = |at: &usize| self.taken[fitting[*at].0] < self.nodes[fitting[*at].0].parallelism;
        let in_turn = (turn..fitting.len()).chain(0..turn);
        let free = in_turn.clone().find(has_room).filter(|_| distribution == Distribution::Block);
        let chosen = free.unwrap_or(turn);
        let node = fitting[chosen].0;
        self.taken[node] += 1;
        // A policy with one node only says nothing about the turn of the others.
        if fitting.len() > 1 {
            self.next = if free.is_some() { node } else { (node + 1) % self.nodes.len() };
        }
        chosen
    }
}

/// The nodes on which processes of this policy may be, each with the seat of such a process: at least one.
fn fitting(policy: &Policy, nodes: &[Node], here: NodeId) -> Result<Vec<(usize, Seat)>, Misplaced> {
    if policy.cpus.as_ref().is_some_and(Vec::is_empty) {
        return Err(Misplaced::Unbound);
    }
    let named = named(policy, nodes, here)?;
    let (mut fitting, mut first_missing) = (Vec::new(), None);
    for &at in &named {
        match seat(policy, &nodes[at]) {
            Ok(seat) => fitting.push((at, seat)),
            Err(missing) => drop(first_missing.get_or_insert(missing)),
        }
    }
    match first_missing {
        Some(missing) if fitting.is_empty() => Err(missing.on(named.len() - 1)),
        _ => Ok(fitting),
    }
}

/// The nodes that a policy names, whatever they have.
fn named(policy: &Policy, nodes: &[Node], here: NodeId) -> Result<Vec<usize>, Misplaced> {
    let all = |which: &dyn Fn(&Node) -> bool| (0..nodes.len()).filter(|at| which(&nodes[*at])).collect::<Vec<_>>();
    let (found, node) = match &policy.placement {
        None | Some(Placement::Anywhere) => (all(&|_| true), here),
        Some(Placement::Local) => (all(&|node| node.id == here), here),
        Some(Placement::Node(id)) => (all(&|node| node.id == *id), *id),
        Some(Placement::Host(name)) => {
            let found = all(&|node| is_host(&node.name, name));
            if found.is_empty() {
                let there = listed(nodes.iter().map(|node| node.name.clone()));
                return Err(Misplaced::Host { name: name.clone(), there });
            }
            (found, here)
        }
    };
    if found.is_empty() {
        return Err(Misplaced::Node { node, there: listed(nodes.iter().map(|node| node.id.to_string())) });
    }
    Ok(found)
}

/// Whether a host is meant by a name: domains count only where both have one.
fn is_host(host: &str, name: &str) -> bool {
    let short = |text: &str| text.split('.').next().map(str::to_ascii_lowercase);
    let both = host.contains('.') && name.contains('.');
    if both { host.eq_ignore_ascii_case(name) } else { short(host) == short(name) }
}

/// The seat of a process of this policy on this node.
fn seat(policy: &Policy, node: &Node) -> Result<Seat, Misplaced> {
    let at = || format!("{} ({})", node.id, node.name);
    let cpus = policy.cpus.as_ref().map(|wanted| {
        let missing = wanted.iter().find(|cpu| !node.cpus.contains(cpu));
        if let Some(&cpu) = missing {
            return Err(Misplaced::Cpu { cpu, at: at(), there: numbers(&node.cpus), others: String::new() });
        }
        let mut cpus = wanted.clone();
        cpus.sort_unstable();
        cpus.dedup();
        Ok(cpus)
    });
    let gpus = policy.gpus.as_ref().map(|wanted| {
        let mut gpus: Vec<&Gpu> = Vec::new();
        for name in wanted {
            let Some(gpu) = find(name, &node.gpus) else {
                let there = match &node.gpus[..] {
                    [] => "none".into(),
                    gpus => listed(gpus.iter().map(|gpu| gpu.name.clone())),
                };
                return Err(Misplaced::Gpu { gpu: name.clone(), at: at(), there, others: String::new() });
            };
            if !gpus.contains(&gpu) {
                gpus.push(gpu);
            }
        }
        Ok(gpus)
    });
    let (cpus, gpus) = (cpus.transpose()?, gpus.transpose()?);
    let env = gpus.as_ref().map_or_else(Vec::new, |gpus| variables(gpus, &node.gpus));
    let gpus = gpus.map(|gpus| gpus.into_iter().map(|gpu| gpu.name.clone()).collect());
    Ok(Seat { node: node.id, cpus, gpus, env })
}

/// The GPU that a name means: its name, its uuid, or its place where the names are no numbers.
fn find<'a>(name: &str, gpus: &'a [Gpu]) -> Option<&'a Gpu> {
    let by_name = gpus.iter().find(|gpu| gpu.name == name || gpu.uuid.eq_ignore_ascii_case(name));
    let unnumbered = || gpus.iter().all(|gpu| gpu.name.parse::<f64>().is_err());
    by_name.or_else(|| name.parse().ok().filter(|_| unnumbered()).and_then(|at: usize| gpus.get(at)))
}

/// The variables that show a process these GPUs of all that its node has, and no others of the same vendors. One that is
/// to see none gets the variables of all vendors that are there.
fn variables(gpus: &[&Gpu], all: &[Gpu]) -> Vec<(String, String)> {
    let mut env = Vec::new();
    for vendor in [Vendor::Nvidia, Vendor::Amd, Vendor::Intel] {
        let its: Vec<&str> = gpus.iter().filter(|gpu| gpu.vendor == vendor).map(|gpu| gpu.name.as_str()).collect();
        let hidden = gpus.is_empty() && all.iter().any(|gpu| gpu.vendor == vendor);
        if its.is_empty() && !hidden {
            continue;
        }
        env.push((vendor.variable().into(), its.join(",")));
        if vendor == Vendor::Amd {
            // HIP counts again among what the first variable leaves, and one that was inherited counted something else.
            let again: Vec<String> = (0..its.len()).map(|at| at.to_string()).collect();
            env.push(("HIP_VISIBLE_DEVICES".into(), again.join(",")));
        }
    }
    env
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    names.dedup();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

impl Misplaced {
    /// The same, on so many other nodes as well.
    fn on(mut self, more: usize) -> Misplaced {
        if let (Misplaced::Cpu { others, .. } | Misplaced::Gpu { others, .. }, 1..) = (&mut self, more) {
            *others = format!("; nor has any of {more} other nodes where it might be");
        }
        self
    }
}

#[cfg(test)]
mod tests;
