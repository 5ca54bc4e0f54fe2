//! How children begin and end: what they are told, whom they obey, and that none is left behind.

use super::*;
use crate::sys::{birth as own, process};
use crate::task::birth::{HELLO_MAX, ORPHANED, REFUSED, Refusal};

#[test]
fn an_entry_gets_argument_and_descriptors() {
    fn entry(argument: &[u8]) {
        let birth = birth::take().unwrap();
        assert!(birth::take().is_none());
        assert!(birth::is_child());
        assert_eq!(birth.parent, process::parent());
        let file = std::fs::File::from(birth.descriptors.into_iter().next().unwrap());
        std::io::Write::write_all(&mut &file, argument).unwrap();
    }
    assert!(!birth::is_child());
    let (mut read, write) = std::io::pipe().unwrap();
    let worker = Worker::born(&hello(entry, b"as told"), &[write.as_fd()]);
    drop(write);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut read, &mut text).unwrap();
    assert_eq!(text, "as told");
    assert_eq!(worker.ended().code(), Some(0));
}

#[test]
fn a_large_hello_arrives_whole() {
    fn entry(argument: &[u8]) {
        assert!(argument.iter().all(|&byte| byte == 9));
        std::process::exit((argument.len() / 1000) as i32)
    }
    let hello = hello(entry, &[9; 100_000]);
    assert_eq!(Worker::born(&hello, &[]).ended().code(), Some(100));
    const { assert!(100_000 < HELLO_MAX) };
}

#[test]
fn a_closed_socket_ends_a_worker_in_the_middle_of_a_task() {
    fn endless(_: ()) {
        loop {
            std::thread::park()
        }
    }
    let (mut child, control) = newborn(std::process::id());
    send(control.as_fd(), &hello(serve, b""), &[]);
    let task = (reference(thunk::one(endless)).unwrap(), Vec::<u8>::new());
    send(control.as_fd(), &Some(task), &[]);
    drop(control);
    assert_eq!(child.wait().unwrap().code(), Some(ORPHANED));
}

#[test]
fn workers_die_with_a_killed_parent() {
    fn leave_a_child(_: ()) -> u32 {
        let worker = Worker::new();
        let pid = worker.child.id();
        std::mem::forget(worker);
        pid
    }
    let mut parent = Worker::new();
    let grandchild = process::pidfd(parent.call(leave_a_child, ()).unwrap()).unwrap();
    parent.child.kill().unwrap();
    let (ours, _theirs) = socket::pair().unwrap();
    own::wait_for_end(ours.as_fd(), Some(grandchild.as_fd()));
}

#[test]
fn a_parents_death_is_noticed_without_the_socket() {
    // Its control socket stays open here, so that only the parent's own end can tell.
    fn parent(_: &[u8]) {
        let stdin = birth::take().unwrap().descriptors.into_iter().next().unwrap();
        let child = newborn_on(std::process::id(), stdin);
        std::mem::forget(child);
        loop {
            std::thread::park()
        }
    }
    let (ours, theirs) = socket::pair().unwrap();
    let mut parent = Worker::born(&hello(parent, b""), &[theirs.as_fd()]);
    drop(theirs);
    send(ours.as_fd(), &hello(serve, b""), &[]);
    let task = (reference(thunk::one(|()| process::parent())).unwrap(), Vec::<u8>::new());
    send(ours.as_fd(), &Some(task), &[]);
    let answer = socket::receive(&ours, RECORD).unwrap().unwrap().0;
    let Answer::Done(pid) = wire::decode(&answer).unwrap() else { panic!("no answer") };
    assert_eq!(wire::decode::<u32>(&pid).unwrap(), parent.child.id());
    parent.child.kill().unwrap();
    parent.child.wait().unwrap();
    assert!(!matches!(socket::receive(&ours, RECORD), Ok(Some(_))));
}

#[test]
fn a_child_of_somebody_else_is_an_orphan() {
    let (mut child, _control) = newborn(1);
    assert_eq!(child.wait().unwrap().code(), Some(ORPHANED));
}

#[test]
fn a_parent_that_ends_before_it_said_hello_leaves_nobody() {
    let (mut child, control) = newborn(std::process::id());
    drop(control);
    assert_eq!(child.wait().unwrap().code(), Some(ORPHANED));
}

#[test]
fn a_hello_that_makes_no_sense_is_refused_with_a_reason() {
    let refusal = |record: &[u8]| {
        let (mut child, control) = newborn(std::process::id());
        socket::send(control.as_fd(), record, &[]).unwrap();
        let (answer, _) = socket::receive(&control, RECORD).unwrap().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(REFUSED));
        wire::decode::<Refusal>(&answer).unwrap().0
    };
    assert!(refusal(b"nonsense").contains("cannot be told what to be"));
    let mut strange = hello(serve, b"");
    strange.entry = bytemuck::cast([1u64, 2, 3, 4]);
    let mut record = Vec::new();
    wire::encode(&strange, &mut record).unwrap();
    assert!(refusal(&record).contains("not the same build"));
}

#[test]
fn the_variable_alone_changes_nothing() {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--list").env(birth::VARIABLE, std::process::id().to_string()).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("the_variable_alone_changes_nothing"));
}

#[test]
fn an_executable_that_was_deleted_still_has_workers() {
    // A copy of this harness runs one of its own tests after its file is gone.
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("copy");
    std::fs::copy("/proc/self/exe", &path).unwrap();
    let script = r#"exec 3<"$1"; rm "$1"; exec /proc/self/fd/3 --exact "$2""#;
    let test = "task::tests::functions::workers_have_workers";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(&path).arg(test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{output:?}");
}
