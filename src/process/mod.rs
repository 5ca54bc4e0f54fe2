//! Programs and functions as processes of their own, one or thousands, on any node.
//!
//! A [`Template`] says what a process is to be; a group has any number of them. What a group decides is a value
//! (`plan.rs`); the shell around it (`inner.rs`) carries it out on the caller's thread or on the one thread that looks after
//! all groups of a process (`conductor.rs`). Processes are started by the agent of their node (`yard.rs`).

mod conductor;
mod entry;
mod exit;
mod group;
mod inner;
mod plan;
mod ranks;
mod stream;
mod template;
mod yard;

pub use exit::{Exit, GroupEvent, GroupState, ProcessState, Signal};
pub use group::{GroupEvents, Process, ProcessGroup, ProcessGroupBuilder};
pub use plan::Restart;
pub use stream::{Input, Output};
pub use template::{Stdio, Template};
