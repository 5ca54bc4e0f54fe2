//! Semantic cases 35 to 47 of queues, from outside: between threads, and with the workers of a pool. Case 43, and
//! what deaths do, are in `queue_death.rs`.

#[path = "common/until.rs"]
mod until;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use dragon::codec::{Codec, CodecError, Pod, Postcard, bytemuck};
use dragon::{Channel, ErrorKind, Pool, Queue, Selector};
use proptest::prelude::*;
use until::{named, sleeps, until};

const SOON: Duration = Duration::from_millis(200);

/// The same test for a queue with a bound and for one without.
fn both(test: impl Fn(Queue<u64>)) {
    test(Queue::bounded(1 << 10).unwrap());
    test(Queue::unbounded().unwrap());
}

#[test]
fn case_35_messages_come_out_equal_and_in_order() {
    let _dragon = dragon::init().unwrap();
    both(|queue| {
        queue.put_many(0..1000).unwrap();
        assert_eq!(queue.get_many(1000).unwrap(), (0..1000).collect::<Vec<_>>());
    });
    let queue = Queue::<(String, Option<Vec<u8>>)>::bounded(4).unwrap();
    for message in [(String::new(), None), ("x".repeat(100_000), Some(vec![7; 3_000_000]))] {
        queue.put(message.clone()).unwrap();
        assert_eq!(queue.get().unwrap(), message);
    }
}

#[test]
fn case_36_the_capacity_is_exact() {
    let _dragon = dragon::init().unwrap();
    for capacity in [1, 2, 5, 8, 100] {
        let queue = Queue::<usize>::bounded(capacity).unwrap();
        for lap in 0..3 {
            (0..capacity).for_each(|x| queue.try_put(lap * 1000 + x).unwrap());
            assert!(queue.is_full() && queue.len() == capacity && queue.capacity() == Some(capacity));
            let begin = Instant::now();
            let refused = queue.put_timeout(77, SOON).unwrap_err();
            assert!(refused.kind() == ErrorKind::TimedOut && begin.elapsed() >= SOON);
            assert_eq!(refused.into_inner(), 77);
            assert_eq!(queue.get().unwrap(), lap * 1000);
            assert!(!queue.is_full());
            queue.try_put(lap * 1000 + capacity).unwrap();
            (1..=capacity).for_each(|x| assert_eq!(queue.try_get().unwrap(), lap * 1000 + x));
        }
    }
}

#[test]
fn case_37_full_empty_and_timed_out_are_told_apart_and_all_are_timeouts() {
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<u8>::bounded(2).unwrap();
    let empty = [queue.try_get().unwrap_err(), queue.get_timeout(Duration::ZERO).unwrap_err()];
    assert!(empty.iter().all(|error| error.kind() == ErrorKind::Empty && error.is_timeout()));
    let begin = Instant::now();
    let late = queue.get_timeout(SOON).unwrap_err();
    assert!(late.kind() == ErrorKind::TimedOut && late.is_timeout() && begin.elapsed() >= SOON);
    queue.put_many([1, 2]).unwrap();
    for refused in [queue.try_put(3).unwrap_err(), queue.put_timeout(3, Duration::ZERO).unwrap_err()] {
        assert!(refused.kind() == ErrorKind::Full && refused.error().is_timeout() && refused.into_inner() == 3);
    }
}

#[test]
fn case_38_the_length_counts() {
    let _dragon = dragon::init().unwrap();
    both(|queue| {
        assert!(queue.is_empty());
        for n in 1..=700 {
            queue.put(n).unwrap();
            assert!(queue.len() == n as usize && !queue.is_empty());
        }
        for n in (0..700).rev() {
            queue.get().unwrap();
            assert_eq!(queue.len(), n);
        }
        assert!(queue.is_empty());
    });
}

#[test]
fn case_39_polling_waits_and_wakes() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    both(|queue| {
        let begin = Instant::now();
        assert!(!queue.poll(SOON).unwrap() && begin.elapsed() >= SOON);
        assert!(!queue.poll(Duration::ZERO).unwrap());
        let task = pool.submit(|queue: Queue<u64>| queue.put(7).unwrap(), queue.clone()).unwrap();
        assert!(queue.poll(Duration::from_secs(20)).unwrap());
        assert_eq!(queue.get().unwrap(), 7);
        task.get().unwrap();
        queue.close();
        assert!(!queue.poll(Duration::from_secs(20)).unwrap(), "there will never be any");
    });
}

#[test]
fn case_40_join_waits_for_every_task() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(2).unwrap();
    for queue in [Queue::<u64>::builder().capacity(8), Queue::builder()] {
        let queue = queue.joinable().build().unwrap();
        queue.join().unwrap();
        queue.put(1).unwrap();
        assert!(queue.join_timeout(Duration::ZERO).unwrap_err().is_timeout());
        queue.get().unwrap();
        assert!(queue.join_timeout(SOON).unwrap_err().is_timeout());
        queue.task_done().unwrap();
        queue.join_timeout(Duration::ZERO).unwrap();

        queue.put_many(0..5).unwrap();
        let joiner = pool.submit(|queue: Queue<u64>| queue.join().unwrap(), queue.clone()).unwrap();
        let worker = |queue: Queue<u64>| {
            for _ in 0..4 {
                queue.get().unwrap();
                queue.task_done().unwrap();
            }
        };
        pool.submit(worker, queue.clone()).unwrap().get().unwrap();
        assert!(joiner.get_timeout(SOON).unwrap_err().is_timeout(), "one task is open");
        queue.get().unwrap();
        assert!(!joiner.is_done());
        queue.task_done().unwrap();
        joiner.get_timeout(Duration::from_secs(20)).unwrap();
    }
}

/// A thread that joins, and how often it had slept before.
static JOINER: Mutex<Option<(PathBuf, u64)>> = Mutex::new(None);

/// How often a thread has fallen asleep, by its folder in `/proc`.
fn falls_asleep(thread: &Path) -> u64 {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Reads a message when the joiner sleeps for good, and cannot.
struct Choking;

impl Codec<u8> for Choking {
    fn encode(value: &u8, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.push(*value);
        Ok(())
    }

    fn decode(_: &[u8]) -> Result<u8, CodecError> {
        // It sleeps a moment, looks once more, and sleeps again.
        let asleep = || JOINER.lock().unwrap().as_ref().is_some_and(|(thread, had)| falls_asleep(thread) >= had + 2);
        until("the joiner sleeps", asleep);
        panic!("it sticks in the throat");
    }
}

#[test]
fn a_message_that_nobody_could_read_does_not_hold_up_a_join() {
    let _dragon = dragon::init().unwrap();
    let gets: [fn(&Queue<u8, Choking>); 2] = [|queue| drop(queue.get()), |queue| drop(queue.get_many(4))];
    for (bounded, get) in [true, false].into_iter().flat_map(|bounded| gets.map(|get| (bounded, get))) {
        let builder = Queue::<u8, Choking>::builder_with().joinable();
        let queue = if bounded { builder.capacity(4) } else { builder }.build().unwrap();
        queue.put(1).unwrap();
        thread::scope(|scope| {
            let joining = scope.spawn(|| {
                let thread = fs::canonicalize("/proc/thread-self").unwrap();
                let slept = falls_asleep(&thread);
                *JOINER.lock().unwrap() = Some((thread, slept));
                // Longer than is waited for it: at its end it would look by itself.
                queue.join_timeout(Duration::from_secs(40))
            });
            assert!(scope.spawn(|| get(&queue)).join().is_err(), "it cannot be read");
            until("the join ends", || joining.is_finished());
            joining.join().unwrap().unwrap();
        });
        *JOINER.lock().unwrap() = None;
        assert!(queue.is_empty() && queue.task_done().is_err());
    }
}

#[test]
fn case_41_task_done_too_often_or_at_the_wrong_queue() {
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<u8>::builder().capacity(2).joinable().build().unwrap();
    queue.put(1).unwrap();
    queue.get().unwrap();
    queue.task_done().unwrap();
    let error = queue.task_done().unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("more often"), "{error}");
    let plain = Queue::<u8>::bounded(2).unwrap();
    for error in [plain.task_done().unwrap_err(), plain.join().unwrap_err()] {
        assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("not joinable"), "{error}");
    }
}

#[test]
fn what_a_dead_process_had_taken_does_not_hold_up_a_join() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    let queue = Queue::<u8>::builder().capacity(4).joinable().build().unwrap();
    queue.put_many([1, 2]).unwrap();
    let dies = |queue: Queue<u8>| -> () {
        queue.get().unwrap();
        std::process::abort()
    };
    assert!(pool.submit(dies, queue.clone()).unwrap().get().unwrap_err().is_lost());
    assert!(queue.join_timeout(SOON).unwrap_err().is_timeout(), "the other message is still there");
    queue.get().unwrap();
    queue.task_done().unwrap();
    queue.join_timeout(Duration::from_secs(20)).unwrap();
    assert!(queue.task_done().is_err());
}

#[test]
fn case_42_a_producer_waits_until_there_is_room() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    let queue = Queue::<u64>::bounded(5).unwrap();
    let task = pool.submit(|queue: Queue<u64>| queue.put_many(0..7).unwrap(), queue.clone()).unwrap();
    assert!(task.get_timeout(SOON).unwrap_err().is_timeout());
    queue.get().unwrap();
    assert!(task.get_timeout(SOON).unwrap_err().is_timeout());
    queue.get().unwrap();
    assert_eq!(task.get_timeout(Duration::from_secs(20)).unwrap(), 7);
}

#[test]
fn case_44_many_writers_and_readers_lose_and_double_nothing() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(6).unwrap();
    for unbounded in [false, true] {
        let builder = if unbounded { Queue::builder() } else { Queue::<(u64, u64, Vec<u8>)>::builder().capacity(13) };
        let queue = builder.build().unwrap();
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                let write = |(queue, writer): (Queue<(u64, u64, Vec<u8>)>, u64)| {
                    for n in 0..42 {
                        let size = 1 << (n * 7 % 21);
                        queue.put((writer, n, vec![n as u8; size])).unwrap();
                    }
                };
                pool.submit(write, (queue.clone(), writer)).unwrap()
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let read = |queue: Queue<(u64, u64, Vec<u8>)>| {
                    let whole = |(writer, n, bytes): (u64, u64, Vec<u8>)| {
                        assert!(bytes.len() == 1 << (n * 7 % 21) && bytes.iter().all(|byte| *byte == n as u8));
                        (writer, n)
                    };
                    queue.iter().map(|message| whole(message.unwrap())).collect::<Vec<_>>()
                };
                pool.submit(read, queue.clone()).unwrap()
            })
            .collect();
        writers.into_iter().for_each(|task| task.get().unwrap());
        queue.close();
        let mut all = Vec::new();
        for reader in readers {
            let got = reader.get().unwrap();
            for writer in 0..4 {
                let ones: Vec<u64> = got.iter().filter(|(w, _)| *w == writer).map(|(_, n)| *n).collect();
                assert!(ones.is_sorted(), "of one writer, in order");
            }
            all.extend(got);
        }
        all.sort_unstable();
        assert_eq!(all, (0..4).flat_map(|w| (0..42).map(move |n| (w, n))).collect::<Vec<_>>());
    }
}

#[test]
fn case_45_a_message_goes_round_a_ring_of_queues() {
    let dragon = dragon::init().unwrap();
    let queues: Vec<Queue<String>> = (0..4).map(|_| Queue::bounded(1).unwrap()).collect();
    assert!(queues.iter().all(|queue| queue.node() == dragon.node()));
    let pool = Pool::new(3).unwrap();
    let pass = |(from, to): (Queue<String>, Queue<String>)| {
        (0..3).for_each(|_| to.put(from.get().unwrap()).unwrap());
    };
    let tasks: Vec<_> =
        (0..3).map(|at| pool.submit(pass, (queues[at].clone(), queues[at + 1].clone())).unwrap()).collect();
    for _ in 0..3 {
        queues[0].put("unchanged".into()).unwrap();
        assert_eq!(queues[3].get().unwrap(), "unchanged");
    }
    tasks.into_iter().for_each(|task| task.get().unwrap());
}

#[test]
fn case_46_a_message_that_was_put_is_there() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    both(|queue| {
        let look = |queue: Queue<u64>| (queue.len(), queue.try_get().unwrap());
        queue.put(5).unwrap();
        assert_eq!(pool.submit(look, queue.clone()).unwrap().get().unwrap(), (1, 5));
    });
}

#[test]
fn case_47_closing_stops_producers_at_once_and_consumers_at_the_end() {
    let _dragon = dragon::init().unwrap();
    both(|queue| {
        queue.put_many([1, 2]).unwrap();
        queue.close();
        queue.close();
        assert!(queue.is_closed());
        let refused = queue.put(3).unwrap_err();
        assert!(refused.kind() == ErrorKind::Closed && refused.into_inner() == 3);
        assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
        assert!(queue.get().unwrap_err().is_closed());
        assert!(queue.try_get().unwrap_err().is_closed());
        assert!(queue.get_many(3).unwrap_err().error().is_closed());
    });
    // Those who wait are told.
    let queue = Queue::<u8>::builder().capacity(1).name("closed while full").build().unwrap();
    queue.put(0).unwrap();
    thread::scope(|scope| {
        let producers = [1, 2].map(|n| {
            scope.spawn({
                let queue = &queue;
                move || queue.put(n)
            })
        });
        let other = Queue::<u8>::builder().name("closed while empty").build().unwrap();
        let consumers = [(); 2].map(|()| {
            scope.spawn({
                let other = other.clone();
                move || other.get()
            })
        });
        for name in ["closed while full", "closed while empty"] {
            until("both sleep", || sleeps(named(name)) >= 2);
        }
        queue.close();
        other.close();
        producers.into_iter().for_each(|p| assert_eq!(p.join().unwrap().unwrap_err().kind(), ErrorKind::Closed));
        consumers.into_iter().for_each(|c| assert!(c.join().unwrap().unwrap_err().is_closed()));
    });
}

// ---- what else can be wrong, each with its own error -----------------------------------------------------------------

#[test]
fn a_message_that_cannot_be_read_is_taken_out_and_its_bytes_come_back() {
    struct Picky;
    impl Codec<u8> for Picky {
        fn encode(value: &u8, out: &mut Vec<u8>) -> Result<(), CodecError> {
            if *value == 13 {
                return Err(CodecError::new("13 brings bad luck"));
            }
            out.extend([*value, 99]);
            Ok(())
        }
        fn decode(bytes: &[u8]) -> Result<u8, CodecError> {
            if bytes[0] == 4 { Err(CodecError::new("4 does too")) } else { Ok(bytes[0]) }
        }
    }
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<u8, Picky>::bounded_with(8).unwrap();
    let refused = queue.put(13).unwrap_err();
    assert!(refused.kind() == ErrorKind::Codec && refused.to_string().contains("bad luck"), "{refused}");
    assert_eq!(refused.into_inner(), 13);
    queue.put_many([1, 2, 4, 5]).unwrap();
    let ended = queue.get_many(8).unwrap_err();
    assert!(ended.kind() == ErrorKind::Codec && ended.error().undecoded() == Some(&[4, 99]));
    assert!(ended.to_string().contains("4 does too"), "{ended}");
    assert_eq!(ended.into_taken(), [1, 2]);
    assert_eq!(queue.try_get().unwrap(), 5);
    assert!(queue.try_get().unwrap_err().undecoded().is_none());
}

#[test]
fn a_message_larger_than_the_memory_comes_back() {
    let _dragon = dragon::init().unwrap();
    struct Giant;
    impl Codec<u64> for Giant {
        fn length(value: &u64) -> Option<usize> {
            Some(*value as usize)
        }
        fn encode(_: &u64, _: &mut Vec<u8>) -> Result<(), CodecError> {
            Err(CodecError::new("its length is known"))
        }
        fn decode(bytes: &[u8]) -> Result<u64, CodecError> {
            Ok(bytes.len() as u64)
        }
    }
    let queue = Queue::<u64, Giant>::bounded_with(4).unwrap();
    let refused = queue.put(1 << 45).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::TooLarge | ErrorKind::OutOfMemory), "{refused}");
    assert_eq!(refused.into_inner(), 1 << 45);
    queue.put(1000).unwrap();
    assert_eq!(queue.get().unwrap(), 1000);
}

#[test]
fn an_unbounded_queue_stops_at_its_limit_and_goes_on_when_there_is_room() {
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<Vec<u8>>::builder().memory_limit(4 << 20).build().unwrap();
    for round in 0..3 {
        let mut put = 0_u64;
        let refused = loop {
            match queue.put(vec![round; if put.is_multiple_of(2) { 5000 } else { 50 }]) {
                Ok(()) => put += 1,
                Err(refused) => break refused,
            }
        };
        assert!(refused.kind() == ErrorKind::OutOfMemory && refused.to_string().contains("memory_limit"), "{refused}");
        assert!(!refused.into_inner().is_empty());
        assert!((700..2500).contains(&put), "{put}");
        assert_eq!(queue.len() as u64, put);
        for n in 0..put {
            assert_eq!(queue.try_get().unwrap().len(), if n.is_multiple_of(2) { 5000 } else { 50 });
        }
        assert!(queue.is_empty());
    }
}

#[test]
fn names_are_unique_typed_and_gone_with_their_queue() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    let kind = |error: dragon::Error| error.kind();
    let name = "a name of this test";
    assert_eq!(Queue::<u8>::open(name).map_err(kind).unwrap_err(), ErrorKind::NotFound);
    let queue = Queue::<u8>::builder().capacity(3).name(name).build().unwrap();
    let again = Queue::<u8>::builder().name(name).build();
    assert_eq!(again.map_err(kind).unwrap_err(), ErrorKind::Exists);
    let error = Queue::<u16>::open(name).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType && error.to_string().contains("u16"), "{error}");
    assert_eq!(Queue::<u8, Pod>::open_with(name).map_err(kind).unwrap_err(), ErrorKind::WrongType);
    let put = |name: String| Queue::<u8>::open(&name).unwrap().put(42).unwrap();
    pool.submit(put, name.to_string()).unwrap().get().unwrap();
    assert_eq!(queue.get().unwrap(), 42);
    assert!(queue.put(1).is_ok() && format!("{queue:?}").contains("1 messages of 3"), "{queue:?}");
    drop(queue);
    assert_eq!(Queue::<u8>::open(name).map_err(kind).unwrap_err(), ErrorKind::NotFound);
    let unbounded = Queue::<u16>::builder().name(name).build().unwrap();
    Queue::<u16>::open(name).unwrap().put(7).unwrap();
    assert_eq!(unbounded.get().unwrap(), 7);
    for bad in [String::new(), "x".repeat(113)] {
        let refused = Queue::<u8>::builder().name(&bad).build();
        assert_eq!(refused.map_err(kind).unwrap_err(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn of_many_who_want_a_name_one_gets_it() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(3).unwrap();
    for round in 0..20 {
        let want = |name: String| -> Option<Queue<u8>> {
            match Queue::builder().capacity(1).name(&name).build() {
                Ok(queue) => Some(queue),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Exists, "{error}");
                    None
                }
            }
        };
        let winners = pool.chunk(1).map(want, (0..6).map(|_| format!("wanted {round}"))).unwrap();
        // The winner's queue lives in the result, so nobody after it can have had the name.
        assert_eq!(winners.iter().flatten().count(), 1, "round {round}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let _dragon = dragon::init().unwrap();
    let kind = |built: dragon::Result<Queue<u8>>| built.unwrap_err().kind();
    assert_eq!(kind(Queue::bounded(0)), ErrorKind::InvalidArgument);
    assert_eq!(kind(Queue::bounded(usize::MAX)), ErrorKind::InvalidArgument);
    assert_eq!(kind(Queue::builder().capacity(3).memory_limit(1 << 20).build()), ErrorKind::InvalidArgument);
    assert_eq!(kind(Queue::builder().memory_limit(1).build()), ErrorKind::InvalidArgument);
}

// ---- handles that travel -----------------------------------------------------------------------------------------------

#[test]
fn a_worker_returns_a_queue_that_only_it_had() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(2).unwrap();
    let make = |n: u64| {
        let queue = Queue::<u64>::unbounded().unwrap();
        queue.put(n).unwrap();
        queue
    };
    let queues: Vec<Queue<u64>> = pool.map(make, 0..50).unwrap();
    assert!(queues.iter().enumerate().all(|(n, queue)| queue.get().unwrap() == n as u64));
    // And one that is dropped here while it is still in a task.
    let task = {
        let queue = Queue::<u64>::bounded(1).unwrap();
        queue.put(5).unwrap();
        pool.submit(|queue: Queue<u64>| queue.get().unwrap(), queue).unwrap()
    };
    assert_eq!(task.get().unwrap(), 5);
    let sum = {
        let queue = Queue::<u64>::bounded(10).unwrap();
        queue.put_many(0..10).unwrap();
        pool.map_with(&queue, |queue: &Queue<u64>, _: u8| queue.get().unwrap(), [0; 10]).unwrap().iter().sum::<u64>()
    };
    assert_eq!(sum, 45);
}

#[test]
fn a_handle_of_something_else_is_refused_where_it_is_read() {
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<u8>::bounded(1).unwrap();
    let bytes = postcard_bytes(&queue);
    for wrong in [read::<Queue<u16>>(&bytes), read::<Queue<u8, Pod>>(&bytes)] {
        assert!(wrong.is_err(), "it carries something else");
    }
    assert!(read::<Channel>(&bytes).is_err());
    drop(queue);
    assert!(read::<Queue<u8>>(&bytes).is_err(), "it is gone");
}

fn postcard_bytes<T: dragon::Message>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    <Postcard as Codec<T>>::encode(value, &mut bytes).unwrap();
    bytes
}

fn read<T: dragon::Message>(bytes: &[u8]) -> Result<(), String> {
    <Postcard as Codec<T>>::decode(bytes).map(drop).map_err(|error| error.to_string())
}

#[test]
fn plain_old_data_goes_as_it_is() {
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[bytemuck(crate = "dragon::codec::bytemuck")]
    #[repr(C)]
    struct Row {
        key: u64,
        values: [f64; 7],
    }
    let _dragon = dragon::init().unwrap();
    let small = Queue::<Row, Pod>::bounded_with(16).unwrap();
    let row = |key| Row { key, values: [key as f64; 7] };
    small.put_many((0..16).map(row)).unwrap();
    assert_eq!(small.get_many(16).unwrap(), (0..16).map(row).collect::<Vec<_>>());
    let large = Queue::<[f64; 512], Pod>::unbounded_with().unwrap();
    (0..600).for_each(|n| large.put([f64::from(n); 512]).unwrap());
    (0..600).for_each(|n| assert_eq!(large.get().unwrap(), [f64::from(n); 512]));
}

// ---- waiting for several -----------------------------------------------------------------------------------------------

#[test]
fn a_selector_wakes_for_any_of_its_sources() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    let queues: Vec<Queue<u64>> = (0..6)
        .map(|n| {
            let named = Queue::builder().name(&format!("selected {n}"));
            if n % 2 == 0 { named.capacity(4) } else { named }.build().unwrap()
        })
        .collect();
    let channel = Channel::create(4, 64).unwrap();
    let mut selector = Selector::new();
    assert_eq!(selector.try_select().unwrap_err().kind(), ErrorKind::InvalidArgument);
    for queue in &queues {
        selector.add(queue);
    }
    assert_eq!(selector.add(&channel), 6);
    assert_eq!(selector.try_select().unwrap_err().kind(), ErrorKind::Empty);
    let begin = Instant::now();
    let late = selector.select_timeout(SOON).unwrap_err();
    assert!(late.kind() == ErrorKind::TimedOut && begin.elapsed() >= SOON);
    for (at, queue) in queues.iter().enumerate() {
        let name = format!("selected {at}");
        let put = |(queue, n, name, before): (Queue<u64>, u64, String, u64)| {
            until("the other side sleeps", || sleeps(named(&name)) > before);
            queue.put(n).unwrap();
        };
        let before = sleeps(named(&name));
        let task = pool.submit(put, (queue.clone(), at as u64, name, before)).unwrap();
        assert_eq!(selector.select_timeout(Duration::from_secs(20)).unwrap(), at);
        assert_eq!(queue.try_get().unwrap(), at as u64);
        task.get().unwrap();
    }
    channel.send(b"x").unwrap();
    assert_eq!(selector.select().unwrap(), 6);
    channel.recv().unwrap();
    // Several that are always ready each get their turn.
    queues[1].put(1).unwrap();
    queues[4].put(1).unwrap();
    let turns: Vec<usize> = (0..4).map(|_| selector.select().unwrap()).collect();
    assert_eq!(turns, [1, 4, 1, 4]);
    queues[0].close();
    assert!((0..3).any(|_| selector.select().unwrap() == 0), "closed is ready");
}

#[test]
fn selectors_and_takers_at_the_same_queues_miss_nothing() {
    let _dragon = dragon::init().unwrap();
    let queues = [Queue::<u64>::bounded(2).unwrap(), Queue::unbounded().unwrap()];
    let most = 3000;
    let got = thread::scope(|scope| {
        let select = || {
            let mut selector = Selector::new();
            for queue in &queues {
                selector.add(queue);
            }
            let mut got = Vec::new();
            while queues.iter().any(|queue| !queue.is_closed() || !queue.is_empty()) {
                let at = selector.select().unwrap();
                got.extend(queues[at].try_get());
            }
            got
        };
        let selecting = [(); 2].map(|()| scope.spawn(select));
        let taking = [0, 1].map(|at| {
            scope.spawn({
                let queues = &queues;
                move || queues[at].iter().map(Result::unwrap).collect::<Vec<_>>()
            })
        });
        let putting = [0, 1].map(|at| {
            scope.spawn({
                let queues = &queues;
                move || {
                    for n in 0..most {
                        queues[at].put(at as u64 * most + n).unwrap();
                    }
                    queues[at].close();
                }
            })
        });
        putting.into_iter().for_each(|thread| thread.join().unwrap());
        let threads =
            selecting.into_iter().map(|t| t.join().unwrap()).chain(taking.into_iter().map(|t| t.join().unwrap()));
        let mut got: Vec<u64> = threads.flatten().collect();
        got.sort_unstable();
        got
    });
    assert_eq!(got, (0..2 * most).collect::<Vec<_>>());
}

// ---- against a model -----------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    PutMany(u8),
    Get,
    GetMany(u8),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Step::Put),
        2 => (0..40_u8).prop_map(Step::PutMany),
        6 => Just(Step::Get),
        2 => (0..40_u8).prop_map(Step::GetMany),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn a_queue_is_a_vecdeque_with_a_bound(
        capacity in prop::option::of(1..20_usize),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let _dragon = dragon::init().unwrap();
        let queue: Queue<Vec<u8>> = match capacity {
            Some(capacity) => Queue::bounded(capacity).unwrap(),
            None => Queue::unbounded().unwrap(),
        };
        let mut model = VecDeque::new();
        let (most, mut closed) = (capacity.unwrap_or(usize::MAX), false);
        for step in steps {
            let room = most - model.len();
            match step {
                Step::Put(message) => match queue.try_put(message.clone()) {
                    Ok(()) => {
                        prop_assert!(room > 0 && !closed);
                        model.push_back(message);
                    }
                    Err(refused) if refused.kind() == ErrorKind::Closed => prop_assert!(closed),
                    Err(refused) => {
                        prop_assert!(room == 0 && refused.kind() == ErrorKind::Full);
                        prop_assert_eq!(refused.into_inner(), message);
                    }
                },
                Step::PutMany(count) => {
                    let messages: Vec<_> = (0..count.min(room.min(255) as u8)).map(|n| vec![n; 3]).collect();
                    match queue.put_many(messages.clone()) {
                        Ok(sent) => {
                            prop_assert_eq!(sent, messages.len());
                            model.extend(messages);
                        }
                        Err(refused) => prop_assert!(closed && refused.sent() == 0),
                    }
                }
                Step::Get => match queue.try_get() {
                    Ok(message) => prop_assert_eq!(Some(message), model.pop_front()),
                    Err(error) => prop_assert!(model.is_empty() && error.is_closed() == closed),
                },
                Step::GetMany(count) => match queue.try_get_many(count.into()) {
                    Ok(messages) => {
                        let expected: Vec<_> = model.drain(..model.len().min(count.into())).collect();
                        prop_assert_eq!(messages, expected);
                    }
                    Err(error) => prop_assert!(closed && model.is_empty() && error.error().is_closed()),
                },
                Step::Close => {
                    // Not at once, or most histories would be short.
                    closed |= model.len() > 5;
                    if closed {
                        queue.close();
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_full(), model.len() == most);
        }
    }
}

/// Histories of several threads: what each consumer sees of one producer is in order, and nothing is missing.
#[test]
fn threads_at_small_queues_keep_every_producers_order() {
    let _dragon = dragon::init().unwrap();
    for builder in [Queue::<(u8, u32), Postcard>::builder().capacity(1), Queue::builder().capacity(3), Queue::builder()]
    {
        let queue = builder.build().unwrap();
        let got: Vec<Vec<(u8, u32)>> = thread::scope(|scope| {
            let consumers = [(); 3].map(|()| scope.spawn(|| queue.iter().map(Result::unwrap).collect()));
            let producers = [0, 1, 2].map(|who| {
                scope.spawn({
                    let queue = &queue;
                    move || (0..4000).for_each(|n| queue.put((who, n)).unwrap())
                })
            });
            producers.into_iter().for_each(|thread| thread.join().unwrap());
            queue.close();
            consumers.map(|thread| thread.join().unwrap()).into()
        });
        let mut seen = BTreeMap::new();
        for one in &got {
            for who in 0..3 {
                assert!(one.iter().filter(|(w, _)| *w == who).is_sorted());
            }
            one.iter().for_each(|message| *seen.entry(*message).or_insert(0) += 1);
        }
        assert!(seen.len() == 12_000 && seen.values().all(|times| *times == 1));
    }
}
