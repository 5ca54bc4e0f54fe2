//! The word that alone decides whose a unit or a small block is.

use crate::id::ProcId;
use crate::prim::AtomicU64;
use crate::prim::Ordering;

/// What a unit or block is just now.
///
/// | state    | on                | owner             | n                        |
/// |----------|-------------------|-------------------|--------------------------|
/// | Free     | unit, block       | nobody            | 0                        |
/// | Claiming | first unit of run | the claimant      | units of the run         |
/// | Tail     | unit              | the claimant      | distance to the first    |
/// | Held     | first unit, block | holder, 0 = in transit | units, or 0         |
/// | Object   | first unit, block | nobody: the object table decides | units, or 0 |
/// | Freeing  | first unit, block | who frees it      | units, or 0              |
/// | Slab     | unit              | its home, 0 = none | class                   |
/// | Retired  | unit              | its last home     | class                    |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::mm) enum State {
    Free = 0,
    Claiming = 1,
    Tail = 2,
    Held = 3,
    Object = 4,
    Freeing = 5,
    Slab = 6,
    Retired = 7,
}

const STATES: [State; 8] = [
    State::Free,
    State::Claiming,
    State::Tail,
    State::Held,
    State::Object,
    State::Freeing,
    State::Slab,
    State::Retired,
];

const OWNER_AT: u32 = 3;
const N_AT: u32 = 15;
const GENERATION_AT: u32 = 36;
const OWNER_MASK: u64 = (1 << (N_AT - OWNER_AT)) - 1;
const N_MASK: u64 = (1 << (GENERATION_AT - N_AT)) - 1;
/// Generations wrap here.
pub(super) const GENERATION_MASK: u32 = (1 << (64 - GENERATION_AT)) - 1;

/// Generation, n, owner and state in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::mm) struct Word(pub(super) u64);

impl Word {
    pub(in crate::mm) fn new(state: State, owner: ProcId, n: u32, generation: u32) -> Word {
        let generation = u64::from(generation & GENERATION_MASK);
        let owner = u64::from(owner.0) & OWNER_MASK;
        Word(generation << GENERATION_AT | (u64::from(n) & N_MASK) << N_AT | owner << OWNER_AT | state as u64)
    }

    pub(in crate::mm) fn free(generation: u32) -> Word {
        Word::new(State::Free, ProcId::NONE, 0, generation)
    }

    #[inline]
    pub(in crate::mm) fn state(self) -> State {
        STATES[(self.0 & 7) as usize]
    }

    #[inline]
    pub(in crate::mm) fn owner(self) -> ProcId {
        ProcId((self.0 >> OWNER_AT & OWNER_MASK) as u16)
    }

    #[inline]
    pub(in crate::mm) fn n(self) -> u32 {
        (self.0 >> N_AT & N_MASK) as u32
    }

    #[inline]
    pub(in crate::mm) fn generation(self) -> u32 {
        (self.0 >> GENERATION_AT) as u32
    }

    /// The same thing in another state, of another owner.
    #[inline]
    pub(in crate::mm) fn to(self, state: State, owner: ProcId) -> Word {
        Word::new(state, owner, self.n(), self.generation())
    }

    /// What follows when this block ends: free, and every handle to it stale.
    #[inline]
    pub(in crate::mm) fn ended(self) -> Word {
        Word::free(self.generation().wrapping_add(1))
    }

    /// Whether a block stands behind this word: held by somebody, on its way, or an object's.
    pub(in crate::mm) fn is_block(self) -> bool {
        matches!(self.state(), State::Held | State::Object)
    }
}

/// Reads a word. Acquire: partner of every release in this file, so that who sees a state sees all
/// that was done before it was reached.
#[inline]
pub(in crate::mm) fn read(at: &AtomicU64) -> Word {
    Word(at.load(Ordering::Acquire))
}

/// Makes the transition unless somebody was faster. Acquire and release: partners of [`read`],
/// [`write`] and itself in other processes.
#[inline]
pub(in crate::mm) fn swap(at: &AtomicU64, from: Word, to: Word) -> bool {
    at.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// A transition out of a state that is exclusively the caller's. Release: partner of [`read`].
#[inline]
pub(in crate::mm) fn write(at: &AtomicU64, to: Word) {
    at.store(to.0, Ordering::Release);
}
