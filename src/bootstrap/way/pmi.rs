//! The board of process managers that speak PMI-1, a protocol of lines: MPICH, Intel MPI, MVAPICH, Flux.
//!
//! ```text
//! cmd=get_my_kvsname                          cmd=my_kvsname kvsname=K
//! cmd=put kvsname=K key=X value=V             cmd=put_result rc=0          seen by others after the barrier
//! cmd=barrier_in                              cmd=barrier_out
//! cmd=get kvsname=K key=X                     cmd=get_result rc=0 value=V
//! ```
//! We are *guests*: no `init`, and `finalize` only when the process ends, so that an MPI library in it, earlier or later,
//! finds its connection as if we had never been there. Without that last word MPICH's manager takes the end of one rank for
//! a crash and kills the others; said earlier, it would be MPI's.

use std::{
    io,
    net::ToSocketAddrs,
    os::fd::{AsFd, OwnedFd},
};

use super::Board;
use super::farewell::{self, Whose};
use crate::bootstrap::address::Address;
use crate::bootstrap::error::BootstrapError;
use crate::bootstrap::plan::{Plan, PmiDoor};
use crate::bootstrap::secret::{hex, unhex};
use crate::prim::{AtomicU32, Ordering};
use crate::sys::rendezvous::{self, For};
use crate::time::Deadline;

/// Some managers announce values of 1024 bytes and take lines of as many.
const CHUNK: usize = 480;
/// No answer is longer.
const LINE_MAX: usize = 8192;
/// A note of more parts is none of ours.
const CHUNKS_MAX: usize = 64;

/// Starts of worlds in this process: the board forgets nothing, so each has keys of its own.
static STARTS: AtomicU32 = AtomicU32::new(0);

/// A conversation with the process manager.
pub(super) struct Pmi {
    door: PmiDoor,
    start: u32,
    connection: Option<Connection>,
    note: Option<Vec<u8>>,
}

impl Pmi {
    pub(super) fn new(door: &PmiDoor) -> Pmi {
        // Relaxed: only that each start has another number matters.
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        Pmi { door: door.clone(), start, connection: None, note: None }
    }

    fn connection(&mut self, deadline: Deadline) -> Result<&mut Connection, BootstrapError> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.door, deadline)?);
        }
        // It was made above if it was not there.
        self.connection.as_mut().ok_or_else(|| refused("connect", "no connection"))
    }

    fn key(&self, chunk: usize) -> String {
        format!("dragon-{}-{chunk}", self.start)
    }

    fn fetch(&mut self, deadline: Deadline) -> Result<Vec<u8>, BootstrapError> {
        let (mut text, mut count, mut at) = (String::new(), 1, 0);
        while at < count {
            let key = self.key(at);
            let value = self.connection(deadline)?.get(&key, deadline)?;
            let (chunks, chunk) = value.split_once(':').unwrap_or(("", ""));
            count = chunks
                .parse()
                .ok()
                .filter(|count| *count <= CHUNKS_MAX)
                .ok_or_else(|| refused("read the note", &value))?;
            text.push_str(chunk);
            at += 1;
        }
        unhex(&text).ok_or_else(|| refused("read the note", "it is garbled"))
    }
}

impl Board for Pmi {
    fn rank_and_size(&mut self, plan: &Plan, deadline: Deadline) -> Result<(Option<u32>, Option<u32>), BootstrapError> {
        if plan.size.is_some() {
            return Ok((plan.rank, plan.size));
        }
        Ok(self.connection(deadline)?.told)
    }

    fn write(&mut self, note: &[u8], deadline: Deadline) -> Result<(), BootstrapError> {
        let text = hex(note);
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(CHUNK).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            let (key, chunk) = (self.key(at), String::from_utf8_lossy(chunk));
            let value = format!("{}:{chunk}", chunks.len());
            self.connection(deadline)?.put(&key, &value, deadline)?;
        }
        self.connection(deadline)?.barrier(deadline)
    }

    fn read(&mut self, deadline: Deadline) -> Result<Option<Vec<u8>>, BootstrapError> {
        if self.note.is_none() {
            self.connection(deadline)?.barrier(deadline)?;
            self.note = Some(self.fetch(deadline)?);
        }
        Ok(self.note.clone())
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        match &self.door {
            PmiDoor::Descriptor(fd) => format!("the process manager (PMI_FD={fd})"),
            PmiDoor::Port { address, .. } => format!("the process manager (PMI_PORT={address})"),
        }
    }
}

/// Requests and answers, one at a time.
struct Connection {
    socket: OwnedFd,
    got: Vec<u8>,
    space: String,
    /// What the manager has told of rank and size, on a connection of our own.
    told: (Option<u32>, Option<u32>),
}

impl Connection {
    fn open(door: &PmiDoor, deadline: Deadline) -> Result<Connection, BootstrapError> {
        let made = |socket| Connection { socket, got: Vec::new(), space: String::new(), told: (None, None) };
        let refuse = |why: io::Error| refused("take part", &why.to_string());
        let mut connection = match door {
            PmiDoor::Descriptor(fd) => {
                let socket = rendezvous::borrow_socket(*fd).map_err(refuse)?;
                farewell::say_at_exit(&socket, Whose::Launchers).map_err(refuse)?;
                made(socket)
            }
            PmiDoor::Port { address, id } => {
                let mut connection = made(call(address, deadline)?);
                farewell::say_at_exit(&connection.socket, Whose::Ours).map_err(refuse)?;
                connection.introduce(*id, deadline)?;
                connection
            }
        };
        let answer = connection.ask("cmd=get_my_kvsname\n", "my_kvsname", deadline)?;
        connection.space = field(&answer, "kvsname").ok_or_else(|| refused("learn its name", &answer))?.into();
        Ok(connection)
    }

    /// Who calls a port has to say which process it is, and is told its rank.
    fn introduce(&mut self, id: u32, deadline: Deadline) -> Result<(), BootstrapError> {
        self.ask(&format!("cmd=initack pmiid={id}\n"), "initack", deadline)?;
        for _ in 0..3 {
            let line = self.line(deadline)?;
            let number = |name| field(&line, name).and_then(|value| value.parse().ok());
            self.told = (number("rank").or(self.told.0), number("size").or(self.told.1));
        }
        Ok(())
    }

    fn put(&mut self, key: &str, value: &str, deadline: Deadline) -> Result<(), BootstrapError> {
        let request = format!("cmd=put kvsname={} key={key} value={value}\n", self.space);
        done(&self.ask(&request, "put_result", deadline)?, "leave the note")
    }

    fn get(&mut self, key: &str, deadline: Deadline) -> Result<String, BootstrapError> {
        let answer = self.ask(&format!("cmd=get kvsname={} key={key}\n", self.space), "get_result", deadline)?;
        done(&answer, "find the note of rank 0")?;
        Ok(field(&answer, "value").unwrap_or_default().into())
    }

    fn barrier(&mut self, deadline: Deadline) -> Result<(), BootstrapError> {
        self.ask("cmd=barrier_in\n", "barrier_out", deadline).map(drop)
    }

    fn ask(&mut self, request: &str, expected: &str, deadline: Deadline) -> Result<String, BootstrapError> {
        let what = || request.trim_end().chars().take(60).collect::<String>();
        let mut rest = request.as_bytes();
        while !rest.is_empty() {
            let sent = rendezvous::send(&self.socket, rest);
            match sent {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.wait(For::Writing, deadline, &what())?,
                sent => rest = &rest[sent.map_err(|why| refused(&what(), &why.to_string()))?..],
            }
        }
        let line = self.line(deadline)?;
        if field(&line, "cmd") == Some(expected) {
            Ok(line)
        } else {
            Err(refused(&what(), &format!("it answers {line:?}")))
        }
    }

    fn line(&mut self, deadline: Deadline) -> Result<String, BootstrapError> {
        let what = "hear the process manager";
        loop {
            if let Some(end) = self.got.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.got.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.got.len() > LINE_MAX {
                return Err(refused(what, "a line without an end"));
            }
            let mut room = [0; 1024];
            match rendezvous::receive(&self.socket, &mut room) {
                Ok(0) => return Err(refused(what, "it has hung up")),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.wait(For::Reading, deadline, what)?,
                got => self.got.extend(&room[..got.map_err(|why| refused(what, &why.to_string()))?]),
            }
        }
    }

    fn wait(&self, what_for: For, deadline: Deadline, what: &str) -> Result<(), BootstrapError> {
        let ready = rendezvous::ready(&[(self.socket.as_fd(), what_for)], deadline);
        match ready.map_err(BootstrapError::io("wait for the process manager"))?[0] {
            true => Ok(()),
            false => Err(refused(
                what,
                "timeout: not all processes came to its barrier; raise DRAGON_START_TIMEOUT if they only are slow",
            )),
        }
    }
}

/// Says all that there is to say to a manager that answers as it likes.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::bootstrap) fn converse(socket: OwnedFd, deadline: Deadline) {
    let mut connection = Connection { socket, got: Vec::new(), space: String::new(), told: (None, None) };
    // Whether it helps is the manager's business; that it ends is ours.
    let _ = connection.introduce(1, deadline);
    let _ = connection.ask("cmd=get_my_kvsname\n", "my_kvsname", deadline);
    let _ = connection.put("key", "value", deadline);
    let _ = connection.barrier(deadline);
    if let Ok(value) = connection.get("key", deadline) {
        assert!(value.len() <= LINE_MAX + 1024, "a line within the limits");
    }
}

fn call(address: &str, deadline: Deadline) -> Result<OwnedFd, BootstrapError> {
    let mut last = "the name is not known".to_string();
    for at in address.to_socket_addrs().into_iter().flatten() {
        match Address::Net(at).call(deadline) {
            Ok(socket) => return Ok(socket.into()),
            Err(why) => last = why.to_string(),
        }
    }
    Err(refused(&format!("reach PMI_PORT={address}"), &last))
}

/// The value of a field of a line. No value has a blank.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn done(answer: &str, what: &str) -> Result<(), BootstrapError> {
    // A manager that says nothing of it did it.
    if matches!(field(answer, "rc"), None | Some("0")) {
        Ok(())
    } else {
        Err(refused(what, &format!("it answers {answer:?}")))
    }
}

fn refused(what: &str, why: &str) -> BootstrapError {
    BootstrapError::Channel { launcher: "PMI", what: what.into(), why: why.into() }
}
