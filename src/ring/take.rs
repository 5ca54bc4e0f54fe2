//! Reading: claim the message at `head`, read it in place, free its slot. Proof in the parent module, points 3 to 5; what
//! was given back is the business of `returned.rs`.

use std::ptr::NonNull;

use super::{
    Ring, Store, Way,
    layout::{VOID, Word, distance},
};
use crate::id::ProcId;
use crate::prim::Ordering;

/// How far ahead of its reading a slot is fetched.
const AHEAD: u64 = 4;

/// Readers' words in a line.
const WORDS: u64 = 8;

/// How far ahead of its use a line of readers' words is fetched.
const AHEAD_WORDS: u64 = 2 * WORDS;

/// What a look at one position tells a reader.
pub(super) enum Look {
    /// Published and not claimed; and whether it is void.
    Ready(bool),
    /// Not published.
    Empty,
    /// It was claimed by somebody, and so were all before the one named here: `head` lags.
    Passed(u64),
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
    ///
    /// In line with the caller, as all that a message passes through: what is handed over in memory in small pieces and
    /// taken up in large ones waits until every store before it has left the core, and those wait for other cores' lines.
    #[inline(always)]
    pub(crate) fn take(&self, me: ProcId) -> Option<Reading<'_, S>> {
        if self.has_returned()
            && let Some((position, void)) = self.claim_returned(me)
        {
            return Some(Reading { ring: self, position, void });
        }
        let (mut position, mut way) = (self.head(), Way::new());
        loop {
            match self.look_to_read(position) {
                Look::Ready(void) => {
                    mark!("ring.read.seen");
                    if self.claim_to_read(position, me, 0) {
                        mark!("ring.read.claimed");
                        return Some(Reading { ring: self, position, void });
                    }
                }
                Look::Empty => return None,
                Look::Passed(next) => {
                    way.give();
                    position = self.help_head(next);
                }
            }
        }
    }

    /// Of all that try, one gets the message at a position that is ready: for the first time, or `RETURNED`.
    #[inline(always)]
    pub(super) fn claim_to_read(&self, position: u64, me: ProcId, low: u16) -> bool {
        let ready = Word::new(self.before(position), low).raw();
        let mine = Word::new(position, me.0).raw();
        // AcqRel: pairs with the claims of others, and with `put_back`.
        let reader = self.store.reader(self.slot(position));
        reader.compare_exchange(ready, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether [`Ring::take`] would succeed, were nobody faster. True also for void messages.
    pub(crate) fn readable(&self) -> bool {
        matches!(self.next_to_read(), Ok(()))
    }

    /// What to expect, were nobody faster.
    pub(crate) fn outlook(&self) -> Outlook {
        let Err(position) = self.next_to_read() else {
            return Outlook::Ready;
        };
        // SeqCst: pairs with the claim.
        let claimed = Word::from(self.store.writer(self.slot(position)).load(Ordering::SeqCst));
        if claimed.position() == position { Outlook::InProgress } else { Outlook::Empty }
    }

    /// Whether there is a message to take; if not, which position is the next to have one.
    fn next_to_read(&self) -> Result<(), u64> {
        if self.has_returned() && self.oldest_returned().is_some() {
            return Ok(());
        }
        let mut position = self.head();
        loop {
            match self.look_to_read(position) {
                Look::Ready(_) => return Ok(()),
                Look::Empty => return Err(position),
                Look::Passed(next) => position = self.help_head(next),
            }
        }
    }

    #[inline(always)]
    pub(super) fn look_to_read(&self, position: u64) -> Look {
        let slot = self.slot(position);
        // SeqCst: pairs with the store in `Writing::seal`, for the bytes; and as whatever a sleeper decides by
        // (wait/README.md).
        let seal = Word::from(self.store.seal(slot).load(Ordering::SeqCst));
        match distance(position, seal.position()) {
            0 => {}
            behind if behind < 0 => {
                self.starve(position);
                // Else the second line would only be asked for when the first has come.
                self.store.awaited(slot);
                return Look::Empty;
            }
            _ => return self.passed(position),
        }
        if !self.is_starved(position) {
            // It was there before it was asked for, so there may be more.
            self.store.soon_read(self.slot(position + AHEAD));
            if position.is_multiple_of(WORDS) {
                // Writers have looked at it a lap ago, so it is shared, and the swap would wait for it.
                self.store.soon_claimed(self.slot(position + AHEAD_WORDS));
            }
        }
        // Relaxed: the compare-and-swap that follows looks again.
        let done = Word::from(self.store.reader(slot).load(Ordering::Relaxed));
        if done == Word::new(self.before(position), 0) {
            Look::Ready(seal.low() == VOID)
        } else {
            self.passed(position)
        }
    }

    /// This position was claimed, and so was what its slot has had since.
    #[inline]
    fn passed(&self, position: u64) -> Look {
        // Relaxed: whoever uses it looks again. Given back, it is of the lap before.
        let claimed = Word::from(self.store.reader(self.slot(position)).load(Ordering::Relaxed)).position();
        Look::Passed(1 + if distance(position, claimed) > 0 { claimed } else { position })
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

    /// Where to begin.
    #[inline]
    pub(super) fn head(&self) -> u64 {
        // Acquire: pairs with the store in `pass_head`. Only saves a walk.
        Word::from(self.store.head().load(Ordering::Acquire)).position()
    }

    /// All positions before `next` were claimed: whoever comes later need not look at them. A store: see `pass_tail`.
    #[inline]
    pub(super) fn pass_head(&self, next: u64) {
        // Relaxed: only to leave a `head` alone that is further.
        let now = Word::from(self.store.head().load(Ordering::Relaxed)).position();
        if distance(now, next) > 0 {
            // Release: pairs with the load in `head`.
            self.store.head().store(Word::new(next, 0).raw(), Ordering::Release);
        }
    }

    /// As [`Ring::pass_head`], for one that met what it did not expect; and where to go on from.
    #[cold]
    fn help_head(&self, next: u64) -> u64 {
        self.pass_head(next);
        let (next, head) = (Word::new(next, 0).position(), self.head());
        if distance(next, head) > 0 { head } else { next }
    }
}

/// A message claimed for reading. Dropped (also by a panic), it is done and its slot free.
pub(crate) struct Reading<'a, S: Store> {
    ring: &'a Ring<S>,
    position: u64,
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
        self.position
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
    #[inline(always)]
    pub(crate) fn free(self) {
        drop(self);
    }

    #[inline]
    pub(super) fn done(&self) {
        let reader = self.ring.store.reader(self.ring.slot(self.position()));
        // Release: pairs with the load in `done`, so that the next writer's bytes come after my reads. As to sleepers, see
        // `Writing::seal`.
        reader.store(Word::new(self.position(), 0).raw(), Ordering::Release);
    }
}

impl<S: Store> Drop for Reading<'_, S> {
    #[inline(always)]
    fn drop(&mut self) {
        mark!("ring.read.taken");
        self.done();
        mark!("ring.read.freed");
        self.ring.pass_head(self.position + 1);
    }
}
