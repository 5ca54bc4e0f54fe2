//! Every call on a small channel, under every schedule that the model checker tries, is one that a plain queue could
//! have answered so.

#[path = "../../tests/linear/checker.rs"]
mod checker;

use std::sync::atomic::{AtomicU64 as Clock, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use shuttle::{check_pct, check_random, thread};

use super::model::{Words, fill, value};
use super::pipe::{Outgoing, Refusal};
use crate::id::ProcId;
use crate::ring::{Boxed, Found};
use crate::time::Deadline;
use crate::wait::Patience;
use checker::{Call, Did, Fault, Promise};

const SCHEDULES: usize = 2_000;
const DEPTH: usize = 4;

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(body.clone(), SCHEDULES);
    check_pct(body, SCHEDULES, DEPTH);
}

/// What all threads of one schedule write down. Shuttle runs one thread at a time, so a plain count is a clock.
#[derive(Default)]
struct Book {
    clock: Clock,
    calls: Mutex<Vec<Call>>,
}

impl Book {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    fn call(&self, call: impl FnOnce() -> Did) -> Did {
        let begin = self.now();
        let did = call();
        self.write(begin, vec![did]);
        did
    }

    /// A call that ends now, of which each part may have been done at any moment of it.
    fn write(&self, begin: u64, did: Vec<Did>) {
        let end = self.now();
        self.calls.lock().unwrap().extend(did.into_iter().map(|did| Call { begin, end, did }));
    }
}

fn put(words: &Words, number: u64, deadline: Deadline) -> Did {
    match words.pipe(ProcId(1)).claim(&mut Patience::new(), deadline) {
        Ok(outgoing) => {
            fill(outgoing, number).send();
            Did::Put(number)
        }
        Err(Refusal::Late) => Did::FoundFull,
        Err(other) => panic!("{other:?}"),
    }
}

/// One look and no more, where a channel would look a little longer.
fn glance(words: &Words) -> Did {
    match words.pipe(ProcId(2)).try_take() {
        Some(Ok(incoming)) => Did::Got(value(&incoming)),
        None => Did::FoundEmpty,
        Some(Err(other)) => panic!("{other:?}"),
    }
}

fn get(words: &Words, deadline: Deadline) -> Did {
    match words.pipe(ProcId(2)).take(&mut Patience::new(), deadline, || false) {
        Ok(incoming) => Did::Got(value(&incoming)),
        Err(Refusal::Late) => Did::FoundEmpty,
        Err(other) => panic!("{other:?}"),
    }
}

/// Puts two values, waiting for room. If `late`, it is broken: it publishes each only with the next one.
fn put_two(words: &Words, book: &Book, late: bool) {
    let send = |kept: &mut Option<Outgoing<'_, Boxed>>| kept.take().map_or(0, Outgoing::send);
    let mut kept = None;
    for number in 0..2 {
        book.call(|| {
            send(&mut kept);
            let outgoing = words.pipe(ProcId(1)).claim(&mut Patience::new(), Deadline::Never).unwrap();
            kept = Some(fill(outgoing, number));
            if !late {
                send(&mut kept);
            }
            Did::Put(number)
        });
    }
    send(&mut kept);
}

/// Puts three values as a run, waiting where there is no room.
fn put_run(words: &Words, book: &Book, _: bool) {
    let mut next = 10;
    while next < 13 {
        let begin = book.now();
        let mut put = Vec::new();
        let fill = |body: std::ptr::NonNull<u8>, _| {
            // SAFETY: a claimed slot of at least eight aligned bytes is the writer's alone.
            unsafe { body.cast::<u64>().write(next + put.len() as u64) };
            put.push(Did::Put(next + put.len() as u64));
        };
        let sent = words.pipe(ProcId(3)).send_run(13 - next as usize, fill).unwrap();
        assert_eq!(sent, put.len());
        book.write(begin, put);
        next += sent as u64;
        if next < 13 {
            book.call(|| self::put(words, next, Deadline::Never));
            next += 1;
        }
    }
}

/// Gets what is there as a run, twice.
fn get_runs(words: &Words, book: &Book, _: bool) {
    for _ in 0..2 {
        let begin = book.now();
        let mut got = Vec::new();
        let take = |found: &Found<'_, Boxed>, _: &mut Option<()>| {
            // SAFETY: the body of a claimed message, written by `fill`.
            got.push(Did::Got(unsafe { found.body().cast::<u64>().read() }));
            true
        };
        assert_eq!(words.pipe(ProcId(4)).receive_run(3, take), got.len());
        book.write(begin, got);
    }
}

/// Runs against runs, and against one who puts and one who gets one by one.
fn play_runs(capacity: usize) -> Result<(), Fault> {
    let (words, book) = (Words::new(capacity), Arc::new(Book::default()));
    let run = |work: fn(&Words, &Book, bool)| {
        let (words, book) = (words.clone(), book.clone());
        thread::spawn(move || work(&words, &book, false))
    };
    let drain = run(|words, book, _| while book.call(|| get(words, Deadline::Never)) != Did::Got(LAST) {});
    let threads = [run(put_two), run(put_run), run(get_runs)];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    book.call(|| put(&words, LAST, Deadline::Never));
    drain.join().unwrap();
    let history = book.calls.lock().unwrap();
    checker::check(&history, Promise { bound: Some(capacity), drained: true, held_up: true })
}

#[test]
fn model_runs_are_as_good_as_single_calls() {
    for capacity in [1, 2, 4] {
        check(move || play_runs(capacity).unwrap());
    }
}

/// What comes last.
const LAST: u64 = 9;

/// Two put two values each, one of them without waiting; one gets without waiting; one gets all that comes.
fn play(capacity: usize) -> Result<(), Fault> {
    let (words, book) = (Words::new(capacity), Arc::new(Book::default()));
    let run = |work: fn(&Words, &Book, bool)| {
        let (words, book) = (words.clone(), book.clone());
        thread::spawn(move || work(&words, &book, false))
    };
    let drain = run(|words, book, _| while book.call(|| get(words, Deadline::Never)) != Did::Got(LAST) {});
    let threads = [
        run(put_two),
        run(|words, book, _| {
            book.call(|| put(words, 2, Deadline::Now));
            book.call(|| put(words, 3, Deadline::Now));
        }),
        run(|words, book, _| {
            book.call(|| glance(words));
            book.call(|| get(words, Deadline::Now));
        }),
    ];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    book.call(|| put(&words, LAST, Deadline::Never));
    drain.join().unwrap();
    let history = book.calls.lock().unwrap();
    checker::check(&history, Promise { bound: Some(capacity), drained: true, held_up: true })
}

#[test]
fn model_every_history_of_a_small_channel_is_linearizable() {
    for capacity in [1, 2, 4] {
        check(move || play(capacity).unwrap());
    }
}

#[test]
#[should_panic(expected = "Empty")]
fn model_sees_a_sender_that_publishes_too_late() {
    check(|| {
        let (words, book) = (Words::new(4), Arc::new(Book::default()));
        let late = {
            let (words, book) = (words.clone(), book.clone());
            thread::spawn(move || put_two(&words, &book, true))
        };
        for _ in 0..4 {
            book.call(|| glance(&words));
        }
        late.join().unwrap();
        checker::check(&book.calls.lock().unwrap(), Promise { held_up: true, ..Promise::default() }).unwrap();
    });
}
