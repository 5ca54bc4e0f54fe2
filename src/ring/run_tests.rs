//! Runs of messages beside single ones: order, void slots, deaths, wrapping, and real threads.

use std::thread;

use super::support::{boxed, receive, send};
use super::{Boxed, Halt, Ring};
use crate::id::ProcId;

const ME: ProcId = ProcId(7);
const OTHER: ProcId = ProcId(8);
const LAST: u64 = (1 << 48) - 1;

/// Writes as many of these numbers as there is room for. How many.
fn send_run(ring: &Ring<Boxed>, values: std::ops::Range<u64>) -> u64 {
    let mut run = ring.write_run(ME);
    let put = |value: u64| {
        let fill = |body: std::ptr::NonNull<u8>, _| {
            // SAFETY: a claimed slot of at least eight aligned bytes is the writer's alone.
            unsafe { body.cast::<u64>().write(value) };
        };
        run.push(|| false, fill).is_ok()
    };
    values.map(put).take_while(|put| *put).count() as u64
}

/// Reads at most so many.
fn receive_run(ring: &Ring<Boxed>, most: usize) -> Vec<u64> {
    let mut run = ring.read_run(ME);
    // SAFETY: the body of a claimed message, written by `fill` or a run.
    let pull = |_| run.pull(|found| unsafe { found.body().cast::<u64>().read() }).ok();
    (0..most).map_while(pull).collect()
}

#[test]
fn runs_and_single_messages_have_one_order_also_where_positions_wrap() {
    for start in [0, LAST - 5] {
        let ring = boxed(8, start);
        for round in 0..10 {
            assert!(send(&ring, ME, round));
            assert_eq!(send_run(&ring, 100..104), 4);
            assert!(send(&ring, ME, 200));
            assert_eq!(send_run(&ring, 300..305), 2, "there is room for two");
            assert_eq!((ring.len(), ring.writable()), (8, false));
            assert_eq!(receive(&ring, ME), Some(round));
            assert_eq!(receive_run(&ring, 3), [100, 101, 102]);
            assert_eq!(receive(&ring, ME), Some(103));
            assert_eq!(receive_run(&ring, 9), [200, 300, 301]);
            assert_eq!((ring.len(), ring.readable()), (0, false));
        }
    }
}

#[test]
fn a_run_that_is_stopped_or_panics_leaves_a_void_slot_and_no_more() {
    let ring = boxed(8, 0);
    let mut run = ring.write_run(ME);
    assert_eq!(run.push(|| true, |_, _| ()), Err(Halt::Stopped));
    drop(run);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ring.write_run(ME).push(|| false, |_, _| panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    assert_eq!(send_run(&ring, 1..3), 2);
    assert_eq!(receive_run(&ring, 5), [1, 2]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        assert!(send(&ring, ME, 9));
        ring.read_run(ME).pull(|_| panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    assert_eq!((ring.len(), ring.readable()), (0, false), "what is read by a panic is gone, and its slot free");
}

#[test]
fn a_message_given_back_during_a_run_is_found_by_the_next_call() {
    let ring = boxed(8, 0);
    assert_eq!(send_run(&ring, 0..5), 5);
    // A reader dies with 0 in its hands; a run goes on behind it, and ends after the repair.
    std::mem::forget(ring.take(OTHER).unwrap());
    let mut run = ring.read_run(ME);
    // SAFETY: the body of a claimed message, written by a run.
    let mut pull = || run.pull(|found| unsafe { found.body().cast::<u64>().read() });
    assert_eq!(pull(), Ok(1));
    assert_eq!(ring.unstick(OTHER).readied, [0]);
    assert_eq!(pull(), Ok(2));
    drop(run);
    assert_eq!(receive(&ring, ME), Some(0), "the head that the repair moved back stays there");
    assert_eq!(receive_run(&ring, 9), [3, 4]);
}

#[test]
fn threads_with_runs_and_without_lose_and_double_nothing() {
    const EACH: u64 = if cfg!(miri) { 50 } else { 20_000 };
    let ring = boxed(16, LAST - 100);
    let mut got: Vec<u64> = thread::scope(|scope| {
        for writer in 0..2 {
            let ring = &ring;
            scope.spawn(move || {
                let (mut next, end) = (writer * EACH, (writer + 1) * EACH);
                while next < end {
                    next += send_run(ring, next..end.min(next + 5));
                    if next < end && send(ring, ME, next) {
                        next += 1;
                    }
                    thread::yield_now();
                }
            });
        }
        let readers = [0, 1].map(|_| {
            scope.spawn(|| {
                let mut mine = Vec::new();
                while (mine.len() as u64) < EACH {
                    mine.extend(receive_run(&ring, 4.min(EACH as usize - mine.len())));
                    if (mine.len() as u64) < EACH {
                        mine.extend(receive(&ring, ME));
                    }
                    thread::yield_now();
                }
                for writer in 0..2 {
                    let of = mine.iter().filter(|value| **value / EACH == writer);
                    assert!(of.is_sorted(), "each writer's in order");
                }
                mine
            })
        });
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    got.sort_unstable();
    assert!(got.into_iter().eq(0..2 * EACH));
}
