//! Competitors that are programs of their own: run in the same bench, if they are there.
//!
//! `BENCH_DRAGONHPC` names the `dragon` command of a DragonHPC installation, `BENCH_PEERS` the folder that
//! `benches/peers/build.sh` has built programs into (see benches/README.md).

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// What a variable says, if it says anything.
fn named(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

/// A DragonHPC installation.
pub struct DragonHpc {
    launcher: PathBuf,
}

impl DragonHpc {
    /// The one that the environment names.
    pub fn find() -> Option<DragonHpc> {
        let launcher = PathBuf::from(named("BENCH_DRAGONHPC")?);
        Some(DragonHpc { launcher })
    }

    /// Runs its program for one figure of its pool. Its start-up is not in the figure.
    pub fn figure(&self, name: &str) -> f64 {
        self.figure_of("dragon_pool.py", name)
    }

    /// Runs one of its programs for one figure. Its start-up is not in the figure.
    pub fn figure_of(&self, program: &str, name: &str) -> f64 {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let mut command = Command::new(&self.launcher);
        command.args(["-s", program, name]).current_dir(folder);
        // It finds its Python and its tools beside itself.
        let beside = self.launcher.parent().map(Path::to_path_buf);
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(beside.into_iter().chain(env::split_paths(&path))).expect("PATH was a path");
        command.env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1").stderr(Stdio::null());
        let output = command.output().expect("BENCH_DRAGONHPC names a program");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures: BTreeMap<_, _> = printed.lines().filter_map(parse).collect();
        *figures.get(name).unwrap_or_else(|| panic!("DragonHPC said nothing about {name}: {printed}"))
    }
}

fn parse(line: &str) -> Option<(&str, f64)> {
    let mut fields = line.split('\t');
    Some((fields.next()?, fields.next()?.parse().ok()?))
}

/// Queues of other people, in the folder that `BENCH_PEERS` names.
pub struct Peers {
    folder: PathBuf,
    known: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// A peer by its name in tables, and how it is started.
const PEERS: &[(&str, &str, &[&str])] = &[
    ("Open MPI, UCX", "mpi.openmpi", OPENMPI_UCX),
    ("MPICH", "mpi.mpich", &["mpirun.mpich", "-bind-to", "core", "-np", "2"]),
    ("iceoryx2", "peers", &["", "iceoryx2"]),
    ("ipc-channel", "peers", &["", "ipc-channel"]),
    ("ZeroMQ", "peers", &["", "zeromq"]),
];

/// The same over tcp, as between two nodes.
const TCP_PEERS: &[(&str, &str, &[&str])] = &[
    ("Open MPI, tcp", "mpi.openmpi", OPENMPI_TCP),
    ("MPICH, tcp by UCX", "mpi.mpich", MPICH_TCP),
    ("ZeroMQ, tcp", "peers", &["", "zeromq-tcp"]),
];

const OPENMPI_TCP: &[&str] =
    &["mpirun.openmpi", "--bind-to", "core", "-np", "2", "--mca", "pml", "ob1", "--mca", "btl", "tcp,self"];

/// No shared memory between the two, so that UCX takes its tcp.
const MPICH_TCP: &[&str] = &[
    "mpirun.mpich",
    "-bind-to",
    "core",
    "-np",
    "2",
    "-genv",
    "UCX_TLS",
    "tcp,self",
    "-genv",
    "UCX_NET_DEVICES",
    "lo",
    "-genv",
    "MPIR_CVAR_NOLOCAL",
    "1",
];

/// Shared memory only, by UCX, as is quickest on one node.
const OPENMPI_UCX: &[&str] = &[
    "mpirun.openmpi",
    "--bind-to",
    "core",
    "-np",
    "2",
    "--mca",
    "pml",
    "ucx",
    "-x",
    "UCX_TLS=posix,sysv,cma,self",
    "--mca",
    "pml_ucx_tls",
    "any",
    "--mca",
    "pml_ucx_devices",
    "any",
];

impl Peers {
    /// Those that were built; says so if there are none.
    pub fn find() -> Option<Peers> {
        Peers::of(PEERS)
    }

    /// Those that were built, over tcp.
    pub fn find_tcp() -> Option<Peers> {
        Peers::of(TCP_PEERS)
    }

    /// A program of this folder, if it is there.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.join(name)).filter(|program| program.exists())
    }

    fn of(known: &'static [(&'static str, &'static str, &'static [&'static str])]) -> Option<Peers> {
        let folder = named("BENCH_PEERS").map(PathBuf::from);
        if folder.is_none() {
            println!("  peers:   skipped: BENCH_PEERS names no folder with them (benches/README.md)");
        }
        folder.map(|folder| Peers { folder, known })
    }

    /// The peers that give this figure, by name.
    pub fn names(&self) -> Vec<&'static str> {
        let there = |(name, program, _): &(&'static str, &str, &[&str])| {
            let built = self.folder.join(program).exists();
            (built && self.figure(name, "latency", 8, 10).is_some()).then_some(*name)
        };
        self.known.iter().filter_map(there).collect()
    }

    /// Runs a peer: nanoseconds of a round trip for `latency`, millions of messages a second for `rate`.
    pub fn figure(&self, name: &str, what: &str, bytes: usize, count: u64) -> Option<f64> {
        let output = self.command(name, what, bytes, count)?.output().ok()?;
        figure_in(&output.stdout)
    }

    /// Runs so many of a peer at the same time; the sum of their figures.
    pub fn figure_of_several(&self, several: usize, name: &str, what: &str, bytes: usize, count: u64) -> Option<f64> {
        let start = |_| self.command(name, what, bytes, count)?.stdout(Stdio::piped()).spawn().ok();
        let running: Vec<_> = (0..several).map(start).collect::<Option<_>>()?;
        let end = |child: Child| figure_in(&child.wait_with_output().ok()?.stdout);
        running.into_iter().map(end).sum()
    }

    fn command(&self, name: &str, what: &str, bytes: usize, count: u64) -> Option<Command> {
        let (_, program, words) = self.known.iter().find(|(known, ..)| *known == name)?;
        let binary = self.folder.join(program);
        let mut command = match words[0] {
            "" => Command::new(binary),
            launcher => Command::new(launcher),
        };
        command.args(&words[1..]);
        if !words[0].is_empty() {
            command.arg(self.folder.join(self.known.iter().find(|(known, ..)| *known == name)?.1));
        }
        command.args([what, &bytes.to_string(), &count.to_string()]).stderr(Stdio::null());
        // In a container everybody is root.
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
        Some(command)
    }
}

fn figure_in(printed: &[u8]) -> Option<f64> {
    let printed = String::from_utf8_lossy(printed);
    printed.lines().find_map(|line| line.strip_prefix("figure\t")?.trim().parse().ok())
}
