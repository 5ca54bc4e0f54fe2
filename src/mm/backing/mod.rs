//! Where the one memory file of a node comes from. Default: a memory file without a name.

mod memfd;
pub(super) mod named;

use std::fs::File;
use std::os::fd::OwnedFd;

use crate::mm::config::Backing;
use crate::mm::config::HugePages;
use crate::mm::config::MemoryConfig;
use crate::mm::error::MemError;
use crate::sys::process;

/// A new file of this size without pages. Dead named segments of ours are swept where names are used.
pub(super) fn create(config: &MemoryConfig, size: u64) -> Result<OwnedFd, MemError> {
    let huge = config.huge_pages == HugePages::Always;
    match config.backing {
        Backing::Memfd => memfd::create(size, huge),
        Backing::Named => named::create(size),
        Backing::Auto => memfd::create(size, huge).or_else(|first| match first {
            // A sandbox without memfd has /dev/shm; huge pages that are not there are nowhere.
            MemError::Io { .. } if !huge => named::create(size).map_err(|_| first),
            other => Err(other),
        }),
    }
}

/// The files that may be a job's memory among those that a process has open, opened for reading only.
pub(super) fn of_process(pid: u32) -> Vec<OwnedFd> {
    let files = process::open_files(pid).into_iter();
    let ours = files.filter(|file| memfd::is_called(&file.name) || named::is_called(&file.name));
    // One that cannot be opened has been closed meanwhile.
    ours.filter_map(|file| File::open(file.path).ok()).map(OwnedFd::from).collect()
}
