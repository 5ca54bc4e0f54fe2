//! Locks, barriers and values against the speed of light: one word taken and given, one line there and back.

mod common;

use std::hint::black_box;
use std::sync::Mutex;

use common::limits::{self, nanoseconds_each};
use common::table::Race;
use common::{machine, os};
use dragon::sync::{Array, Barrier, Event, Lock, RwLock, Semaphore, Value};
use dragon::{Pool, Result};

const EXPECT: &str = "a bench runs where dragon runs";

fn main() {
    machine::print_head("sync");
    let _dragon = dragon::init().expect(EXPECT);
    alone().expect(EXPECT);
    together(&Pool::new(1).expect(EXPECT));
}

/// A value that is really read.
fn keep<T>(value: T) {
    black_box(value);
}

/// Calls that nobody else is in the way of.
fn alone() -> Result<()> {
    const TURNS: u64 = 2_000_000;
    let (mutex, lock, rwlock) = (Mutex::new(0_u64), Lock::new()?, RwLock::new()?);
    let (semaphore, event) = (Semaphore::new(1)?, Event::new()?);
    let (small, large, array) = (Value::new(0_u64)?, Value::new([0_u64; 16])?, Array::<u64>::zeroed(1024)?);
    event.set().unwrap();
    let each = |turn: &dyn Fn()| nanoseconds_each(TURNS, |_| turn());
    Race::new("uncontended: take and give", "ns")
        .runner("std Mutex, in one process", || each(&|| drop(black_box(&mutex).lock())))
        .runner("Lock", || each(&|| drop(black_box(&lock).lock())))
        .runner("RwLock, to read", || each(&|| drop(black_box(&rwlock).read())))
        .runner("RwLock, to write", || each(&|| drop(black_box(&rwlock).write())))
        .runner("Semaphore", || each(&|| drop((black_box(&semaphore).acquire(), semaphore.release(1)))))
        .runner("Event that is set", || each(&|| drop(black_box(&event).wait())))
        .run()
        .below("Lock", 30.0);
    Race::new("values", "ns")
        .runner("Value<u64>, get", || each(&|| keep(black_box(&small).get())))
        .runner("Value<u64>, update", || each(&|| drop(black_box(&small).update(|n| *n += 1))))
        .runner("Value<[u64; 16]>, get", || each(&|| keep(black_box(&large).get())))
        .runner("Value<[u64; 16]>, update", || each(&|| drop(black_box(&large).update(|n| n[0] += 1))))
        .runner("Array<u64>, get", || each(&|| keep(black_box(&array).get(7))))
        .runner("Array<u64>, set", || each(&|| drop(black_box(&array).set(7, 1))))
        .run();
    Ok(())
}

fn together(pool: &Pool) {
    Race::new("two processes", "ns")
        .runner("cache line, round trip", limits::one_line)
        .runner("Barrier of two", || barrier(pool))
        .runner("Lock, each takes and gives", || contended(pool))
        .run()
        .at_most("Barrier of two", 3.0, "cache line, round trip");
}

fn meet((barrier, core, turns): (Barrier, usize, u64)) {
    let _pinned = os::pin(core);
    for _ in 0..turns {
        barrier.wait().expect("the bench comes as often");
    }
}

fn barrier(pool: &Pool) -> f64 {
    let turns = 100_000;
    let [here, there] = os::two_cores();
    let barrier = Barrier::new(2).expect(EXPECT);
    let partner = pool.submit(meet, (barrier.clone(), there, turns)).expect("the pool is open");
    let _pinned = os::pin(here);
    let figure = nanoseconds_each(turns, |_| drop(barrier.wait()));
    partner.get().expect("meeting does not fail");
    figure
}

fn take((lock, go, core, turns): (Lock, Barrier, usize, u64)) {
    let _pinned = os::pin(core);
    go.wait().expect("two come");
    for _ in 0..turns {
        drop(lock.lock().expect("nobody holds it for ever"));
    }
}

/// Nanoseconds for one turn of one of two that never stop.
fn contended(pool: &Pool) -> f64 {
    let turns = 300_000;
    let [here, there] = os::two_cores();
    let (lock, go) = (Lock::new().expect(EXPECT), Barrier::new(2).expect(EXPECT));
    let partner = pool.submit(take, (lock.clone(), go.clone(), there, turns)).expect("the pool is open");
    let _pinned = os::pin(here);
    go.wait().expect("two come");
    let figure = nanoseconds_each(turns, |_| drop(lock.lock()));
    partner.get().expect("taking does not fail");
    figure
}
