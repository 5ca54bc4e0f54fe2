//! Calls to other nodes, as whoever makes them sees them: the words both sides agree on, and the callers' half.
//!
//! The other half, which answers, is `services/host`.

pub(super) mod words;

pub(super) mod dict;
mod names;
mod queue;
mod session;
mod sync;
pub(super) mod sync_words;
mod watch;
mod watched;

pub(crate) use dict::{FarDict, OWN_HEAD_MOST, OWN_WORDS, lost_to};
pub(crate) use names::Names;
pub(crate) use queue::FarQueue;
pub(crate) use session::FarSession;
pub(in crate::services) use sync::encode as encode_guest;
pub(crate) use sync::{FarObject, Travels, tell_end};
pub(crate) use sync_words::SyncOp;
pub(crate) use watch::{SPELL, Watch};
pub(crate) use watched::WatchedQueue;
pub(crate) use words::{FarError, NewQueue, Why, deadline_of, patience_of};

use crate::mesh::Reply;

/// The same, but for statuses that are the floor of dictionaries' own words.
pub(crate) fn well_or_own(reply: Reply) -> Result<Reply, FarError> {
    if reply.status >= OWN_WORDS { Ok(reply) } else { well(reply) }
}

/// The body of a reply that says that all went well, else the error that it says.
pub(in crate::services) fn well(reply: Reply) -> Result<Reply, FarError> {
    match Why::from_status(reply.status) {
        None => Ok(reply),
        Some(why) => Err(FarError::Refused { why, text: String::from_utf8_lossy(&reply.body).into_owned() }),
    }
}
