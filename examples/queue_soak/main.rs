//! Producers and consumers of one queue, of which one is killed (`kill -9`) at a random instant, a thousand times.
//!
//! At the end every message whose put returned has come once, but for at most one for each consumer that was killed;
//! each producer's messages came in their order, but for those; and the heap is as it was before.
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use dragon::{Pool, Queue, Result, Task, WorkerState};
use indicatif::ProgressBar;
use ledger::{Balance, Ledger};

mod ledger;
mod roles;

#[derive(Parser)]
struct Options {
    /// Processes to kill.
    #[arg(long, default_value_t = 1000)]
    kills: u64,
    /// A queue for so many messages; 0: one without a bound.
    #[arg(long, default_value_t = 64)]
    capacity: usize,
    /// Seconds after which no more are killed.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
}

fn main() -> Result<()> {
    let (options, dragon) = (Options::parse(), dragon::init()?);
    let before = dragon.stats().memory.in_use;
    let (killed, consumers, Balance { put, lost, doubled, late }) = soak(&options)?;
    let more = dragon.stats().memory.in_use as i64 - before as i64;
    println!("{killed} killed, {consumers} of them consumers");
    println!("{put} messages: {lost} lost, {doubled} doubled, {late} late; {more} bytes more in use than before");
    assert!(lost <= consumers && late <= consumers as u64 && doubled == 0 && more == 0, "a promise is broken");
    Ok(())
}

/// Keeps two producers and two consumers running. How many were killed, how many consumers, and what the books say.
fn soak(options: &Options) -> Result<(u64, usize, Balance)> {
    let queue = if options.capacity == 0 { Queue::unbounded() } else { Queue::bounded(options.capacity) }?;
    let (pool, ledger, mut next) = (Pool::new(4)?, Ledger::new()?, 0);
    let mut start = |produces: bool| {
        next += usize::from(produces);
        let job = (queue.clone(), ledger.clone(), next);
        let task = if produces { pool.submit(roles::produce, job) } else { pool.submit(roles::consume, job) };
        task.map(|task| (produces, task))
    };
    let mut tasks = vec![start(true)?, start(true)?, start(false)?, start(false)?];
    let (bar, begin, mut random, mut consumers) = (ProgressBar::new(options.kills), Instant::now(), 1_u64, 0);
    while bar.position() < options.kills && begin.elapsed() < Duration::from_secs(options.seconds) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(random >> 52));
        for (produces, task) in &mut tasks {
            if let Some(ended) = task.try_get() {
                consumers += usize::from(!*produces && ended.is_err());
                (*produces, *task) = start(*produces)?;
            }
        }
        // One that has begun with its task: a pool gives up if three in a row die before.
        let busy: Vec<_> = pool.workers().into_iter().filter(|worker| worker.state == WorkerState::Busy).collect();
        let Some(victim) = busy.get((random >> 32) as usize % busy.len().max(1)) else { continue };
        // It fails for one that has just ended by itself.
        let kill = Command::new("kill").args(["-9", &victim.pid.to_string()]).output();
        bar.inc(kill.is_ok_and(|output| output.status.success()).into());
    }
    queue.close();
    let lost = |(produces, task): &(bool, Task<()>)| task.get_timeout(Duration::from_secs(30)).is_err() && !produces;
    consumers += tasks.iter().filter(|task| lost(task)).count();
    roles::consume((queue, ledger.clone(), 0));
    pool.close();
    pool.join()?;
    Ok((bar.position(), consumers, ledger.balance()?))
}
