//! What a table stands on: words at spots, and blocks to grow by. In the product that is the node's memory;
//! the model checker gives words of its own.

use std::sync::Arc;

use crate::id::ProcId;
use crate::mm::{Block, Given, MemError, Memory, Object};
use crate::prim::AtomicU64;

/// Where a table finds its words.
pub(crate) trait Ground {
    /// A block that this process holds.
    type Block;
    /// On whose behalf.
    fn me(&self) -> ProcId;
    /// The words of the table's own object.
    fn root(&self) -> &[AtomicU64];
    /// So many words from a spot on, or fewer if there are no more; nothing if there are none.
    fn words(&self, spot: u64, most: usize) -> Option<&[AtomicU64]>;
    /// Bytes from a spot on, which do not change as long as they are borrowed: they are pinned.
    fn bytes(&self, spot: u64, len: usize) -> Option<&[u8]>;
    /// A fresh block of so many bytes with anything in it, and the name it will have.
    fn make(&self, bytes: usize) -> Result<(Self::Block, Given), MemError>;
    /// A block of this process that is filled already.
    fn adopt(&self, block: Block) -> Result<(Self::Block, Given), MemError>;
    /// The bytes of a block of this process.
    fn bytes_of<'b>(&self, block: &'b mut Self::Block) -> &'b mut [u8];
    /// Lets a block belong to the table. Its name is written where a repair finds it.
    fn give(&self, block: Self::Block);
    /// Makes a given block this process's own again; dropping it ends it.
    fn take_back(&self, given: Given) -> Option<Self::Block>;
    /// Gives a named block that the dead had in its hands.
    fn give_for(&self, given: Given, dead: ProcId);
}

/// A part of the node's memory that has the root of a table in it.
pub(crate) trait Site {
    /// The memory.
    fn memory(&self) -> &Arc<Memory>;
    /// The words of the table's own object.
    fn root(&self) -> &[AtomicU64];
}

impl Site for Object {
    #[inline]
    fn memory(&self) -> &Arc<Memory> {
        Object::memory(self)
    }

    #[inline]
    fn root(&self) -> &[AtomicU64] {
        self.words()
    }
}

/// What is left of a table that nobody has open any more.
pub(super) struct Estate<'m> {
    pub(super) memory: &'m Arc<Memory>,
    pub(super) root: &'m [AtomicU64],
}

impl Site for Estate<'_> {
    fn memory(&self) -> &Arc<Memory> {
        self.memory
    }

    fn root(&self) -> &[AtomicU64] {
        self.root
    }
}

impl<S: Site> Ground for S {
    type Block = Block;

    #[inline]
    fn me(&self) -> ProcId {
        self.memory().me()
    }

    #[inline]
    fn root(&self) -> &[AtomicU64] {
        Site::root(self)
    }

    #[inline]
    fn words(&self, spot: u64, count: usize) -> Option<&[AtomicU64]> {
        self.memory().words_at(spot, count)
    }

    fn bytes(&self, spot: u64, len: usize) -> Option<&[u8]> {
        self.memory().bytes_at(spot, len)
    }

    fn make(&self, bytes: usize) -> Result<(Block, Given), MemError> {
        self.adopt(self.memory().alloc(bytes)?)
    }

    fn adopt(&self, block: Block) -> Result<(Block, Given), MemError> {
        let given = self.memory().given_name(&block)?;
        Ok((block, given))
    }

    fn bytes_of<'b>(&self, block: &'b mut Block) -> &'b mut [u8] {
        block.as_mut_slice()
    }

    fn give(&self, block: Block) {
        self.memory().give(block);
    }

    fn take_back(&self, given: Given) -> Option<Block> {
        self.memory().take_back(given)
    }

    fn give_for(&self, given: Given, dead: ProcId) {
        self.memory().give_for(given, dead);
    }
}
