//! That the checker finds what is wrong: against all orders of small histories, and in large ones with one seeded fault.

use proptest::prelude::*;

use super::brute::is_linearizable;
use super::checker::{Call, Did, Fault, Promise, check};
use super::recorder::random;

fn call(begin: u64, end: u64, did: Did) -> Call {
    Call { begin, end, did }
}

/// Small histories of any sort, right and wrong: values 0 to 3, each put at most once, and got any number of times.
fn small() -> impl Strategy<Value = Vec<Call>> {
    let did = prop_oneof![
        3 => (0_u64..4).prop_map(Did::Put),
        3 => (0_u64..4).prop_map(Did::Got),
        1 => Just(Did::FoundEmpty),
    ];
    let one =
        (0_u64..12, 0_u64..6, did).prop_map(|(begin, length, did)| call(2 * begin, 2 * (begin + length) + 1, did));
    prop::collection::vec(one, 1..8).prop_map(|mut calls| {
        let mut put = [false; 4];
        calls.retain(|call| match call.did {
            Did::Put(value) => !std::mem::replace(&mut put[value as usize], true),
            _ => true,
        });
        calls
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_patterns_say_the_same_as_all_orders(history in small()) {
        let found = check(&history, Promise::default());
        prop_assert_eq!(found.is_ok(), is_linearizable(&history, None), "{:?}", found);
    }

    /// The conditions for a bound are only necessary: what breaks one is wrong; and what is right breaks none.
    #[test]
    fn a_bound_that_is_kept_is_never_called_broken(history in small(), bound in 1_usize..3) {
        if is_linearizable(&history, Some(bound)) {
            let promise = Promise { bound: Some(bound), ..Promise::default() };
            prop_assert_eq!(check(&history, promise), Ok(()));
        }
    }
}

/// A long right history: a plain queue, whose calls took a while before and after the moment that counts.
fn right(calls: u64, bound: usize, seed: u64) -> Vec<Call> {
    let (mut queue, mut state, mut next, mut history) = (std::collections::VecDeque::new(), seed, 0, Vec::new());
    for moment in 1..=calls {
        let at = 1000 * moment;
        let did = match (random(&mut state) % 2, queue.len()) {
            (0, len) if len == bound => Did::FoundFull,
            (0, _) => {
                queue.push_back(next);
                next += 1;
                Did::Put(next - 1)
            }
            _ => queue.pop_front().map_or(Did::FoundEmpty, Did::Got),
        };
        let (before, after) = (random(&mut state) % 3000, random(&mut state) % 3000);
        history.push(call(at.saturating_sub(before), at + after, did));
    }
    let begin = 1000 * (calls + 1);
    history.extend(queue.into_iter().zip(0..).map(|(value, n)| call(begin + n, begin + n, Did::Got(value))));
    history
}

const PROMISE: Promise = Promise { bound: Some(5), drained: true, held_up: false };

/// Changes a right history in one place, at a random one among those that can be changed so.
fn seeded(seed: u64, change: impl Fn(&mut Vec<Call>, usize) -> bool) -> Vec<Call> {
    let mut state = seed;
    loop {
        let mut history = right(2000, 5, random(&mut state));
        let at = random(&mut state) as usize % history.len();
        if change(&mut history, at) {
            return history;
        }
    }
}

fn finds(expected: fn(&Fault) -> bool, change: impl Fn(&mut Vec<Call>, usize) -> bool) {
    for seed in 0..50 {
        let fault = check(&seeded(seed, &change), PROMISE).expect_err("it was made wrong");
        assert!(expected(&fault), "another one was found: {fault:?}");
    }
}

#[test]
fn right_histories_are_passed() {
    for seed in 0..50 {
        assert_eq!(check(&right(2000, 5, seed), PROMISE), Ok(()));
        assert_eq!(check(&right(2000, 5, seed), Promise { held_up: true, ..PROMISE }), Ok(()));
    }
}

#[test]
fn a_lost_value_is_found() {
    finds(
        |fault| matches!(fault, Fault::Lost(_)),
        |history, at| {
            let is_got = matches!(history[at].did, Did::Got(_));
            is_got.then(|| history.remove(at)).is_some()
        },
    );
}

#[test]
fn a_doubled_value_is_found() {
    finds(
        |fault| matches!(fault, Fault::Twice(_)),
        |history, at| {
            let again = Call { begin: history[at].begin + 50, end: history[at].end + 5000, ..history[at] };
            matches!(again.did, Did::Got(_)).then(|| history.push(again)).is_some()
        },
    );
}

#[test]
fn a_value_from_nowhere_or_from_the_future_is_found() {
    let unknown: fn(&Fault) -> bool = |fault| matches!(fault, Fault::Unknown(_));
    finds(unknown, |history, at| {
        let is_got = matches!(history[at].did, Did::Got(_));
        is_got.then(|| history[at].did = Did::Got(u64::MAX)).is_some()
    });
    finds(unknown, |history, at| {
        let Did::Got(value) = history[at].did else { return false };
        let put = history.iter().find(|call| call.did == Did::Put(value)).unwrap().begin;
        let early = put > 0;
        (history[at].begin, history[at].end) = (put.saturating_sub(2), put.saturating_sub(1));
        early
    });
}

#[test]
fn two_values_that_changed_places_are_found() {
    finds(
        |fault| matches!(fault, Fault::Order(..)),
        |history, at| {
            // Both puts and both gets one after the other, so that no order of the calls makes it right.
            let Did::Got(first) = history[at].did else { return false };
            let after = history[at].end;
            let Some(other) = (at..history.len()).find(|other| {
                matches!(history[*other].did, Did::Got(second) if second != first) && history[*other].begin > after
            }) else {
                return false;
            };
            let Did::Got(second) = history[other].did else { return false };
            let put = |value: u64| history.iter().find(|call| call.did == Did::Put(value)).unwrap();
            if put(first).end >= put(second).begin || put(second).begin > history[at].begin {
                return false;
            }
            (history[at].did, history[other].did) = (Did::Got(second), Did::Got(first));
            true
        },
    );
}

#[test]
fn an_empty_answer_that_was_not_true_is_found() {
    for held_up in [false, true] {
        for seed in 0..50 {
            let mut found = None;
            let history = seeded(seed, |history, at| {
                // In the middle of a value's time in the queue, when nobody puts.
                let Did::Put(value) = history[at].did else { return false };
                let (from, got) = (history[at].end, history.iter().find(|call| call.did == Did::Got(value)));
                let until = got.unwrap().begin;
                let moment = from + 1;
                let quiet = !history
                    .iter()
                    .any(|call| matches!(call.did, Did::Put(_)) && call.begin <= moment && call.end >= moment);
                let sure = moment < until && quiet;
                sure.then(|| history.push(call(moment, moment, Did::FoundEmpty))).is_some()
            });
            found.replace(check(&history, Promise { held_up, ..PROMISE }));
            assert!(matches!(found, Some(Err(Fault::Empty(_)))), "{found:?}");
        }
    }
}

#[test]
fn a_put_under_way_excuses_an_empty_answer_and_only_behind_it() {
    let held_up = Promise { held_up: true, ..Promise::default() };
    // 1 is being put all the time; 2 is there, and perhaps behind it.
    let behind = [
        call(0, 100, Did::Put(1)),
        call(10, 20, Did::Put(2)),
        call(30, 40, Did::FoundEmpty),
        call(200, 210, Did::Got(1)),
        call(220, 230, Did::Got(2)),
    ];
    assert!(matches!(check(&behind, Promise::default()), Err(Fault::Empty(_))));
    assert_eq!(check(&behind, held_up), Ok(()));
    // 2 was there before 1 was begun.
    let mut ahead = behind;
    ahead[0].begin = 25;
    (ahead[3].did, ahead[4].did) = (Did::Got(2), Did::Got(1));
    assert!(matches!(check(&ahead, held_up), Err(Fault::Empty(_))));
}

#[test]
fn a_bound_that_is_exceeded_or_claimed_too_early_is_found() {
    finds(
        |fault| matches!(fault, Fault::TooMany(_)),
        |history, at| {
            // Six values at once at the end of all.
            let end = history.iter().map(|call| call.end).max().unwrap();
            let value = |n: u64| u64::MAX - 10 + n;
            history.extend((0..6).map(|n| call(end + 10 + n, end + 10 + n, Did::Put(value(n)))));
            history.extend((0..6).map(|n| call(end + 20 + n, end + 20 + n, Did::Got(value(n)))));
            at > 0
        },
    );
    finds(
        |fault| matches!(fault, Fault::Full(_)),
        |history, at| {
            let end = history.iter().map(|call| call.end).max().unwrap();
            history.push(call(end + 1, end + 2, Did::FoundFull));
            at > 0
        },
    );
}
