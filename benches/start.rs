//! What `dragon::init()` alone costs a process: time, memory, threads, and nothing while idle.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use common::peers::Peers;
use common::role::{self, Waiting};
use common::table::Race;
use common::{limits, machine};

/// How long an idle process is watched.
const WATCHED: Duration = Duration::from_secs(2);

fn main() {
    match role::mine().as_str() {
        "" => bench(),
        "nothing" => {}
        "init" => drop(init()),
        "rank" => init().finalize().expect("all ranks come"),
        "bare, waiting" => role::wait_for_parent("0"),
        "init, waiting" => {
            let begin = Instant::now();
            let _dragon = init();
            role::wait_for_parent(&begin.elapsed().as_micros().to_string());
        }
        "pool, waiting" => {
            let _dragon = init();
            let pool = dragon::Pool::new(2).expect("two workers");
            pool.map(|item: u64| item, 0..100).expect("an empty function does not fail");
            role::wait_for_parent("0");
        }
        other => panic!("no such role: {other}"),
    }
}

fn init() -> dragon::Runtime {
    dragon::init().expect("a bench runs where dragon runs")
}

/// Ranks of a job on this machine.
const RANKS: &str = "64";

/// Milliseconds from the start of a launcher to its end, or what went wrong.
fn launched(launcher: &str, program: &Path, role: &str) -> Result<f64, String> {
    let mut command = Command::new(launcher);
    if launcher.ends_with("openmpi") {
        command.args(["--oversubscribe", "--bind-to", "none"]);
    }
    command.args(["-np", RANKS]).arg(program).env("BENCH_ROLE", role).stdin(Stdio::null());
    // In a container everybody is root.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    let begin = Instant::now();
    let ended = command.output().map_err(|why| format!("{launcher}: {why}"))?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    match ended.status.success() {
        true => Ok(took),
        false => Err(format!("{launcher} {}: {}", program.display(), last_words(&ended))),
    }
}

/// How a program ended, and the last that it said about it.
fn last_words(ended: &Output) -> String {
    let said = [&ended.stdout[..], &ended.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    format!("{}; {}", ended.status, lines[lines.len().saturating_sub(5)..].join(" | "))
}

/// A job of ranks that only begin and end, ours and MPI's, by the same launcher.
fn ranks() {
    let Some(peers) = Peers::find() else { return };
    let this = std::env::current_exe().expect("/proc is mounted");
    for (title, launcher, program) in [
        ("start: 64 ranks under Open MPI's mpirun", "mpirun.openmpi", "mpi.openmpi"),
        ("start: 64 ranks under MPICH's mpiexec", "mpirun.mpich", "mpi.mpich"),
    ] {
        let Some(program) = peers.program(program).filter(|_| Race::is_wanted(title)) else { continue };
        // A launcher that is missing or does not work here, or a program built for another one, ends no bench.
        if let Err(why) = launched(launcher, &program, "") {
            println!("  peers:   skipped: {why}");
            continue;
        }
        let run = |program: &Path, role: &str| launched(launcher, program, role).unwrap_or_else(|why| panic!("{why}"));
        Race::new(title, "ms")
            .at_most_rounds(5)
            .runner("MPI_Init and MPI_Finalize", || run(&program, ""))
            .runner("init() and finalize()", || run(&this, "rank"))
            .run()
            .at_most("init() and finalize()", 2.0, "MPI_Init and MPI_Finalize");
    }
}

fn bench() {
    machine::print_head("start");
    ranks();
    let (bare, with_init) = (role::program("nothing"), role::program("init"));
    Race::new("start: a process from its spawn to its end", "ms")
        .runner("bare", || limits::spawn(&bare, 10, false) / 10.0)
        .runner("with init()", || limits::spawn(&with_init, 10, false) / 10.0)
        .run()
        .adds_less_than("with init()", "bare", 2.0);
    Race::new("start: init() by the process's own clock", "us")
        .runner("init()", || role::start("init, waiting").said.parse().expect("it says a number"))
        .run();
    Race::new("start: resident memory", "KiB")
        .runner("bare", || resident(&role::start("bare, waiting")))
        .runner("with init()", || resident(&role::start("init, waiting")))
        .run()
        .adds_less_than("with init()", "bare", 4096.0);
    Race::new("start: threads", "threads")
        .at_most_rounds(1)
        .runner("bare", || status(&role::start("bare, waiting"), "Threads:"))
        .runner("with init()", || status(&role::start("init, waiting"), "Threads:"))
        .run();
    Race::new("start: CPU time of an idle process in 2 s", "us")
        .at_most_rounds(3)
        .runner("bare", || idle_cpu("bare, waiting"))
        .runner("with init()", || idle_cpu("init, waiting"))
        .runner("with a pool of two, and its workers", || idle_cpu("pool, waiting"))
        .run()
        .adds_less_than("with init()", "bare", 1.0)
        .adds_less_than("with a pool of two, and its workers", "bare", 1.0);
}

/// Pages in memory, shared ones included, in KiB.
fn resident(process: &Waiting) -> f64 {
    status(process, "VmRSS:")
}

/// A number from what the kernel says about a process.
fn status(process: &Waiting, field: &str) -> f64 {
    let text = read(&format!("/proc/{}/status", process.id()));
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel says it");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("it is a number")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// CPU time of a process and its children while nobody asks anything of them, in microseconds.
fn idle_cpu(role: &str) -> f64 {
    let process = role::start(role);
    // What it still does on its way to sleep is not idleness.
    thread::sleep(Duration::from_millis(200));
    let before = cpu_nanoseconds(process.id());
    thread::sleep(WATCHED);
    (cpu_nanoseconds(process.id()) - before) as f64 / 1e3
}

fn cpu_nanoseconds(process: u32) -> u64 {
    let numbers = |path: PathBuf| {
        let text = read(&path.to_string_lossy());
        text.split_whitespace().map(|number| number.parse().expect("it is a number")).collect::<Vec<u64>>()
    };
    let of_thread = |thread: io::Result<fs::DirEntry>| {
        let thread = thread.expect("the threads of an idle process stay").path();
        let children = numbers(thread.join("children"));
        let below: u64 = children.into_iter().map(|child| cpu_nanoseconds(child as u32)).sum();
        below + numbers(thread.join("schedstat"))[0]
    };
    fs::read_dir(format!("/proc/{process}/task")).expect("it lives").map(of_thread).sum()
}
