//! Kills a process at every marked point of locks, barriers and their like, and looks at what is left.
//!
//! The victim is a worker that uses everything, its own worker's death included. Another worker of the
//! same pool uses the same objects meanwhile. Whatever is cut off: nobody hangs, what is guarded is whole or
//! said to be poisoned, values are whole, and no memory is held.
//!
//! Needs `--features failpoints`.
#![cfg(feature = "failpoints")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use dragon::sync::{Array, Barrier, Condvar, Event, Lock, RwLock, Semaphore, Value};
use dragon::{ErrorKind, Pool};
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);

fn marks() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/latch")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let names = text.split("mark!(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_string());
        found.extend(names);
    }
    assert!(found.len() >= 20, "where are the marks? {found:?}");
    found
}

/// One of each, and what two of them guard: pairs of equal numbers.
#[derive(Clone, Serialize, Deserialize)]
struct All {
    lock: Lock,
    locked: Array<u64>,
    rwlock: RwLock,
    written: Array<u64>,
    semaphore: Semaphore,
    barrier: Barrier,
    event: Event,
    condvar: Condvar,
    large: Value<[u64; 4]>,
}

impl All {
    fn new() -> All {
        All {
            lock: Lock::new().unwrap(),
            locked: Array::zeroed(2).unwrap(),
            rwlock: RwLock::new().unwrap(),
            written: Array::zeroed(2).unwrap(),
            semaphore: Semaphore::bounded(3).unwrap(),
            barrier: Barrier::new(3).unwrap(),
            event: Event::new().unwrap(),
            condvar: Condvar::new().unwrap(),
            large: Value::new([0; 4]).unwrap(),
        }
    }

    /// Uses everything once.
    fn turn(&self) {
        let mut guard = self.lock.lock_timeout(LONG).unwrap();
        if guard.is_poisoned() {
            mend(&self.locked);
            guard.clear_poison().unwrap();
        }
        add(&self.locked);
        self.condvar.notify_one().unwrap();
        self.condvar.notify_all().unwrap();
        drop(self.condvar.wait_timeout(&mut guard, SHORT));
        drop(guard);

        let guard = self.rwlock.write_timeout(LONG).unwrap();
        if guard.is_poisoned() {
            mend(&self.written);
            guard.clear_poison().unwrap();
        }
        add(&self.written);
        drop(guard);
        let guard = self.rwlock.read_timeout(LONG).unwrap();
        assert!(guard.is_poisoned() || self.written.get(0).unwrap() == self.written.get(1).unwrap());
        drop(guard);

        // A permit that its taker took into death is gone.
        if self.semaphore.acquire_timeout(SHORT).is_ok() {
            self.semaphore.release(1).unwrap();
        }
        self.event.set().unwrap();
        drop(self.event.wait_timeout(SHORT));
        self.event.clear().unwrap();
        self.large.update(|numbers| numbers.iter_mut().for_each(|n| *n += 1)).unwrap();
        assert!(self.large.get().unwrap().windows(2).all(|two| two[0] == two[1]));
        let missed = self.barrier.wait_timeout(SHORT).unwrap_err();
        assert!(matches!(missed.kind(), ErrorKind::TimedOut | ErrorKind::Broken));
        self.barrier.abort().unwrap();
        self.barrier.reset().unwrap();
        Barrier::new(1).unwrap().wait_with(|| ()).unwrap();
    }

    /// Takes what can be taken and dies.
    fn die_with_all(&self) {
        let _guards = (self.lock.lock().unwrap(), self.rwlock.write().unwrap());
        std::process::abort();
    }
}

fn add(pair: &Array<u64>) {
    pair.set(0, pair.get(0).unwrap() + 1).unwrap();
    pair.set(1, pair.get(1).unwrap() + 1).unwrap();
}

/// What one who died between the two steps of `add` left.
fn mend(pair: &Array<u64>) {
    pair.set(1, pair.get(0).unwrap()).unwrap();
}

fn use_all(all: &All) -> u64 {
    (0..10).for_each(|_| all.turn());
    let inner = Pool::new(1).unwrap();
    let lost = inner.submit(|all: All| all.die_with_all(), all.clone()).unwrap().get_timeout(LONG);
    assert!(lost.unwrap_err().is_lost());
    (0..10).for_each(|_| all.turn());
    20
}

fn armed((mark, count, all): (String, u64, All)) -> u64 {
    dragon::failpoint::arm(&mark, count);
    use_all(&all)
}

#[test]
fn a_process_that_is_killed_at_any_marked_point_of_a_latch_holds_nobody_up() {
    let dragon = dragon::init().unwrap();
    let pool = Pool::new(2).unwrap();
    pool.map(|x: u64| x, 0..100).unwrap();
    // A worker may still be about to let go of its last message: the least that was ever seen is the measure.
    let mut before = dragon.stats().memory.in_use;
    let mut reached = BTreeSet::new();
    for mark in marks() {
        for count in [1, 2, 17] {
            let what = format!("killed at {mark}, time {count}");
            let all = All::new();
            let victim = pool.submit(armed, (mark.clone(), count, all.clone())).unwrap();
            let bystander = pool.submit(|all: All| use_all(&all), all.clone()).unwrap();
            match victim.get_timeout(LONG) {
                Ok(turns) => assert_eq!(turns, 20, "{what}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WorkerLost, "{what}: {error}");
                    assert!(error.to_string().contains("SIGKILL"), "{what}: {error}");
                    reached.insert(mark.clone());
                }
            }
            assert_eq!(
                bystander.get_timeout(LONG).unwrap_or_else(|e| panic!("{what}: a bystander: {e}")),
                20,
                "{what}"
            );
            all.turn();
            assert_eq!((all.rwlock.readers(), all.lock.is_locked()), (0, false), "{what}");
            assert!(!all.lock.is_poisoned() && all.locked.get(0).unwrap() == all.locked.get(1).unwrap(), "{what}");
            drop(all);
            refresh(&pool);
            let begun = Instant::now();
            while dragon.stats().memory.in_use > before {
                let held = dragon.stats().memory;
                assert!(begun.elapsed() < LONG, "{what}: {held:?} where {before} bytes were before");
                std::thread::yield_now();
            }
            before = before.min(dragon.stats().memory.in_use);
        }
    }
    let missed: Vec<_> = marks().difference(&reached).cloned().collect();
    assert!(missed.is_empty(), "marks that nobody ever came past: {missed:?}");
    println!("{} marks, each killed at", reached.len());
}

/// Replaces all workers: one that was armed and not killed must not be killed later.
fn refresh(pool: &Pool) {
    for worker in pool.workers() {
        // SAFETY: a signal to a child of this process that nobody else reaps or kills.
        unsafe { libc::kill(worker.pid as i32, libc::SIGKILL) };
        while pool.workers().iter().any(|w| w.pid == worker.pid) {
            std::thread::yield_now();
        }
    }
    pool.chunk(1).map(|x: u64| x, 0..20).unwrap();
}
