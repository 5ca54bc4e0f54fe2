//! Kills a process at every marked point of calls between the nodes of a dictionary, and looks at what is left.
//!
//! Each mark is armed in a job of its own, in one rank or its worker, while all put, get, remove and write batches. What each
//! was answered is noted in a file, so that the others know what must be there: with replicas all of it, without those what is
//! not on the lost node. Nobody hangs, no value is torn, nothing is older than what was answered.
//!
//! Needs `--features failpoints`.
#![cfg(feature = "failpoints")]

mod common;
#[path = "crash/steps.rs"]
mod steps;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::shared::share;
use common::until::until;
use common::{LONG, start_with, text};
use dragon::sync::Barrier;
use dragon::{DDict, Error, ErrorKind, Event, Events, Pool, Runtime};
use steps::{KEYS, Shared, Steps, key};

const ROUNDS: usize = 25;
/// Often enough for marks that only a race leads to.
const TRIES: usize = 12;
/// Who writes beside the ranks, whose numbers are theirs.
const WORKER: usize = 8;
const WRITERS: [usize; 5] = [0, 1, 2, 3, WORKER];

/// A job in which somebody is killed at a mark.
struct World {
    part: &'static str,
    nodes: &'static [u32],
    /// Ranks that do not end well; the last of them is armed. None: a worker of rank 1 is.
    dead: &'static [usize],
}

const PLAIN: World = World { part: "plain", nodes: &[0, 1, 2], dead: &[1] };
const COPIES: World = World { part: "copies", nodes: &[0, 1, 2], dead: &[1] };
/// Rank 1 dies first, and whoever acts for it, or gets a copy, is killed.
const AGAIN: World = World { part: "again", nodes: &[0, 1, 2, 3], dead: &[1, 2] };
const WORKER_PLAIN: World = World { part: "worker", nodes: &[0, 1, 2], dead: &[] };
const WORKER_COPIES: World = World { part: "worker with copies", nodes: &[0, 1, 2], dead: &[] };

/// In which a mark is passed.
fn worlds(mark: &str) -> Vec<&'static World> {
    let of: [(&str, &[&'static World]); 9] = [
        ("far.call.sent", &[&PLAIN, &COPIES]),
        ("far.call.", &[&WORKER_PLAIN, &WORKER_COPIES]),
        ("far.batch.", &[&WORKER_PLAIN, &WORKER_COPIES]),
        ("far.home.", &[&PLAIN]),
        ("far.act.", &[&COPIES]),
        ("far.copy.", &[&COPIES]),
        ("far.spread.", &[&COPIES]),
        ("far.lost.", &[&AGAIN]),
        ("far.fill.", &[&AGAIN]),
    ];
    let found = of.iter().find(|(begins, _)| mark.starts_with(begins));
    found.unwrap_or_else(|| panic!("in which world is {mark} passed?")).1.to_vec()
}

fn marks() -> BTreeSet<String> {
    fn search(folder: &Path, found: &mut BTreeSet<String>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                search(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            let names = text.split("mark!(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_string());
            found.extend(names.filter(|name| name.starts_with("far.")));
        }
    }
    let mut found = BTreeSet::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() >= 20, "where are the marks? {found:?}");
    found
}

#[test]
fn a_process_that_is_killed_at_any_marked_point_of_a_call_between_nodes_takes_no_answered_write_with_it() {
    // A rank of a job runs the other test only.
    let mut all = marks();
    // One alone, to look for what goes wrong there.
    if let Ok(only) = std::env::var("DRAGON_TEST_MARK") {
        all.retain(|mark| *mark == only);
    }
    let mut missed = Vec::new();
    for mark in &all {
        for world in worlds(mark) {
            // Once somewhere in the midst, then as early as it can be.
            let counts = std::iter::once(if world.part == "again" { 1 } else { 9 }).chain(std::iter::repeat(1));
            if !counts.take(TRIES).any(|count| is_reached(world, mark, count)) {
                missed.push((mark, world.part));
            }
        }
    }
    assert!(missed.is_empty(), "marks that nobody ever came past: {missed:?}");
    println!("{} marks, each killed at", all.len());
}

/// Runs a job. Whether somebody was killed at the mark.
fn is_reached(world: &World, mark: &str, count: u64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let variables = |_| vec![("FOLDER", at.to_string()), ("MARK", mark.to_string()), ("COUNT", count.to_string())];
    let outputs = start_with(world.part, world.nodes, variables).outputs();
    let killed = |output: &Output| output.status.signal() == Some(libc::SIGKILL);
    let said = || outputs.iter().map(text).collect::<Vec<_>>().join("\n---- next rank:\n");
    let reached = match world.dead.last() {
        Some(victim) => killed(&outputs[*victim]),
        None => folder.path().join("killed").exists(),
    };
    for (rank, output) in outputs.iter().enumerate() {
        let first = world.dead.len() > 1 && rank == world.dead[0];
        let dies = first || reached && world.dead.contains(&rank);
        let what = format!("{mark}, time {count}, {}: rank {rank}", world.part);
        assert!(output.status.success() != dies, "{what}\n{}", said());
    }
    reached
}

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    Rank::begin(&part).live();
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

struct Rank {
    dragon: Runtime,
    part: String,
    folder: PathBuf,
    /// Nodes that are lost, as this rank has heard.
    lost: RefCell<BTreeSet<u32>>,
    events: Events,
}

impl Rank {
    fn begin(part: &str) -> Rank {
        let dragon = dragon::init().unwrap();
        let events = dragon.events();
        Rank { dragon, part: part.into(), folder: variable("FOLDER").into(), lost: RefCell::default(), events }
    }

    fn has_copies(&self) -> bool {
        self.part.contains("copies") || self.part == "again"
    }

    fn live(self) {
        let (rank, size) = (self.dragon.rank(), self.dragon.size());
        let replicas = u32::from(self.has_copies());
        let (dict, all) = share(&self.dragon, || {
            let dict = DDict::builder().memory_per_node(16 << 20).managers_per_node(2).replicas(replicas).build();
            (dict.unwrap(), Barrier::new(size).unwrap())
        });
        let steps = Steps::open(&self.folder, rank);
        steps.round(&dict, &|key, error| panic!("key {key}: {error}"));
        all.wait().unwrap();
        let victim = if self.part == "again" { 2 } else { 1 };
        if rank == victim && self.part.starts_with("worker") {
            self.lose_a_worker(&dict);
        } else if rank == victim {
            dragon::failpoint::arm(&variable("MARK"), variable("COUNT").parse().unwrap());
        }
        for round in 0..ROUNDS {
            if self.part == "again" && rank == 1 && round == 3 {
                std::process::abort();
            }
            steps.round(&dict, &|key, error| self.excuse(&dict, key, error));
        }
        // Whoever was not killed lives.
        dragon::failpoint::arm("", 1);
        self.done("written");
        self.look_at_all(&dict);
        steps.round(&dict, &|key, error| self.excuse(&dict, key, error));
        self.done("looked");
        drop(dict);
        let ended = self.dragon.finalize();
        let lost = self.lost.into_inner();
        assert_eq!(ended.err().map(|error| error.kind()), (!lost.is_empty()).then_some(ErrorKind::NodeLost));
    }

    /// A worker that is armed does what ranks do.
    fn lose_a_worker(&self, dict: &Shared) {
        let pool = Pool::new(1).unwrap();
        let task = (variable("MARK"), variable("COUNT").parse().unwrap(), dict.clone(), variable("FOLDER"));
        match pool.submit(armed, task).unwrap().get_timeout(LONG) {
            Ok(()) => {}
            Err(error) => {
                assert!(error.kind() == ErrorKind::WorkerLost && error.to_string().contains("SIGKILL"), "{error}");
                std::fs::write(self.folder.join("killed"), "").unwrap();
            }
        }
    }

    /// Whether a key's manager was made on this node.
    fn is_of(dict: &Shared, key: u64, node: u32) -> bool {
        dict.manager_node(dict.which_manager(&key).unwrap()).unwrap().number() == node
    }

    /// Which errors may be: without replicas of what was on the lost node, with replicas of who was asked when that died, and of
    /// what lost its second copy before there was a third.
    fn excuse(&self, dict: &Shared, key: u64, error: &Error) {
        let may = match error.kind() {
            ErrorKind::ManagerLost if self.part == "plain" || self.part == "again" => Rank::is_of(dict, key, 1),
            ErrorKind::NodeLost => self.part == "copies" || self.part == "again",
            _ => false,
        };
        assert!(may, "{}: key {key}: {error}", self.part);
    }

    /// Says that it is so far, and waits until all are or are lost.
    fn done(&self, what: &str) {
        let file = |rank: usize| self.folder.join(format!("{what} {rank}"));
        std::fs::write(file(self.dragon.rank()), "").unwrap();
        until(what, || {
            for event in std::iter::from_fn(|| self.events.try_next()) {
                if let Event::NodeLost { node, .. } = event {
                    self.lost.borrow_mut().insert(node.number());
                }
            }
            let lost = self.lost.borrow();
            (0..self.dragon.size()).all(|rank| file(rank).exists() || lost.contains(&(rank as u32)))
        });
    }

    /// Nobody writes now.
    fn look_at_all(&self, dict: &Shared) {
        let lost = self.lost.borrow().clone();
        let (mut there, mut gone) = (0, 0);
        for who in WRITERS {
            let steps = Steps::open(&self.folder, who);
            for n in 0..KEYS {
                let key = key(who, n);
                match dict.try_get(&key) {
                    Ok(found) => {
                        steps.check(n, found.as_deref(), "in the end");
                        there += usize::from(found.is_some());
                        let plainly_lost = self.part == "plain" && lost.contains(&1) && Rank::is_of(dict, key, 1);
                        assert!(!plainly_lost, "key {key} is there without its node");
                    }
                    Err(error) => {
                        assert!(self.part != "copies" && error.kind() == ErrorKind::ManagerLost, "{key}: {error}");
                        self.excuse(dict, key, &error);
                        gone += 1;
                    }
                }
            }
        }
        self.done("counted");
        if gone > 0 {
            assert_eq!(dict.len().unwrap_err().kind(), ErrorKind::ManagerLost);
        } else {
            assert_eq!((dict.len().unwrap(), dict.keys().unwrap().len()), (there as u64, there));
        }
        self.done("listed");
    }
}

fn armed((mark, count, dict, folder): (String, u64, Shared, String)) {
    dragon::failpoint::arm(&mark, count);
    let steps = Steps::open(Path::new(&folder), WORKER);
    (0..ROUNDS).for_each(|_| steps.round(&dict, &|key, error| panic!("key {key}: {error}")));
}
