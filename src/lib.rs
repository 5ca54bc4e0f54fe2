//! `dragon` gives a program the whole cluster as one computer, as a library.
#![deny(missing_docs)]

#[macro_use]
mod prim;

pub(crate) mod id;
pub(crate) mod sys;
pub(crate) mod task;
pub(crate) mod time;
pub(crate) mod wire;
