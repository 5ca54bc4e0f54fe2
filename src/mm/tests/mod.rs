//! Tests of the memory of a node.

mod basics;
mod recovery;
mod timing;
