//! Which protocol a program wants, by what it links to: a wrong one makes as many programs of one rank, in silence.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use crate::sys::elf::{self, Program};

/// How the processes of a group become ranks of one MPI program, without `mpiexec`.
///
/// `Auto` looks at what a program links to, itself or by its libraries: MPICH and what is like it (Intel MPI, MVAPICH) get
/// PMI-1, Open MPI gets PMIx. A script, an interpreter or a shell may start either, and gets both. Any other program, and
/// a function, gets nothing and is no rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Pmi {
    /// By what the program links to.
    Auto,
    /// The processes are no ranks of anything.
    #[default]
    None,
    /// Version 1 of MPICH's protocol.
    Pmi1,
    /// Version 2 of it.
    Pmi2,
    /// PMIx, by the library `libpmix.so.2` of this machine (`DRAGON_LIBPMIX` names another).
    Pmix,
}

/// What a process is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Speaks {
    /// PMI on wires of our own: which version.
    pub(crate) pmi: Option<u8>,
    pub(crate) pmix: bool,
    /// It goes without PMIx where there is none.
    pub(crate) without_pmix: bool,
}

impl Speaks {
    /// Whether there is anything to be served.
    pub(crate) fn anything(self) -> bool {
        self.pmi.is_some() || self.pmix
    }

    /// What serves both.
    pub(crate) fn and(self, other: Speaks) -> Speaks {
        let must_have_pmix = |speaks: Speaks| speaks.pmix && !speaks.without_pmix;
        Speaks {
            pmi: self.pmi.max(other.pmi),
            pmix: self.pmix || other.pmix,
            without_pmix: !must_have_pmix(self) && !must_have_pmix(other),
        }
    }
}

/// Programs that run other programs, which may be MPI's. They link to none of it.
const STARTERS: &[&str] = &[
    "bash",
    "dash",
    "sh",
    "zsh",
    "ksh",
    "csh",
    "tcsh",
    "fish",
    "busybox",
    "env",
    "nice",
    "time",
    "timeout",
    "taskset",
    "numactl",
    "stdbuf",
    "setsid",
    "nohup",
    "chrt",
    "strace",
    "ltrace",
    "gdb",
    "valgrind",
    "perf",
    "java",
    "julia",
    "node",
    "perl",
    "ruby",
    "Rscript",
    "R",
    "lua",
    "apptainer",
    "singularity",
    "unshare",
    "nsenter",
    "chroot",
    "sudo",
];

/// What this program is to be given. `program` is its file; `library_path` the `LD_LIBRARY_PATH` it will have.
pub(crate) fn choose(pmi: Pmi, program: &Path, library_path: &OsStr) -> Speaks {
    match pmi {
        Pmi::None => Speaks::default(),
        Pmi::Pmi1 => Speaks { pmi: Some(1), ..Speaks::default() },
        Pmi::Pmi2 => Speaks { pmi: Some(2), ..Speaks::default() },
        Pmi::Pmix => Speaks { pmix: true, ..Speaks::default() },
        Pmi::Auto => {
            let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
            // What cannot be looked at cannot be started either, and whoever starts it says why.
            let found = elf::look_at(program, library_path).unwrap_or(Program::Unknown);
            by_look(name, &found)
        }
    }
}

pub(super) fn by_look(name: &str, found: &Program) -> Speaks {
    const PMI1: Speaks = Speaks { pmi: Some(1), pmix: false, without_pmix: false };
    const PMIX: Speaks = Speaks { pmi: None, pmix: true, without_pmix: false };
    const BOTH: Speaks = Speaks { pmi: Some(1), pmix: true, without_pmix: true };
    match found {
        Program::Script => BOTH,
        Program::Unknown => Speaks::default(),
        Program::Image(libraries) => match family(libraries) {
            Some(Family::Mpich) => PMI1,
            Some(Family::OpenMpi) => PMIX,
            Some(Family::Either) => BOTH,
            None if starts_others(name) => BOTH,
            None => Speaks::default(),
        },
    }
}

fn starts_others(name: &str) -> bool {
    STARTERS.contains(&name) || name.starts_with("python") || name.starts_with("pypy")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Mpich,
    OpenMpi,
    /// The interface that all MPI libraries share, with none of them behind it yet.
    Either,
}

/// Whose library it is. Open MPI and MPICH both have had a `libmpi.so.12`, so the libraries behind it come first.
fn family(libraries: &BTreeSet<String>) -> Option<Family> {
    let any = |begin: &[&str]| libraries.iter().any(|name| begin.iter().any(|begin| name.starts_with(begin)));
    let of_open_mpi = |name: &String| {
        let version = name.strip_prefix("libmpi.so.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        version.is_some_and(|version| version >= 20)
    };
    if any(&["libopen-pal.", "libopen-rte.", "liboshmem.", "libmpi_mpifh."]) || libraries.iter().any(of_open_mpi) {
        Some(Family::OpenMpi)
    } else if any(&["libmpich", "libmpi.so.", "libmpicxx.", "libmpifort.", "libmpi_cray."]) {
        Some(Family::Mpich)
    } else {
        any(&["libmpi_abi.", "libmpi.so"]).then_some(Family::Either)
    }
}
