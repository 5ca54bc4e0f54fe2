//! What all benches share: a race and its table, the machine's head line, and the speed of light to race
//! against, measured by our own code in the same run.
#![allow(dead_code)] // Each bench takes what it needs.

pub mod limits;
pub mod machine;
pub mod os;
pub mod peers;
pub mod raw_ring;
pub mod role;
pub mod table;
