//! After a death: what the dead were writing becomes void, what they were reading becomes ready again.

use std::ptr::NonNull;

use super::{
    Ring, Store,
    layout::{RETURNED, VOID, Word, distance},
};
use crate::id::ProcId;
use crate::prim::Ordering;

/// The positions that a death had stuck.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unstuck {
    /// Messages that were being read, and are ready again.
    pub(crate) readied: Vec<u64>,
    /// Slots that were being written, and hold nothing.
    pub(crate) voided: Vec<u64>,
}

impl<S: Store> Ring<S> {
    /// Gives back what `dead` held. To be called by one process at a time, after `dead` has ended and before
    /// its number is given to anybody else; it may be repeated, and must be by somebody if its caller dies.
    /// Afterwards all who sleep must be woken.
    pub(crate) fn unstick(&self, dead: ProcId) -> Unstuck {
        let mut unstuck = Unstuck::default();
        for slot in 0..self.capacity() as usize {
            unstuck.voided.extend(self.void_written(slot, dead));
            mark!("ring.unstick.voided");
            unstuck.readied.extend(self.put_back(slot, dead));
            mark!("ring.unstick.readied");
        }
        // Always: a call before this one may have died after giving back.
        self.tell_returned();
        unstuck
    }

    /// What `read` makes of every message that is published and not done: the ready ones, and those that are
    /// being read. Of messages that are sent or done meanwhile, some are among them.
    pub(crate) fn pending<T>(&self, read: impl Fn(NonNull<u8>) -> T) -> Vec<T> {
        let one = |slot| {
            let seal = self.pending_in(slot)?;
            let made = read(self.store.body(slot));
            // Done meanwhile: the bytes may have been those of a later writer.
            (self.pending_in(slot) == Some(seal)).then_some(made)
        };
        (0..self.capacity() as usize).filter_map(one).collect()
    }

    /// Whether a position is done for ever: its message was taken and freed, or it never had one.
    pub(crate) fn is_over(&self, position: u64) -> bool {
        let position = Word::new(position, 0).position();
        let slot = self.slot(position);
        // SeqCst: pairs with the store in `Reading::done`; and as whatever a sleeper decides by (wait/README.md).
        let reader = Word::from(self.store.reader(slot).load(Ordering::SeqCst));
        if reader == Word::new(position, 0) || distance(position, reader.position()) > 0 {
            return true;
        }
        // SeqCst: pairs with the store in `Writing::seal`. Void is not done yet, but nobody will ever read it.
        Word::from(self.store.seal(slot).load(Ordering::SeqCst)) == Word::new(position, VOID)
    }

    /// Whether every message that was published is done. Slots that are being written do not count.
    pub(crate) fn all_done(&self) -> bool {
        // Acquire: as in `take`. If there is a message, it most likely is there.
        let head = Word::from(self.store.head().load(Ordering::Acquire)).position();
        let none = |slot| self.pending_in(slot).is_none();
        none(self.slot(head)) && (0..self.capacity() as usize).all(none)
    }

    fn pending_in(&self, slot: usize) -> Option<u64> {
        // SeqCst: pairs with the stores of `seal` and `reader`.
        let seal = Word::from(self.store.seal(slot).load(Ordering::SeqCst));
        let reader = Word::from(self.store.reader(slot).load(Ordering::SeqCst));
        let ready = reader.position() == self.before(seal.position()) && [0, RETURNED].contains(&reader.low());
        let being_read = reader.position() == seal.position() && reader.low() != 0;
        (seal.low() != VOID && (ready || being_read)).then_some(seal.position())
    }

    pub(super) fn void_written(&self, slot: usize, dead: ProcId) -> Option<u64> {
        // Acquire: pairs with the AcqRel of the claim.
        let claimed = Word::from(self.store.writer(slot).load(Ordering::Acquire));
        // SeqCst: pairs with the store that publishes.
        let seal = Word::from(self.store.seal(slot).load(Ordering::SeqCst));
        // The seal may be ahead of what was loaded before it: of a dead one's earlier message, and the next.
        if claimed.low() != dead.0 || seal.position() != self.before(claimed.position()) {
            return None;
        }
        let void = Word::new(claimed.position(), VOID);
        // SeqCst: as the publication it replaces. Failure: another call was faster.
        let swapped =
            self.store.seal(slot).compare_exchange(seal.raw(), void.raw(), Ordering::SeqCst, Ordering::Relaxed);
        swapped.ok().map(|_| claimed.position())
    }

    pub(super) fn put_back(&self, slot: usize, dead: ProcId) -> Option<u64> {
        // Acquire: pairs with the AcqRel of the claim.
        let claimed = Word::from(self.store.reader(slot).load(Ordering::Acquire));
        if claimed.low() != dead.0 {
            return None;
        }
        let position = claimed.position();
        // SeqCst: pairs with the store that publishes. It stays while the slot is claimed.
        let void = self.store.seal(slot).load(Ordering::SeqCst) == Word::new(position, VOID).raw();
        let ready = Word::new(self.before(position), RETURNED);
        // AcqRel: pairs with the claim of the next reader, who finds it by its mark. Failure: another call was faster.
        let swapped =
            self.store.reader(slot).compare_exchange(claimed.raw(), ready.raw(), Ordering::AcqRel, Ordering::Relaxed);
        swapped.ok().filter(|_| !void).map(|_| position)
    }
}
