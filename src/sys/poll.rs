//! Sleeping on several descriptors at once, and a descriptor to be woken by.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{EventfdFlags, PollFd, PollFlags};

/// Sleeps until at least one descriptor is readable or at its end; says which are.
#[expect(dead_code, reason = "for processes on other nodes, which come next")]
pub(crate) fn readable(descriptors: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    let mut asked: Vec<_> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut asked, None))?;
    Ok(asked.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// A bell that any thread of this process can ring and one thread sleeps on with [`readable`].
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// A silent bell.
    pub(crate) fn new() -> io::Result<Bell> {
        Ok(Bell(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the bell readable until it is answered.
    pub(crate) fn ring(&self) {
        // The only failure is a full counter, and then the bell is ringing already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Silences the bell. Look for work after this call, not before.
    pub(crate) fn answer(&self) {
        // The only failure is a bell that nobody rang.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
