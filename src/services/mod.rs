//! What a node does for the processes of a job: start children, notice their end, take back what they held.
//!
//! The services run on one thread of the process that has children (the agent). A process without
//! children has no agent, no thread and no descriptors of ours but the memory file.

pub(crate) mod agent;
mod error;
mod recover;
mod spawn;

pub(crate) use agent::{Agent, ChildEnd};
pub(crate) use error::ServiceError;
pub(crate) use spawn::{Born, Order, read_argument};
