//! The scripts in `examples/submit` under stand-ins of the launchers, which note what they are told and run the program
//! once: that the scripts are sound, start the examples, and give each rank its whole node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Notes its name and arguments; then runs what comes behind the options, which is the first with a slash in it.
const LAUNCHER: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >> "$NOTES"
while [ $# -gt 0 ]; do case $1 in */*) exec "$@" ;; esac; shift; done
"#;

fn examples() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path
}

/// Runs a script with these variables; what it said, and what the launcher was told.
fn submit(script: &str, launcher: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(launcher);
    fs::write(&program, LAUNCHER).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("nodes"), "node1\nnode1\nnode2\n").unwrap();
    let notes = folder.path().join("notes");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/submit").join(script))
        .args(arguments)
        .env("PATH", path)
        .env("NOTES", &notes)
        .env("EXAMPLES", examples())
        .env("PBS_NODEFILE", folder.path().join("nodes"))
        .env("PBS_O_WORKDIR", folder.path())
        .env("DRAGON_FAKE_GPUS", "nvidia:2")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let noted = fs::read_to_string(notes).unwrap_or_default();
    assert!(output.status.success(), "{script}: {}\n{noted}", String::from_utf8_lossy(&output.stderr));
    (output, noted.lines().map(str::to_string).collect())
}

/// A script runs three examples, each by one step with these words.
fn runs_the_examples(script: &str, launcher: &str, variables: &[(&str, &str)], words: &[&str]) {
    let (output, noted) = submit(script, launcher, variables, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("1 ranks on 1 nodes"), "{script}: {said}");
    assert_eq!(said.matches("1 nodes, ").count(), 2, "{script}: {said}");
    assert_eq!(said.matches(" CUDA_VISIBLE_DEVICES=1: ").count(), 2, "two bound workers for each GPU: {said}");
    assert_eq!(noted.len(), 3, "{noted:?}");
    for step in &noted {
        assert!(words.iter().all(|word| step.contains(word)), "{script}: {words:?} in {step}");
    }
}

#[test]
fn slurm() {
    let variables = [("SLURM_JOB_NUM_NODES", "2"), ("SLURM_CPUS_ON_NODE", "64(x2)")];
    let words = ["srun ", "--nodes=2", "--ntasks-per-node=1", "--cpu-bind=none", "--cpus-per-task=64 "];
    runs_the_examples("slurm.sh", "srun", &variables, &words);
    let (output, noted) = submit("slurm.sh", "srun", &variables, &["/bin/echo", "a b"]);
    assert_eq!((output.stdout.as_slice(), noted.len()), (&b"a b\n"[..], 1));
}

#[test]
fn pbs() {
    runs_the_examples("pbs.sh", "mpiexec", &[], &["mpiexec -n 2 --ppn 1 --cpu-bind none"]);
    let (output, _) = submit("pbs.sh", "mpiexec", &[("PROGRAM", "/bin/echo a b")], &[]);
    assert_eq!(output.stdout, b"a b\n");
}

#[test]
fn flux() {
    let words = ["flux run --nodes=2 ", "--tasks-per-node=1", "cpu-affinity=off", "gpu-affinity=off"];
    runs_the_examples("flux.sh", "flux", &[("NODES", "2")], &words);
}
