//! Bytes that let another process find a block. One that came from elsewhere is a claim until checked.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// Where a block is, and which of the blocks that were ever there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable, Serialize, Deserialize)]
#[repr(C)]
pub(crate) struct Handle {
    pub(crate) segment: u16,
    /// 0: the segment's own heap. Otherwise the pool that the block is from, by its object's place + 1.
    pub(crate) heap: u16,
    pub(crate) generation: u32,
    /// From the start of the segment to the first byte of the payload.
    pub(crate) offset: u64,
    /// Bytes used of the block.
    pub(crate) len: u64,
}

/// Which block a handle means, however much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    place: u64,
    offset: u64,
}

impl Handle {
    /// Bytes of a handle.
    pub(crate) const SIZE: usize = size_of::<Handle>();

    /// The same block, so many bytes of it used.
    pub(crate) fn with_len(self, len: u64) -> Handle {
        Handle { len, ..self }
    }

    /// The block without its length.
    pub(crate) fn key(self) -> BlockKey {
        let place = u64::from(self.segment) << 48 | u64::from(self.heap) << 32 | u64::from(self.generation);
        BlockKey { place, offset: self.offset }
    }

    /// As three words, for places that are atomic; the offset is the middle one.
    pub(super) fn to_words(self) -> [u64; 3] {
        let place = u64::from(self.segment) << 48 | u64::from(self.heap) << 32 | u64::from(self.generation);
        [place, self.offset, self.len]
    }

    pub(super) fn from_words([place, offset, len]: [u64; 3]) -> Handle {
        Handle { segment: (place >> 48) as u16, heap: (place >> 32) as u16, generation: place as u32, offset, len }
    }
}

const _: () = assert!(Handle::SIZE == 24);
