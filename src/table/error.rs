//! Why a table refuses.

use crate::mm::MemError;

/// A refusal of a table. Sizes are bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The memory set aside for a manager is used up.
    #[error(
        "the dictionary is full: asked for {asked} bytes with {in_use} bytes in use of {limit} at this manager; remove \
         something, or give it more with `memory_per_node`"
    )]
    Full {
        /// What was needed.
        asked: u64,
        /// What entries take at this manager.
        in_use: u64,
        /// What they may take.
        limit: u64,
    },
    /// It could never fit.
    #[error(
        "{asked} bytes do not fit the dictionary, whose managers have {limit} bytes each, however empty; give it more \
         with `memory_per_node`"
    )]
    TooLarge {
        /// What was needed.
        asked: u64,
        /// What a manager may take.
        limit: u64,
    },
    /// A key is too long.
    #[error("a key of {len} encoded bytes is longer than this dictionary's longest, {most}")]
    KeyTooLong {
        /// Its length.
        len: usize,
        /// The longest.
        most: usize,
    },
    /// The node's memory refuses.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// Words that contradict each other: memory was overwritten.
    #[error("the dictionary is damaged: {why}")]
    Damaged {
        /// What was found.
        why: &'static str,
    },
}

impl TableError {
    pub(super) fn damaged(why: &'static str) -> TableError {
        TableError::Damaged { why }
    }

    /// Whether freeing something could help.
    pub(super) fn is_full(&self) -> bool {
        match self {
            TableError::Full { .. } => true,
            TableError::Memory(memory) => memory.is_out_of_memory(),
            _ => false,
        }
    }
}
