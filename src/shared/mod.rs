//! Shared memory for those who build their own types: messages between processes.

mod channel;

pub use channel::{Channel, Loan, Received};
