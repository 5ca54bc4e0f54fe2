//! The pool against threads that share memory (rayon), against spawning itself, and against DragonHPC's pool.

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::limits::{self, Wait, median_microseconds, nanoseconds_each};
use common::peers::DragonHpc;
use common::table::Race;
use common::{machine, os, role};
use dragon::{Channel, Policy, Pool};
use rayon::prelude::*;

const ITEMS: u64 = 100_000;

/// Long enough for everybody to fall asleep, and for a core to notice.
const PAUSE: Duration = Duration::from_millis(5);

fn main() {
    if role::mine() == "nothing" {
        return;
    }
    machine::print_head("pool");
    let _dragon = dragon::init().expect("a bench runs where dragon runs");
    let peer = DragonHpc::find();
    if peer.is_none() {
        println!("  DragonHPC is not measured: BENCH_DRAGONHPC names no launcher (benches/README.md)");
    }
    maps(peer.as_ref());
    submits();
    starts(peer.as_ref());
    joins(peer.as_ref());
}

fn same(item: u64) -> u64 {
    item
}

/// Millions of items a second for one map over them all.
fn map_rate(map: impl FnOnce() -> Vec<u64>) -> f64 {
    let begin = Instant::now();
    let answers = black_box(map());
    let seconds = begin.elapsed().as_secs_f64();
    assert!(answers.len() as u64 == ITEMS && answers.last() == Some(&(ITEMS - 1)));
    ITEMS as f64 / seconds / 1e6
}

/// As the peer's program does it: one map after the other, and the one in the middle counts.
fn median_of_five(figure: impl Fn() -> f64) -> f64 {
    let mut figures: [f64; 5] = std::array::from_fn(|_| figure());
    figures.sort_by(f64::total_cmp);
    figures[2]
}

fn maps(peer: Option<&DragonHpc>) {
    let pool = warm_pool(2);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let items: Vec<u64> = (0..ITEMS).collect();
    let items = || items.iter().copied();

    Race::new("map: 100,000 numbers, two workers, default chunks", "M/s")
        .runner("dragon", || median_of_five(|| map_rate(|| pool.map(same, items()).expect("same does not fail"))))
        .maybe("DragonHPC", peer.map(|peer| || peer.figure("map") / 1e6))
        .run()
        .at_least("dragon", 20.0, "DragonHPC");

    let shared: Vec<u64> = items().collect();
    let one_by_one = || shared.par_iter().with_max_len(1).map(|item| same(*item)).collect();
    Race::new("map: 100,000 numbers, two workers, one in each task", "M/s")
        .runner("rayon, one task per item", || map_rate(|| threads.install(one_by_one)))
        .runner("rayon, one spawn per item", || map_rate(|| spawn_each(&threads)))
        .runner("dragon, chunk(1)", || map_rate(|| pool.chunk(1).map(same, items()).expect("same does not fail")))
        .maybe("DragonHPC", peer.map(|peer| || peer.figure("one") / 1e6))
        .run()
        .at_least("dragon, chunk(1)", 0.05, "rayon, one task per item")
        .at_least("dragon, chunk(1)", 50.0, "DragonHPC");
}

fn spawn_each(threads: &rayon::ThreadPool) -> Vec<u64> {
    let mut answers = vec![0; ITEMS as usize];
    threads.scope(|scope| {
        for (item, answer) in answers.iter_mut().enumerate() {
            scope.spawn(move |_| *answer = same(item as u64));
        }
    });
    answers
}

/// A pool whose workers have all run a task.
fn warm_pool(workers: usize) -> Pool {
    let pool = Pool::new(workers).expect("there is room for workers");
    until_all_ran(&pool, workers);
    pool
}

/// Such a pool with so many workers on each of two cpus.
fn bound_pool(each: usize) -> Pool {
    let policies = os::two_cores().map(|cpu| Policy::new().local().cpus([cpu]));
    let pool = Pool::builder().policies(policies, each).build().expect("the cpus are there");
    until_all_ran(&pool, 2 * each);
    pool
}

/// Ends when every worker has run a task: each says that it is there and waits until all are.
fn until_all_ran(pool: &Pool, workers: usize) {
    let channel = || Channel::create(workers, 8).expect("there is memory for a channel");
    let (here, go) = (channel(), channel());
    let meet = |(here, go): (Channel, Channel)| {
        here.send(&[]).expect("the bench takes as many");
        drop(go.recv().expect("the bench sends as many"));
    };
    let submit = |_| pool.submit(meet, (here.clone(), go.clone())).expect("the pool is open");
    let tasks: Vec<_> = (0..workers).map(submit).collect();
    (0..workers).for_each(|_| drop(here.recv().expect("every worker comes")));
    (0..workers).for_each(|_| go.send(&[]).expect("nobody closes it"));
    tasks.into_iter().for_each(|task| task.get().expect("meeting does not fail"));
}

fn submits() {
    let [here, there] = os::two_cores();
    let pool = warm_pool(1);
    let stay = |core| std::mem::forget(os::pin(core));
    pool.submit(stay, there).expect("the pool is open").get().expect("that core exists");
    let submit = |item| {
        let task = pool.submit(same, item).expect("the pool is open");
        black_box(task.get().expect("same does not fail"));
    };

    Race::new("submit: round trip to a worker that spins", "ns")
        .runner("raw ring, 64 B", limits::ring_round_trip::<64>)
        .runner("submit and get", || {
            let _pinned = os::pin(here);
            nanoseconds_each(20_000, submit)
        })
        .run()
        .at_most("submit and get", 5.0, "raw ring, 64 B");

    Race::new("submit: round trip to a worker that sleeps", "us")
        .runner("futex, both asleep", || limits::wake_round_trip(Wait::Asleep, PAUSE))
        .runner("submit and get", || {
            let _pinned = os::pin(here);
            median_microseconds(100, PAUSE, |item| submit(u64::from(item)))
        })
        .run()
        .at_most("submit and get", 1.3, "futex, both asleep");
}

fn milliseconds(body: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    body();
    begin.elapsed().as_secs_f64() * 1e3
}

fn starts(peer: Option<&DragonHpc>) {
    let itself = role::program("nothing");
    Race::new("start: a new pool of 8, until every worker has run a task", "ms")
        .runner("spawn and reap itself 8 times", || limits::spawn(&itself, 8, false))
        .runner("spawn itself 8 times at once, reap", || limits::spawn(&itself, 8, true))
        .runner("dragon", || {
            let mut pool = None;
            let time = milliseconds(|| pool = Some(warm_pool(8)));
            close(&pool.expect("made above"));
            time
        })
        .runner("dragon, bound to two cpus", || {
            let mut pool = None;
            let time = milliseconds(|| pool = Some(bound_pool(4)));
            close(&pool.expect("made above"));
            time
        })
        .maybe("DragonHPC", peer.map(|peer| || peer.figure("start") * 1e3))
        .run()
        .at_most("dragon", 2.0, "spawn and reap itself 8 times")
        .at_most("dragon, bound to two cpus", 1.2, "dragon");
}

fn close(pool: &Pool) {
    pool.close();
    pool.join().expect("idle workers leave when told");
}

fn joins(peer: Option<&DragonHpc>) {
    Race::new("join: close and join 32 idle workers", "ms")
        .at_most_rounds(5)
        .runner("dragon", || {
            let pool = warm_pool(32);
            milliseconds(|| close(&pool))
        })
        .maybe("DragonHPC", peer.map(|peer| || peer.figure("join") * 1e3))
        .run()
        .below("dragon", 50.0);
}
