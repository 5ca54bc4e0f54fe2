//! Large messages one way: by loan without a copy, by `put` at one copy on each side.

use std::hint::black_box;
use std::time::Instant;

use super::EXPECT;
use super::common::limits;
use super::common::os;
use super::common::table::Race;
use dragon::{Channel, Pool, Queue};

const SIZE: usize = 1 << 20;
const MESSAGES: usize = 500;

pub fn races(pool: &Pool) {
    Race::new("large: 1 MiB one way, time of each", "us")
        .runner("a copy within one process", || limits::copy(SIZE))
        .runner("a copy of as many vectors in turn", copy_in_turn)
        .runner("a copy of as many vectors, each dropped", copy_and_drop)
        .runner("a copy into a new vector each time", copy_to_new)
        .runner("a vector by put, made and read by nobody", || by_put(pool).time)
        .runner("a loan, made and read by nobody", || by_loan(pool, false))
        .runner("a loan, filled and summed", || by_loan(pool, true))
        .run()
        // One copy in and one out overlap on two cores; what one copy costs between cores is more than in one.
        .at_most("a vector by put, made and read by nobody", 2.0, "a copy within one process")
        // Neither of the two sides can be faster than its copy, which is of bytes that are in no cache, and its vector.
        .at_most("a vector by put, made and read by nobody", 2.0, "a copy of as many vectors, each dropped")
        .at_most("a loan, made and read by nobody", 0.1, "a copy within one process");
    // A message has 256 pages. Those of shared memory are touched for the first time by the first few messages only.
    Race::new("large: 1 MiB by put, pages touched for the first time for each", "pages")
        .runner("by who puts", || by_put(pool).faults_here)
        .runner("by who takes", || by_put(pool).faults_there)
        .run()
        .below("by who puts", 1.0)
        .below("by who takes", 1.0);
}

/// What one of the two copies costs whose bytes are in no cache: each vector is read once, into blocks in turn.
fn copy_in_turn() -> f64 {
    let [here, _] = os::two_cores();
    let _pinned = os::pin(here);
    let messages = vec![vec![1_u8; SIZE]; MESSAGES];
    let mut blocks = vec![vec![2_u8; SIZE]; 4];
    let begin = Instant::now();
    for (n, message) in messages.iter().enumerate() {
        blocks[n % 4].copy_from_slice(black_box(message));
    }
    let figure = begin.elapsed().as_nanos() as f64 / 1e3 / MESSAGES as f64;
    black_box(&blocks);
    figure
}

/// The same and what else is the sender's: it lets go of its vector.
fn copy_and_drop() -> f64 {
    let [here, _] = os::two_cores();
    let _pinned = os::pin(here);
    let mut messages = vec![vec![1_u8; SIZE]; MESSAGES];
    let mut blocks = vec![vec![2_u8; SIZE]; 4];
    let begin = Instant::now();
    for (n, message) in messages.drain(..).enumerate() {
        blocks[n % 4].copy_from_slice(black_box(&message));
    }
    let figure = begin.elapsed().as_nanos() as f64 / 1e3 / MESSAGES as f64;
    black_box(&blocks);
    figure
}

/// What is the receiver's: a vector of its own, which it lets go of.
fn copy_to_new() -> f64 {
    let [here, _] = os::two_cores();
    let _pinned = os::pin(here);
    let blocks = vec![vec![2_u8; SIZE]; 4];
    let begin = Instant::now();
    for n in 0..MESSAGES {
        black_box(black_box(&blocks[n % 4]).to_vec());
    }
    begin.elapsed().as_nanos() as f64 / 1e3 / MESSAGES as f64
}

/// Takes all there are. How many bytes, and how many pages were touched for the first time.
fn take_bytes((from, core): (Queue<Vec<u8>>, usize)) -> (usize, u64) {
    let _pinned = os::pin(core);
    let before = os::page_faults();
    let bytes = from.iter().map(|message| black_box(message.expect("bytes are always read")).len()).sum();
    (bytes, os::page_faults() - before)
}

/// Of each message: microseconds, and pages touched for the first time on either side.
struct ByPut {
    time: f64,
    faults_here: f64,
    faults_there: f64,
}

fn by_put(pool: &Pool) -> ByPut {
    let [here, there] = os::two_cores();
    let queue = Queue::<Vec<u8>>::bounded(4).expect(EXPECT);
    let partner = pool.submit(take_bytes, (queue.clone(), there)).expect("the pool is open");
    let _pinned = os::pin(here);
    // A put takes its message, so there must be one for each; of pages that are there.
    let mut messages = vec![vec![1; SIZE]; MESSAGES];
    let (begin, before) = (Instant::now(), os::page_faults());
    for message in messages.drain(..) {
        queue.put(message).expect("nobody closes it");
    }
    let faults_here = os::page_faults() - before;
    queue.close();
    let (bytes, faults_there) = partner.get().expect("taking does not fail");
    assert_eq!(bytes, MESSAGES * SIZE);
    let time = begin.elapsed().as_nanos() as f64 / 1e3 / MESSAGES as f64;
    let each = |faults: u64| faults as f64 / MESSAGES as f64;
    ByPut { time, faults_here: each(faults_here), faults_there: each(faults_there) }
}

fn take_loans((from, core, reads): (Channel, usize, bool)) -> u64 {
    let _pinned = os::pin(core);
    let mut sum = 0;
    while let Ok(message) = from.recv() {
        sum += if reads { message.iter().map(|byte| u64::from(*byte)).sum::<u64>() } else { message.len() as u64 };
    }
    sum
}

/// `works`: the sender writes every byte of it, and the receiver reads it.
fn by_loan(pool: &Pool, works: bool) -> f64 {
    let [here, there] = os::two_cores();
    let channel = Channel::create(4, 64).expect(EXPECT);
    let partner = pool.submit(take_loans, (channel.clone(), there, works)).expect("the pool is open");
    let _pinned = os::pin(here);
    let begin = Instant::now();
    for _ in 0..MESSAGES {
        let mut loan = channel.loan(SIZE).expect("there is memory for a few");
        if works {
            loan.fill(1);
        }
        channel.send_loan(loan).map_err(|(error, _)| error).expect("nobody closes it");
    }
    channel.close();
    assert_eq!(partner.get().expect("taking does not fail"), (MESSAGES * SIZE) as u64);
    begin.elapsed().as_nanos() as f64 / 1e3 / MESSAGES as f64
}
