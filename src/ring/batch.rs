//! Several messages one after the other, for less than several times the price of one.
//!
//! A run claims, fills and publishes slot after slot as everybody does (points 1 to 3 of the parent's proof hold for
//! each), and saves what is needed once for all of them: the step of `tail` or `head`, and the look for sleepers.
//!
//! While a run lasts `tail` and `head` lag, and whoever comes meanwhile walks on from there. At its end a run moves them by
//! several positions at once: it has seen all of those claimed, as point 4 demands.

use std::ptr::NonNull;

use super::{
    Ring, Store, claim,
    layout::{VOID, Word},
    take,
};
use crate::id::ProcId;
use crate::prim::Ordering;

/// Why a run gets no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// No slot is free, or no message there.
    Nothing,
    /// The caller's `stop` said so, after the claim.
    Stopped,
}

/// Messages being written one after the other. `tail` follows when it is dropped.
pub(crate) struct WriteRun<'a, S: Store> {
    ring: &'a Ring<S>,
    me: ProcId,
    next: u64,
}

/// Messages being read one after the other. `head` follows when it is dropped.
pub(crate) struct ReadRun<'a, S: Store> {
    ring: &'a Ring<S>,
    me: ProcId,
    next: u64,
    /// Whether there may be messages that were given back, which go first.
    returned: bool,
}

impl<S: Store> Ring<S> {
    /// Begins to write.
    pub(crate) fn write_run(&self, me: ProcId) -> WriteRun<'_, S> {
        WriteRun { ring: self, me, next: self.tail() }
    }

    /// Begins to read.
    pub(crate) fn read_run(&self, me: ProcId) -> ReadRun<'_, S> {
        ReadRun { ring: self, me, next: self.head(), returned: self.has_returned() }
    }
}

impl<S: Store> WriteRun<'_, S> {
    /// Claims the next slot, fills it and publishes it; says its position. If `stop` says so after the claim, or
    /// `fill` panics, the slot is void.
    #[inline]
    pub(crate) fn push(
        &mut self,
        stop: impl FnOnce() -> bool,
        fill: impl FnOnce(NonNull<u8>, u64),
    ) -> Result<u64, Halt> {
        let position = self.claim()?;
        let unpublished = Unpublished { ring: self.ring, position };
        if stop() {
            return Err(Halt::Stopped);
        }
        let slot = self.ring.slot(position);
        fill(self.ring.store.body(slot), position);
        mark!("ring.run.written");
        std::mem::forget(unpublished);
        // Release: as in `Writing::seal`.
        self.ring.store.seal(slot).store(Word::new(position, 0).raw(), Ordering::Release);
        mark!("ring.run.published");
        Ok(position)
    }

    #[inline]
    fn claim(&mut self) -> Result<u64, Halt> {
        loop {
            let position = self.next;
            let seen = match self.ring.look_to_write(position) {
                claim::Look::Free(seen) => seen,
                claim::Look::Full => return Err(Halt::Nothing),
                claim::Look::Passed(next) => {
                    self.next = Word::new(next, 0).position();
                    continue;
                }
            };
            let mine = Word::new(position, self.me.0).raw();
            // SeqCst: as in `Ring::claim`.
            let writer = self.ring.store.writer(self.ring.slot(position));
            if writer.compare_exchange(seen.raw(), mine, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                mark!("ring.run.claimed");
                self.next = position + 1;
                return Ok(Word::new(position, 0).position());
            }
        }
    }
}

impl<S: Store> Drop for WriteRun<'_, S> {
    fn drop(&mut self) {
        self.ring.pass_tail(self.next);
    }
}

/// A claimed slot that is void unless it is published.
struct Unpublished<'a, S: Store> {
    ring: &'a Ring<S>,
    position: u64,
}

impl<S: Store> Drop for Unpublished<'_, S> {
    fn drop(&mut self) {
        let seal = self.ring.store.seal(self.ring.slot(self.position));
        // Release: as in `Writing::seal`.
        seal.store(Word::new(self.position, VOID).raw(), Ordering::Release);
    }
}

/// A message of a run, while it is read.
pub(crate) struct Found<'a, S: Store> {
    ring: &'a Ring<S>,
    position: u64,
}

impl<S: Store> Found<'_, S> {
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The message's bytes.
    #[inline]
    pub(crate) fn body(&self) -> NonNull<u8> {
        self.ring.store.body(self.ring.slot(self.position))
    }

    /// Who wrote it.
    pub(crate) fn writer(&self) -> ProcId {
        // Relaxed: as in `Reading::writer`.
        let writer = self.ring.store.writer(self.ring.slot(self.position));
        ProcId(Word::from(writer.load(Ordering::Relaxed)).low())
    }
}

impl<S: Store> Drop for Found<'_, S> {
    #[inline]
    fn drop(&mut self) {
        mark!("ring.run.taken");
        let reader = self.ring.store.reader(self.ring.slot(self.position));
        // Release: as in `Reading::done`.
        reader.store(Word::new(self.position, 0).raw(), Ordering::Release);
        mark!("ring.run.freed");
    }
}

impl<S: Store> ReadRun<'_, S> {
    /// Claims the next message and reads it; its slot is free afterwards, also if `read` panics.
    #[inline]
    pub(crate) fn pull<R>(&mut self, read: impl FnOnce(&Found<'_, S>) -> R) -> Result<R, Halt> {
        loop {
            let (position, void) = self.claim()?;
            let found = Found { ring: self.ring, position };
            if !void {
                return Ok(read(&found));
            }
        }
    }

    /// The next position that is this run's, and whether it is void.
    #[inline]
    fn claim(&mut self) -> Result<(u64, bool), Halt> {
        if self.returned {
            if let Some(claimed) = self.ring.claim_returned(self.me) {
                return Ok(claimed);
            }
            self.returned = false;
        }
        loop {
            let position = self.next;
            match self.ring.look_to_read(position) {
                take::Look::Ready(void) => {
                    if self.ring.claim_to_read(position, self.me, 0) {
                        mark!("ring.run.taking");
                        self.next = Word::new(position + 1, 0).position();
                        return Ok((position, void));
                    }
                }
                take::Look::Empty => return Err(Halt::Nothing),
                take::Look::Passed(next) => self.next = Word::new(next, 0).position(),
            }
        }
    }
}

impl<S: Store> Drop for ReadRun<'_, S> {
    fn drop(&mut self) {
        self.ring.pass_head(self.next);
    }
}
