//! What this program does when a bench starts it again as a child: less than a bench.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::os::Program;

const ROLE: &str = "BENCH_ROLE";

/// The role of this process: empty for the bench itself.
pub fn mine() -> String {
    env::var(ROLE).unwrap_or_default()
}

fn this_program() -> PathBuf {
    env::current_exe().expect("/proc is mounted")
}

/// This program in a role, to be spawned and reaped.
pub fn program(role: &str) -> Program {
    Program::new(&this_program().to_string_lossy(), Some((ROLE, role)))
}

/// A child in a role that says one line when it is ready, then waits to be dropped.
pub struct Waiting {
    child: Child,
    /// What it said.
    pub said: String,
}

/// Starts this program in a role and waits for its line.
pub fn start(role: &str) -> Waiting {
    let mut command = Command::new(this_program());
    command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("this program can be started");
    let mut said = String::new();
    let output = child.stdout.as_mut().expect("asked for above");
    BufReader::new(output).read_line(&mut said).expect("the child says a line");
    Waiting { child, said: said.trim().into() }
}

/// The child's side of [`start`]: says the line and waits for the parent to let go.
pub fn wait_for_parent(line: &str) {
    println!("{line}");
    let _ = std::io::stdin().read(&mut [0]);
}

impl Waiting {
    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = self.child.wait().expect("nobody else reaps it");
        assert!(ended.success(), "the child ended with {ended}");
    }
}
