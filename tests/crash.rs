//! Kills a process at every marked point of everything in shared memory, and looks at what is left.
//!
//! The source is searched for `mark!("..")`, so a mark that nobody can reach fails this test. The victim
//! is a worker of a pool that itself uses everything: pools of its own, small and large messages, the death
//! of its own workers. Another worker of the same pool goes on meanwhile. Afterwards no memory is held, no
//! process is left, the pool works, and nothing is in `/dev/shm`.
//!
//! Needs `--features failpoints`.
#![cfg(feature = "failpoints")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dragon::{ErrorKind, Pool, Runtime};

/// All marks in the source, but those of files whose code this test does not run.
fn marks() -> BTreeSet<String> {
    fn search(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                search(&entry, found);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            for (at, tag) in code.match_indices("mark!(\"") {
                let name = code[at + tag.len()..].split('"').next().unwrap();
                found.insert(name.to_string());
            }
        }
    }
    let mut found = BTreeSet::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() >= 20, "where are the marks? {found:?}");
    found
}

/// Everything that a process can do to shared memory, in a process that may be killed at any point of it.
fn exercise() -> u64 {
    let inner = Pool::new(2).unwrap();
    let small: u64 = inner.chunk(3).map(|x: u64| x + 1, 0..200).unwrap().iter().sum();
    let large = inner.chunk(1).map(|v: Vec<u64>| v.len() as u64, (0..6).map(|k| vec![k; 10_000 << k])).unwrap();
    let with = inner.map_with(&vec![1_u8; 3000], |c: &Vec<u8>, x: u64| x + c.len() as u64, 0..50).unwrap();
    // A death inside: the agent of this process repairs it.
    let lost = inner.submit(|()| -> () { std::process::abort() }, ()).unwrap().get();
    assert!(lost.unwrap_err().is_lost());
    let after: u64 = inner.map(|x: u64| x, 0..10).unwrap().iter().sum();
    inner.close();
    inner.join().unwrap();
    small + large.len() as u64 + with.len() as u64 + after
}

fn armed((mark, count): (String, u64)) -> u64 {
    dragon::failpoint::arm(&mark, count);
    exercise()
}

struct Idle {
    in_use: u64,
    blocks: u64,
    processes: usize,
}

fn idle(runtime: &Runtime) -> Idle {
    let stats = runtime.stats();
    Idle { in_use: stats.memory.in_use, blocks: stats.memory.blocks, processes: stats.processes }
}

/// Waits until the node holds what it held before: processes that lost their parent need a moment to end.
fn wait_for_idle(runtime: &Runtime, before: &Idle, what: &str) {
    let begin = Instant::now();
    loop {
        let now = idle(runtime);
        if (now.in_use, now.blocks, now.processes) == (before.in_use, before.blocks, before.processes) {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{what}: {} bytes in {} blocks and {} processes where {} in {} and {} were before",
            now.in_use,
            now.blocks,
            now.processes,
            before.in_use,
            before.blocks,
            before.processes
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_that_is_killed_at_any_marked_point_costs_its_task_and_nothing_else() {
    let dragon = dragon::init().unwrap();
    let pool = Pool::new(2).unwrap();
    let expected = pool.submit(|()| exercise(), ()).unwrap().get().unwrap();
    pool.map(|x: u64| x, 0..100).unwrap();
    let before = idle(&dragon);
    let mut reached = BTreeSet::new();
    for mark in marks() {
        for count in [1, 2, 17] {
            let what = format!("killed at {mark}, time {count}");
            let victim = pool.submit(armed, (mark.clone(), count)).unwrap();
            let bystander = pool.submit(|()| exercise(), ()).unwrap();
            match victim.get_timeout(Duration::from_secs(60)) {
                Ok(value) => assert_eq!(value, expected, "{what}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WorkerLost, "{what}: {error}");
                    assert!(error.to_string().contains("SIGKILL"), "{what}: {error}");
                    reached.insert(mark.clone());
                }
            }
            let bystander = bystander.get_timeout(Duration::from_secs(60));
            assert_eq!(bystander.unwrap_or_else(|e| panic!("{what}: a bystander: {e}")), expected, "{what}");
            let all: Vec<u64> = pool.chunk(2).map(|x: u64| x * 2, 0..100).unwrap();
            assert_eq!(all, (0..100).map(|x| x * 2).collect::<Vec<_>>(), "{what}");
            // An armed worker that was not killed must not be killed later by another's test.
            refresh(&pool);
            wait_for_idle(&dragon, &before, &what);
        }
    }
    let missed: Vec<_> = marks().difference(&reached).filter(|mark| !mark.starts_with("create.")).cloned().collect();
    assert!(missed.is_empty(), "marks that no worker ever came past: {missed:?}");
    println!("{} marks, each killed at", reached.len());
}

/// Replaces all workers.
fn refresh(pool: &Pool) {
    for worker in pool.workers() {
        // SAFETY: a signal to a child of this process that nobody else reaps or kills.
        unsafe { libc::kill(worker.pid as i32, libc::SIGKILL) };
        while pool.workers().iter().any(|w| w.pid == worker.pid) {
            std::thread::yield_now();
        }
    }
    pool.chunk(1).map(|x: u64| x, 0..20).unwrap();
}

/// Marks on the way up, which only the first process of a world comes past.
#[test]
fn a_process_that_is_killed_on_its_way_up_leaves_nothing_behind() {
    let name = "a_process_that_is_killed_on_its_way_up_leaves_nothing_behind";
    if std::env::var_os("DRAGON_CRASH_AT").is_some() {
        let _dragon = dragon::init().unwrap();
        Pool::new(1).unwrap().map(|x: u8| x, [1]).unwrap();
        return;
    }
    let other = dragon::builder().init().unwrap();
    let pool = Pool::new(1).unwrap();
    for mark in marks().into_iter().filter(|mark| mark.starts_with("create.")) {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("DRAGON_CRASH_AT", format!("{mark}:1"))
            .env("DRAGON_SHM", "named")
            .status()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "nobody came past {mark}");
        let after = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("DRAGON_CRASH_AT", "nowhere:1")
            .env("DRAGON_SHM", "named")
            .status()
            .unwrap();
        assert!(after.success(), "after a death at {mark}");
        let left: Vec<_> = std::fs::read_dir("/dev/shm").unwrap().map(|e| e.unwrap().file_name()).collect();
        let left: Vec<_> = left.iter().filter(|n| n.to_string_lossy().starts_with("dragon-")).collect();
        assert!(left.is_empty(), "after a death at {mark}: {left:?}");
        assert_eq!(pool.map(|x: u8| x, [1]).unwrap(), [1], "another job's memory is untouched");
    }
    drop(other);
}
