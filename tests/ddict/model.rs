//! Random calls against a `HashMap`, with values of all sizes and at several checkpoints.

use std::collections::{BTreeMap, HashMap};

use dragon::{DDict, ErrorKind};
use proptest::prelude::*;

use super::alone;

#[derive(Clone, Debug)]
enum Call {
    Put(u8, usize),
    PutNew(u8, usize),
    Remove(u8),
    Append(u8),
    Clear,
    Hold(u8),
    Drop,
    Checkpoint,
    Rollback,
}

fn call() -> impl Strategy<Value = Call> {
    let size = prop_oneof![0..64_usize, 0..2000_usize, 7000..9000_usize, 60_000..70_000_usize];
    prop_oneof![
        8 => (any::<u8>(), size.clone()).prop_map(|(key, size)| Call::Put(key, size)),
        2 => (any::<u8>(), size).prop_map(|(key, size)| Call::PutNew(key, size)),
        4 => any::<u8>().prop_map(Call::Remove),
        2 => any::<u8>().prop_map(Call::Append),
        1 => Just(Call::Clear),
        2 => any::<u8>().prop_map(Call::Hold),
        1 => Just(Call::Drop),
        1 => Just(Call::Checkpoint),
        1 => Just(Call::Rollback),
    ]
}

/// What was put and removed at which checkpoint.
struct Model {
    window: u32,
    at: u32,
    newest: u32,
    written: HashMap<u8, BTreeMap<u32, Option<Vec<u8>>>>,
}

impl Model {
    fn is_retired(&self) -> bool {
        self.at < self.newest.saturating_sub(self.window - 1)
    }

    /// A call that may write makes its checkpoint the newest.
    fn advance(&mut self) {
        self.newest = self.newest.max(self.at);
    }

    fn change(&mut self, key: u8, value: Option<Vec<u8>>) {
        self.advance();
        self.written.entry(key).or_default().insert(self.at, value);
    }

    fn here(&self) -> HashMap<u8, Vec<u8>> {
        let seen = |versions: &BTreeMap<u32, Option<Vec<u8>>>| versions.range(..=self.at).next_back()?.1.clone();
        self.written.iter().filter_map(|(key, versions)| Some((*key, seen(versions)?))).collect()
    }
}

fn run(calls: Vec<Call>, window: u32) {
    let (_turn, _dragon) = alone();
    let dict: DDict<u8, Vec<u8>> =
        DDict::builder().memory_per_node(256 << 20).managers_per_node(2).working_set(window).build().unwrap();
    let mut model = Model { window, at: 0, newest: 0, written: HashMap::new() };
    let mut held: Vec<(Vec<u8>, dragon::Ref)> = Vec::new();
    for (n, call) in calls.into_iter().enumerate() {
        let value = |size: usize| vec![n as u8; size];
        let retired = model.is_retired();
        let refused = |done: Result<(), dragon::Error>| match retired {
            true => assert_eq!(done.unwrap_err().kind(), ErrorKind::CheckpointRetired),
            false => done.unwrap(),
        };
        match call {
            Call::Put(key, size) => {
                refused(dict.put(&key, &value(size)));
                if !retired {
                    model.change(key, Some(value(size)));
                }
            }
            Call::PutNew(key, size) if !retired => {
                model.advance();
                let new = dict.put_new(&key, &value(size)).unwrap();
                assert_eq!(new, !model.here().contains_key(&key));
                if new {
                    model.change(key, Some(value(size)));
                }
            }
            Call::Remove(key) if !retired => {
                model.advance();
                let there = model.here().contains_key(&key);
                assert_eq!(dict.remove(&key).is_ok(), there, "{n}: {key} at {} of {}", model.at, model.newest);
                if there {
                    model.change(key, None);
                }
            }
            Call::Append(key) if !retired => {
                let add = |old: Option<Vec<u8>>| Some([old.unwrap_or_default(), vec![1, 2, 3]].concat());
                dict.update(&key, add).unwrap();
                let value = add(model.here().get(&key).cloned());
                model.change(key, value);
            }
            Call::Clear if !retired => {
                dict.clear().unwrap();
                let keys: Vec<u8> = model.here().into_keys().collect();
                keys.into_iter().for_each(|key| model.change(key, None));
            }
            Call::Hold(key) if !retired => {
                if let Some(value) = model.here().get(&key) {
                    held.push((value.clone(), dict.get_ref(&key).unwrap()));
                }
            }
            Call::Drop => drop(held.pop()),
            Call::Checkpoint => model.at = dict.checkpoint(),
            Call::Rollback => model.at = dict.rollback(),
            _ => {}
        }
        if !model.is_retired() {
            let all: HashMap<_, _> = dict.iter().unwrap().collect::<dragon::Result<_>>().unwrap();
            assert!(all == model.here(), "after call {n} at {} of {}", model.at, model.newest);
            assert_eq!(dict.len().unwrap(), all.len() as u64);
            let key = n as u8;
            assert_eq!(dict.try_get(&key).unwrap().as_ref(), all.get(&key));
        }
        held.iter().for_each(|(value, reference)| assert_eq!(value, &reference[..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_map(calls in proptest::collection::vec(call(), 1..120)) {
        run(calls, 1);
    }

    #[test]
    fn it_is_a_map_at_each_checkpoint(calls in proptest::collection::vec(call(), 1..120)) {
        run(calls, 3);
    }
}
