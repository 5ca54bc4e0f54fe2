//! Queues against the speed of light and against other people's queues: latency, throughput, wake-ups, crowds.

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::limits::{self, nanoseconds_each};
use common::table::Race;
use common::{machine, os};
use dragon::codec::Pod;
use dragon::{Pool, Queue};

const EXPECT: &str = "a bench runs where dragon runs";

fn main() {
    machine::print_head("queue");
    let _dragon = dragon::init().expect(EXPECT);
    let pool = Pool::new(1).expect(EXPECT);
    latency(&pool);
    throughput(&pool);
}

type Words<const N: usize> = Queue<[u64; N], Pod>;

fn latency(pool: &Pool) {
    Race::new("latency: round trip of 8 B", "ns")
        .runner("raw ring", limits::ring_round_trip::<8>)
        .runner("queue", || round_trip::<1>(pool))
        .run()
        .at_most("queue", 2.0, "raw ring");
    Race::new("latency: round trip of 64 B", "ns")
        .runner("raw ring", limits::ring_round_trip::<64>)
        .runner("queue", || round_trip::<8>(pool))
        .run()
        .at_most("queue", 2.0, "raw ring");
}

fn echo<const N: usize>((there, back, core, turns): (Words<N>, Words<N>, usize, u64)) {
    let _pinned = os::pin(core);
    for _ in 0..turns {
        back.put(there.get().expect("the bench puts as many")).expect("the bench takes as many");
    }
}

fn round_trip<const N: usize>(pool: &Pool) -> f64 {
    let turns = 100_000;
    let [here, there] = os::two_cores();
    let queue = || Words::<N>::bounded_with(16).expect(EXPECT);
    let (to, from) = (queue(), queue());
    let partner = pool.submit(echo::<N>, (to.clone(), from.clone(), there, turns)).expect("the pool is open");
    let _pinned = os::pin(here);
    let figure = nanoseconds_each(turns, |_| {
        to.put(black_box([7; N])).expect("nobody closes it");
        black_box(from.get().expect("nobody closes it"));
    });
    partner.get().expect("echo does not fail");
    figure
}

fn throughput(pool: &Pool) {
    Race::new("throughput: one producer, one consumer, 8 B", "M/s")
        .runner("raw ring", limits::ring_rate::<8>)
        .runner("queue", || rate::<1>(pool))
        .run();
    Race::new("throughput: one producer, one consumer, 64 B", "M/s")
        .runner("raw ring", limits::ring_rate::<64>)
        .runner("queue", || rate::<8>(pool))
        .run();
}

fn drain<const N: usize>((from, core, messages): (Words<N>, usize, u64)) {
    let _pinned = os::pin(core);
    for _ in 0..messages {
        black_box(from.get().expect("the bench puts as many"));
    }
}

fn rate<const N: usize>(pool: &Pool) -> f64 {
    let messages = 2_000_000;
    let [here, there] = os::two_cores();
    let to = Words::<N>::bounded_with(1024).expect(EXPECT);
    let partner = pool.submit(drain::<N>, (to.clone(), there, messages + 1)).expect("the pool is open");
    let _pinned = os::pin(here);
    to.put([7; N]).expect("nobody closes it");
    while !to.is_empty() {
        std::hint::spin_loop();
    }
    let begin = Instant::now();
    for _ in 0..messages {
        to.put(black_box([7; N])).expect("nobody closes it");
    }
    partner.get().expect("drain does not fail");
    messages as f64 / begin.elapsed().as_secs_f64() / 1e6
}
