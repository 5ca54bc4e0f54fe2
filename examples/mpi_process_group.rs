//! Runs an MPI program in C as a group of processes, without any `mpiexec`: on this node, or on all nodes of a job.
//!
//! ```text
//! mpicc -o hello examples/mpi/hello.c          # MPICH's, Intel's or Open MPI's
//! cargo run --release --example mpi_process_group -- --ranks 4 ./hello
//! cargo run --release --example mpi_process_group            # builds hello.c with the mpicc of PATH itself
//! srun -n 2 target/release/examples/mpi_process_group        # 4 ranks on each of two nodes
//! ```
#![allow(missing_docs, reason = "an example")]

use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use dragon::{Pmi, Policy, ProcessGroup, Template};

#[derive(Parser)]
struct Arguments {
    /// Ranks on each node.
    #[arg(long, default_value_t = 4)]
    ranks: usize,
    /// The program; examples/mpi/hello.c, built for the occasion, if none is named.
    program: Option<PathBuf>,
    /// What it is told.
    words: Vec<String>,
}

fn main() -> dragon::Result<()> {
    let arguments = Arguments::parse();
    // The other ranks of the job, if there are any, lend their nodes until the first is done.
    dragon::run(|dragon| {
        let Some(program) = arguments.program.clone().or_else(build) else {
            println!("no mpicc in PATH, and no program was named: nothing to run");
            return Ok(());
        };
        let mut group = ProcessGroup::builder().name("mpi").pmi(Pmi::Auto).build()?;
        for node in dragon.nodes() {
            let template = Template::program(&program).args(&arguments.words);
            group.add(arguments.ranks, template.policy(Policy::new().node(node)))?;
        }
        group.start()?;
        let exits = group.join()?;
        if arguments.program.is_none() {
            let _ = std::fs::remove_file(&program); // it was built for the occasion
        }
        let well = exits.iter().filter(|exit| exit.success()).count();
        println!("{well} of {} ranks ended well", exits.len());
        if let Some(why) = group.broken() {
            println!("the group ended early: {why}");
        }
        Ok(())
    })?;
    Ok(())
}

/// Builds the hello with whatever compiler there is.
fn build() -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mpi/hello.c");
    let program = std::env::temp_dir().join(format!("dragon-mpi-hello-{}", std::process::id()));
    let compile = |compiler: &&str| {
        Command::new(compiler).args(["-o"]).arg(&program).arg(source).status().is_ok_and(|s| s.success())
    };
    ["mpicc", "mpicc.mpich", "mpicc.openmpi"].iter().find(|compiler| compile(compiler)).map(|_| program.clone())
}
