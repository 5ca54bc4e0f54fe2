//! Work that travels: how a function is named, called and answered for in another process of the same
//! build, and how such a process begins.
//!
//! `thunk` erases the types of a function behind one signature; `reference` names a thunk so that every
//! process of the build finds its own copy; `failure` is what comes back when it goes wrong; `birth` is
//! the life of a child up to the moment it can work.

pub(crate) mod birth;
mod failure;
#[cfg(feature = "ctor")]
mod hook;
mod panics;
mod recent;
mod reference;
// Without the hook a worker would run the whole test harness again, and every worker of that one too.
#[cfg(all(test, feature = "ctor"))]
mod tests;
pub(crate) mod thunk;

pub(crate) use failure::{Failure, TaskError};
pub(crate) use reference::{FnRef, build, find_in_full, name_in_full, reference, resolve};
#[cfg(test)]
pub(crate) use reference::{image_path, load};
pub use thunk::Outcome;
pub(crate) use thunk::{Captures, Scope, Thunk};
