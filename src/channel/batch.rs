//! Several messages in one call: one look for sleepers, one step of the ring's ends, for all of them.

use super::layout::{self, Labelled};
use super::pipe::Pipe;
use super::{Channel, ChannelError, Payload, cargo};
use crate::mm::Block;
use crate::ring::{Found, Halt, Mapped, Store};

/// Most messages before somebody who sleeps is called: about as long as a call takes to be heard.
const RUN: usize = 64;

impl<S: Store> Pipe<'_, S> {
    /// Sends messages into slots until there is none, or `next` has no more; `next` is given the slot and its position. How
    /// many. Nothing if the channel is closed.
    pub(super) fn send_run(&self, most: usize, mut fill: impl FnMut(std::ptr::NonNull<u8>, u64)) -> Option<usize> {
        let (mut sent, mut closed) = (0, self.is_closed());
        let mut run = self.ring.write_run(self.me);
        while sent < most && !closed {
            match run.push(|| self.is_closed(), &mut fill) {
                Ok(_) => sent += 1,
                Err(Halt::Nothing) => break,
                Err(Halt::Stopped) => closed = true,
            }
        }
        drop(run);
        mark!("channel.run.sent");
        if sent > 0 || closed {
            // Also for a slot that is void: it may be what a sleeper waits behind.
            self.readers.notify_one();
            // As after a single claim: see wait/README.md.
            self.writers.notify_one_if(|| self.ring.writable());
        }
        (sent > 0 || !closed).then_some(sent)
    }

    /// Receives messages that are there, at most so many, as long as `take` says so; what it leaves in `kept` is dropped
    /// when the slot is free. How many.
    pub(super) fn receive_run<K>(
        &self,
        most: usize,
        mut take: impl FnMut(&Found<'_, S>, &mut Option<K>) -> bool,
    ) -> usize {
        let mut kept = None;
        let mut run = self.ring.read_run(self.me);
        let (mut taken, mut more) = (0, true);
        while taken < most && more {
            match run.pull(|found| take(found, &mut kept)) {
                Ok(goes_on) => {
                    taken += 1;
                    more = goes_on;
                }
                Err(_) => break,
            }
            if kept.is_some() {
                kept = None;
            }
        }
        // Void slots may have been freed though nothing was taken.
        drop(run);
        mark!("channel.run.received");
        self.writers.notify_one();
        // As after a single claim: see wait/README.md.
        self.readers.notify_one_if(|| self.ring.readable() || self.is_closed());
        taken
    }
}

impl Channel {
    /// Sends messages that need no block, as many of `count` as there is room for just now. Of message `n`, `len` says
    /// how long it is and `fill` writes it. How many were sent.
    pub(crate) fn send_run(
        &self,
        count: usize,
        len: impl Fn(usize) -> usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> Result<usize, ChannelError> {
        let pipe = self.pipe();
        let (mut sent, mut bytes, mut last) = (0, 0, 0);
        while sent < count {
            let most = (count - sent).min(RUN);
            let put = |body, position| {
                let n = sent;
                let length = len(n).min(self.0.inline);
                // SAFETY: the claimed slot is ours alone until it is published, and has `inline` bytes.
                fill(n, unsafe { layout::label_here(body, length) });
                (sent, bytes, last) = (n + 1, bytes + length, position);
            };
            match pipe.send_run(most, put) {
                Some(n) if n == most => {}
                Some(_) => break,
                None if sent == 0 => return Err(ChannelError::Closed),
                None => break,
            }
        }
        if sent > 0 {
            self.count_many_sent(last, sent, bytes);
        }
        Ok(sent)
    }

    /// Receives what is there, at most `most` messages, each into `take`, as long as that says so; it leaves the block that
    /// a message came in. How many were taken out, and the error of the last of them if it could not be read.
    pub(crate) fn receive_run(
        &self,
        most: usize,
        mut take: impl FnMut(Payload<'_>, &mut Option<Block>) -> bool,
    ) -> Received {
        let pipe = self.pipe();
        let _freeing = self.freeing();
        let mut received = Received { taken: 0, error: None };
        loop {
            let (mut with_cargo, mut over) = (None, false);
            let taken = pipe.receive_run((most - received.taken).min(RUN), |found, kept| {
                // SAFETY: the claimed slot is nobody else's while `found` is there.
                with_cargo = unsafe { layout::has_cargo(found.body()) }.then(|| found.position());
                match self.open_found(found, kept, &mut take) {
                    Ok(more) => over = !more,
                    Err(error) => received.error = Some(error),
                }
                // What a message held is let go of when its slot is free.
                !over && with_cargo.is_none() && received.error.is_none()
            });
            received.taken += taken;
            if let Some(position) = with_cargo {
                cargo::unload(self, position);
            }
            let halted = taken < RUN && with_cargo.is_none();
            if halted || over || received.error.is_some() || received.taken == most {
                return received;
            }
        }
    }

    fn open_found(
        &self,
        found: &Found<'_, Mapped>,
        kept: &mut Option<Block>,
        take: &mut impl FnMut(Payload<'_>, &mut Option<Block>) -> bool,
    ) -> Result<bool, ChannelError> {
        let position = found.position();
        // SAFETY: the claimed slot is nobody else's while `found` is there.
        let opened = unsafe { layout::read_label(found.body(), self.0.inline) };
        let payload = match opened {
            Labelled::Here(space, len) => Payload::Inline(&space[..len]),
            Labelled::InBlock(handle) => match self.memory().take_over_from(handle, found.writer()) {
                Ok(block) => Payload::Block(block),
                Err(source) => return Err(ChannelError::Lost { position, source }),
            },
            Labelled::Garbled => return Err(ChannelError::Garbled { what: "a message" }),
        };
        mark!("channel.run.opened");
        let taken = take(payload, kept);
        if let Some(tally) = self.tally() {
            tally.take(self.0.me);
        }
        Ok(taken)
    }
}

/// What came of [`Channel::receive_run`].
pub(crate) struct Received {
    pub(crate) taken: usize,
    pub(crate) error: Option<ChannelError>,
}
