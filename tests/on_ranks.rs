//! A pool whose workers are the other ranks, which wait at the end of the job: what they do, and what their deaths are.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use common::{LONG, start};
use dragon::{ErrorKind, Event, Pool, Queue, Runtime};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    let leads = dragon.rank() == 0;
    match &part[..] {
        "work" if leads => work(&dragon),
        "pools" if leads => pools(&dragon),
        "lose_one" if leads => lose(&dragon, 0),
        "lose_one_retrying" if leads => lose(&dragon, 1),
        "lose_all" if leads => lose_all(),
        "busy" if leads => busy(),
        "late" => late(&dragon),
        "last_leads" => last_leads(&dragon),
        "dropped" => return dropped(dragon),
        "run" => return run(dragon),
        _ => {}
    }
    let ended = dragon.finalize();
    assert!(part.starts_with("lose") || ended.is_ok(), "{ended:?}");
}

fn nodes() -> Vec<Vec<u32>> {
    vec![vec![0, 0, 0], vec![0, 1], vec![0, 1, 1], vec![0, 1, 0, 1]]
}

fn who() -> (usize, u32) {
    (dragon::init().unwrap().rank(), std::process::id())
}

/// The ranks that do the tasks of this pool.
fn ranks_used(pool: &Pool) -> BTreeSet<usize> {
    let slow = |()| {
        // what the task takes
        std::thread::sleep(Duration::from_millis(20));
        who().0
    };
    pool.chunk(1).map(slow, vec![(); 6 * pool.size()]).unwrap().into_iter().collect()
}

/// Until all its workers are there.
fn wait_for_all(pool: &Pool) {
    while pool.workers().len() < pool.size() {
        std::thread::yield_now();
    }
}

fn others(dragon: &Runtime) -> BTreeSet<usize> {
    (0..dragon.size()).filter(|rank| *rank != dragon.rank()).collect()
}

#[test]
fn the_other_ranks_are_the_workers() {
    nodes().iter().for_each(|nodes| start("work", nodes).ends_well());
}

static SCALE: OnceLock<u64> = OnceLock::new();

fn work(dragon: &Runtime) {
    let pool = Pool::builder()
        .on_ranks()
        .initializer(
            |scale: u64| {
                SCALE.get_or_init(|| scale);
            },
            7,
        )
        .build()
        .unwrap();
    assert_eq!(pool.size(), dragon.size() - 1);
    wait_for_all(&pool);
    assert_eq!(ranks_used(&pool), others(dragon));
    let pids: BTreeSet<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    let used = pool.chunk(1).map(|_: u32| who().1, 0..100).unwrap();
    assert!(used.iter().all(|pid| pids.contains(pid) && *pid != std::process::id()), "ranks, not children of theirs");
    assert!(pool.map(|x: u64| x * SCALE.get().unwrap(), 0..10_000).unwrap().into_iter().eq((0..10_000).map(|x| x * 7)));
    let table: Vec<u64> = (0..10_000).collect();
    let picked = pool.map_with(&table, |table: &Vec<u64>, at: usize| table[at], 0..200).unwrap();
    assert!(picked.into_iter().eq(0..200));
    let long: Vec<Vec<u8>> = pool.map(|len: usize| vec![7; len], [0, 10, 300_000]).unwrap();
    assert_eq!(long.iter().map(Vec::len).collect::<Vec<_>>(), [0, 10, 300_000]);
    let task: dragon::Task<()> = pool.submit(|()| panic!("on purpose"), ()).unwrap();
    let error = task.get().unwrap_err();
    assert!(error.kind() == ErrorKind::TaskPanicked && error.to_string().contains("on purpose"), "{error}");
    // Handles, and a pool of a rank's own.
    let queue = Queue::<u64>::bounded(8).unwrap();
    let put =
        |(queue, x): (Queue<u64>, u64)| queue.put(Pool::new(1).unwrap().map(|x: u64| x + 1, [x]).unwrap()[0]).unwrap();
    pool.submit(put, (queue.clone(), 41)).unwrap().get().unwrap();
    assert_eq!(queue.get().unwrap(), 42);
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.workers().len(), 0);
}

#[test]
fn pools_follow_each_other_and_live_beside_each_other() {
    nodes().iter().for_each(|nodes| start("pools", nodes).ends_well());
}

fn pools(dragon: &Runtime) {
    for _ in 0..5 {
        let pool = Pool::builder().on_ranks().build().unwrap();
        assert_eq!(pool.map(|x: u64| x + 1, 0..50).unwrap().len(), 50);
    }
    let one = Pool::builder().on_ranks().build().unwrap();
    let gate = dragon::sync::Event::new().unwrap();
    let held: Vec<_> = (0..one.size())
        .map(|_| one.submit(|gate: dragon::sync::Event| gate.wait().unwrap(), gate.clone()).unwrap())
        .collect();
    let other = Pool::builder().on_ranks().build().unwrap();
    assert_eq!(other.map(|x: u64| x + 1, 0..50).unwrap().len(), 50, "though all ranks are busy with another pool");
    gate.set().unwrap();
    held.into_iter().for_each(|task| task.get().unwrap());
    let few = Pool::builder().on_ranks().processes(1).build().unwrap();
    assert_eq!(ranks_used(&few), [1].into());
    let last = *dragon.nodes().last().unwrap();
    let there = Pool::builder().on_ranks().nodes([last]).build().unwrap();
    wait_for_all(&there);
    assert!(there.workers().iter().all(|worker| worker.node == last));
    for refused in [
        Pool::builder().on_ranks().processes(dragon.size()).build(),
        Pool::builder().on_ranks().tasks_per_worker(1).build(),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    // `one` and others are alive when the job ends.
    std::mem::forget(one);
}

#[test]
fn a_job_of_one_rank_has_none() {
    let _dragon = dragon::init().unwrap();
    let error = Pool::builder().on_ranks().build().unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("0 other ranks"), "{error}");
}

#[test]
fn a_rank_that_dies_is_a_lost_worker() {
    for nodes in [vec![0, 0, 0], vec![0, 1, 1], vec![0, 1, 2]] {
        for part in ["lose_one", "lose_one_retrying"] {
            let outputs = start(part, &nodes).outputs();
            assert!(!outputs.last().unwrap().status.success(), "it has died");
            let well = outputs[..nodes.len() - 1].iter().all(|output| output.status.success());
            assert!(
                well,
                "{part} {nodes:?}: {}",
                outputs.iter().map(common::text).collect::<Vec<_>>().join("\n----\n")
            );
        }
    }
}

fn die_on_last_rank(gate: dragon::sync::Event) -> usize {
    let dragon = dragon::init().unwrap();
    if dragon.rank() == dragon.size() - 1 {
        std::process::abort();
    }
    gate.wait().unwrap();
    dragon.rank()
}

fn lose(dragon: &Runtime, retries: u32) {
    let events = dragon.events();
    let pool = Pool::builder().on_ranks().retries(retries).build().unwrap();
    wait_for_all(&pool);
    assert_eq!(ranks_used(&pool), others(dragon), "this node knows of all");
    let gate = dragon::sync::Event::new().unwrap();
    let tasks: Vec<_> = (0..2).map(|_| pool.submit(die_on_last_rank, gate.clone()).unwrap()).collect();
    let (node, alone) = {
        let last = dragon.size() - 1;
        let nodes = dragon.nodes().len();
        (nodes - 1, nodes == 3 && last == 2)
    };
    let lost = |event: &Event| match event {
        Event::WorkerLost { node: at, task, .. } => {
            assert_eq!(at.number() as usize, node);
            assert!(task.as_ref().unwrap().contains("die_on_last_rank"));
            true
        }
        Event::NodeLost { .. } => alone,
        _ => false,
    };
    loop {
        let event = events.next_timeout(LONG).expect("the owner hears of it");
        if lost(&event) {
            break;
        }
    }
    gate.set().unwrap();
    let results: Vec<_> = tasks.into_iter().map(|task| task.get()).collect();
    let well = results.iter().filter(|result| matches!(result, Ok(1))).count();
    if retries > 0 {
        assert_eq!(well, 2, "{results:?}");
    } else {
        let error = results.iter().find_map(|result| result.as_ref().err()).expect("one task was lost");
        assert!(error.kind() == ErrorKind::WorkerLost && well == 1, "{results:?}");
    }
    // The others go on.
    assert_eq!(pool.map(|x: u64| x + 1, 0..1_000).unwrap().len(), 1_000);
    assert_eq!(ranks_used(&pool), [1].into());
}

#[test]
fn a_pool_without_any_rank_left_says_so() {
    for nodes in [vec![0, 0], vec![0, 1]] {
        assert!(start("lose_all", &nodes).outputs()[0].status.success());
    }
}

fn lose_all() {
    let pool = Pool::builder().on_ranks().retries(5).build().unwrap();
    let error: dragon::Error = pool.submit(|()| -> () { std::process::abort() }, ()).unwrap().get().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NodeLost | ErrorKind::WorkerLost), "{error}");
    let error = loop {
        match pool.submit(|()| (), ()).map(|task| task.get()) {
            Ok(Ok(())) => panic!("nobody is left"),
            Ok(Err(error)) if error.kind() == ErrorKind::WorkerLost => {}
            Ok(Err(error)) | Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NodeLost, "{error}");
}

#[test]
fn tasks_wait_for_ranks_that_come_late() {
    nodes().iter().for_each(|nodes| start("late", nodes).ends_well());
}

fn late(dragon: &Runtime) {
    if dragon.rank() > 0 {
        return Queue::<()>::open_timeout("come", LONG).unwrap().get().unwrap();
    }
    let come = Queue::<()>::builder().name("come").build().unwrap();
    let pool = Pool::builder().on_ranks().build().unwrap();
    let tasks: Vec<_> = (0..100_u64).map(|x| pool.submit(|x: u64| x * 2, x).unwrap()).collect();
    assert!(pool.workers().is_empty() && tasks.iter().all(|task| !task.is_done()));
    come.put_many((1..dragon.size()).map(|_| ())).unwrap();
    assert!(tasks.into_iter().map(|task| task.get().unwrap()).eq((0..100).map(|x| x * 2)));
}

#[test]
fn any_rank_may_have_such_a_pool() {
    nodes().iter().for_each(|nodes| start("last_leads", nodes).ends_well());
}

fn last_leads(dragon: &Runtime) {
    if dragon.rank() == dragon.size() - 1 {
        let pool = Pool::builder().on_ranks().build().unwrap();
        wait_for_all(&pool);
        assert_eq!(ranks_used(&pool), others(dragon));
    }
}

#[test]
fn what_runs_when_a_pool_is_dropped_is_left_to_its_end() {
    nodes().iter().for_each(|nodes| start("busy", nodes).ends_well());
}

fn busy() {
    let (begun, gate) = (Queue::<()>::unbounded().unwrap(), dragon::sync::Event::new().unwrap());
    let pool = Pool::builder().on_ranks().build().unwrap();
    let work = |(begun, gate): (Queue<()>, dragon::sync::Event)| {
        begun.put(()).unwrap();
        gate.wait().unwrap();
        begun.put(()).unwrap();
    };
    let task = pool.submit(work, (begun.clone(), gate.clone())).unwrap();
    begun.get().unwrap();
    drop(pool);
    assert_eq!(task.get().unwrap_err().kind(), ErrorKind::Cancelled);
    gate.set().unwrap();
    begun.get_timeout(LONG).expect("it goes on");
}

#[test]
fn a_rank_that_drops_its_hold_waits_there_too() {
    nodes().iter().for_each(|nodes| start("dropped", nodes).ends_well());
}

fn dropped(dragon: Runtime) {
    if dragon.rank() == 0 {
        let pool = Pool::builder().on_ranks().build().unwrap();
        wait_for_all(&pool);
        assert_eq!(ranks_used(&pool), others(&dragon));
    }
    drop(dragon);
}

#[test]
fn run_gives_the_leader_all_others() {
    nodes().iter().for_each(|nodes| start("run", nodes).ends_well());
}

fn run(dragon: Runtime) {
    let sum = dragon::run(|_dragon| {
        let pool = Pool::builder().on_ranks().build()?;
        Ok(pool.map(|x: u64| x * x, 0..1_000)?.into_iter().sum::<u64>())
    });
    assert!(matches!(sum, Ok(Some(332_833_500) | None)), "{sum:?}");
    drop(dragon);
}
