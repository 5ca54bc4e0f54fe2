//! Semantic cases 79 to 85 over nodes: locks, barriers, events, semaphores and values that live on one node and are used
//! from others, by ranks and by their workers; and what becomes of them when a process or a whole node dies.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use common::until::{sleeps, until};
use common::{LONG, start};
use dragon::observe::ObjectKind;
use dragon::sync::{Array, Barrier, Condvar, Event, Lock, RwLock, Semaphore, Value};
use dragon::{Channel, ErrorKind, MemoryPool, Message, Pool, Queue, Runtime, Selector};

/// Two nodes of two ranks: 0 and 2, 1 and 3.
const NODES: [u32; 4] = [0, 1, 0, 1];

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "locks" => locks(&dragon),
        "recursive" => recursive(&dragon),
        "meetings" => meetings(&dragon),
        "late" => late(&dragon),
        "flags" => flags(&dragon),
        "permits" => permits(&dragon),
        "values" => values(&dragon),
        "changes" => changes(&dragon),
        "readers" => readers(&dragon),
        "killed" => killed(&dragon),
        "forgotten" => forgotten(&dragon),
        "lost holder" => lost_holder(&dragon),
        "lost home" => lost_home(&dragon),
        "lost head" => lost_head(&dragon),
        "made" => made_elsewhere(&dragon),
        "channels" => channels(&dragon),
        other => panic!("there is no part {other}"),
    }
    let ended = dragon.finalize();
    match &part[..] {
        "lost holder" | "lost home" | "lost head" => assert_eq!(ended.unwrap_err().kind(), ErrorKind::NodeLost),
        _ => ended.unwrap(),
    }
}

/// What the rank `home` makes, at all ranks.
fn share<T: Message + Clone>(dragon: &Runtime, home: usize, name: &str, make: impl FnOnce() -> T) -> T {
    if dragon.rank() == home {
        let (made, others) = (make(), dragon.size() - 1);
        let queue = Queue::builder().name(name).joinable().build().unwrap();
        (0..others).for_each(|_| queue.put(made.clone()).unwrap());
        queue.join().unwrap();
        return made;
    }
    let queue: Queue<T> = Queue::open_timeout(name, LONG).unwrap();
    let made = queue.get().unwrap();
    queue.task_done().unwrap();
    made
}

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits until somebody had to sleep so often at this node's objects of a kind, all together.
fn until_asleep(kind: ObjectKind, times: u64) {
    until("somebody sleeps there", || sleeps(|object| object.kind == kind) >= times);
}

fn kind<T>(result: dragon::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

#[test]
fn cases_79_and_80_a_lock_is_one_thread_s_at_a_time_wherever_that_is() {
    start("locks", &NODES).ends_well();
}

fn locks(dragon: &Runtime) {
    const EACH: u64 = 100;
    let made = || (Lock::new().unwrap(), Array::<u64>::zeroed(1).unwrap(), Barrier::new(4).unwrap());
    let (lock, counter, all) = share(dragon, 1, "locks", made);
    assert_eq!((lock.node().number(), counter.node().number()), (1, 1));
    let pool = Pool::new(1).unwrap();
    if dragon.rank() == 0 {
        let guard = lock.lock().unwrap();
        assert!(lock.is_mine() && lock.is_locked() && !guard.is_poisoned());
        assert_eq!(kind(lock.lock()), ErrorKind::WouldDeadlock);
        all.wait().unwrap();
        all.wait().unwrap();
        drop(guard);
    } else {
        all.wait().unwrap();
        assert!(lock.is_locked() && !lock.is_mine());
        assert!(kind(lock.try_lock()) == ErrorKind::TimedOut);
        let begun = Instant::now();
        let error = lock.lock_timeout(milliseconds(50)).unwrap_err();
        assert!(error.is_timeout() && begun.elapsed() >= milliseconds(50), "{error}");
        assert!(error.to_string().contains("of node 0 holds it"), "the text says who: {error}");
        let there = pool.submit(|lock: Lock| lock.try_lock().is_err(), lock.clone()).unwrap();
        assert!(there.get().unwrap());
        all.wait().unwrap();
    }
    // Four ranks and their four workers.
    let count = |(lock, counter): &(Lock, Array<u64>)| {
        for _ in 0..EACH {
            let _guard = lock.lock().unwrap();
            counter.set(0, counter.get(0).unwrap() + 1).unwrap();
        }
    };
    let both = (lock.clone(), counter.clone());
    let task = pool.submit(move |both: (Lock, Array<u64>)| count(&both), both.clone()).unwrap();
    count(&both);
    task.get().unwrap();
    all.wait().unwrap();
    assert_eq!(counter.to_vec().unwrap(), [8 * EACH]);
    assert!(!lock.is_locked() && !lock.is_poisoned());
}

#[test]
fn case_81_a_recursive_lock_is_given_back_as_often_as_it_was_taken() {
    start("recursive", &[0, 1]).ends_well();
}

fn recursive(dragon: &Runtime) {
    let made = || (Lock::recursive().unwrap(), Barrier::new(2).unwrap());
    let (lock, all) = share(dragon, 0, "recursive", made);
    if dragon.rank() == 1 {
        let free = || thread::scope(|scope| scope.spawn(|| lock.try_lock().is_ok()).join().unwrap());
        let mut guards: Vec<_> = (0..25).map(|_| lock.lock().unwrap()).collect();
        assert_eq!((lock.depth(), lock.is_mine()), (25, true));
        all.wait().unwrap();
        all.wait().unwrap();
        while let Some(guard) = guards.pop() {
            assert!(!free(), "another thread of the process that holds it");
            drop(guard);
            assert_eq!(lock.depth(), guards.len() as u64);
        }
        assert!(free());
        // A worker that ends holding it.
        let pool = Pool::new(1).unwrap();
        let exit = |lock: Lock| {
            let guards = [lock.lock().unwrap(), lock.lock().unwrap()];
            std::process::exit(guards.len() as i32 - 2)
        };
        let lost = pool.submit(exit, lock.clone()).unwrap();
        assert!(lost.get().map(drop::<()>).unwrap_err().is_lost());
        let guard = lock.lock_timeout(LONG).unwrap();
        assert!(guard.is_poisoned() && lock.depth() == 1);
        guard.clear_poison().unwrap();
        drop(guard);
        assert!(!lock.is_poisoned() && free());
    } else {
        all.wait().unwrap();
        assert_eq!((kind(lock.try_lock()), lock.depth()), (ErrorKind::TimedOut, 25));
        all.wait().unwrap();
    }
    all.wait().unwrap();
}

#[test]
fn case_82_a_barrier_numbers_parties_of_several_nodes_and_one_acts() {
    start("meetings", &NODES).ends_well();
}

fn meetings(dragon: &Runtime) {
    const ROUNDS: u64 = 20;
    let made = || (Barrier::new(8).unwrap(), Array::<u64>::zeroed(2).unwrap());
    let shared = share(dragon, 1, "meetings", made);
    let meet = |(barrier, sums): &(Barrier, Array<u64>)| {
        for round in 1..=ROUNDS {
            let number = barrier.wait_with(|| sums.update(0, |acts| *acts += 1).map(drop).unwrap()).unwrap();
            sums.update(1, |sum| *sum += number as u64).unwrap();
            assert_eq!(sums.get(0).unwrap(), round, "one acts, before all go on");
            barrier.wait().unwrap();
        }
    };
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(move |shared: (Barrier, Array<u64>)| meet(&shared), shared.clone()).unwrap();
    meet(&shared);
    task.get().unwrap();
    let (barrier, sums) = shared;
    assert_eq!((barrier.parties(), barrier.is_broken()), (8, false));
    assert_eq!(sums.to_vec().unwrap(), [ROUNDS, ROUNDS * 28], "numbers from 0 to 7");
}

#[test]
fn case_82_who_is_late_for_a_barrier_breaks_it_on_all_nodes() {
    start("late", &[0, 1, 1]).ends_well();
}

fn late(dragon: &Runtime) {
    let made = || (Barrier::new(4).unwrap(), Barrier::new(3).unwrap());
    let (barrier, all) = share(dragon, 0, "late", made);
    // One is missing: who has less patience breaks it, wherever it is.
    let waited = if dragon.rank() == 1 { barrier.wait_timeout(milliseconds(50)) } else { barrier.wait() };
    let expected = if dragon.rank() == 1 { ErrorKind::TimedOut } else { ErrorKind::Broken };
    // The others may have come after it broke, and it before they came.
    assert!(kind(waited) == expected && barrier.is_broken());
    assert_eq!(kind(barrier.wait()), ErrorKind::Broken);
    all.wait().unwrap();
    if dragon.rank() == 2 {
        barrier.reset().unwrap();
    }
    all.wait().unwrap();
    match dragon.rank() {
        0 => {
            until("two wait", || barrier.waiting() == 2);
            barrier.abort().unwrap();
        }
        _ => assert_eq!(kind(barrier.wait()), ErrorKind::Broken),
    }
    all.wait().unwrap();
    assert!(barrier.is_broken());
}

#[test]
fn case_83_an_event_wakes_all_on_all_nodes() {
    start("flags", &NODES).ends_well();
}

fn flags(dragon: &Runtime) {
    let made = || (Event::new().unwrap(), Semaphore::new(0).unwrap(), Barrier::new(4).unwrap());
    let (event, waiting, all) = share(dragon, 1, "flags", made);
    let begun = Instant::now();
    assert_eq!(kind(event.wait_timeout(milliseconds(90))), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= milliseconds(90) && kind(event.try_wait()) == ErrorKind::TimedOut);
    let pool = Pool::new(1).unwrap();
    let wait = |(event, waiting): (Event, Semaphore)| {
        waiting.release(1).unwrap();
        event.wait().unwrap();
    };
    let task = pool.submit(wait, (event.clone(), waiting.clone())).unwrap();
    if dragon.rank() == 2 {
        (0..7).for_each(|_| waiting.acquire().unwrap());
        event.set().unwrap();
    } else {
        wait((event.clone(), waiting));
    }
    task.get().unwrap();
    assert!(event.is_set() && event.try_wait().is_ok() && event.wait().is_ok());
    all.wait().unwrap();
    if dragon.rank() == 0 {
        event.clear().unwrap();
    }
    all.wait().unwrap();
    assert!(!event.is_set());
}

#[test]
fn case_84_a_semaphore_counts_over_nodes() {
    start("permits", &[0, 1]).ends_well();
}

fn permits(dragon: &Runtime) {
    let made = || (Semaphore::new(1).unwrap(), Semaphore::bounded(2).unwrap(), Barrier::new(2).unwrap());
    let (semaphore, bounded, all) = share(dragon, 0, "permits", made);
    if dragon.rank() == 1 {
        semaphore.acquire().unwrap();
        let begun = Instant::now();
        assert!(semaphore.acquire_timeout(milliseconds(50)).unwrap_err().is_timeout());
        assert!(begun.elapsed() >= milliseconds(50) && semaphore.permits() == 0);
        assert_eq!(kind(semaphore.try_acquire()), ErrorKind::TimedOut);
        let error = bounded.release(1).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("at most 2"), "{error}");
        all.wait().unwrap();
        (0..16).for_each(|_| semaphore.acquire().unwrap());
        assert_eq!(semaphore.permits(), 0);
    } else {
        all.wait().unwrap();
        semaphore.release(16).unwrap();
    }
    all.wait().unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
    hits: u64,
}

#[test]
fn case_85_values_and_arrays_are_whole_on_all_nodes() {
    start("values", &NODES).ends_well();
}

fn values(dragon: &Runtime) {
    const EACH: u64 = 100;
    type Shared = (Value<i16>, Value<Point>, Array<u8>, Array<u64>, Barrier);
    let made = || -> Shared {
        let point = Value::new(Point { x: 0.0, y: 0.0, hits: 0 }).unwrap();
        let text = Array::from_slice(b"hello, world!").unwrap();
        let long = Array::from_slice(&(0..300_000).collect::<Vec<u64>>()).unwrap();
        (Value::new(-7).unwrap(), point, text, long, Barrier::new(4).unwrap())
    };
    let (small, point, text, long, all) = share(dragon, 3, "values", made);
    assert_eq!((small.get().unwrap(), text.len(), long.len()), (-7, 13, 300_000));
    all.wait().unwrap();
    for _ in 0..EACH {
        small.update(|n| *n += 1).unwrap();
        let hit = |point: &mut Point| *point = Point { x: point.x + 1.0, y: point.y - 1.0, hits: point.hits + 1 };
        point.update(hit).unwrap();
        let seen = point.get().unwrap();
        assert!(seen.x + seen.y == 0.0 && seen.x == seen.hits as f64, "{seen:?}");
        text.update(dragon.rank(), |byte| *byte = byte.wrapping_add(1)).unwrap();
    }
    all.wait().unwrap();
    assert_eq!(small.get().unwrap(), -7 + 4 * EACH as i16);
    assert_eq!(point.get().unwrap().hits, 4 * EACH);
    assert_eq!(text.get(0).unwrap(), b'h'.wrapping_add(EACH as u8));
    assert!(kind(text.get(13)) == ErrorKind::InvalidArgument && kind(text.read(10..14)) == ErrorKind::InvalidArgument);
    all.wait().unwrap();
    if dragon.rank() == 0 {
        text.write(7, b"DRAGON").unwrap();
        assert_eq!(small.replace(1).unwrap(), -7 + 4 * EACH as i16);
        long.write(1, &vec![1; 299_999]).unwrap();
        let held = long.lock().unwrap();
        assert_eq!(kind(long.lock()), ErrorKind::WouldDeadlock);
        all.wait().unwrap();
        all.wait().unwrap();
        drop(held);
    } else {
        all.wait().unwrap();
        assert_eq!(kind(long.try_lock()), ErrorKind::TimedOut);
        let pool = Pool::new(1).unwrap();
        let look = |(text, small): (Array<u8>, Value<i16>)| (text.read(7..13).unwrap(), small.get().unwrap());
        let seen = pool.submit(look, (text, small)).unwrap().get().unwrap();
        assert_eq!(seen, (b"DRAGON".to_vec(), 1));
        all.wait().unwrap();
    }
    assert_eq!(long.to_vec().unwrap().iter().sum::<u64>(), 299_999);
}

#[test]
fn who_waits_for_a_change_is_told_of_it_from_another_node() {
    start("changes", &NODES).ends_well();
}

fn changes(dragon: &Runtime) {
    const EACH: i64 = 50;
    type Shared = (Lock, Condvar, Value<i64>, Barrier);
    let made =
        || (Lock::recursive().unwrap(), Condvar::new().unwrap(), Value::new(0).unwrap(), Barrier::new(4).unwrap());
    let (lock, changed, stock, all): Shared = share(dragon, 1, "changes", made);
    if dragon.rank() < 2 {
        for _ in 0..EACH {
            let mut guard = lock.lock().unwrap();
            let again = lock.lock().unwrap();
            changed.wait_while(&mut guard, || stock.get().unwrap() == 0).unwrap();
            stock.update(|n| *n -= 1).unwrap();
            drop(again);
        }
    } else {
        for _ in 0..EACH {
            let _guard = lock.lock().unwrap();
            stock.update(|n| *n += 1).unwrap();
            changed.notify_one().unwrap();
        }
    }
    all.wait().unwrap();
    assert_eq!((stock.get().unwrap(), lock.is_locked()), (0, false));
    all.wait().unwrap();
    let mut guard = lock.lock().unwrap();
    assert_eq!(kind(changed.wait_timeout(&mut guard, milliseconds(20))), ErrorKind::TimedOut);
    assert!(lock.is_mine(), "it is taken again");
    if dragon.node() != changed.node() {
        let here = Condvar::new().unwrap();
        assert_eq!(kind(here.wait(&mut guard)), ErrorKind::InvalidArgument);
    }
    drop(guard);
    all.wait().unwrap();
}

#[test]
fn readers_of_several_nodes_share_and_writers_do_not() {
    start("readers", &[0, 1, 1]).ends_well();
}

fn readers(dragon: &Runtime) {
    let made = || (RwLock::new().unwrap(), Array::<u64>::zeroed(2).unwrap(), Barrier::new(3).unwrap());
    let (lock, pair, all) = share(dragon, 0, "readers", made);
    let reading = lock.read().unwrap();
    all.wait().unwrap();
    assert!(lock.readers() == 3 && !reading.is_poisoned());
    let error = lock.write_timeout(milliseconds(20)).unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("threads read"), "{error}");
    all.wait().unwrap();
    drop(reading);
    for _ in 0..100 {
        let writing = lock.write().unwrap();
        pair.set(0, pair.get(0).unwrap() + 1).unwrap();
        pair.set(1, pair.get(1).unwrap() + 1).unwrap();
        drop(writing);
        let reading = lock.read().unwrap();
        assert_eq!(pair.get(0).unwrap(), pair.get(1).unwrap());
        drop(reading);
    }
    all.wait().unwrap();
    assert_eq!((pair.to_vec().unwrap(), lock.readers(), lock.is_poisoned()), (vec![300, 300], 0, false));
}

/// All that a process can hold.
type Things = (Lock, RwLock, RwLock, Array<u32>, Barrier);

fn things() -> Things {
    let rw = || RwLock::new().unwrap();
    (Lock::new().unwrap(), rw(), rw(), Array::zeroed(1).unwrap(), Barrier::new(2).unwrap())
}

/// Takes them all and never gives them back.
fn take((lock, writes, reads, array, _): &Things) {
    std::mem::forget((lock.lock().unwrap(), writes.write().unwrap(), reads.read().unwrap(), array.lock().unwrap()));
}

/// They were handed on, poisoned where they guard something that may be half changed.
fn are_handed_on((lock, writes, reads, array, barrier): &Things) {
    assert!(lock.lock_timeout(LONG).unwrap().is_poisoned());
    assert!(writes.write_timeout(LONG).unwrap().is_poisoned());
    let writing = reads.write_timeout(LONG).unwrap();
    assert!(!writing.is_poisoned(), "who reads changes nothing");
    assert!(array.lock_timeout(LONG).unwrap().is_poisoned());
    until("the barrier breaks", || barrier.is_broken());
    assert_eq!(kind(barrier.wait()), ErrorKind::Broken);
}

#[test]
fn what_a_killed_worker_held_on_another_node_is_handed_on() {
    start("killed", &[0, 1, 0]).ends_well();
}

fn killed(dragon: &Runtime) {
    let made = || (things(), things(), Event::new().unwrap(), Barrier::new(3).unwrap());
    let (held, other, taken, all) = share(dragon, 0, "killed", made);
    if dragon.rank() == 1 {
        let pool = Pool::builder().processes(1).build().unwrap();
        let hold = |(held, taken): (Things, Event)| {
            take(&held);
            taken.set().unwrap();
            thread::park();
        };
        let task = pool.submit(hold, (held.clone(), taken.clone())).unwrap();
        taken.wait().unwrap();
        assert_eq!(kind(held.0.try_lock()), ErrorKind::TimedOut);
        all.wait().unwrap();
        let pid = pool.workers()[0].pid as i32;
        // SAFETY: a worker of ours, which is not reaped before it has ended.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        are_handed_on(&held);
        assert!(task.get().unwrap_err().is_lost());
        // The place of the dead, used by another: it holds nothing of it.
        let fine = pool.submit(|other: Things| other.0.lock().map(|guard| guard.is_poisoned()).unwrap(), other.clone());
        assert!(!fine.unwrap().get().unwrap());
    } else {
        // One waits before, on the home's node, the other comes after.
        all.wait().unwrap();
        if dragon.rank() == 2 {
            let begun = Instant::now();
            assert!(held.0.lock_timeout(LONG).unwrap().is_poisoned());
            assert!(begun.elapsed() < LONG / 4);
        }
    }
    all.wait().unwrap();
}

#[test]
fn killed_waiters_are_forgotten() {
    start("forgotten", &[0, 1]).ends_well();
}

fn forgotten(dragon: &Runtime) {
    type Waits = (Lock, RwLock, Event, Semaphore, Lock, Condvar, Barrier);
    let made = || {
        let waits: Waits = (
            Lock::new().unwrap(),
            RwLock::new().unwrap(),
            Event::new().unwrap(),
            Semaphore::new(0).unwrap(),
            Lock::new().unwrap(),
            Condvar::new().unwrap(),
            Barrier::new(2).unwrap(),
        );
        (waits, Barrier::new(2).unwrap())
    };
    let (waits, all) = share(dragon, 0, "forgotten", made);
    let (lock, rwlock, _, permits, guarding, _, breaks) = &waits;
    if dragon.rank() == 1 {
        all.wait().unwrap();
        let pool = Pool::new(1).unwrap();
        let wait = |waits: Waits| {
            let (lock, rwlock, event, permits, guarding, changed, _) = &waits;
            thread::scope(|scope| {
                scope.spawn(|| drop(lock.lock()));
                scope.spawn(|| drop(rwlock.write()));
                scope.spawn(|| drop(event.wait()));
                scope.spawn(|| drop(permits.acquire()));
                scope.spawn(|| {
                    let mut guard = guarding.lock().unwrap();
                    drop(changed.wait(&mut guard));
                });
            });
        };
        let task = pool.submit(wait, waits.clone()).unwrap();
        all.wait().unwrap(); // they sleep at their home
        // SAFETY: a worker of ours, which is not reaped before it has ended.
        assert_eq!(unsafe { libc::kill(pool.workers()[0].pid as i32, libc::SIGKILL) }, 0);
        assert!(task.get().unwrap_err().is_lost());
        all.wait().unwrap();
    } else {
        let (held, read) = (lock.lock().unwrap(), rwlock.read().unwrap());
        all.wait().unwrap();
        let waited_for =
            [ObjectKind::Lock, ObjectKind::RwLock, ObjectKind::Event, ObjectKind::Semaphore, ObjectKind::Condvar];
        waited_for.into_iter().for_each(|kind| until_asleep(kind, 1));
        all.wait().unwrap();
        all.wait().unwrap();
        until("the home has heard of the end", || breaks.is_broken());
        drop((held, read));
        permits.release(1).unwrap();
        // Nobody takes anything in the name of the dead.
        assert!(!lock.lock_timeout(LONG).unwrap().is_poisoned());
        assert!(!rwlock.write_timeout(LONG).unwrap().is_poisoned());
        assert!(!guarding.lock_timeout(LONG).unwrap().is_poisoned());
        permits.acquire_timeout(LONG).unwrap();
    }
    all.wait().unwrap();
}

#[test]
fn what_a_lost_node_held_is_handed_on() {
    start("lost holder", &[0, 1, 2]).ends_well_but(&[1]);
}

fn lost_holder(dragon: &Runtime) {
    let made = || (things(), Event::new().unwrap(), Queue::<()>::bounded(1).unwrap());
    let (held, taken, go) = share(dragon, 0, "lost holder", made);
    if dragon.rank() == 1 {
        take(&held);
        taken.set().unwrap();
        go.get().unwrap();
        std::process::abort();
    }
    taken.wait().unwrap();
    if dragon.rank() == 0 {
        until_asleep(ObjectKind::Lock, 1); // rank 2
        go.put(()).unwrap();
    }
    are_handed_on(&held);
}

#[test]
fn a_lost_home_is_an_error_to_all_who_wait_there() {
    start("lost home", &[0, 1, 0]).ends_well_but(&[1]);
}

fn lost_home(dragon: &Runtime) {
    let made = || (Lock::new().unwrap(), Event::new().unwrap(), Value::new(7_u32).unwrap());
    let (lock, event, value) = share(dragon, 1, "lost home", made);
    if dragon.rank() == 1 {
        until_asleep(ObjectKind::Event, 2); // the others
        std::process::abort();
    }
    let guard = (dragon.rank() == 0).then(|| lock.lock().unwrap());
    assert_eq!(kind(event.wait()), ErrorKind::NodeLost);
    let error = value.get().unwrap_err();
    assert!(error.kind() == ErrorKind::NodeLost && error.to_string().contains("value"), "{error}");
    assert_eq!(
        (kind(event.set()), kind(value.set(1)), kind(lock.try_lock())),
        (ErrorKind::NodeLost, ErrorKind::NodeLost, ErrorKind::NodeLost)
    );
    assert!(!lock.is_locked() && !event.is_set(), "of a lost node nothing can be seen");
    drop(guard);
}

#[test]
fn when_the_head_of_a_home_dies_its_other_ranks_get_what_guests_held() {
    start("lost head", &[0, 0, 1]).ends_well_but(&[0]);
}

fn lost_head(dragon: &Runtime) {
    let (held, taken) = share(dragon, 1, "lost head", || (things(), Event::new().unwrap()));
    match dragon.rank() {
        0 => {
            taken.wait().unwrap();
            std::process::abort();
        }
        1 => {
            taken.wait().unwrap();
            are_handed_on(&held);
        }
        _ => {
            take(&held);
            // The home may be lost before it has answered.
            let _ = taken.set();
            until("the home is lost", || kind(held.0.try_lock()) == ErrorKind::NodeLost);
        }
    }
}

#[test]
fn a_queue_is_made_on_another_node_and_its_name_is_free_when_it_is_gone() {
    start("made", &[0, 1, 1, 2]).ends_well();
}

fn made_elsewhere(dragon: &Runtime) {
    let (all, nodes) = (share(dragon, 0, "made", || Barrier::new(4).unwrap()), dragon.nodes());
    let build = |node: usize| Queue::<String>::builder().capacity(2).name("there").node(nodes[node]).build();
    if dragon.rank() == 0 {
        let queue = build(1).unwrap();
        assert_eq!((queue.node(), queue.capacity()), (nodes[1], Some(2)));
        assert_eq!(
            (kind(build(0)), kind(build(1)), kind(build(2))),
            (ErrorKind::Exists, ErrorKind::Exists, ErrorKind::Exists)
        );
        let nameless = Queue::<String>::builder().node(nodes[2]).joinable().build().unwrap();
        nameless.put("one".into()).unwrap();
        assert_eq!((nameless.node(), nameless.get().unwrap().as_str()), (nodes[2], "one"));
        nameless.task_done().unwrap();
        nameless.join().unwrap();
        let bad = Queue::<String>::builder().node(nodes[2]).name("").build();
        assert_eq!(kind(bad), ErrorKind::InvalidArgument);
        queue.put("from 0".into()).unwrap();
        all.wait().unwrap();
        all.wait().unwrap();
        drop(queue);
        // Its node says that it is gone, so others may have its name: here, and then on a third node.
        until("the name is free", || build(0).is_ok());
        until("the name is free again", || build(2).is_ok());
    } else {
        all.wait().unwrap();
        if dragon.rank() == 2 {
            let queue = Queue::<String>::open("there").unwrap();
            assert_eq!((queue.node(), queue.get().unwrap().as_str()), (dragon.node(), "from 0"));
        }
        all.wait().unwrap();
    }
    all.wait().unwrap();
}

#[test]
fn a_channel_is_used_from_another_node_and_a_memory_pool_says_that_it_cannot() {
    start("channels", &[0, 1]).ends_well();
}

fn channels(dragon: &Runtime) {
    let large: Vec<u8> = (0..200_000_u32).map(|x| (x % 251) as u8).collect();
    let made = || (Channel::create(2, 64).unwrap(), Channel::create(2, 64).unwrap(), Barrier::new(2).unwrap());
    let (there, back, all) = share(dragon, 0, "channels", made);
    if dragon.rank() == 1 {
        assert_eq!((there.capacity(), there.len(), there.is_closed()), (2, 0, false));
        assert!(!there.poll(milliseconds(10)).unwrap() && there.poll_send(Duration::ZERO).unwrap());
        there.send(b"abc").unwrap();
        let mut loan = there.loan(large.len()).unwrap();
        loan.copy_from_slice(&large);
        there.send_loan(loan).map_err(|(error, _)| error).unwrap();
        assert!(there.is_full() && !there.poll_send(milliseconds(10)).unwrap());
        assert_eq!(kind(there.try_send(b"d")), ErrorKind::Full);
        assert_eq!(kind(there.send_timeout(b"d", milliseconds(10))), ErrorKind::TimedOut);
        all.wait().unwrap();
        // Among other things, which do not come.
        let nothing = Queue::<u8>::bounded(1).unwrap();
        let pool = Pool::new(1).unwrap();
        let go = pool.submit(|there: Channel| there.send(b"go").unwrap(), there.clone()).unwrap();
        let mut selector = Selector::new();
        let (_, expected) = (selector.add(&nothing), selector.add(&back));
        assert!(selector.select().unwrap() == expected && *back.recv().unwrap() == large);
        go.get().unwrap();
        let memory = Queue::<MemoryPool>::open_timeout("memory", LONG).unwrap();
        let error = memory.get().unwrap().alloc(1).map(drop).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("is node 0"), "{error}");
        there.close();
        assert_eq!(kind(there.send(b"late")), ErrorKind::Closed);
    } else {
        assert!(there.poll(LONG).unwrap());
        all.wait().unwrap();
        assert_eq!(&*there.recv().unwrap(), b"abc");
        assert!(*there.recv().unwrap() == large);
        assert_eq!(&*there.recv().unwrap(), b"go");
        back.send(&large).unwrap();
        let pool = MemoryPool::create("of node 0", 1 << 16).unwrap();
        let workers = Pool::new(1).unwrap();
        let id = workers.submit(|pool: MemoryPool| pool.alloc(10).unwrap().into_id(), pool.clone());
        assert!(pool.take(id.unwrap().get().unwrap()).is_ok(), "on its node it is the same pool");
        let memory = Queue::<MemoryPool>::builder().name("memory").build().unwrap();
        memory.put(pool.clone()).unwrap();
        assert_eq!(there.recv().unwrap_err().kind(), ErrorKind::Closed);
    }
}
