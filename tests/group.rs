//! Programs and functions as processes: what they are given, what they give, how they end.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use dragon::{
    ErrorKind, Exit, GroupEvent, GroupState, Process, ProcessGroup, ProcessState, Queue, Restart, Signal, Stdio,
    Template,
};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(30);

fn shell(script: &str) -> Template {
    Process::program("/bin/sh").args(["-c", script])
}

/// Starts it, reads its standard output to the end, and waits for it.
fn output(template: Template) -> (String, Exit) {
    let process = template.stdout(Stdio::Pipe).start().unwrap();
    let mut said = String::new();
    process.stdout().unwrap().read_to_string(&mut said).unwrap();
    (said, process.join_timeout(LONG).unwrap())
}

#[test]
fn a_program_gets_its_arguments_variables_and_folder() {
    let _dragon = dragon::init().unwrap();
    let (said, exit) = output(Process::program("echo").arg("a b").args(["c", "-n"]));
    assert_eq!(said, "a b c -n\n");
    assert!(exit.success() && exit.pid() > 1 && exit.restarts() == 0);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (said, _) = output(shell("echo $A-$B-$HOME-; pwd").env("A", "1").env("B", "x").env("A", "2").cwd(&folder));
    let home = std::env::var("HOME").unwrap_or_default();
    assert_eq!(said, format!("2-x-{home}-\n{}\n", folder.display()));
    let (said, _) = output(Process::program("/usr/bin/env").env_clear().env("ONLY", "this"));
    assert_eq!(said, "ONLY=this\n");
    let here = std::env::current_dir().unwrap();
    assert_eq!(output(Process::program("pwd")).0.trim(), here.canonicalize().unwrap().to_str().unwrap());
}

#[test]
fn a_function_is_a_process_of_the_job() {
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<(u32, u64)>::bounded(4).unwrap();
    let work = |(queue, x): (Queue<(u32, u64)>, u64)| queue.put((std::process::id(), x * x)).unwrap();
    let process = Process::function(work, (queue.clone(), 12)).start().unwrap();
    let pid = process.pid();
    let (said, squared) = queue.get_timeout(LONG).unwrap();
    assert_eq!(squared, 144);
    assert!(said != std::process::id() && pid.is_none_or(|pid| pid == said));
    assert!(process.join_timeout(LONG).unwrap().success());
    let long: Vec<u8> = (0..1 << 20).map(|at| at as u8).collect();
    let sum = |bytes: Vec<u8>| (bytes.len() == 1 << 20 && bytes[255] == 255).then_some(()).ok_or("damaged");
    assert_eq!(Process::function(sum, long).start().unwrap().join().unwrap().code(), Some(0));
}

fn leave(code: i32) {
    std::process::exit(code)
}

#[test]
fn ends_are_told_as_codes_and_signals() {
    let _dragon = dragon::init().unwrap();
    let ended = |template: Template| template.stderr(Stdio::Null).start().unwrap().join_timeout(LONG).unwrap();
    assert_eq!(ended(shell("exit 42")).code(), Some(42));
    assert_eq!(ended(shell("kill -9 $$")).signal(), Some(9));
    assert_eq!(ended(shell("kill -15 $$")).signal(), Some(15));
    assert_eq!(ended(Template::function(|()| (), ())).code(), Some(0));
    assert_eq!(ended(Template::function(|code: i32| code, 42)).code(), Some(42));
    assert_eq!(ended(Template::function(leave, 43)).code(), Some(43));
    assert_eq!(ended(Template::function(|()| Err::<(), _>("no"), ())).code(), Some(1));
    assert_eq!(ended(Template::function(|()| assert!(std::process::id() == 0), ())).code(), Some(101));
}

#[test]
fn what_a_process_says_arrives_to_the_last_byte() {
    let _dragon = dragon::init().unwrap();
    // It dies at once; what it said is still there.
    let (said, exit) = output(shell("printf 'no line'; kill -9 $$"));
    assert_eq!((said.as_str(), exit.signal()), ("no line", Some(9)));
    let process = shell("printf out; printf err >&2").stdout(Stdio::Pipe).stderr(Stdio::Pipe).start().unwrap();
    assert!(process.join_timeout(LONG).unwrap().success());
    let (mut out, mut err) = (String::new(), String::new());
    process.stdout().unwrap().read_to_string(&mut out).unwrap();
    process.stderr().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out", "err"));
    assert_eq!(process.stdout().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(output(shell("echo 1; echo 2 >&2; echo 3").stderr(Stdio::Stdout)).0, "1\n2\n3\n");
    let panics = |()| assert!(std::process::id() == 0, "on purpose");
    let process = Process::function(panics, ()).stderr(Stdio::Pipe).start().unwrap();
    let mut said = String::new();
    process.stderr().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("on purpose"), "{said}");
    assert_eq!(process.join().unwrap().code(), Some(101));
    // A grandchild goes on writing when the child has ended: the end comes after its last byte.
    let (said, _) = output(shell("(sleep 0.2; printf later) & printf first"));
    assert_eq!(said, "firstlater");
}

#[test]
fn standard_input_is_a_pipe_a_file_or_nothing() {
    let _dragon = dragon::init().unwrap();
    let process = Process::program("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).start().unwrap();
    let (mut input, mut output) = (process.stdin().unwrap(), process.stdout().unwrap());
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7) as u8).collect();
    let received = std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || input.write_all(sent).unwrap());
        let mut received = Vec::new();
        output.read_to_end(&mut received).unwrap();
        received
    });
    assert!(received == sent && process.join().unwrap().success());
    let read = |template: Template| self::output(template.stdin(Stdio::Null)).0;
    assert_eq!(read(Process::program("cat")), "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in");
    std::fs::write(&file, "from a file").unwrap();
    assert_eq!(self::output(Process::program("cat").stdin(Stdio::File(file))).0, "from a file");
    let echo = |()| std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).map(drop);
    let process = Process::function(echo, ()).stdin(Stdio::Pipe).stdout(Stdio::Pipe).start().unwrap();
    process.stdin().unwrap().write_all(b"to a function").unwrap();
    let mut said = String::new();
    process.stdout().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "to a function");
}

#[test]
fn output_files_are_appended_to() {
    let _dragon = dragon::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    let mut group = ProcessGroup::new().unwrap();
    group.add(8, shell("echo line").stdout(Stdio::File(file.clone()))).unwrap();
    group.start().unwrap();
    group.join().unwrap();
    assert!(shell("echo line").stdout(Stdio::File("out".into())).cwd(folder.path()).start().unwrap().join().is_ok());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "line\n".repeat(9));
}

#[test]
fn a_group_starts_ends_and_refuses_what_makes_no_sense() {
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::builder().name("sleepers").build().unwrap();
    assert_eq!(group.state(), GroupState::Idle);
    assert_eq!(group.start().unwrap_err().kind(), ErrorKind::InvalidArgument, "it is empty");
    group.add(4, Process::program("sleep").arg("1000")).unwrap();
    assert_eq!(group.kill().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(group.join().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let events = group.events();
    group.start().unwrap();
    assert_eq!(group.start().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let processes = group.processes();
    assert!(processes.iter().all(|process| process.state() == ProcessState::Running));
    assert!(processes.iter().all(|process| Path::new(&format!("/proc/{}", process.pid().unwrap())).exists()));
    let error = group.join_timeout(Duration::ZERO).unwrap_err();
    assert!(error.kind() == ErrorKind::TimedOut && error.to_string().contains("4 processes"), "{error}");
    assert_eq!(group.state(), GroupState::Running);
    group.stop(LONG).unwrap();
    assert_eq!(group.state(), GroupState::Idle);
    assert!(group.join().unwrap().iter().all(|exit| exit.signal() == Some(2)));
    assert!(processes.iter().all(|process| process.pid().is_none()));
    let told: Vec<GroupEvent> = std::iter::from_fn(|| events.try_next()).collect();
    assert_eq!(told.iter().filter(|event| matches!(event, GroupEvent::Started { .. })).count(), 4);
    assert_eq!(told.iter().filter(|event| matches!(event, GroupEvent::Ended(_))).count(), 4);
    assert_eq!(told.last(), Some(&GroupEvent::Finished));
    // Once more.
    group.start().unwrap();
    group.signal(Signal::TERM).unwrap();
    assert!(group.join_timeout(LONG).unwrap().iter().all(|exit| exit.signal() == Some(15)));
    group.start().unwrap();
    group.kill().unwrap();
    assert!(group.join().unwrap().iter().all(|exit| exit.signal() == Some(9)));
    group.close().unwrap();
    group.close().unwrap();
    assert_eq!(group.stop(LONG).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(group.start().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn stop_escalates() {
    let _dragon = dragon::init().unwrap();
    let ended = |script: &str, patience| {
        let process = shell(script).stdout(Stdio::Pipe).start().unwrap();
        // It has set its traps when it says so.
        process.stdout().unwrap().read_exact(&mut [0; 1]).unwrap();
        process.stop(patience).unwrap()
    };
    let wait = "echo ready; while :; do sleep 0.01; done";
    assert_eq!(ended(&format!("trap 'exit 5' INT; {wait}"), LONG).code(), Some(5));
    let patience = Duration::from_millis(100);
    assert_eq!(ended(&format!("trap '' INT; trap 'exit 6' TERM; {wait}"), patience).code(), Some(6));
    assert_eq!(ended(&format!("trap '' INT TERM; {wait}"), patience).signal(), Some(9));
}

#[test]
fn processes_begin_again_as_the_policy_says() {
    let _dragon = dragon::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |restart, script: &str| {
        let mut group = ProcessGroup::builder().restart(restart).build().unwrap();
        group.add(2, shell(script).cwd(folder.path())).unwrap();
        group.start().unwrap();
        let exits = group.join_timeout(LONG).unwrap();
        (exits.iter().map(Exit::restarts).collect::<Vec<_>>(), group.ended().len())
    };
    assert_eq!(run(Restart::Never, "exit 1"), (vec![0, 0], 2));
    assert_eq!(run(Restart::OnFailure { max: 2 }, "exit 1"), (vec![2, 2], 6));
    assert_eq!(run(Restart::OnFailure { max: 2 }, "exit 0"), (vec![0, 0], 2));
    assert_eq!(run(Restart::Always { max: 3 }, "exit 0"), (vec![3, 3], 8));
    let once = "mkdir done-$$ 2>/dev/null; test $(ls -d done-* | wc -l) -ge 4";
    let (restarts, _) = run(Restart::OnFailure { max: 100 }, once);
    assert!(restarts.iter().all(|restarts| *restarts <= 3), "{restarts:?}");
}

#[test]
fn a_group_keeps_its_size_while_its_processes_are_killed() {
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::builder().restart(Restart::Always { max: 100 }).build().unwrap();
    group.add(4, Process::program("sleep").arg("1000")).unwrap();
    let events = group.events();
    group.start().unwrap();
    let mut killed = Vec::new();
    for round in 0..8 {
        let victim = group.process_with_pid(round % 4, LONG);
        killed.push(victim);
        assert!(std::process::Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap().success());
        let again = |event: &GroupEvent| matches!(event, GroupEvent::Started { restarts: 1.., .. });
        while !again(&events.next_timeout(LONG).unwrap()) {}
    }
    let ended: Vec<u32> = group.ended().iter().map(Exit::pid).collect();
    assert_eq!(ended, killed, "each once, in order");
    assert_eq!(group.processes().iter().filter(|process| process.pid().is_some()).count(), 4);
    group.close().unwrap();
}

/// What tests want to know of a group.
trait Look {
    fn process_with_pid(&self, at: usize, patience: Duration) -> u32;
}

impl Look for ProcessGroup {
    fn process_with_pid(&self, at: usize, patience: Duration) -> u32 {
        let begun = Instant::now();
        loop {
            if let Some(pid) = self.processes()[at].pid() {
                return pid;
            }
            assert!(begun.elapsed() < patience);
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_walltime_ends_a_group() {
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::builder().walltime(Duration::from_millis(300)).build().unwrap();
    group.add(3, Process::program("sleep").arg("1000")).unwrap();
    let begun = Instant::now();
    group.start().unwrap();
    assert!(group.join_timeout(LONG).unwrap().iter().all(|exit| exit.signal() == Some(2)));
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn processes_wait_for_room() {
    let _dragon = dragon::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut group = ProcessGroup::builder().at_once(2).build().unwrap();
    // Each counts who is there with it.
    let count = "touch me-$$; ls me-* 2>/dev/null | wc -l; sleep 0.02; rm me-$$";
    group.add(12, shell(count).cwd(folder.path()).stdout(Stdio::File("counts".into()))).unwrap();
    group.start().unwrap();
    assert!(group.processes().iter().any(|process| process.state() == ProcessState::Waiting));
    assert!(group.join_timeout(LONG).unwrap().iter().all(Exit::success));
    let counts = std::fs::read_to_string(folder.path().join("counts")).unwrap();
    assert!(counts.lines().count() == 12 && counts.lines().all(|count| count.trim().parse::<u32>().unwrap() <= 2));
    let error = ProcessGroup::builder().at_once(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}
