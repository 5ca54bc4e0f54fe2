//! A meeting of a fixed number of parties, again and again.
//!
//! ```text
//! word 0  state  | generation:24 | history:16 | arrived:20 | acting:1 | broken:1 | unused:2 |
//! word 1  parties
//! word 2  meetings, a figure
//! ```
//! A generation ends when all have arrived, or by a reset. The history says of the last 16 generations
//! which ended by a reset (bit 0 is the last one), so that one who wakes late learns how its own ended.
//! While the last party acts all have arrived, and whoever comes then waits for the next generation.

use super::{LINE, Refusal, cell, count, line, wait, wake_all};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::WaitCell;

/// A barrier in two lines.
#[derive(Clone, Copy)]
pub(crate) struct Barrier<'a> {
    state: &'a AtomicU64,
    parties: &'a AtomicU64,
    meetings: &'a AtomicU64,
    cell: &'a WaitCell,
}

/// What came of arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// All have met; this one came as the so many'th, from 0.
    Met(u64),
    /// This one came last, and the others wait until it has acted and calls [`Barrier::acted`].
    Acts(Generation),
}

/// The number of a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) u64);

const BROKEN: u64 = 1 << 2;
const ACTING: u64 = 1 << 3;
const ARRIVED_AT: u32 = 4;
const ARRIVED: u64 = (1 << 20) - 1;
const HISTORY_AT: u32 = 24;
const HISTORY_BITS: u64 = 16;
const HISTORY: u64 = (1 << HISTORY_BITS) - 1;
const GENERATION_AT: u32 = 40;
const GENERATION: u64 = (1 << 24) - 1;

#[derive(Clone, Copy)]
struct State(u64);

impl State {
    fn generation(self) -> Generation {
        Generation(self.0 >> GENERATION_AT)
    }

    fn arrived(self) -> u64 {
        self.0 >> ARRIVED_AT & ARRIVED
    }

    fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    fn with(self, flag: u64) -> State {
        State(self.0 | flag)
    }

    fn one_more(self) -> State {
        State(self.0 + (1 << ARRIVED_AT))
    }

    /// The generation after this one, where nobody has arrived.
    fn next(self, by_reset: bool) -> State {
        let generation = (self.generation().0 + 1) & GENERATION;
        let history = (self.0 >> HISTORY_AT << 1 | u64::from(by_reset)) & HISTORY;
        State(generation << GENERATION_AT | history << HISTORY_AT)
    }

    /// How a generation ended, if it has.
    fn end_of(self, mine: Generation) -> Option<Result<(), Refusal>> {
        let since = self.generation().0.wrapping_sub(mine.0) & GENERATION;
        let met = match since {
            0 if !self.is(BROKEN) => return None,
            0 => false,
            1..=HISTORY_BITS => self.0 >> HISTORY_AT >> (since - 1) & 1 == 0,
            // So many resets, and it slept through them all.
            _ => false,
        };
        Some(if met { Ok(()) } else { Err(Refusal::Broken) })
    }
}

impl<'a> Barrier<'a> {
    pub(crate) const WORDS: usize = 2 * LINE;
    pub(crate) const MOST_PARTIES: u64 = ARRIVED;

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> Barrier<'a> {
        Barrier::over(line(words, 0), cell(words, 1))
    }

    #[inline]
    pub(super) fn over(words: &'a [AtomicU64; LINE], cell: &'a WaitCell) -> Barrier<'a> {
        Barrier { state: &words[0], parties: &words[1], meetings: &words[2], cell }
    }

    /// Sets it up. To be said before anybody else has it.
    pub(crate) fn begin(&self, parties: u64) {
        self.parties.store(parties, Ordering::Relaxed); // the handle that others get comes after it
    }

    pub(crate) fn parties(&self) -> u64 {
        self.parties.load(Ordering::Relaxed) // never changes once it is shared
    }

    /// Arrives, and waits for the others. Who comes last acts first, if it `acts`. A deadline that passes breaks
    /// the barrier for all.
    pub(crate) fn arrive(&self, acts: bool, deadline: Deadline) -> Result<Arrival, Refusal> {
        let before = match self.join(acts) {
            Some(joined) => joined?,
            None => wait(self.cell, deadline, || self.join(acts))??,
        };
        mark!("latch.barrier.arrived");
        let (mine, index) = (before.generation(), before.arrived());
        if index + 1 == self.parties() {
            if acts {
                return Ok(Arrival::Acts(mine));
            }
            count(self.meetings, 1);
            wake_all(self.cell);
            return Ok(Arrival::Met(index));
        }
        let met = match wait(self.cell, deadline, || self.read().end_of(mine)) {
            Ok(ended) => ended,
            Err(_) => self.leave(mine),
        };
        met.map(|()| Arrival::Met(index))
    }

    /// Counts this party in and says what was before; nothing while somebody acts.
    fn join(&self, acts: bool) -> Option<Result<State, Refusal>> {
        loop {
            let state = self.read();
            if state.is(BROKEN) {
                return Some(Err(Refusal::Broken));
            }
            if state.is(ACTING) {
                return None;
            }
            let joined = match (state.arrived() + 1 == self.parties(), acts) {
                (false, _) => state.one_more(),
                (true, true) => state.one_more().with(ACTING),
                (true, false) => state.next(false),
            };
            if self.swap(state, joined) {
                return Some(Ok(state));
            }
        }
    }

    /// The time was up: breaks the barrier, unless the generation has ended just now.
    fn leave(&self, mine: Generation) -> Result<(), Refusal> {
        loop {
            let state = self.read();
            if let Some(ended) = state.end_of(mine) {
                return ended;
            }
            if self.swap(state, state.with(BROKEN)) {
                mark!("latch.barrier.broken");
                wake_all(self.cell);
                return Err(Refusal::TimedOut);
            }
        }
    }

    /// The last party has acted: lets all go. Refused if the barrier was broken or reset meanwhile.
    pub(crate) fn acted(&self, mine: Generation) -> Result<Arrival, Refusal> {
        loop {
            let state = self.read();
            if let Some(ended) = state.end_of(mine) {
                // Nobody else ends it well.
                return ended.and(Err(Refusal::Broken));
            }
            if self.swap(state, state.next(false)) {
                mark!("latch.barrier.acted");
                count(self.meetings, 1);
                wake_all(self.cell);
                return Ok(Arrival::Met(self.parties() - 1));
            }
        }
    }

    /// Breaks the barrier until it is reset.
    pub(crate) fn abort(&self) {
        self.state.fetch_or(BROKEN, Ordering::SeqCst); // SeqCst: as in `swap`
        mark!("latch.barrier.aborted");
        wake_all(self.cell);
    }

    /// Begins anew; who waits learns that its meeting did not come about.
    pub(crate) fn reset(&self) {
        loop {
            let state = self.read();
            if self.swap(state, state.next(true)) {
                mark!("latch.barrier.reset");
                return wake_all(self.cell);
            }
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.read().is(BROKEN)
    }

    /// How many wait for others.
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.read();
        if state.is(BROKEN) { 0 } else { state.arrived() }
    }

    /// One of the parties is dead: nobody shall wait for it.
    pub(super) fn repair(&self) {
        self.state.fetch_or(BROKEN, Ordering::SeqCst); // SeqCst: as in `swap`
        mark!("latch.repair.broken");
        self.cell.heal();
    }

    fn read(&self) -> State {
        State(self.state.load(Ordering::SeqCst)) // SeqCst: pairs with `swap`, and for `wait_until` with the roll
    }

    fn swap(&self, from: State, to: State) -> bool {
        // SeqCst: pairs with `read`, and before `wake_all` looks for sleepers.
        self.state.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}
