//! `kill -9` at any instant: of workers, 200 times in a row, and of the main process.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dragon::{ErrorKind, Pool};

const KILLS: usize = 200;

/// Splitmix64: the next of a row of numbers without pattern.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 1
}

/// A task that leaves a trace and returns small or large results.
fn trace((id, path, size): (u64, String, usize)) -> (u64, Vec<u8>) {
    let mut log = std::fs::OpenOptions::new().append(true).custom_flags(libc::O_CLOEXEC).open(path).unwrap();
    log.write_all(format!("{id}\n").as_bytes()).unwrap();
    (id, vec![id as u8; size])
}

#[test]
fn two_hundred_killed_workers_lose_nothing_but_what_is_reported() {
    let dragon = dragon::init().unwrap();
    let pool = Pool::new(3).unwrap();
    pool.map(|x: u8| x, 0..100).unwrap();
    let idle = dragon.stats();
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    let (killed, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (mut sent, mut lost) = (0_u64, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 42;
            while killed.load(Ordering::Relaxed) < KILLS && !over.load(Ordering::Relaxed) {
                let workers = pool.workers();
                let Some(worker) = workers.get(random(&mut state) as usize % workers.len().max(1)) else { continue };
                // An instant that has nothing to do with what the worker is doing.
                let pause = random(&mut state) % 2_000;
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_micros(pause) {
                    thread::yield_now();
                }
                // SAFETY: the worker may have ended and its number may in theory be another's by now; the
                // test runs alone with its children.
                if unsafe { libc::kill(worker.pid as i32, libc::SIGKILL) } == 0 {
                    killed.fetch_add(1, Ordering::Relaxed);
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        // However this ends, the killer must too.
        let _end = Flag(&over);
        while !over.load(Ordering::Relaxed) {
            let tasks: Vec<_> = (0..64)
                .map(|_| {
                    sent += 1;
                    let size = if sent % 3 == 0 { 50_000 } else { 10 };
                    (sent, size, pool.submit(trace, (sent, path.to_string(), size)).unwrap())
                })
                .collect();
            for (id, size, task) in tasks {
                match task.get_timeout(Duration::from_secs(60)) {
                    Ok(result) => assert_eq!(result, (id, vec![id as u8; size])),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
                        lost += 1;
                    }
                }
            }
        }
    });
    let kills = killed.load(Ordering::Relaxed);
    assert!(kills >= KILLS && lost <= kills, "{lost} of {sent} tasks lost by {kills} kills");
    let mut runs = HashMap::new();
    for line in BufReader::new(std::fs::File::open(log.path()).unwrap()).lines() {
        *runs.entry(line.unwrap()).or_insert(0) += 1;
    }
    let twice: Vec<_> = runs.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "tasks that ran twice: {twice:?}");
    let done = sent as usize - lost;
    assert!(runs.len() >= done, "{done} tasks were answered but only {} left a trace", runs.len());
    pool.map(|x: u8| x, 0..100).unwrap();
    let end = dragon.stats();
    assert_eq!((end.memory.in_use, end.memory.blocks), (idle.memory.in_use, idle.memory.blocks), "memory leaked");
    println!("{sent} tasks, {kills} workers killed, {lost} tasks reported lost, none twice, no byte leaked");
}

/// Raised when dropped.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the process that will be killed runs: it says who its workers are and keeps them busy.
fn doomed() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(3).unwrap();
    let pids: Vec<String> = pool.workers().iter().map(|w| w.pid.to_string()).collect();
    let tasks: Vec<_> =
        (0..3).map(|_| pool.submit(|()| thread::sleep(Duration::from_secs(600)), ()).unwrap()).collect();
    println!("workers {}", pids.join(" "));
    tasks.into_iter().for_each(|task| drop(task.get()));
}

#[test]
fn the_workers_of_a_killed_process_are_gone_within_a_second() {
    if std::env::var_os("DRAGON_TEST_DOOMED").is_some() {
        return doomed();
    }
    for backing in ["memfd", "named"] {
        let mut main = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_workers_of_a_killed_process_are_gone_within_a_second", "--nocapture"])
            .env("DRAGON_TEST_DOOMED", "1")
            .env("DRAGON_SHM", backing)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(main.stdout.take().unwrap()).lines().map(Result::unwrap);
        let told =
            lines.into_iter().find_map(|line| line.split_once("workers ").map(|(_, pids)| pids.to_string())).unwrap();
        let workers: Vec<u32> = told.split(' ').map(|pid| pid.parse().unwrap()).collect();
        assert!(workers.len() == 3 && workers.iter().all(|&pid| alive(pid)));
        main.kill().unwrap();
        main.wait().unwrap();
        let begin = Instant::now();
        while workers.iter().any(|&pid| alive(pid)) {
            assert!(begin.elapsed() < Duration::from_secs(1), "workers outlive their main process");
            thread::yield_now();
        }
        drop(dragon::init().unwrap());
        assert_eq!(left_in_shm(), Vec::<String>::new(), "with DRAGON_SHM={backing}");
    }
}

/// Whether a process runs; one that has ended but was not reaped by its new parent does not.
fn alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat[stat.rfind(')').unwrap()..].starts_with(") Z")
}

fn left_in_shm() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/dev/shm") else { return Vec::new() };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("dragon-")).collect()
}
