//! The head of every bench: where and of what its figures are.

use std::{fs, process::Command, thread};

use super::os;

/// Prints machine, build and load. A figure without them is hearsay.
pub fn print_head(bench: &str) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let [here, there] = os::two_cores();
    println!("{bench}");
    println!("  machine: {}, {cores} cores (partners on {here} and {there}), Linux {}", processor(), kernel());
    println!("  build:   {}, commit {}, rounds take turns, medians of rounds", profile(), commit());
    let load = load();
    println!("  load:    {load} before the first race");
    if load > cores as f64 / 2.0 {
        println!("  WARNING: others are at work here: whatever spins for its partner measures the scheduler");
    }
    if here == there {
        println!("  WARNING: only one core, which is as bad as others at work");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().into()
}

fn processor() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    model.unwrap_or("unknown processor").into()
}

fn kernel() -> String {
    read("/proc/sys/kernel/osrelease")
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "DEBUG (figures mean nothing)" } else { "optimised" }
}

/// The commit of the checkout, if this is one and there is a git to ask.
fn commit() -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain"]).is_some_and(|files| !files.is_empty());
    if changed { format!("{commit} with changes") } else { commit }
}

/// Runnable threads, averaged by the kernel over the last minute.
fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}
