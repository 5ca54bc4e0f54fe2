//! A shard: one hash table in the words of its table. This is the view of it that all calls work through.

use std::time::Duration;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use super::desk::{Desk, Tally};
use super::ground::Ground;
use super::ladder::Ladder;
use super::layout::{self, DESKS_AT, EXTRAS, LINES, PAGES};
use super::page;
use crate::id::ProcId;
use crate::prim::{AtomicU32, AtomicU64, Ordering, spin_loop};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until};

/// What never changes in a table, as this process has read it once.
pub(super) struct Facts {
    pub(super) shards: usize,
    pub(super) page_words: usize,
    /// Whether there may be several entries of a key, of different checkpoints.
    pub(super) history: bool,
    /// Bytes of each shard.
    pub(super) limit: u64,
    secrets: RapidSecrets,
}

impl Facts {
    /// From the first words of a root.
    pub(super) fn read(root: &[AtomicU64]) -> Facts {
        // Relaxed: written before anybody else had the table.
        let word = |at: usize| root.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        Facts {
            shards: word(layout::SHARDS) as usize,
            page_words: word(layout::PAGE_WORDS) as u32 as usize,
            history: word(layout::PAGE_WORDS) & layout::HISTORY != 0,
            limit: word(layout::LIMIT),
            secrets: RapidSecrets::seed(word(layout::SEED)),
        }
    }

    /// The hash of a key's bytes: the same in all processes of the job.
    #[inline]
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        rapidhash_v3_inline::<true, false, false>(bytes, &self.secrets)
    }
}

/// What this process remembers of a shard, to be quicker. Nobody else sees it.
pub(super) struct Hints {
    /// The page of each class that a block was last found in, + 1.
    pub(super) pages: Box<[AtomicU32]>,
}

impl Hints {
    pub(super) fn new() -> Hints {
        Hints { pages: (0..page::CLASSES).map(|_| AtomicU32::new(0)).collect() }
    }
}

/// A shard as a call of this process sees it.
pub(super) struct Shard<'t, G> {
    pub(super) ground: &'t G,
    pub(super) number: usize,
    pub(super) words: &'t [AtomicU64],
    pub(super) facts: &'t Facts,
    pub(super) hints: &'t Hints,
}

impl<G> Clone for Shard<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G> Copy for Shard<'_, G> {}

impl<'t, G: Ground> Shard<'t, G> {
    #[inline]
    pub(super) fn word(&self, at: usize) -> &'t AtomicU64 {
        &self.words[at]
    }

    #[inline]
    pub(super) fn lines(&self) -> Ladder<'t, G> {
        Ladder::new(self.ground, &self.words[layout::LINE_RUNGS..layout::EXTRA_RUNGS], LINES)
    }

    #[inline]
    pub(super) fn extras(&self) -> Ladder<'t, G> {
        Ladder::new(self.ground, &self.words[layout::EXTRA_RUNGS..layout::PAGE_RUNGS], EXTRAS)
    }

    #[inline]
    pub(super) fn pages(&self) -> Ladder<'t, G> {
        let rungs = &self.words[layout::PAGE_RUNGS..layout::PAGE_RUNGS + PAGES.rungs()];
        Ladder::new(self.ground, rungs, PAGES)
    }

    /// Log2 of the lines in use.
    #[inline]
    pub(super) fn depth(&self) -> u32 {
        self.word(layout::DEPTH).load(Ordering::Acquire) as u32 // pairs with `Shard::deepen`
    }

    fn desk_words(&self) -> &'t [AtomicU64] {
        &self.words[DESKS_AT..]
    }

    pub(super) fn desks(&self) -> impl Iterator<Item = Desk<'t>> + use<'t, G> {
        Desk::all(self.desk_words())
    }

    /// A desk for one call. Waits for one, if all are taken.
    #[inline]
    pub(super) fn desk(&self) -> Desk<'t> {
        let (me, words) = (self.ground.me(), self.desk_words());
        let hint = thread_number() + 7 * me.index();
        match Desk::take(words, me, hint) {
            Some(desk) => desk,
            None => self.wait(|| Desk::take(words, me, hint)),
        }
    }

    /// The desks that the dead had taken.
    pub(super) fn desks_of(&self, dead: ProcId) -> impl Iterator<Item = Desk<'t>> + use<'t, G> {
        self.desks().filter(move |desk| desk.owner() == Some(dead))
    }

    /// Waits until every call that writes, and had begun when this was called, is over.
    pub(super) fn settle_calls(&self) {
        let before: Vec<_> = self.desks().map(|desk| (desk, desk.ticket())).collect();
        for (desk, ticket) in before.into_iter().filter(|(_, ticket)| ticket.is_some()) {
            self.wait(|| (desk.ticket() != ticket).then_some(()));
        }
    }

    /// Entries and bytes, as of the calls that were over at an instant.
    pub(super) fn tally(&self) -> Tally {
        Desk::tally(self.desk_words())
    }

    /// The same in one look, which calls that end meanwhile may make wrong.
    pub(super) fn rough_tally(&self) -> Tally {
        Desk::rough_tally(self.desk_words())
    }

    /// Waits for what another call does within the next instants, or, if its process has died, a repair does.
    #[cold]
    pub(super) fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        let mut patience = Patience::new();
        loop {
            for _ in 0..SPINS {
                spin_loop();
                if let Some(found) = ready() {
                    return found;
                }
            }
            if cfg!(feature = "shuttle") {
                continue;
            }
            // Who ends a claim tells nobody, so the naps are short; the end of a repair wakes all.
            if let Some(cell) = unclaimed(self.ground)
                && let Ok(found) = wait_until(cell, &mut patience, Deadline::after(NAP), &mut ready)
            {
                return found;
            }
        }
    }
}

/// Of two shards together.
pub(super) fn sum(one: Tally, other: Tally) -> Tally {
    Tally { entries: one.entries + other.entries, bytes: one.bytes + other.bytes }
}

/// How long one who waits for a claim sleeps between looks.
pub(super) const NAP: Duration = Duration::from_millis(1);

/// Looks at a claim before sleeping.
const SPINS: u32 = 200;

/// Where those sleep who wait for claims of the dead.
pub(super) fn unclaimed<G: Ground>(ground: &G) -> Option<&WaitCell> {
    cell(ground, layout::UNCLAIMED)
}

/// Where those sleep who wait for a change of the table.
pub(super) fn changed<G: Ground>(ground: &G) -> Option<&WaitCell> {
    cell(ground, layout::CHANGED)
}

fn cell<G: Ground>(ground: &G, at: usize) -> Option<&WaitCell> {
    ground.root().get(at..)?.first_chunk().map(WaitCell::in_words)
}

/// Numbers the threads of this process, so that each begins with another desk.
#[inline]
pub(super) fn thread_number() -> usize {
    use std::cell::Cell;
    static THREADS: std::sync::Mutex<usize> = std::sync::Mutex::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    let known = NUMBER.get();
    if known != 0 {
        return known;
    }
    let mut threads = THREADS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *threads += 1;
    NUMBER.set(*threads);
    *threads
}
