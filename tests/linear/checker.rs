//! Whether a history of calls on a queue is one that a queue could have given: linearizability, for values that are
//! all different, in `n log n` steps.
//!
//! A history is linearizable if each call can be given one moment between its begin and its end, such that in the order
//! of these moments the calls are those of a plain queue. For a queue of different values that is so exactly if none of
//! a few bad patterns is there (Henzinger, Sezgin, Vafeiadis: *Aspect-oriented linearizability proofs*, 2013; Bouajjani,
//! Emmi, Enea, Hamza: *On reducing linearizability to state reachability*, 2015):
//!
//! * a value came that nobody had begun to put ([`Fault::Unknown`]), or came twice ([`Fault::Twice`]);
//! * of two values, the one whose put had ended before the other's began came after it, or never ([`Fault::Order`]);
//! * a call found nothing, though at each moment of it something was in the queue for certain ([`Fault::Empty`]).
//!
//! A value is in the queue *for certain* from the end of its put to the begin of its get, and *perhaps* from the begin of
//! its put to the end of its get. For a queue with a bound two necessary conditions are added: there never are more values
//! for certain than the bound ([`Fault::TooMany`]), and who finds it full finds perhaps as many ([`Fault::Full`]).
//!
//! `tests/linear/brute.rs` tries all orders of small histories, and comes to the same.
#![allow(dead_code)] // The model of the channel uses it too, and not all of it.

use std::collections::HashMap;

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Put this value.
    Put(u64),
    /// Got this value.
    Got(u64),
    /// Found nothing there, and did not wait.
    FoundEmpty,
    /// Found no room, and did not wait.
    FoundFull,
}

/// A call from its begin to its end, in moments of one clock for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub begin: u64,
    pub end: u64,
    pub did: Did,
}

/// What a queue promises.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise {
    /// Most values at a time.
    pub bound: Option<usize>,
    /// Nothing was left in it at the end, so every value must have come.
    pub drained: bool,
    /// A value that is being put holds up those behind it, and one that is being got its place: while such a call is under
    /// way, others may find the queue empty or full because of it. (`Queue::try_get` says so.)
    pub held_up: bool,
}

/// A bad pattern, with the calls that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Got before anybody began to put it, or never put at all.
    Unknown(Call),
    /// Put or got once more.
    Twice(Call),
    /// Put and never got.
    Lost(Call),
    /// The first was put before the second, and got after it or never.
    Order(Call, Call),
    /// Found empty when it was not.
    Empty(Call),
    /// Found full when it was not.
    Full(Call),
    /// After this put there are more than there may be.
    TooMany(Call),
}

const NEVER: u64 = u64::MAX;

/// A value's life.
#[derive(Clone, Copy)]
struct Life {
    put: Call,
    got: Option<Call>,
}

impl Life {
    /// From when on it is got, perhaps.
    fn got_begin(&self) -> u64 {
        self.got.map_or(NEVER, |got| got.begin)
    }

    /// From when on it is got, for certain.
    fn got_end(&self) -> u64 {
        self.got.map_or(NEVER, |got| got.end)
    }
}

/// Finds a bad pattern, if there is one.
pub fn check(history: &[Call], promise: Promise) -> Result<(), Fault> {
    let lives = lives(history)?;
    if promise.drained
        && let Some(lost) = lives.iter().find(|life| life.got.is_none())
    {
        return Err(Fault::Lost(lost.put));
    }
    check_order(&lives)?;
    check_empty(history, &lives, promise)?;
    if let Some(bound) = promise.bound {
        check_bound(&lives, bound)?;
        check_full(history, &lives, bound, promise)?;
    }
    Ok(())
}

fn lives(history: &[Call]) -> Result<Vec<Life>, Fault> {
    let mut lives = HashMap::new();
    for call in history {
        if let Did::Put(value) = call.did
            && lives.insert(value, Life { put: *call, got: None }).is_some()
        {
            return Err(Fault::Twice(*call));
        }
    }
    for call in history {
        let Did::Got(value) = call.did else { continue };
        let life = lives.get_mut(&value).filter(|life| life.put.begin <= call.end).ok_or(Fault::Unknown(*call))?;
        if life.got.replace(*call).is_some() {
            return Err(Fault::Twice(*call));
        }
    }
    Ok(lives.into_values().collect())
}

/// Of all that were put before a value, which is got last? If it is got after that value, the order is broken.
fn check_order(lives: &[Life]) -> Result<(), Fault> {
    let mut by_end: Vec<&Life> = lives.iter().collect();
    by_end.sort_by_key(|life| life.put.end);
    let mut by_begin: Vec<&Life> = lives.iter().filter(|life| life.got.is_some()).collect();
    by_begin.sort_by_key(|life| life.put.begin);
    let mut before = by_end.into_iter().peekable();
    let mut last: Option<&Life> = None;
    for life in by_begin {
        while let Some(earlier) = before.next_if(|earlier| earlier.put.end < life.put.begin) {
            if last.is_none_or(|last| last.got_begin() < earlier.got_begin()) {
                last = Some(earlier);
            }
        }
        if let Some(last) = last.filter(|last| last.got_begin() > life.got_end()) {
            return Err(Fault::Order(last.put, life.put));
        }
    }
    Ok(())
}

/// The times at which something is in the queue for certain, as intervals without their ends.
fn occupied<'a>(lives: impl Iterator<Item = &'a Life>) -> Vec<(u64, u64)> {
    let mut sure: Vec<(u64, u64)> = lives.map(|life| (life.put.end, life.got_begin())).filter(|(l, r)| l < r).collect();
    sure.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (left, right) in sure {
        match merged.last_mut() {
            Some(last) if left < last.1 => last.1 = last.1.max(right),
            _ => merged.push((left, right)),
        }
    }
    merged
}

/// Whether all of `begin..=end` lies in one of the intervals.
fn is_covered(occupied: &[(u64, u64)], begin: u64, end: u64) -> bool {
    let at = occupied.partition_point(|(left, _)| *left < begin);
    at > 0 && end < occupied[at - 1].1
}

fn check_empty(history: &[Call], lives: &[Life], promise: Promise) -> Result<(), Fault> {
    let sure = occupied(lives.iter());
    for call in history.iter().filter(|call| call.did == Did::FoundEmpty) {
        if is_covered(&sure, call.begin, call.end) && !(promise.held_up && is_behind_a_put(call, lives)) {
            return Err(Fault::Empty(*call));
        }
    }
    Ok(())
}

/// Whether a put was under way, and everything that was in the queue for certain may have come behind its value.
fn is_behind_a_put(call: &Call, lives: &[Life]) -> bool {
    let under_way = lives.iter().filter(|life| life.put.begin <= call.end && life.put.end >= call.begin);
    under_way.into_iter().any(|first| {
        let (begin, end) = (call.begin.max(first.put.begin), call.end.min(first.put.end));
        let ahead = lives.iter().filter(|life| life.put.end < first.put.begin);
        !is_covered(&occupied(ahead), begin, end)
    })
}

/// Moments at which a count goes up or down; at the same moment first down, in favour of the queue.
fn count_up(mut steps: Vec<(u64, i64, Call)>, bound: usize) -> Result<(), Fault> {
    steps.sort_by_key(|(at, by, _)| (*at, *by));
    let mut count = 0;
    for (_, by, call) in steps {
        count += by;
        if count > bound as i64 {
            return Err(Fault::TooMany(call));
        }
    }
    Ok(())
}

fn check_bound(lives: &[Life], bound: usize) -> Result<(), Fault> {
    let sure = lives.iter().filter(|life| life.put.end < life.got_begin());
    count_up(sure.flat_map(|life| [(life.put.end, 1, life.put), (life.got_begin(), -1, life.put)]).collect(), bound)
}

fn check_full(history: &[Call], lives: &[Life], bound: usize, promise: Promise) -> Result<(), Fault> {
    // Up first, in favour of the queue.
    let mut steps: Vec<(u64, bool)> =
        lives.iter().flat_map(|life| [(life.put.begin, false), (life.got_end(), true)]).collect();
    steps.sort_unstable();
    let counts: Vec<(u64, usize)> = steps
        .iter()
        .scan(0_usize, |count, (at, down)| {
            *count = if *down { *count - 1 } else { *count + 1 };
            Some((*at, *count))
        })
        .collect();
    for call in history.iter().filter(|call| call.did == Did::FoundFull) {
        let from = counts.partition_point(|(at, _)| *at < call.begin);
        let before = from.checked_sub(1).map_or(0, |at| counts[at].1);
        let within = counts[from..].iter().take_while(|(at, _)| *at <= call.end).map(|(_, count)| *count);
        let most = within.max().unwrap_or(0).max(before);
        if most < bound && !(promise.held_up && is_behind_a_get(call, lives, bound)) {
            return Err(Fault::Full(*call));
        }
    }
    Ok(())
}

/// Whether a get was under way, and perhaps so many were put since its value that its place is the next one.
fn is_behind_a_get(call: &Call, lives: &[Life], bound: usize) -> bool {
    let under_way = |life: &&Life| life.got.is_some_and(|got| got.begin <= call.end && got.end >= call.begin);
    lives.iter().filter(under_way).any(|last| {
        let since = |life: &&Life| life.put.begin <= call.end && life.put.end >= last.put.begin;
        lives.iter().filter(since).count() >= bound
    })
}
