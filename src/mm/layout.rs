//! The drawing of a node's memory: what lies where, and of which size.
//!
//! ```text
//! the memory file: windows of `segment_size` bytes, mapped one by one on demand
//! ├── segment 0 ──────────────────────────────────┼── segment 1 ─────────┼── segment 2 … up to the limit
//!
//! segment 0                                        segment k > 0
//!        0  Header                  4 KiB                 0  heap
//!   0x1000  process table   1024 x   64 B
//!  0x11000  object table   32768 x  192 B
//! 0x611000  table of holds  65536 x   32 B
//! 0x811000  names            4096 x  128 B
//! 0x891000  heap
//!
//! heap (also that of a MemoryPool, inside one block)
//!        0  HeapHeader               64 B
//!       64  unit table               8 B for each unit: one word that alone says whose the unit is
//!   page    units                   64 KiB each
//!
//! a unit is part of a run (a large block; its payload starts where its first unit starts) or a slab:
//!        0  SlabHeader              64 B, in it the class
//!       64  bits of free blocks     one for each block; a hint
//!           block words             8 B each: one word that alone says whose the block is
//!   64-fold payloads                of the class's size each
//!
//! a word, of a unit or of a small block
//!  63            36 35             15 14       3 2    0
//! ├── generation ──┼──────── n ──────┼── owner ──┼state─┤
//! ```
//!
//! Zeroed bytes are a valid empty heap, process table and object table, so that a fresh page needs no
//! preparation, and nobody can die half way through preparing one.

use crate::prim::{AtomicU32, AtomicU64};

/// First eight bytes of every memory file of ours.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"dragonMM");
/// Changes with everything that is drawn above.
pub(super) const VERSION: u32 = 3;

pub(super) const PAGE: u64 = 4096;
/// What large blocks and slabs are made of.
pub(super) const UNIT: u64 = 64 << 10;
/// What is never shared between two blocks.
pub(super) const LINE: u64 = 64;

pub(super) const DEFAULT_SEGMENT_SIZE: u64 = 4 << 30;
pub(super) const SEGMENT_SIZE_MIN: u64 = 16 << 20;
pub(super) const SEGMENT_SIZE_MAX: u64 = 64 << 30;
pub(super) const LIMIT_MIN: u64 = 1 << 20;

/// Most processes of a job on a node.
pub(super) const PROCESSES: u32 = 1024;
/// Most shared objects of a job on a node.
pub(super) const OBJECTS: u32 = 32768;
/// Most holds of objects by objects.
pub(super) const HOLDS: u32 = 65536;
/// Most objects of a job on a node that have a name.
pub(super) const NAMES: u32 = 4096;
/// Words of a name's entry.
pub(super) const NAME_WORDS: usize = 16;
/// Words of a set of processes.
pub(super) const HOLDER_WORDS: usize = PROCESSES as usize / 64;

pub(super) const PROCESS_TABLE_AT: u64 = PAGE;
pub(super) const OBJECT_TABLE_AT: u64 = PROCESS_TABLE_AT + PROCESSES as u64 * size_of::<ProcessSlot>() as u64;
pub(super) const HOLD_TABLE_AT: u64 = OBJECT_TABLE_AT + OBJECTS as u64 * size_of::<ObjectEntry>() as u64;
pub(super) const NAMES_AT: u64 = HOLD_TABLE_AT + HOLDS as u64 * size_of::<HoldEntry>() as u64;
pub(super) const HEAP_AT: u64 = NAMES_AT + NAMES as u64 * NAME_WORDS as u64 * 8;

/// The head of segment 0. The first part is written once, before anybody else can see the file.
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: u64,
    pub(super) version: u32,
    pub(super) uid: u32,
    pub(super) segment_size: u64,
    pub(super) limit: u64,
    pub(super) granule: u64,
    pub(super) job: u64,
    /// Whether the creator wanted huge pages asked for in each mapping.
    pub(super) ask_huge: u64,
    /// Bytes committed for heaps. Never goes down.
    pub(super) committed: AtomicU64,
    /// Segments beyond the first that have been opened.
    pub(super) more_segments: AtomicU32,
    /// One beyond the last object entry that was ever used.
    pub(super) objects_used: AtomicU32,
    /// Object entries whose pages are committed.
    pub(super) objects_committed: AtomicU32,
    /// Where to look for a free object entry first.
    pub(super) objects_hint: AtomicU32,
    /// The same of the table of holds.
    pub(super) holds_used: AtomicU32,
    pub(super) holds_committed: AtomicU32,
    pub(super) holds_hint: AtomicU32,
    /// Entries of names whose pages are committed.
    pub(super) names_committed: AtomicU32,
    /// The lock of the names: see `names`.
    pub(super) names_lock: Lines,
    /// Where those sleep who wait for the end of a process: see `latch/end.rs`.
    pub(super) ends: Lines,
    /// Processes that read slabs which are not theirs just now (see `heap/scan.rs`).
    pub(super) scanners: [AtomicU64; HOLDER_WORDS],
}

/// Two cache lines of words.
#[repr(C, align(64))]
#[derive(Default)]
pub(super) struct Lines(pub(super) [AtomicU64; 16]);

/// One process of the job on this node.
#[repr(C)]
pub(super) struct ProcessSlot {
    /// Generation, who recovers it, its parent, state: see `process_table.rs`.
    pub(super) word: AtomicU64,
    pub(super) start_time: AtomicU64,
    pub(super) pid: AtomicU32,
    pub(super) reserved: [u32; 11],
}

/// One shared object.
#[repr(C)]
pub(super) struct ObjectEntry {
    /// Generation, who builds or buries it, state: see `objects.rs`.
    pub(super) word: AtomicU64,
    pub(super) kind: AtomicU32,
    /// Not zero: it lives on though nobody has it open.
    pub(super) kept: AtomicU32,
    /// Not zero: other objects hold it, or once did.
    pub(super) held: AtomicU32,
    /// Processes that died while they had it open.
    pub(super) deaths: AtomicU32,
    pub(super) reserved: [u32; 4],
    /// The handle of its block; the offset is written last and cleared first.
    pub(super) handle: [AtomicU64; 3],
    /// The processes that have it open.
    pub(super) holders: [AtomicU64; HOLDER_WORDS],
}

/// One object that keeps another alive: see `holds.rs`.
#[repr(C)]
pub(super) struct HoldEntry {
    pub(super) word: AtomicU64,
    pub(super) held: AtomicU64,
    pub(super) by: AtomicU64,
    pub(super) tag: AtomicU64,
}

/// The head of a heap.
#[repr(C)]
pub(super) struct HeapHeader {
    /// Units whose pages, and whose words' pages, are committed: always the first so many.
    pub(super) committed: AtomicU32,
    /// No unit below this is free, as far as anybody knew.
    pub(super) lowest_free: AtomicU32,
    /// A bit for each class of which there may be slabs without a home.
    pub(super) homeless: AtomicU64,
    pub(super) reserved: [u64; 6],
}

/// The head of a slab.
#[repr(C)]
pub(super) struct SlabHeader {
    pub(super) class: AtomicU32,
    pub(super) reserved: [u32; 15],
}

/// Where the unit table of a heap starts.
pub(super) const TABLE_AT: u64 = size_of::<HeapHeader>() as u64;

// Under the model checker an atomic is larger; nothing is mapped there.
#[cfg(not(feature = "shuttle"))]
const _: () = {
    assert!(size_of::<Header>() <= PAGE as usize);
    assert!(size_of::<ProcessSlot>() == 64);
    assert!(size_of::<ObjectEntry>() == 192);
    assert!(size_of::<HoldEntry>() == 32);
    assert!(size_of::<HeapHeader>() == 64);
    assert!(size_of::<SlabHeader>() == 64);
    assert!(OBJECT_TABLE_AT == 0x1_1000);
    assert!(HOLD_TABLE_AT == 0x61_1000);
    assert!(HEAP_AT == 0x89_1000);
    assert!(HEAP_AT.is_multiple_of(PAGE));
    assert!(HEAP_AT + 4 * UNIT < SEGMENT_SIZE_MIN);
};
