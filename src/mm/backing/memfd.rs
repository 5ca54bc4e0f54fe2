//! A memory file without a name: the kernel frees it with the last process that has it, however that ends.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::mm::error::MemError;
use crate::sys::shm;

/// What the file is called in `/proc`, where it has no other name.
const NAME: &str = "dragon";

/// Whether a file that `/proc` calls so may be one of ours.
pub(super) fn is_called(name: &Path) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("/memfd:") && name[7..].starts_with(NAME))
}

/// A sparse file of this size that nobody can resize.
pub(super) fn create(size: u64, huge: bool) -> Result<OwnedFd, MemError> {
    let file = shm::memory_file(NAME, huge).map_err(MemError::io("create a memory file"))?;
    shm::set_len(&file, size).map_err(MemError::io("size the memory file"))?;
    shm::seal_len(&file).map_err(MemError::io("seal the memory file"))?;
    Ok(file)
}
