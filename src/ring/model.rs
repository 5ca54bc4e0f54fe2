//! The ring under the shuttle model checker: thousands of schedules of few threads, deaths at every step, and
//! broken variants that show that the checker would see it.
//!
//! Shuttle takes every ordering for SeqCst; the orderings are ThreadSanitizer's to check.

use std::sync::Arc;

use shuttle::{check_pct, check_random, thread};

use super::layout::Word;
use super::support::{boxed, fill, receive, send, value};
use super::{Boxed, Ring, Store};
use crate::id::ProcId;
use crate::prim::{AtomicUsize, Ordering};

const SCHEDULES: usize = 3_000;
const DEPTH: usize = 4;

const DYING: ProcId = ProcId(66);
const RECOVERER: ProcId = ProcId(67);

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(body.clone(), SCHEDULES);
    check_pct(body, SCHEDULES, DEPTH);
}

fn send_all(ring: &Ring<Boxed>, me: ProcId, values: impl Iterator<Item = u64>) {
    for value in values {
        while !send(ring, me, value) {
            thread::yield_now();
        }
    }
}

/// Receives until together with the others so many were received.
fn receive_all(ring: &Ring<Boxed>, me: ProcId, received: &AtomicUsize, all: usize) -> Vec<u64> {
    let mut got = Vec::new();
    while received.load(Ordering::SeqCst) < all {
        match receive(ring, me) {
            Some(value) => {
                got.push(value);
                received.fetch_add(1, Ordering::SeqCst);
            }
            None => thread::yield_now(),
        }
    }
    got
}

fn assert_in_order(got: &[u64]) {
    let of = |producer| got.iter().filter(move |value| *value / 10 == producer);
    assert!((0..10).all(|producer| of(producer).is_sorted()), "{got:?}");
}

fn two_and_two(capacity: usize) {
    let ring = Arc::new(boxed(capacity, (1 << 48) - 1));
    let received = Arc::new(AtomicUsize::new(0));
    let producers = [1u64, 2].map(|me| {
        let ring = ring.clone();
        thread::spawn(move || send_all(&ring, ProcId(me as u16), me * 10..me * 10 + 2))
    });
    let consumers = [3, 4].map(|me| {
        let (ring, received) = (ring.clone(), received.clone());
        thread::spawn(move || receive_all(&ring, ProcId(me), &received, 4))
    });
    let [_, _] = producers.map(|producer| producer.join().unwrap());
    let got = consumers.map(|consumer| consumer.join().unwrap());
    got.iter().for_each(|got| assert_in_order(got));
    let mut all = got.concat();
    all.sort();
    assert_eq!(all, [10, 11, 20, 21]);
}

#[test]
fn model_two_writers_and_two_readers_on_one_slot() {
    check(|| two_and_two(1));
}

#[test]
fn model_two_writers_and_two_readers_on_two_slots() {
    check(|| two_and_two(2));
}

/// Where the dying thread stops for ever.
#[derive(Clone, Copy, Debug)]
enum Death {
    Claimed,
    Written,
    Published,
    Reading,
    Done,
}

/// Sends or receives one message as far as `death` says. True: a message of value 60 is in the ring.
/// Some: a message was taken and is done.
fn die(ring: &Ring<Boxed>, death: Death) -> (bool, Option<u64>) {
    match death {
        Death::Claimed | Death::Written | Death::Published => loop {
            let Some(mut writing) = ring.claim(DYING) else {
                thread::yield_now();
                continue;
            };
            if !matches!(death, Death::Claimed) {
                fill(&mut writing, 60);
            }
            if matches!(death, Death::Published) {
                writing.seal(0);
            }
            std::mem::forget(writing);
            return (matches!(death, Death::Published), None);
        },
        Death::Reading | Death::Done => {
            let Some(mut reading) = ring.take(DYING) else {
                return (false, None);
            };
            let got = value(&reading);
            let done = matches!(death, Death::Done).then(|| reading.done());
            std::mem::forget(reading);
            (false, done.map(|()| got))
        }
    }
}

type Recover = fn(&Ring<Boxed>);

/// One writer, two readers, and a thread that dies; who notices recovers while the others go on.
fn one_dies(capacity: usize, death: Death, recover: Recover) {
    let ring = Arc::new(boxed(capacity, 0));
    let received = Arc::new(AtomicUsize::new(0));
    let writer = {
        let ring = ring.clone();
        thread::spawn(move || send_all(&ring, ProcId(1), 10..13))
    };
    let dying = {
        let ring = ring.clone();
        thread::spawn(move || die(&ring, death))
    };
    let readers = [3, 4].map(|me| {
        let (ring, received) = (ring.clone(), received.clone());
        // The dying thread's own message, or the one it took, shifts the number by one: the main thread tells.
        thread::spawn(move || receive_all(&ring, ProcId(me), &received, 3))
    });
    let (sent, taken) = dying.join().unwrap();
    received.fetch_add(usize::from(taken.is_some()), Ordering::SeqCst);
    recover(&ring);
    writer.join().unwrap();
    let got = readers.map(|reader| reader.join().unwrap());
    if !matches!(death, Death::Reading) {
        // A message that was given back comes late.
        got.iter().for_each(|got| assert_in_order(got));
    }
    let mut all = got.concat();
    all.extend(taken);
    // What the readers left because they had counted to three.
    all.extend(std::iter::from_fn(|| receive(&ring, RECOVERER)));
    all.sort();
    let expected: Vec<u64> = (10..13).chain(sent.then_some(60)).collect();
    assert_eq!(all, expected);
    assert!(ring.writable() && ring.len() == 0);
}

fn unstick(ring: &Ring<Boxed>) {
    ring.unstick(DYING);
}

/// The first who recovers dies after giving back, before it has told.
fn unstick_in_two_attempts(ring: &Ring<Boxed>) {
    for slot in 0..ring.capacity() as usize {
        ring.put_back(slot, DYING);
    }
    ring.unstick(DYING);
}

#[test]
fn model_a_writer_dies_before_it_wrote() {
    check(|| one_dies(1, Death::Claimed, unstick));
    check(|| one_dies(2, Death::Claimed, unstick));
}

#[test]
fn model_a_writer_dies_before_it_published() {
    check(|| one_dies(1, Death::Written, unstick));
    check(|| one_dies(2, Death::Written, unstick));
}

#[test]
fn model_a_writer_dies_before_it_moved_tail() {
    check(|| one_dies(1, Death::Published, unstick));
    check(|| one_dies(2, Death::Published, unstick));
}

#[test]
fn model_a_reader_dies_reading() {
    check(|| one_dies(1, Death::Reading, unstick));
    check(|| one_dies(2, Death::Reading, unstick));
}

#[test]
fn model_a_reader_dies_before_it_moved_head() {
    check(|| one_dies(1, Death::Done, unstick));
    check(|| one_dies(2, Death::Done, unstick));
}

#[test]
fn model_a_recoverer_dies_too() {
    check(|| one_dies(2, Death::Reading, unstick_in_two_attempts));
    check(|| one_dies(2, Death::Written, unstick_in_two_attempts));
}

/// Tells of what it gives back before it does, so that a reader can have looked in between.
fn unstick_telling_first(ring: &Ring<Boxed>) {
    ring.tell_returned();
    for slot in 0..ring.capacity() as usize {
        ring.put_back(slot, DYING);
    }
}

/// Fewer threads and steps, so that the one bad schedule is found soon: a reader sees the message claimed by the dying, and
/// goes past it when it was given back.
fn a_reader_moves_on_too_late(recover: Recover) {
    let ring = Arc::new(boxed(2, 0));
    send_all(&ring, ProcId(1), [10].into_iter());
    std::mem::forget(ring.take(DYING).unwrap());
    let late = {
        let ring = ring.clone();
        thread::spawn(move || receive(&ring, ProcId(3)))
    };
    recover(&ring);
    let late = late.join().unwrap();
    assert_eq!(late.or_else(|| receive(&ring, ProcId(4))), Some(10), "a message was passed over");
}

#[test]
fn model_a_late_reader_cannot_pass_over_what_was_given_back() {
    check(|| a_reader_moves_on_too_late(unstick));
}

#[test]
#[should_panic(expected = "a message was passed over")]
fn model_sees_a_return_that_is_told_too_soon() {
    check(|| a_reader_moves_on_too_late(unstick_telling_first));
}

#[test]
#[should_panic(expected = "not what was written")]
fn model_sees_a_publication_that_comes_too_early() {
    check(|| {
        let ring = Arc::new(boxed(2, 0));
        let writer = {
            let ring = ring.clone();
            thread::spawn(move || {
                let mut writing = ring.claim(ProcId(1)).unwrap();
                writing.seal(0);
                fill(&mut writing, 10);
            })
        };
        let got = receive(&ring, ProcId(2));
        writer.join().unwrap();
        assert!(got.is_none_or(|got| got == 10), "not what was written");
    });
}

#[test]
#[should_panic(expected = "claimed twice")]
fn model_sees_a_claim_by_store() {
    check(|| {
        let ring = Arc::new(boxed(1, 0));
        send_all(&ring, ProcId(1), [10].into_iter());
        let takers = [2, 3].map(|me| {
            let ring = ring.clone();
            thread::spawn(move || {
                let free = Word::new(ring.before(0), 0).raw();
                let mine = ring.store.reader(0).load(Ordering::SeqCst) == free;
                ring.store.reader(0).store(Word::new(0, me).raw(), Ordering::SeqCst);
                mine
            })
        });
        let claims = takers.map(|taker| taker.join().unwrap());
        assert!(claims != [true, true], "claimed twice");
    });
}
