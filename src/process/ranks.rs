//! The processes of a group as ranks of one MPI program: what each is started with, and when all of them must end.
//!
//! Ranks are numbered in the order of the processes; those whose program speaks no MPI are none. A rank that ends otherwise
//! than with code 0, or that the others wait for in vain, ends the group, as under any `mpiexec`. Each node serves its own
//! ranks ([`Quarters`]), in the process that starts them; the group's owner knows all ([`Ranks`]).

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use crossbeam::channel::Sender;
use serde::{Deserialize, Serialize};

use super::exit::How;
use super::inner::Inner;
use super::sites::Sites;
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::mesh::Mesh;
use crate::pmi::{Ending, RANKS_DESCRIPTOR, Speaks, Team};
use crate::prim::{AtomicU64, Ordering};
use crate::runtime;
use crate::services::{Alone, Billet, Exchange, Far, Mpi, MpiPlan, Served};
use crate::sys;

/// Variables and descriptors for one process.
pub(super) type Outfit = (Vec<(OsString, OsString)>, Vec<(Arc<OwnedFd>, i32)>);

/// What a node is told of the ranks that it serves.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Crew {
    team: Team,
    /// Of the node that is told.
    place: u32,
    /// Nodes of the team by place, and their names.
    nodes: Vec<NodeNumber>,
    hosts: Vec<String>,
    crowded: bool,
    leader: NodeNumber,
    speaks: Speaks,
    /// The member that each rank is.
    members: Vec<usize>,
}

/// The ranks of a group on one node.
pub(super) struct Quarters {
    outfits: HashMap<usize, Outfit>,
    /// They are served as long as this lives.
    served: Arc<Served>,
}

impl Quarters {
    /// Serves them. That they must end is told to `ends`, under this number.
    pub(super) fn open(crew: &Crew, mesh: Option<&Mesh>, ends: Sender<(u64, Ending)>, key: u64) -> Result<Quarters> {
        let Crew { team, place, nodes, hosts, crowded, leader, speaks, members } = crew.clone();
        let exchange: Arc<dyn Exchange> = match mesh {
            None => Alone::here(),
            // They meet where the first of them is.
            Some(mesh) => {
                let home = nodes.first().copied().unwrap_or(leader);
                Arc::new(Far::new(mesh.clone(), [home, leader], team.name.clone(), place, nodes))
            }
        };
        let plan = MpiPlan { team, place, hosts, crowded, speaks, exchange, ends, key };
        let (served, billets) = Mpi::here()?.open(plan)?;
        let outfit = |billet: Billet| {
            let env = billet.environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let descriptors = billet.descriptor.into_iter().map(|its| (Arc::new(its), RANKS_DESCRIPTOR)).collect();
            (members[billet.rank as usize], (env, descriptors))
        };
        Ok(Quarters { outfits: billets.into_iter().map(outfit).collect(), served: Arc::new(served) })
    }

    /// They are served as long as this lives.
    pub(super) fn served(&self) -> Arc<Served> {
        self.served.clone()
    }

    /// What a member is started with, once: our copy of its end of the socket must go.
    pub(super) fn take(&mut self, member: usize) -> Outfit {
        self.outfits.remove(&member).unwrap_or_default()
    }
}

/// The ranks of a group that runs, as its owner knows them.
pub(super) struct Ranks {
    members: Vec<usize>,
    /// Who called `MPI_Abort`, and the code.
    aborted: Option<(usize, i32)>,
    here: Option<Quarters>,
}

impl Ranks {
    /// Serves the members that speak MPI, on the nodes named; `None` if there are none.
    pub(super) fn open(
        group: &Arc<Inner>,
        sites: &Sites,
        speaks: &[Speaks],
        nodes: &[NodeNumber],
    ) -> Result<Option<Ranks>> {
        let members: Vec<usize> = (0..speaks.len()).filter(|member| speaks[*member].anything()).collect();
        if members.is_empty() {
            return Ok(None);
        }
        let on: Vec<NodeNumber> = members.iter().map(|member| nodes[*member]).collect();
        let place = group.core.place();
        let here = place.node();
        let host = |node: &NodeNumber| match sites.on(*node) {
            Some(site) => site.host.clone(),
            None => unique_host((place.nodes() > 1).then_some(here)),
        };
        let nodes = Team::places_of(&on);
        let hosts: Vec<String> = nodes.iter().map(host).collect();
        let machine = |host: &String| host.rsplit_once("-n").map(|(machine, _)| machine.to_string());
        let mut machines: Vec<_> = hosts.iter().filter_map(machine).collect();
        machines.sort();
        let crew = Crew {
            crowded: machines.windows(2).any(|two| two[0] == two[1]),
            team: Team::new(name(), &on),
            place: 0,
            hosts,
            nodes,
            leader: place.charter.as_ref().and_then(|known| known.charter.nodes.first().copied()).unwrap_or(here),
            speaks: members.iter().map(|member| speaks[*member]).fold(Speaks::default(), Speaks::and),
            members: members.clone(),
        };
        let here = enlist(group, sites, &crew)?;
        Ok(Some(Ranks { members, aborted: None, here }))
    }

    /// What a member on this node is started with, once.
    pub(super) fn take(&mut self, member: usize) -> Outfit {
        self.here.as_mut().map(|here| here.take(member)).unwrap_or_default()
    }

    /// Those of this node.
    pub(super) fn here(&self) -> Option<&Quarters> {
        self.here.as_ref()
    }

    /// Whether it is a rank.
    pub(super) fn has(&self, member: usize) -> bool {
        self.members.binary_search(&member).is_ok()
    }

    /// How a rank has ended: one that aborts has said its code. MPICH's does not end by itself then, and is killed.
    pub(super) fn judge(&self, member: usize, how: How) -> How {
        match (self.aborted, &how) {
            (Some((who, code)), How::Signal(_)) if who == member => How::Code(code),
            _ => how,
        }
    }

    /// Why the group ends, in words, and the member that may still end by itself.
    pub(super) fn explain(&mut self, ending: &Ending) -> (Option<usize>, String) {
        let member = |rank: &u32| self.members.get(*rank as usize).copied();
        if let Ending::Abort { rank, code, .. } = ending {
            self.aborted = member(rank).map(|member| (member, *code));
        }
        match ending {
            Ending::Abort { rank, code, words } if words.is_empty() => {
                (member(rank), format!("rank {rank} called MPI_Abort with code {code}"))
            }
            Ending::Abort { rank, code, words } => {
                (member(rank), format!("rank {rank} called MPI_Abort with code {code}: {words}"))
            }
            Ending::Left { rank } => (member(rank), format!("rank {rank} left without MPI_Finalize")),
            Ending::Nonsense { rank, why } => (None, format!("rank {rank} says what is not PMI: {why}")),
            Ending::Cut { why } => (None, why.clone()),
        }
    }
}

/// Has all nodes serve their ranks, all at the same time; an error of any is an error of all.
fn enlist(group: &Arc<Inner>, sites: &Sites, crew: &Crew) -> Result<Option<Quarters>> {
    let place = |at: usize| Crew { place: at as u32, ..crew.clone() };
    let mesh = group.core.mesh()?;
    let ends = || (group.conductor.endings.clone(), group.conductor.key(group, 0, 0));
    thread::scope(|scope| {
        let mut here = None;
        let mut others = Vec::new();
        for (at, node) in crew.nodes.iter().enumerate() {
            let crew = place(at);
            match sites.on(*node) {
                Some(site) => others.push(scope.spawn(move || site.enlist(&crew))),
                None => here = Some(crew),
            }
        }
        let (ends, key) = ends();
        let here = here.map(|crew| Quarters::open(&crew, mesh, ends, key)).transpose();
        let panicked = |_| Err(Error::new(ErrorKind::Io, "a thread that serves MPI ranks panicked"));
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(panicked));
        others.collect::<Result<Vec<()>>>()?;
        here
    })
}

/// This node's name, unlike that of any other node of the job.
pub(super) fn unique_host(node: Option<NodeNumber>) -> String {
    match node {
        Some(node) => format!("{}-n{node}", runtime::host_name()),
        None => runtime::host_name(),
    }
}

/// A name that no other team of the job has.
fn name() -> String {
    static TEAMS: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only that each has another number matters.
    let number = TEAMS.fetch_add(1, Ordering::Relaxed);
    let host: String = runtime::host_name().chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!("dragon-{host}-{}-{number}", sys::process::id())
}
