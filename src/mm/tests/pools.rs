//! Pools of memory: cases 1 to 5 of what Dragon's pools do, and what deaths do to them.

use std::collections::HashSet;
use std::mem::forget;
use std::sync::Arc;

use crate::mm::MemError;
use crate::mm::Memory;
use crate::mm::MemoryPool;
use crate::mm::tests::basics::small;
use crate::mm::tests::recovery::join;

const BYTES: usize = 1 << 20;

fn die(memory: &Arc<Memory>, other: Arc<Memory>) {
    let dead = other.me();
    forget(other);
    assert!(memory.begin_recovery(dead));
    memory.reclaim_blocks(dead, &HashSet::new());
    drop(memory.release_objects_of(dead));
    memory.end_recovery(dead);
}

#[test]
fn create_destroy_create_again() {
    let memory = small();
    for _ in 0..10 {
        let pool = MemoryPool::create(&memory, "again", BYTES).unwrap();
        assert!(matches!(MemoryPool::create(&memory, "again", BYTES), Err(MemError::NameTaken { .. })));
        pool.destroy();
        assert!(matches!(pool.alloc(1), Err(MemError::ObjectGone { .. })));
        assert!(MemoryPool::open(&memory, "again").is_err());
        drop(MemoryPool::create(&memory, "again", BYTES).unwrap());
        assert!(MemoryPool::open(&memory, "again").is_err(), "nobody has it open any more");
    }
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
    assert!(MemoryPool::create(&memory, "", BYTES).is_err());
    assert!(MemoryPool::create(&memory, "too large", 1 << 40).is_err());
}

#[test]
fn alloc_and_free_leave_the_space_as_it_was() {
    let memory = small();
    let pool = MemoryPool::create(&memory, "space", BYTES).unwrap();
    let start = pool.free_space();
    assert!(start >= BYTES as u64);
    for round in 1..5 {
        let blocks: Vec<_> = (0..100).map(|at| pool.alloc(at * round * 7).unwrap()).collect();
        assert!(pool.free_space() < start);
        assert_eq!(pool.blocks(), 100);
        drop(blocks);
        assert_eq!(pool.free_space(), start);
    }
    let full: Vec<_> = std::iter::from_fn(|| pool.alloc(10_000).ok()).collect();
    assert!(full.len() >= 80, "{}", full.len());
    let error = pool.alloc(10_000).unwrap_err();
    assert!(matches!(error, MemError::PoolFull { .. }) && error.is_out_of_memory());
    drop(full);
    // All of it in one piece.
    assert_eq!(pool.alloc(BYTES).unwrap().len(), BYTES);
}

#[test]
fn another_process_frees_and_reads_by_id() {
    let memory = small();
    let other = join(&memory);
    let pool = MemoryPool::create(&memory, "shared", BYTES).unwrap();
    let theirs = MemoryPool::open(&other, "shared").unwrap();
    let start = pool.free_space();
    for len in [10, 5000, 100_000] {
        let mut block = pool.alloc(len).unwrap();
        block.fill(42);
        let id = block.into_id();
        assert!(pool.allocation_exists(id) && theirs.allocation_exists(id));
        assert!(theirs.resolve(id).is_ok());
        let taken = theirs.take(id).unwrap();
        assert!(taken.len() >= len && taken[..len].iter().all(|byte| *byte == 42));
        theirs.free(taken.into_id()).unwrap();
        assert!(!pool.allocation_exists(id));
        assert!(pool.take(id).is_err() && pool.resolve(id).is_err() && pool.free(id).is_err());
    }
    assert_eq!(pool.free_space(), start);
    assert!(!pool.allocation_exists(0) && !pool.allocation_exists(u64::MAX));
}

#[test]
fn a_local_pool_goes_with_its_process() {
    let memory = small();
    let other = join(&memory);
    forget(MemoryPool::create_local(&other, "local", BYTES).unwrap());
    let ours = MemoryPool::open(&memory, "local").unwrap();
    assert!(ours.alloc(10).is_ok());
    die(&memory, other);
    assert!(MemoryPool::open(&memory, "local").is_err());
    assert!(ours.alloc(10).is_err());
    drop(ours);
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}

#[test]
fn a_deregistered_pool_stays_and_a_registered_one_goes() {
    let memory = small();
    let (other, third) = (join(&memory), join(&memory));
    let local = MemoryPool::create_local(&other, "kept", BYTES).unwrap();
    local.deregister().unwrap();
    forget(local);
    die(&memory, other);
    let theirs = MemoryPool::open(&third, "kept").unwrap();
    assert!(theirs.alloc(10).is_ok());
    drop(theirs);
    // Nobody has it open, and it is still there.
    let theirs = MemoryPool::open(&third, "kept").unwrap();
    theirs.register().unwrap();
    forget(theirs);
    die(&memory, third);
    assert!(MemoryPool::open(&memory, "kept").is_err());
    assert_eq!(memory.heap_stats().in_use_blocks, 0);

    let pool = MemoryPool::create(&memory, "kept", BYTES).unwrap();
    pool.deregister().unwrap();
    drop(pool);
    let pool = MemoryPool::open(&memory, "kept").unwrap();
    pool.destroy();
    drop(pool);
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}

#[test]
fn what_the_dead_held_of_a_pool_comes_back() {
    let memory = small();
    let other = join(&memory);
    let pool = MemoryPool::create(&memory, "shared", BYTES).unwrap();
    let theirs = MemoryPool::open(&other, "shared").unwrap();
    let start = pool.free_space();
    for len in [10, 700, 5000, 100_000] {
        forget(theirs.alloc(len).unwrap());
    }
    let mine = pool.take(theirs.alloc(10).unwrap().into_id()).unwrap();
    forget(theirs);
    die(&memory, other);
    assert_eq!(pool.blocks(), 1);
    drop(mine);
    assert_eq!(pool.free_space(), start);
    assert_eq!(pool.alloc(BYTES).unwrap().len(), BYTES);
}

#[test]
fn slabs_of_a_closed_handle_are_used_again() {
    let memory = small();
    let keeper = MemoryPool::create(&memory, "slabs", BYTES).unwrap();
    for _ in 0..100 {
        let pool = MemoryPool::open(&memory, "slabs").unwrap();
        let _id = pool.alloc(64).unwrap().into_id();
    }
    assert_eq!(keeper.blocks(), 100);
    assert!(keeper.alloc(BYTES - (65536 * 2)).is_ok());
}
