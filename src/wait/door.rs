//! A wait cell in the words of a shared object, for floors that may not look at memory themselves.

use super::WaitCell;
use crate::prim::AtomicU64;

/// Words that a cell takes: one cache line.
pub(crate) const CELL_WORDS: usize = 8;

impl WaitCell {
    /// The cell that these words are. They must start a cache line, as every eighth word of an object's
    /// block does, and serve as nothing else.
    #[inline]
    pub(crate) fn in_words(words: &[AtomicU64; CELL_WORDS]) -> &WaitCell {
        // Under the model checker an atomic is larger and holds more than its bits; nothing is mapped there.
        if cfg!(feature = "shuttle") {
            unreachable!("a model makes its cells itself");
        }
        const { assert!(size_of::<WaitCell>() <= size_of::<[AtomicU64; CELL_WORDS]>()) };
        let at = std::ptr::from_ref(words).cast::<WaitCell>();
        assert!(at.is_aligned(), "a wait cell starts a cache line");
        // SAFETY: `at` is aligned and inside the words, which live as long as the result; any bits are a valid
        // cell; all of a cell that is ever written is atomic, as the words are.
        unsafe { &*at }
    }
}
