//! Bytes between nodes: lanes to peers, whatever carries them.
//!
//! An [`Engine`] is one way of carrying: our own tcp now, fabrics later. What it promises is written at the trait,
//! and `conformance.rs` asks it of every engine. A [`Driver`] lets many threads use one engine, and lets the
//! thread that waits for an answer fetch it itself.
//!
//! This floor knows nodes by number and incarnation, and lanes; it knows no names, no channels and no meaning of
//! a message. What comes in goes to a [`Sink`], which must not call the engine back: it notes what it wants done
//! and does it in [`Sink::settled`].

mod config;
#[cfg(test)]
mod conformance;
mod driver;
mod error;
mod lossy;
#[cfg(feature = "probe")]
pub mod probe;
mod tcp;

use std::{sync::Arc, time::Instant};

pub(crate) use config::{Identity, Secret, Settings, Tuning};
pub(crate) use driver::{Driver, Waiting};
pub(crate) use error::{Lost, SendError, TransportError, Undelivered};
pub(crate) use lossy::Lossy;
pub(crate) use tcp::Tcp;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use tcp::hostile;

use crate::mm::Block;
use crate::sys::epoll::Epoll;

/// A node of the job, from 0, without gaps.
pub(crate) type Node = u32;

/// Lanes to each peer. Messages of one lane arrive in order; lanes do not wait for each other, so what is
/// urgent does not share a lane with what is large.
pub(crate) const LANES: u8 = 4;

/// Most bytes of a header.
pub(crate) const HEADER_MOST: usize = 1024;

/// Most bytes of a small message's body.
pub(crate) const BODY_MOST: usize = 64 << 10;

/// One lane to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct To {
    /// The node.
    pub(crate) node: Node,
    /// Which lane, below [`LANES`].
    pub(crate) lane: u8,
}

/// Names an operation, so that its end can be told. [`Token::NONE`] wants to hear nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    /// Nobody asks.
    pub(crate) const NONE: Token = Token(0);
}

/// Bytes that nobody writes as long as somebody has this.
pub(crate) trait Steady: Send + Sync + std::fmt::Debug {
    fn bytes(&self) -> &[u8];
}

impl Steady for Block {
    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }
}

/// A large body: the first `len` bytes of a block or the like, which the engine keeps alive until they have arrived. Nobody
/// may write them meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Bulk {
    pub(crate) block: Arc<dyn Steady>,
    pub(crate) len: usize,
}

/// What an engine is and can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    /// `tcp`, `tcp, encrypted`, ...
    pub(crate) name: &'static str,
    /// Must be equal at both ends.
    pub(crate) wire: u32,
    /// Most bytes of a large body.
    pub(crate) bulk_most: u64,
}

/// How closely a poll looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Where something came from lately, if that is known: for who looks again and again, and at everything now
    /// and then.
    Quick,
    /// At everything.
    Around,
}

/// What has happened so far, for figures and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections that were refused because who made them did not belong to the job.
    pub(crate) strangers: u64,
    /// Connections of lanes that were opened, the first and every further one.
    pub(crate) opened: u64,
    /// Connections of lanes that broke.
    pub(crate) broken: u64,
    /// Bytes that were sent again after a connection broke.
    pub(crate) resent: u64,
    /// Lanes that are open or opening now.
    pub(crate) lanes: u64,
}

/// One way of carrying bytes between nodes.
///
/// * **Messages of one lane arrive in order, once**, whatever happens to connections below, until the peer is lost.
/// * **Nothing waits.** A lane that cannot take more says [`SendError::Full`]; poll, and try again.
/// * **Every token that was accepted ends in one [`Sink::done`]**: when its bytes are with the peer's sink, or when
///   that can no longer be.
/// * **A peer is lost once**, with a reason; afterwards everything to it is [`SendError::Lost`], until
///   [`Engine::know`] names a new incarnation.
/// * A peer costs under 200 bytes until the first lane to it opens, which is at the first message.
/// * Somebody polls, at the latest at [`Engine::poll_by`]: without polls a peer looks dead to others.
pub(crate) trait Engine: Send {
    /// What it is.
    fn caps(&self) -> Caps;

    /// Where peers find this engine: opaque bytes for [`Engine::know`] of another of the same kind.
    fn address(&self) -> Vec<u8>;

    /// Introduces a peer, or a new incarnation of one: what was under way to the old one is lost.
    fn know(&mut self, node: Node, epoch: u64, address: &[u8]) -> Result<(), TransportError>;

    /// Declares a peer lost, for reasons that only floors above know.
    fn give_up(&mut self, node: Node, why: &str);

    /// Sends a small message: all of it is copied or written before this returns.
    fn send(&mut self, to: To, kind: u16, header: &[u8], body: &[u8], token: Token) -> Result<(), SendError>;

    /// Sends a large one from the block in which it lies.
    fn send_bulk(&mut self, to: To, kind: u16, header: &[u8], body: Bulk, token: Token) -> Result<(), SendError>;

    /// Writes what was held back so that it goes out together with what follows it.
    fn flush(&mut self);

    /// Does what can be done without waiting, and tells the sink. Bounded. Returns how much happened.
    fn poll(&mut self, now: Instant, look: Look, sink: &mut dyn Sink) -> usize;

    /// What to sleep on between polls, after [`Engine::arm`].
    fn watch(&self) -> Arc<Epoll>;

    /// Makes what is slept on tell of everything. Quick polls may undo that: being watched costs more than being
    /// looked at.
    fn arm(&mut self);

    /// Whether what is slept on tells of everything.
    fn is_armed(&self) -> bool;

    /// When the next poll is due although nothing to sleep on says so; `None` is never.
    fn poll_by(&self) -> Option<Instant>;

    /// Whether something has begun, outside a poll, that nothing to sleep on tells of: poll soon.
    fn wants_poll(&self) -> bool;

    /// Whether all that was accepted has arrived.
    fn is_idle(&self) -> bool;

    /// Says good-bye, closes everything and ends all tokens. Afterwards everything is refused.
    fn close(&mut self, sink: &mut dyn Sink);

    /// What has happened so far.
    fn counts(&self) -> Counts;
}

/// Who takes what comes in. Called by [`Engine::poll`], on whatever thread polls.
pub(crate) trait Sink: Send {
    /// A small message. The bytes are the engine's, and gone after the call.
    fn message(&mut self, from: To, kind: u16, header: &[u8], body: &[u8]);

    /// A large one begins: where shall it land? `None` refuses it, which is told to its sender. The block may be
    /// longer than `len`.
    fn landing(&mut self, from: To, kind: u16, header: &[u8], len: usize) -> Option<Block>;

    /// A large one is complete in the block that was given for it.
    fn landed(&mut self, from: To, kind: u16, header: &[u8], block: Block, len: usize);

    /// How an operation ended.
    fn done(&mut self, token: Token, outcome: Result<(), Undelivered>);

    /// A peer is lost. Landings from it are over, and all its tokens have ended before this call.
    fn lost(&mut self, node: Node, epoch: u64, why: &Lost);

    /// The engine has told everything and may be called again.
    fn settled(&mut self, _engine: &mut dyn Engine) {}
}
