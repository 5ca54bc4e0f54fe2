//! Waiting with real threads: time-outs, wake-ups, and what a death leaves.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Patience, TimedOut, WaitCell, wait_until};
use crate::time::Deadline;

fn after(milliseconds: u64) -> Deadline {
    Deadline::after(Duration::from_millis(milliseconds))
}

#[test]
fn no_patience_looks_once() {
    let mut looks = 0;
    let waited = wait_until(&WaitCell::new(), &mut Patience::new(), Deadline::Now, || {
        looks += 1;
        None::<()>
    });
    assert_eq!((waited, looks), (Err(TimedOut), 1));
}

#[test]
fn a_deadline_is_kept_and_not_early() {
    let began = Instant::now();
    let waited = wait_until(&WaitCell::new(), &mut Patience::new(), after(30), || None::<()>);
    assert_eq!(waited, Err(TimedOut));
    assert!(began.elapsed() >= Duration::from_millis(30));
}

#[test]
fn nobody_stays_on_the_roll() {
    let cell = WaitCell::new();
    let _ = wait_until(&cell, &mut Patience::new(), after(1), || None::<()>);
    assert_eq!(cell.sleepers(), 0);
    let panicked = thread::scope(|scope| {
        let sleeper = || {
            let mut asleep = false;
            wait_until(&cell, &mut Patience::new(), Deadline::Never, || {
                assert!(!asleep, "as a careless caller might");
                asleep = cell.sleepers() > 0;
                None::<()>
            })
        };
        let sleeper = scope.spawn(sleeper);
        while !sleeper.is_finished() {
            cell.notify_one();
            thread::yield_now();
        }
        sleeper.join().is_err()
    });
    assert!(panicked);
    assert_eq!(cell.sleepers(), 0);
}

#[test]
fn every_sleeper_gets_its_token() {
    const SLEEPERS: u64 = 4;
    const EACH: u64 = if cfg!(miri) { 10 } else { 2_000 };
    let (cell, tokens) = (WaitCell::new(), AtomicU64::new(0));
    let take = || {
        let less = |tokens: u64| tokens.checked_sub(1);
        tokens.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).ok()
    };
    thread::scope(|scope| {
        let mut running = Vec::new();
        for _ in 0..SLEEPERS {
            running.push(scope.spawn(|| {
                let mut patience = Patience::new();
                for _ in 0..EACH {
                    wait_until(&cell, &mut patience, Deadline::Never, take).unwrap();
                }
            }));
        }
        for n in 0..SLEEPERS * EACH {
            tokens.fetch_add(1, Ordering::SeqCst);
            cell.notify_one();
            if n % 64 == 0 {
                thread::yield_now();
            }
        }
        // By hand: the end of a scope is an order that the thread sanitizer does not see.
        running.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!((tokens.into_inner(), cell.sleepers()), (0, 0));
}

#[test]
fn heal_wakes_the_living_and_forgets_the_dead() {
    let (cell, flag) = (WaitCell::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (cell, look) = (&cell, || flag.load(Ordering::SeqCst).then_some(()));
        let sleeper = scope.spawn(move || wait_until(cell, &mut Patience::new(), Deadline::Never, look));
        while cell.sleepers() == 0 {
            thread::yield_now();
        }
        // The notifier died here, without having notified.
        flag.store(true, Ordering::SeqCst);
        cell.heal();
        sleeper.join().unwrap().unwrap();
    });
    assert_eq!(cell.sleepers(), 0);
}

#[test]
fn notify_all_carries_even_a_relaxed_store() {
    let (cell, flag) = (WaitCell::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..3 {
            let look = || flag.load(Ordering::Relaxed).then_some(());
            let cell = &cell;
            scope.spawn(move || wait_until(cell, &mut Patience::new(), Deadline::Never, look));
        }
        flag.store(true, Ordering::Relaxed);
        cell.notify_all();
    });
}

/// As if the store had been on its way while the notifier looked for sleepers: nobody is called.
#[test]
fn a_sleeper_looks_once_more_for_what_it_was_not_told_of() {
    let (cell, flag) = (WaitCell::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let look = || flag.load(Ordering::SeqCst).then_some(());
        let cell = &cell;
        let sleeper = scope.spawn(move || {
            let mut looks = 0;
            let mut unlucky = || {
                looks += 1;
                // The first look is the one before it sleeps.
                if looks == 1 { None } else { look() }
            };
            cell.sleep_unless(Deadline::Never, &mut unlucky)
        });
        flag.store(true, Ordering::Release);
        assert_eq!(sleeper.join().unwrap(), Some(()));
    });
    assert_eq!((cell.sleepers(), cell.figures()), (0, (1, 0)), "it slept once, and nobody woke it");
}
