//! The ring against a `VecDeque`, with deaths, and with real threads (the bodies that run under ThreadSanitizer).

use std::{
    collections::VecDeque,
    mem,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use proptest::{collection::vec, prelude::*};

use super::layout::{Geometry, LINE, Word, distance, position_before};
use super::support::{boxed, fill, receive, send, value};
use super::unstick::Unstuck;
use super::{Mapped, Outlook, Ring, Store};
use crate::id::ProcId;

const ME: ProcId = ProcId(7);
const OTHER: ProcId = ProcId(8);
const LAST: u64 = (1 << 48) - 1;

#[repr(align(64))]
#[derive(Clone)]
struct Line(#[allow(dead_code)] [u8; LINE]);

/// Mapped words without a mapping. The lines must outlive the ring.
fn mapped(lines: &mut Vec<Line>, geometry: Geometry, start: u64) -> Ring<Mapped> {
    *lines = vec![Line([0xA5; LINE]); geometry.bytes().div_ceil(LINE)];
    // SAFETY: aligned, long enough, and the test keeps `lines` alive and untouched.
    let store = unsafe { Mapped::new(std::ptr::NonNull::new(lines.as_mut_ptr()).unwrap().cast(), geometry) };
    Ring::<Mapped>::initialise(&store, start);
    Ring::new(store)
}

#[test]
fn positions_wrap() {
    assert_eq!(Word::new(LAST + 1, 3), Word::new(0, 3));
    assert_eq!(position_before(1, 4), LAST - 2);
    assert_eq!(distance(LAST, 1), 2);
    assert_eq!(distance(1, LAST), -2);
    assert_eq!(distance(5, 5), 0);
}

#[test]
fn geometry_is_whole_lines() {
    assert_eq!(Geometry::new(0, 8), None);
    assert_eq!(Geometry::new(1, Geometry::BODY_MAX + 1), None);
    assert_eq!(Geometry::new(usize::MAX, 1), None);
    let small = Geometry::new(3, 1).unwrap();
    assert_eq!((small.capacity(), small.body()), (4, 56));
    assert_eq!(Geometry::new(1, 57).unwrap().body(), 120);
    assert!(Geometry::new(1, Geometry::BODY_MAX).unwrap().body() >= Geometry::BODY_MAX);
    assert!(small.bytes().is_multiple_of(LINE));
}

#[test]
fn one_slot_holds_one_message() {
    let ring = boxed(1, LAST);
    for round in 0..5 {
        assert!(receive(&ring, ME).is_none());
        assert!(send(&ring, ME, round));
        assert!(!send(&ring, ME, 99) && !ring.writable());
        assert_eq!(ring.len(), 1);
        assert_eq!(receive(&ring, ME), Some(round));
        assert_eq!(ring.len(), 0);
    }
}

#[test]
fn a_dropped_claim_is_void() {
    let ring = boxed(2, 0);
    drop(ring.claim(ME).unwrap());
    assert!(send(&ring, ME, 5));
    assert!(!send(&ring, ME, 6), "a void slot is a slot until it was skipped");
    assert_eq!(receive(&ring, ME), Some(5));
    assert_eq!(receive(&ring, ME), None);
}

#[test]
fn an_unpublished_claim_is_in_progress() {
    let ring = boxed(4, 0);
    assert_eq!(ring.outlook(), Outlook::Empty);
    let stalled = ring.claim(OTHER).unwrap();
    assert!(send(&ring, ME, 2));
    assert!(ring.take(ME).is_none());
    assert_eq!(ring.outlook(), Outlook::InProgress, "messages have an order");
    stalled.publish();
    assert_eq!((ring.outlook(), ring.readable()), (Outlook::Ready, true));
    assert!(receive(&ring, ME).is_some());
    assert_eq!(receive(&ring, ME), Some(2));
}

#[test]
fn a_dead_writer_is_skipped_and_a_dead_readers_message_comes_again() {
    let ring = boxed(4, LAST - 1);
    mem::forget(ring.claim(OTHER).unwrap());
    assert!(send(&ring, ME, 1) && send(&ring, ME, 2));
    assert_eq!(ring.unstick(OTHER), Unstuck { readied: vec![], voided: vec![LAST - 1] });
    assert_eq!(ring.unstick(OTHER), Unstuck::default());
    assert_eq!(receive(&ring, ME), Some(1));
    mem::forget(ring.take(OTHER).unwrap());
    assert!(send(&ring, ME, 3));
    assert_eq!(receive(&ring, ME), Some(3), "who is not first in line does not wait for the reader before");
    assert_eq!(ring.unstick(OTHER), Unstuck { readied: vec![0], voided: vec![] });
    assert_eq!(receive(&ring, ME), Some(2));
    assert_eq!(receive(&ring, ME), None);
}

#[test]
fn a_void_slot_whose_reader_died_is_skipped() {
    let ring = boxed(2, 0);
    drop(ring.claim(ME).unwrap());
    mem::forget(ring.take(OTHER).unwrap());
    assert_eq!(ring.unstick(OTHER), Unstuck::default());
    assert!(send(&ring, ME, 4));
    assert_eq!(receive(&ring, ME), Some(4));
}

#[test]
fn pending_are_the_ready_and_those_being_read() {
    let ring = boxed(4, 0);
    for n in 0..3 {
        assert!(send(&ring, ME, n));
    }
    assert_eq!(receive(&ring, ME), Some(0));
    let reading = ring.take(OTHER).unwrap();
    drop(ring.claim(ME).unwrap());
    let read = |body: std::ptr::NonNull<u8>| {
        // SAFETY: published by `send`, nobody writes now.
        unsafe { body.cast::<u64>().read() }
    };
    assert_eq!(ring.pending(read), [1, 2]);
    drop(reading);
    assert_eq!(ring.pending(read), [2]);
}

#[test]
fn a_half_done_recovery_is_finished_by_the_next() {
    let ring = boxed(4, 0);
    assert!(send(&ring, ME, 1) && send(&ring, ME, 2));
    mem::forget(ring.take(OTHER).unwrap());
    assert_eq!(receive(&ring, ME), Some(2));
    assert_eq!(ring.put_back(0, OTHER), Some(0));
    // Here the recovering process died: the message is ready, but `head` is past it.
    assert!(!ring.readable());
    assert_eq!(ring.unstick(OTHER), Unstuck::default());
    assert_eq!(receive(&ring, ME), Some(1));
}

#[derive(Clone, Debug)]
enum Step {
    Send,
    Receive,
    DieWriting,
    DieReading,
    PanicWriting,
    SendOther,
    Unstick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Send),
        6 => Just(Step::Receive),
        1 => Just(Step::DieWriting),
        1 => Just(Step::DieReading),
        1 => Just(Step::PanicWriting),
        3 => Just(Step::SendOther),
        2 => Just(Step::Unstick),
    ];
    vec(step, 0..200)
}

/// What one position holds in the model. `Writing` holds up all behind it, as in the ring.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Value(u64),
    Void,
    Writing,
    Reading(u64),
    Done,
}

struct Model {
    capacity: usize,
    line: VecDeque<Held>,
}

impl Model {
    fn push(&mut self, held: Held) -> bool {
        let room = self.line.len() < self.capacity;
        if room {
            self.line.push_back(held);
        }
        room
    }

    /// The next value, whose place becomes `then`; voids on the way are done.
    fn pop(&mut self, then: fn(u64) -> Held) -> Option<u64> {
        let mut found = None;
        for held in &mut self.line {
            match *held {
                Held::Value(value) => {
                    *held = then(value);
                    found = Some(value);
                    break;
                }
                Held::Void => *held = Held::Done,
                Held::Writing => break,
                Held::Reading(_) | Held::Done => {}
            }
        }
        self.trim();
        found
    }

    fn trim(&mut self) {
        while self.line.front() == Some(&Held::Done) {
            self.line.pop_front();
        }
    }

    fn unstick(&mut self) {
        for held in &mut self.line {
            match *held {
                Held::Writing => *held = Held::Void,
                Held::Reading(value) => *held = Held::Value(value),
                _ => {}
            }
        }
    }
}

fn die_reading<S: Store>(ring: &Ring<S>) -> Option<u64> {
    loop {
        let reading = ring.take(OTHER)?;
        if !reading.is_void() {
            let got = value(&reading);
            mem::forget(reading);
            return Some(got);
        }
    }
}

/// `other` is another process's view of the same words: each remembers for itself what it saw free.
fn agrees_with_the_model<S: Store>(ring: &Ring<S>, other: &Ring<S>, steps: &[Step]) {
    let mut model = Model { capacity: ring.capacity() as usize, line: VecDeque::new() };
    for (n, step) in steps.iter().enumerate() {
        let n = n as u64;
        match step {
            Step::Send => assert_eq!(send(ring, ME, n), model.push(Held::Value(n))),
            Step::SendOther => assert_eq!(send(other, ME, n), model.push(Held::Value(n))),
            Step::Receive => assert_eq!(receive(ring, ME), model.pop(|_| Held::Done)),
            Step::DieWriting => {
                let claim = other.claim(OTHER).map(|mut writing| {
                    fill(&mut writing, n);
                    mem::forget(writing);
                });
                assert_eq!(claim.is_some(), model.push(Held::Writing));
            }
            Step::DieReading => assert_eq!(die_reading(other), model.pop(Held::Reading)),
            Step::PanicWriting => {
                assert_eq!(ring.claim(ME).map(drop).is_some(), model.push(Held::Void))
            }
            Step::Unstick => {
                ring.unstick(OTHER);
                model.unstick();
            }
        }
        assert!(ring.len() <= ring.capacity());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_is_a_queue_with_deaths(steps in steps(), bits in 0u32..4, start in prop_oneof![Just(0), (LAST - 100)..=LAST]) {
        let ring = boxed(1 << bits, start);
        agrees_with_the_model(&ring, &ring, &steps);
        let mut lines = Vec::new();
        let ring = mapped(&mut lines, Geometry::new(1 << bits, 100).unwrap(), start);
        let other = Ring::new(ring.store.clone());
        agrees_with_the_model(&ring, &other, &steps);
    }
}

/// Producers count upwards; consumers check that each producer's numbers only grow, and that the sums agree.
fn threads_exchange<S: Store + Sync>(ring: &Ring<S>, producers: u64, consumers: u64, each: u64) {
    let left = AtomicU64::new(producers * each);
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut running = Vec::new();
        for producer in 0..producers {
            running.push(scope.spawn(move || {
                let me = ProcId(producer as u16 + 1);
                for n in 0..each {
                    while !send(ring, me, producer << 32 | n) {
                        thread::yield_now();
                    }
                }
            }));
        }
        for consumer in 0..consumers {
            let (left, sum) = (&left, &sum);
            running.push(scope.spawn(move || {
                let mut last = vec![None; producers as usize];
                while left.load(Ordering::Relaxed) > 0 {
                    let Some(got) = receive(ring, ProcId(consumer as u16 + 101)) else {
                        thread::yield_now();
                        continue;
                    };
                    let (producer, n) = ((got >> 32) as usize, got & 0xFFFF_FFFF);
                    assert!(last[producer] < Some(n), "producer {producer} out of order");
                    last[producer] = Some(n);
                    sum.fetch_add(n, Ordering::Relaxed);
                    left.fetch_sub(1, Ordering::Relaxed);
                }
            }));
        }
        // By hand: the end of a scope is an order that the thread sanitizer does not see.
        running.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(left.into_inner(), 0);
    assert_eq!(sum.into_inner(), producers * each * (each - 1) / 2);
}

const EACH: u64 = if cfg!(miri) { 50 } else { 20_000 };

#[test]
fn threads_lose_nothing_on_boxed_words() {
    for capacity in [1, 2, 8] {
        threads_exchange(&boxed(capacity, LAST - 5), 2, 2, EACH);
    }
}

#[test]
fn threads_lose_nothing_on_mapped_words() {
    let mut lines = Vec::new();
    let ring = mapped(&mut lines, Geometry::new(64, 48).unwrap(), LAST - 5);
    threads_exchange(&ring, 1, 1, EACH);
    threads_exchange(&ring, 3, 3, EACH);
}
