//! Starting one child: the same program once more, which becomes a worker before its `main`.
//!
//! `posix_spawn` and nothing else, so that the price does not grow with the memory of the parent; no
//! inherited descriptor but standard input, which is the control socket. The child learns who it is from
//! the first record on that socket and ends when the socket does.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
    sync::Arc,
};

use crossbeam::channel::Sender;

use super::ServiceError;
use super::agent::ChildEnd;
use crate::bootstrap::makes_a_rank;
use crate::id::ProcId;
use crate::mm::Memory;
use crate::policy::{self, Seat};
use crate::sys;
use crate::task::FnRef;
use crate::task::birth::{self, Hello};
use crate::wire;

/// What to start.
pub(crate) struct Order {
    /// The function that the child runs instead of `main`.
    pub(crate) entry: FnRef,
    /// What the function is told; a few kilobytes at most, larger things travel in shared memory.
    pub(crate) argument: Vec<u8>,
    /// Who hears of the child's end.
    pub(crate) ended: Sender<ChildEnd>,
    /// Its cpus and GPUs; `None`: those of this process.
    pub(crate) seat: Option<Seat>,
}

/// A child that has been started.
#[derive(Clone)]
pub(crate) struct Born {
    /// Which of this process's children it is. Its place and its process id may be another's some day.
    pub(crate) serial: u64,
    /// Its place in the node's process table.
    pub(crate) process: ProcId,
    /// Its process id.
    pub(crate) pid: u32,
    /// For signals; becomes readable when it ends.
    pub(super) pidfd: Arc<OwnedFd>,
}

impl Born {
    /// Kills it; that it has ended already is no error.
    pub(crate) fn kill(&self) -> io::Result<()> {
        sys::process::kill(&self.pidfd)
    }
}

/// A living child, as its agent keeps it.
pub(super) struct Living {
    pub(super) born: Born,
    pub(super) handle: Child,
    pub(super) ended: Sender<ChildEnd>,
    /// The child lives as long as this end of its control socket does.
    pub(super) control: OwnedFd,
}

/// Starts one child. On an error nothing of it is left.
pub(super) fn spawn(memory: &Memory, serial: u64, order: Order) -> Result<Living, ServiceError> {
    let process = memory.reserve_process()?;
    mark!("process.spawn.reserved");
    start(memory, serial, process, order).inspect_err(|_| memory.abandon_process(process))
}

fn start(memory: &Memory, serial: u64, process: ProcId, order: Order) -> Result<Living, ServiceError> {
    let (ours, theirs) = sys::socket::pair().map_err(|e| ServiceError::spawn("its control socket", e))?;
    let mut command = command(theirs);
    let mut handle = spawn_on(order.seat.as_ref(), &mut command)?;
    mark!("process.spawn.born");
    memory.process_started(process, handle.id());
    mark!("process.spawn.known");
    match introduce(memory, process, &ours, &handle, &order) {
        Ok(pidfd) => {
            let born = Born { serial, process, pid: handle.id(), pidfd: Arc::new(pidfd) };
            Ok(Living { born, handle, ended: order.ended, control: ours })
        }
        Err(error) => {
            drop(ours);
            // Both fail only for a child that has ended, which is what is wanted.
            let _ = handle.kill();
            let _ = handle.wait();
            Err(error)
        }
    }
}

/// Starts a command on a seat. The child inherits its cpus from this thread, which takes its own again: so `posix_spawn`
/// remains all that it takes, and the child is bound before its first instruction, whatever program it is.
pub(crate) fn spawn_on(seat: Option<&Seat>, command: &mut Command) -> Result<Child, ServiceError> {
    let Some(seat) = seat else { return command.spawn().map_err(|e| ServiceError::spawn("the process itself", e)) };
    command.envs(seat.env.iter().map(|(name, value)| (name, value)));
    let spawned = match &seat.cpus {
        None => command.spawn(),
        Some(cpus) => {
            let bind = |source| ServiceError::Bind { cpus: policy::numbers(cpus), source };
            sys::affinity::while_on(cpus, || command.spawn()).map_err(bind)?
        }
    };
    spawned.map_err(|e| ServiceError::spawn("the process itself", e))
}

/// The command line of a child: this very program, even if its file was replaced meanwhile.
fn command(stdin: OwnedFd) -> Command {
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    for (name, _) in std::env::vars_os() {
        // What makes a rank of this process must not make one of its children.
        if name.to_str().is_some_and(makes_a_rank) {
            command.env_remove(name);
        }
    }
    command.env(birth::VARIABLE, sys::process::id().to_string()).stdin(stdin);
    command
}

/// Tells the child who it is and hands it the node's memory.
fn introduce(
    memory: &Memory,
    process: ProcId,
    socket: &OwnedFd,
    handle: &Child,
    order: &Order,
) -> Result<OwnedFd, ServiceError> {
    let pidfd = sys::process::pidfd(handle.id()).map_err(|e| ServiceError::spawn("watching it (pidfd)", e))?;
    let mut argument = process.0.to_le_bytes().to_vec();
    argument.extend_from_slice(&order.argument);
    let mut hello = Vec::new();
    wire::encode(&Hello { entry: order.entry, argument }, &mut hello)?;
    match sys::socket::send(socket.as_fd(), &hello, &[memory.descriptor()]) {
        // A child that ended before it was told anything is reported by its end, like any other.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(pidfd),
        Err(e) => Err(ServiceError::spawn("telling it who it is", e)),
        Ok(()) => Ok(pidfd),
    }
}

/// Takes apart what a child was told: its place in the process table, and what its entry was told.
pub(crate) fn read_argument(argument: &[u8]) -> Option<(ProcId, &[u8])> {
    let (process, told) = argument.split_first_chunk()?;
    Some((ProcId(u16::from_le_bytes(*process)), told))
}
