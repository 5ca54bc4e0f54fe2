//! The processes of a job on a node: who has which place, and who takes care of the dead.
//!
//! Free → Reserved(parent) → Live → (Dead →) Recovering(by) → Free. A place is used again only when
//! all that its last process held has been given back. If whoever recovers dies, what it was
//! recovering can be taken over while it is recovered itself, and is marked Dead when that is done.

use crate::id::ProcId;
use crate::mm::error::MemError;
use crate::mm::layout;
use crate::mm::layout::ProcessSlot;
use crate::prim::AtomicU64;
use crate::prim::Ordering;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// Nobody has this place.
    Free,
    /// Kept for a process that has not attached yet.
    Reserved,
    /// Attached.
    Live,
    /// It ended, and so did who began to recover it.
    Dead,
    /// It ended, and somebody is giving back what it held.
    Recovering,
}

/// A process as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessEntry {
    pub(crate) id: ProcId,
    /// Zero as long as nobody has said it.
    pub(crate) pid: u32,
    /// Clock ticks since boot; zero until the process has attached.
    pub(crate) start_time: u64,
    pub(crate) parent: ProcId,
    pub(crate) state: ProcessState,
}

/// One process of those that ever had the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    id: ProcId,
    generation: u32,
}

/// `generation:32 | parent:12 | by:12 | state:8`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

const BY_AT: u32 = 8;
const PARENT_AT: u32 = 20;
const ID_MASK: u64 = 0xFFF;
const GENERATION_AT: u32 = 32;

impl Word {
    fn state(self) -> ProcessState {
        match self.0 & 0xFF {
            1 => ProcessState::Reserved,
            2 => ProcessState::Live,
            3 => ProcessState::Dead,
            4 => ProcessState::Recovering,
            _ => ProcessState::Free,
        }
    }

    fn by(self) -> ProcId {
        ProcId((self.0 >> BY_AT & ID_MASK) as u16)
    }

    fn parent(self) -> ProcId {
        ProcId((self.0 >> PARENT_AT & ID_MASK) as u16)
    }

    fn to(self, state: ProcessState, by: ProcId) -> Word {
        let kept = self.0 & (u64::MAX << GENERATION_AT | ID_MASK << PARENT_AT);
        Word(kept | u64::from(by.0) << BY_AT | state as u64)
    }

    fn with_parent(self, parent: ProcId) -> Word {
        Word(self.0 & !(ID_MASK << PARENT_AT) | u64::from(parent.0) << PARENT_AT)
    }

    fn child_of(self, parent: ProcId) -> Word {
        let generation = self.0 & u64::MAX << GENERATION_AT;
        Word(generation | u64::from(parent.0) << PARENT_AT | ProcessState::Reserved as u64)
    }

    fn generation(self) -> u32 {
        (self.0 >> GENERATION_AT) as u32
    }

    fn ended(self) -> Word {
        Word(((self.0 >> GENERATION_AT) + 1) << GENERATION_AT)
    }
}

/// This process's view of the table.
#[derive(Clone, Copy)]
pub(super) struct ProcessTable<'m>(&'m [ProcessSlot]);

impl<'m> ProcessTable<'m> {
    pub(super) fn new(slots: &'m [ProcessSlot]) -> ProcessTable<'m> {
        ProcessTable(slots)
    }

    fn slot(&self, id: ProcId) -> Option<&'m ProcessSlot> {
        self.0.get(id.index().checked_sub(1)?)
    }

    fn all(&self) -> impl Iterator<Item = (ProcId, &'m ProcessSlot)> + use<'m> {
        self.0.iter().enumerate().map(|(index, slot)| (ProcId(index as u16 + 1), slot))
    }

    /// Keeps a place for a child of `parent`.
    pub(super) fn reserve(&self, parent: ProcId) -> Result<ProcId, MemError> {
        for (id, slot) in self.all() {
            let word = read(&slot.word);
            if word.state() == ProcessState::Free && swap(&slot.word, word, word.child_of(parent)) {
                mark!("process.reserved");
                return Ok(id);
            }
        }
        Err(MemError::TooManyProcesses { most: layout::PROCESSES })
    }

    /// Notes the id of the process that a place is kept for. To be said before that process may attach:
    /// a kept place without one is given up when its parent is gone.
    pub(super) fn started(&self, id: ProcId, pid: u32) {
        if let Some(slot) = self.slot(id) {
            // Release: partner of the acquires in `end_recovery` and `entry`.
            slot.pid.store(pid, Ordering::Release);
        }
    }

    /// A place that was kept is not needed.
    pub(super) fn abandon(&self, id: ProcId) {
        let Some(slot) = self.slot(id) else { return };
        let word = read(&slot.word);
        if word.state() == ProcessState::Reserved {
            slot.pid.store(0, Ordering::Relaxed);
            swap(&slot.word, word, word.ended());
        }
    }

    /// `parent` looks after the process at this place from now on.
    pub(super) fn adopt(&self, id: ProcId, parent: ProcId) {
        let Some(slot) = self.slot(id) else { return };
        let word = read(&slot.word);
        if word.state() != ProcessState::Free {
            // Failing means that it has just attached or ended: the next look at the table finds it again.
            swap(&slot.word, word, word.with_parent(parent));
        }
    }

    /// This process takes the place kept for it.
    pub(super) fn join(&self, id: ProcId, pid: u32, start_time: u64) -> Result<(), MemError> {
        let refused = MemError::NotReserved { place: id.0 };
        let Some(slot) = self.slot(id) else { return Err(refused) };
        let word = read(&slot.word);
        if word.state() != ProcessState::Reserved {
            return Err(refused);
        }
        slot.pid.store(pid, Ordering::Relaxed);
        slot.start_time.store(start_time, Ordering::Relaxed);
        mark!("process.join.named");
        if swap(&slot.word, word, word.to(ProcessState::Live, ProcId::NONE)) { Ok(()) } else { Err(refused) }
    }

    /// How many processes had this place before the one that has it now.
    pub(super) fn incarnation(&self, id: ProcId) -> u32 {
        self.slot(id).map_or(0, |slot| (read(&slot.word).0 >> GENERATION_AT) as u32)
    }

    /// All places that are not free.
    pub(super) fn entries(&self) -> Vec<ProcessEntry> {
        self.all().map(|(id, slot)| entry(id, slot)).filter(|entry| entry.state != ProcessState::Free).collect()
    }

    /// Makes `me` the one who recovers `dead`. False if it is free, or somebody who lives recovers it.
    pub(super) fn begin_recovery(&self, dead: ProcId, me: ProcId) -> bool {
        let Some(slot) = self.slot(dead) else { return false };
        let word = read(&slot.word);
        let may = match word.state() {
            ProcessState::Reserved | ProcessState::Live | ProcessState::Dead => dead != me,
            ProcessState::Recovering => word.by() != me && self.is_recovered_by(word.by(), me),
            ProcessState::Free => false,
        };
        may && swap(&slot.word, word, word.to(ProcessState::Recovering, me))
    }

    /// Whether the process at this place has ended and is, or has to be, recovered.
    pub(super) fn is_dead(&self, id: ProcId) -> bool {
        let state = self.slot(id).map(|slot| read(&slot.word).state());
        matches!(state, Some(ProcessState::Dead | ProcessState::Recovering))
    }

    /// The life that a process is, if it is there and has not ended.
    pub(super) fn life_of(&self, pid: u32) -> Option<Life> {
        let one = |(id, slot): (ProcId, &ProcessSlot)| {
            let (before, seen) = (read(&slot.word), entry(id, slot));
            let there = matches!(seen.state, ProcessState::Reserved | ProcessState::Live) && seen.pid == pid;
            // The same word before and after: the number is that of this life.
            (there && pid != 0 && read(&slot.word) == before).then(|| Life { id, generation: before.generation() })
        };
        self.all().find_map(one)
    }

    /// Whether that life is over and its place was given back.
    pub(super) fn is_past(&self, life: Life) -> bool {
        self.slot(life.id).is_none_or(|slot| read(&slot.word).generation() != life.generation)
    }

    /// Whether `me` recovers `other` just now.
    fn is_recovered_by(&self, other: ProcId, me: ProcId) -> bool {
        self.slot(other).is_some_and(|slot| {
            let word = read(&slot.word);
            word.state() == ProcessState::Recovering && word.by() == me
        })
    }

    /// All that `dead` held is given back: its place is free. What it was recovering itself is free to
    /// be recovered by anybody, and places it kept for children that never began are free.
    pub(super) fn end_recovery(&self, dead: ProcId, me: ProcId) {
        if !self.is_recovered_by(dead, me) {
            return;
        }
        for (_, slot) in self.all() {
            let word = read(&slot.word);
            // Acquire of the id: partner of the release in `started`.
            match word.state() {
                ProcessState::Recovering if word.by() == dead => {
                    swap(&slot.word, word, word.to(ProcessState::Dead, ProcId::NONE));
                }
                ProcessState::Reserved if word.parent() == dead && slot.pid.load(Ordering::Acquire) == 0 => {
                    swap(&slot.word, word, word.ended());
                }
                _ => {}
            }
        }
        mark!("process.recovery.handed_on");
        let Some(slot) = self.slot(dead) else { return };
        slot.pid.store(0, Ordering::Relaxed);
        slot.start_time.store(0, Ordering::Relaxed);
        let word = read(&slot.word);
        swap(&slot.word, word, word.ended());
    }
}

fn entry(id: ProcId, slot: &ProcessSlot) -> ProcessEntry {
    let word = read(&slot.word);
    // Acquire of the id: partner of the release in `started`.
    ProcessEntry {
        id,
        pid: slot.pid.load(Ordering::Acquire),
        start_time: slot.start_time.load(Ordering::Relaxed),
        parent: word.parent(),
        state: word.state(),
    }
}

/// Acquire: partner of [`swap`], so that a state comes with what was written before it.
fn read(at: &AtomicU64) -> Word {
    Word(at.load(Ordering::Acquire))
}

/// Acquire and release: partner of [`read`] and itself.
fn swap(at: &AtomicU64, from: Word, to: Word) -> bool {
    at.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
}
