//! Holds: shared objects that keep other shared objects alive, where no process does.
//!
//! A queue whose handle lies in a message, and which no process has open any more, lives because the
//! channel with the message holds it. An entry of the table of holds says: object `held` lives because of
//! object `by`, for a reason that `tag` tells to the floor above. Its word is Free → Claimed(maker) → Held →
//! Free, each step one compare-and-swap; `held`, `by` and `tag` are written between Claimed and Held and stay until
//! Free. Whether a hold still has its reason can be seen by anybody at any time (the message is done, or
//! it is not), so a process that dies before it lets go of one leaves nothing that a sweep does not find.
//!
//! Who makes a hold has the object open until it is Held; who lets go of one has opened it before, if it
//! wants it. So the object is never without both, and the look of one who would end it cannot miss both:
//! see `is_held` in `objects.rs`.

use std::{cell::RefCell, mem, sync::Arc};

use crate::id::ObjectId;
use crate::id::ProcId;
use crate::mm::error::MemError;
use crate::mm::layout;
use crate::mm::layout::HoldEntry;
use crate::mm::memory::Memory;
use crate::mm::objects::Object;
use crate::mm::objects::Remains;
use crate::prim::AtomicU64;
use crate::prim::Ordering;

/// `generation:32 | maker:16 | state:16`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum State {
    Free = 0,
    Claimed = 1,
    Held = 2,
}

impl Word {
    fn state(self) -> State {
        match self.0 & 0xFFFF {
            1 => State::Claimed,
            2 => State::Held,
            _ => State::Free,
        }
    }

    fn maker(self) -> ProcId {
        ProcId((self.0 >> 16) as u16)
    }

    fn to(self, state: State, maker: ProcId) -> Word {
        Word(self.0 >> 32 << 32 | u64::from(maker.0) << 16 | state as u64)
    }

    fn ended(self) -> Word {
        Word((self.0 >> 32).wrapping_add(1) << 32)
    }
}

/// Entries whose pages are committed at once.
const COMMIT_ENTRIES: u32 = 1024;

/// A hold that is being made. Dropped, it never was.
pub(crate) struct Claim {
    memory: Arc<Memory>,
    index: u32,
    word: Word,
}

/// A hold as the table has it.
#[derive(Clone, Copy)]
pub(crate) struct Hold {
    index: u32,
    word: Word,
    held: ObjectId,
    /// The object that keeps the other alive.
    pub(crate) by: ObjectId,
    /// Why, in words of the floor above.
    pub(crate) tag: u64,
}

impl Hold {
    /// The object that is kept alive.
    pub(crate) fn object(&self) -> ObjectId {
        self.held
    }

    /// Which process made it.
    pub(crate) fn maker(&self) -> ProcId {
        self.word.maker()
    }
}

impl Claim {
    /// From now on the object lives because of `by`.
    pub(crate) fn bind(self, by: ObjectId, tag: u64) {
        let claim = mem::ManuallyDrop::new(self);
        let entry = claim.memory.hold_entry(claim.index);
        entry.by.store(by.to_word(), Ordering::Relaxed);
        entry.tag.store(tag, Ordering::Relaxed);
        mark!("object.hold.written");
        // SeqCst: partner of `read`; before this process closes the object, after which `is_held` must see it.
        entry.word.store(claim.word.to(State::Held, claim.word.maker()).0, Ordering::SeqCst);
        mark!("object.hold.bound");
        // SAFETY: `claim` is never dropped, so its reference is dropped here, once.
        unsafe { drop(std::ptr::read(&claim.memory)) };
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let entry = self.memory.hold_entry(self.index);
        swap(&entry.word, self.word, self.word.ended());
    }
}

impl Memory {
    fn hold_entry(&self, index: u32) -> &HoldEntry {
        debug_assert!(index < layout::HOLDS);
        let at = layout::HOLD_TABLE_AT as usize + index as usize * size_of::<HoldEntry>();
        // SAFETY: the table is inside the head, callers look at committed entries only, and any bits are valid.
        unsafe { &*self.facts.head.as_ptr().add(at).cast() }
    }

    /// Entries that were ever used.
    fn holds_used(&self) -> u32 {
        // Acquire: partner of the release in `claim_hold`.
        self.facts.header().holds_used.load(Ordering::Acquire).min(layout::HOLDS)
    }

    /// Begins to make a hold on an object that this process has open.
    pub(crate) fn claim_hold(self: &Arc<Self>, object: &Object) -> Result<Claim, MemError> {
        let header = self.facts.header();
        // No entry below it is free, as far as anybody knew.
        let hint = header.holds_hint.load(Ordering::Relaxed).min(layout::HOLDS);
        for index in (hint..layout::HOLDS).chain(0..hint) {
            self.commit_hold(index)?;
            let entry = self.hold_entry(index);
            let word = read(&entry.word);
            let claimed = word.to(State::Claimed, self.me());
            if word.state() == State::Free && swap(&entry.word, word, claimed) {
                mark!("object.hold.claimed");
                // Release: partner of the acquire in `holds_used`.
                header.holds_used.fetch_max(index + 1, Ordering::AcqRel);
                // Fails if one was freed meanwhile, which is to be found.
                let _ = header.holds_hint.compare_exchange(hint, index + 1, Ordering::Relaxed, Ordering::Relaxed);
                entry.held.store(object.id().to_word(), Ordering::Relaxed);
                object.expect_holds();
                return Ok(Claim { memory: self.clone(), index, word: claimed });
            }
        }
        Err(MemError::TooManyHolds { most: layout::HOLDS })
    }

    fn commit_hold(&self, index: u32) -> Result<(), MemError> {
        let committed = &self.facts.header().holds_committed;
        // Acquire and release: partners of each other; who sees the number may touch the pages.
        let have = committed.load(Ordering::Acquire);
        if index < have {
            return Ok(());
        }
        let want = (index + COMMIT_ENTRIES).min(layout::HOLDS);
        let at = |index: u32| layout::HOLD_TABLE_AT + u64::from(index) * size_of::<HoldEntry>() as u64;
        self.facts.commit(at(have), at(want))?;
        committed.fetch_max(want, Ordering::AcqRel);
        Ok(())
    }

    fn hold_at(&self, index: u32) -> Option<Hold> {
        let entry = self.hold_entry(index);
        let word = read(&entry.word);
        // Acquire: pairs with `bind`; these loads come before the second look at the word.
        let [held, by, tag] = [&entry.held, &entry.by, &entry.tag].map(|word| word.load(Ordering::Acquire));
        let whole = word.state() == State::Held && read(&entry.word) == word;
        let (held, by) = (ObjectId::from_word(held)?, ObjectId::from_word(by)?);
        whole.then_some(Hold { index, word, held, by, tag })
    }

    /// Whether something other than a process keeps this object alive.
    pub(super) fn is_held_by_object(&self, held: ObjectId) -> bool {
        (0..self.holds_used()).any(|index| self.hold_at(index).is_some_and(|hold| hold.held == held))
    }

    /// All holds of which `chosen` says so.
    pub(crate) fn holds(&self, chosen: impl Fn(&Hold) -> bool) -> Vec<Hold> {
        (0..self.holds_used()).filter_map(|index| self.hold_at(index)).filter(chosen).collect()
    }

    /// Ends holds. What then nobody keeps alive any more is returned, and freed when the caller drops it.
    pub(crate) fn let_go(self: &Arc<Self>, holds: &[Hold]) -> Vec<Remains> {
        let mut ended = Vec::new();
        for hold in holds {
            // Failing means that somebody else ended it.
            if swap(&self.hold_entry(hold.index).word, hold.word, hold.word.ended()) {
                mark!("object.hold.ended");
                self.facts.header().holds_hint.fetch_min(hold.index, Ordering::Relaxed);
                ended.extend(self.end_if_unheld_as(hold.held));
            }
        }
        ended
    }

    /// Frees the holds that `dead` had begun to make.
    pub(super) fn forget_claims_of(&self, dead: ProcId) {
        for index in 0..self.holds_used() {
            let entry = self.hold_entry(index);
            let word = read(&entry.word);
            if word.state() == State::Claimed && word.maker() == dead {
                swap(&entry.word, word, word.ended());
            }
        }
    }
}

thread_local! {
    /// The objects whose handles this thread has written as bytes since [`gather`] began.
    static GATHERED: RefCell<Option<Vec<Object>>> = const { RefCell::new(None) };
}

/// Runs `encode` and gathers the objects whose handles it writes, so that whoever sends the bytes can keep
/// them alive. May be nested: each gathers what is its own.
pub(crate) fn gather<R>(encode: impl FnOnce() -> R) -> (R, Vec<Object>) {
    /// Puts back what an outer call had, also after a panic.
    struct Outer(Option<Vec<Object>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            GATHERED.with_borrow_mut(|here| *here = self.0.take());
        }
    }
    let outer = Outer(GATHERED.with_borrow_mut(|here| here.replace(Vec::new())));
    let result = encode();
    let gathered = GATHERED.with_borrow_mut(Option::take).unwrap_or_default();
    drop(outer);
    (result, gathered)
}

/// Says that a handle of this object is being written as bytes.
pub(crate) fn note(object: &Object) {
    GATHERED.with_borrow_mut(|here| {
        if let Some(gathered) = here
            && gathered.iter().all(|other| other.id() != object.id())
        {
            gathered.push(object.clone());
        }
    });
}

/// SeqCst: one total order with the objects' holders and states.
fn read(at: &AtomicU64) -> Word {
    Word(at.load(Ordering::SeqCst))
}

/// SeqCst: as [`read`].
fn swap(at: &AtomicU64, from: Word, to: Word) -> bool {
    at.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}
