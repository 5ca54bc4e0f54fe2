//! What a node does for the processes of a job: start children, notice their end, take back what they held.
//!
//! The services run on one thread of the process that has children (the agent). A process without
//! children has no agent, no thread and no descriptors of ours but the memory file.

pub(crate) mod agent;
mod error;
mod far;
mod gate;
mod host;
mod mpi;
mod recover;
mod spawn;
mod threads;

pub(crate) use agent::{Agent, ChildEnd, Ended, Watched};
pub(crate) use error::ServiceError;
pub(crate) use far::{
    FarError, FarObject, FarQueue, FarSession, Names, NewQueue, SPELL, SyncOp, Travels, Watch, WatchedQueue, Why,
    tell_end,
};
pub(crate) use host::{Guest, Host, Loss, Seat, Venue, describe, finish};
pub(crate) use mpi::{Alone, Billet, Exchange, Far, Mpi, Plan as MpiPlan, Served};
pub(crate) use spawn::{Born, Order, Setting, Work, read_argument};
