//! The launchers of this machine, for real: `mpirun` of Open MPI, `mpiexec` of MPICH, `srun`. One that is not installed is
//! skipped, and the test says so.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::crew::{ARGUMENTS, REPORTS, Report, agreeing, binary, command, end, read_reports};
use crate::time::Deadline;

const SOON: Duration = Duration::from_secs(60);

/// Where a program is, under any of its names.
fn installed(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.exists()))
}

/// Says loudly that a test has not tested anything: past the harness, which would keep it to itself.
fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// What ranks started by this launcher report; it must end well.
fn under(launcher: &mut Command) -> Vec<super::crew::Outcome> {
    under_with(launcher, &binary(), &[])
}

fn under_with(launcher: &mut Command, program: &Path, before: &[&str]) -> Vec<super::crew::Outcome> {
    let folder = tempfile::tempdir().unwrap();
    launcher.args(before).arg(program).args(ARGUMENTS).env(REPORTS, folder.path());
    launcher.env("HOME", folder.path()).env("DRAGON_START_TIMEOUT", "30").stdout(Stdio::null());
    let mut child = launcher.spawn().unwrap();
    end(&mut child, Deadline::after(SOON));
    assert!(child.wait().unwrap().success(), "{launcher:?}");
    read_reports(folder.path())
}

fn one_node(reports: &[Report], launcher: &str) {
    assert!(reports.iter().all(|report| report.launcher == launcher && report.nodes.iter().all(|node| *node == 0)));
}

fn mpich() -> Option<Command> {
    installed(&["mpiexec.mpich", "mpiexec.hydra"]).map(|path| command(&path))
}

fn open_mpi() -> Option<Command> {
    let mut mpirun = command(&installed(&["mpirun.openmpi", "orterun"])?);
    mpirun.args(["--allow-run-as-root", "--oversubscribe"]);
    Some(mpirun)
}

#[test]
fn mpich_on_one_node() {
    let Some(mut mpiexec) = mpich() else { return skip("mpiexec of MPICH is not installed") };
    one_node(&agreeing(under(mpiexec.args(["-n", "4"])), 4), "pmi");
}

#[test]
fn mpich_by_a_port() {
    let Some(mut mpiexec) = mpich() else { return skip("mpiexec of MPICH is not installed") };
    one_node(&agreeing(under(mpiexec.args(["-pmi-port", "-n", "3"])), 3), "pmi");
}

#[test]
fn open_mpi_on_one_node() {
    let Some(mut mpirun) = open_mpi() else { return skip("mpirun of Open MPI is not installed") };
    one_node(&agreeing(under(mpirun.args(["-n", "4"])), 4), "pmix");
}

#[test]
fn one_rank_needs_nobody() {
    for launcher in [mpich(), open_mpi()] {
        let Some(mut launcher) = launcher else { return skip("MPICH or Open MPI is not installed") };
        agreeing(under(launcher.args(["-n", "1"])), 1);
    }
}
