//! The board of a PMIx server: Open MPI, PRRTE, `jsrun`, when ranks are on several machines.
//!
//! The library would not share a process with the MPI library that may come later, and drags a thread along; so a
//! short-lived helper asks in this rank's name.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::Child,
};

use super::Board;
use crate::bootstrap::error::BootstrapError;
use crate::bootstrap::plan::Plan;
use crate::prim::{AtomicU32, Ordering};
use crate::sys::pmix_helper::{self, RECORD};
use crate::sys::rendezvous::{self, For};
use crate::sys::socket;
use crate::time::Deadline;

/// Starts of worlds in this process: each has a key of its own.
static STARTS: AtomicU32 = AtomicU32::new(0);

/// An errand to the PMIx server.
pub(super) struct Pmix {
    key: String,
    helper: Option<Helper>,
    note: Option<Vec<u8>>,
}

impl Pmix {
    pub(super) fn new() -> Pmix {
        // Relaxed: only that each start has another number matters.
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        Pmix { key: format!("dragon-{start}"), helper: None, note: None }
    }

    fn helper(&mut self) -> Result<&mut Helper, BootstrapError> {
        if self.helper.is_none() {
            let (process, socket) =
                pmix_helper::start().map_err(BootstrapError::io("start a helper that speaks PMIx"))?;
            self.helper = Some(Helper { process, socket });
        }
        // It was made above if it was not there.
        self.helper.as_mut().ok_or_else(|| refused("start a helper", "it is not there"))
    }

    fn exchange(&mut self, note: Option<&[u8]>, deadline: Deadline) -> Result<Vec<u8>, BootstrapError> {
        let order = pmix_helper::order(&self.key, note);
        let helper = self.helper()?;
        helper.tell(&order)?;
        helper.hear("exchange addresses", deadline)
    }
}

impl Board for Pmix {
    /// The server knows both better than the environment; to ask it is the first half of the errand.
    fn rank_and_size(&mut self, _: &Plan, deadline: Deadline) -> Result<(Option<u32>, Option<u32>), BootstrapError> {
        let told = self.helper()?.hear("learn rank and size", deadline)?;
        let number = |at: usize| Some(u32::from_le_bytes(*told.get(at..)?.first_chunk()?));
        Ok((number(0), number(4)))
    }

    fn write(&mut self, note: &[u8], deadline: Deadline) -> Result<(), BootstrapError> {
        self.exchange(Some(note), deadline).map(drop)
    }

    fn read(&mut self, deadline: Deadline) -> Result<Option<Vec<u8>>, BootstrapError> {
        if self.note.is_none() {
            self.note = Some(self.exchange(None, deadline)?);
        }
        Ok(self.note.clone())
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        "the PMIx server".into()
    }
}

struct Helper {
    process: Child,
    socket: OwnedFd,
}

impl Helper {
    fn tell(&self, order: &[u8]) -> Result<(), BootstrapError> {
        socket::send(self.socket.as_fd(), order, &[]).map_err(|why| refused("tell the helper", &why.to_string()))
    }

    fn hear(&self, what: &str, deadline: Deadline) -> Result<Vec<u8>, BootstrapError> {
        let ready = rendezvous::ready(&[(self.socket.as_fd(), For::Reading)], deadline);
        let record = match ready.map(|ready| ready[0]) {
            Ok(true) => socket::receive_now(&self.socket, RECORD),
            Ok(false) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "timeout: the server does not answer, or not all processes ask it; raise DRAGON_START_TIMEOUT if they only are slow",
            )),
            Err(why) => Err(why),
        };
        let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "the helper ended");
        let record =
            record.and_then(|record| record.ok_or_else(gone)).map_err(|why| refused(what, &why.to_string()))?.0;
        pmix_helper::answer(&record).map(<[u8]>::to_vec).map_err(|why| refused(what, &why))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Its errand is done when it has answered; what it still has to do, the server does not wait for. It must not be
        // left to the user to reap.
        let done = rendezvous::ready(
            &[(self.socket.as_fd(), For::Reading)],
            Deadline::after(std::time::Duration::from_secs(2)),
        );
        if !done.is_ok_and(|ready| ready[0]) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

fn refused(what: &str, why: &str) -> BootstrapError {
    let why = format!("{why}. Without PMIx it works with DRAGON_RENDEZVOUS=host:port or file:/a/shared/folder");
    BootstrapError::Channel { launcher: "PMIx", what: what.into(), why }
}
