//! Giving way to those who work at the same end of a ring.
//!
//! Two that claim position after position in turns take the same lines away from each other with each message. If whoever finds
//! that another was faster pauses, the other goes on alone meanwhile, and the lines stay where they are for several messages.

use crate::prim::spin_loop;

/// Pauses of one claim: 1, 2, 4 .. up to two to this.
const LONGEST: u32 = 6;

/// How often a claim has met others.
pub(super) struct Way(u32);

impl Way {
    #[inline(always)]
    pub(super) fn new() -> Way {
        Way(0)
    }

    /// Pauses, longer each time; after the longest not any more: what lies ahead then is a stretch that others have claimed and
    /// have not told of yet.
    #[cold]
    pub(super) fn give(&mut self) {
        if self.0 <= LONGEST && !cfg!(feature = "shuttle") {
            (0..1_u32 << self.0).for_each(|_| spin_loop());
            self.0 += 1;
        }
    }
}
