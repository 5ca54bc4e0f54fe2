//! The board: words in shared memory that a pool and its workers read of each other without a message.
//!
//! ```text
//! word 0        1 when no further task may be started
//! word 1        bytes used in the log
//! word 8 ..     one line of 8 words per worker: ticket, position + 1, tasks done, attached
//! then          one word per flight: the ticket that must not be started any more, or 0
//! then          the log: references of functions, each a word with its length and then its bytes
//! ```
//!
//! A worker's line is written by that worker alone while it lives and read by the pool when it is dead,
//! so it costs no traffic between cores. The log is written by the pool alone and only grows.

use std::ops::Range;
use std::sync::Arc;

use super::message::Ticket;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::mm::{Kind, MemError, Memory, Object};
use crate::prim::{AtomicU64, Ordering};

const STOPPING: usize = 0;
const LOG_USED: usize = 1;
const LINES: usize = 8;
const LINE: usize = 8;
const LOG_WORDS: usize = 8192;

/// One pool's board.
#[derive(Clone)]
pub(super) struct Board {
    object: Object,
    workers: usize,
    flights: usize,
}

/// What a worker's line said when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastWords {
    /// The task it had taken, with the position of its message, or nothing if it was idle.
    pub(super) holding: Option<(Ticket, u64)>,
    /// Whether it ever got as far as taking tasks.
    pub(super) attached: bool,
}

impl Board {
    /// A new board, all zero.
    pub(super) fn create(memory: &Arc<Memory>, workers: usize, flights: usize) -> Result<Board> {
        let words = LINES + workers * LINE + flights + LOG_WORDS;
        let mut block = memory.alloc(words * size_of::<u64>())?;
        block.as_mut_slice().fill(0);
        mark!("pool.board.filled");
        Ok(Board { object: memory.create_object(Kind::PoolBoard, block)?, workers, flights })
    }

    /// The board of the pool that this worker belongs to.
    pub(super) fn open(
        memory: &Arc<Memory>,
        id: ObjectId,
        workers: usize,
        flights: usize,
    ) -> std::result::Result<Board, MemError> {
        Ok(Board { object: memory.open_object(id, Kind::PoolBoard)?, workers, flights })
    }

    pub(super) fn id(&self) -> ObjectId {
        self.object.id()
    }

    fn words(&self) -> &[AtomicU64] {
        self.object.words()
    }

    fn line(&self, worker: usize) -> &[AtomicU64] {
        let start = LINES + worker * LINE;
        &self.words()[start..start + LINE]
    }

    fn cancel_word(&self, index: usize) -> &AtomicU64 {
        &self.words()[LINES + self.workers * LINE + index]
    }

    fn log(&self) -> Range<usize> {
        let start = LINES + self.workers * LINE + self.flights;
        start..start + LOG_WORDS
    }

    // ---- the worker writes ---------------------------------------------------------------------

    /// This worker is ready for tasks.
    pub(super) fn attach(&self, worker: usize) {
        // Release, pairs with the Acquire in `last_words`.
        self.line(worker)[3].store(1, Ordering::Release);
    }

    /// This worker takes the task of the message at `position`, which is still claimed and not yet freed.
    pub(super) fn take(&self, worker: usize, ticket: Ticket, position: u64) {
        // SeqCst, pairs with `cancel`: either the worker sees the cancellation in `is_cancelled`, or who
        // cancels sees the ticket here.
        self.line(worker)[0].store(ticket.0, Ordering::SeqCst);
        mark!("pool.worker.ticket");
        // Release, pairs with the Acquire in `last_words`, so that a position is never read with an older ticket.
        self.line(worker)[1].store(position + 1, Ordering::Release);
    }

    /// This worker's answer is in the ring of results.
    pub(super) fn done(&self, worker: usize) {
        let line = self.line(worker);
        // Release, pairs with the Acquire in `last_words`.
        line[1].store(0, Ordering::Release);
        line[0].store(0, Ordering::Relaxed); // only a hint for `cancel`
        line[2].store(line[2].load(Ordering::Relaxed) + 1, Ordering::Relaxed); // a figure for people
    }

    /// Whether a task that was just taken must not run. Call it after [`take`](Board::take).
    pub(super) fn is_cancelled(&self, ticket: Ticket) -> bool {
        // SeqCst, pairs with `cancel`: see `take`.
        self.cancel_word(ticket.index() % self.flights).load(Ordering::SeqCst) == ticket.0
    }

    /// Whether no further task may be started.
    pub(super) fn is_stopping(&self) -> bool {
        self.words()[STOPPING].load(Ordering::Acquire) != 0 // pairs with `stop`
    }

    /// The bytes of a log entry; `None` if there is none at `at`.
    pub(super) fn entry(&self, at: u32) -> Option<Vec<u8>> {
        let log = &self.words()[self.log()];
        let head = log.get(at as usize)?;
        let length = head.load(Ordering::Acquire) as usize; // pairs with the Release in `write`
        let body = log.get(at as usize + 1..at as usize + 1 + length.div_ceil(8))?;
        let mut bytes: Vec<u8> = body.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        bytes.truncate(length);
        (length > 0).then_some(bytes)
    }

    // ---- the pool writes -----------------------------------------------------------------------

    /// Clears a line for a worker that is to be started.
    pub(super) fn reset(&self, worker: usize) {
        for word in self.line(worker) {
            word.store(0, Ordering::Relaxed); // the worker is started after this, which orders it
        }
    }

    /// Reads the line of a dead worker.
    pub(super) fn last_words(&self, worker: usize) -> LastWords {
        let line = self.line(worker);
        let position = line[1].load(Ordering::Acquire); // pairs with `take` and `done`
        let ticket = Ticket(line[0].load(Ordering::Relaxed));
        LastWords {
            holding: (position != 0).then(|| (ticket, position - 1)),
            attached: line[3].load(Ordering::Acquire) != 0, // pairs with `attach`
        }
    }

    /// Whether a worker has this task just now.
    pub(super) fn has(&self, worker: usize, ticket: Ticket) -> bool {
        // SeqCst: as in `cancel`.
        self.line(worker)[0].load(Ordering::SeqCst) == ticket.0
    }

    /// How many workers there can be.
    pub(super) fn size(&self) -> usize {
        self.workers
    }

    /// How many tasks a worker has answered, and whether it has one now.
    pub(super) fn progress(&self, worker: usize) -> (u64, bool, bool) {
        let line = self.line(worker);
        let word = |at: usize| line[at].load(Ordering::Relaxed); // figures for people
        (word(2), word(1) != 0, word(3) != 0)
    }

    /// Forbids a task. True if no worker has begun it and none ever will.
    pub(super) fn cancel(&self, ticket: Ticket) -> bool {
        // SeqCst both, pairs with `take` and `is_cancelled`.
        self.cancel_word(ticket.index()).store(ticket.0, Ordering::SeqCst);
        (0..self.workers).all(|worker| self.line(worker)[0].load(Ordering::SeqCst) != ticket.0)
    }

    /// Lets no worker start another task.
    pub(super) fn stop(&self) {
        self.words()[STOPPING].store(1, Ordering::Release); // pairs with `is_stopping`
    }

    /// Appends an entry to the log and says where it stands.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<u32> {
        let words = self.words();
        let at = words[LOG_USED].load(Ordering::Relaxed) as usize; // only the pool writes it, under its lock
        let needed = 1 + bytes.len().div_ceil(8);
        let log = &words[self.log()];
        let Some(place) = log.get(at..at + needed) else {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "this pool has run more different functions than it can remember (about 600): use a new pool",
            ));
        };
        for (word, part) in place[1..].iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..part.len()].copy_from_slice(part);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed); // published by the length below
        }
        place[0].store(bytes.len() as u64, Ordering::Release); // pairs with the Acquire in `entry`
        words[LOG_USED].store((at + needed) as u64, Ordering::Relaxed);
        Ok(at as u32)
    }
}
