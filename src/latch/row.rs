//! What stands where in the words of a value and of an array, beside their lock.
//!
//! ```text
//! Value  word 3  version            4  type   5  a value of up to 8 bytes   6  its length in bytes
//! Array  word 3  number of elements 4  type                                 6  length of one in bytes
//!        line 2 ..                  the elements
//! ```

use super::{LINE, Lock};
use crate::prim::{AtomicU64, Ordering};

/// Of an array: how many elements.
const LENGTH: usize = 3;
const MARK: usize = 4;
/// Of a value: itself, if it is small.
const SMALL: usize = 5;
const SIZE: usize = 6;

/// The words of a value or an array.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a>(&'a [AtomicU64]);

impl<'a> Row<'a> {
    /// Words before the elements of an array.
    pub(crate) const HEAD: usize = Lock::WORDS;

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> Row<'a> {
        Row(words)
    }

    /// Words of an array with elements of so many bytes in all.
    pub(crate) fn words(bytes: usize) -> usize {
        Row::HEAD + bytes.div_ceil(size_of::<u64>()).next_multiple_of(LINE)
    }

    /// Sets up an array. To be said before anybody else has it.
    pub(crate) fn begin(&self, mark: u64, size: usize, length: usize) {
        self.describe(mark, size);
        self.0[LENGTH].store(length as u64, Ordering::Relaxed); // as in `describe`
    }

    /// Says what a value is. To be said before anybody else has it.
    pub(crate) fn describe(&self, mark: u64, size: usize) {
        self.0[MARK].store(mark, Ordering::Relaxed); // the handle that others get comes after it
        self.0[SIZE].store(size as u64, Ordering::Relaxed);
    }

    /// Which type it is of.
    pub(crate) fn mark(&self) -> u64 {
        self.0[MARK].load(Ordering::Relaxed) // never changes once it is shared
    }

    /// Bytes of a value, or of one element.
    pub(crate) fn size(&self) -> usize {
        self.0[SIZE].load(Ordering::Relaxed) as usize // as above
    }

    /// How many elements.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.0[LENGTH].load(Ordering::Relaxed) as usize // as above
    }

    /// The word of a small value.
    #[inline]
    pub(crate) fn small(&self) -> &'a AtomicU64 {
        &self.0[SMALL]
    }

    /// The elements of an array.
    #[inline]
    pub(crate) fn elements(&self) -> &'a [AtomicU64] {
        &self.0[Row::HEAD..]
    }
}
