//! What the hot path costs. Run by hand, in a release build: `cargo test --release --lib speed -- --ignored --nocapture`.

use std::hint::black_box;

use super::*;
use crate::time;

/// Prints nanoseconds of one of `per` things that `work` does, the best of some rounds of many.
fn measure(what: &str, per: u64, mut work: impl FnMut()) {
    let rounds = (2_000_000 / per).max(10);
    let best = (0..7).map(|_| {
        let start = time::now();
        (0..rounds).for_each(|_| work());
        start.elapsed().as_nanos() as f64 / (rounds * per) as f64
    });
    eprintln!("{what:44} {:10.2} ns", best.fold(f64::INFINITY, f64::min));
}

/// Prints microseconds of what takes long; what it leaves is dropped off the clock.
fn measure_long<X>(what: &str, mut work: impl FnMut() -> X) {
    let all = (0..100).map(|_| {
        let start = time::now();
        let left = work();
        let took = start.elapsed().as_micros();
        drop(left);
        took
    });
    let mut all: Vec<_> = all.collect();
    all.sort();
    eprintln!("{what:44} {:7} µs, at best {} µs", all[all.len() / 2], all[0]);
}

#[test]
#[ignore = "measures"]
fn speed() {
    let numbers: Vec<u64> = (0..100_000).collect();
    let mut bytes = Vec::with_capacity(1 << 20);
    measure("encode_many 100,000 u64, each", 100_000, || {
        bytes.clear();
        wire::encode_many(black_box(&numbers), &mut bytes).unwrap();
    });
    measure("decode_many 100,000 u64, each", 100_000, || {
        black_box(wire::decode_many::<u64>(black_box(&bytes)).unwrap());
    });
    let chunk = &numbers[..1000];
    bytes.clear();
    wire::encode_many(chunk, &mut bytes).unwrap();
    let mut out = Vec::with_capacity(1 << 20);
    let add = thunk::many(|x: u64| x.wrapping_add(1));
    measure("thunk many: 1,000 u64, each", 1000, || {
        out.clear();
        add.call(&mut Scope::new(black_box(&bytes), &mut out)).unwrap();
    });
    measure("encode one u64", 1, || {
        bytes.clear();
        wire::encode(&black_box(7u64), &mut bytes).unwrap();
    });
    measure("decode one u64", 1, || {
        black_box(wire::decode::<u64>(black_box(&bytes)).unwrap());
    });
    let one = thunk::one(|x: u64| x.wrapping_add(1));
    measure("thunk one: u64", 1, || {
        out.clear();
        one.call(&mut Scope::new(black_box(&bytes), &mut out)).unwrap();
    });
    measure("reference, known", 1, || {
        black_box(reference(black_box(one)).unwrap());
    });
    let name = reference(one).unwrap();
    measure("resolve, known", 1, || {
        black_box(resolve(black_box(&name)).unwrap());
    });
    measure("reference, new", 1000, || {
        (0..1000).for_each(|_| drop(black_box(super::super::reference::name(black_box(one)))));
    });
    measure("resolve, new", 1000, || {
        (0..1000).for_each(|_| drop(black_box(super::super::reference::find(black_box(&name)))));
    });
    let megabyte = vec![1u8; 1 << 20];
    measure("encode 1 MiB of bytes, per KiB", 1024, || {
        bytes.clear();
        wire::encode(black_box(&megabyte), &mut bytes).unwrap();
    });
    measure("decode 1 MiB of bytes, per KiB", 1024, || {
        black_box(wire::decode::<Vec<u8>>(black_box(&bytes)).unwrap());
    });
    measure("copy 1 MiB, per KiB", 1024, || {
        bytes.clear();
        bytes.extend_from_slice(black_box(&megabyte));
    });
    measure_long("the same binary doing nothing, reaped", || {
        // Of somebody else: leaves as soon as it can.
        let (mut child, _control) = newborn(1);
        child.wait().unwrap();
    });
    measure_long("a worker from nothing to its first answer", || {
        let mut worker = Worker::new();
        assert_eq!(worker.call(|x: u8| x, 7).unwrap(), 7);
        worker
    });
    measure_long("a worker from nothing to its end", || assert!(Worker::new().stop().success()));
}
