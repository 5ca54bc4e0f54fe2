//! The processes of a group as ranks of one MPI program: what each is started with, and when all of them must end.
//!
//! Ranks are numbered in the order of the processes; those whose program speaks no MPI are none. A rank that ends otherwise
//! than with code 0, or that the others wait for in vain, ends the group, as under any `mpiexec`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::exit::How;
use super::inner::Inner;
use crate::error::Result;
use crate::id::NodeNumber;
use crate::pmi::{Ending, RANKS_DESCRIPTOR, Speaks, Team};
use crate::prim::{AtomicU64, Ordering};
use crate::runtime;
use crate::services::{Alone, Mpi, MpiPlan, Served};
use crate::sys;

/// Variables and descriptors for one process.
pub(super) type Outfit = (Vec<(OsString, OsString)>, Vec<(Arc<OwnedFd>, i32)>);

/// The ranks of a group that runs.
pub(super) struct Ranks {
    outfits: HashMap<usize, Outfit>,
    /// The member that each rank is.
    members: Vec<usize>,
    /// Who called `MPI_Abort`, and the code.
    aborted: Option<(usize, i32)>,
    /// They are served as long as this lives.
    _served: Served,
}

impl Ranks {
    /// Serves the members that speak MPI, on the nodes named; `None` if there are none.
    pub(super) fn open(group: &Arc<Inner>, speaks: &[Speaks], nodes: &[NodeNumber]) -> Result<Option<Ranks>> {
        let members: Vec<usize> = (0..speaks.len()).filter(|member| speaks[*member].anything()).collect();
        if members.is_empty() {
            return Ok(None);
        }
        let on: Vec<NodeNumber> = members.iter().map(|member| nodes[*member]).collect();
        let team = Team::new(name(), &on);
        let all = members.iter().map(|member| speaks[*member]).fold(Speaks::default(), Speaks::and);
        let plan = MpiPlan {
            team,
            place: 0,
            hosts: vec![runtime::host_name()],
            speaks: all,
            exchange: Arc::new(Alone::default()),
            ends: group.conductor.endings.clone(),
            key: group.conductor.key(group, 0, 0),
        };
        let (served, billets) = Mpi::here()?.open(plan)?;
        let outfit = |billet: crate::services::Billet| {
            let env = billet.environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let descriptors = billet.descriptor.into_iter().map(|its| (Arc::new(its), RANKS_DESCRIPTOR)).collect();
            (members[billet.rank as usize], (env, descriptors))
        };
        let outfits = billets.into_iter().map(outfit).collect();
        Ok(Some(Ranks { outfits, members, aborted: None, _served: served }))
    }

    /// What a member is started with, once: our copy of its end of the socket must go.
    pub(super) fn take(&mut self, member: usize) -> Outfit {
        self.outfits.remove(&member).unwrap_or_default()
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

/// A name that no other team of the job has.
fn name() -> String {
    static TEAMS: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only that each has another number matters.
    let number = TEAMS.fetch_add(1, Ordering::Relaxed);
    let host: String = runtime::host_name().chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!("dragon-{host}-{}-{number}", sys::process::id())
}
