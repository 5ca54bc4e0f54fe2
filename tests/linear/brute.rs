//! The meaning of linearizability, tried out: every order of the calls that their times allow, on a plain queue. Only for
//! histories of a few calls.

use std::collections::VecDeque;

use super::checker::{Call, Did};

/// Whether some order of these calls is one of a plain queue, with a bound if one is given.
pub fn is_linearizable(history: &[Call], bound: Option<usize>) -> bool {
    try_on(&mut history.to_vec(), &mut VecDeque::new(), bound.unwrap_or(usize::MAX))
}

fn try_on(left: &mut Vec<Call>, queue: &mut VecDeque<u64>, bound: usize) -> bool {
    if left.is_empty() {
        return true;
    }
    // The next one must have begun before every other has ended.
    let earliest_end = left.iter().map(|call| call.end).min().unwrap();
    for at in 0..left.len() {
        if left[at].begin > earliest_end {
            continue;
        }
        let call = left.swap_remove(at);
        let mut after = queue.clone();
        let possible = match call.did {
            Did::Put(value) => {
                after.push_back(value);
                queue.len() < bound
            }
            Did::Got(value) => after.pop_front() == Some(value),
            Did::FoundEmpty => queue.is_empty(),
            Did::FoundFull => queue.len() == bound,
        };
        let fits = possible && try_on(left, &mut after, bound);
        left.push(call);
        let last = left.len() - 1;
        left.swap(at, last);
        if fits {
            return true;
        }
    }
    false
}
