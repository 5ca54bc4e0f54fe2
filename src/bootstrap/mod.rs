//! Who am I, who else is there: the same program, started N times by anybody, becomes one world.
//!
//! ```text
//! detect   what the environment says               a Plan: which launcher, rank and size if known, where to meet
//! join     one way to find rank 0                  a World: rank, size, a job id and a secret all agree on,
//!          then a star around it, authenticated    one card of each rank
//! share    ranks that can hand each other a        one memory file per node, passed on by its head
//!          descriptor are a node
//! finish   rank 0 leaves last
//! ```
//! From the launcher come rank, size and one thing known to all: where rank 0 is. Everything else is computed from
//! what the ranks tell each other, because what launchers say about nodes is wrong too often.
//!
//! Nothing is believed, and hardly anything read, of somebody who has not proved to know the secret of the job or,
//! on a local socket, to be the same user. Every wait has a deadline, and what fails on one rank is told to all.

mod address;
mod auth;
mod detect;
mod environment;
mod error;
mod gather;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
mod hostlist;
mod hub;
mod join;
mod link;
mod message;
mod node;
mod pals;
mod plan;
mod scrub;
mod secret;
mod spoke;
#[cfg(test)]
mod tests;
mod way;
mod world;

pub(crate) use detect::detect;
pub(crate) use environment::Process;
pub(crate) use error::BootstrapError;
pub(crate) use join::{JoinConfig, join};
pub(crate) use node::{Applicant, NodeShare, share};
pub(crate) use plan::Plan;
pub(crate) use scrub::makes_a_rank;
pub(crate) use world::World;
