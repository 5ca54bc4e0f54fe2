//! The latches with real threads, and with a second process that dies: an attachment that is never let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Figure, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::{Arrival, Barrier, Condvar, Copies, Event, Lock, Refusal, RwLock, Semaphore, Who, repair};
use crate::id::ProcId;
use crate::mm::{Kind, Memory, MemoryConfig, Object};
use crate::time::Deadline;

/// An object that two processes of one memory have open.
struct Pair {
    memory: Arc<Memory>,
    here: Object,
    other: Arc<Memory>,
    there: Object,
}

impl Pair {
    fn new(kind: Kind, words: usize) -> Pair {
        let memory = Memory::create(&MemoryConfig::default()).unwrap();
        let mut block = memory.alloc(words * 8).unwrap();
        block.as_mut_slice().fill(0);
        let here = memory.create_object(kind, block).unwrap();
        let place = memory.reserve_process().unwrap();
        let other = Memory::attach(memory.descriptor().try_clone_to_owned().unwrap(), place).unwrap();
        let there = other.open_object(here.id(), kind).unwrap();
        Pair { memory, here, other, there }
    }

    /// A thread of the other process.
    fn its(&self) -> Who {
        Who { process: self.other.me(), thread: 7 }
    }

    /// A thread of this process.
    fn mine(&self) -> Who {
        Who::here(self.memory.me())
    }

    /// The other process is dead, and found to be so.
    fn bury(&self) {
        let dead = self.other.me();
        assert!(self.memory.begin_recovery(dead));
        repair(&self.memory, dead);
        // Whoever takes over from a recoverer that died begins again.
        repair(&self.memory, dead);
        drop(self.memory.release_objects_of(dead));
        self.memory.end_recovery(dead);
    }
}

fn after(milliseconds: u64) -> Deadline {
    Deadline::after(Duration::from_millis(milliseconds))
}

/// Waits until `so`, at most for long.
fn until(so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came to be");
        thread::yield_now();
    }
}

#[test]
fn a_lock_lets_one_in() {
    let pair = Pair::new(Kind::Lock, Lock::WORDS);
    let inside = Figure::new(0);
    thread::scope(|scope| {
        for object in [&pair.here, &pair.here, &pair.there, &pair.there] {
            scope.spawn(|| {
                let (lock, who) = (Lock::in_words(object.words()), Who::here(object.memory().me()));
                for _ in 0..20_000 {
                    lock.acquire(who, Deadline::Never).unwrap();
                    let before = inside.load(Relaxed);
                    inside.store(before + 1, Relaxed);
                    assert_eq!(lock.holder(), Some(who));
                    lock.release();
                }
            });
        }
    });
    assert_eq!(inside.load(Relaxed), 80_000);
}

#[test]
fn a_lock_of_the_dead_is_handed_on_poisoned_and_its_sleeper_wakes() {
    let pair = Pair::new(Kind::Lock, Lock::WORDS);
    let (here, there) = (Lock::in_words(pair.here.words()), Lock::in_words(pair.there.words()));
    here.make_recursive();
    for _ in 0..3 {
        there.acquire(pair.its(), Deadline::Never).unwrap();
    }
    assert_eq!((here.times(), here.acquire(pair.mine(), after(20))), (3, Err(Refusal::TimedOut)));
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| here.acquire(pair.mine(), Deadline::Never));
        until(|| super::cell(pair.here.words(), 1).sleepers() == 1);
        pair.bury();
        sleeper.join().unwrap().unwrap();
    });
    assert_eq!((here.is_poisoned(), here.times()), (true, 1));
    here.clear_poison();
    here.release();
    assert!(!here.is_poisoned() && here.holder().is_none());
}

#[test]
fn a_lock_that_another_holds_is_left_alone_by_a_death() {
    let pair = Pair::new(Kind::Lock, Lock::WORDS);
    let here = Lock::in_words(pair.here.words());
    here.acquire(pair.mine(), Deadline::Now).unwrap();
    assert_eq!(here.acquire(pair.mine(), Deadline::Never), Err(Refusal::Mine));
    pair.bury();
    assert_eq!((here.holder(), here.is_poisoned()), (Some(pair.mine()), false));
}

#[test]
fn a_read_write_lock_keeps_readers_and_writers_apart() {
    let pair = Pair::new(Kind::RwLock, RwLock::WORDS);
    let (a, b) = (Figure::new(0), Figure::new(0));
    thread::scope(|scope| {
        for (object, writes) in [(&pair.here, true), (&pair.there, true), (&pair.here, false), (&pair.there, false)] {
            let (a, b) = (&a, &b);
            scope.spawn(move || {
                let (lock, who) = (RwLock::in_words(object.words()), Who::here(object.memory().me()));
                for _ in 0..10_000 {
                    if writes {
                        lock.write(who, Deadline::Never).unwrap();
                        a.store(a.load(Relaxed) + 1, Relaxed);
                        b.store(b.load(Relaxed) + 1, Relaxed);
                        lock.write_end();
                    } else {
                        lock.read(who, Deadline::Never).unwrap();
                        assert_eq!(a.load(Relaxed), b.load(Relaxed));
                        lock.leave(who);
                    }
                }
            });
        }
    });
    assert_eq!((a.load(Relaxed), RwLock::in_words(pair.here.words()).count()), (20_000, 0));
}

#[test]
fn readers_that_die_do_not_stay_and_leave_no_poison() {
    let pair = Pair::new(Kind::RwLock, RwLock::WORDS);
    let (here, there) = (RwLock::in_words(pair.here.words()), RwLock::in_words(pair.there.words()));
    for _ in 0..3 {
        there.read(pair.its(), Deadline::Now).unwrap();
    }
    here.read(pair.mine(), Deadline::Now).unwrap();
    assert_eq!((here.count(), here.write(pair.mine(), Deadline::Now)), (4, Err(Refusal::TimedOut)));
    // What a writer in vain leaves keeps nobody out.
    here.read(pair.mine(), Deadline::Now).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let who = Who::here(pair.memory.me());
            here.write(who, Deadline::Never)
        });
        until(|| here.writer().holder().is_some());
        assert_eq!(here.read(pair.mine(), Deadline::Now), Err(Refusal::TimedOut), "a writer waits");
        pair.bury();
        here.leave(pair.mine());
        here.leave(pair.mine());
        writer.join().unwrap().unwrap();
    });
    assert_eq!((here.count(), here.writer().is_poisoned()), (0, false));
    here.write_end();
}

#[test]
fn a_writer_that_dies_inside_leaves_poison_and_one_that_dies_waiting_does_not() {
    for inside in [true, false] {
        let pair = Pair::new(Kind::RwLock, RwLock::WORDS);
        let (here, there) = (RwLock::in_words(pair.here.words()), RwLock::in_words(pair.there.words()));
        if inside {
            there.write(pair.its(), Deadline::Now).unwrap();
        } else {
            there.writer().acquire(pair.its(), Deadline::Now).unwrap();
        }
        thread::scope(|scope| {
            let reader = scope.spawn(|| here.read(Who::here(pair.memory.me()), Deadline::Never));
            until(|| super::cell(pair.here.words(), 2).sleepers() == 1);
            pair.bury();
            reader.join().unwrap().unwrap();
        });
        assert_eq!(here.writer().is_poisoned(), inside);
    }
}

#[test]
fn too_many_readers_of_a_process_are_refused() {
    let pair = Pair::new(Kind::RwLock, RwLock::WORDS);
    let here = RwLock::in_words(pair.here.words());
    for _ in 0..60_000 {
        here.read(pair.mine(), Deadline::Now).unwrap();
    }
    assert_eq!(here.read(pair.mine(), Deadline::Never), Err(Refusal::TooMany));
    RwLock::in_words(pair.there.words()).read(pair.its(), Deadline::Now).unwrap();
    assert_eq!(here.count(), 60_001);
}

#[test]
fn a_semaphore_counts() {
    let pair = Pair::new(Kind::Semaphore, Semaphore::WORDS);
    let (here, there) = (Semaphore::in_words(pair.here.words()), Semaphore::in_words(pair.there.words()));
    here.begin(2, 4);
    assert_eq!(there.acquire(Deadline::Now), Ok(()));
    assert_eq!((here.release(4), here.release(3), here.permits()), (Err(Refusal::TooMany), Ok(()), 4));
    thread::scope(|scope| {
        let takers: Vec<_> = (0..8).map(|_| scope.spawn(|| there.acquire(Deadline::Never))).collect();
        until(|| super::cell(pair.here.words(), 1).sleepers() == 4);
        here.release(4).unwrap();
        takers.into_iter().for_each(|taker| taker.join().unwrap().unwrap());
    });
    assert_eq!((here.permits(), here.acquire(after(20))), (0, Err(Refusal::TimedOut)));
}

#[test]
fn a_permit_that_was_given_by_one_who_died_before_calling_is_found() {
    let pair = Pair::new(Kind::Semaphore, Semaphore::WORDS);
    let here = Semaphore::in_words(pair.here.words());
    here.begin(0, 9);
    thread::scope(|scope| {
        let taker = scope.spawn(|| here.acquire(Deadline::Never));
        until(|| super::cell(pair.here.words(), 1).sleepers() == 1);
        pair.there.words()[0].fetch_add(1, crate::prim::Ordering::SeqCst);
        pair.bury();
        taker.join().unwrap().unwrap();
    });
}

fn meet(barrier: Barrier<'_>, parties: usize, rounds: usize) {
    thread::scope(|scope| {
        for _ in 0..parties {
            scope.spawn(|| {
                (0..rounds).for_each(|_| assert!(barrier.arrive(false, Deadline::Never).is_ok()));
            });
        }
    });
}

#[test]
fn a_barrier_lets_all_go_at_once_again_and_again() {
    let pair = Pair::new(Kind::Barrier, Barrier::WORDS);
    let here = Barrier::in_words(pair.here.words());
    here.begin(3);
    meet(here, 3, 3_000);
    assert_eq!((here.waiting(), here.is_broken()), (0, false));
}

#[test]
fn a_barrier_breaks_with_a_party_and_mends_by_a_reset() {
    let pair = Pair::new(Kind::Barrier, Barrier::WORDS);
    let here = Barrier::in_words(pair.here.words());
    here.begin(3);
    let wait = || here.arrive(false, Deadline::Never);
    thread::scope(|scope| {
        let others = [scope.spawn(wait), scope.spawn(wait)];
        until(|| here.waiting() == 2);
        // The third is dead before it came.
        pair.bury();
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), Err(Refusal::Broken)));
    });
    assert_eq!((wait(), here.is_broken()), (Err(Refusal::Broken), true));
    here.reset();
    meet(here, 3, 10);
}

#[test]
fn a_late_sleeper_learns_how_its_own_meeting_ended() {
    let pair = Pair::new(Kind::Barrier, Barrier::WORDS);
    let here = Barrier::in_words(pair.here.words());
    here.begin(1);
    let Ok(Arrival::Acts(mine)) = here.arrive(true, Deadline::Now) else { panic!("the only one is the last") };
    // Whoever comes while it acts waits for the next meeting.
    assert_eq!(here.arrive(false, Deadline::Now), Err(Refusal::TimedOut));
    assert!(!here.is_broken());
    here.reset();
    for _ in 0..10 {
        assert_eq!(here.arrive(false, Deadline::Now), Ok(Arrival::Met(0)));
    }
    assert_eq!(here.acted(mine), Err(Refusal::Broken));
    let Ok(Arrival::Acts(mine)) = here.arrive(true, Deadline::Now) else { panic!("the only one is the last") };
    here.abort();
    assert_eq!(here.acted(mine), Err(Refusal::Broken));
}

#[test]
fn an_event_that_is_set_and_cleared_at_once_still_wakes() {
    let pair = Pair::new(Kind::Event, Event::WORDS);
    let (here, there) = (Event::in_words(pair.here.words()), Event::in_words(pair.there.words()));
    thread::scope(|scope| {
        let sleepers = [(); 3].map(|()| scope.spawn(|| here.wait(Deadline::Never)));
        until(|| super::cell(pair.here.words(), 1).sleepers() == 3);
        there.set();
        there.clear();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap().unwrap());
    });
    assert_eq!((here.is_set(), here.wait(after(20))), (false, Err(Refusal::TimedOut)));
    there.set();
    there.set();
    assert_eq!(here.wait(Deadline::Now), Ok(()));
    pair.bury();
    assert!(here.is_set());
}

#[test]
fn a_condition_variable_gives_the_lock_back_wholly_and_wakes_at_a_death() {
    let pair = Pair::new(Kind::Condvar, Condvar::WORDS);
    let condvar = Condvar::in_words(pair.here.words());
    let words = pair.memory.alloc(Lock::WORDS * 8).unwrap();
    let object = pair.memory.create_object(Kind::Lock, words).unwrap();
    object.words().iter().for_each(|word| word.store(0, Relaxed));
    let lock = Lock::in_words(object.words());
    lock.make_recursive();
    let wait_by = |deadline| {
        let who = pair.mine();
        lock.acquire(who, Deadline::Never).unwrap();
        lock.acquire(who, Deadline::Never).unwrap();
        let told = condvar.wait(lock, who, deadline);
        let times = lock.times();
        lock.release();
        lock.release();
        (told, times)
    };
    assert_eq!(wait_by(after(10)), (Err(Refusal::TimedOut), 2));
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| wait_by(Deadline::Never));
        until(|| super::cell(pair.here.words(), 1).sleepers() == 1);
        // It has given the lock back, however often it took it.
        lock.acquire(Who { process: ProcId(99), thread: 1 }, Deadline::Never).unwrap();
        pair.bury();
        lock.release();
        assert_eq!(sleeper.join().unwrap(), (Ok(()), 2));
    });
}

#[test]
fn copies_are_never_torn_and_a_dead_writer_holds_nobody_up() {
    const BYTES: usize = 200;
    let pair = Pair::new(Kind::Value, Copies::words(BYTES));
    let view = |object: &Object| -> Figure {
        let figure = Figure::new(0);
        let copies = Copies::in_words(object.words(), BYTES);
        for round in 0..20_000_u64 {
            let mut bytes = [0; BYTES];
            let version = copies.read(&mut bytes);
            assert!(bytes.iter().all(|&byte| byte == bytes[0]), "{bytes:?}");
            let next = [bytes[0].wrapping_add(1); BYTES];
            let who = Who::here(object.memory().me());
            figure.fetch_add(u64::from(copies.write(who, &next, (round % 2 == 0).then_some(version))), Relaxed);
        }
        figure
    };
    let written: u64 = thread::scope(|scope| {
        let writers = [&pair.here, &pair.there].map(|object| scope.spawn(|| view(object)));
        writers.map(|writer| writer.join().unwrap().load(Relaxed)).iter().sum()
    });
    let here = Copies::in_words(pair.here.words(), BYTES);
    assert_eq!(here.read(&mut [0; BYTES]), written);
    Lock::in_words(pair.there.words()).acquire(pair.its(), Deadline::Now).unwrap();
    pair.bury();
    assert!(here.write(pair.mine(), &[9; BYTES], Some(written)));
    assert!(!Lock::in_words(pair.here.words()).is_poisoned());
}
