//! `dragon` gives a program the whole cluster as one computer, as a library.
#![deny(missing_docs)]

#[macro_use]
mod prim;

#[allow(dead_code, unused_imports)] // Floors above use it.
pub(crate) mod channel;
pub(crate) mod id;
#[allow(dead_code, unused_imports)] // Floors above use it.
pub(crate) mod mm;
#[allow(dead_code, unused_imports)] // Floors above use it.
pub(crate) mod ring;
pub(crate) mod sys;
pub(crate) mod task;
pub(crate) mod time;
#[allow(dead_code, unused_imports)] // Floors above use it.
pub(crate) mod wait;
pub(crate) mod wire;
