//! What many processes on several nodes were told by one dictionary, while some of them and whole nodes are killed: on
//! every key it is what one value would have answered.
//!
//! Each client writes down when each call began and ended, what it asked for and what it was told. Of a call that was cut off by
//! a death, or told that a node is lost, nobody knows whether it was done; all others happened once, between begin and end.

#[path = "ddict_histories/checker.rs"]
mod checker;
mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use checker::{Call, Did, check};
use common::{LONG, start_with, text};
use dragon::sync::Barrier;
use dragon::{DDict, Error, ErrorKind, Pool, Queue, Runtime};

type Dict = DDict<u64, u64>;

/// So few that calls meet.
const KEYS: u64 = 6;
/// Bits that are left for what is added to a value, so that no two values are ever the same by accident.
const SUMS: u32 = 12;
/// What nobody puts.
const NOTHING: u64 = u64::MAX;

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "clients" => take_part(dragon, 0, &[]),
        "nodes" => take_part(dragon, 1, &[2]),
        "two nodes" => take_part(dragon, 2, &[3, 1]),
        other => panic!("there is no part {other}"),
    }
}

/// Nanoseconds of a clock that all processes of a machine share.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to be filled.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What calls are written down as, by number.
mod kind {
    pub const PUT: u64 = 0;
    pub const GET: u64 = 1;
    pub const PUT_NEW: u64 = 2;
    pub const REMOVE: u64 = 3;
    pub const POP: u64 = 4;
    pub const UPDATE: u64 = 5;
    pub const ADD: u64 = 6;
    pub const ALL: u64 = 7;
    /// The call before is answered.
    pub const ANSWER: u64 = 8;
    /// The call before may have happened or not.
    pub const UNKNOWN: u64 = 9;
}

/// A line of a log: what was called, its key, what it was to write, what was answered, when.
type Line = [u64; 5];

struct Log(File);

impl Log {
    /// One for each client; the name says which.
    fn open(folder: &str, client: u64) -> Log {
        Log(OpenOptions::new().create_new(true).append(true).open(Path::new(folder).join(client.to_string())).unwrap())
    }

    /// One write to the file: whole or not there, whoever is killed.
    fn note(&mut self, line: Line) {
        self.0.write_all(line.map(u64::to_ne_bytes).as_flattened()).unwrap();
    }
}

/// Calls at random until `end`. How many.
fn client((dict, folder, end): (Dict, String, u64)) -> u64 {
    let client = now();
    let mut log = Log::open(&folder, client);
    let (mut dice, mut calls) = (Dice(client | 1), 0);
    while now() < end {
        let (key, what) = (dice.throw() % KEYS, dice.throw() % kind::ALL);
        let value = dice.throw() >> 8 << SUMS;
        calls += 1;
        log.note([what, key, value, 0, now()]);
        match call(&dict, what, key, value) {
            Ok(answer) => log.note([kind::ANSWER, key, value, answer, now()]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NodeLost, "{error}");
                log.note([kind::UNKNOWN, key, value, 0, now()]);
                // Whoever reads is sent on to the next copy; when that acts, writing goes on.
                let begun = Instant::now();
                while dict.try_get(&key).is_err() {
                    assert!(begun.elapsed() < LONG, "{key} does not come back: {error}");
                    std::thread::yield_now();
                }
            }
        }
    }
    calls
}

/// One call; a missing key is an answer.
fn call(dict: &Dict, what: u64, key: u64, value: u64) -> Result<u64, Error> {
    let missing = |error: Error, answer| if error.kind() == ErrorKind::KeyNotFound { Ok(answer) } else { Err(error) };
    match what {
        kind::PUT => dict.put(&key, &value).map(|()| 0),
        kind::GET => dict.try_get(&key).map(|found| found.unwrap_or(NOTHING)),
        kind::PUT_NEW => dict.put_new(&key, &value).map(u64::from),
        kind::REMOVE => dict.remove(&key).map_or_else(|error| missing(error, 0), |()| Ok(1)),
        kind::POP => dict.pop(&key).or_else(|error| missing(error, NOTHING)),
        kind::UPDATE => {
            let mut old = None;
            let change = |before| {
                old = before;
                Some(value)
            };
            dict.update(&key, change).map(|()| old.unwrap_or(NOTHING))
        }
        kind::ADD => dict.fetch_add(&key, 1),
        other => panic!("no call has the number {other}"),
    }
}

/// The calls of all clients.
fn read_logs(folder: &Path) -> Vec<Call> {
    let mut calls = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let (words, rest) = bytes.as_chunks::<8>();
        let (lines, part) = words.as_chunks::<5>();
        assert!(rest.is_empty() && part.is_empty(), "a line was written by one call");
        let mut lines = lines.iter().map(|line| line.map(u64::from_ne_bytes)).peekable();
        while let Some([what, key, value, _, begin]) = lines.next() {
            let answer = lines.next_if(|line| line[0] >= kind::ANSWER).filter(|line| line[0] == kind::ANSWER);
            let told = answer.map(|line| line[3]);
            let state = told.map(|word| (word != NOTHING).then_some(word));
            let did = match (what, state) {
                // Nobody was told, and nothing was changed.
                (kind::GET, None) => continue,
                (kind::GET, Some(found)) => Did::Get(found),
                (kind::POP, Some(found)) => Did::Pop(found),
                (kind::PUT, _) => Did::Put(value),
                (kind::PUT_NEW, _) => Did::PutNew(value, told.map(|did| did == 1)),
                (kind::REMOVE, _) => Did::Remove(told.map(|was| was == 1)),
                (kind::POP, None) => Did::Remove(None),
                (kind::UPDATE, old) => Did::Update(value, old),
                _ => Did::Add(1, told),
            };
            calls.push(Call { key, did, begin, end: answer.map(|line| line[4]) });
        }
    }
    calls
}

/// What each rank does: it calls itself, has two workers that do, and kills those again and again. The ranks in `dead` die one
/// after the other, the last of them before two thirds of the time are over.
fn take_part(dragon: Runtime, replicas: u32, dead: &[usize]) {
    let (folder, rank, size) = (std::env::var("LOGS").unwrap(), dragon.rank(), dragon.size());
    let make = || DDict::builder().memory_per_node(8 << 20).managers_per_node(2).replicas(replicas).build().unwrap();
    let (dict, all, end) = share(&dragon, || (make(), Barrier::new(size).unwrap(), seconds()));
    let pool = Pool::builder().processes(2).local().build().unwrap();
    pool.map(|x: u64| x, 0..20).unwrap();
    all.wait().unwrap();
    let (begin, long) = (now(), end * 1_000_000_000);
    let end = begin + long;
    let dies = dead.iter().position(|dead| *dead == rank).map(|turn| begin + (turn as u64 + 1) * long / 3 - long / 20);
    let mine = {
        let (dict, folder) = (dict.clone(), folder.clone());
        std::thread::spawn(move || client((dict, folder, end)))
    };
    let go = || pool.submit(client, (dict.clone(), folder.clone(), end)).unwrap();
    let mut tasks: Vec<_> = (0..2).map(|_| go()).collect();
    let mut dice = Dice(begin | 1);
    while now() < end {
        if dies.is_some_and(|at| now() > at) {
            std::process::abort();
        }
        let (begun, pause) = (Instant::now(), Duration::from_micros(dice.throw() % 200_000));
        while begun.elapsed() < pause {
            std::thread::sleep(Duration::from_millis(1));
        }
        let workers = pool.workers();
        if let Some(worker) = workers.get(dice.throw() as usize % workers.len().max(1)) {
            // SAFETY: a signal to a child of this process, which nobody else kills.
            unsafe { libc::kill(worker.pid as i32, libc::SIGKILL) };
        }
        for task in &mut tasks {
            if let Some(ended) = task.try_get() {
                assert!(ended.as_ref().map_or_else(Error::is_lost, |_| now() >= end), "{ended:?}");
                *task = go();
            }
        }
    }
    for task in tasks {
        let ended = task.get_timeout(LONG);
        assert!(ended.as_ref().map_or_else(Error::is_lost, |_| true), "{ended:?}");
    }
    assert!(mine.join().unwrap() > 0);
    let finalized = dragon.finalize();
    assert!(if !dead.is_empty() { finalized.unwrap_err().kind() == ErrorKind::NodeLost } else { finalized.is_ok() });
}

fn seconds() -> u64 {
    std::env::var("DRAGON_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Rank 0 makes something, and all ranks have it.
fn share<T: dragon::Message + Clone>(dragon: &Runtime, make: impl FnOnce() -> T) -> T {
    if dragon.rank() != 0 {
        return Queue::<T>::open_timeout("shared", LONG).unwrap().get().unwrap();
    }
    let (made, queue) = (make(), Queue::<T>::builder().name("shared").build().unwrap());
    (1..dragon.size()).for_each(|_| queue.put(made.clone()).unwrap());
    // Kept until all have taken it.
    std::mem::forget(queue);
    made
}

/// Starts a job, and checks what its clients were told.
fn history_of(part: &str, nodes: &[u32], dead: &[usize]) {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().to_str().unwrap();
    let outputs = start_with(part, nodes, |_| vec![("LOGS", logs.to_string())]).outputs();
    let said = || outputs.iter().map(text).collect::<Vec<_>>().join("\n---- next rank:\n");
    let well = |(rank, output): (usize, &std::process::Output)| output.status.success() != dead.contains(&rank);
    assert!(outputs.iter().enumerate().all(well), "{}", said());
    let calls = read_logs(folder.path());
    let open = calls.iter().filter(|call| call.end.is_none()).count();
    println!("{part}: {} calls, {open} of them without an answer", calls.len());
    assert!(calls.len() > 1000 && open > 0);
    if let Err((key, call)) = check(&calls) {
        let around = |other: &&Call| other.key == key && other.begin <= call.end.unwrap_or(u64::MAX);
        let mut before: Vec<&Call> = calls.iter().filter(around).collect();
        before.sort_by_key(|other| other.begin);
        panic!("key {key}: {call:?} fits into no order; before it: {:#?}", &before[before.len().saturating_sub(30)..]);
    }
}

#[test]
fn what_clients_on_all_nodes_were_told_is_one_history_whoever_is_killed() {
    history_of("clients", &[0, 0, 1], &[]);
}

#[test]
fn with_a_replica_it_is_one_history_though_a_node_is_killed() {
    history_of("nodes", &[0, 1, 2], &[2]);
}

#[test]
fn with_two_replicas_it_is_one_history_though_two_nodes_are_killed() {
    history_of("two nodes", &[0, 1, 2, 3, 4], &[3, 1]);
}
