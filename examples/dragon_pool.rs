//! Workers that say where they are: of a plain pool, and of one that is bound by a list of policies.
//!
//! ```text
//! cargo run --release --example dragon_pool                             # plain: on all nodes, unbound
//! cargo run --release --example dragon_pool -- --bound --per-policy 2   # two workers for each GPU, or cpu if there is no GPU
//! srun -N 2 --ntasks-per-node 1 target/release/examples/dragon_pool     # the same on two nodes; see examples/submit
//! ```
#![allow(missing_docs, reason = "an example")]

use std::{collections::BTreeMap, env, fs, process, thread, time::Duration};

use clap::Parser;
use dragon::{Pool, Runtime};

/// Shows on which nodes, cpus and GPUs the workers of a pool run.
#[derive(Parser)]
struct Options {
    /// Bind the workers: a list of policies, one for each GPU of the job, or for each cpu if it has no GPUs.
    #[arg(long)]
    bound: bool,
    /// Workers for each policy of the list.
    #[arg(long, default_value_t = 1)]
    per_policy: usize,
    /// Workers of the plain pool; by default as many as the nodes can run at a time.
    #[arg(long)]
    workers: Option<usize>,
}

/// Runs in a worker: its host, process id, cpus and the GPUs it is to see.
fn whereabouts(_item: usize) -> (String, u32, String, String) {
    thread::sleep(Duration::from_millis(5)); // the work
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("?").trim();
    let gpus = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"]
        .map(|name| env::var(name).map_or_else(|_| String::new(), |value| format!(" {name}={value}")));
    (read("/proc/sys/kernel/hostname").trim().into(), process::id(), cpus.into(), gpus.concat())
}

fn show(dragon: &Runtime, options: &Options) -> dragon::Result<()> {
    let system = dragon.system();
    let (nodes, gpus) = (system.nodes().len(), system.gpus().len());
    println!("{nodes} nodes, {} cpus to run on, {gpus} GPUs", system.parallelism());
    let builder = match (options.bound, options.workers) {
        (true, _) if gpus > 0 => Pool::builder().policies(system.gpu_policies(), options.per_policy),
        (true, _) => Pool::builder().policies(system.cpu_policies(), options.per_policy),
        (false, Some(workers)) => Pool::builder().processes(workers),
        (false, None) => Pool::builder(),
    };
    let pool = builder.build()?;
    let mut workers = BTreeMap::new();
    for worker in pool.chunk(1).map(whereabouts, 0..16 * pool.size())? {
        *workers.entry(worker).or_insert(0) += 1;
    }
    for ((host, pid, cpus, gpus), tasks) in workers {
        println!("host {host} pid {pid} cpus {cpus}{gpus}: {tasks} tasks");
    }
    Ok(())
}

fn main() -> dragon::Result<()> {
    let options = Options::parse();
    dragon::run(|dragon| show(dragon, &options)).map(drop)
}
