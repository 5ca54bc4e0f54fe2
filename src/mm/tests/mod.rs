//! Tests of the memory of a node.

mod backings;
mod basics;
mod children;
mod model;
mod pools;
mod processes;
mod recovery;
mod timing;
