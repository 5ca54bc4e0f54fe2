//! Writing: claim the slot at `tail`, fill it, publish it. Proof in the parent module, points 1, 2, 4.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::{
    Ring, Store, Way,
    layout::{RETURNED, VOID, Word, distance},
};
use crate::id::ProcId;
use crate::prim::Ordering;

/// How many positions a writer looks at when it must look: eight lines of readers' words.
const LOOK_AHEAD: u64 = 64;

/// How far ahead of its writing a slot is fetched.
const AHEAD: u64 = 4;

/// What a look at one position tells a writer.
pub(super) enum Look {
    /// Free; the value its `writer` word must still have.
    Free(Word),
    /// What was written there one lap ago is not done yet.
    Full,
    /// It was claimed by somebody, and so were all before the one named here: `tail` lags.
    Passed(u64),
}

impl<S: Store> Ring<S> {
    /// Claims the next slot for writing. `None`: the ring is full. In line with the caller: see [`Ring::take`].
    #[inline(always)]
    pub(crate) fn claim(&self, me: ProcId) -> Option<Writing<'_, S>> {
        let (mut position, mut way) = (self.tail(), Way::new());
        loop {
            match self.look_to_write(position) {
                Look::Free(seen) => {
                    mark!("ring.write.seen");
                    // SeqCst: pairs with the claims of others, of which one succeeds; and with `outlook`, so that who closes
                    // a queue and finds none in progress has seen all.
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
                Look::Passed(next) => {
                    way.give();
                    position = self.help_tail(next);
                }
            }
        }
    }

    /// Whether [`Ring::claim`] would succeed, were nobody faster.
    pub(crate) fn writable(&self) -> bool {
        let mut position = self.tail();
        loop {
            match self.look_to_write(position) {
                Look::Free(_) => return true,
                Look::Full => return false,
                Look::Passed(next) => position = self.help_tail(next),
            }
        }
    }

    /// Whether so many positions from here on are free, but for some that readers are slow with.
    pub(crate) fn has_room(&self, room: u64) -> bool {
        self.is_over((self.tail() + room).wrapping_sub(self.limit + 1))
    }

    /// Whether a reader has the slot that a writer would have to wait for: it is about to be free.
    pub(crate) fn is_being_freed(&self) -> bool {
        let position = self.tail();
        let read = |position: u64| ![0, RETURNED].contains(&self.done(position).low());
        read(position) || self.limit <= self.mask && read(position.wrapping_sub(self.limit))
    }

    #[inline(always)]
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
        if seen.position() == self.before(position) { Look::Free(seen) } else { Look::Passed(seen.position() + 1) }
    }

    /// Looks whether the position is free, and if so how many behind it are.
    #[inline(never)]
    fn look_ahead(&self, position: u64) -> Option<Look> {
        let before = self.before(position);
        let done = self.done(position);
        if done != Word::new(before, 0) {
            let passed = distance(before, done.position()) > 0;
            return Some(if passed { Look::Passed(done.position() + 1) } else { Look::Full });
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
        // SeqCst: pairs with the store in `Reading::done`, so that the reader is done with the bytes; and as whatever a
        // sleeper decides by (wait/README.md).
        Word::from(self.store.reader(self.slot(position)).load(Ordering::SeqCst))
    }

    /// Whether a ring with a limit has as many messages as it may have. Proof in the parent module, point 6.
    #[inline]
    fn at_limit(&self, position: u64) -> bool {
        self.limit <= self.mask && !self.is_over(position.wrapping_sub(self.limit))
    }

    /// Where to begin.
    #[inline]
    pub(super) fn tail(&self) -> u64 {
        // Acquire: pairs with the store in `pass_tail`. Only saves a walk.
        Word::from(self.store.tail().load(Ordering::Acquire)).position()
    }

    /// All positions before `next` were claimed: whoever comes later need not look at them. A store, since `tail` is but a
    /// hint: one that comes late takes it back, and the next to come walks on from there.
    #[inline]
    pub(super) fn pass_tail(&self, next: u64) {
        // Relaxed: only to leave a `tail` alone that is further.
        let now = Word::from(self.store.tail().load(Ordering::Relaxed)).position();
        if distance(now, next) > 0 {
            // Release: pairs with the load in `tail`.
            self.store.tail().store(Word::new(next, 0).raw(), Ordering::Release);
        }
    }

    /// As [`Ring::pass_tail`], for one that met what it did not expect; and where to go on from.
    #[cold]
    fn help_tail(&self, next: u64) -> u64 {
        self.pass_tail(next);
        let (next, tail) = (Word::new(next, 0).position(), self.tail());
        if distance(next, tail) > 0 { tail } else { next }
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
    #[inline(always)]
    pub(crate) fn publish(self) -> u64 {
        let published = ManuallyDrop::new(self);
        mark!("ring.write.written");
        published.seal(0);
        mark!("ring.write.published");
        published.ring.pass_tail(published.position + 1);
        published.position
    }

    #[inline]
    pub(super) fn seal(&self, low: u16) {
        // Release: pairs with the load in `look_to_read`, for the bytes. That a sleeper may not see it at once is the
        // business of `wait` (wait/README.md), so that this needs no more than a store.
        let seal = self.ring.store.seal(self.ring.slot(self.position));
        seal.store(Word::new(self.position, low).raw(), Ordering::Release);
    }
}

impl<S: Store> Drop for Writing<'_, S> {
    #[cold]
    fn drop(&mut self) {
        self.seal(VOID);
        self.ring.pass_tail(self.position + 1);
    }
}
