//! What the bits of a ring mean, and where its bytes lie.
//!
//! ```text
//! word      63                            16 15             0
//!          | position                       | low            |   low: owner (writer, reader),
//!                                                                 void (seal)
//! memory   0     tail            one line, only writers; its other seven words are left to whoever lays out the ring
//!          128   head            one line, only readers
//!          136   returned        two numbers, see `returned.rs`
//!          256   writer words    8 bytes a slot, rounded up to 128
//!                reader words    8 bytes a slot, rounded up to 128
//!                slots           whole cache lines: seal (8 bytes), body (56, then 64 for each further line)
//! ```

/// Bytes that travel between cores together.
pub(crate) const LINE: usize = 64;
/// Lines are fetched in pairs; what different sides write is kept this far apart.
pub(super) const PAIR: usize = 2 * LINE;
/// Positions count modulo two to this.
const POSITION_BITS: u32 = 48;
const LOW_BITS: u32 = 64 - POSITION_BITS;
const SEAL: usize = 8;

/// `low` of a seal: there is no message at this position.
pub(super) const VOID: u16 = 1;
/// `low` of a reader's word, beside the position one lap ago: the message that is there was given back. No process has this
/// number.
pub(super) const RETURNED: u16 = u16::MAX;

/// A position and sixteen bits about it, changed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    /// Positions wrap: what is beyond 48 bits is shifted out.
    #[inline(always)]
    pub(super) fn new(position: u64, low: u16) -> Word {
        Word(position << LOW_BITS | u64::from(low))
    }

    #[inline(always)]
    pub(super) fn position(self) -> u64 {
        self.0 >> LOW_BITS
    }

    #[inline(always)]
    pub(super) fn low(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    pub(super) fn raw(self) -> u64 {
        self.0
    }
}

impl From<u64> for Word {
    #[inline(always)]
    fn from(raw: u64) -> Word {
        Word(raw)
    }
}

/// Who was in the slot one lap ago.
#[inline(always)]
pub(super) fn position_before(position: u64, capacity: u64) -> u64 {
    Word::new(position.wrapping_sub(capacity), 0).position()
}

/// How far it is from one position to another: negative if that is behind.
#[inline(always)]
pub(super) fn distance(from: u64, to: u64) -> i64 {
    // Shifted to the top, so that the sign bit of 64 is that of 48.
    ((to.wrapping_sub(from) << LOW_BITS) as i64) >> LOW_BITS
}

/// The shape of a ring in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    capacity: u64,
    lines: u64,
}

impl Geometry {
    /// More slots than this nobody needs, and sums of offsets stay far from overflow.
    pub(crate) const CAPACITY_MAX: usize = 1 << 24;
    /// The longest slot, in bytes of body.
    pub(crate) const BODY_MAX: usize = (1 << 20) - SEAL;

    /// A ring of at least `capacity` slots (rounded up to a power of two) with bodies of at least
    /// `body` bytes. `None` if that is zero, or out of bounds.
    pub(crate) fn new(capacity: usize, body: usize) -> Option<Geometry> {
        if capacity == 0 || capacity > Self::CAPACITY_MAX || body > Self::BODY_MAX {
            return None;
        }
        let lines = (SEAL + body).div_ceil(LINE) as u64;
        Some(Geometry { capacity: capacity.next_power_of_two() as u64, lines })
    }

    pub(crate) fn capacity(self) -> u64 {
        self.capacity
    }

    /// Words behind `tail`, in its line, that are not the ring's: for what writers note of their own.
    pub(crate) const BESIDE_TAIL: usize = Self::TAIL + 8;
    /// How many words that are.
    pub(crate) const BESIDE: usize = LINE / 8 - 1;

    /// Bytes of one slot that are the user's.
    pub(crate) fn body(self) -> usize {
        self.stride() - SEAL
    }

    /// Bytes the whole ring needs.
    pub(crate) fn bytes(self) -> usize {
        self.slots() + self.capacity as usize * self.stride()
    }

    pub(super) fn stride(self) -> usize {
        self.lines as usize * LINE
    }

    pub(super) const TAIL: usize = 0;
    pub(super) const HEAD: usize = PAIR;
    pub(super) const RETURNED: usize = Self::HEAD + 8;
    pub(super) const WRITERS: usize = 2 * PAIR;

    pub(super) fn readers(self) -> usize {
        Self::WRITERS + self.words()
    }

    pub(super) fn slots(self) -> usize {
        self.readers() + self.words()
    }

    fn words(self) -> usize {
        (self.capacity as usize * 8).next_multiple_of(PAIR)
    }
}

const _: () = assert!(Geometry::CAPACITY_MAX.is_power_of_two() && Geometry::CAPACITY_MAX < 1 << (POSITION_BITS - 2));
const _: () = assert!((SEAL + Geometry::BODY_MAX).is_multiple_of(LINE));
