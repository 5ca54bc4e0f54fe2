//! Queues and pools between nodes on a network that delays by 100 ms each way, loses 5 % and breaks connections.
//!
//! The network is `DRAGON_TRANSPORT=lossy+tcp`; each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use std::time::{Duration, Instant};

use common::{LONG, start_with};
use dragon::{Pool, Queue, Runtime};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "queue" => queue(&dragon),
        "pool" if dragon.rank() == 0 => pool(),
        "pool" => {}
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

fn on_a_bad_network(part: &str) {
    start_with(part, &[0, 1, 2], |_| vec![("DRAGON_TRANSPORT", "lossy+tcp".into())]).ends_well();
}

#[test]
fn a_queue_loses_and_doubles_nothing() {
    on_a_bad_network("queue");
}

const THREADS: u64 = 8;
const EACH: u64 = 6;

fn queue(dragon: &Runtime) {
    let others = dragon.size() as u64 - 1;
    if dragon.rank() == 0 {
        let inbox = Queue::<(u64, u64, Vec<u8>)>::builder().capacity(64).name("inbox").build().unwrap();
        let mut next = vec![0; (others * THREADS) as usize];
        for _ in 0..others * THREADS * EACH {
            let (who, number, body) = inbox.get_timeout(LONG).unwrap();
            assert_eq!(number, next[who as usize], "once, and in order");
            assert!(body.iter().all(|byte| u64::from(*byte) == (who + number) % 251));
            next[who as usize] += 1;
        }
        assert!(inbox.is_empty() && next.iter().all(|count| *count == EACH));
        return;
    }
    let inbox = Queue::<(u64, u64, Vec<u8>)>::open_timeout("inbox", LONG).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (inbox, who) = (&inbox, (dragon.rank() as u64 - 1) * THREADS + thread);
            scope.spawn(move || {
                for number in 0..EACH {
                    // Some in a frame, some in a block of their own.
                    let body = vec![((who + number) % 251) as u8; 10_usize.pow(1 + (number % 5) as u32)];
                    inbox.put((who, number, body)).unwrap();
                }
            });
        }
    });
    assert!(
        begun.elapsed() > Duration::from_millis(200) * EACH as u32,
        "the network is bad: each put goes there and back"
    );
}

#[test]
fn a_pool_does_each_task_once() {
    on_a_bad_network("pool");
}

fn pool() {
    let done = Queue::<u64>::unbounded().unwrap();
    for pool in [Pool::builder().processes(6), Pool::builder().on_ranks()] {
        let pool = pool.build().unwrap();
        let work = |(x, done): (u64, Queue<u64>)| {
            if x % 10 == 0 {
                done.put(x).unwrap();
            }
            vec![x as u8; (x * x) as usize]
        };
        let results = pool.chunk(1).map(work, (0..80).map(|x| (x, done.clone()))).unwrap();
        assert!(results.iter().zip(0_u64..).all(|(result, x)| result.len() as u64 == x * x));
        let mut did = done.get_many(1_000).unwrap();
        did.sort_unstable();
        assert!(did.into_iter().eq((0..80).step_by(10)), "no task was run twice");
    }
}
