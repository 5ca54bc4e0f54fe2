//! What MPI programs ask the process manager that started them, and what they are answered: PMI-1 and PMI-2, without
//! sockets, threads or clocks.
//!
//! A *team* is the ranks of one MPI program. Each node has its *share* of it: a value that is fed what its ranks send and
//! says what is to be done ([`Deed`]). The shell around it, and what carries news between nodes, is `services/mpi`.
//!
//! ```text
//! rank ── bytes ──▶ Talk: requests ──▶ Share ──▶ Deed::Say    bytes for a rank
//!                                           ├──▶ Deed::Meet   to all shares of the team, at a barrier
//!                                           ├──▶ Deed::Ask    of the book of published names
//!                                           └──▶ Deed::End    the team is at its end: abort, or a rank lost
//! ```
//! Nothing that a program sends is trusted: lines, keys, values and all of a team's store have a limit ([`limits`]), and
//! what makes no sense is refused or ends the conversation with that rank.

mod choose;
mod environment;
mod framed;
mod limits;
mod line;
mod share;
mod store;
mod talk;
mod team;
#[cfg(test)]
mod tests;

pub use choose::Pmi;
pub(crate) use choose::{Speaks, choose};
pub(crate) use environment::{RANKS_DESCRIPTOR, of_rank};
pub(crate) use share::{BookCall, Deed, Ending, Share};
pub(crate) use store::News;
pub(crate) use team::Team;
