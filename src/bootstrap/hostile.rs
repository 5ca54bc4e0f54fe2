//! Whatever a stranger, a launcher or an environment may say, given to those who read it: for the fuzzer, and for the
//! corpus as a test.

use std::io;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::auth::{CLAIM, GREETING, Judged, KEY, Meeting, VERDICT};
use super::environment::Environment;
use super::message::{Claims, Hello, ToHub, ToSpoke, Welcome, decode, encode};
use super::way::pmi;
use super::{detect, hostlist, pals};
use crate::time::Deadline;

/// One message of ranks that meet, or a record from somebody who does not know the secret.
pub(crate) fn messages(bytes: &[u8]) {
    let Some((which, record)) = bytes.split_first() else { return };
    match which % 4 {
        0 => {
            if let Some(message) = decode::<ToHub>(record) {
                let again = encode(&message);
                assert!(decode::<ToHub>(&again).is_some(), "it is read as it is written");
            }
        }
        1 => {
            if let Some(message) = decode::<ToSpoke>(record) {
                assert!(decode::<ToSpoke>(&encode(&message)).is_some(), "it is read as it is written");
            }
        }
        2 => {
            let Some(claim) = record.first_chunk::<CLAIM>() else { return };
            let (_, keys) = Meeting::new(Some(&[42; KEY]), "job").judge(claim, &[5; KEY]);
            assert!(keys.is_none(), "no proof, no belief");
        }
        _ => {
            let Some((greeting, verdict)) = record.split_first_chunk::<GREETING>() else { return };
            let greeted = Meeting::new(Some(&[42; KEY]), "job").claim(greeting, &[6; KEY]);
            if let (super::auth::Greeted::Claim(_, expected), Some(verdict)) =
                (greeted, verdict.first_chunk::<VERDICT>())
            {
                assert!(!matches!(expected.judge(verdict), Judged::Accepted(_)), "no proof, no belief");
            }
        }
    }
}

/// What a process manager says, line by line.
pub(crate) fn process_manager(bytes: &[u8]) {
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return };
    // What does not fit into the socket is not said.
    let said = theirs.set_nonblocking(true).and_then(|()| theirs.write_all(bytes));
    // It says no more, and still takes what it is asked.
    drop(said.and_then(|()| theirs.shutdown(Shutdown::Write)));
    if ours.set_nonblocking(true).is_ok() {
        pmi::converse(ours.into(), Deadline::Now);
    }
}

/// An environment, one variable a line, and what launchers leave in files.
pub(crate) fn environment(bytes: &[u8]) {
    let _ = pals::parse(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = (hostlist::first(&text), hostlist::ports(&text));
    let variables: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let _ = detect(&Fake(&variables));
}

/// An environment of these variables and nothing else.
struct Fake<'a>(&'a [(&'a str, &'a str)]);

impl Environment for Fake<'_> {
    fn var(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(other, value)| *other == name && !value.is_empty());
        found.map(|(_, value)| value.to_string())
    }

    fn is_socket(&self, fd: i32) -> bool {
        fd == 7
    }

    fn peer(&self, _fd: i32) -> Option<String> {
        None
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        Ok(path.as_bytes().to_vec())
    }

    fn host_name(&self) -> String {
        "node1".into()
    }

    fn is_worker(&self) -> bool {
        false
    }
}

/// What the seeds of the corpus are: well-formed, so that changes of them get far.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let claims = Claims { boot: "boot".into(), uid: 1, shared_memory: Some(3), network: 4, node_id: None };
    let hello = Hello {
        version: 1,
        build: vec![7; 20],
        rank: Some(1),
        size: 2,
        patience: 60_000,
        host: "node1".into(),
        pid: 7,
        card: vec![1, 2, 3],
        claims: claims.clone(),
    };
    let welcome = Welcome::new([7; 16], [(vec![1], claims.clone()), (vec![2], claims)].into_iter());
    let meeting = Meeting::new(Some(&[1; KEY]), "job");
    let greeting = meeting.greeting(&[5; KEY]);
    let with = |which: u8, record: &[u8]| [&[which][..], record].concat();
    vec![
        ("messages", with(0, &encode(&ToHub::Hello(Box::new(hello))))),
        ("messages", with(0, &encode(&ToHub::Round(vec![9; 30])))),
        ("messages", with(1, &encode(&ToSpoke::Welcome(welcome)))),
        ("messages", with(1, &encode(&ToSpoke::Round(vec![vec![1], vec![2; 9]])))),
        ("messages", with(2, &[7; CLAIM])),
        ("messages", with(3, &[&greeting[..], &[0; VERDICT]].concat())),
        (
            "pmi",
            b"cmd=initack pmiid=1\ncmd=set size=2\ncmd=set rank=1\ncmd=set debug=0\ncmd=my_kvsname kvsname=k\n\
              cmd=get_result rc=0 msg=success value=abc\ncmd=barrier_out\ncmd=put_result rc=0\n"
                .to_vec(),
        ),
        (
            "environment",
            b"PMI_RANK=1\nPMI_SIZE=4\nPMI_FD=7\nSLURM_JOB_NODELIST=n[1-4,7]\nOMPI_COMM_WORLD_RANK=1\n".to_vec(),
        ),
        ("environment", b"n[001-010,17],login,gpu[1-3]".to_vec()),
        (
            "environment",
            b"RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=::1\nMASTER_PORT=29500\nDRAGON_RENDEZVOUS=file:/tmp\n".to_vec(),
        ),
    ]
}
