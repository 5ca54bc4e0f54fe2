//! A process for each node, each cpu, or each GPU of a job: every one says where it is and what it sees.
//!
//! ```text
//! cargo run --release --example process_group                     # one for each node
//! cargo run --release --example process_group -- --per cpu        # one bound to each cpu
//! cargo run --release --example process_group -- --per gpu        # one that sees each GPU
//! mpirun -n 2 target/release/examples/process_group               # the same on many nodes
//! ```
#![allow(missing_docs, reason = "an example")]

use clap::{Parser, ValueEnum};
use dragon::{ProcessGroup, Queue, Template};

#[derive(Clone, Copy, ValueEnum)]
enum Per {
    Node,
    Cpu,
    Gpu,
}

/// Runs a function on each node, cpu or GPU.
#[derive(Parser)]
struct Arguments {
    /// What each process is for.
    #[arg(long, value_enum, default_value = "node")]
    per: Per,
    /// How many processes for each.
    #[arg(long, default_value_t = 1)]
    processes: usize,
}

/// What a process of the group does.
fn look(sayings: Queue<String>) -> Result<(), String> {
    let dragon = dragon::init().map_err(|error| error.to_string())?;
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let cpus =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("?").trim().to_string();
    let variables = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"];
    let gpus = variables.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| "all".into());
    let saying = format!("{}, pid {}: cpus {cpus}, GPUs {gpus}", dragon.node(), std::process::id());
    sayings.put(saying).map_err(|error| error.to_string())
}

fn main() -> dragon::Result<()> {
    let arguments = Arguments::parse();
    dragon::run(|dragon| {
        let policies = match arguments.per {
            Per::Node => dragon.system().node_policies(),
            Per::Cpu => dragon.system().cpu_policies(),
            Per::Gpu => dragon.system().gpu_policies(),
        };
        let sayings = Queue::unbounded()?;
        let mut group = ProcessGroup::builder().name("look").build()?;
        for policy in &policies {
            group.add(arguments.processes, Template::function(look, sayings.clone()).policy(policy.clone()))?;
        }
        if group.is_empty() {
            println!("there is none of these in this job");
            return Ok(());
        }
        group.start()?;
        for exit in group.join()?.iter().filter(|exit| !exit.success()) {
            println!("{exit}");
        }
        sayings.close();
        let mut said = sayings.iter().collect::<dragon::Result<Vec<String>>>()?;
        said.sort();
        said.iter().for_each(|saying| println!("{saying}"));
        println!("{} processes for {} places", group.len(), policies.len());
        Ok(())
    })
    .map(drop)
}
