//! A Slurm of our own: one controller and two daemons on this machine, each of which believes to be a machine. Ranks started
//! by it, and by the launchers that use it to start their own daemons.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::crew::{Report, agreeing, command};
use super::launchers::{installed, mpich, open_mpi, skip, under, with_mpi};
use crate::sys::rendezvous;
use crate::time::Deadline;

/// One at a time: the daemons share the machine, and the names of their sockets.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Slurm {
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
    fn start() -> Option<Slurm> {
        let programs = ["slurmctld", "slurmd", "srun", "salloc", "sinfo"].map(|name| installed(&[name]));
        if programs.iter().any(Option::is_none) || crate::sys::shm::user() != 0 {
            skip("Slurm is not installed, or this is not root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        let doors = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = doors.map(|door| door.local_addr().unwrap().port());
        let host = crate::sys::process::host_name();
        let host = host.split('.').next().unwrap();
        fs::write(folder.path().join("slurm.conf"), configuration(folder.path(), host, ports)).unwrap();
        let mut slurm = Slurm { folder, daemons: Vec::new() };
        slurm.daemon(&["slurmctld", "-D", "-i"]);
        for node in ["127.0.0.1", "127.0.0.2"] {
            slurm.daemon(&["slurmd", "-D", "-N", node]);
        }
        slurm.wait_until_idle();
        Some(slurm)
    }

    fn client(&self, program: &str) -> Command {
        let mut client = command(Path::new(program));
        client.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
        client
    }

    fn daemon(&mut self, line: &[&str]) {
        let mut daemon = self.client(line[0]);
        daemon.args(&line[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(daemon.spawn().unwrap());
    }

    fn wait_until_idle(&self) {
        let deadline = Deadline::after(Duration::from_secs(30));
        loop {
            let seen = self.client("sinfo").args(["-h", "-N", "-o", "%t"]).output().unwrap().stdout;
            if String::from_utf8_lossy(&seen).split_whitespace().eq(["idle", "idle"]) {
                return;
            }
            assert!(!deadline.passed(), "Slurm does not come up: {}", String::from_utf8_lossy(&seen));
            rendezvous::pause(Deadline::after(Duration::from_millis(50)));
        }
    }

    /// `srun` or `salloc` with these arguments, and what it is to start.
    fn run(&self, line: &str, what: Option<&Command>) -> Command {
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

fn by(reports: Vec<Report>, launcher: &str) {
    assert!(reports.iter().all(|report| report.launcher == launcher), "{reports:?}");
}

/// All in one test, because to bring Slurm up takes longer than each of them.
#[test]
fn steps_and_allocations() {
    let _one = ONE.lock();
    let Some(slurm) = Slurm::start() else { return };
    let steps = [
        "srun -N2 -n3 --mpi=none",
        "srun -N2 -n4 --mpi=none -m cyclic",
        "srun -N1 -n3 --mpi=none",
        "srun -N2 -n3 --mpi=pmi2",
        "srun -N2 -n3 --mpi=cray_shasta",
        "srun -N1 -n3 --mpi=pmix",
    ];
    for step in steps {
        let size = step.split(' ').find_map(|word| word.strip_prefix("-n")?.parse().ok()).unwrap();
        by(agreeing(under(&mut slurm.run(step, None)), size), "slurm");
    }
    by(agreeing(under(slurm.run("srun -N2 -n3 --mpi=cray_shasta", None).env("DRAGON_BOOTSTRAP", "pals")), 3), "pals");
    by(agreeing(under(slurm.run("srun -N1 -n3 --mpi=pmix", None).env("DRAGON_BOOTSTRAP", "pmix")), 3), "pmix");
    let script = slurm.folder.path().join("script");
    fs::write(&script, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    let mut batch = slurm.run("sbatch -Q --wait -N2 -n4 -o /dev/null", None);
    by(agreeing(under(batch.arg(script)), 1), "single");
    let place = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let mut step = slurm.run("srun -N2 -n3 --mpi=none", None);
    by(agreeing(under(step.env("DRAGON_RENDEZVOUS", place)), 3), "rendezvous");
}

#[test]
fn launchers_in_an_allocation() {
    let _one = ONE.lock();
    let (Some(mpiexec), Some(mpirun)) = (mpich(), open_mpi()) else {
        return skip("MPICH or Open MPI is not installed");
    };
    let Some(slurm) = Slurm::start() else { return };
    // Each believes to be on two machines, so that the ranks meet by PMI and by PMIx.
    let inside = |launcher| slurm.run("salloc -Q -N2 -n4", Some(launcher));
    by(agreeing(under(&mut inside(&mpiexec)), 4), "pmi");
    by(agreeing(under(&mut inside(&mpirun)), 4), "pmix");
    by(agreeing(with_mpi(&mut inside(&mpiexec), "libmpich.so.12"), 4), "pmi");
}
