//! Processes and groups of them, against a plain loop of `posix_spawn`, a bare pipe, and DragonHPC's process group.

mod common;

use std::io::Read;
use std::process::{Command, Stdio as Plain};
use std::time::{Duration, Instant};

use common::limits;
use common::os::Program;
use common::peers::DragonHpc;
use common::table::Race;
use common::{machine, role};
use dragon::{Exit, Process, ProcessGroup, Stdio, Template};

/// Processes of a group.
const PROCESSES: usize = 128;
/// Processes that run a function.
const FUNCTIONS: usize = 32;
/// Bytes through a pipe.
const STREAM: usize = 1 << 30;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// Children that live while nobody does anything.
const IDLE: usize = 1000;

fn main() {
    match &role::mine()[..] {
        "nothing" => return,
        "stream" => return stream(),
        _ => {}
    }
    machine::print_head("group");
    let _dragon = dragon::init().expect("a bench runs where dragon runs");
    let peer = DragonHpc::find();
    if peer.is_none() {
        println!("  DragonHPC is not measured: BENCH_DRAGONHPC names no launcher (benches/README.md)");
    }
    programs(peer.as_ref());
    functions();
    streams();
    idle();
}

fn milliseconds(body: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    body();
    begin.elapsed().as_secs_f64() * 1e3
}

/// A group of so many, from nothing to the last end.
fn run_group(count: usize, template: Template) {
    let mut group = ProcessGroup::new().expect("the runtime is up");
    group.add(count, template).expect("it is new");
    group.start().expect("this machine starts as many");
    assert!(group.join().expect("it was started").iter().all(Exit::success));
}

fn programs(peer: Option<&DragonHpc>) {
    let truth = Program::new("/bin/true", None);
    Race::new("launch and join: 128 times /bin/true as one group", "ms")
        .runner("posix_spawn 128 times, reap 128 times", || limits::spawn(&truth, PROCESSES, true))
        .runner("dragon", || milliseconds(|| run_group(PROCESSES, Process::program("/bin/true"))))
        .maybe("DragonHPC", peer.map(|peer| || peer.figure_of("dragon_group.py", "whole") * 1e3))
        .maybe("DragonHPC, manager up before", peer.map(|peer| || peer.figure_of("dragon_group.py", "launch") * 1e3))
        .run()
        .at_most("dragon", 1.3, "posix_spawn 128 times, reap 128 times")
        .at_most("dragon", 0.1, "DragonHPC");
}

fn functions() {
    let itself = role::program("nothing");
    Race::new("functions: 32 processes that run an empty function", "ms")
        .runner("spawn itself 32 times, reap", || limits::spawn(&itself, FUNCTIONS, true))
        .runner("dragon", || milliseconds(|| run_group(FUNCTIONS, Template::function(|()| (), ()))))
        .run()
        .at_most("dragon", 1.5, "spawn itself 32 times, reap");
}

/// The writer of a stream: as fast as a pipe takes it.
fn stream() {
    use std::io::Write;
    let bytes = vec![7; CHUNK];
    let mut output = std::io::stdout().lock();
    for _ in 0..STREAM / CHUNK {
        if output.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read_all(mut from: impl Read) -> f64 {
    let mut space = vec![0; CHUNK];
    let (begin, mut total) = (Instant::now(), 0);
    loop {
        match from.read(&mut space).expect("the writer lives") {
            0 => break,
            len => total += len,
        }
    }
    assert_eq!(total, STREAM);
    total as f64 / begin.elapsed().as_secs_f64() / 1e9
}

fn streams() {
    let program = std::env::current_exe().expect("/proc is mounted");
    Race::new("stdout: 1 GiB through the pipe of a child", "GB/s")
        .at_most_rounds(5)
        .runner("a bare pipe", || {
            let mut child = Command::new(&program).env("BENCH_ROLE", "stream").stdout(Plain::piped()).spawn();
            let child = child.as_mut().expect("this program can be started");
            let rate = read_all(child.stdout.take().expect("asked for above"));
            assert!(child.wait().expect("it is ours").success());
            rate
        })
        .runner("dragon", || {
            let process = Process::program(&program).env("BENCH_ROLE", "stream").stdout(Stdio::Pipe).start();
            let process = process.expect("this program can be started");
            let rate = read_all(process.stdout().expect("asked for above"));
            assert!(process.join().expect("it was started").success());
            rate
        })
        .run()
        .at_least("dragon", 0.9, "a bare pipe");
}

/// Nanoseconds that all threads of this process have run.
fn worked() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(of).sum()
}

fn idle() {
    let mut group = ProcessGroup::new().expect("the runtime is up");
    group.add(IDLE, Process::program("/bin/sleep").arg("1000")).expect("it is new");
    let started = group.start();
    if let Err(error) = started {
        return println!("  1,000 live children are not measured: {error}");
    }
    Race::new("idle: CPU time in a second, with 1,000 live children", "ms")
        .at_most_rounds(3)
        .runner("dragon, all threads", || {
            let before = worked();
            std::thread::sleep(Duration::from_secs(1));
            (worked() - before) as f64 / 1e6
        })
        .run()
        .below("dragon, all threads", 1.0);
    group.close().expect("children can be killed");
}
