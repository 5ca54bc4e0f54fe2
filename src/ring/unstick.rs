//! After a death: what the dead were writing becomes void, what they were reading becomes ready again.

use std::ptr::NonNull;

use super::{
    Ring, Store,
    layout::{VOID, Word, distance},
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
        self.rewind_head();
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
        // SeqCst: pairs with the swap in `Reading::done`, so that a writer who sleeps because of this is seen.
        let reader = Word::from(self.store.reader(slot).load(Ordering::SeqCst));
        if reader == Word::new(position, 0) || distance(position, reader.position()) > 0 {
            return true;
        }
        // SeqCst: pairs with the swap in `Writing::seal`. Void is not done yet, but nobody will ever read it.
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
        // SeqCst: pairs with the swaps of `seal` and `reader`.
        let seal = Word::from(self.store.seal(slot).load(Ordering::SeqCst));
        let reader = Word::from(self.store.reader(slot).load(Ordering::SeqCst));
        let ready = reader == Word::new(self.before(seal.position()), 0);
        let being_read = reader.position() == seal.position() && reader.low() != 0;
        (seal.low() != VOID && (ready || being_read)).then_some(seal.position())
    }

    pub(super) fn void_written(&self, slot: usize, dead: ProcId) -> Option<u64> {
        // Acquire: pairs with the AcqRel of the claim.
        let claimed = Word::from(self.store.writer(slot).load(Ordering::Acquire));
        // SeqCst: pairs with the swap that publishes.
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
        // SeqCst: pairs with the swap that publishes. It stays while the slot is claimed.
        let void = self.store.seal(slot).load(Ordering::SeqCst) == Word::new(position, VOID).raw();
        let ready = Word::new(self.before(position), 0);
        // AcqRel: pairs with the claim of the next reader. Failure: another call was faster.
        let swapped =
            self.store.reader(slot).compare_exchange(claimed.raw(), ready.raw(), Ordering::AcqRel, Ordering::Relaxed);
        swapped.ok().filter(|_| !void).map(|_| position)
    }

    /// Makes `head` begin at the oldest ready message, with a new version. Always, because a call before this
    /// one may have died after putting back.
    fn rewind_head(&self) {
        let ready: Vec<u64> = (0..self.capacity() as usize).filter_map(|slot| self.ready_in(slot)).collect();
        loop {
            // Acquire: pairs with the AcqRel of `pass_head`.
            let head = Word::from(self.store.head().load(Ordering::Acquire));
            let behind = ready.iter().map(|&position| distance(position, head.position()));
            let back = behind.max().unwrap_or(0).max(0) as u64;
            let rewound = Word::new(head.position().wrapping_sub(back), head.low().wrapping_add(1));
            // AcqRel: pairs with the loads of `head`: who sees the version sees what was put back.
            let swapped =
                self.store.head().compare_exchange(head.raw(), rewound.raw(), Ordering::AcqRel, Ordering::Relaxed);
            if swapped.is_ok() {
                return;
            }
        }
    }

    fn ready_in(&self, slot: usize) -> Option<u64> {
        // SeqCst: pairs with the swaps of `seal` and `reader`.
        let seal = Word::from(self.store.seal(slot).load(Ordering::SeqCst)).position();
        let reader = Word::from(self.store.reader(slot).load(Ordering::SeqCst));
        (reader == Word::new(self.before(seal), 0)).then_some(seal)
    }
}
