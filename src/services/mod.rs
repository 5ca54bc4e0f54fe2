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

pub(crate) use agent::{AfterRepair, Agent, ChildEnd, Ended, Watched};
pub(crate) use error::ServiceError;
pub(crate) use far::{
    FarDict, FarError, FarObject, FarQueue, FarSession, Names, NewQueue, OWN_HEAD_MOST, OWN_WORDS, SPELL, SyncOp,
    Travels, Watch, WatchedQueue, Why, deadline_of, lost_to, patience_of, tell_end, well_or_own,
};
pub(crate) use host::{DictCall, DictHome, Guest, Host, Loss, Reservist, Seat, Venue, describe, finish, seat_dict};
pub(crate) use mpi::{Alone, Billet, Mpi, Plan as MpiPlan, Served};
pub(crate) use spawn::{Born, Order, Setting, Work, read_argument};
pub(crate) use threads::Threads;
