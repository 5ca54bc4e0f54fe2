//! When both sides call each other at once: which connection stays. A decision over what one side knows.
//!
//! The lower node's call wins, and both sides know it. The higher node drops its own call when the lower one's is
//! proven; the lower node lets the higher one's wait until its own has come to something, because it may be that
//! only one of the two directions works. What is hard to tell from that is a peer that calls again because it
//! knows that the connection broke when we do not know it yet. There the number of connections helps: who calls
//! says how many it knows of, and one that knows of the present one calls for a reason.

use crate::transport::Node;

/// What there is of a lane when the other side calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Present {
    /// Nothing.
    Down,
    /// We are calling.
    Calling,
    /// A connection for which we called.
    OpenByUs,
    /// A connection for which the other side called.
    OpenByThem,
}

/// What to do with the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It takes the place of what there is.
    Take,
    /// Let it wait for the outcome of our own call.
    Park,
    /// It crossed with ours, which has come through.
    Refuse,
}

/// `ours` and `theirs`: connections of the lane that each side knows to have come about.
pub(super) fn judge(us: Node, them: Node, present: Present, ours: u32, theirs: u32) -> Ruling {
    match present {
        Present::Down => Ruling::Take,
        Present::Calling if them < us => Ruling::Take,
        Present::Calling => Ruling::Park,
        // They call one after the other, never twice at once.
        Present::OpenByThem => Ruling::Take,
        Present::OpenByUs if theirs < ours => Ruling::Refuse,
        Present::OpenByUs => Ruling::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_calls_at_once_exactly_one_is_taken() {
        for (us, them) in [(1, 2), (2, 1)] {
            let here = judge(us, them, Present::Calling, 0, 0);
            let there = judge(them, us, Present::Calling, 0, 0);
            assert!(here != there && [here, there].contains(&Ruling::Take));
        }
    }

    #[test]
    fn a_call_that_crossed_with_a_connection_is_refused() {
        assert_eq!(judge(1, 2, Present::OpenByUs, 3, 2), Ruling::Refuse);
    }

    #[test]
    fn a_call_that_knows_of_the_connection_replaces_it() {
        for present in [Present::OpenByUs, Present::OpenByThem] {
            assert_eq!(judge(1, 2, present, 3, 3), Ruling::Take);
            assert_eq!(judge(2, 1, present, 3, 3), Ruling::Take);
        }
        assert_eq!(judge(1, 2, Present::OpenByThem, 3, 2), Ruling::Take, "their only call is newer");
    }
}
