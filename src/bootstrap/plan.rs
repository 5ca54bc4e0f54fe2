//! How this process will find the others: a value that [`detect`](super::detect) makes and [`join`](super::join) follows.

use std::path::PathBuf;

/// Who started the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launcher {
    /// Nobody: the process is alone.
    Single,
    /// The user, who says where to meet.
    Rendezvous,
    /// A process manager that speaks PMI-1: MPICH, Intel MPI, MVAPICH, Flux.
    Pmi,
    /// `srun`.
    Slurm,
    /// A process manager that speaks PMIx: Open MPI, PRRTE, `jsrun`.
    Pmix,
    /// Cray PALS.
    Pals,
    /// `torchrun`, or a script that sets the same variables.
    Env,
    /// A Kubernetes indexed Job.
    Kubernetes,
}

impl Launcher {
    /// All, and what `DRAGON_BOOTSTRAP` calls them.
    pub(super) const ALL: &[(&str, Launcher)] = &[
        ("single", Launcher::Single),
        ("rendezvous", Launcher::Rendezvous),
        ("pmi", Launcher::Pmi),
        ("slurm", Launcher::Slurm),
        ("pmix", Launcher::Pmix),
        ("pals", Launcher::Pals),
        ("env", Launcher::Env),
        ("kubernetes", Launcher::Kubernetes),
    ];

    /// What `DRAGON_BOOTSTRAP` calls it.
    pub(crate) fn name(self) -> &'static str {
        Launcher::ALL.iter().find(|(_, launcher)| *launcher == self).map_or("?", |(name, _)| name)
    }
}

/// How to reach the process manager that speaks PMI-1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PmiDoor {
    /// A socket that it left open for us.
    Descriptor(i32),
    /// A port, and the number under which it knows us.
    Port {
        /// `host:port`
        address: String,
        /// `PMI_ID`
        id: u32,
    },
}

/// How to find rank 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// There is nobody to find.
    Alone,
    /// It listens where the user says.
    Fixed {
        /// Name or number.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The machine is known; rank 0 takes the first of these ports that is free.
    Derived {
        /// Name or number.
        host: String,
        /// To be tried in this order.
        ports: Vec<u16>,
    },
    /// All ranks are on this machine: a local socket named after the job.
    Local,
    /// Rank 0 leaves its address with the PMI-1 process manager.
    Pmi(PmiDoor),
    /// Rank 0 leaves its address with the PMIx server.
    Pmix,
    /// Rank 0 leaves its address in a folder that all can see.
    Folder(PathBuf),
}

impl Plan {
    /// Whether there is nobody to meet.
    pub(crate) fn is_alone(&self) -> bool {
        self.channel == Channel::Alone
    }
}

/// What the environment says about this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Who started it.
    pub(crate) launcher: Launcher,
    /// Its rank; `None` if ranks are given by the order of arrival, or the process manager is still to be asked.
    pub(crate) rank: Option<u32>,
    /// How many ranks there are; `None` if the process manager is still to be asked.
    pub(crate) size: Option<u32>,
    /// A name that all ranks of this start have in common, and no other job at this time.
    pub(crate) job: String,
    /// How to find rank 0.
    pub(crate) channel: Channel,
    /// `DRAGON_NODE_ID`: ranks where this differs share no memory, even where they could.
    pub(crate) node_id: Option<String>,
}
