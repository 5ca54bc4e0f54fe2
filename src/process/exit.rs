//! How processes are doing, and how they ended.

use serde::{Deserialize, Serialize};

use crate::runtime::NodeId;

/// What a process of a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProcessState {
    /// Its group has not been started.
    Idle,
    /// It begins as soon as there is room, or when the pause before its next start is over.
    Waiting,
    /// It has been started and has not ended.
    Running,
    /// It has ended, and will not be started again.
    Ended,
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GroupState {
    /// Nothing of it runs: it has not been started, or all its processes have ended.
    Idle,
    /// Some of its processes run or are yet to begin.
    Running,
    /// It was closed.
    Closed,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Code(i32),
    Signal(i32),
    /// Its node is lost, or somebody else reaped it: nobody can know.
    Lost(String),
    /// It never began.
    NotStarted(String),
}

/// The end of one process of a group: which, and how.
///
/// ```
/// let _dragon = dragon::init()?;
/// let exit = dragon::Process::program("/bin/sh").args(["-c", "exit 3"]).start()?.join()?;
/// assert_eq!((exit.code(), exit.signal(), exit.success()), (Some(3), None, false));
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub(super) process: usize,
    pub(super) pid: u32,
    pub(super) node: u32,
    pub(super) restarts: u32,
    pub(super) how: How,
}

impl Exit {
    /// Which process of its group it was, from 0.
    pub fn process(&self) -> usize {
        self.process
    }

    /// Its process id on its node; 0 if it never began.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its node.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.node)
    }

    /// How often it had been started again by then.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The code that it ended with, if it ended by itself. A function that panics ends with 101.
    pub fn code(&self) -> Option<i32> {
        match self.how {
            How::Code(code) => Some(code),
            _ => None,
        }
    }

    /// The number of the signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.how {
            How::Signal(signal) => Some(signal),
            _ => None,
        }
    }

    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.how == How::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Exit { process, pid, node, how, .. } = self;
        match how {
            How::NotStarted(_) => write!(f, "process {process} {how}"),
            _ => write!(f, "process {process} (pid {pid}, node {node}) {how}"),
        }
    }
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            How::Code(code) => write!(f, "ended with code {code}"),
            How::Signal(signal) => write!(f, "was ended by signal {signal}"),
            How::Lost(why) => write!(f, "is lost: {why}"),
            How::NotStarted(why) => write!(f, "did not begin: {why}"),
        }
    }
}

/// Something that happened in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent {
    /// A process has begun.
    Started {
        /// Which one.
        process: usize,
        /// Its process id on its node.
        pid: u32,
        /// Its node.
        node: NodeId,
        /// How often it had been started before.
        restarts: u32,
    },
    /// A process has ended. It may begin again, where the group's [`Restart`](crate::Restart) says so.
    Ended(Exit),
    /// All processes of the group have ended.
    Finished,
}

/// A signal to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signal(i32);

impl Signal {
    /// The terminal is gone; to many servers: read your settings again.
    pub const HUP: Signal = Signal(1);
    /// Interrupt, as by Ctrl-C.
    pub const INT: Signal = Signal(2);
    /// Quit, with a memory dump.
    pub const QUIT: Signal = Signal(3);
    /// End at once; cannot be refused.
    pub const KILL: Signal = Signal(9);
    /// For the program to define.
    pub const USR1: Signal = Signal(10);
    /// For the program to define.
    pub const USR2: Signal = Signal(12);
    /// Please end.
    pub const TERM: Signal = Signal(15);
    /// Go on after a stop.
    pub const CONT: Signal = Signal(18);
    /// Stand still; cannot be refused.
    pub const STOP: Signal = Signal(19);

    /// The signal of this number. Whether there is one, the kernel says when it is sent.
    pub fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// Its number.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}
