//! The standard library works in a process whose `main` is never reached; its authors promise only
//! their best effort there, so this is looked after here.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use rayon::prelude::*;

use super::*;

#[test]
fn threads_channels_and_locals() {
    thread_local!(static SEEN: RefCell<Vec<u64>> = const { RefCell::new(vec![]) });
    let sum = |()| -> u64 {
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            for i in 0..4u64 {
                let send = send.clone();
                scope.spawn(move || {
                    SEEN.with(|seen| seen.borrow_mut().push(i));
                    send.send(SEEN.with(|seen| seen.borrow()[0])).unwrap();
                });
            }
        });
        drop(send);
        receive.iter().sum()
    };
    assert_eq!(Worker::new().call(sum, ()).unwrap(), 6);
}

#[test]
fn rayon() {
    let squares = |n: u64| (0..n).into_par_iter().map(|x| x * x).sum::<u64>();
    assert_eq!(Worker::new().call(squares, 1000).unwrap(), 332_833_500);
}

#[test]
fn network_files_processes_and_hashes() {
    let all = |()| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || TcpStream::connect(address).unwrap().write_all(b"hi").unwrap());
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        thread.join().unwrap();
        let output = Command::new("echo").arg("x").output().unwrap();
        assert_eq!(HashMap::from([(1, 2)])[&1], 2);
        assert!(std::fs::read_to_string("/proc/self/status").unwrap().contains("Pid"));
        text + &String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(Worker::new().call(all, ()).unwrap(), "hix\n");
}

#[test]
fn input_is_empty_and_broken_pipes_are_errors() {
    let look = |()| {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text).unwrap();
        let (gone, pipe) = std::io::pipe().unwrap();
        drop(gone);
        (read, (&pipe).write(b"x").unwrap_err().kind() == std::io::ErrorKind::BrokenPipe)
    };
    assert_eq!(Worker::new().call(look, ()).unwrap(), (0, true));
}

#[test]
fn output_is_flushed_at_the_end() {
    fn entry(_: &[u8]) {
        use std::io::Write;
        std::io::stdout().write_all(b"no newline").unwrap();
    }
    let (ours, theirs) = socket::pair().unwrap();
    let mut command = Command::new("/proc/self/exe");
    command.env(birth::VARIABLE, std::process::id().to_string()).stdin(theirs).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    send(ours.as_fd(), &hello(entry, b""), &[]);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"no newline");
}

#[test]
fn backtraces_have_names() {
    let trace = |()| std::backtrace::Backtrace::force_capture().to_string();
    assert!(Worker::new().call(trace, ()).unwrap().contains("backtraces_have_names"));
}

#[test]
fn arguments_environment_and_names() {
    let mut worker = Worker::new();
    assert_eq!(worker.call(|()| std::env::args().count(), ()).unwrap(), 1);
    assert!(worker.call(|()| std::env::var_os(birth::VARIABLE).is_none(), ()).unwrap());
    let thread = worker.call(|()| thread::current().name().map(String::from), ()).unwrap();
    assert_eq!(thread.as_deref(), Some("dragon-worker"));
    let process = worker.call(|()| std::fs::read_to_string("/proc/self/comm").unwrap(), ()).unwrap();
    assert_eq!(process, "dragon\n");
}

#[test]
fn descriptors_are_few() {
    let open = |()| std::fs::read_dir("/proc/self/fd").unwrap().count();
    // What an ordinary child has, plus two of the control socket and one to watch the parent.
    let ordinary = Command::new("ls").arg("/proc/self/fd").stdin(Stdio::null()).output().unwrap().stdout;
    let ordinary = String::from_utf8(ordinary).unwrap().lines().count();
    assert_eq!(Worker::new().call(open, ()).unwrap(), ordinary + 3);
}

#[test]
fn constructors_behind_ours_have_run() {
    use std::sync::OnceLock;
    static RAN: OnceLock<u32> = OnceLock::new();
    extern "C" fn constructor() {
        let _ = RAN.set(std::process::id());
    }
    // The linker sorts numbered tables before the plain one; the plain one keeps the order of objects.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static ENTRY: extern "C" fn() = constructor;
    assert_eq!(RAN.get(), Some(&std::process::id()));
    let mut worker = Worker::new();
    let pid = worker.child.id();
    assert_eq!(worker.call(|()| RAN.get().copied(), ()).unwrap(), Some(pid));
}
