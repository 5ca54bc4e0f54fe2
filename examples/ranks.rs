//! Every rank of a job says who it is to the leader, which prints a table.
//!
//! ```text
//! cargo run --release --example ranks                                    # one rank
//! mpirun -n 4 target/release/examples/ranks                              # Open MPI, MPICH, Intel MPI
//! srun -n 4 target/release/examples/ranks                                # Slurm
//! ```
#![allow(missing_docs, reason = "an example")]

use dragon::Queue;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Greeting {
    rank: usize,
    node: u32,
    local_rank: usize,
    pid: u32,
    host: String,
}

fn main() -> dragon::Result<()> {
    let dragon = dragon::init()?;
    let greeting = Greeting {
        rank: dragon.rank(),
        node: dragon.node().number(),
        local_rank: dragon.local_rank(),
        pid: std::process::id(),
        host: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().into(),
    };
    if dragon.is_leader() {
        let greetings = Queue::builder().name("greetings").build()?;
        greetings.put(greeting)?;
        let mut all: Vec<Greeting> = greetings.iter().take(dragon.size()).collect::<dragon::Result<_>>()?;
        all.sort_by_key(|greeting| greeting.rank);
        println!("{} ranks on {} nodes", dragon.size(), dragon.nodes().len());
        println!("{:>6}{:>6}{:>12}{:>9}  host", "rank", "node", "local rank", "pid");
        for Greeting { rank, node, local_rank, pid, host } in all {
            println!("{rank:>6}{node:>6}{local_rank:>12}{pid:>9}  {host}");
        }
    } else {
        // The leader makes it as soon as it has started.
        let greetings: Queue<Greeting> = Queue::open_timeout("greetings", std::time::Duration::from_secs(30))?;
        greetings.put(greeting)?;
    }
    dragon.finalize()
}
