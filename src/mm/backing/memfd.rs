//! A memory file without a name: the kernel frees it with the last process that has it, however that ends.

use std::os::fd::OwnedFd;

use crate::mm::error::MemError;
use crate::sys::shm;

/// A sparse file of this size that nobody can resize.
pub(super) fn create(size: u64, huge: bool) -> Result<OwnedFd, MemError> {
    let file = shm::memory_file("dragon", huge).map_err(MemError::io("create a memory file"))?;
    shm::set_len(&file, size).map_err(MemError::io("size the memory file"))?;
    shm::seal_len(&file).map_err(MemError::io("seal the memory file"))?;
    Ok(file)
}
