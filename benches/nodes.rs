//! A pool over four nodes against the same pool on one: what the network costs a task.
//!
//! The program starts itself as four ranks on four nodes, which reach each other by tcp over the loopback; rank 0 measures,
//! the others wait at the end.

mod common;

use std::hint::black_box;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::limits::median_microseconds;
use common::machine;
use common::table::Race;
use dragon::Pool;

const NODES: usize = 4;
const WORKERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);

fn main() {
    if std::env::var_os("DRAGON_RANK").is_none() {
        return start_ranks();
    }
    let dragon = dragon::init().expect("four ranks of one program");
    if dragon.rank() == 0 {
        machine::print_head("nodes");
        races();
    }
    dragon.finalize().expect("all ranks come to the end");
}

fn start_ranks() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let rank = |rank: usize| {
        let mut command = Command::new(std::env::current_exe().expect("/proc is mounted"));
        command.args(std::env::args_os().skip(1));
        command.env("DRAGON_RENDEZVOUS", format!("127.0.0.1:{}", free.port()));
        command.env("DRAGON_RANK", rank.to_string()).env("DRAGON_NODE_ID", rank.to_string());
        command.env("DRAGON_SIZE", NODES.to_string()).env("DRAGON_SECRET", "of this bench and no other");
        command.stdin(Stdio::null()).spawn().expect("this program can be started")
    };
    let ranks: Vec<_> = (0..NODES).map(rank).collect();
    for mut rank in ranks {
        assert!(rank.wait().expect("nobody else reaps it").success(), "a rank failed");
    }
}

fn nap(argument: Vec<u8>) -> u64 {
    std::thread::sleep(Duration::from_millis(1));
    argument.len() as u64
}

fn same(item: u64) -> u64 {
    item
}

/// Microseconds for each of so many tasks, by one map.
fn map_cost(pool: &Pool, tasks: usize) -> f64 {
    let items = vec![vec![7; 1024]; tasks];
    let begin = Instant::now();
    let lengths = pool.chunk(1).map(nap, items).expect("a nap does not fail");
    let each = begin.elapsed().as_secs_f64() * 1e6 / tasks as f64;
    assert!(lengths.iter().all(|length| *length == 1024));
    each
}

/// The same, submitted one by one.
fn submit_cost(pool: &Pool, tasks: usize) -> f64 {
    let begin = Instant::now();
    let tasks: Vec<_> = (0..tasks).map(|_| pool.submit(nap, vec![7; 1024]).expect("the pool is open")).collect();
    let count = tasks.len();
    tasks.into_iter().for_each(|task| assert_eq!(task.get().expect("a nap does not fail"), 1024));
    begin.elapsed().as_secs_f64() * 1e6 / count as f64
}

/// Thousands of empty tasks a second.
fn rate(pool: &Pool) -> f64 {
    const TASKS: u64 = 20_000;
    let begin = Instant::now();
    black_box(pool.chunk(1).map(same, 0..TASKS).expect("same does not fail"));
    TASKS as f64 / begin.elapsed().as_secs_f64() / 1e3
}

fn round_trip(pool: &Pool) -> f64 {
    median_microseconds(50, PAUSE, |item| {
        let task = pool.submit(same, u64::from(item)).expect("the pool is open");
        black_box(task.get().expect("same does not fail"));
    })
}

fn races() {
    let builder = || Pool::builder().processes(WORKERS);
    let near = builder().local().build().expect("there is room for workers");
    let far = builder().build().expect("there is room for workers");
    let last = dragon::init().expect("it is up").nodes()[NODES - 1];
    let one = |builder: dragon::PoolBuilder| builder.build().expect("there is room for a worker");
    let one_near = one(Pool::builder().processes(1).local());
    let one_far = one(Pool::builder().processes(1).nodes([last]));
    [&near, &far, &one_near, &one_far].iter().for_each(|pool| assert!(map_cost(pool, 64) > 0.0));

    Race::new("tasks of 1 ms with 1 KiB, 8 workers, by a map", "us")
        .runner("on one node", || map_cost(&near, 1600))
        .runner("on four nodes", || map_cost(&far, 1600))
        .run()
        .at_most("on four nodes", 1.5, "on one node");
    Race::new("tasks of 1 ms with 1 KiB, 8 workers, submitted", "us")
        .runner("on one node", || submit_cost(&near, 1600))
        .runner("on four nodes", || submit_cost(&far, 1600))
        .run()
        .at_most("on four nodes", 1.5, "on one node");
    Race::new("empty tasks, 8 workers, one in each message", "k/s")
        .runner("on one node", || rate(&near))
        .runner("on four nodes", || rate(&far))
        .run();
    Race::new("submit and get, all asleep", "us")
        .runner("on this node", || round_trip(&one_near))
        .runner("on another node", || round_trip(&one_far))
        .run();
}
