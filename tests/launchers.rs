//! The example `ranks` under the launchers that are installed, with the lines of README.md: what a user types first on a
//! cluster. On this machine, and on two nodes made of namespaces (`tests/nodes.sh`), which need root.

#[path = "common/slurm.rs"]
mod slurm;

use std::path::PathBuf;
use std::process::{Command, Stdio};
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
    says(&said, &wrong, launcher, nodes, names);
}

/// The table that rank 0 prints names all four ranks.
fn says(said: &str, wrong: &str, launcher: &str, nodes: usize, names: usize) {
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

/// Ranks on two nodes of the bed, two on each, with the variables that a launcher sets which is not here: what is tried is
/// what we make of them, with real processes, networks and names.
fn as_if_by(launcher: &str, bed: &Bed, variables: impl Fn(usize) -> Vec<(&'static str, String)>) {
    let start = |rank: usize| {
        let mut command = Command::new("timeout");
        command.args(["60", "bash", SCRIPT, "exec", &(rank / 2).to_string()]).arg(example());
        // Its home, where the cookie is, is on all nodes.
        command.env("HOME", bed.agent.path()).envs(variables(rank)).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ranks: Vec<_> = (0..RANKS).map(start).collect();
    let outputs: Vec<_> = ranks.into_iter().map(|rank| rank.wait_with_output().unwrap()).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{launcher}: {outputs:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    says(&text(&outputs[0].stdout), &text(&outputs[0].stderr), launcher, 2, 2);
}

#[test]
fn as_torchrun_on_two_nodes() {
    let Some(bed) = Bed::make() else { return };
    as_if_by("torchrun", &bed, |rank| {
        let numbers = [("RANK", rank), ("LOCAL_RANK", rank % 2), ("GROUP_RANK", rank / 2), ("WORLD_SIZE", RANKS)];
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        let others = [("LOCAL_WORLD_SIZE", "2"), ("MASTER_ADDR", "node0"), ("MASTER_PORT", "29500")];
        let elastic = [("TORCHELASTIC_RUN_ID", "none"), ("TORCHELASTIC_RESTART_COUNT", "0")];
        let others = others.into_iter().chain(elastic).map(|(name, value)| (name, value.to_string()));
        numbers.into_iter().chain(others).collect()
    });
}

#[test]
fn as_a_kubernetes_job_on_two_nodes() {
    let Some(bed) = Bed::make() else { return };
    as_if_by("kubernetes", &bed, |rank| {
        let given = [("DRAGON_SIZE", "4"), ("DRAGON_HEAD", "node0"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
        let secret = ("DRAGON_SECRET", "0123456789abcdef0123456789abcdef");
        let index = ("JOB_COMPLETION_INDEX", rank.to_string());
        given.into_iter().chain([secret]).map(|(name, value)| (name, value.to_string())).chain([index]).collect()
    });
}

/// The file of PALS: who runs where.
fn apinfo(node_of_rank: &[i32], hosts: &[&str]) -> Vec<u8> {
    const SECTIONS: usize = 16 + 5 * 24;
    let nodes = SECTIONS + 12 * node_of_rank.len();
    let length = nodes + 68 * hosts.len();
    let sections = [[0; 3], [0; 3], [12, SECTIONS, node_of_rank.len()], [68, nodes, hosts.len()], [0; 3]];
    let mut bytes = [1, length as u64].map(u64::to_le_bytes).concat();
    bytes.extend(sections.as_flattened().iter().flat_map(|number| (*number as u64).to_le_bytes()));
    bytes.extend(node_of_rank.iter().flat_map(|node| [0, 0, *node]).flat_map(i32::to_le_bytes));
    for (number, host) in (0_i32..).zip(hosts) {
        bytes.extend(number.to_le_bytes());
        bytes.extend(host.bytes().chain(std::iter::repeat(0)).take(64));
    }
    bytes
}

#[test]
fn as_pals_on_two_nodes() {
    let Some(bed) = Bed::make() else { return };
    let file = bed.agent.path().join("apinfo");
    std::fs::write(&file, apinfo(&[0, 0, 1, 1], &["node0", "node1"])).unwrap();
    as_if_by("PALS", &bed, |rank| {
        let numbers = [("PALS_RANKID", rank), ("PALS_LOCAL_RANKID", rank % 2), ("PALS_NODEID", rank / 2)];
        // Its process manager speaks another language than PMI-1 under the same names.
        let theirs = [("PMI_RANK", rank), ("PMI_SIZE", RANKS), ("PMI_CONTROL_PORT", 20_001), ("PALS_LOCAL_SIZE", 2)];
        let file = [("PALS_APINFO", file.display().to_string()), ("PALS_APID", "9f1c".into())];
        numbers.into_iter().chain(theirs).map(|(name, number)| (name, number.to_string())).chain(file).collect()
    });
}

/// Flux answers PMI-1 on a descriptor, as MPICH's process manager does, which stands in for it under Flux's variables.
#[test]
fn as_flux_on_two_nodes() {
    let Some(bed) = Bed::make() else { return };
    let agent = bed.agent();
    let way = ["-launcher", "ssh", "-launcher-exec", &agent, "-iface", "dragon-bed"];
    let ranks = ["-hosts", "10.78.0.1,10.78.0.2", "-ppn", "2", "-n", "4"];
    let shell = "export FLUX_TASK_RANK=$PMI_RANK FLUX_JOB_SIZE=$PMI_SIZE FLUX_TASK_LOCAL_ID=$MPI_LOCALRANKID FLUX_JOB_ID=f1 \
                 FLUX_JOB_NNODES=2; unset MPI_LOCALRANKID MPI_LOCALNRANKS HYDI_CONTROL_FD; exec \"$0\"";
    let mut command = Command::new("timeout");
    command.args(["60", "mpiexec.hydra"]).args(way).args(ranks).args(["sh", "-c", shell]).arg(example());
    check(&mut command, "mpiexec.hydra", 2, 2);
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
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
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
