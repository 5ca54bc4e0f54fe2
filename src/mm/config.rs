//! What a node's memory shall be like; read from the environment by the floors above.

use serde::{Deserialize, Serialize};

use crate::mm::error::MemError;
use crate::mm::layout;
use crate::sys::shm;

/// Where the memory comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// A memory file without a name; where the system refuses one, a named segment.
    #[default]
    Auto,
    /// A memory file without a name, or an error.
    Memfd,
    /// A segment in `/dev/shm` that loses its name at once.
    Named,
}

/// Whether huge pages are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HugePages {
    /// Ask, and take what comes.
    #[default]
    Auto,
    /// Ordinary pages only.
    Never,
    /// Huge pages or an error.
    Always,
}

/// Settings of a node's memory. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryConfig {
    /// Address space of one segment (DRAGON_DEFAULT_SEG_SZ).
    pub(crate) segment_size: u64,
    /// Most that may be committed (DRAGON_MEMORY_LIMIT).
    pub(crate) limit: u64,
    /// Where it comes from (DRAGON_SHM).
    pub(crate) backing: Backing,
    /// Of which pages.
    pub(crate) huge_pages: HugePages,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        MemoryConfig {
            segment_size: layout::DEFAULT_SEGMENT_SIZE,
            limit: shm::memory_of_machine(),
            backing: Backing::Auto,
            huge_pages: HugePages::Auto,
        }
    }
}

impl MemoryConfig {
    /// Says which knob is set to what cannot work.
    pub(crate) fn validate(&self) -> Result<(), MemError> {
        let bad = |knob, value, why| Err(MemError::BadConfig { knob, value, why });
        if self.segment_size < layout::SEGMENT_SIZE_MIN {
            return bad("DRAGON_DEFAULT_SEG_SZ", self.segment_size, "a segment has at least 16 MiB");
        }
        if self.segment_size > layout::SEGMENT_SIZE_MAX {
            return bad("DRAGON_DEFAULT_SEG_SZ", self.segment_size, "a segment has at most 64 GiB");
        }
        if self.limit < layout::LIMIT_MIN {
            return bad("DRAGON_MEMORY_LIMIT", self.limit, "the tables and a first block need 1 MiB");
        }
        Ok(())
    }

    /// The size of the pages that are committed one by one.
    pub(super) fn granule(&self) -> u64 {
        if self.huge_pages == HugePages::Always { shm::HUGE_PAGE } else { shm::page_size() }
    }
}
