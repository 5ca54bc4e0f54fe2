//! A crew of ranks: each is this test binary again, asked for the one test `rank`, and leaves a report in a folder.

use std::{
    collections::HashMap,
    ffi::c_void,
    fs,
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::bootstrap::message::{decode, encode};
use crate::bootstrap::secret::hex;
use crate::bootstrap::{BootstrapError, JoinConfig, NodeShare, Process, World, detect, join, share};
use crate::sys::process;
use crate::sys::rendezvous::{self, For};
use crate::sys::shm;
use crate::time::Deadline;

/// Where ranks leave their reports.
pub(super) const REPORTS: &str = "DRAGON_TEST_REPORTS";
/// What a rank does that is not as it should be.
pub(super) const FAULT: &str = "DRAGON_TEST_FAULT";

/// The MPI library that a rank uses when it has joined.
pub(super) const MPI: &str = "DRAGON_TEST_MPI";

/// What a rank has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) launcher: String,
    pub(super) rank: u32,
    pub(super) size: u32,
    pub(super) job: String,
    pub(super) secret: String,
    pub(super) cards: Vec<String>,
    pub(super) nodes: Vec<u32>,
    pub(super) node_ranks: Vec<u32>,
    pub(super) slot: u32,
    /// Who has written into the memory of the node.
    pub(super) memory: Vec<u8>,
    pub(super) host: String,
}

pub(super) type Outcome = Result<Report, String>;

/// The arguments that make the test binary a rank.
pub(super) const ARGUMENTS: [&str; 5] =
    ["--exact", "bootstrap::tests::crew::rank", "--ignored", "--test-threads=1", "--quiet"];

pub(super) fn binary() -> PathBuf {
    std::env::current_exe().unwrap()
}

#[test]
#[ignore = "the body of the ranks of other tests"]
fn rank() {
    let Ok(folder) = std::env::var(REPORTS) else { return };
    let outcome = be_a_rank().map_err(|error| error.to_string());
    let place = Path::new(&folder).join(format!("{}-{}", std::process::id(), process::host_name()));
    let unfinished = place.with_extension("part");
    fs::write(&unfinished, encode(&outcome)).unwrap();
    fs::rename(unfinished, place).unwrap();
}

fn be_a_rank() -> Result<Report, BootstrapError> {
    let environment = Process { is_worker: false };
    let fault = std::env::var(FAULT).unwrap_or_default();
    let plan = detect(&environment)?;
    let build = if fault == "build" { b"another".to_vec() } else { b"this".to_vec() };
    let config = JoinConfig::read(&environment, build)?;
    let mut world = join(&plan, &config, format!("card of {}", std::process::id()).as_bytes())?;
    match fault.as_str() {
        "die" => std::process::exit(3),
        "mpi" => assert_eq!(mpi_size(&std::env::var(MPI).unwrap()), world.size as i32),
        _ => {}
    }
    live(&mut world, &fault, plan.launcher.name()).and_then(|report| world.finish().map(|()| report))
}

/// As a program does that uses both: MPI must come up as if we were not there. How many ranks it finds.
fn mpi_size(library: &str) -> i32 {
    type Init = unsafe extern "C" fn(*mut i32, *mut c_void) -> i32;
    type Size = unsafe extern "C" fn(usize, *mut i32) -> i32;
    type Finalize = unsafe extern "C" fn() -> i32;
    let flags = libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_GLOBAL;
    let mut size = 0;
    // SAFETY: this is an MPI library, whose functions have these types in all C bindings. Its name for all ranks is a number
    // in one and the address of a variable in the other.
    unsafe {
        let library = libloading::os::unix::Library::open(Some(library), flags).unwrap();
        let of_open_mpi = library.get::<*mut c_void>(c"ompi_mpi_comm_world");
        let world = of_open_mpi.map_or(0x4400_0000, |variable| variable.into_raw() as usize);
        assert_eq!(library.get::<Init>(c"MPI_Init").unwrap()(std::ptr::null_mut(), std::ptr::null_mut()), 0);
        assert_eq!(library.get::<Size>(c"MPI_Comm_size").unwrap()(world, &mut size), 0);
        assert_eq!(library.get::<Finalize>(c"MPI_Finalize").unwrap()(), 0);
        std::mem::forget(library);
    }
    size
}

fn live(world: &mut World, fault: &str, launcher: &str) -> Result<Report, BootstrapError> {
    let mut memory = None;
    let make = || {
        if fault == "make" {
            return Err("there is no memory".to_string());
        }
        let file = shm::memory_file("test", false).unwrap();
        shm::set_len(&file, 4096).unwrap();
        memory = Some(file.try_clone().unwrap());
        Ok(file)
    };
    let mut next = 0;
    let admit = |_| {
        next += 1;
        if fault == "admit" { Err("the house is full".to_string()) } else { Ok(next) }
    };
    let (file, slot) = match share(world, make, admit)? {
        NodeShare::Head { members } => {
            let mut theirs: Vec<u32> = members.iter().map(|member| member.rank).collect();
            theirs.sort_unstable();
            assert_eq!(theirs, world.node.ranks[1..], "the head has let in just its node");
            (memory.unwrap(), 0)
        }
        NodeShare::Member { head, file, slot, .. } => {
            assert_eq!(head, world.node.ranks[0]);
            (file, slot)
        }
    };
    let file = fs::File::from(file);
    file.write_at(&[world.rank as u8 + 1], u64::from(world.rank)).unwrap();
    world.barrier()?;
    let mut memory = vec![0; world.size as usize];
    file.read_exact_at(&mut memory, 0).unwrap();
    let echo = world.allgather(&world.rank.to_le_bytes())?;
    assert!((0..world.size).zip(&echo).all(|(rank, said)| rank.to_le_bytes() == said[..]));
    Ok(Report {
        launcher: launcher.into(),
        rank: world.rank,
        size: world.size,
        job: hex(&world.job),
        secret: hex(&world.secret),
        cards: world.cards.iter().map(|card| String::from_utf8_lossy(card).into_owned()).collect(),
        nodes: world.nodes.clone(),
        node_ranks: world.node.ranks.clone(),
        slot,
        memory,
        host: process::host_name(),
    })
}

/// Ranks that a test starts by itself.
pub(super) struct Crew {
    pub(super) folder: tempfile::TempDir,
    children: Vec<Child>,
}

/// The variables of launchers must not reach a test's own ranks; the test may itself run under one.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if crate::bootstrap::makes_a_rank(&name) || name.starts_with("DRAGON_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

impl Crew {
    pub(super) fn new() -> Crew {
        Crew { folder: tempfile::tempdir().unwrap(), children: Vec::new() }
    }

    /// Starts one rank with these variables.
    pub(super) fn start(&mut self, variables: &[(&str, &str)]) -> &mut Child {
        let mut rank = command(&binary());
        rank.args(ARGUMENTS).env(REPORTS, self.folder.path()).env("HOME", self.folder.path());
        rank.env("DRAGON_START_TIMEOUT", "20").stdout(Stdio::null());
        rank.envs(variables.iter().copied());
        self.children.push(rank.spawn().unwrap());
        self.children.last_mut().unwrap()
    }

    /// Takes in one that somebody else has started.
    pub(super) fn adopt(&mut self, rank: Child) {
        self.children.push(rank);
    }

    /// Waits until the first of them has ended, however it did.
    pub(super) fn until_one_has_ended(&self) {
        let ends: Vec<_> = self.children.iter().map(|child| process::pidfd(child.id()).unwrap()).collect();
        let watched: Vec<_> = ends.iter().map(|end| (end.as_fd(), For::Reading)).collect();
        rendezvous::ready(&watched, Deadline::after(Duration::from_secs(30))).unwrap();
    }

    /// What they have to say when all have ended.
    pub(super) fn reports(&mut self, patience: Duration) -> Vec<Outcome> {
        let deadline = Deadline::after(patience);
        for child in &mut self.children {
            end(child, deadline);
        }
        read_reports(self.folder.path())
    }
}

/// Waits for the end of a process, and makes it end when the time is up.
pub(super) fn end(child: &mut Child, deadline: Deadline) {
    let pidfd = process::pidfd(child.id()).unwrap();
    if !rendezvous::ready(&[(pidfd.as_fd(), For::Reading)], deadline).unwrap()[0] {
        child.kill().unwrap();
    }
    child.wait().unwrap();
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// All reports of a folder, by rank; failures at the end.
pub(super) fn read_reports(folder: &Path) -> Vec<Outcome> {
    let files = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file());
    let mut found: Vec<Outcome> = files.map(|entry| decode(&fs::read(entry.path()).unwrap()).unwrap()).collect();
    found.sort_by_key(|outcome| outcome.as_ref().map_or(u32::MAX, |report| report.rank));
    found
}

/// The reports of so many ranks that all went well and agree.
pub(super) fn agreeing(outcomes: Vec<Outcome>, size: u32) -> Vec<Report> {
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty() && outcomes.len() == size as usize, "{} reports; failed: {failed:#?}", outcomes.len());
    let reports: Vec<Report> = outcomes.into_iter().flatten().collect();
    for (rank, report) in (0..).zip(&reports) {
        assert_eq!((report.rank, report.size), (rank, size));
        let first = &reports[0];
        assert_eq!((&report.job, &report.secret, &report.cards), (&first.job, &first.secret, &first.cards));
        assert_eq!(report.nodes, first.nodes);
        let mine = report.nodes[rank as usize];
        let domain: Vec<u32> = (0..size).filter(|other| report.nodes[*other as usize] == mine).collect();
        assert_eq!(report.node_ranks, domain);
        let written = (0..size).map(|other| if domain.contains(&other) { other as u8 + 1 } else { 0 });
        assert_eq!(report.memory, written.collect::<Vec<_>>(), "one memory for the node and no other");
    }
    let slots = reports.iter().map(|report| ((report.nodes[report.rank as usize], report.slot), report.rank));
    assert_eq!(slots.collect::<HashMap<_, _>>().len(), reports.len(), "every slot once: {reports:?}");
    reports
}
