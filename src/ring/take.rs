//! Reading: claim the message at `head`, read it in place, free its slot. Proof in the parent module, points 3 to 5.

use std::ptr::NonNull;

use super::{
    Ring, Store,
    layout::{VOID, Word, distance},
};
use crate::id::ProcId;
use crate::prim::Ordering;

/// How far ahead of its reading a slot is fetched.
const AHEAD: u64 = 4;

/// What a look at one position tells a reader.
pub(super) enum Look {
    /// Published and not claimed; and whether it is void.
    Ready(bool),
    /// Not published.
    Empty,
    /// It was claimed by somebody: `head` lags.
    Passed,
}

/// What a reader can expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// There is a message, perhaps a void one.
    Ready,
    /// A writer has claimed the next position and has not published it. Those behind it may be ready, but messages have
    /// an order, so "empty" would not be the whole truth.
    InProgress,
    /// There is nothing, and nobody has begun to write.
    Empty,
}

impl<S: Store> Ring<S> {
    /// Claims the next message for reading. `None`: the ring is empty.
    #[inline]
    pub(crate) fn take(&self, me: ProcId) -> Option<Reading<'_, S>> {
        loop {
            // Acquire: pairs with the AcqRel in `unstick`, so that who reads a new version sees what was put back.
            let head = Word::from(self.store.head().load(Ordering::Acquire));
            match self.look_to_read(head.position()) {
                Look::Ready(void) => {
                    mark!("ring.read.seen");
                    let position = head.position();
                    // AcqRel: of all that try, one.
                    let swapped = self.store.reader(self.slot(position)).compare_exchange(
                        Word::new(self.before(position), 0).raw(),
                        Word::new(position, me.0).raw(),
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if swapped.is_ok() {
                        mark!("ring.read.claimed");
                        return Some(Reading { ring: self, head, void });
                    }
                }
                Look::Empty => return None,
                Look::Passed => self.pass_head(head),
            }
        }
    }

    /// Whether [`Ring::take`] would succeed, were nobody faster. True also for void messages.
    pub(crate) fn readable(&self) -> bool {
        loop {
            // Acquire: as in `take`.
            let head = Word::from(self.store.head().load(Ordering::Acquire));
            match self.look_to_read(head.position()) {
                Look::Ready(_) => return true,
                Look::Empty => return false,
                Look::Passed => self.pass_head(head),
            }
        }
    }

    /// What to expect, were nobody faster.
    pub(crate) fn outlook(&self) -> Outlook {
        loop {
            // Acquire: as in `take`.
            let head = Word::from(self.store.head().load(Ordering::Acquire));
            match self.look_to_read(head.position()) {
                Look::Ready(_) => return Outlook::Ready,
                Look::Passed => self.pass_head(head),
                Look::Empty => {
                    let slot = self.slot(head.position());
                    // SeqCst: pairs with the claim.
                    let claimed = Word::from(self.store.writer(slot).load(Ordering::SeqCst));
                    let begun = claimed.position() == head.position();
                    return if begun { Outlook::InProgress } else { Outlook::Empty };
                }
            }
        }
    }

    #[inline]
    pub(super) fn look_to_read(&self, position: u64) -> Look {
        let slot = self.slot(position);
        // SeqCst: pairs with the swap in `Writing::seal`. Acquire for the bytes; and one order with the sleepers'
        // count, so that a reader who goes to sleep on an empty ring is seen (wait/README.md).
        let seal = Word::from(self.store.seal(slot).load(Ordering::SeqCst));
        match distance(position, seal.position()) {
            0 => {}
            behind if behind < 0 => {
                self.starve(position);
                // Else the second line would only be asked for when the first has come.
                self.store.awaited(slot);
                return Look::Empty;
            }
            _ => return Look::Passed,
        }
        if !self.is_starved(position) {
            // It was there before it was asked for, so there may be more.
            self.store.soon_read(self.slot(position + AHEAD));
        }
        // Relaxed: the compare-and-swap that follows looks again; and for `Passed`, that `unstick` changed the
        // word back is seen by the version of `head`.
        let done = Word::from(self.store.reader(slot).load(Ordering::Relaxed));
        if done == Word::new(self.before(position), 0) { Look::Ready(seal.low() == VOID) } else { Look::Passed }
    }

    /// There is nothing at this position yet.
    #[inline]
    fn starve(&self, position: u64) {
        // Looked at first, since who waits comes here again and again. The model checker has nothing to learn from a hint.
        if !cfg!(feature = "shuttle") && !self.is_starved(position) {
            // Relaxed: a hint of this process to itself.
            self.starved.0.store(position, Ordering::Relaxed);
        }
    }

    #[inline]
    fn is_starved(&self, position: u64) -> bool {
        // Relaxed: as above.
        !cfg!(feature = "shuttle") && self.starved.0.load(Ordering::Relaxed) == position
    }

    /// The position was claimed: whoever comes next need not look at it. Fails if a message was put back since.
    #[inline]
    fn pass_head(&self, head: Word) {
        let next = Word::new(head.position() + 1, head.low());
        // AcqRel: pairs with the loads of `head`, and keeps what `unstick` published with it.
        let _ = self.store.head().compare_exchange(head.raw(), next.raw(), Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// A message claimed for reading. Dropped (also by a panic), it is done and its slot free.
pub(crate) struct Reading<'a, S: Store> {
    ring: &'a Ring<S>,
    head: Word,
    void: bool,
}

impl<S: Store> Reading<'_, S> {
    /// The message's bytes: nobody writes them until this is freed.
    #[inline]
    pub(crate) fn body(&self) -> NonNull<u8> {
        self.ring.store.body(self.ring.slot(self.position()))
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.head.position()
    }

    /// Who wrote it.
    pub(crate) fn writer(&self) -> ProcId {
        // Relaxed: `seal` was loaded after it had been published, and the word stays until the slot is free.
        let writer = self.ring.store.writer(self.ring.slot(self.position()));
        ProcId(Word::from(writer.load(Ordering::Relaxed)).low())
    }

    /// There is no message: its writer died. Free it and take the next.
    #[inline]
    pub(crate) fn is_void(&self) -> bool {
        self.void
    }

    /// Gives the slot to the writers. Afterwards one who sleeps should be told.
    #[inline]
    pub(crate) fn free(self) {
        drop(self);
    }

    #[inline]
    pub(super) fn done(&self) {
        let reader = self.ring.store.reader(self.ring.slot(self.position()));
        // SeqCst: pairs with the load in `look_to_write`. Release, so that the next writer's bytes come after my
        // reads; and one order with the sleepers' count, which I load next (wait/README.md). Hence a swap.
        reader.swap(Word::new(self.position(), 0).raw(), Ordering::SeqCst);
    }
}

impl<S: Store> Drop for Reading<'_, S> {
    #[inline]
    fn drop(&mut self) {
        mark!("ring.read.taken");
        self.done();
        mark!("ring.read.freed");
        self.ring.pass_head(self.head);
    }
}
