//! After a death: everything the dead held is handed on, and everybody who waits looks again.

use std::sync::Arc;

use super::{Barrier, Condvar, Copies, Event, Lock, RwLock, Semaphore, cell};
use crate::id::ProcId;
use crate::mm::{Kind, Memory};
use crate::prim::AtomicU64;

/// All kinds of objects that are made of latches.
pub(crate) const KINDS: [Kind; 8] =
    [Kind::Lock, Kind::RwLock, Kind::Semaphore, Kind::Barrier, Kind::Event, Kind::Condvar, Kind::Value, Kind::Array];

/// Mends every object of these kinds that `dead` had open. Nothing else can have been touched by it.
///
/// To be called between `Memory::begin_recovery` and `Memory::end_recovery`, and before the objects of the dead are
/// released: afterwards nobody knows which they were. May be called again from the start.
pub(crate) fn repair(memory: &Arc<Memory>, dead: ProcId) {
    for (id, kind) in memory.objects_held_by(dead, &KINDS) {
        // Opened, so that it does not end under our hands. The dead one's own hold keeps it until then.
        if let Ok(object) = memory.open_object(id, kind) {
            mend(kind, object.words(), dead);
        }
        mark!("latch.repair.mended");
    }
}

/// Wakes all who wait for something that `gone` has open: they look again, and whoever waits in its name gives up.
pub(crate) fn rouse(memory: &Arc<Memory>, gone: ProcId) {
    for (id, kind) in memory.objects_held_by(gone, &KINDS) {
        let Ok(object) = memory.open_object(id, kind) else { continue };
        cell(object.words(), 1).heal();
        if kind == Kind::RwLock {
            [2, 3].iter().for_each(|at| cell(object.words(), *at).heal());
        }
    }
}

fn mend(kind: Kind, words: &[AtomicU64], dead: ProcId) {
    match kind {
        Kind::Lock | Kind::Array => Lock::in_words(words).repair(dead, true),
        Kind::RwLock => RwLock::in_words(words).repair(dead),
        Kind::Semaphore => Semaphore::in_words(words).repair(),
        Kind::Barrier => Barrier::in_words(words).repair(),
        Kind::Event => Event::in_words(words).repair(),
        Kind::Condvar => Condvar::in_words(words).repair(),
        Kind::Value => Copies::repair(Lock::in_words(words), dead),
        Kind::Channel | Kind::MemoryPool | Kind::PoolBoard | Kind::Chain | Kind::Charter | Kind::Dict => {}
    }
}
