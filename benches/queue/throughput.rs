//! Messages a second from several producers to several consumers: processes with a queue of ours, threads with
//! crossbeam's channel, and pairs of processes with iceoryx2, which has no queue that several take from.

use std::hint::black_box;
use std::iter;
use std::sync::Barrier as ThreadBarrier;
use std::thread;

use crossbeam::channel;

use super::common::limits;
use super::common::os;
use super::common::table::Race;
use super::{EXPECT, Others, Words};
use dragon::sync::Barrier;
use dragon::{Pool, Task};

/// So many that whoever begins late, or hears late that all is over, makes no difference.
const MESSAGES: u64 = 4_000_000;
const ROOM: usize = 1024;

pub fn races(others: &Others) {
    let pools = [1, 2, 4, 8].map(|pairs| Pool::new(2 * pairs).expect(EXPECT));
    let light = [limits::ring_rate::<8> as fn() -> f64, limits::ring_rate::<64>];
    race::<1>(
        ["throughput: 8 B, 1 to 1", "throughput: 8 B, 2 to 2", "throughput: 8 B, 4 to 4"],
        &pools,
        light[0],
        others,
    );
    race::<8>(
        ["throughput: 64 B, 1 to 1", "throughput: 64 B, 2 to 2", "throughput: 64 B, 4 to 4"],
        &pools,
        light[1],
        others,
    );
    crowd(&pools);
}

fn race<const N: usize>(titles: [&'static str; 3], pools: &[Pool], light: fn() -> f64, others: &Others) {
    for (title, pool) in titles.into_iter().zip(pools) {
        let pairs = pool.workers().len() / 2;
        let alone = pairs == 1;
        let mut race = Race::new(title, "M/s")
            .runner("queue", || ours::<N>(pool, How::OneByOne))
            .runner("queue, put_many and get_many", || ours::<N>(pool, How::Many))
            .runner("crossbeam, between threads", || crossbeam_threads::<N>(pairs))
            .maybe("raw ring", alone.then_some(light));
        if others.names.contains(&"iceoryx2") {
            let count = MESSAGES / pairs as u64 / 4;
            race = race.runner("iceoryx2", move || others.rate_of_several(pairs, "iceoryx2", 8 * N, count));
        }
        let outcome = race.run();
        outcome.at_least("queue", 1.0, "crossbeam, between threads");
        if others.names.contains(&"iceoryx2") {
            outcome.at_least("queue", 1.0, "iceoryx2");
        }
    }
}

/// How messages are put and taken.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
enum How {
    OneByOne,
    Many,
    /// Without a bound.
    Unbounded,
    /// All on one core.
    Squeezed,
}

/// More threads than cores: what is lost may be what the cores would have given, and no more.
fn crowd(pools: &[Pool; 4]) {
    let [one, two, four, eight] = pools;
    Race::new("crowd: 8 B, more processes than cores", "M/s")
        .runner("1 to 1, a core for each", || ours::<1>(one, How::OneByOne))
        .runner("1 to 1, both on one core", || ours::<1>(one, How::Squeezed))
        .runner("2 to 2", || ours::<1>(two, How::OneByOne))
        .runner("4 to 4", || ours::<1>(four, How::OneByOne))
        .runner("8 to 8", || ours::<1>(eight, How::OneByOne))
        .runner("1 to 1, without a bound", || ours::<1>(one, How::Unbounded))
        .run()
        .at_least("1 to 1, both on one core", 0.5, "1 to 1, a core for each")
        .at_least("4 to 4", 0.25, "1 to 1, a core for each")
        .at_least("8 to 8", 0.125, "1 to 1, a core for each");
}

/// What a producer or a consumer is told.
type Job<const N: usize> = (Words<N>, Barrier, Option<usize>, u64, How);

/// Puts its messages. When it began.
fn produce<const N: usize>((queue, start, core, messages, how): Job<N>) -> u64 {
    let _pinned = core.map(os::pin);
    start.wait().expect("all come");
    let began = os::clock();
    if let How::Many = how {
        let all = (0..messages as usize).map(|_| black_box([7; N]));
        assert_eq!(queue.put_many(all).expect("nobody closes it yet") as u64, messages);
    } else {
        (0..messages).for_each(|_| queue.put(black_box([7; N])).expect("nobody closes it yet"));
    }
    began
}

/// Takes until the queue is closed and empty. How many that were, and when it was over.
fn consume<const N: usize>((queue, start, core, _, how): Job<N>) -> (u64, u64) {
    let _pinned = core.map(os::pin);
    start.wait().expect("all come");
    let mut taken = 0;
    match how {
        How::Many => {
            while let Ok(messages) = queue.get_many(64) {
                taken += black_box(messages).len() as u64;
            }
        }
        _ => {
            while let Ok(message) = queue.get() {
                black_box(message);
                taken += 1;
            }
        }
    }
    (taken, os::clock())
}

/// Messages a microsecond, from when the first began to put until the last had taken its last. The workers' own clock: more
/// of them than cores keep the one who waits for them waiting, before and after.
fn rate(began: Vec<u64>, taken: Vec<(u64, u64)>) -> f64 {
    let count: u64 = taken.iter().map(|(count, _)| count).sum();
    assert_eq!(count, MESSAGES);
    let ended = taken.into_iter().map(|(_, ended)| ended).max().expect("somebody takes");
    count as f64 * 1e3 / (ended - began.into_iter().min().expect("somebody puts")) as f64
}

fn ours<const N: usize>(pool: &Pool, how: How) -> f64 {
    let pairs = pool.workers().len() / 2;
    let cores = match (pairs, how) {
        (1, How::Squeezed) => [os::two_cores()[0]; 2].map(Some),
        (1, _) => os::two_cores().map(Some),
        _ => [None; 2],
    };
    let queue = match how {
        How::Unbounded => Words::<N>::unbounded_with(),
        _ => Words::<N>::bounded_with(ROOM),
    };
    let (queue, start) = (queue.expect(EXPECT), Barrier::new(2 * pairs + 1).expect(EXPECT));
    let each = MESSAGES / pairs as u64;
    let job = |core: Option<usize>| (queue.clone(), start.clone(), core, each, how);
    let producers: Vec<Task<u64>> =
        (0..pairs).map(|_| pool.submit(produce::<N>, job(cores[0])).expect("the pool is open")).collect();
    let consumers: Vec<Task<(u64, u64)>> =
        (0..pairs).map(|_| pool.submit(consume::<N>, job(cores[1])).expect("the pool is open")).collect();
    start.wait().expect("all come");
    let began = producers.into_iter().map(|task| task.get().expect("putting does not fail")).collect();
    queue.close();
    rate(began, consumers.into_iter().map(|task| task.get().expect("taking does not fail")).collect())
}

fn crossbeam_threads<const N: usize>(pairs: usize) -> f64 {
    let (sender, receiver) = channel::bounded::<[u64; N]>(ROOM);
    let start = ThreadBarrier::new(2 * pairs + 1);
    let each = MESSAGES / pairs as u64;
    let cores = if pairs == 1 { os::two_cores().map(Some) } else { [None; 2] };
    let produce = |sender: channel::Sender<[u64; N]>| {
        let _pinned = cores[0].map(os::pin);
        start.wait();
        let began = os::clock();
        (0..each).for_each(|_| sender.send(black_box([7; N])).expect("it is open"));
        began
    };
    let consume = |receiver: channel::Receiver<[u64; N]>| {
        let _pinned = cores[1].map(os::pin);
        start.wait();
        (receiver.iter().map(black_box).count() as u64, os::clock())
    };
    let (produce, consume) = (&produce, &consume);
    thread::scope(|scope| {
        let producers: Vec<_> = iter::repeat_n(sender, pairs).map(|end| scope.spawn(move || produce(end))).collect();
        let consumers: Vec<_> = iter::repeat_n(receiver, pairs).map(|end| scope.spawn(move || consume(end))).collect();
        start.wait();
        let began = producers.into_iter().map(|thread| thread.join().expect("putting does not fail")).collect();
        rate(began, consumers.into_iter().map(|thread| thread.join().expect("taking does not fail")).collect())
    })
}
