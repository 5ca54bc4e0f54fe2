//! A block of shared memory that this process holds; freed when dropped.

use std::{mem::ManuallyDrop, ptr, ptr::NonNull, slice, sync::Arc};

use crate::mm::handle::Handle;
use crate::mm::memory::Memory;

/// An allocation. Nobody else may touch its bytes until it is handed over.
pub(crate) struct Block {
    memory: Arc<Memory>,
    at: NonNull<u8>,
    handle: Handle,
}

// SAFETY: a block is bytes that belong to whoever has this value; which thread that is does not matter.
unsafe impl Send for Block {}
// SAFETY: through a shared reference bytes can only be read.
unsafe impl Sync for Block {}

impl Block {
    #[inline]
    pub(super) fn new(memory: Arc<Memory>, at: NonNull<u8>, handle: Handle) -> Block {
        Block { memory, at, handle }
    }

    /// Where it starts in this process.
    #[inline]
    pub(crate) fn ptr(&self) -> NonNull<u8> {
        self.at
    }

    /// Bytes asked for.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.handle.len as usize
    }

    /// Its bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the block is this value's alone; shared pages hold initialised bytes (zero at first).
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.len()) }
    }

    /// Its bytes, to be written.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.len()) }
    }

    /// Where it is from.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What another process needs to take it over. It stays this process's until then.
    #[inline]
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// Lets go without freeing: the block still names this process, until somebody takes it over, or
    /// this process dies.
    #[inline]
    pub(crate) fn into_handle(self) -> Handle {
        let block = ManuallyDrop::new(self);
        // SAFETY: `block` is never dropped, so its reference is dropped here, once.
        unsafe { drop(ptr::read(&block.memory)) };
        block.handle
    }

    /// As [`Block::into_handle`], with the memory.
    pub(super) fn into_parts(self) -> (Arc<Memory>, NonNull<u8>, Handle) {
        let block = ManuallyDrop::new(self);
        // SAFETY: `block` is never dropped, so its reference moves out, once.
        (unsafe { ptr::read(&block.memory) }, block.at, block.handle)
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        self.memory.free(self.handle);
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Block").field(&self.handle).finish()
    }
}
