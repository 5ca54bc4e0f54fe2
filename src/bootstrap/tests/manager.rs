//! A PMI-1 process manager of our own, as the peer of our client: it starts ranks, answers, and misbehaves if asked to.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    process::Stdio,
    sync::{Arc, Barrier, Mutex},
    time::Duration,
};

use super::crew::{ARGUMENTS, Crew, Outcome, REPORTS, agreeing, binary, command};

/// How the manager treats its ranks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Good,
    /// It answers everything with this.
    Says(&'static str),
    /// It hangs up at the barrier.
    HangsUp,
    /// It never answers.
    Silent,
}

struct Manager {
    notes: Mutex<HashMap<String, String>>,
    barrier: Barrier,
    manners: Manners,
    size: u32,
}

impl Manager {
    /// One rank's requests, until it leaves. Whether it took its leave.
    fn serve(&self, socket: impl std::io::Read + Write) -> bool {
        let mut reader = BufReader::new(socket);
        loop {
            let mut line = String::new();
            if !matches!(reader.read_line(&mut line), Ok(1..)) {
                return false;
            }
            let field =
                |name: &str| line.trim_end().split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            let request = field("cmd").unwrap_or_default();
            let answer = match (self.manners, request) {
                (_, "finalize") => {
                    let _ = reader.get_mut().write_all(b"cmd=finalize_ack rc=0\n");
                    return true;
                }
                (Manners::Says(words), _) => words.into(),
                (Manners::HangsUp, "barrier_in") => return false,
                (Manners::Silent, _) => continue,
                (_, "initack") => {
                    let rank = field("pmiid").unwrap();
                    format!("cmd=initack rc=0\ncmd=set size={}\ncmd=set rank={rank}\ncmd=set debug=0\n", self.size)
                }
                (_, "get_my_kvsname") => "cmd=my_kvsname kvsname=kvs_1_0\n".into(),
                (_, "put") => {
                    assert!(line.len() < 1024, "Slurm's reader takes no longer lines");
                    let (key, value) = (field("key").unwrap().into(), field("value").unwrap().into());
                    self.notes.lock().unwrap().insert(key, value);
                    "cmd=put_result rc=0 msg=success\n".into()
                }
                (_, "barrier_in") => {
                    self.barrier.wait();
                    "cmd=barrier_out\n".into()
                }
                (_, "get") => match self.notes.lock().unwrap().get(field("key").unwrap()) {
                    Some(value) => format!("cmd=get_result rc=0 msg=success value={value}\n"),
                    None => "cmd=get_result rc=-1 msg=key_not_found\n".into(),
                },
                (_, other) => panic!("a guest does not say {other}"),
            };
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return false;
            }
        }
    }
}

/// Ranks under a manager; what they report, and how many took their leave.
fn run(size: u32, manners: Manners, patience: &str) -> (Vec<Outcome>, usize) {
    let (notes, barrier) = (Mutex::default(), Barrier::new(size as usize));
    let manager = Arc::new(Manager { notes, barrier, manners, size });
    let mut crew = Crew::new();
    let servers: Vec<_> = (0..size)
        .map(|rank| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut program = command(&binary());
            // The descriptor is the rank's standard input: the only one that is surely passed on.
            program.args(ARGUMENTS).stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::null()).env("PMI_FD", "0");
            program.env("PMI_RANK", rank.to_string()).env("PMI_SIZE", size.to_string());
            program.env(REPORTS, crew.folder.path()).env("DRAGON_START_TIMEOUT", patience);
            crew.adopt(program.spawn().unwrap());
            let manager = manager.clone();
            std::thread::spawn(move || manager.serve(ours))
        })
        .collect();
    let outcomes = crew.reports(Duration::from_secs(30));
    (outcomes, servers.into_iter().map(|server| server.join().unwrap()).filter(|left| *left).count())
}

#[test]
fn ranks_meet_by_a_descriptor() {
    let (outcomes, left) = run(4, Manners::Good, "20");
    agreeing(outcomes, 4);
    assert_eq!(left, 4, "each took its leave when it ended");
}

#[test]
fn ranks_meet_by_a_port() {
    let size = 3;
    let (notes, barrier) = (Mutex::default(), Barrier::new(size as usize));
    let manager = Arc::new(Manager { notes, barrier, manners: Manners::Good, size });
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap().to_string();
    let mut crew = Crew::new();
    for rank in 0..size {
        crew.start(&[("PMI_PORT", &address), ("PMI_ID", &rank.to_string())]);
    }
    let serve = |_| {
        let (socket, manager) = (door.accept().unwrap().0, manager.clone());
        std::thread::spawn(move || manager.serve(socket))
    };
    let servers: Vec<_> = (0..size).map(serve).collect();
    agreeing(crew.reports(Duration::from_secs(30)), size);
    assert!(servers.into_iter().all(|server| server.join().unwrap()));
}

#[test]
fn a_manager_that_misbehaves_is_an_error_that_says_how() {
    let long = "x".repeat(20_000).leak();
    let cases = [
        (Manners::Says("cmd=my_kvsname rc=-1 kvsname=\n"), "PMI bootstrap: cannot"),
        (Manners::Says("rubbish\n"), "rubbish"),
        (Manners::Says(long), "a line without an end"),
        (Manners::HangsUp, "hung up"),
        (Manners::Silent, "timeout"),
    ];
    for (manners, word) in cases {
        for outcome in run(2, manners, "1").0 {
            let why = outcome.unwrap_err();
            assert!(why.contains("PMI") && why.contains(word), "{word}: {why}");
        }
    }
}
