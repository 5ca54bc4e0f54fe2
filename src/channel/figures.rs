//! What a channel or a chain has counted, and how full it is: read by anybody, also from outside of the job.
//!
//! ```text
//! words in the line of a channel's tail   0..3 Sum of bytes   3 high water   4 slots that the dead left void
//! words of a chain from 32 on             1..4 Sum of bytes   4 high water   5 messages of pieces that are gone
//! ```
//!
//! Messages are counted by how far the rings have come, and so are the bytes of a queue's, as if each had as many as its slots were
//! asked for. What one has more or less is added after it was sent; whoever dies in between leaves that of one message
//! uncounted. So messages of one length, as those of plain old data are, cost no word that all their producers change.

use std::ptr::NonNull;

use super::layout::{Layout, Shared};
use super::{Chain, Channel};
use crate::counters::{Counters, Sum};
use crate::id::{ObjectId, ProcId};
use crate::mm::{Kind, Sight, View};
use crate::prim::{AtomicU64, Ordering};
use crate::ring::{Mapped, Ring};
use crate::wait::WaitCell;

/// Once in so many messages it is looked how full it is.
const SAMPLED: u64 = 64;

const HIGH_WATER: usize = Sum::WORDS;
const VOIDED: usize = HIGH_WATER + 1;

/// What is known of a channel or a chain at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) counters: Counters,
    /// What it is for: 0 for plain bytes.
    pub(crate) label: u64,
    /// Messages in it.
    pub(crate) len: u64,
    /// Most messages, if there is a bound.
    pub(crate) capacity: Option<u64>,
    pub(crate) closed: bool,
    /// Bytes of the pieces of a chain.
    pub(crate) beside: u64,
}

impl Channel {
    /// Counts a message of `len` bytes that was sent, as the one at `position`.
    #[inline]
    pub(crate) fn count_sent(&self, position: u64, len: usize) {
        let words = self.0.shared.beside_tail();
        let more = (len as u64).wrapping_sub(self.0.usual);
        if more != 0 {
            Sum::in_words(words).add(self.0.me, more);
        }
        if position.is_multiple_of(SAMPLED) {
            sample(&words[HIGH_WATER], self.0.ring.len_at(position) as usize);
        }
    }

    /// Counts `sent` messages of `bytes` in all that were just sent, the last of them as the one at `position`.
    pub(super) fn count_many_sent(&self, position: u64, sent: usize, bytes: usize) {
        let words = self.0.shared.beside_tail();
        let more = (bytes as u64).wrapping_sub(self.0.usual.wrapping_mul(sent as u64));
        if more != 0 {
            Sum::in_words(words).add(self.0.me, more);
        }
        if is_sampled_among(position, sent) {
            sample(&words[HIGH_WATER], self.0.ring.len_at(position) as usize);
        }
    }

    /// How many messages were put since it was made.
    pub(super) fn messages(&self) -> u64 {
        let voided = self.0.shared.beside_tail()[VOIDED].load(Ordering::Relaxed); // a figure
        self.0.ring.progress().1.saturating_sub(voided)
    }

    /// After a death.
    pub(super) fn count_death(&self, dead: ProcId, voided: usize) {
        let words = self.0.shared.beside_tail();
        Sum::in_words(words).disown(dead);
        words[VOIDED].fetch_add(voided as u64, Ordering::Relaxed); // a figure
    }
}

/// Notes how full it is, if it never was fuller.
#[cold]
pub(super) fn sample(high: &AtomicU64, len: usize) {
    high.fetch_max(len as u64, Ordering::Relaxed); // a figure
}

/// Whether one of so many messages up to this one is sampled.
pub(super) fn is_sampled_among(position: u64, sent: usize) -> bool {
    position % SAMPLED < sent as u64
}

/// Whether this message is one of those after which it is looked how full a chain is.
pub(super) fn is_sampled(position: u64) -> bool {
    position.is_multiple_of(SAMPLED)
}

/// The figures of a channel or a chain. None if it is neither, or gone meanwhile.
pub(crate) fn figures(view: &View, sight: &Sight) -> Option<Figures> {
    match sight.kind {
        Kind::Channel => of_channel(view.words(sight.handle)?),
        Kind::Chain => of_chain(view, view.words(sight.handle)?),
        _ => None,
    }
}

/// The pieces of a chain, which are channels that nobody but the chain knows.
pub(crate) fn pieces(view: &View, sight: &Sight) -> Vec<ObjectId> {
    let words = if sight.kind == Kind::Chain { view.words(sight.handle) } else { None };
    words.map_or_else(Vec::new, Chain::pieces_in)
}

fn of_channel(words: &[AtomicU64]) -> Option<Figures> {
    let base = NonNull::from_ref(words).cast::<u8>();
    // SAFETY: the words are mapped and start a cache line, as every block does.
    let layout = unsafe { Layout::read(base, size_of_val(words)) }?;
    // SAFETY: the shape fits the words, which stay mapped while they are borrowed; only atomics are read.
    let (ring, shared) = unsafe { layout.parts(base) };
    Some(of_parts(&ring, &shared, layout))
}

fn of_parts(ring: &Ring<Mapped>, shared: &Shared, layout: Layout) -> Figures {
    let (took, put) = ring.progress();
    let words = shared.beside_tail();
    let read = |at: usize| words[at].load(Ordering::Relaxed); // figures
    let (waits, wakes) = sums([shared.readers(), shared.writers()]);
    // Whoever had to sleep for room has seen it full.
    let was_full = shared.writers().figures().0 > 0;
    let (len, limit) = (ring.len(), ring.limit());
    let high_water = if was_full { limit } else { read(HIGH_WATER).max(len) };
    let puts = put.saturating_sub(read(VOIDED));
    // Below zero at most while somebody who has added what a message is short of is overtaken by this look.
    let bytes = puts.wrapping_mul(layout.usual()).wrapping_add(Sum::in_words(words).total()) as i64;
    let counters = Counters {
        puts,
        gets: took.saturating_sub(read(VOIDED)),
        bytes: bytes.max(0) as u64,
        waits,
        wakes,
        high_water,
        deaths: 0,
    };
    let closed = shared.closed().load(Ordering::Relaxed) != 0;
    Figures { counters, label: layout.label(), len, capacity: Some(limit), closed, beside: 0 }
}

fn of_chain(view: &View, words: &[AtomicU64]) -> Option<Figures> {
    let seen = Chain::sight_in(words)?;
    let gone = seen.gone.load(Ordering::Relaxed);
    let mut counters = Counters { puts: gone, gets: gone, bytes: seen.bytes.total(), ..Counters::default() };
    let (mut len, mut beside) = (0, 0);
    for id in Chain::pieces_in(words) {
        let piece = view.object(id).and_then(|sight| Some((of_channel(view.words(sight.handle)?)?, sight.handle.len)));
        // One that was retired just now is among those that are gone, or will be.
        let Some((piece, bytes)) = piece else { continue };
        beside += bytes;
        counters.puts += piece.counters.puts;
        counters.gets += piece.counters.gets;
        len += piece.len;
    }
    (counters.waits, counters.wakes) = sums([seen.readers]);
    counters.high_water = seen.high.load(Ordering::Relaxed).max(len);
    Some(Figures { counters, label: seen.label, len, capacity: None, closed: seen.closed, beside })
}

fn sums<const N: usize>(cells: [&WaitCell; N]) -> (u64, u64) {
    cells.iter().map(|cell| cell.figures()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
}
