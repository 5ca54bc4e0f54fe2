//! A few answers kept per thread, so that asking the same question again costs a comparison.

use std::cell::Cell;

/// Places. A thread deals with few functions at a time.
const PLACES: usize = 8;

/// The last answer for each place; a question has one place, and takes it from whoever was there.
pub(super) struct Recent<Q: Copy, A: Copy>([Cell<Option<(Q, A)>>; PLACES]);

impl<Q: Copy + PartialEq, A: Copy> Recent<Q, A> {
    /// Knows nothing.
    pub(super) const fn new() -> Self {
        Recent([const { Cell::new(None) }; PLACES])
    }

    /// The answer kept for the question, or the one `find` gives, which is then kept. `address` says
    /// which place is the question's: that of something word-aligned.
    #[inline]
    pub(super) fn get_or<E>(&self, address: u64, question: Q, find: impl FnOnce() -> Result<A, E>) -> Result<A, E> {
        // Descriptors lie next to each other, 48 bytes apart: three times this is prime to the places.
        let place = &self.0[(address >> 4) as usize % PLACES];
        match place.get() {
            Some((known, answer)) if known == question => Ok(answer),
            _ => {
                let answer = find()?;
                place.set(Some((question, answer)));
                Ok(answer)
            }
        }
    }
}
