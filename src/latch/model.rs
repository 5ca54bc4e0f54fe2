//! The latches under the shuttle model checker: a lost wake-up is a deadlock, which it reports.

use std::sync::Arc;
use std::time::Duration;

use shuttle::{check_pct, check_random, thread};

use super::{Arrival, Barrier, Condvar, LINE, Lock, Refusal, RwLock, Semaphore, Who};
use crate::id::ProcId;
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::WaitCell;

const SCHEDULES: usize = 2_000;
const DEPTH: usize = 4;

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(body.clone(), SCHEDULES);
    check_pct(body, SCHEDULES, DEPTH);
}

/// Words and cells that are not mapped, and what is guarded.
struct Room {
    words: [AtomicU64; LINE],
    others: [AtomicU64; LINE],
    readers: [AtomicU64; 2],
    cells: [WaitCell; 4],
    inside: AtomicU64,
}

impl Room {
    fn new() -> Arc<Room> {
        let zero = || [(); LINE].map(|()| AtomicU64::new(0));
        Arc::new(Room {
            words: zero(),
            others: zero(),
            readers: [(); 2].map(|()| AtomicU64::new(0)),
            cells: [(); 4].map(|()| WaitCell::new()),
            inside: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> Lock<'_> {
        Lock::over(&self.words, &self.cells[0])
    }

    fn rwlock(&self) -> RwLock<'_> {
        let [a, b, c, _] = &self.cells;
        RwLock::over(&self.words, [a, b, c], &self.others, &self.readers)
    }

    fn barrier(&self) -> Barrier<'_> {
        Barrier::over(&self.words, &self.cells[0])
    }

    fn condvar(&self) -> Condvar<'_> {
        Condvar::over(&self.others, &self.cells[1])
    }

    /// Finds itself alone, or not.
    fn alone(&self) {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0);
        thread::yield_now();
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

fn who(process: u16) -> Who {
    Who { process: ProcId(process), thread: 1 }
}

fn spawn<R: Send + 'static>(room: &Arc<Room>, work: impl FnOnce(&Room) -> R + Send + 'static) -> thread::JoinHandle<R> {
    let room = room.clone();
    thread::spawn(move || work(&room))
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn model_a_lock_lets_one_in_and_loses_no_wake_up() {
    check(|| {
        let room = Room::new();
        let threads = [1, 2, 3].map(|process| {
            spawn(&room, move |room| {
                // Time runs out at random for one of them.
                let deadline = if process == 3 { Deadline::after(HOUR) } else { Deadline::Never };
                for _ in 0..2 {
                    if room.lock().acquire(who(process), deadline).is_ok() {
                        room.alone();
                        room.lock().release();
                    }
                }
            })
        });
        let [_, _, _] = threads.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn model_a_lock_is_handed_on_wherever_its_holder_dies() {
    check(|| {
        let room = Room::new();
        let dead = spawn(&room, |room| {
            room.lock().acquire(who(9), Deadline::Never).unwrap();
            // Dies with the lock, or having let go and not told.
            if shuttle::rand::Rng::gen_bool(&mut shuttle::rand::thread_rng(), 0.5) {
                room.words[0].store(0, Ordering::SeqCst);
            }
        });
        let living = [1, 2].map(|process| {
            spawn(&room, move |room| {
                room.lock().acquire(who(process), Deadline::Never).unwrap();
                room.alone();
                room.lock().release();
            })
        });
        dead.join().unwrap();
        room.lock().repair(ProcId(9), true);
        let [_, _] = living.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn model_readers_and_writers_are_apart_and_wake_each_other() {
    check(|| {
        let room = Room::new();
        let writers = [1, 2].map(|process| {
            spawn(&room, move |room| {
                let deadline = if process == 2 { Deadline::after(HOUR) } else { Deadline::Never };
                if room.rwlock().write(who(process), deadline).is_ok() {
                    room.alone();
                    room.rwlock().write_end();
                }
            })
        });
        let readers = [3, 4].map(|process| {
            spawn(&room, move |room| {
                room.rwlock().read(who(process), Deadline::Never).unwrap();
                assert_eq!(room.inside.load(Ordering::SeqCst), 0);
                room.rwlock().leave(who(process));
            })
        });
        let [_, _] = writers.map(|thread| thread.join().unwrap());
        let [_, _] = readers.map(|thread| thread.join().unwrap());
        assert_eq!(room.rwlock().count(), 0);
    });
}

#[test]
fn model_every_permit_finds_its_taker() {
    check(|| {
        let room = Room::new();
        let semaphore = |room: &Room| Semaphore::over(&room.words, &room.cells[0]).acquire(Deadline::Never);
        Semaphore::over(&room.words, &room.cells[0]).begin(1, 9);
        let takers = [(); 3].map(|()| spawn(&room, move |room| semaphore(room).unwrap()));
        Semaphore::over(&room.words, &room.cells[0]).release(2).unwrap();
        let [_, _, _] = takers.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn model_a_barrier_meets_twice_and_one_acts_each_time() {
    check(|| {
        let room = Room::new();
        room.barrier().begin(3);
        let parties = [(); 3].map(|()| {
            spawn(&room, |room| {
                let mut numbers = 0;
                for round in 1..=2 {
                    let number = match room.barrier().arrive(true, Deadline::Never).unwrap() {
                        Arrival::Acts(generation) => {
                            room.inside.fetch_add(1, Ordering::SeqCst);
                            room.barrier().acted(generation).unwrap()
                        }
                        met => met,
                    };
                    // The action came before anybody went on.
                    assert!(room.inside.load(Ordering::SeqCst) >= round);
                    let Arrival::Met(number) = number else { panic!("all have met") };
                    numbers += number;
                }
                numbers
            })
        });
        let numbers: u64 = parties.map(|party| party.join().unwrap()).iter().sum();
        assert_eq!((numbers, room.inside.load(Ordering::SeqCst)), (6, 2));
    });
}

#[test]
fn model_all_of_a_broken_meeting_learn_it() {
    check(|| {
        let room = Room::new();
        room.barrier().begin(3);
        let hasty = spawn(&room, |room| room.barrier().arrive(false, Deadline::after(HOUR)));
        let patient = [(); 2].map(|()| spawn(&room, |room| room.barrier().arrive(false, Deadline::Never)));
        let hasty = hasty.join().unwrap();
        let patient = patient.map(|party| party.join().unwrap());
        match hasty {
            Ok(_) => assert!(patient.iter().all(Result::is_ok)),
            Err(refusal) => {
                assert_eq!((refusal, patient), (Refusal::TimedOut, [Err(Refusal::Broken); 2]));
                assert!(room.barrier().is_broken());
            }
        }
    });
}

#[test]
fn model_who_is_told_of_a_change_does_not_sleep_through_it() {
    check(|| {
        let room = Room::new();
        let waits = spawn(&room, |room| {
            room.lock().acquire(who(1), Deadline::Never).unwrap();
            while room.inside.load(Ordering::SeqCst) == 0 {
                room.condvar().wait(room.lock(), who(1), Deadline::Never).unwrap();
            }
            room.lock().release();
        });
        room.lock().acquire(who(2), Deadline::Never).unwrap();
        room.inside.store(1, Ordering::SeqCst);
        room.condvar().notify_one();
        room.lock().release();
        waits.join().unwrap();
    });
}
