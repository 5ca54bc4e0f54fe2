//! Semantic cases 79 to 85 of locks, barriers, events, semaphores and values, from outside: between threads and
//! between processes. The number of the case stands at each test.

use std::thread;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use dragon::sync::{Array, Barrier, Condvar, Event, Lock, RwLock, Semaphore, Value};
use dragon::{ErrorKind, Pool};

const LONG: Duration = Duration::from_secs(60);

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits until `so`, at most for long.
fn until(so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "it never came to be");
        thread::yield_now();
    }
}

#[test]
fn case_79_a_held_lock_is_refused_and_its_release_lets_one_of_two_in() {
    let _dragon = dragon::init().unwrap();
    let (lock, inside) = (Lock::new().unwrap(), Value::new(0_u32).unwrap());
    let pool = Pool::new(2).unwrap();
    let held = lock.lock().unwrap();
    let try_there = |lock: Lock| lock.lock_timeout(Duration::ZERO).map(drop).unwrap_err();
    let refused = pool.submit(move |lock: Lock| try_there(lock).kind() == ErrorKind::TimedOut, lock.clone());
    assert!(refused.unwrap().get().unwrap());
    let enter = |(lock, inside, go): (Lock, Value<u32>, Event)| {
        let guard = lock.lock().unwrap();
        inside.update(|n| *n += 1).unwrap();
        go.wait().unwrap();
        drop(guard);
    };
    let go = Event::new().unwrap();
    let argument = (lock.clone(), inside.clone(), go.clone());
    let tasks = [(); 2].map(|()| pool.submit(enter, argument.clone()).unwrap());
    assert_eq!(lock.lock_timeout(milliseconds(30)).unwrap_err().kind(), ErrorKind::WouldDeadlock);
    drop(held);
    until(|| inside.get().unwrap() == 1);
    let error = lock.lock_timeout(milliseconds(50)).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let holder = pool.workers().iter().any(|worker| error.to_string().contains(&worker.pid.to_string()));
    assert!(holder && error.to_string().contains("lock "), "the text says who holds what: {error}");
    assert_eq!(inside.get().unwrap(), 1, "the other waits");
    go.set().unwrap();
    let [_, _] = tasks.map(|task| task.get().unwrap());
    assert_eq!((inside.get().unwrap(), lock.is_locked(), lock.is_poisoned()), (2, false, false));
}

#[test]
fn case_80_five_contenders_keep_a_counter_right() {
    const EACH: u64 = 2_000;
    let _dragon = dragon::init().unwrap();
    let (lock, counter) = (Lock::new().unwrap(), Array::<u64>::zeroed(1).unwrap());
    let count = |(lock, counter): &(Lock, Array<u64>), _: u32| {
        for _ in 0..EACH {
            let _guard = lock.lock().unwrap();
            counter.set(0, counter.get(0).unwrap() + 1).unwrap();
        }
    };
    let pool = Pool::new(5).unwrap();
    pool.chunk(1).map_with(&(lock.clone(), counter.clone()), count, 0..5).unwrap();
    assert_eq!(counter.to_vec().unwrap(), [5 * EACH]);
    let both = (lock, counter.clone());
    thread::scope(|scope| (0..5).for_each(|_| drop(scope.spawn(|| count(&both, 0)))));
    assert_eq!(counter.to_vec().unwrap(), [10 * EACH]);
}

#[test]
fn case_81_a_recursive_lock_is_given_back_as_often_as_it_was_taken() {
    let _dragon = dragon::init().unwrap();
    let lock = Lock::recursive().unwrap();
    let free = || thread::scope(|scope| scope.spawn(|| lock.try_lock().is_ok()).join().unwrap());
    let mut guards: Vec<_> = (0..25).map(|_| lock.lock().unwrap()).collect();
    assert_eq!((lock.depth(), lock.is_mine()), (25, true));
    while let Some(guard) = guards.pop() {
        assert!(!free());
        drop(guard);
        assert_eq!(lock.depth(), guards.len() as u64);
    }
    assert!(free() && !lock.is_mine());
    // Not Dragon's: there it stays locked for ever.
    let pool = Pool::new(1).unwrap();
    let exit = |lock: Lock| {
        let guards = [lock.lock().unwrap(), lock.lock().unwrap()];
        std::process::exit(guards.len() as i32 - 2)
    };
    let lost = pool.submit(exit, lock.clone()).unwrap();
    assert!(lost.get().map(drop::<()>).unwrap_err().is_lost());
    let guard = lock.lock().unwrap();
    assert!(guard.is_poisoned() && lock.depth() == 1);
    guard.clear_poison().unwrap();
    drop(guard);
    assert!(!lock.is_poisoned() && free());
}

#[test]
fn case_82_a_barrier_numbers_its_parties() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(5).unwrap();
    let barrier = Barrier::new(5).unwrap();
    for _ in 0..10 {
        let meet = |barrier: &Barrier, _: u32| barrier.wait().unwrap();
        let mut numbers = pool.chunk(1).map_with(&barrier, meet, 0..5).unwrap();
        numbers.sort();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }
    assert_eq!((barrier.parties(), barrier.waiting(), barrier.is_broken()), (5, 0, false));
}

#[test]
fn case_82_who_is_late_for_a_barrier_breaks_it_for_all() {
    let _dragon = dragon::init().unwrap();
    let barrier = Barrier::new(3).unwrap();
    let broken = |result: dragon::Result<usize>| result.unwrap_err().kind() == ErrorKind::Broken;
    thread::scope(|scope| {
        let patient = scope.spawn(|| barrier.wait());
        until(|| barrier.waiting() == 1);
        let begun = Instant::now();
        let late = barrier.wait_timeout(milliseconds(50)).unwrap_err();
        assert!(late.kind() == ErrorKind::TimedOut && begun.elapsed() >= milliseconds(50), "{late}");
        assert!(broken(patient.join().unwrap()));
    });
    assert!(barrier.is_broken() && broken(barrier.wait()) && broken(barrier.wait_timeout(LONG)));
    barrier.reset().unwrap();
    thread::scope(|scope| {
        let waits = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
        until(|| barrier.waiting() == 2);
        barrier.reset().unwrap();
        let all = |waits: [thread::ScopedJoinHandle<_>; 2]| waits.map(|wait| broken(wait.join().unwrap())) == [true; 2];
        assert!(all(waits), "a reset ends the meeting");
        assert!(!barrier.is_broken());
        let waits = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
        until(|| barrier.waiting() == 2);
        barrier.abort().unwrap();
        assert!(all(waits));
        assert!(broken(barrier.wait()));
        barrier.reset().unwrap();
        let waits = [(); 3].map(|()| scope.spawn(|| barrier.wait()));
        assert!(waits.map(|wait| wait.join().unwrap().unwrap()).iter().sum::<usize>() == 3);
    });
}

#[test]
fn case_82_one_party_acts_before_all_go_on() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(3).unwrap();
    let (barrier, acts) = (Barrier::new(3).unwrap(), Array::<u32>::zeroed(1).unwrap());
    let meet = |(barrier, acts): &(Barrier, Array<u32>), _: u32| {
        let seen = |_| {
            barrier.wait_with(|| acts.set(0, acts.get(0).unwrap() + 1).unwrap()).unwrap();
            acts.get(0).unwrap()
        };
        // A second meeting, so that nobody acts again before all have looked.
        (0..5).map(|round| (seen(round), barrier.wait().unwrap()).0).collect::<Vec<_>>()
    };
    let seen = pool.chunk(1).map_with(&(barrier.clone(), acts.clone()), meet, 0..3).unwrap();
    assert_eq!((seen, acts.to_vec().unwrap()), (vec![vec![1, 2, 3, 4, 5]; 3], vec![5]));
    let barrier = Barrier::new(1).unwrap();
    let panics = thread::scope(|scope| scope.spawn(|| barrier.wait_with(|| panic!("on purpose"))).join());
    assert!(panics.is_err() && barrier.is_broken(), "an action that panics breaks the barrier");
    for parties in [0, usize::MAX] {
        assert_eq!(Barrier::new(parties).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn case_83_an_event_wakes_all_until_it_is_cleared() {
    let _dragon = dragon::init().unwrap();
    let event = Event::new().unwrap();
    let begun = Instant::now();
    assert!(event.wait_timeout(milliseconds(300)).unwrap_err().is_timeout());
    assert!(begun.elapsed() >= milliseconds(300));
    assert!(event.wait_timeout(Duration::ZERO).is_err() && event.try_wait().is_err());
    let pool = Pool::new(5).unwrap();
    let waits: Vec<_> =
        (0..5).map(|_| pool.submit(|event: Event| event.wait().unwrap(), event.clone()).unwrap()).collect();
    event.set().unwrap();
    waits.into_iter().for_each(|wait| wait.get_timeout(LONG).unwrap());
    for _ in 0..3 {
        event.wait().unwrap();
        assert!(event.is_set() && event.wait_timeout(Duration::ZERO).is_ok());
    }
    event.clear().unwrap();
    assert!(!event.is_set() && event.try_wait().unwrap_err().kind() == ErrorKind::TimedOut);
}

#[test]
fn case_84_a_semaphore_counts_and_a_bounded_one_refuses_too_many() {
    let _dragon = dragon::init().unwrap();
    let semaphore = Semaphore::new(1).unwrap();
    semaphore.acquire().unwrap();
    let begun = Instant::now();
    assert!(semaphore.acquire_timeout(milliseconds(50)).unwrap_err().is_timeout());
    assert!(begun.elapsed() >= milliseconds(50));
    semaphore.release(16).unwrap();
    for left in (0..16).rev() {
        semaphore.try_acquire().unwrap();
        assert_eq!(semaphore.permits(), left);
    }
    assert!(semaphore.try_acquire().is_err());
    let pool = Pool::new(2).unwrap();
    let take = pool.submit(|semaphore: Semaphore| semaphore.acquire().unwrap(), semaphore.clone()).unwrap();
    pool.submit(|semaphore: Semaphore| semaphore.release(1).unwrap(), semaphore.clone()).unwrap().get().unwrap();
    take.get_timeout(LONG).unwrap();
    let bounded = Semaphore::bounded(2).unwrap();
    let error = bounded.release(1).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidArgument && bounded.permits() == 2, "{error}");
    bounded.acquire().unwrap();
    assert!(bounded.release(2).is_err() && bounded.release(1).is_ok());
    assert!(Semaphore::new(1).unwrap().release(u64::MAX).is_err());
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
    hits: u64,
}

/// Sends a value there and back five times.
fn trip<T: Pod + PartialEq + std::fmt::Debug>(pool: &Pool, first: T, second: T) {
    let value = Value::new(first).unwrap();
    for _ in 0..5 {
        let swap = |(value, seen, next): (Value<T>, Value<T>, Value<T>)| {
            seen.set(value.replace(next.get().unwrap()).unwrap()).unwrap()
        };
        let (seen, next) = (Value::new(second).unwrap(), Value::new(second).unwrap());
        pool.submit(swap, (value.clone(), seen.clone(), next.clone())).unwrap().get().unwrap();
        assert_eq!((seen.get().unwrap(), value.get().unwrap()), (first, second));
        value.set(first).unwrap();
    }
}

#[test]
fn case_85_values_of_all_types_make_the_trip() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    trip(&pool, 1_u8, u8::MAX);
    trip(&pool, -1_i8, i8::MIN);
    trip(&pool, 1_u16, u16::MAX);
    trip(&pool, -1_i16, i16::MIN);
    trip(&pool, 1_u32, u32::MAX);
    trip(&pool, -1_i32, i32::MIN);
    trip(&pool, 1_u64, u64::MAX);
    trip(&pool, -1_i64, i64::MIN);
    trip(&pool, -1_i128, i128::MIN);
    trip(&pool, 1.5_f32, f32::MIN_POSITIVE);
    trip(&pool, 1.5_f64, f64::MAX);
    trip(&pool, [1_u8, 2, 3], [4, 5, 6]);
    trip(&pool, [1_u16; 33], [9; 33]);
    trip(&pool, (), ());
    trip(&pool, Point { x: 0.0, y: 1.0, hits: 2 }, Point { x: 3.0, y: 4.0, hits: 5 });
}

#[test]
fn case_85_no_change_of_a_value_is_lost_and_no_half_of_one_is_seen() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(3).unwrap();
    let point = Value::new(Point { x: 0.0, y: 0.0, hits: 0 }).unwrap();
    let hit = |point: &Value<Point>, _: u32| {
        for _ in 0..2_000 {
            point
                .update(|point| {
                    point.x += 1.0;
                    point.y -= 1.0;
                    point.hits += 1;
                })
                .unwrap();
            let seen = point.get().unwrap();
            assert!(seen.x + seen.y == 0.0 && seen.x == seen.hits as f64, "{seen:?}");
        }
    };
    pool.chunk(1).map_with(&point, hit, 0..3).unwrap();
    assert_eq!(point.get().unwrap(), Point { x: 6_000.0, y: -6_000.0, hits: 6_000 });
    let small = Value::new(0_i16).unwrap();
    pool.map_with(&small, |small: &Value<i16>, _: u32| small.update(|n| *n += 1).unwrap(), 0..1_000).unwrap();
    assert_eq!(small.get().unwrap(), 1_000);
    let panics = thread::scope(|scope| scope.spawn(|| small.update(|_| panic!("on purpose")).unwrap()).join().is_err());
    assert!(panics && small.get().unwrap() == 1_000);
}

#[test]
fn case_85_arrays_are_read_and_written_in_place() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(2).unwrap();
    let bytes = Array::from_slice(b"hello, dragon").unwrap();
    pool.submit(|bytes: Array<u8>| bytes.write(7, b"DRAGON").unwrap(), bytes.clone()).unwrap().get().unwrap();
    assert_eq!(bytes.to_vec().unwrap(), b"hello, DRAGON");
    assert_eq!((bytes.len(), bytes.get(12).ok(), bytes.get(13).ok()), (13, Some(b'N'), None));
    // Neighbours in one word do not disturb each other.
    let counts = Array::<u8>::zeroed(8).unwrap();
    let count = |counts: &Array<u8>, i: u32| counts.update(i as usize % 8, |n| *n = n.wrapping_add(1)).unwrap();
    pool.map_with(&counts, count, 0..8_000).unwrap();
    assert_eq!(counts.to_vec().unwrap(), [(1_000 % 256) as u8; 8]);
    let points = Array::from_slice(&[Point { x: 0.0, y: 0.0, hits: 0 }; 3]).unwrap();
    let hit = |points: &Array<Point>, i: u32| {
        let _guard = points.lock().unwrap();
        points.update(i as usize % 3, |point| point.hits += 1).unwrap();
    };
    pool.map_with(&points, hit, 0..3_000).unwrap();
    assert!(points.to_vec().unwrap().iter().all(|point| point.hits == 1_000));
    let large: Vec<u32> = (0..3_000_000).collect();
    let array = Array::from_slice(&large).unwrap();
    let sum =
        pool.submit(|a: Array<u32>| a.to_vec().unwrap().iter().map(|&n| u64::from(n)).sum::<u64>(), array.clone());
    assert_eq!(sum.unwrap().get().unwrap(), 2_999_999 * 3_000_000 / 2);
    assert_eq!(array.read(1_000_001..1_000_004).unwrap(), [1_000_001, 1_000_002, 1_000_003]);
    let outside = [
        array.set(3_000_000, 1).unwrap_err(),
        array.read(2_999_999..3_000_001).unwrap_err(),
        array.write(usize::MAX, &[1, 2]).unwrap_err(),
        array.update(3_000_000, |n| *n).unwrap_err(),
    ];
    assert!(outside.iter().all(|error| error.kind() == ErrorKind::InvalidArgument), "{outside:?}");
    assert!(Array::<u64>::zeroed(0).unwrap().is_empty());
    assert_eq!(Array::<u64>::zeroed(usize::MAX / 4).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn readers_share_and_writers_do_not() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(4).unwrap();
    let (lock, pair) = (RwLock::new().unwrap(), Array::<u64>::zeroed(2).unwrap());
    let work = |(lock, pair): &(RwLock, Array<u64>), i: u32| {
        for _ in 0..500 {
            if i.is_multiple_of(2) {
                let _guard = lock.write().unwrap();
                pair.set(0, pair.get(0).unwrap() + 1).unwrap();
                pair.set(1, pair.get(1).unwrap() + 1).unwrap();
            } else {
                let _guard = lock.read().unwrap();
                assert_eq!(pair.get(0).unwrap(), pair.get(1).unwrap());
            }
        }
    };
    pool.chunk(1).map_with(&(lock.clone(), pair.clone()), work, 0..8).unwrap();
    assert_eq!(pair.to_vec().unwrap(), [2_000, 2_000]);
    let (one, two) = (lock.read().unwrap(), lock.try_read().unwrap());
    assert_eq!(lock.readers(), 2);
    let error = lock.write_timeout(milliseconds(20)).unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("2 threads read"), "{error}");
    drop((one, two));
    let guard = lock.write().unwrap();
    assert_eq!(lock.read().unwrap_err().kind(), ErrorKind::WouldDeadlock);
    assert_eq!(lock.write().unwrap_err().kind(), ErrorKind::WouldDeadlock);
    thread::scope(|scope| {
        let refused = scope.spawn(|| lock.try_read().is_err() && lock.read_timeout(milliseconds(20)).is_err());
        assert!(refused.join().unwrap());
    });
    drop(guard);
    let panics = thread::scope(|scope| {
        let writer = || {
            let _guard = lock.write().unwrap();
            panic!("on purpose");
        };
        scope.spawn(writer).join().is_err()
    });
    assert!(panics && lock.read().unwrap().is_poisoned());
}

#[test]
fn who_waits_for_a_change_is_told_of_it() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(3).unwrap();
    let (lock, changed, stock) = (Lock::new().unwrap(), Condvar::new().unwrap(), Value::new(0_i64).unwrap());
    let take = |(lock, changed, stock): (Lock, Condvar, Value<i64>)| {
        for _ in 0..200 {
            let mut guard = lock.lock().unwrap();
            changed.wait_while(&mut guard, || stock.get().unwrap() == 0).unwrap();
            stock.update(|n| *n -= 1).unwrap();
        }
    };
    let all = (lock.clone(), changed.clone(), stock.clone());
    let takers = [(); 3].map(|()| pool.submit(take, all.clone()).unwrap());
    for _ in 0..600 {
        let _guard = lock.lock().unwrap();
        stock.update(|n| *n += 1).unwrap();
        changed.notify_one().unwrap();
    }
    let [_, _, _] = takers.map(|taker| taker.get_timeout(LONG).unwrap());
    assert_eq!(stock.get().unwrap(), 0);
    let mut guard = lock.lock().unwrap();
    assert!(changed.wait_timeout(&mut guard, milliseconds(20)).unwrap_err().is_timeout());
    assert!(lock.is_mine());
    assert!(changed.wait_while_timeout(&mut guard, || true, milliseconds(20)).unwrap_err().is_timeout());
    assert!(changed.wait_while_timeout(&mut guard, || false, Duration::ZERO).is_ok());
}

/// Who is to be killed: tasks put their process's number here, since a pool may not have noted yet whom it started.
fn doomed() -> Array<u32> {
    Array::zeroed(2).unwrap()
}

fn here(doomed: &Array<u32>, at: usize) {
    doomed.set(at, std::process::id()).unwrap();
}

/// Waits until `count` tasks run, and kills their processes.
fn kill(doomed: &Array<u32>, count: usize) {
    until(|| doomed.read(0..count).unwrap().iter().all(|&pid| pid != 0));
    for at in 0..count {
        // SAFETY: a signal to a child of this process that is held up in a task, so it has not been reaped.
        assert_eq!(unsafe { libc::kill(doomed.get(at).unwrap() as i32, libc::SIGKILL) }, 0);
        doomed.set(at, 0).unwrap();
    }
}

#[test]
fn a_killed_holder_hands_its_locks_on_poisoned() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    let (lock, rw, doomed) = (Lock::new().unwrap(), RwLock::new().unwrap(), doomed());
    let hold = |(lock, rw, doomed, writes): (Lock, RwLock, Array<u32>, bool)| {
        let _guard = lock.lock().unwrap();
        let _guards = (writes.then(|| rw.write().unwrap()), (!writes).then(|| rw.read().unwrap()));
        here(&doomed, 0);
        thread::park_timeout(LONG);
    };
    for writes in [true, false] {
        let task = pool.submit(hold, (lock.clone(), rw.clone(), doomed.clone(), writes)).unwrap();
        until(|| doomed.get(0).unwrap() != 0);
        assert!(lock.try_lock().is_err() && rw.try_write().is_err());
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let guard = lock.lock_timeout(LONG).unwrap();
                guard.is_poisoned()
            });
            let writer = scope.spawn(|| rw.write_timeout(LONG).unwrap().is_poisoned());
            kill(&doomed, 1);
            assert!(waits.join().unwrap(), "the lock is poisoned");
            assert_eq!(writer.join().unwrap(), writes, "a reader leaves no poison, a writer does");
        });
        assert!(task.get().unwrap_err().is_lost());
        assert!(lock.is_poisoned());
        lock.clear_poison().unwrap();
        rw.clear_poison().unwrap();
    }
    assert_eq!(rw.readers(), 0);
}

#[test]
fn killed_waiters_are_forgotten_and_a_barrier_breaks() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(2).unwrap();
    let (lock, semaphore) = (Lock::new().unwrap(), Semaphore::new(0).unwrap());
    let doomed = doomed();
    let guard = lock.lock().unwrap();
    let wait = |(lock, doomed): (Lock, Array<u32>)| {
        here(&doomed, 0);
        drop(lock.lock());
    };
    let take = |(semaphore, doomed): (Semaphore, Array<u32>)| {
        here(&doomed, 1);
        semaphore.acquire().unwrap();
    };
    let tasks = [
        pool.submit(wait, (lock.clone(), doomed.clone())).unwrap(),
        pool.submit(take, (semaphore.clone(), doomed.clone())).unwrap(),
    ];
    kill(&doomed, 2);
    assert_eq!(tasks.map(|task| task.get_timeout(LONG).unwrap_err().is_lost()), [true; 2]);
    drop(guard);
    assert!(!lock.lock_timeout(LONG).unwrap().is_poisoned(), "who only waited leaves no poison");
    semaphore.release(1).unwrap();
    semaphore.acquire_timeout(LONG).unwrap();
    let meet = |(barrier, doomed): (Barrier, Array<u32>)| {
        here(&doomed, 0);
        barrier.wait().map(drop).unwrap();
    };
    // Killed while it waits, and before it has come: the last party of two barriers.
    for (parties, waiting) in [(3, 2), (2, 1)] {
        let barrier = Barrier::new(parties).unwrap();
        let late = |(_barrier, doomed): (Barrier, Array<u32>)| {
            here(&doomed, 0);
            thread::park_timeout(LONG);
        };
        let argument = (barrier.clone(), doomed.clone());
        thread::scope(|scope| {
            let here = scope.spawn(|| barrier.wait());
            let there = if waiting == 2 { pool.submit(meet, argument) } else { pool.submit(late, argument) };
            until(|| barrier.waiting() == waiting && doomed.get(0).unwrap() != 0);
            kill(&doomed, 1);
            assert_eq!(here.join().unwrap().unwrap_err().kind(), ErrorKind::Broken);
            assert!(there.unwrap().get_timeout(LONG).unwrap_err().is_lost());
        });
    }
}

#[test]
fn handles_travel_are_checked_and_give_their_memory_back() {
    const NAME: &str = "handles_travel_are_checked_and_give_their_memory_back";
    // In a process of its own, where nothing else takes or gives memory.
    if std::env::var_os("DRAGON_TEST_ALONE").is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(alone.args(["--exact", NAME]).env("DRAGON_TEST_ALONE", "1").status().unwrap().success());
        return;
    }
    let dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    pool.map(|x: u8| x, [1]).unwrap();
    let idle = dragon.stats().memory.in_use;
    let value = Value::new([1_u64; 9]).unwrap();
    let all = (
        (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(3).unwrap(), Barrier::new(7).unwrap()),
        (Event::new().unwrap(), Condvar::new().unwrap(), value.clone(), Array::from_slice(&[1_u8, 2]).unwrap()),
    );
    // A handle travels as a number: what it is taken for is checked.
    let bytes = postcard::to_stdvec(&value).unwrap();
    let take = |bytes: Vec<u8>| {
        let refused = [
            postcard::from_bytes::<Lock>(&bytes).is_err(),
            postcard::from_bytes::<Value<[u64; 8]>>(&bytes).is_err(),
            postcard::from_bytes::<Value<[i64; 9]>>(&bytes).is_err(),
            postcard::from_bytes::<Array<u64>>(&bytes).is_err(),
        ];
        (refused, postcard::from_bytes::<Value<[u64; 9]>>(&bytes).is_ok())
    };
    assert_eq!(pool.submit(take, bytes).unwrap().get().unwrap(), ([true; 4], true));
    type All = ((Lock, RwLock, Semaphore, Barrier), (Event, Condvar, Value<[u64; 9]>, Array<u8>));
    let look = |all: All| format!("{all:?}");
    assert_eq!(pool.submit(look, all.clone()).unwrap().get().unwrap(), format!("{all:?}"));
    drop((all, value));
    assert_eq!(dragon.stats().memory.in_use, idle);
}

#[test]
fn waiting_costs_no_processor() {
    let _dragon = dragon::init().unwrap();
    let (event, lock, semaphore) = (Event::new().unwrap(), Lock::new().unwrap(), Semaphore::new(0).unwrap());
    let barrier = Barrier::new(2).unwrap();
    let guard = lock.lock().unwrap();
    thread::scope(|scope| {
        let sleepers = [
            scope.spawn(|| (event.wait().unwrap(), processor_time()).1),
            scope.spawn(|| (drop(lock.lock().unwrap()), processor_time()).1),
            scope.spawn(|| (semaphore.acquire().unwrap(), processor_time()).1),
            scope.spawn(|| (barrier.wait().unwrap(), processor_time()).1),
        ];
        thread::sleep(milliseconds(500)); // time itself is what is measured here
        event.set().unwrap();
        drop(guard);
        semaphore.release(1).unwrap();
        barrier.wait().unwrap();
        for sleeper in sleepers {
            let used = sleeper.join().unwrap();
            assert!(used < milliseconds(20), "half a second of waiting took {used:?} of a processor");
        }
    });
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time into a valid place.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_handle_in_a_message_keeps_what_it_is_of_alive() {
    let _dragon = dragon::init().unwrap();
    let queue = dragon::Queue::<(Lock, Value<u64>, Event)>::bounded(2).unwrap();
    let (lock, value, event) = (Lock::new().unwrap(), Value::new(7_u64).unwrap(), Event::new().unwrap());
    event.set().unwrap();
    queue.put((lock, value, event)).unwrap();
    let (lock, value, event) = queue.get().unwrap();
    assert!(lock.lock().is_ok() && value.get().unwrap() == 7 && event.is_set());
}
