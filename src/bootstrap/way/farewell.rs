//! The last word to a PMI-1 process manager with whom we were guests, said when the process ends.
//!
//! On the launcher's descriptor it may be said in any case: if an MPI library has said it before, the connection is closed
//! and this does nothing. On a connection of our own it would be said twice then, which the manager does not survive: if
//! there is an MPI library in the process, it is left to that.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::sys::process;
use crate::sys::rendezvous::{self, For};
use crate::time::Deadline;

/// Who opened the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The launcher, for whoever comes.
    Launchers,
    /// We did.
    Ours,
}

/// The connection, and the process: a copy of it made by `fork` has nothing to say.
static MANAGER: Mutex<Option<(u32, OwnedFd, Whose)>> = Mutex::new(None);

/// Sees to it that the manager is told when this process ends by itself.
pub(super) fn say_at_exit(socket: &OwnedFd, whose: Whose) -> io::Result<()> {
    let mut manager = MANAGER.lock().unwrap_or_else(PoisonError::into_inner);
    let me = process::id();
    if manager.as_ref().is_none_or(|(process, ..)| *process != me) {
        *manager = Some((me, socket.try_clone()?, whose));
        rendezvous::at_exit(say)?;
    }
    Ok(())
}

extern "C" fn say() {
    // Somebody else may be in the middle of it only if the process ends while it starts; then the manager sees a crash.
    let Ok(mut manager) = MANAGER.try_lock() else { return };
    let Some((_, socket, whose)) = manager.take().filter(|(whose_process, ..)| *whose_process == process::id()) else {
        return;
    };
    if whose == Whose::Ours && has_mpi() {
        return;
    }
    if rendezvous::send(&socket, b"cmd=finalize\n").is_ok() {
        // The answer is of no interest, but a connection that ends before it was read looks like a crash, too.
        let _ = rendezvous::ready(&[(socket.as_fd(), For::Reading)], Deadline::after(Duration::from_millis(500)));
    }
}

/// Whether an MPI library is in this process.
fn has_mpi() -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().any(|line| line.rsplit('/').next().is_some_and(|name| name.starts_with("libmpi")))
}
