//! The sizes of small blocks, and how a slab is divided for each.

use crate::mm::layout;

/// How many sizes there are.
pub(super) const CLASSES: usize = 17;

/// Steps of 1 and 1.5 of powers of two, as far as they are multiples of a cache line; the last two are
/// what a slab can hold three and two of.
const SIZES: [u32; CLASSES] =
    [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 21760, 32640];

/// The largest small block.
pub(super) const SMALL_MAX: u64 = SIZES[CLASSES - 1] as u64;

/// How a slab of one class is divided. Offsets are from the start of the slab.
#[derive(Clone, Copy)]
pub(super) struct Class {
    /// Bytes of a block.
    pub(super) size: u32,
    /// Blocks of a slab.
    pub(super) count: u32,
    /// Words of the bitmap.
    pub(super) bit_words: u32,
    /// Where the words of the blocks start.
    pub(super) words_at: u32,
    /// Where the payloads start.
    pub(super) payload_at: u32,
}

pub(super) static TABLE: [Class; CLASSES] = divide_all();

/// Class of every multiple of a cache line up to the largest.
static BY_LINES: [u8; (SMALL_MAX / layout::LINE) as usize + 1] = by_lines();

/// The class for so many bytes, if they are few enough for a slab.
#[inline]
pub(super) fn class_of(len: u64) -> Option<usize> {
    if len > SMALL_MAX {
        return None;
    }
    Some(usize::from(BY_LINES[len.div_ceil(layout::LINE) as usize]))
}

const fn divide_all() -> [Class; CLASSES] {
    let mut table = [Class { size: 0, count: 0, bit_words: 0, words_at: 0, payload_at: 0 }; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        table[i] = divide(SIZES[i]);
        i += 1;
    }
    table
}

/// As many blocks as fit behind the header, their bits and their words.
const fn divide(size: u32) -> Class {
    let unit = layout::UNIT as u32;
    let header = size_of::<layout::SlabHeader>() as u32;
    let mut count = unit / size;
    loop {
        let bit_words = count.div_ceil(64);
        let words_at = header + 8 * bit_words;
        let payload_at = (words_at + 8 * count).next_multiple_of(layout::LINE as u32);
        if payload_at + count * size <= unit {
            return Class { size, count, bit_words, words_at, payload_at };
        }
        count -= 1;
    }
}

const fn by_lines() -> [u8; (SMALL_MAX / layout::LINE) as usize + 1] {
    let mut table = [0; (SMALL_MAX / layout::LINE) as usize + 1];
    let mut lines = 0;
    let mut class = 0;
    while lines < table.len() {
        if lines as u32 * layout::LINE as u32 > SIZES[class] {
            class += 1;
        }
        table[lines] = class as u8;
        lines += 1;
    }
    table
}

#[cfg(not(feature = "shuttle"))]
const _: () = {
    let mut i = 0;
    while i < CLASSES {
        assert!(SIZES[i].is_multiple_of(layout::LINE as u32));
        assert!(TABLE_CHECK[i].count >= 2);
        assert!(i == 0 || SIZES[i - 1] < SIZES[i]);
        i += 1;
    }
};
#[cfg(not(feature = "shuttle"))]
const TABLE_CHECK: [Class; CLASSES] = divide_all();
