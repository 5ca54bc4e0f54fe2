//! What can go wrong with memory, in words that name figures and the knob to turn.

use std::io;

/// A refusal of the memory of a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemError {
    /// The limit set for this job is reached.
    #[error(
        "out of shared memory: asked for {asked} bytes with {in_use} bytes in use of at most {limit}; \
         free something or raise DRAGON_MEMORY_LIMIT"
    )]
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes in blocks that are held now.
        in_use: u64,
        /// Bytes this job may commit.
        limit: u64,
    },
    /// The machine has no pages left to give.
    #[error(
        "the shared memory of this machine is full: asked for {asked} bytes, {free} bytes are free; \
         give the machine (or the container's /dev/shm) more, or lower DRAGON_MEMORY_LIMIT to fail earlier"
    )]
    Full {
        /// Bytes asked for.
        asked: u64,
        /// Bytes the system says are free.
        free: u64,
    },
    /// A pool has no room for this block.
    #[error(
        "the pool is full: asked for {asked} bytes with {in_use} bytes in use of {size}; free something or create a larger pool"
    )]
    PoolFull {
        /// Bytes asked for.
        asked: u64,
        /// Bytes in blocks that are held now.
        in_use: u64,
        /// Bytes of the pool.
        size: u64,
    },
    /// A block cannot be larger than a segment.
    #[error("a block of {asked} bytes does not fit a segment, which holds at most {most}; raise DRAGON_DEFAULT_SEG_SZ")]
    LargerThanSegment {
        /// Bytes asked for.
        asked: u64,
        /// Largest block possible.
        most: u64,
    },
    /// A handle that names no live block.
    #[error("bad handle: {why}")]
    BadHandle {
        /// What is wrong with it.
        why: &'static str,
    },
    /// An object that is gone, or never was.
    #[error("the object {index}.{generation} is gone")]
    ObjectGone {
        /// Its place in the object table.
        index: u32,
        /// Which of the objects at that place.
        generation: u32,
    },
    /// An object of another kind than was asked for.
    #[error("the object {index} is of another kind")]
    WrongKind {
        /// Its place in the object table.
        index: u32,
    },
    /// The process table is full.
    #[error("this node has {most} processes of this job already, which is the most there can be")]
    TooManyProcesses {
        /// Size of the table.
        most: u32,
    },
    /// The object table is full.
    #[error("this node has {most} channels, queues and pools already, which is the most there can be")]
    TooManyObjects {
        /// Size of the table.
        most: u32,
    },
    /// The table of holds is full.
    #[error("{most} handles are on their way in messages already, which is the most there can be; receive some first")]
    TooManyHolds {
        /// Size of the table.
        most: u32,
    },
    /// A process tried to take a place that was not kept for it.
    #[error("place {place} of the process table was not reserved for this process")]
    NotReserved {
        /// The place.
        place: u16,
    },
    /// Memory that belongs to another user.
    #[error("the memory file belongs to user {owner}, not to us")]
    NotOurs {
        /// The owner's user id.
        owner: u32,
    },
    /// Memory laid out by another version of this library, or no memory of ours at all.
    #[error("the memory file is not laid out as this build expects: {why}")]
    WrongLayout {
        /// What differs.
        why: &'static str,
    },
    /// Huge pages were asked for, and the system has none to give.
    #[error(
        "the system has no huge page for shared memory: reserve some (`sysctl vm.nr_hugepages=N`, each 2 MiB) or set \
         DRAGON_HUGE_PAGES=auto"
    )]
    NoHugePages,
    /// A setting that cannot work.
    #[error("{knob} cannot be {value}: {why}")]
    BadConfig {
        /// The environment variable.
        knob: &'static str,
        /// The value given.
        value: u64,
        /// Why not.
        why: &'static str,
    },
    /// A name that another has.
    #[error("{what} `{name}`")]
    NameTaken {
        /// What is wrong.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that nothing has.
    #[error("there is no pool `{name}`")]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl MemError {
    /// For `map_err`: what was tried when the system refused.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> MemError {
        move |source| MemError::Io { what, source }
    }

    /// Whether freeing something, or a larger limit, would have helped.
    pub fn is_out_of_memory(&self) -> bool {
        use MemError::{Full, LargerThanSegment, OutOfMemory, PoolFull};
        matches!(self, OutOfMemory { .. } | Full { .. } | PoolFull { .. } | LargerThanSegment { .. })
    }
}
