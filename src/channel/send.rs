//! Sending: bytes into a slot, bytes into a block, or a block as it is.

use super::pipe::{Outgoing, Refusal};
use super::{Channel, ChannelError, layout, patiently};
use crate::id::ObjectId;
use crate::mm::{Block, Claim, Object};
use crate::ring::Mapped;
use crate::time::Deadline;

/// A message with all that it needs, until there is a slot for it.
pub(crate) struct Letter<'a, F> {
    len: usize,
    fill: Option<F>,
    cargo: &'a [Object],
    /// Of the cargo, what need not be held.
    spared: Option<ObjectId>,
    block: Option<Block>,
    claims: Vec<Claim>,
}

impl<'a, F: FnOnce(&mut [u8])> Letter<'a, F> {
    /// A message of `len` bytes, which `fill` writes, that keeps the objects of `cargo` alive until it was received.
    pub(crate) fn new(len: usize, cargo: &'a [Object], fill: F) -> Letter<'a, F> {
        Letter { len, fill: Some(fill), cargo, spared: None, block: None, claims: Vec::new() }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// An object that keeps itself alive would live for ever; who receives the message has it open anyway.
    pub(super) fn spare(&mut self, object: ObjectId) {
        self.spared = Some(object);
    }

    /// Gets what may fail or take long before there is a slot, which would hold up others.
    fn prepare(&mut self, channel: &Channel) -> Result<(), ChannelError> {
        if self.len > channel.inline_capacity()
            && let Some(fill) = self.fill.take()
        {
            let mut block = channel.loan(self.len)?;
            fill(&mut block.as_mut_slice()[..self.len]);
            self.block = Some(block);
        }
        for object in std::mem::take(&mut self.cargo) {
            if object.id() != channel.id() && Some(object.id()) != self.spared {
                self.claims.push(channel.memory().claim_hold(object)?);
            }
        }
        Ok(())
    }
}

/// Fills a slot with a message of `len` bytes, of which there is room for as many, and sends it.
#[inline(always)]
fn post_here(mut outgoing: Outgoing<'_, Mapped>, len: usize, fill: impl FnOnce(&mut [u8])) -> u64 {
    mark!("channel.send.claimed");
    // SAFETY: the claimed slot is ours alone until it is sent, and has at least `len` bytes, by the only caller.
    fill(unsafe { layout::label_here(outgoing.body(), len) });
    mark!("channel.send.filled");
    outgoing.send()
}

impl Channel {
    /// Sends a copy of the bytes. Returns the message's position.
    #[inline]
    pub(crate) fn send(&self, bytes: &[u8], deadline: Deadline) -> Result<u64, ChannelError> {
        self.send_with(bytes.len(), deadline, |space| space.copy_from_slice(bytes))
    }

    /// Sends `len` bytes that `fill` writes to where the receiver will read them. The space holds
    /// arbitrary bytes at first. If `fill` panics nothing is sent.
    #[inline]
    pub(crate) fn send_with(
        &self,
        len: usize,
        deadline: Deadline,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<u64, ChannelError> {
        if len > self.0.inline {
            return self.send_in_block(len, deadline, fill);
        }
        // Two ways with the end of each its own, so that a slot that is free need not be handed about.
        match self.pipe().claim_now() {
            Some(outgoing) => Ok(post_here(outgoing, len, fill)),
            None => self.send_later(len, deadline, fill),
        }
    }

    /// Sends `len` bytes that `fill` writes, if they fit into a slot and there is one at once. Returns the message's position.
    #[inline(always)]
    pub(crate) fn send_now(&self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<u64> {
        if len > self.0.inline {
            return None;
        }
        Some(post_here(self.pipe().claim_now()?, len, fill))
    }

    #[cold]
    #[inline(never)]
    fn send_later(&self, len: usize, deadline: Deadline, fill: impl FnOnce(&mut [u8])) -> Result<u64, ChannelError> {
        Ok(post_here(self.claim_later(deadline)?, len, fill))
    }

    fn send_in_block(&self, len: usize, deadline: Deadline, fill: impl FnOnce(&mut [u8])) -> Result<u64, ChannelError> {
        // Before the slot is claimed: what may fail or take long must not hold up others.
        let mut block = self.loan(len)?;
        fill(&mut block.as_mut_slice()[..len]);
        self.send_block(block, len, deadline).map_err(|(error, _)| error)
    }

    /// Sends the first `used` bytes of a block, which becomes the receiver's. A block that cannot be sent
    /// comes back.
    pub(crate) fn send_block(
        &self,
        block: Block,
        used: usize,
        deadline: Deadline,
    ) -> Result<u64, (ChannelError, Block)> {
        if used > block.len() {
            let len = block.len();
            return Err((ChannelError::TooLarge { used, len }, block));
        }
        let mut outgoing = match self.claim(deadline) {
            Ok(outgoing) => outgoing,
            Err(error) => return Err((error, block)),
        };
        mark!("channel.send_block.claimed");
        // It stays ours until a receiver takes it over: if we die before this is published it is freed, if later, kept.
        let handle = block.into_handle().with_len(used as u64);
        mark!("channel.send_block.let_go");
        // SAFETY: the claimed slot is ours alone until it is sent.
        unsafe { layout::label_block(outgoing.body(), handle) };
        mark!("channel.send_block.filled");
        Ok(outgoing.send())
    }

    /// Sends a letter. One that cannot be sent can be tried again, here or at another channel.
    pub(crate) fn post<F: FnOnce(&mut [u8])>(
        &self,
        letter: &mut Letter<'_, F>,
        deadline: Deadline,
    ) -> Result<u64, ChannelError> {
        letter.prepare(self)?;
        let mut outgoing = self.claim(deadline)?;
        mark!("channel.post.claimed");
        let body = outgoing.body();
        match (letter.block.take(), letter.fill.take()) {
            (Some(block), _) => {
                let handle = block.into_handle().with_len(letter.len as u64);
                // SAFETY: the claimed slot is ours alone until it is sent.
                unsafe { layout::label_block(body, handle) };
            }
            // SAFETY: as above, and `prepare` saw to it that the slot has `len` bytes, or there is a block.
            (None, Some(fill)) => fill(unsafe { layout::label_here(body, letter.len) }),
            (None, None) => return Err(ChannelError::Garbled { what: "a letter that was sent already" }),
        }
        mark!("channel.post.filled");
        if !letter.claims.is_empty() {
            // SAFETY: as above, and it has its label.
            unsafe { layout::label_cargo(body) };
            letter.claims.drain(..).for_each(|claim| claim.bind(self.id(), outgoing.position()));
            mark!("channel.post.bound");
        }
        Ok(outgoing.send())
    }

    #[inline]
    fn claim(&self, deadline: Deadline) -> Result<Outgoing<'_, Mapped>, ChannelError> {
        match self.pipe().claim_now() {
            Some(outgoing) => Ok(outgoing),
            None => self.claim_later(deadline),
        }
    }

    /// A slot when there was none at once.
    fn claim_later(&self, deadline: Deadline) -> Result<Outgoing<'_, Mapped>, ChannelError> {
        let pipe = self.pipe();
        let claimed = match deadline {
            Deadline::Now => pipe.claim_being_freed(),
            _ => patiently(|patience| pipe.claim(patience, deadline)),
        };
        claimed.map_err(|refusal| refusal.of_send(deadline))
    }
}

impl Refusal {
    #[cold]
    fn of_send(self, deadline: Deadline) -> ChannelError {
        match self {
            Refusal::Late => ChannelError::late(deadline, ChannelError::Full),
            Refusal::Closed => ChannelError::Closed,
            Refusal::Interrupted => ChannelError::Interrupted,
        }
    }
}
