//! A chain: a channel without a bound, made of pieces that are channels.
//!
//! ```text
//! word 0    magic           1  label            2  inline           3  limit in bytes      4  tallied, 0 or 1
//!      8    WaitCell: who waits for messages
//!      16   first, last, window of links: links.rs
//!      32   came            bytes of pieces, and of messages in blocks, that were ever added
//!      33   figures         what whoever puts counts, and what was in pieces that are gone: figures.rs
//!      40   went            and taken away
//!      1072 tally           if there is one: tally.rs
//! ```
//!
//! A piece lives because the chain holds it (`cargo.rs`), from before it is linked until it is retired.
//! Receivers sleep at the chain's own cell; senders never sleep.

use std::mem;
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam::utils::CachePadded;

use super::cargo::{self, PIECE};
use super::figures;
use super::links::{FIRST, LINKS, Link, Pieces, Side, WINDOW};
use super::tally::{Freeing, Tally};
use super::{Channel, ChannelError, Letter, Payload, Received, patiently};
use crate::counters::Sum;
use crate::id::{ObjectId, ProcId};
use crate::mm::{Block, Hold, Kind, MemError, Memory, Object};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{TimedOut, WaitCell, wait_until};

const MAGIC: u64 = u64::from_le_bytes(*b"drgchai\x02");
const READERS: usize = 8;
const CAME: usize = 32;
const FIGURES: usize = 33;
const HIGH_WATER: usize = FIGURES + Sum::WORDS;
const GONE: usize = HIGH_WATER + 1;
const WENT: usize = 40;
const TALLY: usize = WINDOW + LINKS as usize;

/// Slots of the first piece; each piece that has to be added has twice as many as the one before.
const LEAST: u64 = 256;
const MOST: u64 = 16384;

/// A chain as this process has it open. Clones are the same chain; the last to be dropped, in whichever
/// process, frees it with all that is still in it.
#[derive(Clone)]
pub(crate) struct Chain(Arc<Inner>);

/// A piece that was used last, and its number.
type Kept = RwLock<Option<(u64, Channel)>>;

struct Inner {
    sending: CachePadded<Kept>,
    receiving: CachePadded<Kept>,
    me: ProcId,
    /// `Some` until it is dropped.
    object: Option<Object>,
}

impl Chain {
    /// A new chain whose messages of up to `inline` bytes need no block, and which takes at most `limit` bytes.
    pub(crate) fn create(
        memory: &Arc<Memory>,
        inline: usize,
        limit: u64,
        label: u64,
        tallied: bool,
    ) -> Result<Chain, ChannelError> {
        let words = TALLY + if tallied { Tally::WORDS } else { 0 };
        let mut block = memory.alloc(words * size_of::<u64>())?;
        block.as_mut_slice().fill(0);
        let head = [MAGIC, label, inline as u64, limit, u64::from(tallied)];
        block.as_mut_slice()[..size_of_val(&head)].copy_from_slice(bytemuck::bytes_of(&head));
        let first = FIRST * size_of::<u64>();
        block.as_mut_slice()[first..first + 8].copy_from_slice(&1_u64.to_ne_bytes());
        mark!("channel.chain.filled");
        Ok(Chain::over(memory.create_object(Kind::Chain, block)?))
    }

    /// Opens a chain that some process has open, or that a message holds.
    pub(crate) fn open(memory: &Arc<Memory>, id: ObjectId) -> Result<Chain, ChannelError> {
        let object = memory.open_object(id, Kind::Chain)?;
        let words = object.words();
        let whole = words.len() >= TALLY && words[0].load(Ordering::Relaxed) == MAGIC;
        let tallied = whole && words[4].load(Ordering::Relaxed) != 0;
        if !whole || (tallied && words.len() < TALLY + Tally::WORDS) {
            return Err(ChannelError::Garbled { what: "the chain itself" });
        }
        Ok(Chain::over(object))
    }

    fn over(object: Object) -> Chain {
        let me = object.memory().me();
        let (sending, receiving) = Default::default();
        Chain(Arc::new(Inner { sending, receiving, me, object: Some(object) }))
    }

    /// The object of shared memory that it is.
    pub(crate) fn object(&self) -> &Object {
        // It is taken out when the last clone is dropped, and this is one.
        self.0.object.as_ref().expect("held until dropped")
    }

    fn memory(&self) -> &Arc<Memory> {
        self.object().memory()
    }

    /// The name under which other processes open it.
    pub(crate) fn id(&self) -> ObjectId {
        self.object().id()
    }

    /// What it is for.
    pub(crate) fn label(&self) -> u64 {
        self.word(1).load(Ordering::Relaxed) // never changes
    }

    /// The longest message that needs no block.
    pub(crate) fn inline_capacity(&self) -> usize {
        self.word(2).load(Ordering::Relaxed) as usize // never changes
    }

    fn limit(&self) -> u64 {
        self.word(3).load(Ordering::Relaxed) // never changes
    }

    /// Where those sleep who wait for messages.
    pub(crate) fn readers(&self) -> &WaitCell {
        readers(self.object().words())
    }

    fn tally(&self) -> Option<Tally<'_>> {
        let words = &self.object().words()[TALLY..];
        (!words.is_empty() && self.word(4).load(Ordering::Relaxed) != 0).then(|| Tally::in_words(words)) // never changes
    }

    /// Sends a letter. Never waits.
    pub(crate) fn post<F: FnOnce(&mut [u8])>(&self, letter: &mut Letter<'_, F>) -> Result<(), ChannelError> {
        let in_block = if letter.len() > self.inline_capacity() { letter.len() as u64 } else { 0 };
        self.account(in_block)?;
        // Also for one that was not sent: a slot that was claimed for it may have been what receivers wait for.
        let _bell = Bell(self.readers());
        let posted = self.post_somewhere(letter);
        if posted.is_err() {
            self.discount(in_block);
        }
        posted
    }

    fn post_somewhere<F: FnOnce(&mut [u8])>(&self, letter: &mut Letter<'_, F>) -> Result<(), ChannelError> {
        letter.spare(self.id());
        let position = self.send_to_last(|piece| piece.post(letter, Deadline::Now))?;
        self.count_sent(position, letter.len());
        Ok(())
    }

    /// Sends messages that need no block, all of `count`: see [`Channel::send_run`]. If it fails, how many were sent before.
    pub(crate) fn send_run(
        &self,
        count: usize,
        len: impl Fn(usize) -> usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> Result<usize, (usize, ChannelError)> {
        let mut sent = 0;
        let sending = self.send_pieces(count, &mut sent, len, fill);
        self.readers().notify_one();
        sending.map(|()| sent).map_err(|error| (sent, error))
    }

    fn send_pieces(
        &self,
        count: usize,
        sent: &mut usize,
        len: impl Fn(usize) -> usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> Result<(), ChannelError> {
        while *sent < count {
            let begin = *sent;
            let more = self.send_to_last(|piece| {
                let run = piece.send_run(count - begin, |n| len(begin + n), |n, space| fill(begin + n, space));
                run.and_then(|sent| if sent > 0 { Ok(sent) } else { Err(ChannelError::Full) })
            })?;
            let bytes: usize = (begin..begin + more).map(&len).sum();
            Sum::in_words(&self.object().words()[FIGURES..]).add(self.0.me, bytes as u64);
            figures::sample(self.word(HIGH_WATER), self.len());
            *sent += more;
        }
        Ok(())
    }

    /// Receives what is there in the oldest piece, at most `most` messages: see [`Channel::receive_run`].
    pub(crate) fn receive_run(
        &self,
        most: usize,
        mut take: impl FnMut(Payload<'_>, &mut Option<Block>) -> bool,
    ) -> Received {
        let (mut in_block, tally, _freeing) = (0, self.tally(), self.freeing());
        let take = |payload: Payload<'_>, kept: &mut Option<Block>| {
            if let Payload::Block(block) = &payload {
                in_block += block.len() as u64;
            }
            let taken = take(payload, kept);
            tally.inspect(|tally| tally.take(self.0.me));
            taken
        };
        let received = self.with(Side::Receiving, self.number(FIRST), |piece| piece.receive_run(most, take));
        self.discount(in_block);
        let received = received.ok().flatten().unwrap_or(Received { taken: 0, error: None });
        if received.taken > 0 {
            self.readers().notify_one_if(|| self.is_ready());
        }
        received
    }

    fn bytes_of(&self, slots: u64) -> u64 {
        slots * (self.inline_capacity() as u64 + 32).next_multiple_of(64)
    }

    /// Counts bytes that come, if there is room for them. A process that dies before they do, or before it has counted
    /// that they went, leaves them counted: at most one message and one piece for each death.
    fn account(&self, bytes: u64) -> Result<(), ChannelError> {
        if bytes == 0 {
            return Ok(());
        }
        let (limit, in_use) = (self.limit(), self.bytes_in_use());
        if in_use.saturating_add(bytes) > limit {
            return Err(ChannelError::AtLimit { asked: bytes, in_use, limit });
        }
        self.word(CAME).fetch_add(bytes, Ordering::Relaxed); // a figure
        Ok(())
    }

    fn discount(&self, bytes: u64) {
        if bytes > 0 {
            self.word(WENT).fetch_add(bytes, Ordering::Relaxed); // a figure
        }
    }

    /// Bytes of its pieces and of the messages in blocks.
    pub(crate) fn bytes_in_use(&self) -> u64 {
        let went = self.word(WENT).load(Ordering::Relaxed);
        self.word(CAME).load(Ordering::Relaxed).saturating_sub(went) // figures
    }

    /// Receives the next message into `take`, while which it is still in its slot.
    pub(crate) fn receive<R>(
        &self,
        deadline: Deadline,
        take: impl FnOnce(Payload<'_>) -> R,
    ) -> Result<R, ChannelError> {
        let mut in_block = 0;
        let count = &mut in_block;
        let mut take = Some(|payload: Payload<'_>| {
            if let Payload::Block(block) = &payload {
                *count = block.len() as u64;
            }
            take(payload)
        });
        let ready = || match self.receive_now(&mut take) {
            Err(ChannelError::Empty) => None,
            settled => Some(settled),
        };
        let waited = patiently(|patience| wait_until(self.readers(), patience, deadline, ready));
        self.discount(in_block);
        waited.unwrap_or_else(|TimedOut| Err(ChannelError::late(deadline, ChannelError::Empty)))
    }

    fn receive_now<R, F: FnOnce(Payload<'_>) -> R>(&self, take: &mut Option<F>) -> Result<R, ChannelError> {
        let tally = self.tally().map(|tally| (tally, self.0.me));
        let freeing = self.freeing();
        let received = self.receive_from_first(|piece| piece.receive_for(take, tally));
        match &received {
            // No slot was freed, and nobody needs to be told.
            Err(ChannelError::Empty) => mem::forget(freeing),
            // Others may have fallen asleep while somebody was about to send the last message.
            Err(ChannelError::Closed) => self.readers().notify_one(),
            _ => self.readers().notify_one_if(|| self.is_ready()),
        }
        received
    }

    /// Whether there is something to receive, or will never be.
    pub(crate) fn is_ready(&self) -> bool {
        self.numbers().any(|number| {
            let readable = self.with(Side::Receiving, number, |piece| piece.0.ring.readable());
            matches!(readable, Ok(Some(true)))
        }) || self.is_closed()
    }

    /// About how many messages wait.
    pub(crate) fn len(&self) -> usize {
        let len = |number| self.with(Side::Receiving, number, Channel::len).ok().flatten().unwrap_or(0);
        self.numbers().map(len).sum()
    }

    /// No more messages: see [`Channel::close`].
    pub(crate) fn close(&self) {
        self.end();
        self.readers().notify_all();
    }

    /// Whether somebody closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_ended()
    }

    /// Declares a message done that was taken out: see [`Channel::declare_done`].
    pub(crate) fn declare_done(&self) -> Option<bool> {
        self.tally().map(|tally| tally.declare(self.0.me, || self.all_done()))
    }

    fn freeing(&self) -> Option<Freeing<'_, impl Fn() -> bool>> {
        self.tally().map(|tally| tally.freeing(|| self.all_done()))
    }

    /// Waits until every message was taken out and declared done: see [`Channel::wait_done`].
    pub(crate) fn wait_done(&self, deadline: Deadline) -> Option<Result<(), ChannelError>> {
        self.tally().map(|tally| tally.wait(deadline, || self.all_done()))
    }

    fn all_done(&self) -> bool {
        self.numbers().all(|number| {
            let done = self.with(Side::Receiving, number, |piece| piece.0.ring.all_done());
            // One that is gone was done.
            !matches!(done, Ok(Some(false)))
        })
    }

    /// After a death: what the dead had taken is settled, and everybody looks again.
    pub(super) fn mend(&self, dead: ProcId) {
        if let Some(tally) = self.tally() {
            tally.settle(dead);
            tally.cell().heal();
        }
        Sum::in_words(&self.object().words()[FIGURES..]).disown(dead);
        self.readers().heal();
    }

    /// Looks at a piece that is not linked.
    fn with_made<R>(&self, id: ObjectId, f: impl FnOnce(&Channel) -> R) -> Option<R> {
        Channel::open(self.memory(), id).ok().map(|piece| f(&piece))
    }

    /// Ends the hold on a piece of this number.
    fn drop_piece(&self, number: u64, id: ObjectId) {
        let by = self.id();
        let holds = self.memory().holds(|hold| hold.object() == id && hold.by == by && hold.tag == PIECE | number);
        self.memory().let_go(&holds).into_iter().for_each(cargo::bury);
    }

    /// Counts a message that was sent, as the one at `position` of a piece.
    fn count_sent(&self, position: u64, len: usize) {
        Sum::in_words(&self.object().words()[FIGURES..]).add(self.0.me, len as u64);
        if figures::is_sampled(position) {
            figures::sample(self.word(HIGH_WATER), self.len());
        }
    }

    /// What anybody may see of a chain in these words, if they are one.
    pub(super) fn sight_in(words: &[AtomicU64]) -> Option<Seen<'_>> {
        let whole = words.len() >= TALLY && words[0].load(Ordering::Relaxed) == MAGIC;
        whole.then(|| Seen {
            label: words[1].load(Ordering::Relaxed), // never changes
            bytes: Sum::in_words(&words[FIGURES..]),
            high: &words[HIGH_WATER],
            gone: &words[GONE],
            readers: readers(words),
            closed: pieces_and_end(words).1,
        })
    }

    /// The pieces of the chain in these words.
    pub(super) fn pieces_in(words: &[AtomicU64]) -> Vec<ObjectId> {
        if words.len() < TALLY { Vec::new() } else { pieces_and_end(words).0 }
    }
}

impl Pieces for Chain {
    type Piece = Channel;

    fn words(&self) -> &[AtomicU64] {
        self.object().words()
    }

    fn with_piece<R>(
        &self,
        side: Side,
        number: u64,
        id: ObjectId,
        f: impl FnOnce(&Channel) -> R,
    ) -> Result<Option<R>, ChannelError> {
        let kept = if side == Side::Sending { &self.0.sending } else { &self.0.receiving };
        if let Some((held, piece)) = &*kept.read().unwrap_or_else(PoisonError::into_inner)
            && *held == number
        {
            return Ok(Some(f(piece)));
        }
        let piece = match Channel::open(self.memory(), id) {
            Ok(piece) => piece,
            Err(ChannelError::Memory(MemError::ObjectGone { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        let before = kept.write().unwrap_or_else(PoisonError::into_inner).replace((number, piece.clone()));
        drop(before);
        Ok(Some(f(&piece)))
    }

    fn make(&self, number: u64, ahead: u64) -> Result<ObjectId, ChannelError> {
        let slots = (LEAST << ahead.min(16)).min(MOST);
        let bytes = self.bytes_of(slots);
        self.account(bytes)?;
        let made = || {
            let piece =
                Channel::create_for(self.memory(), slots as usize, self.inline_capacity(), self.label(), false)?;
            let claim = self.memory().claim_hold(piece.object())?;
            claim.bind(self.id(), PIECE | number);
            Ok(piece.id())
        };
        made().inspect_err(|_| self.discount(bytes))
    }

    fn unmake(&self, number: u64, id: ObjectId) {
        let slots = self.with_made(id, |piece| piece.capacity());
        self.drop_piece(number, id);
        self.discount(slots.map_or(0, |slots| self.bytes_of(slots as u64)));
    }

    fn shut(&self, piece: &Channel) {
        piece.close();
    }

    fn is_done(piece: &Channel) -> bool {
        piece.0.ring.all_done()
    }

    fn retired(&self, number: u64, id: ObjectId) {
        let seen = self.with_piece(Side::Receiving, number, id, |piece| (piece.capacity(), piece.messages()));
        let (slots, messages) = seen.ok().flatten().unwrap_or_default();
        self.word(GONE).fetch_add(messages, Ordering::Relaxed); // a figure
        mark!("channel.chain.retired");
        self.drop_piece(number, id);
        self.discount(self.bytes_of(slots as u64));
    }
}

/// What anybody may see of a chain.
pub(super) struct Seen<'a> {
    pub(super) label: u64,
    pub(super) bytes: Sum<'a>,
    pub(super) high: &'a AtomicU64,
    pub(super) gone: &'a AtomicU64,
    pub(super) readers: &'a WaitCell,
    pub(super) closed: bool,
}

/// The pieces, and whether the end is behind them.
fn pieces_and_end(words: &[AtomicU64]) -> (Vec<ObjectId>, bool) {
    let first = words[FIRST].load(Ordering::SeqCst); // SeqCst: pairs with the swap in `retire`
    let mut pieces = Vec::new();
    for number in first..first + LINKS {
        // SeqCst: pairs with the swaps in `add` and `end`.
        match Link::read(words[WINDOW + (number % LINKS) as usize].load(Ordering::SeqCst), number) {
            Link::Piece(id) => pieces.push(id),
            last => return (pieces, last == Link::End),
        }
    }
    (pieces, false)
}

fn readers(words: &[AtomicU64]) -> &WaitCell {
    let line = words[READERS..].first_chunk();
    WaitCell::in_words(line.expect("a chain has all its lines"))
}

/// Calls one who sleeps when dropped, also by a panic.
struct Bell<'a>(&'a WaitCell);

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Whether a hold on a piece has no reason: the piece was retired, or its maker died before it was linked.
pub(super) fn is_idle(memory: &Arc<Memory>, hold: &Hold, dead: ProcId) -> bool {
    let Ok(chain) = Chain::open(memory, hold.by) else { return false };
    let number = hold.tag & !PIECE;
    let linked = chain.link(number) == Link::Piece(hold.object());
    chain.number(FIRST) > number || (!linked && hold.maker() == dead)
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(remains) = self.object.take().and_then(Object::release) {
            cargo::bury(remains);
        }
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chain").field(&self.id()).finish()
    }
}
