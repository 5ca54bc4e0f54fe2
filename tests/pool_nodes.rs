//! A pool whose workers are on all nodes of a job: what it gives, what it survives, and what it leaves.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use common::{LONG, start};
use dragon::{ErrorKind, Pool, Queue, Runtime};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    let leads = dragon.rank() == 0;
    match &part[..] {
        "maps" if leads => maps(&dragon),
        "settings" if leads => settings(&dragon),
        "maps" | "settings" => {}
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

fn nodes() -> Vec<Vec<u32>> {
    vec![vec![0, 1], vec![0, 1, 2], vec![0, 1, 1]]
}

fn node_of_worker() -> u32 {
    dragon::init().unwrap().node().number()
}

/// The nodes on which tasks of this pool run.
fn nodes_used(pool: &Pool) -> BTreeSet<u32> {
    let slow = |()| {
        std::thread::sleep(Duration::from_millis(20));
        node_of_worker()
    };
    pool.chunk(1).map(slow, vec![(); 4 * pool.size()]).unwrap().into_iter().collect()
}

#[test]
fn maps_streams_and_tasks_go_to_all_nodes() {
    nodes().iter().for_each(|nodes| start("maps", nodes).ends_well());
}

fn maps(dragon: &Runtime) {
    let all: BTreeSet<u32> = dragon.nodes().into_iter().map(|node| node.number()).collect();
    let pool = Pool::new(2 * all.len()).unwrap();
    assert_eq!(pool.workers().iter().map(|worker| worker.node.number()).collect::<BTreeSet<_>>(), all);
    assert_eq!(pool.workers().len(), pool.size());
    let squares: Vec<u64> = pool.map(|x: u64| x * x, 0..10_000).unwrap();
    assert!(squares.iter().zip(0..).all(|(square, x)| *square == x * x));
    assert_eq!(nodes_used(&pool), all);
    let streamed = pool.imap(|x: u64| x + 1, 0..1_000).unwrap().collect::<dragon::Result<Vec<_>>>().unwrap();
    assert!(streamed.into_iter().eq(1..1_001));
    let mut unordered = pool.imap_unordered(|x: u64| x, 0..1_000).unwrap().collect::<dragon::Result<Vec<_>>>().unwrap();
    unordered.sort_unstable();
    assert!(unordered.into_iter().eq(0..1_000));
    let tasks: Vec<_> = (0..500_u64).map(|x| pool.submit(|x: u64| x * 2, x).unwrap()).collect();
    assert!(tasks.into_iter().map(|task| task.get().unwrap()).eq((0..500).map(|x| x * 2)));
    let whole = pool.map_async(|x: u32| x.to_string(), 0..300).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    whole.on_done(move |result| told.send(result.as_ref().map_or(0, Vec::len)).unwrap());
    assert_eq!(whole.get().unwrap().len(), 300);
    assert_eq!(heard.recv_timeout(LONG), Ok(300));
    let task = pool.submit(|()| panic!("on purpose"), ()).unwrap();
    let error: dragon::Error = task.get().map(|()| ()).unwrap_err();
    assert!(error.kind() == ErrorKind::TaskPanicked && error.to_string().contains("on purpose"), "{error}");
    let error = pool.map(|x: u32| assert!(x != 77, "not this one"), 0..100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskPanicked);
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.workers().len(), 0);
}

#[test]
fn initializers_contexts_and_lives_of_workers_are_as_near() {
    nodes().iter().for_each(|nodes| start("settings", nodes).ends_well());
}

static SCALE: OnceLock<u64> = OnceLock::new();

fn settings(dragon: &Runtime) {
    let all = dragon.nodes().len();
    let pool = Pool::builder().processes(all).initializer(|scale: u64| SCALE.set(scale).unwrap(), 7).build().unwrap();
    assert!(pool.map(|x: u64| x * SCALE.get().unwrap(), 0..100).unwrap().into_iter().eq((0..100).map(|x| x * 7)));
    for round in 0..3_u64 {
        let table: Vec<u64> = (0..10_000).map(|x| x + round).collect();
        let picked = pool.map_with(&table, |table: &Vec<u64>, at: usize| table[at], 0..200).unwrap();
        assert!(picked.into_iter().eq(round..round + 200));
    }
    assert_eq!(nodes_used(&pool).len(), all);
    let pool = Pool::builder().processes(2 * all).tasks_per_worker(3).build().unwrap();
    let pids: BTreeSet<(u32, u32)> =
        pool.chunk(1).map(|_: u32| (node_of_worker(), std::process::id()), 0..60).unwrap().into_iter().collect();
    assert!(pids.len() >= 20, "{pids:?}");
    let local = Pool::builder().processes(2).local().build().unwrap();
    assert!(local.workers().iter().all(|worker| worker.node == dragon.node()));
    let last = *dragon.nodes().last().unwrap();
    let far = Pool::builder().processes(2).nodes([last]).build().unwrap();
    assert_eq!(nodes_used(&far), [last.number()].into());
    assert!(far.workers().iter().all(|worker| worker.node == last));
    let many = Pool::builder().build().unwrap();
    assert!(many.size() >= all && many.workers().len() == many.size());
    let failing = Pool::builder().processes(1).nodes([last]).initializer(|_: u8| panic!("unwell"), 1);
    let error = failing.build().unwrap().map(|x: u8| x, [1]).unwrap_err();
    assert!(error.kind() == ErrorKind::WorkerStart && error.to_string().contains("unwell"), "{error}");
}
