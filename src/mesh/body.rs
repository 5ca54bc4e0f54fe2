//! The bytes of a call or an answer: short ones copied, long ones in the block in which they landed.

use std::ops::Deref;

use crate::mm::Block;

/// Bytes that came from somewhere.
pub(crate) enum Body {
    /// Copied.
    Bytes(Vec<u8>),
    /// The bytes of a block from `begin` to `end`.
    Block { block: Block, begin: usize, end: usize },
}

impl Body {
    /// Without the first `by` bytes.
    pub(crate) fn skip(self, by: usize) -> Body {
        match self {
            Body::Bytes(mut bytes) => {
                bytes.drain(..by.min(bytes.len()));
                Body::Bytes(bytes)
            }
            Body::Block { block, begin, end } => Body::Block { block, begin: (begin + by).min(end), end },
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Body::Bytes(bytes) => bytes,
            Body::Block { block, begin, end } => &block.as_slice()[*begin..*end],
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}
