//! MPI programs started by us against those started by their own `mpiexec`: how soon they have left `MPI_Init`, and whether
//! they run as fast inside.

mod common;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::machine;
use common::role;
use common::table::Race;
use dragon::{Pmi, ProcessGroup, Template};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/mpi_times.c");
/// As many as the machine of the record has cores.
const RANKS: usize = 2;

struct Library {
    compiler: &'static str,
    launcher: &'static [&'static str],
    init: &'static str,
    latency: [&'static str; 2],
}

const MPICH: Library = Library {
    compiler: "mpicc.mpich",
    launcher: &["mpiexec.hydra"],
    init: "mpi: until all ranks of MPICH have left MPI_Init",
    latency: ["mpi: latency in MPICH, 8 bytes", "mpi: latency in MPICH, 64 KiB"],
};
const OPEN_MPI: Library = Library {
    compiler: "mpicc.openmpi",
    launcher: &["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe"],
    init: "mpi: until all ranks of Open MPI have left MPI_Init",
    latency: ["mpi: latency in Open MPI, 8 bytes", "mpi: latency in Open MPI, 64 KiB"],
};

fn main() {
    // A child of the library never comes here; anything else that was started as a partner would be a mistake.
    assert_eq!(role::mine(), "", "this bench has no partners");
    machine::print_head("mpi");
    let _dragon = dragon::init().expect("a bench runs where dragon runs");
    [MPICH, OPEN_MPI].iter().for_each(race);
}

fn race(library: &Library) {
    let program = std::env::temp_dir().join(format!("dragon-mpi-times-{}", std::process::id()));
    let built = Command::new(library.compiler).args(["-O2", "-o"]).arg(&program).arg(SOURCE).status();
    if !built.is_ok_and(|status| status.success()) {
        return println!("SKIPPED: no {}", library.compiler);
    }
    Race::new(library.init, "ms")
        .runner("its own launcher", || left(|words| theirs(library, &program, words)))
        .runner("a group of ours", || left(|words| ours(&program, words)))
        .run()
        .at_most("a group of ours", 1.0, "its own launcher");
    for (title, bytes) in library.latency.into_iter().zip(["8", "65536"]) {
        Race::new(title, "us")
            .runner("its own launcher", || number(&theirs(library, &program, &["latency", bytes])))
            .runner("a group of ours", || number(&ours(&program, &["latency", bytes])))
            .run()
            .at_most("a group of ours", 1.05, "its own launcher");
    }
    let _ = std::fs::remove_file(program);
}

/// Milliseconds from the order until the last rank had left `MPI_Init`.
fn left(run: impl FnOnce(&[&str]) -> String) -> f64 {
    let begin = monotonic();
    let said = run(&["init"]);
    let last = said.lines().filter_map(|line| line.trim().parse::<i64>().ok()).max().expect("ranks say when");
    assert_eq!(said.lines().count(), RANKS, "{said}");
    (last - begin) as f64 / 1e6
}

fn number(said: &str) -> f64 {
    said.trim().parse().expect("rank 0 says a number")
}

/// What all ranks say, started by their own launcher.
fn theirs(library: &Library, program: &PathBuf, words: &[&str]) -> String {
    let mut command = Command::new(library.launcher[0]);
    command.args(&library.launcher[1..]).args(["-n", &RANKS.to_string()]).arg(program).args(words);
    let output = command.stderr(Stdio::inherit()).output().expect("the launcher is there");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// The same, started by us.
fn ours(program: &PathBuf, words: &[&str]) -> String {
    let mut group = ProcessGroup::builder().pmi(Pmi::Auto).build().expect("a group");
    let template = Template::program(program).args(words).stdout(dragon::Stdio::Pipe);
    group.add(RANKS, template).expect("a template that fits");
    group.start().expect("ranks");
    let mut said = String::new();
    for process in group.processes() {
        process.stdout().expect("its pipe").read_to_string(&mut said).expect("what it says");
    }
    assert!(group.join().expect("it was started").iter().all(dragon::Exit::success));
    said
}

fn monotonic() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one struct.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
