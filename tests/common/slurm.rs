//! A Slurm of our own: one controller and two daemons on this machine, each of which believes to be a machine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

pub struct Slurm {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
}

/// What the daemons need to know. Their names are addresses, so that nobody has to teach this machine to resolve them.
fn configuration(folder: &Path, host: &str, ports: [u16; 3]) -> String {
    let (folder, [controller, first, second]) = (folder.display(), ports);
    format!(
        "ClusterName=dragon\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\nAuthType=auth/none\n\
         CredType=cred/none\nMpiDefault=none\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nReturnToService=2\nSlurmctldPort={controller}\n\
         StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool-%n\nSlurmctldPidFile={folder}/controller.pid\n\
         SlurmdPidFile={folder}/%n.pid\nSlurmctldLogFile={folder}/controller.log\nSlurmdLogFile={folder}/%n.log\n\
         SwitchType=switch/none\nJobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
         SlurmdParameters=config_overrides\n\
         NodeName=127.0.0.1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=4 RealMemory=100 State=UNKNOWN\n\
         NodeName=127.0.0.2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=4 RealMemory=100 State=UNKNOWN\n\
         PartitionName=main Nodes=127.0.0.[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4\n"
    )
}

impl Slurm {
    /// `None`, said loudly, where it cannot be.
    pub fn start() -> Option<Slurm> {
        let is_missing = |program: &&str| Command::new(program).arg("-V").output().is_err();
        let missing = ["slurmctld", "slurmd", "srun", "salloc", "sinfo"].iter().find(|program| is_missing(program));
        let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        if missing.is_some() || !is_root {
            eprintln!("SKIPPED: Slurm is not installed ({missing:?}), or this is not root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        let doors = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = doors.map(|door| door.local_addr().unwrap().port());
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        fs::write(folder.path().join("slurm.conf"), configuration(folder.path(), host, ports)).unwrap();
        let mut slurm = Slurm { folder, daemons: Vec::new() };
        slurm.daemon(&["slurmctld", "-D", "-i"]);
        for node in ["127.0.0.1", "127.0.0.2"] {
            slurm.daemon(&["slurmd", "-D", "-N", node]);
        }
        slurm.wait_until_idle();
        Some(slurm)
    }

    /// Where it keeps what it writes.
    #[allow(dead_code, reason = "not all tests that start one need it")]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        for (name, _) in std::env::vars() {
            if ["SLURM", "PMI", "OMPI_", "DRAGON_"].iter().any(|of| name.starts_with(of)) {
                client.env_remove(name);
            }
        }
        client.stdin(Stdio::null());
        client.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
        client
    }

    fn daemon(&mut self, line: &[&str]) {
        let mut daemon = self.client(line[0]);
        daemon.args(&line[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(daemon.spawn().unwrap());
    }

    fn wait_until_idle(&self) {
        for _ in 0..600 {
            let seen = self.client("sinfo").args(["-h", "-N", "-o", "%t"]).output().unwrap().stdout;
            if String::from_utf8_lossy(&seen).split_whitespace().eq(["idle", "idle"]) {
                return;
            }
            // It tells nobody when it is ready: the time between two looks.
            thread::sleep(Duration::from_millis(50));
        }
        panic!("Slurm does not come up");
    }

    /// `srun` or `salloc` with these arguments, and what it is to start.
    pub fn run(&self, line: &str, what: Option<&Command>) -> Command {
        let mut words = line.split(' ');
        let mut client = self.client(words.next().unwrap());
        client.args(words);
        if let Some(inner) = what {
            client.arg(inner.get_program()).args(inner.get_args());
        }
        client
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
