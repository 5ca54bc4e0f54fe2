//! Writing: claim the slot at `tail`, fill it, publish it. Proof in the parent module, points 1, 2, 4.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::{
    Ring, Store,
    layout::{VOID, Word, distance},
};
use crate::id::ProcId;
use crate::prim::Ordering;

/// How many positions a writer looks at when it must look: two lines of readers' words.
const LOOK_AHEAD: u64 = 16;

/// How far ahead of its writing a slot is fetched.
const AHEAD: u64 = 4;

/// What a look at one position tells a writer.
pub(super) enum Look {
    /// Free; the value its `writer` word must still have.
    Free(Word),
    /// What was written there one lap ago is not done yet.
    Full,
    /// It was claimed by somebody: `tail` lags.
    Passed,
}

impl<S: Store> Ring<S> {
    /// Claims the next slot for writing. `None`: the ring is full.
    #[inline]
    pub(crate) fn claim(&self, me: ProcId) -> Option<Writing<'_, S>> {
        loop {
            // Acquire: pairs with the AcqRel of `pass_tail`. Only saves a walk.
            let position = Word::from(self.store.tail().load(Ordering::Acquire)).position();
            match self.look_to_write(position) {
                Look::Free(seen) => {
                    mark!("ring.write.seen");
                    // Of all that try, one. SeqCst: what the writer does to the slot comes after what it saw; and in one
                    // order with `outlook`, so that who closes a queue and finds none in progress has seen all.
                    let swapped = self.store.writer(self.slot(position)).compare_exchange(
                        seen.raw(),
                        Word::new(position, me.0).raw(),
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    );
                    if swapped.is_ok() {
                        mark!("ring.write.claimed");
                        return Some(Writing { ring: self, position });
                    }
                }
                Look::Full => return None,
                Look::Passed => self.pass_tail(position),
            }
        }
    }

    /// Whether [`Ring::claim`] would succeed, were nobody faster.
    pub(crate) fn writable(&self) -> bool {
        loop {
            // Acquire: as in `claim`.
            let position = Word::from(self.store.tail().load(Ordering::Acquire)).position();
            match self.look_to_write(position) {
                Look::Free(_) => return true,
                Look::Full => return false,
                Look::Passed => self.pass_tail(position),
            }
        }
    }

    #[inline]
    pub(super) fn look_to_write(&self, position: u64) -> Look {
        // Acquire: pairs with the release in `look_ahead`; with it comes that the readers are done with the bytes.
        let known = Word::from(self.known.0.load(Ordering::Acquire)).position();
        if !(1..=self.capacity() as i64).contains(&distance(position, known))
            && let Some(refused) = self.look_ahead(position)
        {
            return refused;
        }
        if distance(position + AHEAD, known) > 0 {
            // It is free, so no reader wants it back; and the swap that publishes would wait for it.
            self.store.soon_written(self.slot(position + AHEAD));
        }
        // Relaxed: the compare-and-swap that follows looks again.
        let seen = Word::from(self.store.writer(self.slot(position)).load(Ordering::Relaxed));
        if seen.position() == self.before(position) { Look::Free(seen) } else { Look::Passed }
    }

    /// Looks whether the position is free, and if so how many behind it are.
    #[inline(never)]
    fn look_ahead(&self, position: u64) -> Option<Look> {
        let before = self.before(position);
        let done = self.done(position);
        if done != Word::new(before, 0) {
            return Some(if distance(before, done.position()) > 0 { Look::Passed } else { Look::Full });
        }
        if self.at_limit(position) {
            return Some(Look::Full);
        }
        let most = LOOK_AHEAD.min(self.capacity());
        let is_free = |ahead: &u64| {
            self.done(position + ahead) == Word::new(before + ahead, 0) && !self.at_limit(position + ahead)
        };
        let free = 1 + (1..most).take_while(is_free).count() as u64;
        // Release: pairs with the acquire in `look_to_write`, in other threads of this process.
        self.known.0.store(Word::new(position + free, 0).raw(), Ordering::Release);
        None
    }

    fn done(&self, position: u64) -> Word {
        // SeqCst: pairs with the swap in `Reading::free`. Acquire, so that the reader is done with the bytes; and one
        // order with the sleepers' count, so that a writer who goes to sleep on a full ring is seen (wait/README.md).
        Word::from(self.store.reader(self.slot(position)).load(Ordering::SeqCst))
    }

    /// Whether a ring with a limit has as many messages as it may have. Proof in the parent module, point 6.
    #[inline]
    fn at_limit(&self, position: u64) -> bool {
        self.limit <= self.mask && !self.is_over(position.wrapping_sub(self.limit))
    }

    /// `position` was claimed: whoever comes next need not look at it.
    #[inline]
    fn pass_tail(&self, position: u64) {
        let next = Word::new(position + 1, 0).raw();
        // AcqRel: pairs with the loads of `tail` in `claim` and `writable`. If it fails, somebody else did it.
        let _ =
            self.store.tail().compare_exchange(Word::new(position, 0).raw(), next, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// A slot claimed for writing. Dropped unpublished (by a panic), it becomes void.
pub(crate) struct Writing<'a, S: Store> {
    ring: &'a Ring<S>,
    position: u64,
}

impl<S: Store> Writing<'_, S> {
    /// The position this message will have.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The slot's bytes: this writer's alone until it publishes.
    #[inline]
    pub(crate) fn body(&mut self) -> NonNull<u8> {
        self.ring.store.body(self.ring.slot(self.position))
    }

    /// Makes the message visible. Afterwards somebody who sleeps should be told.
    #[inline]
    pub(crate) fn publish(self) -> u64 {
        let published = ManuallyDrop::new(self);
        mark!("ring.write.written");
        published.seal(0);
        mark!("ring.write.published");
        published.ring.pass_tail(published.position);
        published.position
    }

    #[inline]
    pub(super) fn seal(&self, low: u16) {
        // SeqCst: pairs with the load in `look_to_read`. Release for the bytes; and one order with the sleepers'
        // count, which the publisher loads next (wait/README.md). Hence a swap, not a store.
        let seal = self.ring.store.seal(self.ring.slot(self.position));
        seal.swap(Word::new(self.position, low).raw(), Ordering::SeqCst);
    }
}

impl<S: Store> Drop for Writing<'_, S> {
    #[cold]
    fn drop(&mut self) {
        self.seal(VOID);
        self.ring.pass_tail(self.position);
    }
}
