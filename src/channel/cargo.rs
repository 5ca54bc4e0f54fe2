//! Cargo: the objects that a message keeps alive until it was received.
//!
//! A hold (`mm/holds.rs`) says: object X lives because of channel C, for the message at position p; or, for the pieces
//! of a chain, because of chain C, as its piece number s. It is bound after the slot was claimed and before it is
//! published, and ended by the receiver after the slot is free, which by then has opened X if it wants
//! it. Whether it still has its reason anybody can see: a position that is done, or void, is so for ever. So a
//! sender or a receiver that dies on the way leaves at most holds without a reason, which the repair of its
//! death finds and ends.

use std::sync::Arc;

use super::chain;
use super::{Channel, layout};
use crate::id::{ObjectId, ProcId};
use crate::mm;
use crate::mm::{Hold, Kind, Memory, Object, Remains};
use crate::table;

/// Of a tag: it is no message's position but the number of a chain's piece.
pub(super) const PIECE: u64 = 1 << 63;

/// Objects whose handles were written into a message, kept alive by the process that wrote them. Dropped, it may be the last
/// to let go of one: then it clears up what is left of that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load(Vec<Object>);

impl std::ops::Deref for Load {
    type Target = [Object];

    fn deref(&self) -> &[Object] {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.drain(..).filter_map(Object::release).for_each(bury);
    }
}

/// Runs `encode` and gathers the objects whose handles it writes.
pub(crate) fn gather<R>(encode: impl FnOnce() -> R) -> (R, Load) {
    let (result, objects) = mm::gather(encode);
    (result, Load(objects))
}

/// Lets go of what the message at `position` kept alive. It was received.
#[cold]
pub(super) fn unload(channel: &Channel, position: u64) {
    let_go(channel.memory(), channel.id(), position);
}

/// Lets go of what object `by` kept alive for the reason `tag`.
pub(crate) fn let_go(memory: &Arc<Memory>, by: ObjectId, tag: u64) {
    let holds = memory.holds(|hold| hold.by == by && hold.tag == tag);
    mark!("channel.cargo.found");
    memory.let_go(&holds).into_iter().for_each(bury);
}

/// Ends all holds without a reason. To be called when the rings are mended after the death of `dead`.
pub(super) fn sweep(memory: &Arc<Memory>, dead: ProcId) {
    let idle: Vec<Hold> = memory.holds(|_| true).into_iter().filter(|hold| is_idle(memory, hold, dead)).collect();
    mark!("channel.cargo.swept");
    memory.let_go(&idle).into_iter().for_each(bury);
}

fn is_idle(memory: &Arc<Memory>, hold: &Hold, dead: ProcId) -> bool {
    if !memory.is_live(hold.by) {
        return true;
    }
    if let Some(idle) = table::is_idle(memory, hold) {
        return idle;
    }
    if hold.tag & PIECE != 0 {
        return chain::is_idle(memory, hold, dead);
    }
    // One that cannot be opened just now is ending, and whoever ends it ends its holds.
    Channel::open(memory, hold.by).is_ok_and(|channel| channel.0.ring.is_over(hold.tag))
}

/// Frees what is left of an object that nobody keeps alive any more: of a channel, the blocks in it; of a
/// channel or a chain, also what only it kept alive.
pub(crate) fn bury(remains: Remains) {
    let mut left = vec![remains];
    while let Some(remains) = left.pop() {
        let (memory, id) = (remains.memory().clone(), remains.id());
        if remains.is(Kind::Channel) {
            free_blocks(&remains);
        } else if remains.is(Kind::Dict) {
            table::bury(&remains);
        } else if !remains.is(Kind::Chain) {
            continue;
        }
        mark!("channel.bury.emptied");
        let holds = memory.holds(|hold| hold.by == id);
        left.extend(memory.let_go(&holds));
    }
}

fn free_blocks(remains: &Remains) {
    let memory = remains.memory();
    let Ok(base) = memory.resolve(remains.handle()) else {
        return;
    };
    // SAFETY: a live block of that many bytes; `remains` keeps it.
    let Some(layout) = (unsafe { layout::Layout::read(base, remains.handle().len as usize) }) else {
        return;
    };
    // SAFETY: `layout` fits the block, which `remains` keeps longer than `ring` is used.
    let (ring, _) = unsafe { layout.parts(base) };
    for handle in layout::pending_blocks(&ring) {
        // One that cannot be taken over was freed by its receiver, who died before it said so.
        drop(memory.take_over(handle));
    }
}
