//! What is put is there, what is removed is not, and memory comes back.

use std::collections::HashMap;

use super::{Desktop, how};
use crate::table::{Expect, How, TableError, View, Wrote};

#[test]
fn what_is_put_is_there_until_it_is_removed() {
    let desk = Desktop::new(1, 64 << 20);
    assert_eq!(desk.get(b"a"), None);
    assert_eq!(desk.put(b"a", b"one"), Wrote::New);
    assert_eq!(desk.put(b"b", b""), Wrote::New);
    assert_eq!(desk.put(b"", b"empty key"), Wrote::New);
    assert_eq!(desk.put(b"a", b"another one"), Wrote::Over);
    assert_eq!(desk.get(b"a").unwrap(), b"another one");
    assert_eq!((desk.get(b"b").unwrap().len(), desk.get(b"").unwrap().as_slice()), (0, &b"empty key"[..]));
    assert_eq!(desk.len(), 3);
    assert!(desk.remove(b"a") && !desk.remove(b"a"));
    assert_eq!((desk.get(b"a"), desk.len()), (None, 2));
}

#[test]
fn a_million_keys_grow_the_table_and_two_processes_see_the_same() {
    let count = if cfg!(debug_assertions) { 50_000 } else { 1_000_000_u64 };
    let (desk, mut model) = (Desktop::new(2, 1 << 30), HashMap::new());
    let other = desk.another();
    for n in 0..count {
        let (by, value) = (if n % 2 == 0 { &desk } else { &other }, n * 3);
        by.put(&n.to_le_bytes(), &value.to_le_bytes());
        model.insert(n, value);
    }
    assert_eq!((desk.len(), other.len()), (count, count));
    for n in (0..count).step_by(3) {
        assert!(other.remove(&n.to_le_bytes()));
        model.remove(&n);
    }
    for n in 0..count + 10 {
        let expected = model.get(&n).map(|value| value.to_le_bytes().to_vec());
        assert_eq!((desk.get(&n.to_le_bytes()), other.get(&n.to_le_bytes())), (expected.clone(), expected), "{n}");
    }
    assert_eq!(desk.len(), model.len() as u64);
}

#[test]
fn an_entry_takes_at_most_64_bytes_more_than_its_key_and_value() {
    let count = if cfg!(debug_assertions) { 100_000 } else { 3_000_000_u64 };
    for (key, value) in [(8, 8), (8, 100), (16, 1), (8, 1024), (12, 600)] {
        let count = count.min((1 << 30) / value as u64);
        let desk = Desktop::new(1, 8 << 30);
        let before = desk.in_use();
        let mut worst: f64 = 0.0;
        for n in 0..count {
            let mut bytes = vec![0; key];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            desk.put(&bytes, &vec![1; value]);
            if n > 50_000 && n % 10_000 == 0 {
                worst = worst.max((desk.in_use() - before) as f64 / n as f64 - (key + value) as f64);
            }
        }
        println!("{key} + {value}: at most {worst:.1} bytes beyond");
        assert!(worst <= 64.0, "{key} + {value}: {worst}");
    }
}

#[test]
fn memory_comes_back_exactly() {
    let desk = Desktop::new(2, 64 << 20);
    let (before, empty) = (desk.in_use(), desk.bytes());
    for round in 0..3 {
        for n in 0..5_000_u32 {
            desk.put(&n.to_le_bytes(), &vec![round; (n % 700) as usize]);
        }
        for n in 0..50_u32 {
            desk.put(&n.to_be_bytes(), &vec![round; 9_000 + 10_000 * n as usize]);
        }
        for n in 0..5_000_u32 {
            desk.remove(&n.to_le_bytes());
            desk.remove(&n.to_be_bytes());
        }
        desk.trim();
        assert_eq!((desk.len(), desk.bytes()), (0, empty), "{round}");
    }
    let lines = desk.in_use() - before;
    assert!(lines < 600 << 10, "{lines} bytes are left for lines");
    let memory = desk.memory.clone();
    let other = desk.another();
    drop(desk);
    other.put(b"still", b"there");
    drop(other);
    assert_eq!(memory.heap_stats().in_use_bytes, 0);
}

#[test]
fn a_full_table_says_so_with_figures_and_goes_on() {
    let desk = Desktop::new(1, 1 << 20);
    let mut put = 0_u64;
    let refused = loop {
        match desk.put_as(&put.to_le_bytes(), &[7; 1000], &how(0)) {
            Ok(_) => put += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, TableError::Full { limit: 0x10_0000, .. }), "{refused}");
    assert!(put > 700, "{put}");
    assert_eq!((desk.get(&put.to_le_bytes()), desk.len()), (None, put));
    let large = desk.put_as(b"large", &vec![0; 2 << 20], &how(0)).unwrap_err();
    assert!(matches!(large, TableError::TooLarge { .. }), "{large}");
    (0..put).for_each(|n| assert!(desk.remove(&n.to_le_bytes())));
    for n in 0..put / 2 {
        desk.put_as(&n.to_le_bytes(), &[7; 1500], &how(0)).unwrap_or_else(|e| panic!("{n} of {put}: {e}"));
    }
}

#[test]
fn what_is_not_as_expected_is_left_alone() {
    let desk = Desktop::new(1, 4 << 20);
    let absent = How { expect: Expect::Absent, ..how(0) };
    assert_eq!(desk.put_as(b"k", b"1", &absent).unwrap(), Wrote::New);
    assert_eq!(desk.put_as(b"k", b"2", &absent).unwrap(), Wrote::Refused);
    let key = desk.table().key(b"k");
    let name = desk.table().get(0, &key, View::up_to(0), &mut Vec::new(), |_| ()).unwrap().unwrap();
    let same = How { expect: Expect::Same(name), ..how(0) };
    assert_eq!(desk.put_as(b"k", b"3", &same).unwrap(), Wrote::Over);
    assert_eq!(desk.put_as(b"k", b"4", &same).unwrap(), Wrote::Refused);
    assert_eq!(desk.get(b"k").unwrap(), b"3");
}
