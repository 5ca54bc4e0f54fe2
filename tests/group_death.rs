//! What must not happen to processes and their groups: limits, missing things, and children that behave badly.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dragon::{ErrorKind, Exit, GroupState, Process, ProcessGroup, Queue, Stdio, Template};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(60);

fn shell(script: &str) -> Template {
    Process::program("/bin/sh").args(["-c", script])
}

/// What `/proc` says of a process: its name, its state and its parent; `None` if there is none.
fn stat(pid: u32) -> Option<(String, char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((head.split_once('(')?.1.into(), state, fields.next()?.parse().ok()?))
}

/// Zombies among the children of this process.
fn zombies() -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, state, parent)| state == 'Z' && parent == std::process::id()))
        .collect()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(_, state, _)| state == 'Z')
}

/// Starts a group of which the second process cannot begin, and gives the error. The first must not have begun.
fn refused(template: Template) -> dragon::Error {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("begun");
    let mut group = ProcessGroup::builder().name("half").build().unwrap();
    group.add(1, Process::program("touch").arg(&mark)).unwrap();
    group.add(1, template).unwrap();
    let error = group.start().unwrap_err();
    assert!(!mark.exists() && group.state() == GroupState::Idle, "{error}");
    error
}

/// Whether the error is of this kind and names all of these.
fn says(error: &dragon::Error, kind: ErrorKind, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(*word)).collect();
    assert!(missing.is_empty(), "{text}: without {missing:?}");
}

#[test]
fn what_is_missing_or_forbidden_is_named_before_anything_begins() {
    let _dragon = dragon::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    says(
        &refused(Process::program("/no/such/program")),
        ErrorKind::NotFound,
        &["/no/such/program", "nothing was started"],
    );
    let unknown = Process::program("no-such-program-9").env("PATH", "/bin:/usr/bin");
    says(&refused(unknown), ErrorKind::NotFound, &["no-such-program-9", "PATH=/bin:/usr/bin"]);
    std::fs::write(path("plain"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(path("plain"), PermissionsExt::from_mode(0o644)).unwrap();
    says(&refused(Process::program(path("plain"))), ErrorKind::PermissionDenied, &["plain"]);
    says(&refused(Process::program(folder.path())), ErrorKind::PermissionDenied, &[folder.path().to_str().unwrap()]);
    says(&refused(Process::program("true").cwd("/no/such/folder")), ErrorKind::NotFound, &["/no/such/folder"]);
    let file_as_folder = refused(Process::program("true").cwd(path("plain")));
    says(&file_as_folder, ErrorKind::Io, &["plain", "directory"]);
    let nowhere = Stdio::File("/no/such/folder/out".into());
    says(&refused(Process::program("true").stdout(nowhere)), ErrorKind::NotFound, &["/no/such/folder/out"]);
    let unwritable = Stdio::File(folder.path().into());
    says(&refused(Process::program("true").stderr(unwritable)), ErrorKind::Io, &[folder.path().to_str().unwrap()]);
    says(&refused(Process::program("true").stdin(Stdio::File(path("none")))), ErrorKind::NotFound, &["none"]);
    says(&refused(Process::program("true").stdin(Stdio::Stdout)), ErrorKind::InvalidArgument, &["Stdout"]);
    let with_zeros = ["arg", "variable", "cwd"].map(|place| match place {
        "arg" => Process::program("true").arg("a\0b"),
        "variable" => Process::program("true").env("A", "a\0b"),
        _ => Process::program("true").cwd("a\0b"),
    });
    for template in with_zeros {
        let words = ["zero byte", "a\\0b", "nothing was started"];
        says(&refused(template), ErrorKind::InvalidArgument, &words);
    }
    // What only the kernel can know.
    std::fs::write(path("garbage"), [0x7f, b'E', b'L', b'F', 9, 9]).unwrap();
    std::fs::set_permissions(path("garbage"), PermissionsExt::from_mode(0o755)).unwrap();
    says(&Process::program(path("garbage")).start().unwrap_err(), ErrorKind::Io, &["garbage", "0 of the 1"]);
    until("zombies", || zombies().is_empty());
}

/// This test is a process of its own, of a user who may have few processes.
#[test]
fn at_the_limit_of_processes_what_was_started_is_stopped() {
    if let Ok(most) = std::env::var("MOST_PROCESSES") {
        return at_the_limit(most.parse().unwrap());
    }
    // SAFETY: asks who we are.
    if unsafe { libc::geteuid() } != 0 {
        return eprintln!("passed over: only root can become a user without any processes");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(["at_the_limit_of_processes", "--nocapture"]).env("MOST_PROCESSES", "24").current_dir("/");
    // A user of whom there is nothing else on the machine.
    let output = command.uid(51_717).gid(51_717).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn at_the_limit(most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: sets a limit of this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &limit) }, 0);
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::builder().name("many").build().unwrap();
    group.add(100, Process::program("sleep").arg("1000")).unwrap();
    let error = group.start().unwrap_err();
    says(&error, ErrorKind::ResourceLimit, &["RLIMIT_NPROC", "100 processes", "\"many\"", "were stopped"]);
    assert_eq!(group.state(), GroupState::Idle);
    assert!(group.processes().iter().all(|process| process.pid().is_none()));
    until("zombies", || zombies().is_empty());
    // And a few can be started now.
    let mut few = ProcessGroup::new().unwrap();
    few.add(3, Process::program("true")).unwrap();
    few.start().unwrap();
    assert!(few.join_timeout(LONG).unwrap().iter().all(Exit::success));
}

#[test]
fn a_child_that_closes_its_output_and_lives_is_not_waited_for_at_the_pipe() {
    let _dragon = dragon::init().unwrap();
    let process = shell("printf last; exec >&-; exec sleep 1000").stdout(Stdio::Pipe).start().unwrap();
    let mut said = String::new();
    process.stdout().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "last");
    assert!(process.pid().is_some() && process.exit().is_none(), "it lives");
    assert_eq!(process.kill().unwrap().signal(), Some(9));
}

#[test]
fn a_child_that_floods_its_output_stands_still_until_it_is_read() {
    let _dragon = dragon::init().unwrap();
    let process = Process::program("yes").stdout(Stdio::Pipe).start().unwrap();
    let pid = process.pid().unwrap();
    until("it sleeps at its full pipe", || stat(pid).is_some_and(|(_, state, _)| state == 'S'));
    assert!(process.join_timeout(Duration::from_millis(20)).unwrap_err().is_timeout());
    let mut read = vec![0; 1 << 20];
    let mut output = process.stdout().unwrap();
    output.read_exact(&mut read).unwrap();
    assert!(read.chunks_exact(2).all(|line| line == b"y\n"));
    // Nobody reads any more: the pipe breaks.
    drop(output);
    assert_eq!(process.join_timeout(LONG).unwrap().signal(), Some(13));
    // Neither does one hold up its group's end.
    let mut group = ProcessGroup::new().unwrap();
    group.add(4, Process::program("yes").stdout(Stdio::Pipe)).unwrap();
    group.start().unwrap();
    group.stop(LONG).unwrap();
}

#[test]
fn grandchildren_of_a_killed_group_are_gone() {
    let _dragon = dragon::init().unwrap();
    // Each says who its children are, and theirs; one ends itself and leaves them behind.
    let stays = "sh -c 'trap \"\" INT TERM; sleep 1000 & echo $!; wait' & echo $!; wait";
    let leaves = "(trap '' INT TERM; sleep 1000 & echo $!) ; exit 0";
    for (script, own_end) in [(stays, false), (leaves, true)] {
        for by_stop in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut group = ProcessGroup::new().unwrap();
            let out = Stdio::File("pids".into());
            group.add(1, shell(script).cwd(folder.path()).stdout(out)).unwrap();
            group.add(1, Process::program("sleep").arg("1000")).unwrap();
            group.start().unwrap();
            let read = || std::fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
            let expected = if own_end { 1 } else { 2 };
            until("they have begun", || read().lines().count() == expected);
            if own_end {
                group.processes()[0].join_timeout(LONG).unwrap();
            }
            let pids: Vec<u32> = read().lines().map(|line| line.parse().unwrap()).collect();
            assert!(pids.iter().all(|pid| !is_gone(*pid)));
            if by_stop && !own_end {
                group.stop(Duration::from_millis(100)).unwrap();
            } else {
                group.kill().unwrap();
            }
            until("grandchildren are gone", || pids.iter().all(|pid| is_gone(*pid)));
        }
    }
}

#[test]
fn a_group_that_nobody_has_any_more_is_killed() {
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::new().unwrap();
    group.add(3, shell("sleep 1000 & sleep 1000")).unwrap();
    group.start().unwrap();
    let pids: Vec<u32> = group.processes().iter().map(|process| process.pid().unwrap()).collect();
    let process = group.processes().remove(1);
    drop(group);
    assert!(pids.iter().all(|pid| !is_gone(*pid)), "one handle is left");
    drop(process);
    until("they are gone", || pids.iter().all(|pid| stat(*pid).is_none()));
}

/// In a process of its own, which is killed.
#[test]
fn when_their_owner_is_killed_programs_and_functions_end() {
    if let Ok(file) = std::env::var("OWNER") {
        return own_until_killed(Path::new(&file));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["when_their_owner_is_killed_programs_and_functions_end", "--exact"]).env("OWNER", &file);
    let mut owner = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    until("it has children", || file.exists());
    let pids: Vec<u32> = std::fs::read_to_string(&file).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert!(pids.len() == 4 && pids.iter().all(|pid| !is_gone(*pid)));
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("they have ended", || pids.iter().all(|pid| is_gone(*pid)));
}

fn wait_for_ever(_: ()) {
    std::thread::park();
}

fn own_until_killed(file: &Path) {
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::new().unwrap();
    group.add(2, Process::program("sleep").arg("1000")).unwrap();
    group.add(2, Template::function(wait_for_ever, ())).unwrap();
    group.start().unwrap();
    let pids: Vec<String> = group.processes().iter().map(|process| process.pid().unwrap().to_string()).collect();
    let written = file.with_extension("new");
    std::fs::write(&written, pids.join("\n")).unwrap();
    std::fs::rename(written, file).unwrap();
    group.join().unwrap();
}

/// The descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Alone in a process of its own, so that nobody else's descriptors count.
#[test]
fn thousands_of_processes_leave_no_zombie_and_no_descriptor() {
    if std::env::var_os("ALONE").is_some() {
        return thousands();
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["thousands_of_processes_leave_no_zombie_and_no_descriptor", "--exact", "--nocapture"]);
    let output = command.env("ALONE", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn thousands() {
    let total = std::env::var("SPAWNS").ok().and_then(|spawns| spawns.parse().ok()).unwrap_or(2_000);
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<u32>::bounded(1024).unwrap();
    let round = || {
        let mut group = ProcessGroup::new().unwrap();
        group.add(60, Process::program("/bin/true").stdout(Stdio::Pipe).stdin(Stdio::Pipe)).unwrap();
        group.add(20, shell("kill -9 $$").stdout(Stdio::Null)).unwrap();
        group.add(15, shell("echo x").stdout(Stdio::Pipe).stderr(Stdio::Stdout)).unwrap();
        group.add(5, Template::function(|queue: Queue<u32>| queue.put(1).unwrap(), queue.clone())).unwrap();
        group.start().unwrap();
        let exits = group.join_timeout(LONG).unwrap();
        assert!(exits[..60].iter().chain(&exits[80..]).all(Exit::success), "{exits:?}");
        assert!(exits[60..80].iter().all(|exit| exit.signal() == Some(9)));
        let mut said = Vec::new();
        group.processes()[80].stdout().unwrap().read_to_end(&mut said).unwrap();
        assert_eq!(said, b"x\n");
        assert_eq!(queue.get_many(5).unwrap().len(), 5);
        group.processes().iter().map(|process| process.exit().unwrap().pid()).collect::<BTreeSet<_>>().len()
    };
    // The first brings what stays: the agent, the thread for groups.
    assert_eq!(round(), 100);
    let before = descriptors();
    for _ in 1..total / 100 {
        round();
    }
    // The agent may be about to close the last.
    until("descriptors are left", || descriptors() <= before);
    until("zombies are left", || zombies().is_empty());
}

#[test]
fn a_thousand_children_live_at_once_and_nobody_works() {
    if std::env::var_os("ALONE").is_some() {
        return thousand_live();
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["a_thousand_children_live_at_once_and_nobody_works", "--exact", "--nocapture"]);
    let output = command.env("ALONE", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Clock ticks that this process has used, and how often its threads gave up the processor.
fn work() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let mut switches = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        let own = status.lines().filter(|line| line.starts_with("voluntary_ctxt_switches"));
        switches += own.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>();
    }
    (ticks, switches)
}

fn thousand_live() {
    // Each child takes a descriptor of its owner's.
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    // SAFETY: sets a limit of this process.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::new().unwrap();
    group.add(1000, Process::program("/bin/sleep").arg("1000")).unwrap();
    group.start().unwrap();
    assert_eq!(group.processes().iter().filter(|process| process.pid().is_some()).count(), 1000);
    let (ticks, switches) = work();
    // what nobody may use
    std::thread::sleep(Duration::from_secs(1));
    let (later_ticks, later_switches) = work();
    // A tick is 10 ms; the two ways into sleep are this thread's own.
    assert!(later_ticks - ticks <= 1 && later_switches - switches <= 3, "{} ticks", later_ticks - ticks);
    group.kill().unwrap();
    assert!(group.join().unwrap().iter().all(|exit| exit.signal() == Some(9)));
    until("zombies are left", || zombies().is_empty());
}
