//! What the objects of this floor have counted, and how they stand: read by anybody, also from outside of the job.

use super::who::named;
use super::{Barrier, Lock, RwLock, Semaphore, cell, line};
use crate::counters::Counters;
use crate::mm::{Kind, Sight, View};
use crate::prim::{AtomicU64, Ordering};

/// What is known of a lock or its like at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) counters: Counters,
    /// Holders, permits left, parties that wait; 1 for an event that is set.
    pub(crate) len: Option<u64>,
    /// Permits or parties, if there is a limit.
    pub(crate) capacity: Option<u64>,
}

/// The figures of an object of this floor. None if it is of another, or gone meanwhile.
pub(crate) fn figures(view: &View, sight: &Sight) -> Option<Figures> {
    let words = view.words(sight.handle)?;
    let least = if sight.kind == Kind::RwLock { RwLock::WORDS } else { Lock::WORDS };
    (words.len() >= least).then(|| of_words(sight.kind, words))?
}

fn of_words(kind: Kind, words: &[AtomicU64]) -> Option<Figures> {
    let word = |at: usize| line(words, 0)[at].load(Ordering::Relaxed); // figures
    let count = |puts: u64, gets: u64, cells: &[(u64, u64)]| {
        let (waits, wakes) = cells.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        Counters { puts, gets, waits, wakes, ..Counters::default() }
    };
    let here = [cell(words, 1).figures()];
    let held = u64::from(named(word(0)).is_some());
    let taken = Lock::in_words(words).taken();
    Some(match kind {
        Kind::Lock | Kind::Array => Figures { counters: count(0, taken, &here), len: Some(held), capacity: None },
        Kind::RwLock => {
            let lock = RwLock::in_words(words);
            let cells = lock.cells().map(|cell| cell.figures());
            let counters = count(taken, lock.reads().total(), &cells);
            Figures { counters, len: Some(held + lock.count()), capacity: None }
        }
        Kind::Semaphore => {
            let most = Some(Semaphore::in_words(words).most()).filter(|most| *most < u64::MAX);
            Figures { counters: count(word(2), word(3), &here), len: Some(word(0)), capacity: most }
        }
        Kind::Barrier => {
            let barrier = Barrier::in_words(words);
            let (waiting, parties) = (barrier.waiting(), barrier.parties());
            Figures { counters: count(0, word(2), &here), len: Some(waiting), capacity: Some(parties) }
        }
        Kind::Event => Figures { counters: count(word(0) >> 1, 0, &here), len: Some(word(0) & 1), capacity: None },
        Kind::Condvar => Figures { counters: count(word(0), 0, &here), len: None, capacity: None },
        Kind::Value => Figures { counters: count(word(3), 0, &here), len: None, capacity: None },
        Kind::Channel | Kind::Chain | Kind::MemoryPool | Kind::PoolBoard | Kind::Charter | Kind::Dict => return None,
    })
}
