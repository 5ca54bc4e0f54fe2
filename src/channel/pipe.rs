//! The heart of a channel: a ring and its sleepers, over whatever words, so that the model checker runs this very code.

use crate::id::ProcId;
use crate::prim::{AtomicU32, Ordering, spin_loop};
use crate::ring::{Outlook, Reading, Ring, Store, Writing};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until, wait_without_haste};

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Late,
    Closed,
    Interrupted,
}

/// A channel without its messages' meaning.
pub(super) struct Pipe<'a, S> {
    pub(super) ring: &'a Ring<S>,
    pub(super) readers: &'a WaitCell,
    pub(super) writers: &'a WaitCell,
    pub(super) closed: &'a AtomicU32,
    pub(super) me: ProcId,
}

/// Looks at a slot that is being written before an impatient receiver is told that there is nothing; and at one that is
/// being read before an impatient sender is told that there is no room.
const LOOKS_AT_PROGRESS: usize = 200;

/// Pauses between two looks at a full ring.
const PAUSES_WHEN_FULL: u64 = 64;

/// Looks at a full ring until there is room for several.
const LOOKS_FOR_ROOM: u64 = 16;

/// Messages that are worth waiting for a moment longer.
const ROOM: u64 = 256;

impl<'a, S: Store> Pipe<'a, S> {
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        // SeqCst: pairs with `close`.
        self.closed.load(Ordering::SeqCst) != 0
    }

    pub(super) fn close(&self) {
        // SeqCst: pairs with `is_closed` after a claim. Either the sender sees it, or receivers see the claim.
        self.closed.store(1, Ordering::SeqCst);
        mark!("channel.close.closed");
        self.poke();
    }

    pub(super) fn poke(&self) {
        self.readers.notify_all();
        self.writers.notify_all();
    }

    /// Claims a slot for writing.
    #[inline]
    pub(super) fn claim(&self, patience: &mut Patience, deadline: Deadline) -> Result<Outgoing<'a, S>, Refusal> {
        // Looking at a full ring takes the reader's words away from it, again and again; so not too often.
        let pauses = (self.ring.limit() / 2).min(PAUSES_WHEN_FULL);
        let pause = || (0..pauses).for_each(|_| spin_loop());
        if deadline != Deadline::Now && !cfg!(feature = "shuttle") {
            // And rather for several free slots at once, looking where no reader is at work.
            let room = (self.ring.limit() / 4).min(ROOM);
            let has_room = || self.ring.has_room(room) || self.is_closed();
            (0..LOOKS_FOR_ROOM).take_while(|_| !has_room()).for_each(|_| pause());
        }
        let ready = || {
            let claimed = self.try_claim();
            if claimed.is_none() {
                pause();
            }
            claimed
        };
        match wait_without_haste(self.writers, patience, deadline, ready) {
            Ok(claimed) => claimed,
            Err(_) if deadline == Deadline::Now => self.claim_being_freed(),
            Err(_) => Err(Refusal::Late),
        }
    }

    /// "Full" is not quite true while somebody is about to free the next slot, or has just done so on another core. So
    /// even one who will not wait looks a little longer.
    pub(super) fn claim_being_freed(&self) -> Result<Outgoing<'a, S>, Refusal> {
        for _ in 0..LOOKS_AT_PROGRESS {
            if !self.ring.is_being_freed() {
                break;
            }
            spin_loop();
        }
        self.try_claim().unwrap_or(Err(Refusal::Late))
    }

    /// A slot, if there is one at once and nothing else to be said.
    #[inline(always)]
    pub(super) fn claim_now(&self) -> Option<Outgoing<'a, S>> {
        if self.is_closed() {
            return None;
        }
        let writing = self.ring.claim(self.me)?;
        let outgoing = Outgoing { writing, call: Call(self.readers) };
        // A slot may have become free before the one that I waited for: see wait/README.md.
        self.writers.notify_one_if(|| self.ring.writable());
        // Again, after the claim: receivers who saw the closing and then no claim have gone.
        if self.is_closed() { None } else { Some(outgoing) }
    }

    #[inline]
    pub(super) fn try_claim(&self) -> Option<Result<Outgoing<'a, S>, Refusal>> {
        match self.claim_now() {
            Some(outgoing) => Some(Ok(outgoing)),
            None => self.is_closed().then_some(Err(Refusal::Closed)),
        }
    }

    /// Claims the next message.
    #[inline(always)]
    pub(super) fn take(
        &self,
        patience: &mut Patience,
        deadline: Deadline,
        stop: impl Fn() -> bool,
    ) -> Result<Incoming<'a, S>, Refusal> {
        let ready = || {
            if stop() {
                // The wake-up that brought me here may have been for a message.
                self.readers.notify_one_if(|| self.ring.readable());
                return Some(Err(Refusal::Interrupted));
            }
            self.try_take()
        };
        match wait_until(self.readers, patience, deadline, ready) {
            Ok(taken) => taken,
            Err(_) if deadline == Deadline::Now => self.take_in_progress(),
            Err(_) => Err(Refusal::Late),
        }
    }

    /// The next message, if there is one at once.
    #[inline(always)]
    pub(super) fn take_now(&self) -> Option<Incoming<'a, S>> {
        loop {
            let reading = self.ring.take(self.me)?;
            let void = reading.is_void();
            let incoming = Incoming { reading, call: Call(self.writers) };
            if void {
                incoming.free();
                continue;
            }
            // A message may have been published before the one that I waited for, or this was the last that others
            // waited for before they could go: see wait/README.md.
            self.readers.notify_one_if(|| self.ring.readable() || self.is_closed());
            return Some(incoming);
        }
    }

    #[inline]
    pub(super) fn try_take(&self) -> Option<Result<Incoming<'a, S>, Refusal>> {
        match self.take_now() {
            Some(incoming) => Some(Ok(incoming)),
            None => self.end_of_messages(),
        }
    }

    /// Nothing to read: will there ever be?
    fn end_of_messages(&self) -> Option<Result<Incoming<'a, S>, Refusal>> {
        // In this order: a claim that comes after the closing is never published with a message.
        let over = self.is_closed() && self.ring.outlook() == Outlook::Empty;
        if over {
            // Others may have fallen asleep while somebody was about to send the last message.
            self.readers.notify_one();
        }
        over.then_some(Err(Refusal::Closed))
    }

    /// "Empty" is not quite true while somebody is about to publish the next message: those
    /// behind it may be there already. So even one who will not wait looks a little longer.
    pub(super) fn take_in_progress(&self) -> Result<Incoming<'a, S>, Refusal> {
        for _ in 0..LOOKS_AT_PROGRESS {
            match self.ring.outlook() {
                Outlook::Empty => break,
                Outlook::InProgress => spin_loop(),
                Outlook::Ready => {
                    if let Some(taken) = self.try_take() {
                        return taken;
                    }
                }
            }
        }
        Err(Refusal::Late)
    }
}

/// Calls one sleeper when it is dropped.
struct Call<'a>(&'a WaitCell);

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A slot to be filled. Dropped unsent, it is void, and receivers skip it.
pub(super) struct Outgoing<'a, S: Store> {
    writing: Writing<'a, S>,
    // After the slot: also if this one is void, the next message may be there, and its sleeper gone back to sleep
    // because of it.
    call: Call<'a>,
}

impl<S: Store> Outgoing<'_, S> {
    #[inline]
    pub(super) fn body(&mut self) -> std::ptr::NonNull<u8> {
        self.writing.body()
    }

    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.writing.position()
    }

    #[inline(always)]
    pub(super) fn send(self) -> u64 {
        let Outgoing { writing, call } = self;
        let position = writing.publish();
        mark!("channel.send.published");
        drop(call);
        position
    }
}

/// A message to be read. Dropped, its slot is free.
pub(super) struct Incoming<'a, S: Store> {
    reading: Reading<'a, S>,
    call: Call<'a>,
}

impl<S: Store> Incoming<'_, S> {
    #[inline]
    pub(super) fn body(&self) -> std::ptr::NonNull<u8> {
        self.reading.body()
    }

    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.reading.position()
    }

    #[inline]
    pub(super) fn sender(&self) -> ProcId {
        self.reading.writer()
    }

    #[inline(always)]
    pub(super) fn free(self) {
        let Incoming { reading, call } = self;
        reading.free();
        mark!("channel.receive.freed");
        drop(call);
    }
}
