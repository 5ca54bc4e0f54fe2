//! The drawing of a table: what lies where in its root, and the bits of its words.
//!
//! ```text
//! root, an object's block, in words
//!    0  Label        what the table is for, a number of the floor above
//!    1  Shards       2  PageWords:32 history:1     3  Limit, bytes of each shard      4  Seed of the hash
//!    5  Keeper       who has the table as a whole in hand: thread:32 process:16
//!    6  Note         Given: bytes of the floor above, which never change; the first word says how many
//!    7  SeatsHigh    one beyond the highest seat that was ever taken
//!    8  Gate         a word of the floor above: calls that write are refused when it has changed
//!    9..             further words of the floor above
//!   16  the cell of who waits for a change (a line)
//!   24  the cell of who waits for a claim
//!   32  rungs of the seats
//!   96  shard 0, 1, ...
//!
//! shard
//!    0  Depth        log2 of the lines in use        1  ExtrasNext     2  PagesHigh     3  Helped
//!    4  PinsHigh     one beyond the highest pin that was ever used
//!    8  rungs: lines, extra lines, pages, pins
//!  592  desks of 16 words
//!
//! line, 64 bytes          0  Control        1..8  slots
//! extra line              0  link           1..8  slots
//! page's entry            0  Given          1  PageWord
//! page                    0  size:16 count:16 blocks:16     1  its number     2  cursor
//!                         4  bits of free blocks; bits of blocks that were freed; blocks
//! entry, a block of it    0  Head     1  Form     2  hash:32 version:32     3.. key, value, older
//! seat                    0  process, or 0     1, 2  words of the floor above
//! desk                    0  DeskWord 1  line  2  new  3  old  4  page  5  pending     8.. tallies, twice     12  spare
//!
//! Control   born:1 level:6 claim:12 link:32             Slot   spot:39 generation:12 tag:13, 0 is empty
//! PageWord  size:16 claim:12 full:1                     Name   spot:39 generation:25, of an entry
//! Head      state:3 pinned:1 desk:12 back:13 generation:35
//! Form      key:24 value:35 large:1 kept:1 gone:1 cargo:1 chained:1     lengths in bytes
//! older     the Name of the entry of the same key at an earlier checkpoint; only where the table has a history
//! ```
//! Zeroed words are an empty table, but for the numbers of the first words and the first lines, which
//! are born with the table.

use super::ladder::Shape;
use crate::mm::SPOT_BITS;

pub(super) const LABEL: usize = 0;
pub(super) const SHARDS: usize = 1;
pub(super) const PAGE_WORDS: usize = 2;
/// Of the same word: entries of a key may be chained.
pub(super) const HISTORY: u64 = 1 << 32;
pub(super) const LIMIT: usize = 3;
pub(super) const SEED: usize = 4;
pub(super) const KEEPER: usize = 5;
pub(super) const NOTE: usize = 6;
pub(super) const SEATS_HIGH: usize = 7;
/// Words of the floor above: from here to the first cell. The first of them is the gate.
pub(super) const UPPER: usize = 8;
pub(super) const UPPER_WORDS: usize = 8;
pub(super) const CHANGED: usize = 16;
pub(super) const UNCLAIMED: usize = 24;
pub(super) const SEAT_RUNGS: usize = 32;
pub(super) const ROOT_WORDS: usize = 96;

pub(super) const DEPTH: usize = 0;
pub(super) const EXTRAS_NEXT: usize = 1;
pub(super) const PAGES_HIGH: usize = 2;
pub(super) const HELPED: usize = 3;
pub(super) const PINS_HIGH: usize = 4;
pub(super) const LINE_RUNGS: usize = 8;
pub(super) const EXTRA_RUNGS: usize = LINE_RUNGS + LINES.rungs();
pub(super) const PAGE_RUNGS: usize = EXTRA_RUNGS + EXTRAS.rungs();
pub(super) const PIN_RUNGS: usize = PAGE_RUNGS + PAGES.rungs();
pub(super) const DESKS_AT: usize = (PIN_RUNGS + PINS.rungs()).next_multiple_of(16);
pub(super) const SHARD_WORDS: usize = DESKS_AT + DESKS * DESK_WORDS;

pub(super) const LINE: usize = 8;
/// Log2 of the lines that a shard begins with. The model checker gets along with fewer.
pub(super) const FIRST_DEPTH: u32 = if cfg!(feature = "shuttle") { 1 } else { 6 };
pub(super) const LINES: Shape = Shape { base: FIRST_DEPTH, words: LINE, most: 28 };
pub(super) const EXTRAS: Shape = Shape { base: 4, words: LINE, most: 26 };
pub(super) const PAGES: Shape = Shape { base: 4, words: 2, most: 20 };
pub(super) const SEATS: Shape = Shape { base: 5, words: 3, most: 16 };
pub(super) const PINS: Shape = Shape { base: 6, words: 1, most: 17 };

pub(super) const DESKS: usize = 64;
pub(super) const DESK_WORDS: usize = 16;

/// Entries per line, on average, at which the lines are doubled.
pub(super) const LOAD: u64 = if cfg!(feature = "shuttle") { 1 } else { 6 };

/// A run of bits in a word.
#[derive(Clone, Copy)]
pub(super) struct Field {
    at: u32,
    bits: u32,
}

impl Field {
    pub(super) const fn first(bits: u32) -> Field {
        Field { at: 0, bits }
    }

    /// The field that follows in the same word.
    pub(super) const fn then(self, bits: u32) -> Field {
        Field { at: self.at + self.bits, bits }
    }

    pub(super) const fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.bits)) << self.at
    }

    #[inline]
    pub(super) const fn get(self, word: u64) -> u64 {
        word >> self.at & (u64::MAX >> (64 - self.bits))
    }

    /// The value in its place; what is too large is cut.
    #[inline]
    pub(super) const fn put(self, value: u64) -> u64 {
        value << self.at & self.mask()
    }

    #[inline]
    pub(super) const fn set(self, word: u64, value: u64) -> u64 {
        word & !self.mask() | self.put(value)
    }
}

/// Who has a line, a page or an entry in hand: the number of a desk + 1, or 0.
const DESK_BITS: u32 = 12;

pub(super) mod control {
    use super::{DESK_BITS, Field};
    pub(crate) const BORN: Field = Field::first(1);
    pub(crate) const LEVEL: Field = BORN.then(6);
    pub(crate) const CLAIM: Field = LEVEL.then(DESK_BITS);
    pub(crate) const LINK: Field = CLAIM.then(32);
}

pub(super) mod page_word {
    use super::{DESK_BITS, Field};
    pub(crate) const SIZE: Field = Field::first(16);
    pub(crate) const CLAIM: Field = SIZE.then(DESK_BITS);
    pub(crate) const FULL: Field = CLAIM.then(1);
}

pub(super) mod head {
    use super::{DESK_BITS, Field};
    pub(crate) const STATE: Field = Field::first(3);
    pub(crate) const PINNED: Field = STATE.then(1);
    pub(crate) const DESK: Field = PINNED.then(DESK_BITS);
    pub(crate) const BACK: Field = DESK.then(13);
    pub(crate) const GENERATION: Field = BACK.then(35);
}

pub(super) mod form {
    use super::Field;
    pub(crate) const KEY: Field = Field::first(24);
    pub(crate) const VALUE: Field = KEY.then(35);
    pub(crate) const LARGE: Field = VALUE.then(1);
    pub(crate) const KEPT: Field = LARGE.then(1);
    pub(crate) const GONE: Field = KEPT.then(1);
    pub(crate) const CARGO: Field = GONE.then(1);
    pub(crate) const CHAINED: Field = CARGO.then(1);
}

pub(super) mod slot {
    use super::{Field, SPOT_BITS};
    pub(crate) const SPOT: Field = Field::first(SPOT_BITS);
    pub(crate) const GENERATION: Field = SPOT.then(12);
    pub(crate) const TAG: Field = GENERATION.then(13);
}

pub(super) mod name {
    use super::{Field, SPOT_BITS};
    pub(crate) const SPOT: Field = Field::first(SPOT_BITS);
    pub(crate) const GENERATION: Field = SPOT.then(25);
}

pub(super) mod pin {
    use super::{Field, SPOT_BITS};
    pub(crate) const SPOT: Field = Field::first(SPOT_BITS);
    pub(crate) const PROCESS: Field = SPOT.then(11);
    pub(crate) const GENERATION: Field = PROCESS.then(13);
    pub(crate) const LEAVING: Field = GENERATION.then(1);
}

pub(super) mod desk {
    use super::Field;
    pub(crate) const PARITY: Field = Field::first(1);
    pub(crate) const BUSY: Field = PARITY.then(1);
    pub(crate) const PAGE_WORK: Field = BUSY.then(2);
    pub(crate) const OWNER: Field = PAGE_WORK.then(12);
    pub(crate) const TICKET: Field = OWNER.then(48);
}

const _: () = {
    assert!(SEAT_RUNGS + SEATS.rungs() <= ROOT_WORDS);
    assert!(cfg!(feature = "shuttle") || DESKS_AT == 592);
    assert!(SPOT_BITS == 39);
    assert!(UPPER + UPPER_WORDS <= CHANGED);
    assert!(SHARD_WORDS.is_multiple_of(LINE) && ROOT_WORDS.is_multiple_of(LINE));
};
