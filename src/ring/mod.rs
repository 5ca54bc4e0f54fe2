//! A bounded queue of slots for many writers and many readers in many processes, any of which may be
//! killed at any instruction or stand still for as long as it likes.
//!
//! # The words
//!
//! Messages have positions 0, 1, 2, … (modulo 2^48); position `p` lives in slot `p mod capacity`, and
//! `before = p - capacity` is what lived there one lap earlier. Each slot has three words, each of them
//! `position:48 | low:16` (see [`layout`]):
//!
//! | word     | written by  | meaning                                                                       |
//! |----------|-------------|-------------------------------------------------------------------------------|
//! | `writer` | writers     | the last position claimed for writing, and by which process                    |
//! | `seal`   | its writer  | the last position published in this slot; low bit: void, there is no message   |
//! | `reader` | readers     | owner 0: the last position that is done; otherwise a position and who reads it |
//! |          |             | or, one lap back, that a message was given back                               |
//!
//! So that the slot is, for position `p`:
//!
//! ```text
//! writer (before, _)  seal before  reader (before, 0)   free
//! writer (p, w)       seal before  reader (before, 0)   being written by w        claim.rs
//! writer (p, w)       seal p       reader (before, 0)   ready
//! writer (p, w)       seal p       reader (p, r)        being read by r           take.rs
//! writer (p, w)       seal p       reader (before, +)   ready again               returned.rs
//! writer (p, w)       seal p       reader (p, 0)        done, which is free for p + capacity
//! ```
//!
//! The three sit in different cache lines: `seal` with the bytes, `writer` in an array that only writers
//! touch, `reader` in an array that readers write and writers look at once per line. With one writer and
//! one reader only the lines of the message itself travel, once, as in a ring that knows no death.
//!
//! `tail` and `head` say where to begin looking. They are hints: no claim is granted by them, they are moved by plain
//! stores, and whoever finds one lagging walks on from there. So a message takes one atomic step to write it, the claim,
//! and one to read it; everything else is loads and stores. Whoever finds that another was faster pauses a moment ([`way`]).
//!
//! # Why it is right
//!
//! A thread may be stopped between any two of its steps, so what it saw may be arbitrarily old when it acts.
//! Every claim therefore is one compare-and-swap that can only succeed while what was seen still holds.
//!
//! 1. *A position is claimed for writing once.* `writer` of a slot only grows: the only change is
//!    `(before, _) -> (p, w)`. So the swap from a value with position `before` succeeds for one writer, and
//!    a writer that slept through a lap fails.
//! 2. *What it claims is free.* Before it, the writer saw `reader == (before, 0)`. That word leaves this value
//!    only when a reader claims `p`, for which `seal` must be `p`, which only the claimant of `p` (or
//!    `unstick` on its behalf) writes. At the moment of a successful swap nobody has claimed `p`, hence
//!    `reader` still has that value. It never has it again: what `unstick` gives back bears a mark. So a position
//!    that was free once is free until its `writer` word says otherwise, and a process may remember it
//!    ([`KnownFree`]) instead of looking again.
//! 3. *A message is read by one reader at a time, and not after it is done.* A reader saw `seal == p`; its swap
//!    is `(before, 0) -> (p, r)`, or `(before, +) -> (p, r)`. Once `p` is done `reader` is `(p, 0)`, and never has position
//!    `before` again: `unstick` gives back only `(p, dead)`, which exists only while `p` is not done, and whom it
//!    names does nothing any more. So a successful swap means that `p` is not done, hence the slot was not given to
//!    a writer (2), hence `seal` is still `p`. That it may have been claimed and given back in between
//!    does no harm: it is the same message, still ready.
//! 4. *Order.* Whoever stores `p + 1` in `tail` has claimed `p`, or seen it claimed, at a place where it had arrived in the
//!    same way: so all positions below whatever `tail` is were claimed, and a writer claims the first that it does not find
//!    claimed: positions are claimed in order, and one writer's messages have growing positions. A store that comes
//!    late takes `tail` back, which costs those who come next a walk: not over each position, since a `writer` word of a
//!    later lap says how far all were claimed. The same for `head` and readers; what was given back counts as claimed.
//! 5. *A message that was given back is found*, though `head` is past it or will be. `unstick` first marks it in its `reader`
//!    word, by a swap, then counts up how often something was given back ([`returned`]). As long as that number is not the one
//!    for which somebody has searched in vain, every reader searches all slots first. Who searches has read the number before:
//!    if the mark came after it looked, so did the count, and what it writes down as searched is less than what there is
//!    then, or its swap fails. Whoever repeats an `unstick` that died half way counts up in any case, and so finishes it.
//! 6. *A limit below the number of slots.* Position `p` may be claimed only when `p - limit` is done. Once done it stays
//!    so, hence what a writer saw before its claim holds at it; and who is told "full" for a `p` that others
//!    have claimed meanwhile was told so before, since they had to see the same.
//! 7. *Wrapping.* All the above compares positions for equality, or for order between values less than
//!    2^47 apart. A thread would have to sleep for exactly 2^48 messages (a year at ten million a second)
//!    to be fooled, or for exactly 2^32 deaths within one search.
//!
//! # What death leaves, and what stalls
//!
//! A writer that dies leaves `(p, dead)` with `seal` behind: `unstick` publishes `p` as void, and readers skip
//! it. A reader that dies leaves `(p, dead)` in `reader`: the message is ready again. `unstick` is idempotent,
//! and is called by one process at a time for one dead process, whose number is not given to anybody else before.
//!
//! A writer that lives but stands still between claim and publication holds up the messages behind
//! it (they have an order); a reader that stands still holds up the writer that comes to its slot a lap
//! later. Neither harms anything but the time of others: see [`Ring::outlook`].

pub(crate) mod layout;

mod batch;
mod claim;
#[cfg(all(test, feature = "shuttle"))]
mod model;
mod returned;
#[cfg(all(test, not(feature = "shuttle")))]
mod run_tests;
mod store;
#[cfg(test)]
mod support;
mod take;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;
mod unstick;
mod way;

pub(crate) use batch::{Found, Halt};
pub(crate) use claim::Writing;
pub(crate) use layout::Geometry;
#[cfg(test)]
pub(crate) use store::Boxed;
pub(crate) use store::{Mapped, Store};
pub(crate) use take::{Outlook, Reading};

use crate::prim::{AtomicU64, Ordering};
use layout::{Word, distance, position_before};
use way::Way;

/// The protocol above over some storage. Any number of them, in any number of processes, may work on the
/// same words.
pub(crate) struct Ring<S> {
    store: S,
    mask: u64,
    known: KnownFree,
    starved: Starved,
    /// Most messages at a time; the number of slots, or less.
    limit: u64,
}

/// What this process has seen of the readers' words: all positions below this one were free once, and are until
/// a writer claims them, which that writer's swap finds out. So the words that readers keep changing are looked at once for
/// many messages. In a line of its own, since this process's writers change it.
#[repr(align(128))]
struct KnownFree(AtomicU64);

/// The last position at which a reader of this process found nothing. What is read there was waited for, so those behind it
/// are most likely not there yet, and to fetch them would take their lines away from who is about to write them. In a line of
/// its own, since this process's readers change it.
#[repr(align(128))]
struct Starved(AtomicU64);

impl<S: Store> Ring<S> {
    /// A view of words that were [initialised](Ring::initialise).
    pub(crate) fn new(store: S) -> Self {
        let mask = store.capacity() - 1;
        // Relaxed: only a hint, and of no position whose words were not seen.
        let tail = Word::from(store.tail().load(Ordering::Relaxed)).position();
        let known = KnownFree(AtomicU64::new(Word::new(tail, 0).raw()));
        // A position that no message has.
        let starved = Starved(AtomicU64::new(u64::MAX));
        Ring { store, mask, known, starved, limit: mask + 1 }
    }

    /// The same, with room for fewer messages than there are slots. All who use the ring must say the same.
    pub(crate) fn with_limit(self, limit: u64) -> Self {
        Ring { limit: limit.clamp(1, self.capacity()), ..self }
    }

    /// Most messages at a time.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Makes an empty ring whose first message will have position `start`. Nobody else may look yet.
    pub(crate) fn initialise(store: &S, start: u64) {
        let start = Word::new(start, 0);
        for ahead in 0..store.capacity() {
            let position = start.position() + ahead;
            let slot = (position & (store.capacity() - 1)) as usize;
            let done = Word::new(position_before(position, store.capacity()), 0).raw();
            // Relaxed: whoever hands the memory on publishes it.
            store.writer(slot).store(done, Ordering::Relaxed);
            store.reader(slot).store(done, Ordering::Relaxed);
            store.seal(slot).store(done, Ordering::Relaxed);
        }
        store.tail().store(start.raw(), Ordering::Relaxed);
        store.head().store(start.raw(), Ordering::Relaxed);
        store.returned().store(0, Ordering::Relaxed);
    }

    /// How many messages fit.
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// About how many messages there are, void ones included. Exact while nobody works on the ring.
    pub(crate) fn len(&self) -> u64 {
        let (head, tail) = self.progress();
        let returned = if self.has_returned() { self.all_returned().count() as i64 } else { 0 };
        // Negative if both went on between the two looks.
        (distance(head, tail) + returned).clamp(0, self.capacity() as i64) as u64
    }

    /// How many messages there are about when the one at `position` has just been put.
    pub(crate) fn len_at(&self, position: u64) -> u64 {
        distance(self.head(), position + 1).clamp(0, self.capacity() as i64) as u64
    }

    /// How many messages were taken, and how many put, since the first; void ones included. Figures.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let claimed = |hint: u64, word: fn(&S, usize) -> &AtomicU64| {
            let mut position = hint;
            // Relaxed: a number that is old when it arrives anyway. Bounded, since it may grow as fast as it is followed.
            for _ in 0..self.capacity() {
                let seen = Word::from(word(&self.store, self.slot(position)).load(Ordering::Relaxed)).position();
                match distance(position, seen) {
                    0.. => position = Word::new(seen + 1, 0).position(),
                    _ => break,
                }
            }
            position
        };
        (claimed(self.head(), S::reader), claimed(self.tail(), S::writer))
    }

    fn slot(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    fn before(&self, position: u64) -> u64 {
        position_before(position, self.capacity())
    }
}
