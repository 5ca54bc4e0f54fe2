//! Writes down what calls on a queue did and when, on a clock that all processes of a machine share.

use std::time::Duration;

use dragon::sync::Value;
use dragon::{ErrorKind, Queue};
use serde::{Deserialize, Serialize};

use super::checker::{Call, Did};

/// Nanoseconds of the machine's monotonic clock.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local value.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one thread shall do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Part {
    /// A number that no other thread has.
    pub me: u64,
    /// Values that it puts.
    pub puts: u64,
    /// Whether it gets.
    pub gets: bool,
    /// Whether it puts and gets several at once now and then.
    pub many: bool,
    pub seed: u64,
}

/// A call as numbers, to be sent between processes.
pub type Line = (u64, u64, u8, u64);

pub fn to_line(call: Call) -> Line {
    let (kind, value) = match call.did {
        Did::Put(value) => (0, value),
        Did::Got(value) => (1, value),
        Did::FoundEmpty => (2, 0),
        Did::FoundFull => (3, 0),
    };
    (call.begin, call.end, kind, value)
}

pub fn from_line((begin, end, kind, value): Line) -> Call {
    let did = [Did::Put(value), Did::Got(value), Did::FoundEmpty, Did::FoundFull][usize::from(kind)];
    Call { begin, end, did }
}

/// Splitmix64: the next of a row of numbers without pattern.
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 1
}

/// One thread's history.
struct Recorder<'a> {
    queue: &'a Queue<u64>,
    calls: Vec<Call>,
}

impl Recorder<'_> {
    /// Writes down what a call did; nothing if its time was up, since it may have waited for that.
    fn call(&mut self, call: impl FnOnce(&Queue<u64>) -> Vec<Did>) {
        let begin = now();
        let did = call(self.queue);
        let end = now();
        self.calls.extend(did.into_iter().map(|did| Call { begin, end, did }));
    }

    fn put(&mut self, value: u64, how: u64) -> bool {
        let before = self.calls.len();
        self.call(|queue| {
            let put = match how % 3 {
                0 => queue.try_put(value),
                1 => queue.put_timeout(value, Duration::from_micros(50)),
                _ => queue.put_timeout(value, Duration::from_millis(10)),
            };
            match put {
                Ok(()) => vec![Did::Put(value)],
                Err(refused) if refused.kind() == ErrorKind::Full => vec![Did::FoundFull],
                Err(refused) if refused.kind() == ErrorKind::TimedOut => Vec::new(),
                Err(refused) => panic!("{refused}"),
            }
        });
        self.calls[before..].iter().any(|call| call.did == Did::Put(value))
    }

    fn put_many(&mut self, values: std::ops::Range<u64>) {
        self.call(|queue| {
            queue.put_many(values.clone()).unwrap();
            values.map(Did::Put).collect()
        });
    }

    fn get(&mut self, how: u64, many: bool) {
        self.call(|queue| {
            let got = match how % 4 {
                0 | 1 => queue.try_get(),
                2 => queue.get_timeout(Duration::from_micros(50)),
                _ if many => return queue.try_get_many(5).unwrap().into_iter().map(Did::Got).collect(),
                _ => queue.get_timeout(Duration::from_millis(1)),
            };
            match got {
                Ok(value) => vec![Did::Got(value)],
                Err(error) if error.kind() == ErrorKind::Empty => vec![Did::FoundEmpty],
                Err(error) if error.kind() == ErrorKind::TimedOut => Vec::new(),
                Err(error) => panic!("{error}"),
            }
        });
    }
}

/// Puts and gets in a random order. Counts itself as `done` when all is put; whoever gets goes on until as many as `putters`
/// are done and nothing is left.
pub fn play(queue: &Queue<u64>, part: Part, done: &Value<u64>, putters: u64) -> Vec<Call> {
    let mut recorder = Recorder { queue, calls: Vec::new() };
    let (mut next, mut state, mut putting) = (0, part.seed, part.puts > 0);
    // Values of one thread are in a row, so that all are different.
    let value = |number: u64| part.me << 32 | number;
    while putting || (part.gets && !(done.get().unwrap() == putters && queue.is_empty())) {
        let dice = random(&mut state);
        if putting && (!part.gets || dice.is_multiple_of(2)) {
            if part.many && dice % 8 == 2 {
                let some = next..(next + 4).min(part.puts);
                recorder.put_many(value(some.start)..value(some.end));
                next = some.end;
            } else {
                next += u64::from(recorder.put(value(next), dice >> 8));
            }
            if next == part.puts {
                putting = false;
                done.update(|done| *done += 1).unwrap();
            }
        } else {
            recorder.get(dice >> 8, part.many);
        }
    }
    recorder.calls
}
