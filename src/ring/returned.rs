//! Messages that a dead reader had claimed, and that are ready again.
//!
//! ```text
//! word     63             32 31              0
//!          | given          | searched       |     both: how often something was given back, modulo 2^32
//! ```
//!
//! They are marked in their readers' words, and nobody finds them from `head`. Who gives back counts `given` up afterwards. As
//! long as the two differ a reader looks at all slots first; whoever then finds nothing writes down how much `given` was
//! when it began. Proof in the parent module, point 5.

use super::{
    Ring, Store,
    layout::{RETURNED, VOID, Word, distance},
};
use crate::id::ProcId;
use crate::prim::Ordering;

const GIVEN: u32 = 32;
const SEARCHED: u64 = u32::MAX as u64;

impl<S: Store> Ring<S> {
    /// Says that something may have been given back.
    pub(super) fn tell_returned(&self) {
        // AcqRel: pairs with the load in `has_returned`: who sees the count sees what was given back.
        self.store.returned().fetch_add(1 << GIVEN, Ordering::AcqRel);
    }

    /// Whether there may be something that was given back.
    #[inline]
    pub(super) fn has_returned(&self) -> bool {
        // Acquire: pairs with `tell_returned`.
        let returned = self.store.returned().load(Ordering::Acquire);
        returned >> GIVEN != returned & SEARCHED
    }

    /// Claims the oldest message that was given back; and says whether it is void.
    #[cold]
    pub(super) fn claim_returned(&self, me: ProcId) -> Option<(u64, bool)> {
        loop {
            let position = self.oldest_returned()?;
            if self.claim_to_read(position, me, RETURNED) {
                // SeqCst: as in `look_to_read`. It stays while the slot is claimed.
                let seal = Word::from(self.store.seal(self.slot(position)).load(Ordering::SeqCst));
                return Some((position, seal.low() == VOID));
            }
        }
    }

    /// The oldest position that was given back. If there is none, nobody need look again until one more is.
    #[cold]
    pub(super) fn oldest_returned(&self) -> Option<u64> {
        // Acquire: as in `has_returned`; before the search.
        let seen = self.store.returned().load(Ordering::Acquire);
        let head = self.head();
        let oldest = self.all_returned().max_by_key(|&position| distance(position, head));
        if oldest.is_none() {
            let searched = seen & !SEARCHED | seen >> GIVEN;
            // AcqRel: pairs with the loads. Failing means that more was given back, or that it is written down.
            let _ = self.store.returned().compare_exchange(seen, searched, Ordering::AcqRel, Ordering::Relaxed);
        }
        oldest
    }

    /// The positions that were given back and that nobody has claimed since.
    pub(super) fn all_returned(&self) -> impl Iterator<Item = u64> {
        let returned = |slot| {
            // Acquire: pairs with `put_back`.
            let reader = Word::from(self.store.reader(slot).load(Ordering::Acquire));
            (reader.low() == RETURNED).then(|| Word::new(reader.position() + self.capacity(), 0).position())
        };
        (0..self.capacity() as usize).filter_map(returned)
    }
}
