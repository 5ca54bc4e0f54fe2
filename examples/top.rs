//! Looks at a running job from outside: `cargo run --release --example top -- [PID]`, beside any program of dragon's.
//!
//! On a terminal the table is refreshed in place; otherwise each look is a row of labelled lines.
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::{thread, time::Duration};

use clap::Parser;
use dragon::observe::{Counters, Job, Stats, jobs};

/// Shows the processes, queues and locks of a running job.
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
    let watched = pid.map(Job::of_process).transpose()?;
    let mut before = HashMap::new();
    loop {
        let all = if pid.is_none() { jobs() } else { Vec::new() };
        let running = watched.iter().chain(&all).filter(|job| !job.is_over());
        let mut look =
            |job: &Job| if terminal { table(job, &mut before, every) } else { lines(&job.id(), &job.stats()) };
        let text: String = running.map(&mut look).collect();
        let over = text.is_empty();
        let text = if over { "no job is running\n".into() } else { text };
        // On a terminal: home, each line up to its end, and whatever is left below.
        let text = if terminal { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        // Who reads may have gone.
        let written = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
        if once || written.is_err() || over && (pid.is_some() || !terminal) {
            break Ok(());
        }
        thread::sleep(Duration::from_secs_f64(every.max(0.05)));
    }
}

fn table(job: &Job, before: &mut HashMap<String, Counters>, every: f64) -> String {
    let (stats, id) = (job.stats(), job.id());
    let [used, taken] = [stats.memory.in_use, stats.memory.committed].map(|bytes| bytes >> 20);
    let mut text = format!("job {id}: {} processes, {used} MiB in use of {taken}\n", stats.processes.len());
    text += "OBJECT   KIND       NAME               LEN     OF OPEN    PUT/S    GET/S    MB/S SLEEP/S    HIGH DEAD\n";
    for o in &stats.objects {
        let c = o.counters;
        let b = before.insert(id.clone() + &o.id, c).unwrap_or(c);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / every;
        let [len, of] = [o.len, o.capacity].map(|n| n.map_or("-".into(), |n| n.to_string()));
        let (kind, name, open) = (o.kind.to_string(), o.name.as_deref().unwrap_or("-"), o.open_in);
        text += &format!("{:<8} {kind:<10} {name:<14.14} {len:>7} {of:>6} {open:>4} ", o.id);
        text += &format!("{:>8.0} {:>8.0} ", rate(c.puts, b.puts), rate(c.gets, b.gets));
        text += &format!("{:>7.1} {:>7.0} ", rate(c.bytes, b.bytes) / 1e6, rate(c.waits, b.waits));
        text += &format!("{:>7} {:>4}\n", c.high_water, c.deaths);
    }
    text
}

fn lines(id: &str, Stats { memory, processes, objects, .. }: &Stats) -> String {
    let head = format!("job={id} processes={} in_use={}\n", processes.len(), memory.in_use);
    head + &objects.iter().map(|object| format!("job={id} {object}\n")).collect::<String>()
}
