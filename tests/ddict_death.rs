//! `kill -9` of clients of a dictionary at any instant, while others read and write: what they were told is one
//! history. Each client writes down when every call began and ended and what came of it; afterwards the history of
//! each key is checked to be that of one register, which no two readers ever saw in different orders.

#[path = "ddict_death/history.rs"]
mod history;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use dragon::{DDict, Pool};

use history::{Call, Kind, check, read_log};

type Dict = DDict<u64, Vec<u64>>;

const KEYS: u64 = 4;

/// Nanoseconds of a clock that all processes share.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to be filled.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A value that nobody else writes, and that shows whether it is whole: in the table, in an entry of its own size, or in a
/// block of its own.
fn value(unique: u64) -> Vec<u64> {
    let len = [0, 3, 60, 700, 2000, 20_000][(unique % 6) as usize];
    std::iter::repeat_n(unique, len + 1).collect()
}

fn unique_of(found: &[u64]) -> u64 {
    let unique = found[0];
    assert!(found == value(unique), "torn: {} words that begin with {unique:#x}", found.len());
    unique
}

struct Log(File);

impl Log {
    fn open(folder: &str) -> Log {
        let path = Path::new(folder).join(format!("{}", std::process::id()));
        Log(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    /// One write to the file: whole or not there, whoever is killed.
    fn note(&mut self, words: [u64; 4]) {
        self.0.write_all(words.map(u64::to_ne_bytes).as_flattened()).unwrap();
    }
}

/// Reads and writes until `end`.
fn client((dict, folder, end): (Dict, String, u64)) -> u64 {
    let mut log = Log::open(&folder);
    let mut state = now() | 1;
    let mut calls = 0;
    while now() < end {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (key, unique) = (state % KEYS, u64::from(std::process::id()) << 40 | calls);
        calls += 1;
        if state >> 40 & 1 == 0 {
            log.note([Kind::WriteBegins as u64, key, unique, now()]);
            dict.put(&key, &value(unique)).unwrap();
            log.note([Kind::WriteEnds as u64, key, unique, now()]);
        } else {
            let begin = now();
            let found = match state >> 41 & 3 {
                0 => dict.get_ref(&key).map(|found| {
                    let words: Vec<u64> = found.chunks(8).map(|w| u64::from_ne_bytes(w.try_into().unwrap())).collect();
                    unique_of(&words)
                }),
                _ => dict.get(&key).map(|found| unique_of(&found)),
            };
            let end = now();
            log.note([Kind::ReadBegins as u64, key, 0, begin]);
            log.note([Kind::ReadEnds as u64, key, found.unwrap(), end]);
        }
    }
    calls
}

#[test]
fn what_clients_saw_is_one_history_whoever_is_killed() {
    let dragon = dragon::init().unwrap();
    let pool = Pool::new(4).unwrap();
    pool.map(|x: u64| x, 0..100).unwrap();
    let before = dragon.stats().memory.in_use;
    let seconds = std::env::var("DRAGON_TEST_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_string();
    let dict: Dict = DDict::builder().memory_per_node(64 << 20).managers_per_node(2).build().unwrap();
    let mut log = Log::open(&path);
    for key in 0..KEYS {
        log.note([Kind::WriteBegins as u64, key, key, now()]);
        dict.put(&key, &value(key)).unwrap();
        log.note([Kind::WriteEnds as u64, key, key, now()]);
    }
    let end = now() + seconds * 1_000_000_000;
    let start = || pool.submit(client, (dict.clone(), path.clone(), end)).unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| start()).collect();
    let (mut kills, mut state) = (0, 88_172_645_463_325_252_u64);
    while now() < end {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (begin, pause) = (Instant::now(), Duration::from_micros(state % 12_000));
        while begin.elapsed() < pause {
            thread::yield_now();
        }
        let workers = pool.workers();
        if let Some(worker) = workers.get(state as usize % workers.len().max(1)) {
            // SAFETY: the worker may have ended and its number may in theory be another's by now; the test runs
            // alone with its children.
            kills += u64::from(unsafe { libc::kill(worker.pid as i32, libc::SIGKILL) } == 0);
        }
        for client in &mut clients {
            if let Some(ended) = client.try_get() {
                match ended {
                    Err(error) => assert!(error.is_lost(), "{error}"),
                    Ok(_) => assert!(now() >= end),
                }
                *client = start();
            }
        }
    }
    for client in clients {
        if let Err(error) = client.get_timeout(Duration::from_secs(60)) {
            assert!(error.is_lost(), "it hangs, or worse: {error}");
        }
    }
    let calls: Vec<Call> = read_log(folder.path());
    let checked = check(&calls);
    println!("{kills} kills, {} calls, of {} writes nobody learnt the end", calls.len(), checked.open_writes);
    assert!(kills > 20 * seconds && calls.len() > 1000);
    assert_eq!(dict.len().unwrap(), KEYS);
    let mut keys = dict.keys().unwrap();
    keys.sort();
    assert_eq!(keys, (0..KEYS).collect::<Vec<_>>());
    // Nothing is held for the dead.
    dict.clear().unwrap();
    assert_eq!(dict.stats().unwrap().managers.iter().map(|manager| manager.in_use).sum::<u64>(), 0);
    drop(dict);
    let begin = Instant::now();
    while dragon.stats().memory.in_use > before {
        let now = dragon.stats().memory.in_use;
        assert!(begin.elapsed() < Duration::from_secs(20), "{now} bytes where {before} were before");
        thread::yield_now();
    }
}
