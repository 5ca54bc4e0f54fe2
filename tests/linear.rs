//! Queues under fire: what threads and processes saw is checked to be what a queue could have shown them.

#[path = "linear/brute.rs"]
mod brute;
#[path = "linear/checker.rs"]
mod checker;
#[path = "linear/faults.rs"]
mod faults;
#[path = "linear/recorder.rs"]
mod recorder;

use std::thread;

use checker::{Call, Did, Promise, check};
use dragon::sync::Value;
use dragon::{Pool, Queue};
use recorder::{Line, Part, from_line, play, random, to_line};

/// Values that each of those who put puts.
const PUTS: u64 = if cfg!(debug_assertions) { 5_000 } else { 50_000 };

/// How many put.
const PUTTERS: u64 = 3;

fn queues() -> Vec<(String, Queue<u64>)> {
    let bounded = [1, 2, 3, 10, 64, 1000].map(|bound| (format!("bound {bound}"), Queue::bounded(bound).unwrap()));
    let joinable = Queue::builder().capacity(7).joinable().build().unwrap();
    let others = [("unbounded".into(), Queue::unbounded().unwrap()), ("joinable".into(), joinable)];
    bounded.into_iter().chain(others).collect()
}

/// Who takes part: two that only put, two that only get, one that does both.
fn parts(seed: u64, many: bool) -> Vec<Part> {
    let part = |me: u64, puts: bool, gets: bool| {
        let puts = if puts { PUTS } else { 0 };
        Part { me, puts, gets, many, seed: random(&mut (seed + me)) }
    };
    vec![part(1, true, false), part(2, true, false), part(3, false, true), part(4, false, true), part(5, true, true)]
}

/// Checks a whole history, and that it was worth it.
fn judge(what: &str, queue: &Queue<u64>, history: &[Call], parts: &[Part]) {
    assert!(queue.is_empty(), "{what}: everything was taken out");
    let promise = Promise { bound: queue.capacity(), drained: true, held_up: true };
    check(history, promise).unwrap_or_else(|fault| panic!("{what}: {fault:?}"));
    let count = |is: fn(&Did) -> bool| history.iter().filter(|call| is(&call.did)).count();
    let puts = count(|did| matches!(did, Did::Put(_)));
    assert_eq!(puts as u64, parts.iter().map(|part| part.puts).sum::<u64>());
    let strict = check(history, Promise { held_up: false, ..promise });
    let (empty, full) = (count(|did| *did == Did::FoundEmpty), count(|did| *did == Did::FoundFull));
    println!("{what}: {puts} values, found empty {empty} times, full {full} times; held up by none: {strict:?}");
}

#[test]
fn what_threads_see_is_linearizable() {
    let _dragon = dragon::init().unwrap();
    for (seed, (what, queue)) in queues().into_iter().enumerate() {
        let (parts, done) = (parts(seed as u64, seed % 2 == 1), Value::new(0).unwrap());
        let history: Vec<Call> = thread::scope(|scope| {
            let run = |part: &Part| {
                let (queue, done, part) = (&queue, &done, *part);
                scope.spawn(move || play(queue, part, done, PUTTERS))
            };
            let running: Vec<_> = parts.iter().map(run).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        judge(&format!("threads, {what}"), &queue, &history, &parts);
    }
}

/// A part in a process of its own.
fn in_a_process((queue, part, done): (Queue<u64>, Part, Value<u64>)) -> Vec<Line> {
    play(&queue, part, &done, PUTTERS).into_iter().map(to_line).collect()
}

#[test]
fn what_processes_see_is_linearizable() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(5).unwrap();
    for (seed, (what, queue)) in queues().into_iter().enumerate() {
        let (parts, done) = (parts(100 + seed as u64, seed % 2 == 0), Value::new(0).unwrap());
        let tasks = parts.iter().map(|part| pool.submit(in_a_process, (queue.clone(), *part, done.clone())).unwrap());
        let tasks: Vec<_> = tasks.collect();
        let history: Vec<Call> = tasks.into_iter().flat_map(|task| task.get().unwrap()).map(from_line).collect();
        judge(&format!("processes, {what}"), &queue, &history, &parts);
    }
}
