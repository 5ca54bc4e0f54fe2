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
        .runner("a vector by put, made and read by nobody", || by_put(pool))
        .runner("a loan, made and read by nobody", || by_loan(pool, false))
        .runner("a loan, filled and summed", || by_loan(pool, true))
        .run()
        // One copy in and one out overlap on two cores; what one copy costs between cores is more than in one.
        .at_most("a vector by put, made and read by nobody", 2.0, "a copy within one process")
        .at_most("a loan, made and read by nobody", 0.1, "a copy within one process");
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

fn take_bytes((from, core): (Queue<Vec<u8>>, usize)) -> usize {
    let _pinned = os::pin(core);
    from.iter().map(|message| black_box(message.expect("bytes are always read")).len()).sum()
}

fn by_put(pool: &Pool) -> f64 {
    let [here, there] = os::two_cores();
    let queue = Queue::<Vec<u8>>::bounded(4).expect(EXPECT);
    let partner = pool.submit(take_bytes, (queue.clone(), there)).expect("the pool is open");
    let _pinned = os::pin(here);
    // A put takes its message, so there must be one for each; of pages that are there.
    let mut messages = vec![vec![1; SIZE]; MESSAGES];
    let begin = Instant::now();
    for message in messages.drain(..) {
        queue.put(message).expect("nobody closes it");
    }
    queue.close();
    assert_eq!(partner.get().expect("taking does not fail"), MESSAGES * SIZE);
    begin.elapsed().as_nanos() as f64 / 1e3 / MESSAGES as f64
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
