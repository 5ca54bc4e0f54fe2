//! A value of several words that is read and written whole.
//!
//! ```text
//! line 0  words 0..3 and line 1   a Lock: who writes
//!         word 3                  version; its lowest bit says which copy holds
//! 2 ..    copy 0, copy 1
//! ```
//! A writer fills the copy that does not hold and then turns the version: a writer that dies leaves the
//! value as it was. A reader copies what holds and looks whether the version still says so.

use super::{LINE, Lock, Refusal, Who, cell, line};
use crate::id::ProcId;
use crate::prim::{AtomicU64, Ordering, spin_loop};
use crate::time::Deadline;
use crate::wait::WaitCell;

/// A value in two copies.
#[derive(Clone, Copy)]
pub(crate) struct Copies<'a> {
    lock: Lock<'a>,
    version: &'a AtomicU64,
    copies: &'a [AtomicU64],
}

impl<'a> Copies<'a> {
    /// Words for a value of so many bytes.
    pub(crate) const fn words(bytes: usize) -> usize {
        2 * LINE + (2 * bytes.div_ceil(8)).next_multiple_of(LINE)
    }

    #[inline]
    pub(crate) fn in_words(words: &'a [AtomicU64], bytes: usize) -> Copies<'a> {
        let length = 2 * bytes.div_ceil(8);
        Copies::over(line(words, 0), cell(words, 1), &words[2 * LINE..2 * LINE + length])
    }

    #[inline]
    pub(super) fn over(words: &'a [AtomicU64; LINE], cell: &'a WaitCell, copies: &'a [AtomicU64]) -> Copies<'a> {
        Copies { lock: Lock::over(words, cell), version: &words[3], copies }
    }

    fn copy(&self, version: u64) -> &'a [AtomicU64] {
        let (even, odd) = self.copies.split_at(self.copies.len() / 2);
        if version & 1 == 0 { even } else { odd }
    }

    /// Reads the value into `bytes` and says its version.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> u64 {
        let mut version = self.version.load(Ordering::Acquire); // pairs with the store in `fill`
        loop {
            // Acquire: pairs with the next writer's stores to this copy; who sees one of those sees below that the
            // version has turned.
            let load = |word: &AtomicU64| word.load(Ordering::Acquire).to_ne_bytes();
            let (whole, rest) = bytes.as_chunks_mut();
            let copy = self.copy(version);
            whole.iter_mut().zip(copy).for_each(|(part, word)| *part = load(word));
            if let Some(word) = copy.get(whole.len()) {
                rest.copy_from_slice(&load(word)[..rest.len()]);
            }
            let after = self.version.load(Ordering::Acquire);
            if after == version {
                return version;
            }
            version = after;
            spin_loop();
        }
    }

    /// Writes the value; if `only_after` is given, only if that version still holds. False if not.
    pub(crate) fn write(&self, who: Who, bytes: &[u8], only_after: Option<u64>) -> bool {
        // Cannot be refused: no thread comes here twice at a time, and it waits as long as it takes.
        self.write_by(who, bytes, only_after, Deadline::Never).unwrap_or(false)
    }

    /// As [`Copies::write`], but waits for other writers only so long.
    pub(crate) fn write_by(
        &self,
        who: Who,
        bytes: &[u8],
        only_after: Option<u64>,
        deadline: Deadline,
    ) -> Result<bool, Refusal> {
        self.lock.acquire(who, deadline)?;
        let version = self.version.load(Ordering::Relaxed); // written under the lock alone
        let may = only_after.is_none_or(|after| after == version);
        if may {
            self.fill(version.wrapping_add(1), bytes);
        }
        self.lock.release();
        Ok(may)
    }

    fn fill(&self, version: u64, bytes: &[u8]) {
        // Release: pairs with the loads in `read`; the version before this one was stored before.
        let store = |word: &AtomicU64, part| word.store(u64::from_ne_bytes(part), Ordering::Release);
        let (whole, rest) = bytes.as_chunks();
        let copy = self.copy(version);
        whole.iter().zip(copy).for_each(|(part, word)| store(word, *part));
        if let Some(word) = copy.get(whole.len()) {
            let mut padded = [0; 8];
            padded[..rest.len()].copy_from_slice(rest);
            store(word, padded);
        }
        mark!("latch.copies.filled");
        self.version.store(version, Ordering::Release); // pairs with the loads in `read`
        mark!("latch.copies.turned");
    }

    /// Lets the next writer in: what the dead had begun does not hold.
    pub(super) fn repair(lock: Lock<'_>, dead: ProcId) {
        lock.repair(dead, false);
    }
}
