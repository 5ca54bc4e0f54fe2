//! A lock for one who writes or many who read.
//!
//! ```text
//! line 0  words 0..3 and line 1   a Lock: who writes, or is about to
//!         word 3                  1 while the writer is inside
//!         word 4                  no process above this one ever read
//! line 2  cell of those who wait to read
//! line 3  cell of the writer that waits for the last reader to leave
//! line 4  word 0                  Sum: how often it was taken to read, a figure
//! 5 ..    for each process, 16 bits: how many of its threads read
//! ```
//! The readers are counted for each process, so that a death takes exactly its own away; that makes a
//! block of 2.4 KiB. A reader adds itself and then looks for a writer; a writer names itself and then
//! looks for readers; all four are in one order (SeqCst), so that one of them sees the other and waits.

use super::{LINE, Lock, Refusal, Who, cell, line, wait, wake_all};
use crate::counters::Sum;
use crate::id::ProcId;
use crate::mm::MOST_PROCESSES;
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::WaitCell;

/// Counts of a word.
const COUNTS: usize = 4;
const COUNT_BITS: usize = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// Readers of one process. What is above is room for those who find that it is too many.
const MOST_READERS: u64 = 60_000;
const READERS: usize = MOST_PROCESSES.div_ceil(COUNTS).next_multiple_of(LINE);

/// A lock for readers and writers in 37 lines.
#[derive(Clone, Copy)]
pub(crate) struct RwLock<'a> {
    writer: Lock<'a>,
    inside: &'a AtomicU64,
    highest: &'a AtomicU64,
    waiting: &'a WaitCell,
    drained: &'a WaitCell,
    reads: &'a [AtomicU64; LINE],
    readers: &'a [AtomicU64],
}

impl<'a> RwLock<'a> {
    pub(crate) const WORDS: usize = 5 * LINE + READERS;

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64]) -> RwLock<'a> {
        let cells = [cell(words, 1), cell(words, 2), cell(words, 3)];
        RwLock::over(line(words, 0), cells, line(words, 4), &words[5 * LINE..])
    }

    #[inline]
    pub(super) fn over(
        words: &'a [AtomicU64; LINE],
        [writers, waiting, drained]: [&'a WaitCell; 3],
        reads: &'a [AtomicU64; LINE],
        readers: &'a [AtomicU64],
    ) -> RwLock<'a> {
        let (writer, inside, highest) = (Lock::over(words, writers), &words[3], &words[4]);
        RwLock { writer, inside, highest, waiting, drained, reads, readers }
    }

    /// Becomes a reader.
    #[inline]
    pub(crate) fn read(&self, who: Who, deadline: Deadline) -> Result<(), Refusal> {
        if self.enter(who)? {
            return Ok(());
        }
        if self.writer.holder() == Some(who) {
            return Err(Refusal::Mine);
        }
        wait(self.waiting, deadline, || match self.enter(who) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(refusal) => Some(Err(refusal)),
        })?
    }

    /// Becomes a reader if nobody writes or is about to.
    #[inline]
    fn enter(&self, who: Who) -> Result<bool, Refusal> {
        if self.writer.holder().is_some() {
            return Ok(false);
        }
        let id = u64::from(who.process.0);
        // SeqCst: pairs with `is_read`; before the count.
        if self.highest.load(Ordering::SeqCst) < id {
            self.highest.fetch_max(id, Ordering::SeqCst);
        }
        let (word, at) = self.count_of(who.process);
        // SeqCst: pairs with `is_read`; before the look for a writer.
        let before = word.fetch_add(1 << at, Ordering::SeqCst) >> at & COUNT;
        mark!("latch.rwlock.counted");
        let few = before < MOST_READERS;
        if few && self.writer.holder().is_none() {
            if !cfg!(feature = "shuttle") {
                self.reads().add(who.process, 1);
            }
            return Ok(true);
        }
        self.leave(who);
        if few { Ok(false) } else { Err(Refusal::TooMany) }
    }

    /// Is a reader no more.
    #[inline]
    pub(crate) fn leave(&self, who: Who) {
        let (word, at) = self.count_of(who.process);
        word.fetch_sub(1 << at, Ordering::SeqCst); // SeqCst: pairs with `is_read` of a writer that registers to sleep
        mark!("latch.rwlock.left");
        self.drained.notify_one();
    }

    fn count_of(&self, process: ProcId) -> (&'a AtomicU64, usize) {
        let index = process.index() - 1;
        (&self.readers[index / COUNTS], index % COUNTS * COUNT_BITS)
    }

    fn is_read(&self) -> bool {
        // SeqCst: pairs with `enter`; after this writer named itself.
        let highest = self.highest.load(Ordering::SeqCst) as usize;
        self.readers[..highest.div_ceil(COUNTS)].iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// Becomes the writer.
    pub(crate) fn write(&self, who: Who, deadline: Deadline) -> Result<(), Refusal> {
        self.writer.acquire(who, deadline)?;
        mark!("latch.rwlock.claimed");
        if let Err(refusal) = wait(self.drained, deadline, || (!self.is_read()).then_some(())) {
            self.let_in();
            return Err(refusal);
        }
        self.inside.store(1, Ordering::Relaxed); // for `repair`, which comes after this process's end
        mark!("latch.rwlock.inside");
        Ok(())
    }

    /// Is the writer no more.
    pub(crate) fn write_end(&self) {
        self.inside.store(0, Ordering::Relaxed); // as in `write`
        self.let_in();
    }

    fn let_in(&self) {
        self.writer.release();
        mark!("latch.rwlock.freed");
        wake_all(self.waiting);
    }

    /// How often it was taken to read.
    pub(super) fn reads(&self) -> Sum<'a> {
        Sum::in_words(self.reads)
    }

    /// Where those sleep who wait for it.
    pub(super) fn cells(&self) -> [&'a WaitCell; 3] {
        [self.writer.cell(), self.waiting, self.drained]
    }

    /// The lock of writers, for its poison.
    pub(crate) fn writer(&self) -> Lock<'a> {
        self.writer
    }

    /// How many read just now.
    pub(crate) fn count(&self) -> u64 {
        let counts = |word: &AtomicU64| {
            let word = word.load(Ordering::Relaxed); // a figure for people
            (0..COUNTS).map(|at| word >> (at * COUNT_BITS) & COUNT).sum::<u64>()
        };
        self.readers.iter().map(counts).sum()
    }

    /// Takes the dead from readers and writers. A writer that was inside leaves poison.
    pub(super) fn repair(&self, dead: ProcId) {
        let (word, at) = self.count_of(dead);
        word.fetch_and(!(COUNT << at), Ordering::SeqCst); // SeqCst: as in `leave`
        mark!("latch.repair.uncounted");
        if self.writer.holder().is_some_and(|who| who.process == dead) {
            if self.inside.load(Ordering::Relaxed) != 0 {
                self.writer.poison();
            }
            // Before the lock is free, and after the poison: whoever takes over from us finds one of them.
            self.inside.store(0, Ordering::Relaxed);
        }
        self.writer.repair(dead, false);
        self.waiting.heal();
        self.drained.heal();
    }
}
