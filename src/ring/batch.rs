//! Several messages one after the other, for less than several times the price of one.
//!
//! A run claims, fills and publishes slot after slot as everybody does (points 1 to 3 of the parent's proof hold for
//! each), and saves what is needed once for all of them: the step of `tail` or `head`, and the order between what it
//! published and a sleeper's registration. So seals and done words are stored with Release only, and who ends a run
//! calls sleepers by [`WaitCell::notify_one_for_all`](crate::wait::WaitCell::notify_one_for_all), which makes up for it.
//!
//! While a run lasts `tail` and `head` lag, and whoever comes meanwhile helps them on. At its end a run moves them by
//! several positions at once: it has seen all of those claimed, as point 4 demands, and a `head` whose version
//! has changed since the run began stays where it is, as point 5 does.

use std::ptr::NonNull;

use super::{
    Ring, Store, claim,
    layout::{VOID, Word, distance},
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
    version: u16,
    next: u64,
}

impl<S: Store> Ring<S> {
    /// Begins to write.
    pub(crate) fn write_run(&self, me: ProcId) -> WriteRun<'_, S> {
        // Acquire: as in `claim`.
        let next = Word::from(self.store.tail().load(Ordering::Acquire)).position();
        WriteRun { ring: self, me, next }
    }

    /// Begins to read.
    pub(crate) fn read_run(&self, me: ProcId) -> ReadRun<'_, S> {
        // Acquire: as in `take`; and before every look, so that the version is older than what is seen.
        let head = Word::from(self.store.head().load(Ordering::Acquire));
        ReadRun { ring: self, me, version: head.low(), next: head.position() }
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
        // Release: pairs with the load in `look_to_read`, for the bytes. That a sleeper sees it is the business of whoever
        // ends the run.
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
                claim::Look::Passed => {
                    self.next = position + 1;
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
        let tail = self.ring.store.tail();
        let next = Word::new(self.next, 0);
        loop {
            // Acquire and AcqRel: as in `claim` and `pass_tail`.
            let now = Word::from(tail.load(Ordering::Acquire));
            let behind = distance(now.position(), next.position()) > 0;
            if !behind || tail.compare_exchange(now.raw(), next.raw(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
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
        // SeqCst: as in `Writing::seal`.
        seal.swap(Word::new(self.position, VOID).raw(), Ordering::SeqCst);
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
        // Release: pairs with the load in `look_to_write`, so that the next writer's bytes come after what was read. As
        // to sleepers, see `push`.
        reader.store(Word::new(self.position, 0).raw(), Ordering::Release);
        mark!("ring.run.freed");
    }
}

impl<S: Store> ReadRun<'_, S> {
    /// Claims the next message and reads it; its slot is free afterwards, also if `read` panics.
    #[inline]
    pub(crate) fn pull<R>(&mut self, read: impl FnOnce(&Found<'_, S>) -> R) -> Result<R, Halt> {
        loop {
            let position = self.next;
            let void = match self.ring.look_to_read(position) {
                take::Look::Ready(void) => void,
                take::Look::Empty => return Err(Halt::Nothing),
                take::Look::Passed => {
                    self.next = position + 1;
                    continue;
                }
            };
            let (before, mine) = (Word::new(self.ring.before(position), 0), Word::new(position, self.me.0));
            // AcqRel: as in `Ring::take`.
            let reader = self.ring.store.reader(self.ring.slot(position));
            let swapped = reader.compare_exchange(before.raw(), mine.raw(), Ordering::AcqRel, Ordering::Relaxed);
            if swapped.is_ok() {
                mark!("ring.run.taking");
                self.next = position + 1;
                let found = Found { ring: self.ring, position: mine.position() };
                if !void {
                    return Ok(read(&found));
                }
            }
        }
    }
}

impl<S: Store> Drop for ReadRun<'_, S> {
    fn drop(&mut self) {
        let head = self.ring.store.head();
        let next = Word::new(self.next, self.version);
        loop {
            // Acquire and AcqRel: as in `take` and `pass_head`.
            let now = Word::from(head.load(Ordering::Acquire));
            let behind = now.low() == self.version && distance(now.position(), next.position()) > 0;
            if !behind || head.compare_exchange(now.raw(), next.raw(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}
