//! The example `ranks` under the launchers that are installed: what a user types first on a cluster.

use std::path::PathBuf;
use std::process::Command;

const RANKS: usize = 4;

/// An example as `cargo test` has built it, beside this test.
fn example() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.join("ranks")
}

/// Runs the example in a job of four ranks; `words` stand before it.
fn under(launcher: &str, words: &[&str]) {
    let mut command = Command::new(launcher);
    let started = command.args(words).arg("-n").arg(RANKS.to_string()).arg(example()).output();
    let output = match started {
        Ok(output) => output,
        Err(error) => return println!("SKIPPED: {launcher} cannot be started here: {error}"),
    };
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{launcher}: {}\n{said}\n{wrong}", output.status);
    assert!(said.contains("4 ranks on 1 nodes"), "{launcher}: {said}\n{wrong}");
    let rows: Vec<&str> = said.lines().skip_while(|line| !line.contains("local rank")).skip(1).collect();
    let ranks: Vec<usize> = rows.iter().filter_map(|row| row.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(ranks, (0..RANKS).collect::<Vec<_>>(), "{launcher}: {said}");
}

#[test]
fn open_mpi() {
    under("mpirun.openmpi", &["--allow-run-as-root", "--oversubscribe"]);
}

#[test]
fn mpich() {
    under("mpiexec.hydra", &[]);
}

#[test]
fn nobody() {
    let output = Command::new(example()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 ranks on 1 nodes"), "{said}");
}
