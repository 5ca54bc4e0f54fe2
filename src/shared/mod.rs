//! Shared memory for those who build their own types: messages between processes, and memory to keep
//! things in.

mod channel;
mod memory_pool;

pub use channel::{Channel, Loan, Received};
pub use memory_pool::{Allocation, MemoryPool};
