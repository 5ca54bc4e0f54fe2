//! All that a key has, and another table that is made to have the same.

use super::super::{Cargo, How, PARTS, Past, Table, View, Wrote};
use super::{Desktop, how};
use crate::mm::{Memory, MemoryConfig};

const KEYS: u32 = 300;
const STEPS: u32 = 8;

fn at(step: u32, floor: u32) -> How {
    How { floor, ..how(step) }
}

/// Of each step another part of the keys is put, and of some of them removed; values of all kinds of lengths.
fn fill(desk: &Desktop, floor: u32) {
    for step in 0..STEPS {
        for key in (0..KEYS).filter(|key| (key + step) % 3 != 0) {
            let (name, len) = (key.to_le_bytes(), if key % 50 == 7 { 20_000 } else { key as usize });
            match (key + step) % 7 {
                6 => _ = desk.remove_as(&name, &at(step, floor)),
                _ => _ = desk.put_as(&name, &vec![step as u8; len], &at(step, floor)).unwrap(),
            }
        }
    }
}

fn past(desk: &Desktop, key: &[u8]) -> Vec<Past> {
    let key = desk.table().key(key);
    desk.table().past(0, &key, &mut Cargo::new()).unwrap()
}

fn put(table: &Table, key: &[u8], past: Past) {
    let (key, how) = (table.key(key), How { kept: past.kept, ..at(past.version, 0) });
    let value = past.value.as_deref().unwrap_or_default();
    let fill = |space: &mut [u8]| space.copy_from_slice(value);
    table.put(0, &key, &how, value.len(), &mut Cargo::new(), fill, |_| ()).unwrap();
    if past.value.is_none() {
        assert_ne!(table.remove(0, &key, &how, &mut Cargo::new()).unwrap(), Wrote::Refused);
    }
}

#[test]
fn a_table_that_gets_all_that_keys_have_shows_the_same_at_every_checkpoint() {
    let memory = Memory::create(&MemoryConfig::default()).unwrap();
    let desks = [(); 2].map(|()| Desktop::with_history(memory.clone()));
    let [from, to] = &desks;
    fill(from, 0);
    let mut keys = Vec::new();
    (0..PARTS).for_each(|part| from.table().walk_all_keys(0, part, |key| keys.push(key.to_vec())));
    assert_eq!(keys.len() as u32, KEYS, "also those that are removed at the newest");
    for key in &keys {
        past(from, key).into_iter().rev().for_each(|past| put(to.table(), key, past));
        assert_eq!(past(from, key), past(to, key));
    }
    for (step, key) in (0..STEPS).flat_map(|step| keys.iter().map(move |key| (step, key))) {
        assert_eq!(from.get_at(key, step), to.get_at(key, step), "{key:?} at {step}");
    }
}

#[test]
fn what_a_key_has_is_whole_while_it_changes() {
    let memory = Memory::create(&MemoryConfig::default()).unwrap();
    let desk = Desktop::with_history(memory);
    let over = std::sync::atomic::AtomicBool::new(false);
    let (key, relaxed) = (b"key", std::sync::atomic::Ordering::Relaxed);
    desk.put_as(key, &[0], &at(0, 0)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Of a window of three, the oldest goes with each new one.
            for step in 1..20_000_u32 {
                let how = at(step, step.saturating_sub(2));
                desk.put_as(key, &vec![step as u8; step as usize % 90 + 1], &how).unwrap();
                let view = View { at: how.floor, exact: false };
                desk.table().sweep(0, &How { view, ..how }, &mut Cargo::new());
            }
            over.store(true, relaxed);
        });
        while !over.load(relaxed) {
            let past = past(&desk, key);
            assert!(!past.is_empty() && past.len() <= 5, "{} versions", past.len());
            assert!(past.is_sorted_by(|newer, older| newer.version > older.version), "{past:?}");
            for one in past {
                let value = one.value.unwrap();
                assert!(value.len() == one.version as usize % 90 + 1 || one.version == 0);
                assert!(value.iter().all(|byte| *byte == one.version as u8), "torn");
            }
        }
    });
}

impl Desktop {
    /// One shard, with checkpoints.
    fn with_history(memory: std::sync::Arc<Memory>) -> Desktop {
        let plan = super::super::Plan { label: 1, shards: 1, limit: 16 << 20, history: true, seed: 7, upper: [0; 8] };
        let table = Some(Table::create(&memory, &plan).unwrap());
        Desktop { memory, table }
    }
}
