//! Waiting under the shuttle model checker: a lost wake-up is a deadlock, which it reports.

use std::sync::Arc;

use shuttle::{check_pct, check_random, thread};

use super::{Patience, WaitCell, wait_until};
use crate::prim::{AtomicU32, Ordering};
use crate::sys::futex;
use crate::time::Deadline;

const SCHEDULES: usize = 4_000;
const DEPTH: usize = 4;

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(body.clone(), SCHEDULES);
    check_pct(body, SCHEDULES, DEPTH);
}

struct Shop {
    cell: WaitCell,
    tokens: AtomicU32,
}

impl Shop {
    fn open() -> Arc<Shop> {
        Arc::new(Shop { cell: WaitCell::new(), tokens: AtomicU32::new(0) })
    }

    fn put(&self) {
        self.tokens.fetch_add(1, Ordering::SeqCst);
    }

    fn try_get(&self) -> Option<()> {
        let less = |tokens: u32| tokens.checked_sub(1);
        self.tokens.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).ok().map(drop)
    }

    fn get(&self, deadline: Deadline) -> bool {
        wait_until(&self.cell, &mut Patience::new(), deadline, || self.try_get()).is_ok()
    }
}

fn spawn(shop: &Arc<Shop>, work: impl FnOnce(&Shop) + Send + 'static) -> thread::JoinHandle<()> {
    let shop = shop.clone();
    thread::spawn(move || work(&shop))
}

#[test]
fn model_every_sleeper_gets_its_token() {
    check(|| {
        let shop = Shop::open();
        let sleepers = [(); 3].map(|()| spawn(&shop, |shop| assert!(shop.get(Deadline::Never))));
        let notifiers = [(); 2].map(|()| {
            spawn(&shop, |shop| {
                shop.put();
                shop.cell.notify_one();
            })
        });
        shop.put();
        shop.cell.notify_one();
        let [_, _] = notifiers.map(|notifier| notifier.join().unwrap());
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert_eq!(shop.cell.sleepers(), 0);
    });
}

/// A sleeper that gives up must not take a wake-up with it that another needed.
#[test]
fn model_a_time_out_takes_no_wake_up_away() {
    check(|| {
        let shop = Shop::open();
        let hour = Deadline::after(std::time::Duration::from_secs(3600));
        let patient = spawn(&shop, |shop| assert!(shop.get(Deadline::Never)));
        let hasty = spawn(&shop, move |shop| {
            // The model's futex lets time run out at random.
            if shop.cell.sleep_unless(hour, &mut || shop.try_get()).is_some() {
                shop.put();
                shop.cell.notify_one();
            }
        });
        shop.put();
        shop.cell.notify_one();
        patient.join().unwrap();
        hasty.join().unwrap();
    });
}

#[test]
fn model_two_rounds_reuse_the_roll() {
    check(|| {
        let shop = Shop::open();
        let sleepers = [(); 2].map(|()| {
            spawn(&shop, |shop| {
                assert!(shop.get(Deadline::Never));
                assert!(shop.get(Deadline::Never));
            })
        });
        for _ in 0..4 {
            shop.put();
            shop.cell.notify_one();
        }
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert_eq!(shop.cell.sleepers(), 0);
    });
}

/// A sleeper killed while registered, and a notifier killed between its call and the wake-up.
#[test]
fn model_heal_mends_what_the_dead_left() {
    check(|| {
        let shop = Shop::open();
        shop.cell.roll.fetch_add(1, Ordering::SeqCst);
        let sleepers = [(); 2].map(|()| spawn(&shop, |shop| assert!(shop.get(Deadline::Never))));
        let dying = spawn(&shop, |shop| {
            shop.put();
            // As `call_one`, up to the compare-and-swap.
            let roll = shop.cell.roll.load(Ordering::SeqCst);
            let one_called = 1 << 20;
            let _ = shop.cell.roll.compare_exchange(roll, roll + one_called, Ordering::SeqCst, Ordering::SeqCst);
        });
        dying.join().unwrap();
        shop.cell.heal();
        shop.put();
        shop.cell.notify_one();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
fn model_poke_reaches_all() {
    check(|| {
        let shop = Shop::open();
        let sleepers = [(); 2].map(|()| {
            spawn(&shop, |shop| {
                let closed = || (shop.tokens.load(Ordering::SeqCst) == 9).then_some(());
                wait_until(&shop.cell, &mut Patience::new(), Deadline::Never, closed).unwrap();
            })
        });
        shop.tokens.store(9, Ordering::SeqCst);
        shop.cell.notify_all();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn model_sees_a_look_before_the_registration() {
    check(|| {
        let shop = Shop::open();
        let sleeper = spawn(&shop, |shop| {
            if shop.try_get().is_none() {
                let _roll = shop.cell.register();
                let epoch = shop.cell.epoch.load(Ordering::SeqCst);
                futex::wait(&shop.cell.epoch, epoch, None);
            }
        });
        shop.put();
        shop.cell.notify_one();
        sleeper.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn model_sees_a_count_read_before_the_publication() {
    check(|| {
        let shop = Shop::open();
        let sleeper = spawn(&shop, |shop| assert!(shop.get(Deadline::Never)));
        let somebody = shop.cell.sleepers() > 0;
        shop.put();
        if somebody {
            shop.cell.notify_one();
        }
        sleeper.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn model_sees_an_epoch_read_after_the_look() {
    check(|| {
        let shop = Shop::open();
        let sleeper = spawn(&shop, |shop| {
            while shop.try_get().is_none() {
                let _roll = shop.cell.register();
                if shop.try_get().is_some() {
                    return;
                }
                let epoch = shop.cell.epoch.load(Ordering::SeqCst);
                futex::wait(&shop.cell.epoch, epoch, None);
            }
        });
        shop.put();
        shop.cell.notify_one();
        sleeper.join().unwrap();
    });
}
