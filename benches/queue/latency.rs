//! A message there and one back, between two processes, each on its core.

use std::hint::black_box;
use std::mem;

use super::common::limits::{self, nanoseconds_each};
use super::common::os;
use super::common::table::Race;
use super::{EXPECT, Others, Words};
use dragon::{Pool, Queue};

pub fn races(pool: &Pool, others: &Others) {
    let light = Some(limits::ring_round_trip::<8> as fn() -> f64);
    race("latency: 8 B, round trip", 8, 100_000, others, light, || small::<1>(pool));
    let light = Some(limits::ring_round_trip::<64> as fn() -> f64);
    race("latency: 64 B, round trip", 64, 100_000, others, light, || small::<8>(pool));
    let light = Some(limits::ring_round_trip::<1024> as fn() -> f64);
    race("latency: 1 KiB, round trip", 1024, 50_000, others, light, || small::<128>(pool));
    race("latency: 64 KiB, round trip", 64 << 10, 5_000, others, None, || large(pool, 64 << 10, 5_000));
    race("latency: 1 MiB, round trip", 1 << 20, 400, others, None, || large(pool, 1 << 20, 400));
}

fn race(
    title: &'static str,
    bytes: usize,
    turns: u64,
    others: &Others,
    light: Option<fn() -> f64>,
    ours: impl FnMut() -> f64,
) {
    let mut race = Race::new(title, "ns").runner("queue", ours).maybe("raw ring", light);
    for &name in &others.names {
        // Those that sleep in between take a thousand times as long.
        let turns = if ["ipc-channel", "ZeroMQ"].contains(&name) { (turns / 20).max(100) } else { turns };
        race = race.runner(name, move || others.figure(name, "latency", bytes, turns));
    }
    let dragonhpc = others.dragonhpc.as_ref();
    race = race.maybe("DragonHPC", dragonhpc.map(|peer| move || peer.figure_of("dragon_queue.py", &bytes.to_string())));
    let outcome = race.run();
    if light.is_some() && bytes <= 64 {
        outcome.at_most("queue", 2.0, "raw ring");
    }
    for name in &others.names {
        outcome.at_most("queue", 1.0, name);
    }
    if dragonhpc.is_some() && bytes == 8 {
        outcome.at_most("queue", 0.02, "DragonHPC");
    }
}

fn echo<const N: usize>((there, back, core, turns): (Words<N>, Words<N>, usize, u64)) {
    let _pinned = os::pin(core);
    for _ in 0..turns {
        back.put(there.get().expect("the bench puts as many")).expect("the bench takes as many");
    }
}

/// Plain numbers, which travel in the queue's own memory.
fn small<const N: usize>(pool: &Pool) -> f64 {
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

type Bytes = Queue<Vec<u8>>;

fn echo_bytes((there, back, core, turns): (Bytes, Bytes, usize, u64)) {
    let _pinned = os::pin(core);
    for _ in 0..turns {
        back.put(there.get().expect("the bench puts as many")).expect("the bench takes as many");
    }
}

/// Vectors, which are copied into a block of shared memory and out of it.
fn large(pool: &Pool, bytes: usize, turns: u64) -> f64 {
    let [here, there] = os::two_cores();
    let queue = || Bytes::bounded(4).expect(EXPECT);
    let (to, from) = (queue(), queue());
    let partner = pool.submit(echo_bytes, (to.clone(), from.clone(), there, turns)).expect("the pool is open");
    let _pinned = os::pin(here);
    let mut message = vec![7; bytes];
    let figure = nanoseconds_each(turns, |_| {
        to.put(mem::take(&mut message)).expect("nobody closes it");
        message = from.get().expect("nobody closes it");
    });
    partner.get().expect("echo does not fail");
    figure
}
