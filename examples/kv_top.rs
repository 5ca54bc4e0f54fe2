//! Looks at the dictionaries of running jobs from outside: `cargo run --release --example kv_top`, beside any program of
//! dragon's that has some.
//!
//! On a terminal the table is refreshed in place, with a bar for the memory in use; otherwise each look is a row of labelled lines.
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::{thread, time::Duration};

use clap::Parser;
use dragon::observe::{DDictSight, Job, jobs};

/// Shows keys, memory and writes of the dictionaries of a running job.
#[derive(Parser)]
struct Options {
    /// A process of the job; by default every job of this user on this machine is shown.
    pid: Option<u32>,
    /// Look once and go.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1.0)]
    every: f64,
}

fn main() -> dragon::Result<()> {
    let Options { pid, once, every } = Options::parse();
    let terminal = std::io::stdout().is_terminal();
    let mut before = HashMap::new();
    loop {
        let jobs = pid.map_or_else(|| Ok(jobs()), |pid| Job::of_process(pid).map(|job| vec![job]));
        let mut text = String::new();
        for job in jobs?.iter().filter(|job| !job.is_over()) {
            for dict in job.dicts() {
                let then = before.insert(job.id() + &dict.id, dict.writes).unwrap_or(dict.writes);
                let rate = dict.writes.saturating_sub(then) as f64 / every;
                text += &if terminal { row(&dict, rate) } else { line(&job.id(), &dict) };
            }
        }
        let head = "DICTIONARY             OPEN MANAGERS       KEYS      MiB  OF MiB                       WRITES/S CHECKPOINT\n";
        let text = if text.is_empty() { "no dictionary is there\n".into() } else { text };
        let text =
            if terminal { format!("\x1b[H{}\x1b[J", format!("{head}{text}").replace('\n', "\x1b[K\n")) } else { text };
        // Who reads may have gone.
        let written = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
        if once || written.is_err() {
            break Ok(());
        }
        thread::sleep(Duration::from_secs_f64(every.max(0.05)));
    }
}

fn row(dict: &DDictSight, rate: f64) -> String {
    let sum = |of: fn(&dragon::observe::ManagerSight) -> u64| dict.managers.iter().map(of).sum::<u64>();
    let (keys, used, limit) = (sum(|m| m.keys), sum(|m| m.in_use), sum(|m| m.limit).max(1));
    let bar = "#".repeat((used * 20 / limit) as usize);
    let (name, frozen) = (dict.name.as_ref().unwrap_or(&dict.id), if dict.frozen { " frozen" } else { "" });
    let [used, limit] = [used, limit].map(|bytes| bytes >> 20);
    let (open, managers, checkpoint) = (dict.open_in, dict.managers.len(), dict.newest_checkpoint);
    format!(
        "{name:<22.22} {open:>4} {managers:>8} {keys:>10} {used:>8} {limit:>7} [{bar:<20}] {rate:>8.0} {checkpoint:>10}{frozen}\n"
    )
}

fn line(job: &str, dict: &DDictSight) -> String {
    let DDictSight { id, name, open_in, writes, newest_checkpoint, frozen, .. } = dict;
    let head = format!("job={job} dict={id} name={:?} open_in={open_in}", name.as_deref().unwrap_or(""));
    let mut text = format!("{head} writes={writes} checkpoint={newest_checkpoint} frozen={frozen}\n");
    for (number, manager) in dict.managers.iter().enumerate() {
        let (keys, in_use, limit) = (manager.keys, manager.in_use, manager.limit);
        text += &format!("job={job} dict={id} manager={number} keys={keys} in_use={in_use} limit={limit}\n");
    }
    text
}
