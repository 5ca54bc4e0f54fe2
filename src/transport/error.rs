//! What can go wrong between nodes, in words that name addresses, interfaces and the knob to turn.

use std::{io, sync::Arc, time::Duration};

use crate::transport::Node;

/// Why an engine cannot be made, or a peer not be introduced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TransportError {
    /// A setting that makes no sense.
    #[error("{knob}={value:?}: {why}")]
    BadSetting {
        /// The environment variable.
        knob: &'static str,
        /// What it is set to.
        value: String,
        /// What is wrong with it, or what it may be.
        why: String,
    },
    /// No interface is as DRAGON_NETWORK_PREFIX wants it.
    #[error("DRAGON_NETWORK_PREFIX={prefix:?} matches no interface of this machine that is up; it has {has}")]
    NoInterface {
        /// The prefix.
        prefix: String,
        /// Names and addresses.
        has: String,
    },
    /// The port is taken or forbidden.
    #[error(
        "cannot listen at {address} ({interface}), ports {ports}: {source}; set DRAGON_PORT to a port or a range \
         `from-to` that is free and that the firewall lets through, or unset it for any free port"
    )]
    Listen {
        /// The address.
        address: String,
        /// The interface it belongs to.
        interface: String,
        /// What DRAGON_PORT allows.
        ports: String,
        /// What the system said to the last of them.
        source: io::Error,
    },
    /// Bytes that are no address of this kind of engine.
    #[error("the address of node {node} cannot be read: {why}")]
    BadAddress {
        /// Whose address.
        node: Node,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A node number beyond the job's size.
    #[error("there is no node {node} in a job of {nodes} nodes")]
    NoSuchNode {
        /// The number.
        node: Node,
        /// Nodes there are.
        nodes: u32,
    },
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl TransportError {
    /// For `map_err`: what was tried when the system refused.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> TransportError {
        move |source| TransportError::Io { what, source }
    }
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SendError {
    /// The lane holds as many bytes as it may that have not arrived. Poll, and try again.
    #[error("the lane is full")]
    Full,
    /// The peer is lost.
    #[error("{0}")]
    Lost(Arc<Lost>),
    /// Nobody has introduced that node.
    #[error("node {0} is not known")]
    Unknown(Node),
    /// More than a message can hold.
    #[error("{what} of {len} bytes: at most {most} can be sent at once")]
    TooLong {
        /// Header or body.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The limit.
        most: u64,
    },
    /// There are fewer lanes.
    #[error("there is no lane {0}")]
    NoLane(u8),
    /// The engine has been closed.
    #[error("the transport is closed")]
    Closed,
}

/// Why an accepted message did not arrive, or nobody can know whether it did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Undelivered {
    /// The receiver had no memory for it.
    #[error("the receiving node has no memory for it")]
    Refused,
    /// The peer was lost. The message may have arrived before.
    #[error("{0}")]
    Lost(Arc<Lost>),
    /// The engine was closed on this side. The message may have arrived.
    #[error("the transport was closed")]
    Closed,
}

/// The end of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} is lost: {why}")]
pub(crate) struct Lost {
    /// Which node.
    pub(crate) node: Node,
    /// Which of its incarnations.
    pub(crate) epoch: u64,
    /// What happened.
    pub(crate) why: Why,
}

/// What happened to a lost peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Why {
    /// Its process is gone.
    #[error("nobody answers at {address} any more ({cause})")]
    Gone {
        /// The last address tried.
        address: String,
        /// What the system said.
        cause: String,
    },
    /// Nothing was heard from it for too long.
    #[error("nothing was heard from it for {} s; DRAGON_SILENCE sets how long a node may be silent", .0.as_secs_f32())]
    Silent(Duration),
    /// No connection came about in time.
    #[error(
        "no connection to {address} within {} s ({cause}); is its port open in the firewall (DRAGON_PORT), and is this \
         the right network (DRAGON_NETWORK_PREFIX)?", .within.as_secs_f32()
    )]
    Unreachable {
        /// The last address tried.
        address: String,
        /// How long it was tried.
        within: Duration,
        /// What the last try ended with.
        cause: String,
    },
    /// It said good-bye.
    #[error("it has ended")]
    Left,
    /// It believes this node dead.
    #[error("it has declared this node lost and does not take it back")]
    Expelled,
    /// Who answers is another job, or nobody of ours.
    #[error("whoever answers at {address} does not know the secret of this job")]
    Stranger {
        /// Where.
        address: String,
    },
    /// Another incarnation is there.
    #[error("another incarnation of it is there now")]
    Replaced,
    /// It is another program.
    #[error("it runs another build of the program, or of dragon ({theirs}; here it is {ours})")]
    OtherBuild {
        /// What it said.
        theirs: String,
        /// What this is.
        ours: String,
    },
    /// It speaks another wire version, or not with the same encryption.
    #[error("it speaks another language: {0}")]
    OtherWire(String),
    /// It sent what no peer of this build would send.
    #[error("its bytes make no sense: {0}")]
    Garbled(&'static str),
    /// A floor above knows.
    #[error("{0}")]
    Told(String),
}
