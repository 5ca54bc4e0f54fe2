//! Jobs of several ranks for tests: the test binary started so many times, as any launcher would.
//!
//! Each rank runs the test `a_rank_of_a_job` of its binary, which does what `PART` names. Ranks that differ in
//! `DRAGON_NODE_ID` are different nodes, which reach each other by tcp only.
#![allow(dead_code)] // Each binary takes what it needs.

pub mod copied;
pub mod shared;
pub mod until;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes that works.
pub const LONG: Duration = Duration::from_secs(60);

/// The ranks of a job under way.
pub struct Job(pub Vec<Child>);

/// Starts a job whose rank `r` is on node `nodes[r]`.
pub fn start(part: &str, nodes: &[u32]) -> Job {
    start_with(part, nodes, |_| Vec::new())
}

/// The same, with variables for each rank.
pub fn start_with(part: &str, nodes: &[u32], variables: impl Fn(usize) -> Vec<(&'static str, String)>) -> Job {
    start_through(&[], part, nodes, variables)
}

/// The same, by way of a program that becomes the rank in the end: its words come before the rank's own.
pub fn start_through(
    words: &[&str],
    part: &str,
    nodes: &[u32],
    variables: impl Fn(usize) -> Vec<(&'static str, String)>,
) -> Job {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
    let rank = |rank: usize| {
        let program = std::env::current_exe().unwrap();
        let mut line = words.iter().map(PathBuf::from).chain([program]);
        Command::new(line.next().unwrap())
            .args(line)
            .args(["a_rank_of_a_job", "--exact", "--nocapture"])
            .env("PART", part)
            .env("DRAGON_RENDEZVOUS", format!("127.0.0.1:{port}"))
            .env("DRAGON_RANK", rank.to_string())
            .env("DRAGON_SIZE", nodes.len().to_string())
            .env("DRAGON_NODE_ID", nodes[rank].to_string())
            .env("DRAGON_SECRET", "a secret of this test and no other")
            .envs(variables(rank))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    Job((0..nodes.len()).map(rank).collect())
}

impl Job {
    /// Waits until all ranks have ended.
    pub fn outputs(self) -> Vec<Output> {
        let begun = Instant::now();
        let mut ranks = self.0;
        while ranks.iter_mut().any(|rank| rank.try_wait().unwrap().is_none()) {
            if begun.elapsed() > LONG {
                ranks.iter_mut().for_each(|rank| drop(rank.kill()));
                let said: Vec<_> = ranks.into_iter().map(|rank| text(&rank.wait_with_output().unwrap())).collect();
                panic!("the job hangs: {said:#?}");
            }
            // between two looks
            std::thread::sleep(Duration::from_millis(5));
        }
        ranks.into_iter().map(|rank| rank.wait_with_output().unwrap()).collect()
    }

    /// Waits until all ranks have ended well.
    pub fn ends_well(self) {
        self.ends_well_but(&[]);
    }

    /// Waits until all ranks have ended, all but `dead` well.
    pub fn ends_well_but(self, dead: &[usize]) {
        let outputs = self.outputs();
        let said = || outputs.iter().map(text).collect::<Vec<_>>().join("\n---- next rank:\n");
        let well = |(rank, output): (usize, &Output)| output.status.success() != dead.contains(&rank);
        assert!(outputs.iter().enumerate().all(well), "{}", said());
    }
}

/// All that a rank said.
pub fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}
