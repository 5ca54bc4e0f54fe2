//! The launchers of this machine, for real: `mpirun` of Open MPI, `mpiexec` of MPICH, `srun`. One that is not installed is
//! skipped, and the test says so.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::crew::{ARGUMENTS, FAULT, MPI, Outcome, REPORTS, Report, agreeing, binary, command, end, read_reports};
use crate::time::Deadline;

const SOON: Duration = Duration::from_secs(60);

/// Where a program is, under any of its names.
pub(super) fn installed(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.exists()))
}

/// Says loudly that a test has not tested anything: past the harness, which would keep it to itself.
pub(super) fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// What ranks started by this launcher report; it must end well.
pub(super) fn under(launcher: &mut Command) -> Vec<Outcome> {
    under_with(launcher, &binary(), &[])
}

/// The same, by way of another program with these arguments.
fn under_with(launcher: &mut Command, program: &Path, arguments: &[&str]) -> Vec<Outcome> {
    let folder = tempfile::tempdir().unwrap();
    launcher.arg(program).args(arguments).args(ARGUMENTS).env(REPORTS, folder.path());
    launcher.env("HOME", folder.path()).env("DRAGON_START_TIMEOUT", "30").stdout(Stdio::null());
    let mut child = launcher.spawn().unwrap();
    end(&mut child, Deadline::after(SOON));
    assert!(child.wait().unwrap().success(), "{launcher:?}");
    read_reports(folder.path())
}

pub(super) fn one_node(reports: &[Report], launcher: &str) {
    assert!(reports.iter().all(|report| report.launcher == launcher && report.nodes.iter().all(|node| *node == 0)));
}

pub(super) fn mpich() -> Option<Command> {
    installed(&["mpiexec.mpich", "mpiexec.hydra"]).map(|path| command(&path))
}

pub(super) fn open_mpi() -> Option<Command> {
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

/// An MPI library of the ranks' launcher, used by a rank that has met the others before.
pub(super) fn with_mpi(launcher: &mut Command, library: &str) -> Vec<Outcome> {
    under(launcher.env(FAULT, "mpi").env(MPI, library))
}

#[test]
fn mpich_comes_up_after_us() {
    let Some(mut mpiexec) = mpich() else { return skip("mpiexec of MPICH is not installed") };
    agreeing(with_mpi(mpiexec.args(["-n", "3"]), "libmpich.so.12"), 3);
}

#[test]
fn open_mpi_comes_up_after_us() {
    let Some(mut mpirun) = open_mpi() else { return skip("mpirun of Open MPI is not installed") };
    agreeing(with_mpi(mpirun.args(["-n", "3"]), "libmpi.so.40"), 3);
}

#[test]
fn mpich_comes_up_after_us_by_a_port() {
    let Some(mut mpiexec) = mpich() else { return skip("mpiexec of MPICH is not installed") };
    agreeing(with_mpi(mpiexec.args(["-pmi-port", "-n", "3"]), "libmpich.so.12"), 3);
}

#[test]
fn a_wrapper_that_closes_the_descriptor_is_found_out() {
    let Some(mut mpiexec) = mpich() else { return skip("mpiexec of MPICH is not installed") };
    let closing = "eval \"exec $PMI_FD<&-\"; exec \"$0\" \"$@\"";
    let outcomes =
        under_with(mpiexec.args(["-n", "2"]), Path::new("bash"), &["-c", closing, binary().to_str().unwrap()]);
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        let why = outcome.unwrap_err();
        assert!(why.contains("PMI_FD") && why.contains("-pmi-port"), "{why}");
    }
}

#[test]
fn one_rank_needs_nobody() {
    for launcher in [mpich(), open_mpi()] {
        let Some(mut launcher) = launcher else { return skip("MPICH or Open MPI is not installed") };
        agreeing(under(launcher.args(["-n", "1"])), 1);
    }
}
