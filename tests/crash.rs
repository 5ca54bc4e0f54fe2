//! Kills a process at every marked point of everything in shared memory, and looks at what is left.
//!
//! The source is searched for `mark!("..")`, so a mark that nobody can reach fails this test. The victim
//! is a worker of a pool that itself uses everything: pools of its own, small and large messages, the death
//! of its own workers. Another worker of the same pool goes on meanwhile. Afterwards no memory is held, no
//! process is left, the pool works, and nothing is in `/dev/shm`.
//!
//! Needs `--features failpoints`.
#![cfg(feature = "failpoints")]

#[path = "crash/queues.rs"]
mod queues;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragon::{Channel, ErrorKind, MemoryPool, Pool, Runtime, WorkerInfo, WorkerState};
use serde::{Deserialize, Serialize};

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
                // Those of locks and their like are crash_sync.rs's, those of dictionaries crash_ddict.rs's, those of calls
                // between nodes crash_ddict_nodes.rs's.
                if !["latch.", "table.", "far."].iter().any(|others| name.starts_with(others)) {
                    found.insert(name.to_string());
                }
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
    // Deaths inside, with small and large blocks in hand: the agent of this process repairs them.
    for size in [1000, 200_000] {
        inner.chunk(1).map(|v: Vec<u8>| v, (0..4).map(|_| vec![1; size])).unwrap();
        let lost =
            inner.submit(|v: Vec<u8>| -> u8 { std::process::exit(i32::from(v[0])) }, vec![9; size]).unwrap().get();
        assert!(lost.unwrap_err().is_lost());
    }
    // What a dead worker cut small blocks from, of which some are still in use, is taken over by who needs more.
    let kept = Channel::create(16, 64).unwrap();
    let fill = |kept: Channel| (0..5).for_each(|_| kept.send(&[1; 5000]).unwrap());
    let single = Pool::new(1).unwrap();
    single.submit(fill, kept.clone()).unwrap().get().unwrap();
    assert!(single.map(|_: u8| -> u8 { std::process::abort() }, [0]).is_err());
    (0..3).for_each(|_| kept.send(&[2; 5000]).unwrap());
    let after = (0..8).map(|_| kept.recv().unwrap().len() as u64).sum::<u64>();
    let queues = queues::exercise(&inner);
    inner.close();
    inner.join().unwrap();
    small + large.len() as u64 + with.len() as u64 + after + queues + keep_memory()
}

/// Memory under a name, which is then taken away.
fn keep_memory() -> u64 {
    let name = format!("of {}", std::process::id());
    let pool = MemoryPool::create_local(&name, 1 << 20).unwrap();
    let blocks: Vec<_> = (1..50).map(|k| pool.alloc(k * 100).unwrap()).collect();
    pool.destroy();
    blocks.len() as u64
}

/// More than was ever in use, so that the memory has to grow by segments, which are 16 MiB in this test.
fn grow() -> u64 {
    let inner = Pool::new(1).unwrap();
    let held = MemoryPool::create_local(&format!("large {}", std::process::id()), 9 << 20).unwrap();
    let n = inner.chunk(1).map(|v: Vec<u8>| v.len(), (0..3).map(|_| vec![1; 9 << 20])).unwrap().len() as u64;
    held.destroy();
    n
}

/// What the victim does, so that it comes past a mark.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Deed {
    /// Everything a process can do to shared memory.
    Exercise,
    /// Nothing more: what follows is a worker's ordinary life.
    Live,
    /// It lets its own workers be killed when they are born.
    Bear,
    /// It needs more memory than there ever was.
    Grow,
}

fn armed((mark, count, deed): (String, u64, Deed)) -> u64 {
    if deed == Deed::Bear {
        // SAFETY: no other thread of this worker looks at the environment now.
        unsafe { std::env::set_var("DRAGON_CRASH_AT", format!("{mark}:{count}")) };
        let born = Pool::new(2).and_then(|inner| inner.map(|x: u8| x, [1]));
        // SAFETY: as above.
        unsafe { std::env::remove_var("DRAGON_CRASH_AT") };
        return u64::from(born.is_err());
    }
    dragon::failpoint::arm(&mark, count);
    match deed {
        Deed::Exercise => exercise(),
        Deed::Grow => grow(),
        Deed::Live | Deed::Bear => 0,
    }
}

/// Tests here look at figures of the whole node, so one runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Idle {
    in_use: u64,
    blocks: u64,
    processes: usize,
}

fn idle(runtime: &Runtime) -> Idle {
    let stats = runtime.stats();
    Idle { in_use: stats.memory.in_use, blocks: stats.memory.blocks, processes: stats.processes.len() }
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

/// Marks that only a race leads to, or only the first process of a world.
const UNREACHABLE: &[&str] = &["heap.claim.lost", "heap.named.created", "heap.named.locked"];

/// A pool with a victim and a bystander, and what was there before anybody died.
struct Scene {
    dragon: Runtime,
    pool: Pool,
    expected: u64,
    before: Idle,
    reached: BTreeSet<String>,
}

impl Scene {
    fn new() -> Scene {
        let dragon = dragon::builder().segment_size(16 << 20).init().unwrap();
        let pool = Pool::new(2).unwrap();
        let expected = pool.submit(|()| exercise(), ()).unwrap().get().unwrap();
        refresh(&pool);
        let before = idle(&dragon);
        Scene { dragon, pool, expected, before, reached: BTreeSet::new() }
    }

    /// Kills a worker when it comes past `mark` for the `count`th time, while another goes on.
    fn kill_at(&mut self, mark: &str, count: u64, deed: Deed) {
        let what = format!("killed at {mark}, time {count}");
        println!("{what}");
        let workers = self.pool.workers();
        let patience = Duration::from_secs(60);
        let victim = self.pool.submit(armed, (mark.to_string(), count, deed)).unwrap();
        let bystander = self.pool.submit(|()| exercise(), ()).unwrap();
        match victim.get_timeout(patience) {
            Ok(value) if deed == Deed::Exercise => assert_eq!(value, self.expected, "{what}"),
            Ok(value) if deed == Deed::Bear && value == 1 => self.reached(mark),
            Ok(_) => {}
            Err(error) => self.was_killed(mark, &error),
        }
        match bystander.get_timeout(patience) {
            Ok(value) => assert_eq!(value, self.expected, "{what}: a bystander"),
            // It came to the victim's worker, which was armed and not yet killed.
            Err(error) => self.was_killed(mark, &error),
        }
        for size in [1, 20, 4000] {
            let lives = self.pool.chunk(1).map(|v: Vec<u64>| v, (0..10).map(|k| vec![k; size]));
            if let Err(error) = lives {
                self.was_killed(mark, &error);
            }
        }
        // A worker killed before it took a task, or after it answered, costs nothing that could be seen here.
        if workers.iter().any(|worker| !is_alive(worker.pid)) {
            self.reached(mark);
        }
        // An armed worker that was not killed must not be killed later by another's test.
        refresh(&self.pool);
        let all: Vec<u64> = self.pool.chunk(2).map(|x: u64| x * 2, 0..100).unwrap();
        assert_eq!(all, (0..100).map(|x| x * 2).collect::<Vec<_>>(), "{what}");
        wait_for_idle(&self.dragon, &self.before, &what);
    }

    fn was_killed(&mut self, mark: &str, error: &dragon::Error) {
        assert_eq!(error.kind(), ErrorKind::WorkerLost, "{mark}: {error}");
        assert!(error.to_string().contains("SIGKILL"), "{mark}: {error}");
        self.reached(mark);
    }

    fn reached(&mut self, mark: &str) {
        self.reached.insert(mark.to_string());
    }
}

/// Whether a process runs; one that has ended and is about to be reaped does not.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat[stat.rfind(')').unwrap()..].starts_with(") Z")
}

#[test]
fn a_worker_that_is_killed_at_any_marked_point_costs_its_task_and_nothing_else() {
    let _alone = alone();
    let mut scene = Scene::new();
    for mark in ["heap.segment.prepared", "heap.stretch.committed"] {
        scene.kill_at(mark, 1, Deed::Grow);
    }
    for mark in marks() {
        for count in [1, 2, 17] {
            scene.kill_at(&mark, count, Deed::Exercise);
        }
        scene.kill_at(&mark, 1, Deed::Live);
        if mark.starts_with("process.") {
            scene.kill_at(&mark, 1, Deed::Bear);
        }
    }
    // Some marks are on ways that are taken only if another process is fast or slow at the right moment.
    for _ in 0..20 {
        let missed: Vec<_> = marks().difference(&scene.reached).cloned().collect();
        for mark in missed.iter().filter(|mark| !UNREACHABLE.contains(&mark.as_str())) {
            scene.kill_at(mark, 1, Deed::Exercise);
        }
    }
    let missed: Vec<_> = marks().difference(&scene.reached).cloned().collect();
    assert_eq!(missed, UNREACHABLE, "marks that nobody ever came past");
    println!("killed at each of {} marks", scene.reached.len());
}

/// Replaces all workers, and waits until the new ones are ready.
fn refresh(pool: &Pool) {
    let old = pool.workers();
    for worker in &old {
        // SAFETY: a signal to a child of this process that nobody else reaps or kills.
        unsafe { libc::kill(worker.pid as i32, libc::SIGKILL) };
    }
    let is_new = |w: &WorkerInfo| w.state == WorkerState::Idle && old.iter().all(|o| o.pid != w.pid);
    while pool.workers().iter().filter(|w| is_new(w)).count() < pool.size() {
        std::thread::yield_now();
    }
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
    let _alone = alone();
    let other = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    assert!(marks().iter().any(|mark| mark.starts_with("heap.named.")));
    for mark in marks().into_iter().filter(|mark| mark.starts_with("heap.named.")) {
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
