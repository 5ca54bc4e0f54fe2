//! What a process can see of how it was started: variables, descriptors, files. A value, so that tests have their own.

use std::{fs, io};

use crate::sys::process;
use crate::sys::rendezvous;

/// What [`detect`](super::detect) asks.
pub(crate) trait Environment {
    /// A variable. One that is empty counts as not set, for scripts set variables to nothing to be rid of them.
    fn var(&self, name: &str) -> Option<String>;
    /// Whether this number is an open socket of the process.
    fn is_socket(&self, fd: i32) -> bool;
    /// A name for the process that made the other end of an open socket, the same for all who have a socket of it.
    fn peer(&self, fd: i32) -> Option<String>;
    /// The contents of a file that a variable names.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// The name of this machine.
    fn host_name(&self) -> String;
    /// Whether this process was started by the runtime itself: then it has a place already and is no rank.
    fn is_worker(&self) -> bool;
}

/// The real one.
pub(crate) struct Process {
    /// Said by who knows: the variable that made this process a worker is long removed.
    pub(crate) is_worker: bool,
}

impl Environment for Process {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn is_socket(&self, fd: i32) -> bool {
        rendezvous::is_socket(fd)
    }

    fn peer(&self, fd: i32) -> Option<String> {
        let pid = rendezvous::peer_of(fd)?.pid;
        Some(format!("{pid} {}", process::start_time(pid)?))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn host_name(&self) -> String {
        process::host_name()
    }

    fn is_worker(&self) -> bool {
        self.is_worker
    }
}
