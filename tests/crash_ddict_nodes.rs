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
use dragon::{DDict, Error, ErrorKind, Event, Events, Persist, Pool, Runtime};
use steps::{KEYS, Shared, Steps, key};

const ROUNDS: usize = 25;
const FEW_ROUNDS: usize = 8;
/// Dictionaries that are made and opened.
const DICTS: usize = 4;
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

/// Checkpoints advance and are stored.
const STEPS: World = World { part: "steps with copies", nodes: &[0, 1, 2], dead: &[1] };
const RESTORE: World = World { part: "restore copies", nodes: &[0, 1, 2], dead: &[1] };
const WORKER_RESTORE: World = World { part: "restore copies by worker", nodes: &[0, 1, 2], dead: &[] };
/// Dictionaries are made and opened.
const OPEN: World = World { part: "open", nodes: &[0, 1, 2], dead: &[1] };
const OPEN_COPIES: World = World { part: "open with copies", nodes: &[0, 1, 2], dead: &[1] };

/// In which a mark is passed.
fn worlds(mark: &str) -> Vec<&'static World> {
    let of: [(&str, &[&'static World]); 14] = [
        ("far.call.sent", &[&PLAIN, &COPIES]),
        ("far.call.", &[&WORKER_PLAIN, &WORKER_COPIES]),
        ("far.batch.", &[&WORKER_PLAIN, &WORKER_COPIES]),
        ("far.home.", &[&PLAIN]),
        ("far.act.", &[&COPIES]),
        ("far.copy.", &[&COPIES]),
        ("far.spread.", &[&COPIES]),
        ("far.lost.", &[&AGAIN]),
        ("far.fill.", &[&AGAIN]),
        ("far.step.", &[&STEPS]),
        ("far.store.", &[&STEPS]),
        ("far.restore.", &[&RESTORE]),
        ("far.restorer.", &[&WORKER_RESTORE]),
        ("far.open.", &[&OPEN, &OPEN_COPIES]),
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
            let opens = world.part.starts_with("open");
            let first = if world.part == "again" { 1 } else { 9 };
            let mut counts = std::iter::once(first).chain(std::iter::repeat(1)).take(TRIES);
            // A part is made, and then opened by two others; both is cut off.
            let reached = match opens {
                true => [1, 2, 5].iter().all(|count| is_reached(world, mark, *count)),
                false => counts.any(|count| is_reached(world, mark, count)),
            };
            if !reached {
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
        if self.part.starts_with("open") {
            return self.open_many();
        }
        let (rank, size) = (self.dragon.rank(), self.dragon.size());
        let (dict, all) = share(&self.dragon, || (self.make("dict").unwrap(), Barrier::new(size).unwrap()));
        let steps = Steps::open(&self.folder, rank);
        steps.round(&dict, &|key, error| panic!("key {key}: {error}"));
        all.wait().unwrap();
        let victim = if self.part == "again" { 2 } else { 1 };
        let (stores, restores) = (self.part.starts_with("steps"), self.part.starts_with("restore"));
        if restores {
            // Later.
        } else if rank == victim && self.part.starts_with("worker") {
            self.lose_a_worker(&dict);
        } else if rank == victim {
            dragon::failpoint::arm(&variable("MARK"), variable("COUNT").parse().unwrap());
        }
        // Storing takes its time.
        let rounds = if stores || restores { FEW_ROUNDS } else { ROUNDS };
        for round in 0..rounds {
            if self.part == "again" && rank == 1 && round == 3 {
                std::process::abort();
            }
            steps.round(&dict, &|key, error| self.excuse(&dict, key, error));
            if stores {
                self.done(&format!("round {round}"));
                dict.checkpoint();
            }
        }
        if restores {
            self.restore(&dict);
        }
        // Whoever was not killed lives.
        dragon::failpoint::arm("", 1);
        self.done("written");
        self.look_at_all(&dict);
        steps.round(&dict, &|key, error| self.excuse(&dict, key, error));
        self.done("looked");
        if stores {
            let stored: Vec<u32> = (0..FEW_ROUNDS as u32 - 1).collect();
            assert_eq!(dict.persisted().unwrap(), stored, "what a death has left is stored by the next");
        }
        drop(dict);
        let ended = self.dragon.finalize();
        let lost = self.lost.into_inner();
        assert_eq!(ended.err().map(|error| error.kind()), (!lost.is_empty()).then_some(ErrorKind::NodeLost));
    }

    fn make(&self, name: &str) -> Result<Shared, Error> {
        let replicas = u32::from(self.has_copies());
        let builder = DDict::builder().memory_per_node(16 << 20).managers_per_node(2).replicas(replicas).name(name);
        match self.part.starts_with("steps") || self.part.starts_with("restore") {
            true => builder.working_set(2).persist(Persist::posix(self.folder.join("store"))).build(),
            false => builder.build(),
        }
    }

    /// Rank 0, or a worker of rank 1 that is killed over it and then rank 1 itself, goes back to what is stored.
    fn restore(&self, dict: &Shared) {
        let (rank, by_worker) = (self.dragon.rank(), self.part.ends_with("worker"));
        self.done("filled");
        if rank == 0 {
            dict.persist().unwrap();
            // What is put now is gone then.
            dict.put(&99_999, &vec![1]).unwrap();
        }
        let (mark, count) = (variable("MARK"), variable("COUNT").parse().unwrap());
        if rank == 1 && !by_worker {
            dragon::failpoint::arm(&mark, count);
        }
        self.done("stored");
        if rank == 0 && !by_worker {
            dict.restore(0).unwrap();
        }
        if rank == 1 && by_worker {
            let pool = Pool::new(1).unwrap();
            let restore = |(mark, count, dict): (String, u64, Shared)| {
                dragon::failpoint::arm(&mark, count);
                dict.restore(0).unwrap();
            };
            let ended = pool.submit(restore, (mark, count, dict.clone())).unwrap().get_timeout(LONG);
            if let Err(error) = ended {
                assert!(error.kind() == ErrorKind::WorkerLost && error.to_string().contains("SIGKILL"), "{error}");
                std::fs::write(self.folder.join("killed"), "").unwrap();
                let refused = dict.put(&99_999, &vec![1]).unwrap_err();
                assert!(refused.kind() == ErrorKind::Frozen && refused.to_string().contains("restore"), "{refused}");
                dict.restore(0).unwrap();
            }
        }
        self.done("restored");
    }

    /// Rank 0 makes dictionaries, the others open them; rank 1 is killed while it has its part made or opened.
    fn open_many(self) {
        let (rank, size) = (self.dragon.rank(), self.dragon.size());
        // So each has talked to each, and hears when one is gone.
        let (first, all) = share(&self.dragon, || (self.make("first").unwrap(), Barrier::new(size).unwrap()));
        (0..50).for_each(|key| self.use_one(&first, 1000 * rank as u64 + key));
        let in_use = || self.dragon.stats().memory.in_use;
        let before = in_use();
        all.wait().unwrap();
        if rank == 1 {
            dragon::failpoint::arm(&variable("MARK"), variable("COUNT").parse().unwrap());
        }
        for n in 0..DICTS {
            let name = format!("dict {n}");
            let made = (rank == 0).then(|| self.make_one(&name));
            self.done(&format!("made {n}"));
            let dict = made.unwrap_or_else(|| DDict::open(&name).unwrap());
            (0..50).for_each(|key| self.use_one(&dict, 1000 * rank as u64 + key));
            self.done(&format!("used {n}"));
        }
        dragon::failpoint::arm("", 1);
        self.done("opened");
        // Nothing is left of those that were cut off.
        until("the memory is free again", || in_use() < before + (1 << 20));
        self.done("free");
        let (ended, lost) = (self.dragon.finalize(), self.lost.into_inner());
        assert_eq!(ended.err().map(|error| error.kind()), (!lost.is_empty()).then_some(ErrorKind::NodeLost));
    }

    /// On all nodes, or on those that are left.
    fn make_one(&self, name: &str) -> Shared {
        let refused = match self.make(name) {
            Ok(dict) => return dict,
            Err(refused) => refused,
        };
        assert_eq!(refused.kind(), ErrorKind::NodeLost, "{refused}");
        let nodes = self.dragon.nodes();
        let replicas = u32::from(self.has_copies());
        let left = DDict::builder().nodes(&[nodes[0], nodes[2]]).memory_per_node(16 << 20).replicas(replicas);
        left.name(name).build().unwrap()
    }

    fn use_one(&self, dict: &Shared, key: u64) {
        let put = dict.put(&key, &vec![key; 10]);
        let found = dict.try_get(&key);
        match (&put, &found) {
            (Ok(()), Ok(found)) => assert_eq!(found.as_deref(), Some(&vec![key; 10][..])),
            (Err(error), Ok(found)) => {
                assert!(error.kind() == ErrorKind::NodeLost && self.has_copies(), "{error}");
                assert!(found.as_ref().is_none_or(|found| *found == vec![key; 10]));
            }
            (_, Err(error)) => {
                let plainly_lost = error.kind() == ErrorKind::ManagerLost && !self.has_copies();
                assert!(plainly_lost && Rank::is_of(dict, key, 1), "{error}");
            }
        }
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
            ErrorKind::NodeLost => self.has_copies() && !self.part.starts_with("worker"),
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
                        assert!(
                            !self.part.contains("copies") && error.kind() == ErrorKind::ManagerLost,
                            "{key}: {error}"
                        );
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
