//! Semantic cases 1 to 5 of memory pools, from outside. The number of the case stands at each test.

use dragon::{ErrorKind, MemoryPool, Pool};

const MIB: usize = 1 << 20;

#[test]
fn case_1_a_name_is_free_again_after_destroy() {
    let _dragon = dragon::init().unwrap();
    for _ in 0..3 {
        let pool = MemoryPool::create("case 1", MIB).unwrap();
        let taken = MemoryPool::create("case 1", MIB).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Exists, "{taken}");
        pool.destroy();
        assert_eq!(MemoryPool::open("case 1").unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn case_2_freeing_all_blocks_brings_the_free_space_back() {
    let _dragon = dragon::init().unwrap();
    let pool = MemoryPool::create("case 2", 4 * MIB).unwrap();
    let free = pool.free_space();
    let blocks: Vec<_> = (0..200).map(|k| pool.alloc(k * 100).unwrap()).collect();
    assert!(pool.free_space() < free && pool.blocks() == 200);
    drop(blocks);
    assert_eq!((pool.free_space(), pool.blocks()), (free, 0));
    let error = pool.alloc(5 * MIB).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    pool.destroy();
}

#[test]
fn case_3_another_process_may_free_a_block() {
    let _dragon = dragon::init().unwrap();
    let pool = MemoryPool::create("case 3", MIB).unwrap();
    let workers = Pool::new(1).unwrap();
    let free = pool.free_space();
    let id = pool.alloc(10_000).unwrap().into_id();
    workers.submit(|id: u64| MemoryPool::open("case 3").unwrap().free(id).unwrap(), id).unwrap().get().unwrap();
    assert_eq!(pool.free_space(), free);
    pool.destroy();
}

#[test]
fn case_4_a_block_is_found_by_its_id_until_it_is_freed() {
    let _dragon = dragon::init().unwrap();
    let pool = MemoryPool::create("case 4", MIB).unwrap();
    let workers = Pool::new(1).unwrap();
    let mut block = pool.alloc(300).unwrap();
    block.copy_from_slice(&[7; 300]);
    let id = block.into_id();
    assert!(pool.allocation_exists(id));
    let read = |id: u64| MemoryPool::open("case 4").unwrap().take(id).unwrap()[..300].to_vec();
    assert_eq!(workers.submit(read, id).unwrap().get().unwrap(), [7; 300]);
    assert!(!pool.allocation_exists(id), "who took it has dropped it");
    assert_eq!(pool.free(id).unwrap_err().kind(), ErrorKind::BadHandle);
    assert_eq!(pool.take(id).unwrap_err().kind(), ErrorKind::BadHandle);
    pool.destroy();
}

#[test]
fn case_5_a_local_pool_ends_with_its_process_and_a_deregistered_one_does_not() {
    let _dragon = dragon::init().unwrap();
    let make = |(name, keep, again): (String, bool, bool)| {
        let pool = MemoryPool::create_local(&name, MIB).unwrap();
        if keep {
            pool.deregister().unwrap();
        }
        if again {
            pool.register().unwrap();
        }
        assert_eq!(MemoryPool::open(&name).unwrap().size(), pool.size());
        std::mem::forget(pool);
    };
    for (name, keep, again, stays) in
        [("local", false, false, false), ("kept", true, false, true), ("rearmed", true, true, false)]
    {
        let workers = Pool::new(1).unwrap();
        workers.submit(make, (name.to_string(), keep, again)).unwrap().get().unwrap();
        assert!(MemoryPool::open(name).is_ok());
        drop(workers);
        assert_eq!(MemoryPool::open(name).is_ok(), stays, "{name}");
    }
    MemoryPool::open("kept").unwrap().destroy();
}
