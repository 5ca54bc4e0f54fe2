//! The example `ranks` under the launchers that are installed, with the lines of README.md: what a user types first on a
//! cluster. On this machine, and on two nodes made of namespaces (`tests/nodes.sh`), which need root.

#[path = "common/slurm.rs"]
mod slurm;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

const RANKS: usize = 4;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nodes.sh");

/// An example as `cargo test` has built it, beside this test.
fn example() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.join("ranks")
}

/// Whether README.md tells users to type this.
fn is_in_readme(line: &str) -> bool {
    let readme = include_str!("../README.md");
    readme.lines().any(|written| written.starts_with(&format!("$ {line} ")))
}

/// Runs the example in a job of four ranks; `words` stand before it.
fn under(launcher: &str, words: &[&str], nodes: usize) {
    let mut command = Command::new("timeout");
    command.arg("60").arg(launcher).args(words).arg("-n").arg(RANKS.to_string()).arg(example());
    check(&mut command, launcher, nodes, nodes);
}

fn check(command: &mut Command, launcher: &str, nodes: usize, names: usize) {
    let output = command.output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(127) {
        return println!("SKIPPED: {launcher} cannot be started here: {wrong}");
    }
    assert!(output.status.success(), "{launcher}: {}\n{said}\n{wrong}", output.status);
    assert!(said.contains(&format!("4 ranks on {nodes} nodes")), "{launcher}: {said}\n{wrong}");
    let rows: Vec<&str> = said.lines().skip_while(|line| !line.contains("local rank")).skip(1).collect();
    let ranks: Vec<usize> = rows.iter().filter_map(|row| row.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(ranks, (0..RANKS).collect::<Vec<_>>(), "{launcher}: {said}");
    let hosts: std::collections::BTreeSet<&str> = rows.iter().filter_map(|row| row.split_whitespace().last()).collect();
    assert_eq!(hosts.len(), names, "{launcher}: {said}");
}

#[test]
fn open_mpi() {
    assert!(is_in_readme("mpirun -n 4 target/release/examples/ranks"));
    under("mpirun.openmpi", &["--allow-run-as-root", "--oversubscribe"], 1);
}

#[test]
fn mpich() {
    assert!(is_in_readme("mpiexec -n 4 target/release/examples/ranks"));
    under("mpiexec.hydra", &[], 1);
}

#[test]
fn slurm() {
    assert!(is_in_readme("srun -N 2 -n 8 target/release/examples/ranks"));
    let Some(slurm) = slurm::Slurm::start() else { return };
    // Its two nodes are one machine, where ranks share memory: one node, unless they are told that it is two.
    check(slurm.run("srun -N 2 -n 4", None).arg(example()), "srun", 1, 1);
    let told = "DRAGON_NODE_ID=$SLURM_NODEID exec \"$0\"";
    check(slurm.run("srun -N 2 -n 4 sh -c", None).arg(told).arg(example()), "srun", 2, 1);
}

/// Two nodes of the bed, and a command that does there what `ssh` does elsewhere.
struct Bed {
    agent: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Bed {
    fn make() -> Option<Bed> {
        static BED: Mutex<()> = Mutex::new(());
        let alone = BED.lock().unwrap_or_else(PoisonError::into_inner);
        let up = Command::new("bash").arg(SCRIPT).args(["up", "2"]).output().unwrap();
        if !up.status.success() {
            println!("SKIPPED: only root can make nodes ({SCRIPT} up)");
            return None;
        }
        let agent = tempfile::tempdir().unwrap();
        let text = format!(
            "#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\nhost=$1\nshift\n\
             exec bash {SCRIPT} exec $((${{host##*.}} - 1)) sh -c \"$*\"\n"
        );
        let program = agent.path().join("agent");
        std::fs::write(&program, text).unwrap();
        let permissions: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, permissions).unwrap();
        Some(Bed { agent, _alone: alone })
    }

    fn agent(&self) -> String {
        self.agent.path().join("agent").display().to_string()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(Command::new("bash").arg(SCRIPT).arg("down").output());
    }
}

#[test]
fn open_mpi_on_two_nodes() {
    let Some(bed) = Bed::make() else { return };
    let (agent, root) = (bed.agent(), "--allow-run-as-root");
    let words = [root, "--mca", "plm_rsh_agent", &agent, "--host", "10.78.0.1:2,10.78.0.2:2"];
    under("mpirun.openmpi", &words, 2);
}

/// Ranks on several machines find each other by PMIx, which is a library of the user's machine.
#[test]
fn a_wrong_library_is_named_on_every_rank_and_nobody_waits() {
    let Some(bed) = Bed::make() else { return };
    let words = ["--allow-run-as-root", "--mca", "plm_rsh_agent", &bed.agent(), "--host", "10.78.0.1:1,10.78.0.2:1"];
    let mut command = Command::new("timeout");
    command.args(["50", "mpirun.openmpi"]).args(words).args(["-x", "DRAGON_LIBPMIX=/no/such/libpmix.so", "-n", "2"]);
    let output = command.arg(example()).output().unwrap();
    let wrong = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(127) {
        return println!("SKIPPED: mpirun.openmpi cannot be started here: {wrong}");
    }
    assert!(!output.status.success() && output.status.code() != Some(124), "{}\n{wrong}", output.status);
    let named = |line: &&str| line.contains("/no/such/libpmix.so") && line.contains("DRAGON_LIBPMIX");
    assert_eq!(wrong.lines().filter(named).count(), 2, "{wrong}");
}

#[test]
fn mpich_on_two_nodes() {
    let Some(bed) = Bed::make() else { return };
    let agent = bed.agent();
    let way = ["-launcher", "ssh", "-launcher-exec", &agent, "-iface", "dragon-bed"];
    under("mpiexec.hydra", &[&way[..], &["-hosts", "10.78.0.1,10.78.0.2", "-ppn", "2"]].concat(), 2);
}

/// The lines of README.md for those who have no launcher.
#[test]
fn by_hand_and_as_torchrun_does() {
    let port = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (port(), port());
    let folder = folder.path().display().to_string();
    let ways: [&[(&'static str, String)]; 3] = [
        &[("DRAGON_RENDEZVOUS", format!("127.0.0.1:{first}")), ("DRAGON_SIZE", "2".into())],
        &[("DRAGON_RENDEZVOUS", format!("file:{folder}")), ("DRAGON_SIZE", "2".into())],
        &[
            ("WORLD_SIZE", "2".into()),
            ("LOCAL_WORLD_SIZE", "2".into()),
            ("MASTER_ADDR", "127.0.0.1".into()),
            ("MASTER_PORT", second.to_string()),
        ],
    ];
    for way in ways {
        let start = |rank: usize| {
            let mut command = Command::new("timeout");
            command.arg("60").arg(example()).env("DRAGON_SECRET", "0123456789abcdef0123456789abcdef");
            command.envs(way.iter().cloned());
            let torch = way.len() > 2;
            command.env(if torch { "RANK" } else { "DRAGON_RANK" }, rank.to_string());
            if torch {
                command.env("LOCAL_RANK", rank.to_string());
            }
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        };
        let outputs = [start(0), start(1)].map(|rank| rank.wait_with_output().unwrap());
        let said = outputs.iter().map(|output| format!("{output:?}")).collect::<Vec<_>>().join("\n");
        assert!(outputs.iter().all(|output| output.status.success()), "{said}");
        assert!(String::from_utf8_lossy(&outputs[0].stdout).contains("2 ranks on 1 nodes"), "{said}");
    }
}

#[test]
fn nobody() {
    let output = Command::new(example()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 ranks on 1 nodes"), "{said}");
}
