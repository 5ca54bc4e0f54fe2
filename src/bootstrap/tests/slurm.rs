//! Ranks started by Slurm, and by the launchers that use it to start their own daemons.

use std::{fs, net::TcpListener};

use super::crew::{Report, agreeing};
use super::launchers::{mpich, open_mpi, skip, under, with_mpi};

#[path = "../../../tests/common/slurm.rs"]
mod cluster;
use cluster::Slurm;

/// One at a time: the daemons share the machine, and the names of their sockets.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

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
    let script = slurm.folder().join("script");
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
