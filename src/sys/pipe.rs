//! Pipes: how much they hold and how much is in them.

use std::io;
use std::os::fd::AsFd;

/// Lets a pipe hold so many bytes, if this user may have so large ones.
pub(crate) fn grow(pipe: impl AsFd, bytes: usize) -> io::Result<()> {
    rustix::pipe::fcntl_setpipe_size(pipe, bytes)?;
    Ok(())
}

/// How many bytes can be read now; 0 too if that cannot be told.
pub(crate) fn waiting(pipe: impl AsFd) -> usize {
    rustix::io::ioctl_fionread(pipe).map_or(0, |bytes| bytes as usize)
}
