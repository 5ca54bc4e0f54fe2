//! Receiving: a copy of a short message, the block of a long one, or a look at either while it is still the channel's.

use super::layout::{self, Labelled};
use super::pipe::{Incoming, Refusal};
use super::tally::Tally;
use super::{Channel, ChannelError, Message, Payload, cargo, patiently};
use crate::id::ProcId;
use crate::mm::Block;
use crate::ring::Mapped;
use crate::time::Deadline;
use crate::wait::Patience;

/// A message as it was found: so many bytes of its slot's space, or a block.
enum Opened<'a> {
    Here(&'a [u8], usize),
    Block(Block),
}

impl<'a> From<Opened<'a>> for Payload<'a> {
    #[inline]
    fn from(opened: Opened<'a>) -> Payload<'a> {
        match opened {
            Opened::Here(space, len) => Payload::Inline(&space[..len]),
            Opened::Block(block) => Payload::Block(block),
        }
    }
}

impl Channel {
    /// Receives the next message.
    #[inline]
    pub(crate) fn recv(&self, deadline: Deadline) -> Result<Message, ChannelError> {
        self.receive_opened(deadline, |opened| match opened {
            Opened::Here(space, len) => Message::copy(space, len),
            Opened::Block(block) => Message::from(block),
        })
    }

    /// Receives the next message into `take`, with its position. While `take` runs the message is still in its slot: if this
    /// process dies inside, the message is ready again for somebody else. A panic in `take` frees the slot.
    ///
    /// `stop` is asked before every look, and when somebody pokes the channel; once it says true, the answer is
    /// [`ChannelError::Interrupted`], and no message is taken.
    pub(crate) fn recv_with<R>(
        &self,
        patience: &mut Patience,
        deadline: Deadline,
        stop: &dyn Fn() -> bool,
        take: impl FnOnce(u64, Payload<'_>) -> R,
    ) -> Result<R, ChannelError> {
        let taken = self.pipe().take(patience, deadline, stop);
        let incoming = taken.map_err(|refusal| refusal.of_receive(deadline))?;
        self.open_message(incoming, |position, opened| take(position, opened.into()))
    }

    /// Receives the next message into `take`, as [`Channel::recv_with`] does, with what this thread has learnt about
    /// waiting.
    #[inline]
    pub(crate) fn receive<R>(
        &self,
        deadline: Deadline,
        take: impl FnOnce(Payload<'_>) -> R,
    ) -> Result<R, ChannelError> {
        self.receive_opened(deadline, |opened| take(opened.into()))
    }

    /// The next message into `take`, if there is one at once. One that lies in its slot goes no way but this: nothing of it
    /// is handed about, nor what might have gone wrong.
    #[inline(always)]
    pub(crate) fn receive_now<R>(&self, take: impl FnOnce(&[u8]) -> R) -> Option<Result<R, Box<ChannelError>>> {
        let incoming = self.pipe().take_now()?;
        // SAFETY: the claimed slot is nobody else's until `incoming` is freed, below.
        let plain = unsafe { layout::read_plain(incoming.body(), self.0.inline) };
        match plain.filter(|_| self.0.tally.is_none()) {
            Some(bytes) => {
                let taken = take(bytes);
                incoming.free();
                Some(Ok(taken))
            }
            None => Some(self.receive_claimed(incoming, take)),
        }
    }

    /// Any other message.
    #[inline(never)]
    fn receive_claimed<R>(
        &self,
        incoming: Incoming<'_, Mapped>,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Box<ChannelError>> {
        let mut block = None;
        let received = self.open_message(incoming, |_, opened| {
            let payload = Payload::from(opened);
            let taken = take(&payload);
            payload.leave_block(&mut block);
            taken
        });
        received.map_err(Box::new)
    }

    #[inline(always)]
    fn receive_opened<R>(&self, deadline: Deadline, take: impl FnOnce(Opened<'_>) -> R) -> Result<R, ChannelError> {
        // Two ways with the end of each its own, so that a message that is there need not be handed about.
        match self.pipe().take_now() {
            Some(incoming) => self.open_message(incoming, |_, opened| take(opened)),
            None => self.receive_later(deadline, take),
        }
    }

    #[cold]
    #[inline(never)]
    fn receive_later<R>(&self, deadline: Deadline, take: impl FnOnce(Opened<'_>) -> R) -> Result<R, ChannelError> {
        let taken = patiently(|patience| self.pipe().take(patience, deadline, || false));
        let incoming = taken.map_err(|refusal| refusal.of_receive(deadline))?;
        self.open_message(incoming, |_, opened| take(opened))
    }

    /// Receives into `take` if there is a message. If there is none, `take` stays; `Empty` or `Closed` says why.
    /// With a tally of somebody else, for a process, it is counted there.
    pub(super) fn receive_for<R, F: FnOnce(Payload<'_>) -> R>(
        &self,
        take: &mut Option<F>,
        tally: Option<(Tally<'_>, ProcId)>,
    ) -> Result<R, ChannelError> {
        let pipe = self.pipe();
        let taken = pipe.try_take().unwrap_or_else(|| pipe.take_in_progress());
        let incoming = taken.map_err(|refusal| refusal.of_receive(Deadline::Now))?;
        let Some(take) = take.take() else {
            return Err(ChannelError::Garbled { what: "a receipt that was given already" });
        };
        self.open_message(incoming, |_, opened| {
            let taken = take(opened.into());
            tally.inspect(|(tally, me)| tally.take(*me));
            taken
        })
    }

    #[inline(always)]
    fn open_message<R>(
        &self,
        incoming: Incoming<'_, Mapped>,
        take: impl FnOnce(u64, Opened<'_>) -> R,
    ) -> Result<R, ChannelError> {
        if self.0.tally.is_some() {
            return self.open_counted(incoming, take);
        }
        self.open_claimed(incoming, take)
    }

    /// A message of a channel with a tally.
    #[cold]
    #[inline(never)]
    fn open_counted<R>(
        &self,
        incoming: Incoming<'_, Mapped>,
        take: impl FnOnce(u64, Opened<'_>) -> R,
    ) -> Result<R, ChannelError> {
        // Dropped after the slot was freed, also if `take` panics.
        let _freeing = self.freeing();
        self.open_claimed(incoming, take)
    }

    #[inline(always)]
    fn open_claimed<R>(
        &self,
        incoming: Incoming<'_, Mapped>,
        take: impl FnOnce(u64, Opened<'_>) -> R,
    ) -> Result<R, ChannelError> {
        let position = incoming.position();
        mark!("channel.receive.claimed");
        // SAFETY: the claimed slot is nobody else's until `incoming` is freed, below.
        let result = match unsafe { layout::read_label(incoming.body(), self.0.inline) } {
            Labelled::Here(space, len) => Ok(take(position, Opened::Here(space, len))),
            Labelled::InBlock(handle) => match self.memory().take_over_from(handle, incoming.sender()) {
                Ok(block) => {
                    mark!("channel.receive.taken_over");
                    Ok(take(position, Opened::Block(block)))
                }
                Err(source) => Err(ChannelError::Lost { position, source }),
            },
            Labelled::Garbled => Err(ChannelError::Garbled { what: "a message" }),
        };
        mark!("channel.receive.taken");
        // SAFETY: as above.
        let with_cargo = unsafe { layout::has_cargo(incoming.body()) };
        if let Some(tally) = self.tally().filter(|_| result.is_ok()) {
            tally.take(self.0.me);
        }
        incoming.free();
        if with_cargo {
            cargo::unload(self, position);
        }
        result
    }
}

impl Refusal {
    #[cold]
    fn of_receive(self, deadline: Deadline) -> ChannelError {
        match self {
            Refusal::Late => ChannelError::late(deadline, ChannelError::Empty),
            Refusal::Closed => ChannelError::Closed,
            Refusal::Interrupted => ChannelError::Interrupted,
        }
    }
}
