//! Whether recorded calls on one key can have been those of one value that is there or not, whatever they do to it.
//!
//! The events are gone through in the order of their times. Kept are all *ways* that things may stand: the value, which of the
//! calls under way have had their moment, and which of those had it that were never answered, because their caller died or
//! was told that a node is lost. When a call ends it must have had its moment, so every way is led on by calls under way until
//! it has, or is dropped. No way left: the history is that of no such value. (Wing and Gong, "Testing and verifying
//! concurrent objects", 1993, in the order of Lowe, "Testing for linearizability", 2017.)
//!
//! Of two ways that differ only in that one has used more of the calls without an answer the other is enough: those may have
//! happened later, or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// What is there.
type State = Option<u64>;

/// What a call did, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    Put(u64),
    Get(State),
    /// Put if nothing was there; whether it did. `None`: nobody learnt.
    PutNew(u64, Option<bool>),
    /// Whether something was there.
    Remove(Option<bool>),
    /// Took out what was there.
    Pop(State),
    /// Put in place of what was there; `None`: nobody learnt what that was.
    Update(u64, Option<State>),
    /// Added to a number, or to nothing, and got what it was.
    Add(u64, Option<u64>),
}

/// A call on a key, from its begin to its end in moments of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub key: u64,
    pub did: Did,
    pub begin: u64,
    /// None: nobody learnt what came of it. It may have happened at any time since it began.
    pub end: Option<u64>,
}

impl Did {
    /// What is there afterwards, if it can have been told what it was.
    fn after(self, before: State) -> Option<State> {
        let told = |right: bool, after: State| right.then_some(after);
        match self {
            Did::Put(value) => Some(Some(value)),
            Did::Get(found) => told(found == before, before),
            Did::PutNew(value, did) => told(did.is_none_or(|did| did == before.is_none()), before.or(Some(value))),
            Did::Remove(was) => told(was.is_none_or(|was| was == before.is_some()), None),
            Did::Pop(found) => told(found == before, None),
            Did::Update(value, old) => told(old.is_none_or(|old| old == before), Some(value)),
            Did::Add(by, old) => {
                let was = before.unwrap_or(0);
                told(old.is_none_or(|old| old == was), Some(was.wrapping_add(by)))
            }
        }
    }
}

/// How things may stand at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    state: State,
    /// Calls under way that have had their moment, in order.
    done: Vec<usize>,
    /// Calls without an answer that have had theirs, in order.
    used: Vec<usize>,
}

fn with(list: &[usize], call: usize) -> Vec<usize> {
    let mut list = list.to_vec();
    list.insert(list.partition_point(|other| *other < call), call);
    list
}

/// Ways of which none is as good as another.
#[derive(Default)]
struct Ways(HashMap<(State, Vec<usize>), Vec<Vec<usize>>>);

impl Ways {
    /// Adds a way, unless there is one that is as good. Whether it was added.
    fn add(&mut self, way: &Way) -> bool {
        let known = self.0.entry((way.state, way.done.clone())).or_default();
        let within = |small: &[usize], large: &[usize]| small.iter().all(|call| large.binary_search(call).is_ok());
        if known.iter().any(|used| within(used, &way.used)) {
            return false;
        }
        known.retain(|used| !within(&way.used, used));
        known.push(way.used.clone());
        true
    }

    fn all(self) -> Vec<Way> {
        let of = |((state, done), used): ((State, Vec<usize>), Vec<Vec<usize>>)| {
            used.into_iter().map(move |used| Way { state, done: done.clone(), used })
        };
        self.0.into_iter().flat_map(of).collect()
    }
}

/// Checks the calls on each key by themselves; says which one's are those of no value, and the call at which it shows.
pub fn check(calls: &[Call]) -> Result<(), (u64, Call)> {
    let mut keys: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    calls.iter().for_each(|call| keys.entry(call.key).or_default().push(*call));
    keys.into_iter().try_for_each(|(key, calls)| check_key(&calls).map_err(|call| (key, call)))
}

/// The same calls, but those without an answer that put what nobody was ever told all put the same: which of them it was that
/// somebody came upon does not show.
fn alike(calls: &[Call]) -> Vec<Call> {
    let told = |call: &Call| match call.did {
        Did::Get(found) | Did::Pop(found) | Did::Update(_, Some(found)) => found,
        Did::Add(_, old) => old,
        _ => None,
    };
    let (told, mut added) = (calls.iter().filter_map(told).collect::<BTreeSet<u64>>(), 0_u64);
    calls.iter().for_each(|call| added += if let Did::Add(by, _) = call.did { by } else { 0 });
    let mut first = None;
    let mut unseen = |value: u64| match told.range(value..=value.saturating_add(added)).next() {
        None => *first.get_or_insert(value),
        Some(_) => value,
    };
    let one = |call: &Call| match (call.did, call.end) {
        (Did::Put(value) | Did::Update(value, None), None) => Call { did: Did::Put(unseen(value)), ..*call },
        (Did::PutNew(value, None), None) => Call { did: Did::PutNew(unseen(value), None), ..*call },
        _ => *call,
    };
    calls.iter().map(one).collect()
}

fn check_key(calls: &[Call]) -> Result<(), Call> {
    let calls = &alike(calls)[..];
    // Of the same moment begins come first: such calls overlap.
    let begins = calls.iter().enumerate().map(|(at, call)| (call.begin, false, at));
    let ends = calls.iter().enumerate().filter_map(|(at, call)| Some((call.end?, true, at)));
    let mut events: Vec<_> = begins.chain(ends).collect();
    events.sort_unstable();
    let (mut answered, mut open) = (Vec::new(), Vec::new());
    let mut ways = vec![Way { state: None, done: Vec::new(), used: Vec::new() }];
    for (_, ends, at) in events {
        match (ends, calls[at].end) {
            (false, Some(_)) => answered.push(at),
            (false, None) => open.push(at),
            (true, _) => {
                ways = lead_on(calls, ways, &answered, &open, at);
                answered.retain(|other| *other != at);
                if ways.is_empty() {
                    return Err(calls[at]);
                }
            }
        }
    }
    Ok(())
}

/// The ways in which a call has had its moment.
fn lead_on(calls: &[Call], ways: Vec<Way>, answered: &[usize], open: &[usize], ends: usize) -> Vec<Way> {
    let (mut seen, mut after) = (Ways::default(), Ways::default());
    // Those with the fewest unanswered calls first, so that the others are found to be no better.
    let mut queue: VecDeque<Way> = ways.into_iter().collect();
    queue.make_contiguous().sort_by_key(|way| way.used.len());
    queue.iter().for_each(|way| _ = seen.add(way));
    while let Some(way) = queue.pop_front() {
        if let Ok(at) = way.done.binary_search(&ends) {
            let mut way = way;
            way.done.remove(at);
            after.add(&way);
            continue;
        }
        for call in answered.iter().filter(|call| way.done.binary_search(call).is_err()) {
            if let Some(state) = calls[*call].did.after(way.state) {
                let next = Way { state, done: with(&way.done, *call), used: way.used.clone() };
                if seen.add(&next) {
                    queue.push_front(next);
                }
            }
        }
        for (place, call) in open.iter().enumerate().filter(|(_, call)| way.used.binary_search(call).is_err()) {
            // Of several that do the same, the first.
            let same = |other: &usize| calls[*other].did == calls[*call].did && way.used.binary_search(other).is_err();
            let state = calls[*call].did.after(way.state).filter(|state| *state != way.state);
            if let Some(state) = state.filter(|_| !open[..place].iter().any(same)) {
                let next = Way { state, done: way.done.clone(), used: with(&way.used, *call) };
                if seen.add(&next) {
                    queue.push_back(next);
                }
            }
        }
    }
    after.all()
}

#[cfg(test)]
mod tests {
    use super::{Call, Did, check};

    fn call(did: Did, begin: u64, end: u64) -> Call {
        Call { key: 1, did, begin, end: Some(end) }
    }

    fn open(did: Did, begin: u64) -> Call {
        Call { key: 1, did, begin, end: None }
    }

    #[test]
    fn calls_of_one_value_pass() {
        let calls = [
            call(Did::Put(1), 0, 1),
            call(Did::Get(Some(1)), 2, 3),
            call(Did::Update(2, Some(Some(1))), 2, 9),
            call(Did::Get(Some(2)), 4, 5),
            call(Did::Pop(Some(2)), 10, 12),
            call(Did::PutNew(3, Some(true)), 11, 13),
            call(Did::PutNew(4, Some(false)), 11, 14),
            call(Did::Add(5, Some(3)), 15, 16),
            call(Did::Remove(Some(true)), 17, 18),
            call(Did::Remove(Some(false)), 19, 20),
            call(Did::Add(5, Some(0)), 21, 22),
            call(Did::Get(Some(5)), 23, 24),
        ];
        check(&calls).unwrap();
    }

    #[test]
    fn what_nobody_answered_may_have_happened_late_or_never() {
        let after = |seen: &[u64]| {
            let get = |(at, seen): (usize, &u64)| call(Did::Get(Some(*seen)), 10 * at as u64 + 10, 10 * at as u64 + 11);
            let calls = [call(Did::Put(1), 0, 1), open(Did::Put(2), 2), open(Did::Add(7, None), 3)];
            check(&calls.into_iter().chain(seen.iter().enumerate().map(get)).collect::<Vec<_>>())
        };
        assert!(after(&[1, 1, 1]).is_ok() && after(&[1, 2, 9]).is_ok() && after(&[8, 2]).is_ok());
        assert!(after(&[2, 1]).is_err() && after(&[9, 2]).is_err() && after(&[9, 8]).is_err());
        assert!(after(&[8, 15]).is_err(), "once at most");
    }

    #[test]
    fn what_no_value_does_is_found() {
        let wrong = |calls: &[Call]| check(calls).unwrap_err().0 == 1;
        assert!(wrong(&[call(Did::Put(1), 0, 1), call(Did::Put(2), 2, 3), call(Did::Get(Some(1)), 4, 5)]), "lost");
        let two = [call(Did::Get(Some(2)), 4, 5), call(Did::Get(Some(1)), 6, 7)];
        assert!(wrong(&[&[call(Did::Put(1), 0, 1), call(Did::Put(2), 2, 9)][..], &two].concat()), "back");
        assert!(wrong(&[call(Did::Add(1, Some(0)), 0, 3), call(Did::Add(1, Some(0)), 1, 4)]), "a sum lost");
        assert!(wrong(&[call(Did::PutNew(1, Some(true)), 0, 3), call(Did::PutNew(2, Some(true)), 1, 4)]), "two new");
        assert!(
            wrong(&[call(Did::Put(1), 0, 1), call(Did::Pop(Some(1)), 2, 5), call(Did::Pop(Some(1)), 3, 6)]),
            "twice"
        );
        assert!(wrong(&[call(Did::Get(Some(1)), 0, 1), call(Did::Put(1), 2, 3)]), "before it was put");
        assert!(wrong(&[call(Did::Put(1), 0, 1), call(Did::Remove(Some(false)), 2, 3)]), "it was there");
    }

    #[test]
    fn many_calls_without_an_answer_are_no_burden() {
        let mut calls: Vec<Call> = (0..16).map(|n| open(Did::Put(1000 + n), n)).collect();
        calls.extend((0..16).map(|n| open(Did::Add(1, None), n)));
        calls.extend((0..50).map(|n| call(Did::Put(n), 100 + 10 * n, 105 + 10 * n)));
        calls.extend((0..50).map(|n| call(Did::Get(Some(n)), 106 + 10 * n, 107 + 10 * n)));
        check(&calls).unwrap();
        calls.push(call(Did::Get(Some(7)), 5000, 5001));
        assert!(check(&calls).is_err());
    }

    #[test]
    fn what_nobody_was_told_is_there_all_the_same() {
        let mut calls: Vec<Call> = (0..40).map(|n| open(Did::Put(100_000 + 10 * n), n)).collect();
        calls.extend((0..8).map(|n| open(Did::PutNew(1_000_000 + 10 * n, None), n)));
        calls.extend((0..20).map(|n| call(Did::Remove(Some(true)), 1000 + 10 * n, 1005 + 10 * n)));
        calls.push(call(Did::PutNew(5, Some(false)), 5000, 5001));
        check(&calls).unwrap();
        calls.extend((0..40).map(|n| call(Did::Remove(Some(true)), 6000 + 10 * n, 6005 + 10 * n)));
        assert!(check(&calls).is_err(), "more was taken out than was put");
    }
}
