//! What a dead process held comes back, but for what is on its way to somebody.

use std::collections::HashSet;
use std::sync::Arc;

use crate::mm::Kind;
use crate::mm::Memory;
use crate::mm::ProcessState;
use crate::mm::tests::basics::small;

/// A second "process" in this one.
pub(super) fn join(memory: &Arc<Memory>) -> Arc<Memory> {
    let place = memory.reserve_process().unwrap();
    Memory::attach(memory.descriptor().try_clone_to_owned().unwrap(), place).unwrap()
}

#[test]
fn what_the_dead_held_comes_back() {
    let memory = small();
    let start = memory.heap_stats().in_use_bytes;
    let other = join(&memory);
    let dead = other.me();
    for len in [64, 100, 5000, 30000, 100_000, 3 << 20] {
        for _ in 0..40 {
            std::mem::forget(other.alloc(len).unwrap());
        }
    }
    let sent = other.alloc(777).unwrap().into_handle();
    let large = other.alloc(777_777).unwrap().into_handle();
    std::mem::forget(other);
    assert!(memory.begin_recovery(dead));
    assert!(!memory.begin_recovery(dead));
    // Lengths do not matter, blocks do.
    let referenced = HashSet::from([sent.with_len(5), large]);
    let freed = memory.reclaim_blocks(dead, &referenced);
    assert_eq!(freed.blocks, 240);
    assert_eq!(memory.reclaim_blocks(dead, &referenced).blocks, 0);
    memory.end_recovery(dead);
    assert_eq!(memory.heap_stats().in_use_blocks, 2);
    drop(memory.take_over(sent).unwrap());
    drop(memory.take_over(large).unwrap());
    assert_eq!(memory.heap_stats().in_use_bytes, start);
    assert_eq!(memory.processes().len(), 1);
    // The slabs that lost their home are used again or gone.
    assert!(memory.heap_stats().slabs <= 1, "{:?}", memory.heap_stats());
}

#[test]
fn a_slab_without_a_home_is_adopted() {
    let memory = small();
    let other = join(&memory);
    let dead = other.me();
    let sent = other.alloc(2000).unwrap().into_handle();
    std::mem::forget(other);
    assert!(memory.begin_recovery(dead));
    memory.reclaim_blocks(dead, &HashSet::from([sent]));
    memory.end_recovery(dead);
    assert_eq!(memory.heap_stats().slabs, 1);
    let mut ours: Vec<_> = (0..20).map(|_| memory.alloc(2000).unwrap()).collect();
    assert_eq!(memory.heap_stats().slabs, 1, "the blocks are from the slab of the dead");
    assert!(ours.iter().all(|block| block.handle().offset != sent.offset));
    ours.push(memory.take_over(sent).unwrap());
    drop(ours);
    memory.trim();
    assert_eq!(memory.heap_stats().slabs, 0);
}

#[test]
fn a_recoverer_that_dies_is_recovered_with_its_work() {
    let memory = small();
    let (first, second, third) = (join(&memory), join(&memory), join(&memory));
    std::mem::forget(first.alloc(100).unwrap());
    assert!(second.begin_recovery(first.me()));
    // While the second one lives nobody else may.
    assert!(!memory.begin_recovery(first.me()));
    assert!(memory.begin_recovery(second.me()));
    assert!(memory.begin_recovery(first.me()));
    memory.reclaim_blocks(first.me(), &HashSet::new());
    memory.end_recovery(first.me());
    memory.end_recovery(second.me());
    assert_eq!(memory.heap_stats().in_use_blocks, 0);

    let fourth = join(&memory);
    assert!(fourth.begin_recovery(third.me()));
    assert!(memory.begin_recovery(fourth.me()));
    memory.end_recovery(fourth.me());
    let left = memory.processes().into_iter().find(|entry| entry.id == third.me()).unwrap();
    assert_eq!(left.state, ProcessState::Dead);
    assert!(memory.begin_recovery(third.me()));
    memory.end_recovery(third.me());
    assert_eq!(memory.processes().len(), 1);
}

#[test]
fn objects_live_as_long_as_somebody_has_them() {
    let memory = small();
    let other = join(&memory);
    let object = memory.create_object(Kind::Channel, memory.alloc(1 << 20).unwrap()).unwrap();
    let id = object.id();
    assert_eq!(memory.objects(Kind::Channel), [(id, object.handle())]);
    assert!(other.open_object(id, Kind::MemoryPool).is_err());
    let theirs = other.open_object(id, Kind::Channel).unwrap();
    let again = theirs.clone();
    assert!(object.release().is_none());
    drop(theirs);
    assert_eq!(memory.heap_stats().in_use_blocks, 1);
    let remains = again.release().unwrap();
    assert!(remains.is(Kind::Channel) && remains.id() == id);
    assert!(memory.resolve(remains.handle()).is_ok());
    drop(remains);
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
    assert!(memory.open_object(id, Kind::Channel).is_err());
    let next = memory.create_object(Kind::Channel, memory.alloc(1).unwrap()).unwrap();
    assert_ne!(next.id(), id);
}

#[test]
fn a_death_closes_objects() {
    let memory = small();
    let other = join(&memory);
    let alone = other.create_object(Kind::Channel, other.alloc(100).unwrap()).unwrap();
    let shared = other.create_object(Kind::Channel, other.alloc(100).unwrap()).unwrap();
    let ours = memory.open_object(shared.id(), Kind::Channel).unwrap();
    let dead = other.me();
    std::mem::forget((alone, shared, other));
    assert!(memory.begin_recovery(dead));
    assert_eq!(memory.reclaim_blocks(dead, &HashSet::new()).blocks, 0);
    assert_eq!(memory.release_objects_of(dead).len(), 1);
    memory.end_recovery(dead);
    assert_eq!(memory.heap_stats().in_use_blocks, 1);
    assert!(memory.resolve(ours.handle()).is_ok());
    drop(ours);
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}
