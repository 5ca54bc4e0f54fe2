//! Channels against the speed of light: a raw ring, and a copy that does not happen.

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::limits::{self, nanoseconds_each};
use common::table::Race;
use common::{machine, os};
use dragon::{Channel, Pool};

fn main() {
    machine::print_head("channel");
    let _dragon = dragon::init().expect("a bench runs where dragon runs");
    let pool = Pool::new(1).expect("one worker");
    round_trips(&pool);
    rates(&pool);
    loans(&pool);
}

fn round_trips(pool: &Pool) {
    Race::new("channel: round trip of 64 B between two processes", "ns")
        .runner("raw ring", limits::ring_round_trip::<64>)
        .runner("channel", || round_trip(pool, 64, 64))
        .runner("two cache lines", limits::two_lines)
        .run()
        .at_most("channel", 2.0, "raw ring");
    Race::new("channel: round trip of 1 KiB between two processes", "ns")
        .runner("raw ring", limits::ring_round_trip::<1024>)
        .runner("channel, inline", || round_trip(pool, 1024, 1024))
        .runner("channel, in a block", || round_trip(pool, 64, 1024))
        .run();
}

/// Sends back what comes, so many times.
fn echo((there, back, core, turns): (Channel, Channel, usize, u64)) {
    let _pinned = os::pin(core);
    for _ in 0..turns {
        let message = there.recv().expect("the bench sends as many");
        back.send(&message).expect("the bench takes as many");
    }
}

/// Nanoseconds for a message of `size` bytes to a worker and back, `inline` of them in the ring.
fn round_trip(pool: &Pool, inline: usize, size: usize) -> f64 {
    let turns = 100_000;
    let [here, there] = os::two_cores();
    let (to, from) = (channel(16, inline), channel(16, inline));
    let partner = pool.submit(echo, (to.clone(), from.clone(), there, turns)).expect("the pool is open");
    let _pinned = os::pin(here);
    let message = vec![7; size];
    let figure = nanoseconds_each(turns, |_| {
        to.send(black_box(&message)).expect("nobody closes it");
        black_box(from.recv().expect("nobody closes it").len());
    });
    partner.get().expect("echo does not fail");
    figure
}

fn channel(capacity: usize, inline: usize) -> Channel {
    Channel::create(capacity, inline).expect("there is memory for a channel")
}

fn rates(pool: &Pool) {
    Race::new("channel: one way from one process to another, 64 B", "M/s")
        .runner("raw ring", limits::ring_rate::<64>)
        .runner("channel", || rate(pool, 64))
        .run()
        .reaches("channel", 10.0);
}

/// Takes so many messages.
fn drain((from, core, messages): (Channel, usize, u64)) {
    let _pinned = os::pin(core);
    for _ in 0..messages {
        black_box(from.recv().expect("the bench sends as many").len());
    }
}

/// Millions of messages of `size` bytes a second to a worker, until it has the last.
fn rate(pool: &Pool, size: usize) -> f64 {
    let messages = 2_000_000;
    let [here, there] = os::two_cores();
    let to = channel(1024, size);
    let partner = pool.submit(drain, (to.clone(), there, messages + 1)).expect("the pool is open");
    let _pinned = os::pin(here);
    let message = vec![7; size];
    // The clock starts when the partner is there.
    to.send(&message).expect("nobody closes it");
    while !to.is_empty() {
        std::hint::spin_loop();
    }
    let begin = Instant::now();
    for _ in 0..messages {
        to.send(black_box(&message)).expect("nobody closes it");
    }
    partner.get().expect("drain does not fail");
    messages as f64 / begin.elapsed().as_secs_f64() / 1e6
}

const LOAN: usize = 64 << 20;

fn loans(pool: &Pool) {
    Race::new("channel: 64 MiB from one process to another", "us")
        .runner("a copy within one process", || limits::copy(LOAN))
        .runner("a loaned message, and an answer", || loan(pool))
        .run()
        .at_most("a loaned message, and an answer", 0.1, "a copy within one process");
}

/// Answers each message with its first and last byte.
fn witness((there, back, turns): (Channel, Channel, u64)) {
    for _ in 0..turns {
        let message = there.recv().expect("the bench sends as many");
        back.send(&[message[0], message[message.len() - 1]]).expect("the bench takes as many");
    }
}

/// Microseconds from sending a full loan until the other side has looked at both ends of it. Filling it is not
/// counted: that is the work of whoever makes the message.
fn loan(pool: &Pool) -> f64 {
    let turns = 5;
    let (to, from) = (channel(2, 64), channel(2, 64));
    let partner = pool.submit(witness, (to.clone(), from.clone(), turns)).expect("the pool is open");
    let times = (0..turns).map(|turn| {
        let mut message = to.loan(LOAN).expect("there are 64 MiB to loan");
        message.fill(turn as u8);
        let begin = Instant::now();
        to.send_loan(message).map_err(|(error, _)| error).expect("nobody closes it");
        let seen = from.recv().expect("nobody closes it");
        let time = begin.elapsed().as_nanos() as f64 / 1e3;
        assert_eq!(&*seen, [turn as u8; 2]);
        time
    });
    let mut times: Vec<f64> = times.collect();
    partner.get().expect("witness does not fail");
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
