//! Ranks of one machine that share its memory, or not: mounts, users and hidden `/dev/shm` of their own. For root only.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::crew::{ARGUMENTS, Crew, REPORTS, Report, agreeing, binary, command};
use super::launchers::skip;

/// How a rank sees `/dev/shm`.
#[derive(Clone, Copy)]
enum View {
    Common,
    /// As in a container: its own.
    Own,
    /// Nobody may write there.
    ReadOnly,
    /// As another user.
    User(u32),
}

fn may_mount() -> bool {
    Command::new("unshare")
        .args(["--mount", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn program(view: View) -> Command {
    let mount = match view {
        View::Common => return command(&binary()),
        View::User(uid) => {
            let mut rank = command(&binary());
            rank.uid(uid).gid(uid);
            return rank;
        }
        View::Own => "mount -t tmpfs own /dev/shm",
        View::ReadOnly => "mount --bind /dev/shm /dev/shm && mount -o remount,ro,bind /dev/shm",
    };
    let mut rank = command(Path::new("unshare"));
    rank.args(["--mount", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")]).arg(binary());
    rank
}

/// Starts a rank for each view; what all of them see.
fn nodes(views: &[View]) -> Vec<Report> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut crew = Crew::new();
    // Another user must be able to leave his report.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(crew.folder.path(), open).unwrap();
    for (rank, view) in views.iter().enumerate() {
        let mut program = program(*view);
        program.args(ARGUMENTS).env(REPORTS, crew.folder.path()).env("DRAGON_START_TIMEOUT", "20");
        program.env("DRAGON_RENDEZVOUS", format!("127.0.0.1:{port}")).env("DRAGON_SECRET", "sixteen letters!");
        program.env("DRAGON_RANK", rank.to_string()).env("DRAGON_SIZE", views.len().to_string());
        crew.adopt(program.stdout(Stdio::null()).spawn().unwrap());
    }
    agreeing(crew.reports(Duration::from_secs(40)), views.len() as u32)
}

#[test]
fn containers_with_their_own_shared_memory_are_nodes_of_their_own() {
    if !may_mount() {
        return skip("may not make mount namespaces here (not root)");
    }
    let reports = nodes(&[View::Common, View::Own, View::Common, View::Own]);
    assert_eq!(reports[0].nodes, [0, 1, 0, 2]);
}

#[test]
fn where_shared_memory_is_read_only_those_who_see_it_so_are_a_node() {
    if !may_mount() {
        return skip("may not make mount namespaces here (not root)");
    }
    // Root may write to what is not mounted read-only, whatever its mode.
    let reports = nodes(&[View::ReadOnly, View::Common, View::ReadOnly, View::Common]);
    assert_eq!(reports[0].nodes, [0, 1, 0, 1]);
}

#[test]
fn two_users_are_two_nodes() {
    if !may_mount() {
        return skip("may not become another user here (not root)");
    }
    if !reachable_for_all(&binary()) {
        return skip("the test's own program lies where no other user can start it");
    }
    let reports = nodes(&[View::Common, View::User(65534), View::User(65534)]);
    assert_eq!(reports[0].nodes, [0, 1, 1]);
}

fn reachable_for_all(program: &Path) -> bool {
    let mut probe = Command::new(program);
    probe.uid(65534).gid(65534).arg("--help").stdout(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
