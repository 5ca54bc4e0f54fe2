//! What ranks and hub say to each other once each knows the other, and how long it may be.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::error::Failure;

/// A card may be this long.
pub(crate) const CARD_MAX: usize = 4 << 10;
/// What a rank says in a round may be this long.
pub(crate) const ROUND_MAX: usize = 64 << 10;
/// More ranks than this are a mistake.
pub(super) const RANKS_MAX: u32 = 1 << 20;
/// What identifies a build may be this long.
pub(super) const BUILD_MAX: usize = 256;
/// Any message to the hub is shorter: a round, and room for its wrapping.
pub(super) const TO_HUB_MAX: usize = ROUND_MAX + 1024;
/// The number by which ranks that speak otherwise are told apart.
pub(super) const VERSION: u32 = 2;

/// What a rank says about where it is. Only equal claims make two ranks try each other; the trial decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The start of the kernel it runs on; empty if hidden.
    pub(super) boot: String,
    /// Its user.
    pub(super) uid: u32,
    /// Its `/dev/shm`, if it can be written.
    pub(super) shared_memory: Option<u64>,
    /// Its network, of importance where `/dev/shm` cannot be written.
    pub(super) network: u64,
    /// What `DRAGON_NODE_ID` says.
    pub(super) node_id: Option<String>,
}

/// A rank introduces itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// What build of the program it is.
    pub(super) build: Vec<u8>,
    /// `None`: any.
    pub(super) rank: Option<u32>,
    pub(super) size: u32,
    /// When it will give up, in milliseconds from now.
    pub(super) patience: u64,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) card: Vec<u8>,
    pub(super) claims: Claims,
}

/// All are there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    /// Unpredictable, of this world alone.
    pub(super) job: [u8; 16],
    pub(super) cards: Vec<Vec<u8>>,
    /// What is claimed, once for all who claim the same: those of a machine do.
    claims: Vec<Claims>,
    /// Which of them each rank claims.
    claimed: Vec<u32>,
}

impl Welcome {
    /// Of the cards and claims of all, by rank.
    pub(super) fn new(job: [u8; 16], all: impl Iterator<Item = (Vec<u8>, Claims)>) -> Welcome {
        let (mut cards, mut claims, mut claimed, mut known) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        for (card, theirs) in all {
            cards.push(card);
            claimed.push(*known.entry(theirs).or_insert_with_key(|new| {
                claims.push(new.clone());
                claims.len() as u32 - 1
            }));
        }
        Welcome { job, cards, claims, claimed }
    }

    /// What each rank claims, by rank; fewer than cards if it makes no sense.
    pub(super) fn claims(&self) -> Vec<Claims> {
        self.claimed.iter().map_while(|which| self.claims.get(*which as usize).cloned()).collect()
    }
}

/// A rank to the hub.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToHub {
    Hello(Box<Hello>),
    Round(Vec<u8>),
    Failed(Failure),
    Bye,
}

/// The hub to a rank.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToSpoke {
    /// The hub has understood the hello; this is your rank, provided that all come.
    Welcome(Welcome),
    /// Precedes the welcome: it differs from rank to rank, the welcome does not.
    Rank(u32),
    Round(Vec<Vec<u8>>),
    Failed(Failure),
    Bye,
}

/// The longest message to a spoke in a world of this size.
pub(super) fn to_spoke_max(size: u32) -> usize {
    (ROUND_MAX + CARD_MAX + 1024).saturating_mul(size as usize).saturating_add(64 << 10)
}

/// A message as bytes.
pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // `expect`: none of these types can refuse, and a vector grows.
    postcard::to_stdvec(message).expect("plain data can be encoded")
}

/// Bytes as a message. `None` if they are none, or more than one.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (message, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nonsense_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode::<ToHub>(&bytes), decode::<ToSpoke>(&bytes));
        }
    }
}
