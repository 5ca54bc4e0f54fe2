//! `kill -9` of producers and consumers at any instant, and the memory that queues leave: none.
//!
//! These tests look at figures of the whole node, so they take turns.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dragon::{ErrorKind, Pool, Queue, Runtime, WorkerState};
use serde::{Deserialize, Serialize};

/// The runtime, while no other test of this file has it.
fn alone() -> (MutexGuard<'static, ()>, Runtime) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (turn, dragon::init().unwrap())
}

fn in_use(dragon: &Runtime) -> (u64, u64) {
    let memory = dragon.stats().memory;
    (memory.in_use, memory.blocks)
}

fn wait_for(dragon: &Runtime, before: (u64, u64), what: &str) {
    let begin = Instant::now();
    while in_use(dragon) != before {
        let now = in_use(dragon);
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}: {now:?} where {before:?} was before");
        thread::yield_now();
    }
}

#[test]
fn case_43_the_last_handle_takes_everything_with_it() {
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    for unbounded in [false, true] {
        for _ in 0..3 {
            let builder = if unbounded { Queue::<Vec<u8>>::builder() } else { Queue::builder().capacity(2000) };
            let queue = builder.joinable().name("with much in it").build().unwrap();
            (0..1000).for_each(|n| queue.put(vec![1; n * 10]).unwrap());
            (0..100).for_each(|_| drop(queue.get().unwrap()));
            drop(queue);
            assert_eq!(in_use(&dragon), before);
        }
    }
}

#[test]
fn a_handle_in_a_message_keeps_its_queue_alive_and_no_longer() {
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    for outer in [Queue::<Queue<String>>::bounded(4).unwrap(), Queue::unbounded().unwrap()] {
        let mut kept = None;
        for _ in 0..100 {
            for inner in [Queue::<String>::bounded(4).unwrap(), Queue::unbounded().unwrap()] {
                inner.put("still here".into()).unwrap();
                outer.put(inner).unwrap();
            }
            let (first, second) = (outer.get().unwrap(), outer.get().unwrap());
            assert_eq!(first.get().unwrap() + &second.get().unwrap(), "still herestill here");
            drop((first, second));
            assert_eq!(in_use(&dragon), *kept.get_or_insert(in_use(&dragon)), "what came out and was dropped is gone");
        }
        outer.put(Queue::bounded(1).unwrap()).unwrap();
        outer.put(Queue::unbounded().unwrap()).unwrap();
    }
    assert_eq!(in_use(&dragon), before, "a queue that ends lets go of what its messages held");
}

#[test]
fn a_handle_that_cannot_be_read_is_let_go() {
    /// Written with a handle, read without.
    #[derive(Serialize)]
    struct Parcel(Queue<u8>);
    impl<'de> Deserialize<'de> for Parcel {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Parcel, D::Error> {
            Err(serde::de::Error::custom("unwanted"))
        }
    }
    let (_turn, dragon) = alone();
    let outer = Queue::<Parcel>::bounded(2).unwrap();
    let before = in_use(&dragon);
    outer.put(Parcel(Queue::bounded(1).unwrap())).unwrap();
    assert_ne!(in_use(&dragon), before);
    assert_eq!(outer.get().err().unwrap().kind(), ErrorKind::Codec);
    assert_eq!(in_use(&dragon), before);
}

#[test]
fn a_queue_in_itself_does_not_live_for_ever() {
    #[derive(Serialize, Deserialize)]
    struct Selfish(Queue<Selfish>);
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    for queue in [Queue::<Selfish>::bounded(2).unwrap(), Queue::unbounded().unwrap()] {
        queue.put(Selfish(queue.clone())).unwrap();
        let again = queue.get().unwrap().0;
        again.put(Selfish(queue)).unwrap();
    }
    assert_eq!(in_use(&dragon), before);
}

// ---- kill -9 -----------------------------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
enum Body {
    Small,
    Large(Vec<u64>),
    /// A queue that only this message keeps alive.
    Carries(Queue<u64>),
}

#[derive(Serialize, Deserialize)]
struct Letter {
    producer: u64,
    number: u64,
    body: Body,
}

/// A log that processes append records of four numbers to, each in one write.
fn append(log: &mut File, record: [u64; 3]) {
    let bytes: Vec<u8> = record.iter().flat_map(|n| n.to_le_bytes()).collect();
    log.write_all(&bytes).unwrap();
}

fn open_log(path: &str) -> File {
    OpenOptions::new().append(true).create(true).custom_flags(libc::O_CLOEXEC).open(path).unwrap()
}

fn read_log(path: &Path) -> Vec<[u64; 3]> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks(24).map(|r| [number(&r[..8]), number(&r[8..16]), number(&r[16..])]).collect()
}

/// Puts until the queue is closed, and writes down what was put.
fn produce((queue, producer, log): (Queue<Letter>, u64, String)) {
    let mut log = open_log(&log);
    for number in 0.. {
        let body = match number % 16 {
            3 => Body::Large(vec![number; 100 + (number as usize * 37) % 3000]),
            7 => {
                let carried = if number % 32 == 7 { Queue::bounded(2) } else { Queue::unbounded() }.unwrap();
                carried.put(number).unwrap();
                Body::Carries(carried)
            }
            _ => Body::Small,
        };
        match queue.put(Letter { producer, number, body }) {
            Ok(()) => append(&mut log, [0, producer, number]),
            Err(refused) if refused.kind() == ErrorKind::Closed => return,
            Err(refused) => panic!("{refused}"),
        }
        // An unbounded queue would grow without end.
        while queue.len() > 2000 && !queue.is_closed() {
            thread::yield_now();
        }
    }
}

/// Gets until the queue is closed and empty, and writes down what came.
fn consume((queue, consumer, log): (Queue<Letter>, u64, String)) {
    let mut log = open_log(&log);
    for letter in &queue {
        let Letter { producer, number, body } = letter.unwrap();
        match body {
            Body::Small => {}
            Body::Large(numbers) => assert!(numbers.iter().all(|n| *n == number)),
            Body::Carries(carried) => assert_eq!(carried.try_get().unwrap(), number),
        }
        append(&mut log, [consumer, producer, number]);
    }
}

/// Splitmix64: the next of a row of numbers without pattern.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 1
}

struct Tally {
    kills: usize,
    put: usize,
    got: usize,
}

/// Keeps two producers and two consumers running and kills `kills` of them.
fn kill_while_they_run(queue: &Queue<Letter>, kills: usize, seed: u64) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (put, got) = (path("put"), path("got"));
    let pool = Pool::new(4).unwrap();
    let mut next = 0;
    let mut start = |produces: bool| {
        next += 1;
        let task = if produces {
            pool.submit(produce, (queue.clone(), next, put.clone()))
        } else {
            pool.submit(consume, (queue.clone(), next, got.clone()))
        };
        (produces, task.unwrap())
    };
    let mut tasks = vec![start(true), start(true), start(false), start(false)];
    let (mut state, mut killed, mut dead_consumers) = (seed, 0, 0);
    while killed < kills {
        // One that has begun with its task: a pool gives up if three in a row die before.
        let mut workers = pool.workers();
        workers.retain(|worker| worker.state == WorkerState::Busy);
        let Some(worker) = workers.get(random(&mut state) as usize % workers.len().max(1)) else { continue };
        let begin = Instant::now();
        // An instant that has nothing to do with what the worker is doing.
        let pause = Duration::from_micros(random(&mut state) % 5_000);
        while begin.elapsed() < pause {
            thread::yield_now();
        }
        // SAFETY: the worker may have ended and its number may in theory be another's by now; the test runs
        // alone with its children.
        if unsafe { libc::kill(worker.pid as i32, libc::SIGKILL) } == 0 {
            killed += 1;
        }
        for (produces, task) in &mut tasks {
            if let Some(ended) = task.try_get() {
                let error = ended.unwrap_err();
                assert!(error.is_lost(), "{error}");
                dead_consumers += usize::from(!*produces);
                (*produces, *task) = start(*produces);
            }
        }
    }
    queue.close();
    for (produces, task) in tasks {
        match task.get_timeout(Duration::from_secs(60)) {
            Ok(()) => {}
            Err(error) if error.is_lost() => dead_consumers += usize::from(!produces),
            Err(error) => panic!("it hangs: {error}"),
        }
    }
    // Whatever is left, if both consumers died at the end.
    consume((queue.clone(), 0, got.clone()));
    let tally = compare(&read_log(Path::new(&put)), &read_log(Path::new(&got)), dead_consumers);
    Tally { kills: killed, ..tally }
}

fn compare(put: &[[u64; 3]], got: &[[u64; 3]], dead_consumers: usize) -> Tally {
    let mut came = BTreeMap::new();
    let mut newest = BTreeMap::new();
    // One that a dead consumer gave back comes after those that others took meanwhile.
    let mut late = 0;
    for [consumer, producer, number] in got {
        *came.entry((*producer, *number)).or_insert(0) += 1;
        let newest = newest.entry((*consumer, *producer)).or_insert(*number);
        late += usize::from(number < newest);
        *newest = *number.max(newest);
    }
    assert!(late <= dead_consumers, "{late} messages out of order by {dead_consumers} deaths");
    let twice: Vec<_> = came.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "came twice: {twice:?}");
    let lost: Vec<_> = put.iter().filter(|[_, producer, number]| !came.contains_key(&(*producer, *number))).collect();
    assert!(lost.len() <= dead_consumers, "{} messages lost by {dead_consumers} deaths: {lost:?}", lost.len());
    Tally { kills: 0, put: put.len(), got: came.len() }
}

#[test]
fn killed_producers_and_consumers_lose_and_double_nothing_but_what_a_dead_consumer_held() {
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    let kills = std::env::var("DRAGON_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    for (what, capacity) in [("one place", Some(1)), ("bounded", Some(50)), ("unbounded", None)] {
        let queue = capacity.map_or_else(Queue::unbounded, Queue::bounded).unwrap();
        let Tally { kills, put, got } = kill_while_they_run(&queue, kills, 7);
        drop(queue);
        println!("{what}: {kills} killed, {put} put, {got} got");
        wait_for(&dragon, before, what);
    }
}
