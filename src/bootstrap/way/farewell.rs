//! The last word to a PMI-1 process manager on whose descriptor we were guests, said when the process ends.
//!
//! If an MPI library has said it before, the connection is closed and this does nothing.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::sys::process;
use crate::sys::rendezvous::{self, For};
use crate::time::Deadline;

/// The connection, and whose: a copy of this process made by `fork` has nothing to say.
static MANAGER: Mutex<Option<(u32, OwnedFd)>> = Mutex::new(None);

/// Sees to it that the manager is told when this process ends by itself.
pub(super) fn say_at_exit(socket: &OwnedFd) -> io::Result<()> {
    let mut manager = MANAGER.lock().unwrap_or_else(PoisonError::into_inner);
    let me = process::id();
    if manager.as_ref().is_none_or(|(whose, _)| *whose != me) {
        *manager = Some((me, socket.try_clone()?));
        rendezvous::at_exit(say)?;
    }
    Ok(())
}

extern "C" fn say() {
    // Somebody else may be in the middle of it only if the process ends while it starts; then the manager sees a crash.
    let Ok(mut manager) = MANAGER.try_lock() else { return };
    let Some((_, socket)) = manager.take().filter(|(whose, _)| *whose == process::id()) else { return };
    if rendezvous::send(&socket, b"cmd=finalize\n").is_ok() {
        // The answer is of no interest, but a connection that ends before it was read looks like a crash, too.
        let _ = rendezvous::ready(&[(socket.as_fd(), For::Reading)], Deadline::after(Duration::from_millis(500)));
    }
}
