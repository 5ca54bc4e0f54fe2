//! A chain: a channel without a bound, made of pieces that are channels.
//!
//! ```text
//! word 0    magic           1  label            2  inline           3  limit in bytes      4  tallied, 0 or 1
//!      8    WaitCell: who waits for messages
//!      16   first           number of the oldest piece that may still have messages; pieces count from 1
//!      24   last            number of the newest piece; a hint, behind it is looked for further ones
//!      32   came            bytes of pieces, and of messages in blocks, that were ever added
//!      33   figures         what whoever puts counts, and what was in pieces that are gone: figures.rs
//!      40   went            and taken away
//!      48   window          1024 links: link n mod 1024 is that of piece n
//!      1072 tally           if there is one: tally.rs
//!
//! link      63      48 47              16 15          0
//!          | lap      | generation       | place + 1   |    lap = n / 1024 + 1; place 65535: the end, no piece
//! ```
//!
//! Senders send to the last piece. One who finds it full makes a new channel, closes the piece, and links the new
//! one behind it: of all who try, one compare-and-swap wins. As nobody sends to a piece before the one ahead of it is
//! closed, messages have one order. Receivers begin at `first` and go on to the next piece when one
//! is closed and drained; a piece is retired when all its messages are *done*, so that one which a dead
//! receiver gives back is found. Closing a chain is linking the end.
//!
//! A piece lives because the chain holds it (`cargo.rs`), from before it is linked until it is retired.
//! Receivers sleep at the chain's own cell; senders never sleep.

use std::sync::{Arc, PoisonError, RwLock};

use crossbeam::utils::CachePadded;

use super::cargo::{self, PIECE};
use super::figures;
use super::tally::Tally;
use super::{Channel, ChannelError, Letter, Payload, Received, patiently};
use crate::counters::Sum;
use crate::id::{ObjectId, ProcId};
use crate::mm::{Hold, Kind, MemError, Memory, Object};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{TimedOut, WaitCell, wait_until};

const MAGIC: u64 = u64::from_le_bytes(*b"drgchai\x02");
const READERS: usize = 8;
const FIRST: usize = 16;
const LAST: usize = 24;
const CAME: usize = 32;
const FIGURES: usize = 33;
const HIGH_WATER: usize = FIGURES + Sum::WORDS;
const GONE: usize = HIGH_WATER + 1;
const WENT: usize = 40;
const WINDOW: usize = 48;
const LINKS: u64 = 1024;
const TALLY: usize = WINDOW + LINKS as usize;
const THE_END: u64 = 0xFFFF;

/// Slots of the first piece; each piece that has to be added has twice as many as the one before.
const LEAST: u64 = 256;
const MOST: u64 = 16384;

/// What stands behind a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Nothing yet; the word that says so.
    Vacant(u64),
    Piece(ObjectId),
    End,
    /// That was long ago.
    Passed,
}

impl Link {
    fn read(word: u64, number: u64) -> Link {
        let (lap, place) = (word >> 48, word & 0xFFFF);
        match (lap.wrapping_sub(Self::lap(number)) & 0xFFFF, place) {
            (0, THE_END) => Link::End,
            (0, place) if place > 0 => {
                Link::Piece(ObjectId { index: place as u32 - 1, generation: (word >> 16) as u32 })
            }
            // Half of all laps are behind.
            (behind, _) if behind == 0 || behind >= 0x8000 => Link::Vacant(word),
            _ => Link::Passed,
        }
    }

    fn lap(number: u64) -> u64 {
        (number / LINKS + 1) & 0xFFFF
    }

    fn end(number: u64) -> u64 {
        Self::lap(number) << 48 | THE_END
    }

    fn piece(number: u64, id: ObjectId) -> u64 {
        Self::lap(number) << 48 | u64::from(id.generation) << 16 | u64::from(id.index + 1)
    }
}

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

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.object().words()[at]
    }

    /// SeqCst: pairs with the swaps of both in `extend` and `retire`.
    fn number(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::SeqCst)
    }

    fn link_word(&self, number: u64) -> &AtomicU64 {
        self.word(WINDOW + (number % LINKS) as usize)
    }

    fn link(&self, number: u64) -> Link {
        // SeqCst: pairs with the swaps in `extend` and `close`.
        Link::read(self.link_word(number).load(Ordering::SeqCst), number)
    }

    /// Where those sleep who wait for messages.
    pub(crate) fn readers(&self) -> &WaitCell {
        readers(self.object().words())
    }

    fn tally(&self) -> Option<Tally<'_>> {
        let words = &self.object().words()[TALLY..];
        (!words.is_empty() && self.word(4).load(Ordering::Relaxed) != 0).then(|| Tally::in_words(words)) // never changes
    }

    /// Calls `f` with a piece, from `kept` or opened now. None if it was retired.
    fn with<R>(&self, kept: &Kept, number: u64, f: impl FnOnce(&Channel) -> R) -> Result<Option<R>, ChannelError> {
        if let Some((held, piece)) = &*kept.read().unwrap_or_else(PoisonError::into_inner)
            && *held == number
        {
            return Ok(Some(f(piece)));
        }
        let Link::Piece(id) = self.link(number) else { return Ok(None) };
        let piece = match Channel::open(self.memory(), id) {
            Ok(piece) => piece,
            Err(ChannelError::Memory(MemError::ObjectGone { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        let before = kept.write().unwrap_or_else(PoisonError::into_inner).replace((number, piece.clone()));
        drop(before);
        Ok(Some(f(&piece)))
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
        loop {
            let last = self.number(LAST);
            let posted = match last {
                0 => None,
                _ => self.with(&self.0.sending, last, |piece| piece.post(letter, Deadline::Now))?,
            };
            match posted {
                Some(Ok(position)) => {
                    self.count_sent(position, letter.len());
                    return Ok(());
                }
                Some(Err(ChannelError::Full | ChannelError::Closed)) | None => self.extend(last)?,
                Some(Err(error)) => return Err(error),
            }
        }
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
        self.readers().notify_one_for_all();
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
            let (last, begin) = (self.number(LAST), *sent);
            let run =
                |piece: &Channel| piece.send_run(count - begin, |n| len(begin + n), |n, space| fill(begin + n, space));
            let ran = if last == 0 { None } else { self.with(&self.0.sending, last, run)? };
            match ran {
                Some(Ok(0) | Err(ChannelError::Closed)) | None => self.extend(last)?,
                Some(Ok(more)) => {
                    let bytes: usize = (begin..begin + more).map(&len).sum();
                    Sum::in_words(&self.object().words()[FIGURES..]).add(self.0.me, bytes as u64);
                    figures::sample(self.word(HIGH_WATER), self.len());
                    *sent += more;
                }
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives what is there in the oldest piece, at most `most` messages: see [`Channel::receive_run`].
    pub(crate) fn receive_run(&self, most: usize, mut take: impl FnMut(Payload<'_>) -> bool) -> Received {
        let (mut in_block, tally) = (0, self.tally());
        let take = |payload: Payload<'_>| {
            if let Payload::Block(block) = &payload {
                in_block += block.len() as u64;
            }
            let more = take(payload);
            tally.inspect(|tally| tally.take(self.0.me));
            more
        };
        let received = self.with(&self.0.receiving, self.number(FIRST), |piece| piece.receive_run(most, take));
        self.discount(in_block);
        let received = received.ok().flatten().unwrap_or(Received { taken: 0, error: None });
        if received.taken > 0 {
            self.readers().notify_one_if(|| self.is_ready());
        }
        received
    }

    /// Sees to it that `last` is behind this number.
    fn extend(&self, number: u64) -> Result<(), ChannelError> {
        let next = number + 1;
        loop {
            match self.link(next) {
                Link::Piece(_) => {
                    // SeqCst: pairs with `number`. Failing means that somebody else did it.
                    let _ = self.word(LAST).compare_exchange(number, next, Ordering::SeqCst, Ordering::SeqCst);
                    return Ok(());
                }
                Link::Passed => return Ok(()),
                Link::End => return Err(ChannelError::Closed),
                Link::Vacant(word) => self.add(next, word)?,
            }
        }
    }

    /// Adds piece `next`, unless somebody else does.
    fn add(&self, next: u64, vacant: u64) -> Result<(), ChannelError> {
        let ahead = next - self.number(FIRST).min(next);
        // One link is kept for the end.
        if ahead + 1 >= LINKS {
            return Err(ChannelError::TooLong { pieces: LINKS - 1 });
        }
        let slots = (LEAST << ahead.min(16)).min(MOST);
        let bytes = self.bytes_of(slots);
        self.account(bytes)?;
        let added = self.try_add(next, vacant, slots as usize);
        if !matches!(added, Ok(true)) {
            self.discount(bytes);
        }
        added.map(drop)
    }

    fn try_add(&self, next: u64, vacant: u64, slots: usize) -> Result<bool, ChannelError> {
        let memory = self.memory();
        let piece = Channel::create_for(memory, slots, self.inline_capacity(), self.label(), false)?;
        let claim = memory.claim_hold(piece.object())?;
        claim.bind(self.id(), PIECE | next);
        mark!("channel.chain.held");
        if next > 1 {
            self.with(&self.0.sending, next - 1, Channel::close)?;
        }
        mark!("channel.chain.closed");
        let link = Link::piece(next, piece.id());
        // SeqCst: pairs with `link`. Of all who try, one.
        let added = self.link_word(next).compare_exchange(vacant, link, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        mark!("channel.chain.linked");
        if !added {
            let holds = memory.holds(|hold| hold.object() == piece.id() && hold.by == self.id());
            memory.let_go(&holds).into_iter().for_each(cargo::bury);
        }
        Ok(added)
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
        let mut number = self.number(FIRST);
        loop {
            match self.link(number) {
                Link::Vacant(_) => return Err(ChannelError::Empty),
                Link::Passed => number = self.number(FIRST),
                Link::End => {
                    // Others may have fallen asleep while somebody was about to send the last message.
                    self.readers().notify_one();
                    return Err(ChannelError::Closed);
                }
                Link::Piece(_) => {
                    let tally = self.tally().map(|tally| (tally, self.0.me));
                    let received = self.with(&self.0.receiving, number, |piece| piece.receive_for(take, tally))?;
                    match received {
                        Some(Err(ChannelError::Closed)) => {
                            self.retire(number)?;
                            number += 1;
                        }
                        // It was retired, so `first` has moved.
                        None => number = self.number(FIRST).max(number + 1),
                        Some(settled) => {
                            if !matches!(settled, Err(ChannelError::Empty)) {
                                self.readers().notify_one_if(|| self.is_ready());
                            }
                            return settled;
                        }
                    }
                }
            }
        }
    }

    /// Lets go of the oldest piece, if all that was in it is done. It is closed and drained.
    fn retire(&self, number: u64) -> Result<(), ChannelError> {
        let look = |piece: &Channel| piece.0.ring.all_done().then(|| (piece.capacity(), piece.messages()));
        let done = self.with(&self.0.receiving, number, look);
        let Some(Some((slots, messages))) = done? else { return Ok(()) };
        // SeqCst: pairs with `number`. Of all who try, one.
        let first = self.word(FIRST);
        if first.compare_exchange(number, number + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.word(GONE).fetch_add(messages, Ordering::Relaxed); // a figure
            mark!("channel.chain.retired");
            let by = self.id();
            let holds = self.memory().holds(|hold| hold.by == by && hold.tag == PIECE | number);
            self.memory().let_go(&holds).into_iter().for_each(cargo::bury);
            self.discount(self.bytes_of(slots as u64));
        }
        Ok(())
    }

    /// The numbers of the pieces there are.
    fn pieces(&self) -> impl Iterator<Item = u64> + use<'_> {
        (self.number(FIRST)..).take_while(|&number| matches!(self.link(number), Link::Piece(_)))
    }

    /// Whether there is something to receive, or will never be.
    pub(crate) fn is_ready(&self) -> bool {
        self.pieces().any(|number| {
            let readable = self.with(&self.0.receiving, number, |piece| piece.0.ring.readable());
            matches!(readable, Ok(Some(true)))
        }) || self.is_closed()
    }

    /// About how many messages wait.
    pub(crate) fn len(&self) -> usize {
        let len = |number| self.with(&self.0.receiving, number, Channel::len).ok().flatten().unwrap_or(0);
        self.pieces().map(len).sum()
    }

    /// No more messages: see [`Channel::close`].
    pub(crate) fn close(&self) {
        loop {
            let last = self.number(LAST);
            // What cannot be opened was closed and retired.
            let _ = self.with(&self.0.sending, last, Channel::close);
            mark!("channel.chain.shut");
            match self.link(last + 1) {
                Link::Vacant(word) => {
                    // SeqCst: pairs with `link`. Failing means that there is one more piece.
                    let end = Link::end(last + 1);
                    let _ = self.link_word(last + 1).compare_exchange(word, end, Ordering::SeqCst, Ordering::SeqCst);
                }
                Link::End => break,
                // Moves `last`, and cannot fail then.
                Link::Piece(_) | Link::Passed => drop(self.extend(last)),
            }
        }
        mark!("channel.chain.ended");
        self.readers().notify_all();
    }

    /// Whether somebody closed it.
    pub(crate) fn is_closed(&self) -> bool {
        let behind = self.pieces().last().unwrap_or_else(|| self.number(FIRST) - 1);
        self.link(behind + 1) == Link::End
    }

    /// Declares a message done that was taken out: see [`Channel::declare_done`].
    pub(crate) fn declare_done(&self) -> Option<bool> {
        self.tally().map(|tally| tally.declare(self.0.me, || self.all_done()))
    }

    /// Waits until every message was taken out and declared done: see [`Channel::wait_done`].
    pub(crate) fn wait_done(&self, deadline: Deadline) -> Option<Result<(), ChannelError>> {
        self.tally().map(|tally| tally.wait(deadline, || self.all_done()))
    }

    fn all_done(&self) -> bool {
        self.pieces().all(|number| {
            let done = self.with(&self.0.receiving, number, |piece| piece.0.ring.all_done());
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
        // SeqCst: pairs with the swaps in `extend` and `close`.
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
