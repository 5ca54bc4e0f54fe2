//! Tests of channels: in one process, against a model, and with processes that are killed.

mod basics;
mod children;
mod model;
mod threads;

use std::sync::Arc;

use crate::mm::{Memory, MemoryConfig};

fn memory() -> Arc<Memory> {
    let config = MemoryConfig { segment_size: 64 << 20, limit: 512 << 20, ..MemoryConfig::default() };
    Memory::create(&config).unwrap()
}

/// A second "process" in this one.
fn join(memory: &Arc<Memory>) -> Arc<Memory> {
    let place = memory.reserve_process().unwrap();
    Memory::attach(memory.descriptor().try_clone_to_owned().unwrap(), place).unwrap()
}
