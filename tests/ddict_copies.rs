//! Dictionaries with replicas: all copies have all checkpoints, whichever node is lost while they advance, while they are stored,
//! or after they were restored; and whoever calls hears of a loss only what nobody can know.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named. What a key has at a checkpoint follows from both, so
//! whoever looks knows what must be there.

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::copied::Copied;
use common::shared::share;
use common::until::until;
use common::{LONG, start, start_with};
use dragon::sync::Barrier;
use dragon::{DDict, DDictBuilder, Error, ErrorKind, Persist, Runtime};

type Dict = DDict<u64, Vec<u64>>;

/// Keys of each rank.
const KEYS: u64 = 16;
/// Checkpoints, from 0.
const STEPS: u32 = 12;

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "plain" => advance(dragon, |builder| builder.working_set(4), &[(1, 5), (2, 6)], true),
        "keys" => advance(dragon, |builder| builder.working_set(2).wait_for_keys(true), &[(1, 5), (2, 6)], false),
        "writers" => advance(dragon, |builder| builder.working_set(2).wait_for_writers(true), &[(1, 5), (2, 6)], true),
        "stored" => advance(dragon, |builder| builder.working_set(2).persist(store()).name("stored"), &[(1, 5)], true),
        "restored" => restored(dragon),
        "restored copies" => restored_copies(dragon),
        "frozen" => frozen(dragon),
        "late" => late(dragon),
        "threads" => threads(dragon),
        other => panic!("there is no part {other}"),
    }
}

fn folder() -> PathBuf {
    std::env::var("FOLDER").unwrap().into()
}

fn store() -> Persist {
    Persist::posix(folder().join("store"))
}

/// What a key has at a step; of some nothing, now and then, where that may be.
fn value(key: u64, step: u32, removes: bool) -> Option<Vec<u64>> {
    let gone = removes && key.is_multiple_of(3) && (key / 3 + u64::from(step)).is_multiple_of(4);
    // Some longer than what lies in the table itself.
    (!gone).then(|| vec![key << 32 | u64::from(step); if key.is_multiple_of(5) { 2000 } else { 3 }])
}

fn keys_of(rank: usize) -> impl Iterator<Item = u64> {
    (0..KEYS).map(move |n| 100 * (rank as u64 + 1) + n)
}

/// Does it again until it is known to be done.
fn surely(mut done: impl FnMut() -> Result<(), Error>) {
    let begun = std::time::Instant::now();
    while let Err(error) = done() {
        assert!(error.kind() == ErrorKind::NodeLost && begun.elapsed() < LONG, "{error}");
    }
}

fn write(dict: &Dict, key: u64, step: u32, removes: bool) {
    match value(key, step, removes) {
        Some(value) => surely(|| dict.put(&key, &value)),
        None => surely(|| match dict.remove(&key) {
            // It was removed already: by a call of which nothing is known, or by who was to do it and died.
            Err(error) if error.kind() == ErrorKind::KeyNotFound => Ok(()),
            done => done,
        }),
    }
}

/// What ranks tell each other, where no death reaches it.
struct Steps {
    rank: usize,
    size: usize,
    /// Which ranks die at which steps.
    dead: Vec<(usize, u32)>,
}

impl Steps {
    fn lives(&self, rank: usize, step: u32) -> bool {
        self.dead.iter().all(|(dead, at)| *dead != rank || step < *at)
    }

    /// Waits until all that live have come so far.
    fn all_are_at(&self, step: u32, what: &str) {
        let file = |rank: usize| folder().join(format!("{what} {step} {rank}"));
        std::fs::write(file(self.rank), "").unwrap();
        until(what, || (0..self.size).all(|rank| !self.lives(rank, step) || file(rank).exists()));
    }

    /// The keys that this rank writes at a step: its own, and rank 0 those of the dead as well.
    fn mine(&self, step: u32) -> Vec<u64> {
        let dead = (0..self.size).filter(|rank| self.rank == 0 && !self.lives(*rank, step));
        std::iter::once(self.rank).chain(dead).flat_map(keys_of).collect()
    }

    fn look(&self, dict: &Dict, at: u32, removes: bool) {
        let view = dict.clone();
        view.set_checkpoint_id(at);
        let all: Vec<u64> = (0..self.size).flat_map(keys_of).collect();
        for key in &all {
            let found = view.try_get(key).unwrap_or_else(|error| panic!("key {key} at {at}: {error}"));
            assert!(found == value(*key, at, removes), "key {key} at {at}: {found:?}");
        }
        let there = all.iter().filter(|key| value(**key, at, removes).is_some()).count();
        assert_eq!((view.len().unwrap(), view.keys().unwrap().len()), (there as u64, there), "at {at}");
    }
}

/// All ranks go through the steps; some die half-way through one. All that can be looked at is looked at after each step.
fn advance(
    dragon: Runtime,
    how: impl FnOnce(DDictBuilder<u64, Vec<u64>>) -> DDictBuilder<u64, Vec<u64>>,
    dead: &[(usize, u32)],
    removes: bool,
) {
    let steps = Steps { rank: dragon.rank(), size: dragon.size(), dead: dead.into() };
    // The second that dies is the one that fills what the first has left.
    let copied = (dead.len() > 1 && steps.rank == dead[1].0).then(Copied::hear);
    let dict = share(&dragon, || {
        how(DDict::builder().memory_per_node(32 << 20).managers_per_node(2).replicas(1)).build().unwrap()
    });
    let window = if std::env::var("PART").unwrap() == "plain" { 4 } else { 2 };
    for step in 0..STEPS {
        let dies = dead.contains(&(steps.rank, step));
        if dies && let Some(copied) = &copied {
            (0..2).for_each(|_| copied.recv_timeout(LONG).expect("the managers of the first are copied"));
        }
        let keys = steps.mine(step);
        for key in keys.iter().take(if dies { keys.len() / 2 } else { keys.len() }) {
            write(&dict, *key, step, removes);
        }
        if dies {
            std::process::abort();
        }
        steps.all_are_at(step, "written");
        (step.saturating_sub(window - 1)..=step).for_each(|at| steps.look(&dict, at, removes));
        steps.all_are_at(step, "looked");
        dict.checkpoint();
    }
    let retired = dict.clone();
    retired.set_checkpoint_id(STEPS - 1 - window);
    assert_eq!(retired.try_get(&100).unwrap_err().kind(), ErrorKind::CheckpointRetired);
    assert_eq!(retired.sync_to_newest().unwrap(), STEPS - 1);
    if steps.rank == 0 && dict.persisted().is_ok() {
        assert_eq!(retired.persist().unwrap(), STEPS - 1);
        assert_eq!(dict.persisted().unwrap(), (0..STEPS).filter(|at| *at != STEPS - 2).collect::<Vec<_>>());
    }
    steps.all_are_at(STEPS, "done");
    assert_eq!(dragon.finalize().unwrap_err().kind(), ErrorKind::NodeLost);
}

/// Starts a job with a folder of its own.
fn start_in(folder: &tempfile::TempDir, part: &str, nodes: &[u32]) -> common::Job {
    let path = folder.path().to_str().unwrap();
    start_with(part, nodes, |_| vec![("FOLDER", path.to_string())])
}

#[test]
fn all_copies_have_all_checkpoints_whichever_node_is_lost() {
    start_in(&tempfile::tempdir().unwrap(), "plain", &[0, 1, 2, 3]).ends_well_but(&[1, 2]);
}

#[test]
fn keys_are_waited_for_though_nodes_are_lost() {
    start_in(&tempfile::tempdir().unwrap(), "keys", &[0, 1, 2, 3]).ends_well_but(&[1, 2]);
}

#[test]
fn writers_are_waited_for_though_nodes_are_lost() {
    start_in(&tempfile::tempdir().unwrap(), "writers", &[0, 1, 2, 3]).ends_well_but(&[1, 2]);
}

#[test]
fn whoever_acts_next_goes_on_storing_and_what_is_stored_can_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    start_in(&folder, "stored", &[0, 1, 2]).ends_well_but(&[1]);
    start_in(&folder, "restored", &[0, 1]).ends_well();
    start_in(&folder, "restored", &[0, 0]).ends_well();
    start_in(&folder, "restored copies", &[0, 1, 2]).ends_well_but(&[1]);
}

/// Without replicas, on another number of nodes.
fn restored(dragon: Runtime) {
    let all = share(&dragon, || Barrier::new(dragon.size()).unwrap());
    if dragon.rank() == 0 {
        let dict: Dict = DDict::builder().name("stored").persist(store()).build().unwrap();
        let steps = Steps { rank: 0, size: 3, dead: Vec::new() };
        for at in dict.persisted().unwrap() {
            dict.restore(at).unwrap();
            steps.look(&dict, at, true);
        }
    }
    all.wait().unwrap();
    dragon.finalize().unwrap();
}

/// With replicas: all copies have what was restored, and nothing of before.
fn restored_copies(dragon: Runtime) {
    let (dict, all): (Dict, Barrier) = share(&dragon, || {
        let dict = DDict::builder().managers_per_node(1).replicas(1).working_set(3).name("stored").persist(store());
        (dict.build().unwrap(), Barrier::new(dragon.size()).unwrap())
    });
    let (rank, at) = (dragon.rank(), 7);
    let own = |n: u64| 10_000 + 100 * rank as u64 + n;
    (0..50).for_each(|n| dict.put(&own(n), &vec![n]).unwrap());
    all.wait().unwrap();
    if rank == 0 {
        assert_eq!(dict.restore(77).unwrap_err().kind(), ErrorKind::NoCheckpoint);
        assert_eq!(dict.len().unwrap(), 150);
        dict.restore(at).unwrap();
    }
    all.wait().unwrap();
    assert_eq!(dict.sync_to_newest().unwrap(), at);
    let steps = Steps { rank, size: 3, dead: Vec::new() };
    steps.look(&dict, at, true);
    dict.checkpoint();
    dict.put(&own(0), &vec![1]).unwrap();
    all.wait().unwrap();
    if rank == 1 {
        std::process::abort();
    }
    // Whoever acts for rank 1 now was filled by the restore.
    dict.rollback();
    steps.look(&dict, at, true);
    dict.checkpoint();
    (0..3).for_each(|of| assert_eq!(dict.get(&(10_000 + 100 * of)).unwrap(), [1]));
    Steps { dead: vec![(1, 0)], ..steps }.all_are_at(0, "seen before it is restored again");
    if rank == 0 {
        dict.restore(9).unwrap();
        Steps { rank, size: 3, dead: Vec::new() }.look(&dict, 9, true);
        dict.put(&1, &vec![1]).unwrap();
    }
    until("it is restored", || dict.sync_to_newest().unwrap() == 9);
    assert_eq!(dict.get_timeout(&1, LONG).unwrap(), [1]);
    assert_eq!(dragon.finalize().unwrap_err().kind(), ErrorKind::NodeLost);
}

#[test]
fn what_is_frozen_stays_as_it_is_at_all_copies() {
    start("frozen", &[0, 1, 2]).ends_well();
}

fn frozen(dragon: Runtime) {
    let (dict, all): (Dict, Barrier) = share(&dragon, || {
        let dict = DDict::builder().replicas(2).working_set(2).build().unwrap();
        (dict, Barrier::new(dragon.size()).unwrap())
    });
    let key = |n: u64| 1000 * dragon.rank() as u64 + n;
    let own = key(500);
    dict.put(&own, &vec![0]).unwrap();
    all.wait().unwrap();
    let writer = {
        let (dict, key) = (dict.clone(), own);
        // Until it is refused.
        std::thread::spawn(move || (1..).find(|n| dict.put(&key, &vec![*n]).is_err()).unwrap())
    };
    if dragon.rank() == 1 {
        dict.freeze().unwrap();
        let now = || (0..3).map(|rank| dict.get(&(1000 * rank + 500)).unwrap()).collect::<Vec<_>>();
        let before = now();
        assert_eq!(dict.put(&key(0), &vec![7]).unwrap_err().kind(), ErrorKind::Frozen);
        assert_eq!(now(), before);
    }
    let last = writer.join().unwrap();
    all.wait().unwrap();
    assert_eq!(dict.get(&own).unwrap(), [last - 1], "what was refused was not done");
    all.wait().unwrap();
    if dragon.rank() == 2 {
        dict.unfreeze().unwrap();
        dict.put(&2000, &vec![8]).unwrap();
    }
    all.wait().unwrap();
    assert_eq!(dict.get(&2000).unwrap(), [8]);
    all.wait().unwrap();
    dragon.finalize().unwrap();
}

#[test]
fn a_writer_that_was_known_to_a_lost_node_is_still_waited_for() {
    start_in(&tempfile::tempdir().unwrap(), "late", &[0, 1, 2, 3]).ends_well_but(&[1, 2]);
}

/// Rank 3 writes at 0 what is on node 1, and stays there. Node 1 dies, and when its copy is copied node 2, which knew of the writer
/// from it. Only when rank 3 goes on is 0 retired.
fn late(dragon: Runtime) {
    let rank = dragon.rank();
    let copied = (rank == 2).then(Copied::hear);
    let (dict, all): (Dict, Barrier) = share(&dragon, || {
        let dict = DDict::builder().replicas(1).working_set(2).wait_for_writers(true).build().unwrap();
        (dict, Barrier::new(dragon.size()).unwrap())
    });
    let of_1 = |key: &u64| dict.manager_node(dict.which_manager(key).unwrap()).unwrap().number() == 1;
    let key = (0..).find(of_1).unwrap();
    if rank == 3 {
        dict.put(&key, &vec![3]).unwrap();
    }
    all.wait().unwrap();
    if rank == 1 {
        std::process::abort();
    }
    let steps = Steps { rank, size: 4, dead: vec![(1, 0), (2, 1)] };
    if let Some(copied) = copied {
        copied.recv_timeout(LONG).expect("the manager of node 1 is copied");
        steps.all_are_at(0, "copied");
        std::process::abort();
    }
    steps.all_are_at(0, "copied");
    let went = folder().join("goes");
    if rank == 0 {
        until("node 2 is lost", || dict.put(&key, &vec![0]).is_err());
        surely(|| dict.put(&key, &vec![0]));
        steps.all_are_at(1, "alone");
        dict.set_checkpoint_id(2);
        surely(|| dict.put(&key, &vec![9]));
        assert!(went.exists(), "it was not waited for rank 3");
    } else {
        steps.all_are_at(1, "alone");
        // A time in which rank 0 may go on too early, if it does not wait; nothing is to be seen when it does.
        std::thread::sleep(std::time::Duration::from_millis(300));
        std::fs::write(&went, "").unwrap();
        dict.set_checkpoint_id(2);
        assert_eq!(dict.get_timeout(&key, LONG).unwrap().len(), 1);
    }
    steps.all_are_at(2, "done");
    assert_eq!(dragon.finalize().unwrap_err().kind(), ErrorKind::NodeLost);
}

#[test]
fn no_thread_is_told_of_a_loss_where_a_copy_can_answer() {
    start_in(&tempfile::tempdir().unwrap(), "threads", &[0, 1, 2]).ends_well_but(&[1]);
}

/// Many threads of each process have calls under way to node 1 when that dies.
fn threads(dragon: Runtime) {
    const THREADS: u64 = 12;
    let rank = dragon.rank();
    let dict: DDict<u64, u64> = share(&dragon, || DDict::builder().replicas(1).build().unwrap());
    let steps = Steps { rank, size: 3, dead: vec![(1, 1)] };
    let of_1 = |key: &u64| dict.manager_node(dict.which_manager(key).unwrap()).unwrap().number() == 1;
    let mut keys = (0..).filter(of_1).skip(rank * 2 * THREADS as usize);
    // Each thread has a key that it writes, and one that stays as it is.
    let pairs: Vec<[u64; 2]> = (0..THREADS).map(|_| [keys.next().unwrap(), keys.next().unwrap()]).collect();
    pairs.iter().flatten().for_each(|key| dict.put(key, &0).unwrap());
    steps.all_are_at(0, "put");
    let (lost, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    if rank == 1 {
        // The others are in the midst of it.
        until("the others write", || (0..3).all(|of| of == 1 || folder().join(format!("busy {of}")).exists()));
        std::process::abort();
    }
    let work = |writes: bool, [own, fixed]: [u64; 2]| {
        let (mut known, mut last) = (0, 0);
        // As long as it takes, and some more when the loss is known.
        let mut more = 100;
        while more > 0 {
            more -= u64::from(lost.load(Ordering::Relaxed));
            if writes {
                last += 1;
                match dict.put(&own, &last) {
                    Ok(()) => known = last,
                    Err(error) => assert!(error.kind() == ErrorKind::NodeLost, "{error}"),
                }
                let found = dict.get(&own).unwrap_or_else(|error| panic!("read of what is written: {error}"));
                assert!((known..=last).contains(&found), "{found}, not of {known} to {last}");
            }
            let found = dict.get(&fixed).unwrap_or_else(|error| panic!("read: {error}"));
            assert!(found == 0 && dict.contains(&fixed).unwrap());
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for (number, pair) in pairs.iter().enumerate() {
            let work = &work;
            scope.spawn(move || work(number % 3 == 0, *pair));
        }
        until("all are at work", || calls.load(Ordering::Relaxed) > 20 * THREADS);
        std::fs::write(folder().join(format!("busy {rank}")), "").unwrap();
        let events = dragon.events();
        let is_loss = |event: &dragon::Event| matches!(event, dragon::Event::NodeLost { .. });
        assert!(std::iter::from_fn(|| events.next_timeout(LONG)).any(|event| is_loss(&event)));
        lost.store(true, Ordering::Relaxed);
    });
    assert_eq!(dict.len().unwrap(), 6 * THREADS);
    steps.all_are_at(1, "done");
    assert_eq!(dragon.finalize().unwrap_err().kind(), ErrorKind::NodeLost);
}
