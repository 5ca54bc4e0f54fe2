//! A pool whose workers are on all nodes of a job: what it gives, what it survives, and what it leaves.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use common::until::until;
use common::{LONG, start};
use dragon::{ErrorKind, Pool, Queue, Runtime, WorkerState};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    let leads = dragon.rank() == 0;
    match &part[..] {
        "maps" if leads => maps(&dragon),
        "settings" if leads => settings(&dragon),
        "kill_workers" if leads => kill_workers(&dragon),
        "travel" if leads => travel(&dragon),
        "maps" | "settings" | "kill_workers" | "travel" => {}
        "lose_node" => lose_node(&dragon, 0),
        "lose_node_retrying" => lose_node(&dragon, 2),
        "everybody" => everybody(&dragon),
        "leave" => leave(&dragon),
        "cut" => cut(&dragon),
        other => panic!("there is no part {other}"),
    }
    let ended = dragon.finalize();
    assert!(part.starts_with("lose_node") || part == "cut" || ended.is_ok(), "{ended:?}");
}

fn nodes() -> Vec<Vec<u32>> {
    vec![vec![0, 1], vec![0, 1, 2], vec![0, 1, 1]]
}

fn node_of_worker() -> u32 {
    dragon::init().unwrap().node().number()
}

/// Waits until all workers have a task.
fn until_all_work(pool: &Pool) {
    until("all workers work", || pool.workers().iter().all(|worker| worker.state == WorkerState::Busy));
}

/// The nodes on which tasks of this pool run.
fn nodes_used(pool: &Pool) -> BTreeSet<u32> {
    let slow = |()| {
        // what the task takes
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
    let task: dragon::Task<()> = pool.submit(|()| panic!("on purpose"), ()).unwrap();
    let error: dragon::Error = task.get().unwrap_err();
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
    let refused = Pool::builder().processes(1).nodes([]).build().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
    let many = Pool::builder().build().unwrap();
    assert!(many.size() >= all && many.workers().len() == many.size());
    let failing = Pool::builder().processes(1).nodes([last]).initializer(|_: u8| panic!("unwell"), 1);
    let error = failing.build().unwrap().map(|x: u8| x, [1]).unwrap_err();
    assert!(error.kind() == ErrorKind::WorkerStart && error.to_string().contains("unwell"), "{error}");
}

#[test]
fn a_killed_far_worker_is_an_error_or_a_retry() {
    start("kill_workers", &[0, 1, 2]).ends_well();
}

fn kill_workers(dragon: &Runtime) {
    let last = *dragon.nodes().last().unwrap();
    let die_on = |node: u32| {
        if node_of_worker() == node {
            std::process::abort();
        }
        node_of_worker()
    };
    let pool = Pool::new(6).unwrap();
    let far = Pool::builder().processes(2).nodes([last]).build().unwrap();
    let events = dragon.events();
    let error = far.submit(die_on, last.number()).unwrap().get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkerLost);
    let event = events.next_timeout(LONG).expect("the owner hears of a lost worker on another node");
    let dragon::Event::WorkerLost { node, task, .. } = event else { panic!("{event:?}") };
    assert!(node == last && task.unwrap().contains("kill_workers"));
    // One that has no task is known by nothing else.
    let idle = far.workers()[0].pid;
    // SAFETY: a signal to a process that was a worker of ours a moment ago, on this machine.
    unsafe { libc::kill(idle as i32, libc::SIGKILL) };
    let lost =
        |event: &dragon::Event| matches!(event, dragon::Event::WorkerLost { pid, task: None, .. } if *pid == idle);
    while !lost(&events.next_timeout(LONG).expect("the owner hears of a worker that had nothing to do")) {}
    assert!(error.to_string().contains(&last.to_string()), "it says where: {error}");
    assert_eq!(far.submit(die_on, 99).unwrap().get().unwrap(), last.number(), "another worker took its place");
    // The others go on.
    let tasks: Vec<_> = (0..60).map(|_| pool.submit(die_on, last.number()).unwrap()).collect();
    let results: Vec<_> = tasks.into_iter().map(|task| task.get()).collect();
    assert!(results.iter().any(Result::is_ok));
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
    }
    let stubborn = Pool::builder().processes(3).retries(50).build().unwrap();
    let once = Queue::<u32>::bounded(8).unwrap();
    once.put(0).unwrap();
    let dies_once = |once: Queue<u32>| {
        if once.try_get().is_ok() {
            std::process::abort();
        }
        node_of_worker()
    };
    let tasks: Vec<_> = (0..30).map(|_| stubborn.submit(dies_once, once.clone()).unwrap()).collect();
    tasks.into_iter().for_each(|task| assert!(task.get().is_ok()));
    // By a signal from outside, while they work: nothing is lost with retries.
    let victims: Vec<u32> =
        stubborn.workers().iter().filter(|worker| worker.node != dragon.node()).map(|worker| worker.pid).collect();
    let slow = |x: u64| {
        // what the task takes
        std::thread::sleep(Duration::from_millis(10));
        x
    };
    let map = stubborn.chunk(1).map_async(slow, 0..100).unwrap();
    until_all_work(&stubborn); // and have something to lose
    for pid in victims {
        // SAFETY: a signal to a process of this test.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    }
    assert!(map.get().unwrap().into_iter().eq(0..100));
}

#[test]
fn a_lost_node_takes_only_what_it_had() {
    for part in ["lose_node", "lose_node_retrying"] {
        let outputs = start(part, &[0, 1, 2]).outputs();
        let said = || outputs.iter().map(common::text).collect::<Vec<_>>().join("\n");
        assert!(outputs[0].status.success() && outputs[2].status.success(), "{}", said());
    }
}

/// Rank 1 dies when it is told to.
fn lose_node(dragon: &Runtime, retries: u32) {
    if dragon.rank() == 1 {
        Queue::<()>::open_timeout("go", LONG).unwrap().get().unwrap();
        std::process::abort();
    }
    if dragon.rank() != 0 {
        return;
    }
    let go = Queue::<()>::builder().capacity(1).name("go").build().unwrap();
    let pool = Pool::builder().processes(6).retries(retries).build().unwrap();
    let slow = |x: u64| {
        // what the task takes
        std::thread::sleep(Duration::from_millis(5));
        x
    };
    let tasks: Vec<_> = (0..400).map(|x| pool.submit(slow, x).unwrap()).collect();
    until_all_work(&pool);
    go.put(()).unwrap();
    let results: Vec<dragon::Result<u64>> = tasks.into_iter().map(|task| task.get()).collect();
    let lost = results.iter().filter(|result| result.is_err()).count();
    for (x, result) in (0..).zip(results) {
        match result {
            Ok(y) => assert_eq!(x, y),
            Err(error) => {
                assert!(error.kind() == ErrorKind::WorkerLost && error.to_string().contains("node 1"), "{error}")
            }
        }
    }
    if retries > 0 {
        assert_eq!(lost, 0);
    } else {
        assert!((1..=8).contains(&lost), "what two workers had, and what was on the way to them: {lost}");
    }
    assert!(pool.map(|x: u64| x + 1, 0..1_000).unwrap().into_iter().eq(1..1_001), "it goes on with the rest");
    let context = pool.map_with(&5_u64, |five: &u64, x: u64| x * five, 0..100).unwrap();
    assert_eq!(context[99], 495);
    let nodes: BTreeSet<u32> = pool.workers().iter().map(|worker| worker.node.number()).collect();
    assert_eq!(nodes, [0, 2].into());
    pool.close();
    pool.join().unwrap();
    let after = Pool::new(4).unwrap();
    assert_eq!(nodes_used(&after), [0, 2].into(), "a new pool does without");
}

#[test]
fn what_travels_may_be_large_and_may_hold_handles() {
    start("travel", &[0, 1]).ends_well();
}

fn travel(dragon: &Runtime) {
    let last = *dragon.nodes().last().unwrap();
    let pool = Pool::builder().processes(1).nodes([last]).build().unwrap();
    for megabytes in [1_usize, 100] {
        let bytes: Vec<u8> = (0..megabytes << 20).map(|at| (at % 251) as u8).collect();
        let back = pool
            .submit(
                |mut bytes: Vec<u8>| {
                    bytes.reverse();
                    bytes
                },
                bytes.clone(),
            )
            .unwrap()
            .get()
            .unwrap();
        assert!(back.len() == bytes.len() && back.iter().eq(bytes.iter().rev()));
    }
    let queue = Queue::<String>::bounded(4).unwrap();
    let answers: Queue<u32> = pool
        .submit(
            |queue: Queue<String>| {
                queue.put(format!("from {}", node_of_worker())).unwrap();
                let mine = Queue::<u32>::bounded(2).unwrap();
                mine.put(42).unwrap();
                mine
            },
            queue.clone(),
        )
        .unwrap()
        .get()
        .unwrap();
    assert_eq!(queue.get_timeout(LONG).unwrap(), format!("from {}", last.number()));
    assert_eq!((answers.get().unwrap(), answers.node()), (42, last));
    // A pool inside a task of a far worker, which has workers on all nodes too.
    let nested = |n: u64| {
        let pool = Pool::new(2).unwrap();
        let nodes = pool.workers().iter().map(|worker| worker.node.number()).collect::<BTreeSet<_>>().len();
        let sum: u64 = pool.map(|x: u64| x, 0..n).unwrap().into_iter().sum();
        pool.close();
        pool.join().unwrap();
        (sum, nodes)
    };
    assert_eq!(pool.submit(nested, 100).unwrap().get().unwrap(), (4950, 2));
}

#[test]
fn every_rank_may_have_pools_and_several() {
    start("everybody", &[0, 0, 1, 1]).ends_well();
    start("everybody", &[0, 1, 2]).ends_well();
}

fn everybody(dragon: &Runtime) {
    let salt = dragon.rank() as u64 * 1_000;
    let pools: Vec<Pool> = (0..2).map(|_| Pool::new(2).unwrap()).collect();
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(move || {
                for _ in 0..5 {
                    let got = pool.map(|x: u64| x + 1, salt..salt + 500).unwrap();
                    assert!(got.into_iter().eq(salt + 1..salt + 501));
                }
            });
        }
    });
    assert!(pools.iter().all(|pool| nodes_used(pool).len() == 2));
}

#[test]
fn nothing_is_left_of_a_pool_that_ended_in_whatever_way() {
    start("leave", &[0, 1]).ends_well();
    start("leave", &[0, 0, 1]).ends_well();
}

/// Whether a process is there and not a corpse.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn all_gone(pids: &[u32]) -> bool {
    let begun = std::time::Instant::now();
    while pids.iter().any(|pid| lives(*pid)) {
        if begun.elapsed() > Duration::from_secs(10) {
            return false;
        }
        // between two looks
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn leave(dragon: &Runtime) {
    if dragon.rank() != dragon.size() - 2 {
        return;
    }
    let pids = |pool: &Pool| pool.workers().iter().map(|worker| worker.pid).collect::<Vec<_>>();
    // a task without end
    let wait = |()| std::thread::sleep(Duration::from_secs(600));
    for way in 0..4 {
        let pool = Pool::new(4).unwrap();
        let workers = pids(&pool);
        pool.chunk(1).map(|_: u32| (), 0..40).unwrap();
        assert_eq!(workers.len(), 4);
        match way {
            0 => {
                let tasks: Vec<_> = (0..50_u64).map(|x| pool.submit(|x: u64| x, x).unwrap()).collect();
                pool.close();
                pool.join().unwrap();
                assert!(tasks.into_iter().map(|task| task.get().unwrap()).eq(0..50));
                assert!(workers.iter().all(|pid| !lives(*pid)), "joined means gone");
            }
            1 => {
                let tasks: Vec<_> = (0..30).map(|_| pool.submit(wait, ()).unwrap()).collect();
                until_all_work(&pool);
                assert!(tasks[29].cancel(), "it waits on this side");
                assert_eq!(tasks.iter().filter(|task| task.cancel()).count(), 25, "all but what four workers do");
                pool.terminate(Duration::from_millis(50)).unwrap();
                assert!(workers.iter().all(|pid| !lives(*pid)), "terminated means gone");
                assert!(tasks.into_iter().all(|task| task.get().unwrap_err().is_cancelled()));
            }
            2 => {
                drop(pool.submit(wait, ()).unwrap());
                drop(pool);
                assert!(workers.iter().all(|pid| !lives(*pid)), "dropped means gone");
            }
            _ => {
                // Its owner is killed: a worker of this rank, with a pool of its own.
                let outer = Pool::builder().processes(1).local().build().unwrap();
                let found = Queue::<Vec<u32>>::bounded(1).unwrap();
                let task = outer.submit(
                    |found: Queue<Vec<u32>>| {
                        let pool = Pool::new(4).unwrap();
                        // a task without end
                        let _busy = pool.submit(|()| std::thread::sleep(Duration::from_secs(600)), ()).unwrap();
                        found.put(pool.workers().iter().map(|worker| worker.pid).collect()).unwrap();
                        // a task without end
                        std::thread::sleep(Duration::from_secs(600));
                    },
                    found.clone(),
                );
                let grandchildren = found.get_timeout(LONG).unwrap();
                outer.kill().unwrap();
                drop(task);
                assert!(grandchildren.len() == 4 && all_gone(&grandchildren), "{grandchildren:?}");
            }
        }
    }
}

#[test]
fn a_pool_of_a_rank_that_is_cut_off_goes_on_with_what_it_has() {
    let outputs = start("cut", &[0, 0, 1]).outputs();
    let said = || outputs.iter().map(common::text).collect::<Vec<_>>().join("\n");
    assert!(outputs[1].status.success() && outputs[2].status.success(), "{}", said());
}

/// Rank 1 reaches the other node by way of rank 0, which dies.
fn cut(dragon: &Runtime) {
    match dragon.rank() {
        0 => {
            Queue::<()>::open_timeout("go", LONG).unwrap().get().unwrap();
            std::process::abort();
        }
        1 => {
            let go = Queue::<()>::builder().capacity(1).name("go").build().unwrap();
            let pool = Pool::builder().processes(4).build().unwrap();
            let stuck = pool.chunk(1).map_async(
                |x: u64| {
                    // A task without end on the far node, a short one on this.
                    std::thread::sleep(Duration::from_millis(if node_of_worker() == 1 { 600_000 } else { 1 }));
                    x
                },
                0..100,
            );
            go.put(()).unwrap();
            let error = stuck.unwrap().get().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
            assert!(pool.map(|x: u64| x + 1, 0..100).unwrap().into_iter().eq(1..101));
            assert!(pool.workers().iter().all(|worker| worker.node == dragon.node()));
            pool.close();
            pool.join().unwrap();
        }
        _ => {}
    }
}
