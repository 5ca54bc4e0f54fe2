//! The first things: create, allocate, free, hand over.

use std::sync::Arc;

use crate::mm::MemError;
use crate::mm::Memory;
use crate::mm::MemoryConfig;

pub(super) fn small() -> Arc<Memory> {
    let config = MemoryConfig { segment_size: 64 << 20, limit: 256 << 20, ..MemoryConfig::default() };
    Memory::create(&config).unwrap()
}

#[test]
fn alloc_write_free() {
    let memory = small();
    let start = memory.heap_stats();
    for len in [0, 1, 64, 65, 4096, 32640, 32641, 65536, 65537, 1 << 20, 40 << 20] {
        let mut block = memory.alloc(len).unwrap();
        assert_eq!(block.len(), len);
        assert_eq!(block.ptr().as_ptr() as usize % 64, 0);
        block.as_mut_slice().fill(0xA5);
        assert!(memory.resolve(block.handle()).is_ok());
        drop(block);
    }
    let end = memory.heap_stats();
    assert_eq!((start.in_use_bytes, start.in_use_blocks), (end.in_use_bytes, end.in_use_blocks));
}

#[test]
fn another_process_takes_over() {
    let memory = small();
    let place = memory.reserve_process().unwrap();
    let other = Memory::attach(memory.descriptor().try_clone_to_owned().unwrap(), place).unwrap();
    let mut block = memory.alloc(1000).unwrap();
    block.as_mut_slice().fill(7);
    let handle = block.into_handle();
    let taken = other.take_over(handle).unwrap();
    assert!(taken.as_slice().iter().all(|byte| *byte == 7));
    drop(taken);
    assert!(matches!(memory.resolve(handle), Err(MemError::BadHandle { .. })));
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}

#[test]
fn out_of_memory_has_figures() {
    let memory = small();
    let error = memory.alloc(300 << 20).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    let kept: Vec<_> = std::iter::from_fn(|| memory.alloc(10 << 20).ok()).collect();
    assert!(kept.len() >= 20, "{}", kept.len());
    let error = memory.alloc(10 << 20).unwrap_err().to_string();
    assert!(error.contains("DRAGON_MEMORY_LIMIT") && error.contains("10485760"), "{error}");
    drop(kept);
    assert!(memory.alloc(10 << 20).is_ok());
}
