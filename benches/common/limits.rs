//! The speed of light of this machine: what no design can beat. Every function measures once and returns
//! one figure; a race repeats it.

use std::{
    hint::{black_box, spin_loop},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::os::{self, Program, Sharable, Shared};
use super::raw_ring::RawRing;

/// Two words, next to each other or in lines of their own.
#[repr(C, align(128))]
struct Words<const APART: usize> {
    ping: AtomicU64,
    space: [u8; APART],
    pong: AtomicU64,
}

// SAFETY: atomics and unused bytes; zero is a value of them.
unsafe impl<const APART: usize> Sharable for Words<APART> {}

/// A word goes to the other core and another comes back, in nanoseconds: `APART` bytes lie between the two.
fn ping_pong<const APART: usize>() -> f64 {
    const TURNS: u64 = 200_000;
    let words = Shared::<Words<APART>>::new();
    let [here, there] = os::two_cores();
    // Acquire and release: partners of each other; nothing but the word travels.
    let turn_to = |word: &AtomicU64, turn| while word.load(Ordering::Acquire) != turn {};
    let _partner = os::fork_on(there, || {
        for turn in 1..=TURNS {
            turn_to(&words.ping, turn);
            words.pong.store(turn, Ordering::Release);
        }
    });
    let _pinned = os::pin(here);
    nanoseconds_each(TURNS, |turn| {
        words.ping.store(turn, Ordering::Release);
        turn_to(&words.pong, turn);
    })
}

/// Round trip of one cache line that both sides write.
pub fn one_line() -> f64 {
    ping_pong::<0>()
}

/// Round trip of two cache lines, one for each direction.
pub fn two_lines() -> f64 {
    ping_pong::<248>()
}

/// Runs `turn` with 1, 2, … and returns nanoseconds for each. The first tenth only warms up.
pub fn nanoseconds_each(turns: u64, mut turn: impl FnMut(u64)) -> f64 {
    let warm = turns / 10;
    (1..=warm).for_each(&mut turn);
    let begin = Instant::now();
    (warm + 1..=turns).for_each(&mut turn);
    begin.elapsed().as_nanos() as f64 / (turns - warm) as f64
}

/// Round trip of `SIZE` bytes through two raw rings, in nanoseconds.
pub fn ring_round_trip<const SIZE: usize>() -> f64 {
    let turns = if SIZE > 512 { 50_000 } else { 200_000 };
    let there_and_back = [Shared::<RawRing<SIZE, 16>>::new(), Shared::<RawRing<SIZE, 16>>::new()];
    let [here, there] = os::two_cores();
    let _partner = os::fork_on(there, || {
        let (mut reader, mut writer) = (there_and_back[0].reader(), there_and_back[1].writer());
        (0..turns).for_each(|_| writer.push(&reader.pop()));
    });
    let _pinned = os::pin(here);
    let (mut writer, mut reader) = (there_and_back[0].writer(), there_and_back[1].reader());
    let message = [7; SIZE];
    nanoseconds_each(turns, |_| {
        writer.push(black_box(&message));
        black_box(reader.pop());
    })
}

/// Messages of `SIZE` bytes through one raw ring, in millions a second.
pub fn ring_rate<const SIZE: usize>() -> f64 {
    let messages: u64 = if SIZE > 512 { 1_000_000 } else { 5_000_000 };
    let ring = Shared::<RawRing<SIZE, 1024>>::new();
    let done = Shared::<Words<0>>::new();
    let [here, there] = os::two_cores();
    let partner = os::fork_on(there, || {
        let mut reader = ring.reader();
        // The first message starts the clock, below.
        for _ in 0..=messages {
            black_box(reader.pop());
        }
        // Release: pairs with the acquire below.
        done.pong.store(1, Ordering::Release);
    });
    let _pinned = os::pin(here);
    let mut writer = ring.writer();
    let message = [7; SIZE];
    writer.push(&message);
    let begin = Instant::now();
    (0..messages).for_each(|_| writer.push(black_box(&message)));
    // Acquire: pairs with the release above.
    while done.pong.load(Ordering::Acquire) == 0 {
        spin_loop();
    }
    let seconds = begin.elapsed().as_secs_f64();
    drop(partner);
    messages as f64 / seconds / 1e6
}

/// One copy of this many bytes between buffers that were touched before, in microseconds.
pub fn copy(bytes: usize) -> f64 {
    let times = ((256 << 20) / bytes).clamp(3, 2_000) as u64;
    let from = vec![1u8; bytes];
    let mut to = vec![2u8; bytes];
    let nanoseconds = nanoseconds_each(times, |_| to.copy_from_slice(black_box(&from)));
    black_box(&to);
    nanoseconds / 1e3
}

/// How a waiting side waits in [`wake_round_trip`].
#[derive(Clone, Copy)]
pub enum Wait {
    /// Goes to sleep at once.
    Asleep,
    /// Looks this often before it goes to sleep.
    SpinFirst(u32),
}

/// Two words to sleep on, far apart.
#[repr(C, align(128))]
struct Futexes {
    ping: AtomicU32,
    space: [u8; 252],
    pong: AtomicU32,
}

// SAFETY: atomics and unused bytes; zero is a value of them.
unsafe impl Sharable for Futexes {}

fn await_turn(word: &AtomicU32, turn: u32, wait: Wait) {
    // Acquire: pairs with the release in `give_turn`, as any such hand-over has.
    let come = || word.load(Ordering::Acquire) == turn;
    if let Wait::SpinFirst(times) = wait
        && (0..times).any(|_| {
            come() || {
                spin_loop();
                false
            }
        })
    {
        return;
    }
    while !come() {
        os::futex_wait(word, turn - 1);
    }
}

fn give_turn(word: &AtomicU32, turn: u32) {
    // Release: pairs with the acquire in `await_turn`.
    word.store(turn, Ordering::Release);
    os::futex_wake(word, 1);
}

/// A word with a wake-up goes to another core and one comes back, in microseconds. Before each turn the
/// caller may let everybody fall asleep.
pub fn wake_round_trip(wait: Wait, pause: Duration) -> f64 {
    let turns = if pause.is_zero() { 5_000 } else { 100 };
    let words = Shared::<Futexes>::new();
    let [here, there] = os::two_cores();
    let _partner = os::fork_on(there, || {
        for turn in 1..=turns {
            await_turn(&words.ping, turn, wait);
            give_turn(&words.pong, turn);
        }
    });
    let _pinned = os::pin(here);
    median_microseconds(turns, pause, |turn| {
        give_turn(&words.ping, turn);
        await_turn(&words.pong, turn, wait);
    })
}

/// Median time of a turn in microseconds, with a pause before each that is not counted.
pub fn median_microseconds(turns: u32, pause: Duration, mut turn: impl FnMut(u32)) -> f64 {
    let mut times: Vec<f64> = (1..=turns)
        .map(|number| {
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            let begin = Instant::now();
            turn(number);
            begin.elapsed().as_nanos() as f64 / 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Starts and reaps a program so many times, one after the other or all at once; milliseconds in all.
pub fn spawn(program: &Program, times: usize, at_once: bool) -> f64 {
    let begin = Instant::now();
    if at_once {
        let children: Vec<_> = (0..times).map(|_| program.spawn()).collect();
        children.into_iter().for_each(os::reap);
    } else {
        (0..times).for_each(|_| os::reap(program.spawn()));
    }
    begin.elapsed().as_secs_f64() * 1e3
}
