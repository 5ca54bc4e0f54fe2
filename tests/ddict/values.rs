//! What is put is there, and when it is not, the error says so.

use dragon::codec::{Codec, CodecError, Pod};
use dragon::{DDict, ErrorKind, Pool};

use super::{LONG, SHORT, alone, in_use, small, wait_for};

/// 86, 87.
#[test]
fn what_is_put_is_there_until_it_is_removed() {
    let (_turn, _dragon) = alone();
    let dict: DDict<(String, Option<u8>), Vec<f64>> = DDict::new().unwrap();
    let key = |n: u8| ("key".to_string(), (n > 0).then_some(n));
    assert!(dict.is_empty().unwrap() && !dict.contains(&key(0)).unwrap());
    assert_eq!(dict.get(&key(0)).unwrap_err().kind(), ErrorKind::KeyNotFound);
    dict.clear().unwrap();
    for n in 0..10 {
        dict.put(&key(n), &vec![f64::from(n); n as usize]).unwrap();
    }
    assert_eq!((dict.len().unwrap(), dict.get(&key(3)).unwrap()), (10, vec![3.0; 3]));
    dict.put(&key(3), &vec![]).unwrap();
    assert_eq!((dict.len().unwrap(), dict.get(&key(3)).unwrap()), (10, vec![]));
    assert_eq!(dict.pop(&key(4)).unwrap(), [4.0; 4]);
    assert_eq!(dict.pop(&key(4)).unwrap_err().kind(), ErrorKind::KeyNotFound);
    assert_eq!(dict.remove(&key(4)).unwrap_err().kind(), ErrorKind::KeyNotFound);
    assert_eq!((dict.try_get(&key(4)).unwrap(), dict.try_get(&key(5)).unwrap()), (None, Some(vec![5.0; 5])));
    assert!(!dict.put_new(&key(5), &vec![]).unwrap() && dict.put_new(&key(4), &vec![1.0]).unwrap());
    dict.clear().unwrap();
    assert!(dict.is_empty().unwrap() && dict.keys().unwrap().is_empty());
    let unit: DDict<(), u64> = DDict::new().unwrap();
    unit.put(&(), &7).unwrap();
    assert_eq!(unit.get(&()).unwrap(), 7);
}

/// 88, 118.
#[test]
fn memory_comes_back_exactly() {
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    let dict = small(3);
    let free = |dict: &DDict<u64, Vec<u8>>| dict.stats().unwrap().managers.iter().map(|m| m.free()).collect::<Vec<_>>();
    let at_first = free(&dict);
    for round in 0..3 {
        for n in 0..500 {
            dict.put(&n, &vec![round; (n * 37 % 12_000) as usize]).unwrap();
        }
        assert_ne!(free(&dict), at_first);
        for n in 0..500 {
            dict.remove(&n).unwrap();
        }
        assert_eq!(free(&dict), at_first, "{round}");
    }
    dict.put(&1, &vec![1; 100_000]).unwrap();
    dict.destroy();
    assert_eq!(dict.put(&1, &vec![]).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(dict.get(&1).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(dict.keys().unwrap_err().kind(), ErrorKind::Closed);
    drop(dict);
    wait_for(&dragon, before);
}

/// 89.
#[test]
fn a_full_dictionary_says_so_and_goes_on() {
    let (_turn, _dragon) = alone();
    for (memory, size) in [(900_000, 1000), (900_000, 60_000), (4 << 20, 70_000)] {
        let dict: DDict<u64, Vec<u8>> = DDict::builder().memory_per_node(memory).build().unwrap();
        let mut most = 0;
        let full = loop {
            match dict.put(&most, &vec![7; size]) {
                Ok(()) => most += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::OutOfMemory, "{full}");
        assert!(full.to_string().contains(&memory.to_string()), "{full}");
        assert!(most * size as u64 > memory * 6 / 10, "{most} values of {size} in {memory}");
        assert_eq!((dict.len().unwrap(), dict.contains(&most).unwrap()), (most, false));
        // Overwriting needs room beside what is overwritten.
        (0..most).for_each(|n| assert_eq!(dict.get(&n).unwrap(), vec![7; size]));
        dict.clear().unwrap();
        (0..most).for_each(|n| dict.put(&n, &vec![8; size]).unwrap());
    }
}

/// 89, with several who fill it at once: what was answered for is there, what was refused is not, and no call hangs.
#[test]
fn several_processes_fill_it_at_once() {
    let (_turn, _dragon) = alone();
    let dict: DDict<u64, Vec<u64>> = DDict::builder().memory_per_node(2 << 20).managers_per_node(2).build().unwrap();
    let pool = Pool::new(2).unwrap();
    // Refused at one manager there may still be room at the other, so it is full when many are refused.
    let fill = |dict: &DDict<u64, Vec<u64>>, from: u64| {
        let mut there = Vec::new();
        for key in from..from + 4_000 {
            match dict.put(&key, &vec![key; (key % 300) as usize]) {
                Ok(()) => there.push(key),
                Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}"),
            }
        }
        there
    };
    for _ in 0..2 {
        let there = pool.chunk(1).map_with(&dict, fill, [0, 10_000]).unwrap().concat();
        assert!(there.len() > 500 && there.len() < 7_900, "{} of 8000 were put", there.len());
        let mut keys = dict.keys().unwrap();
        keys.sort_unstable();
        assert_eq!((keys, dict.len().unwrap()), (there.clone(), there.len() as u64));
        there.iter().for_each(|key| assert_eq!(dict.get(key).unwrap(), vec![*key; (key % 300) as usize]));
        // Removing makes room without anything else.
        dict.remove(&there[0]).unwrap();
        dict.put(&there[0], &vec![there[0]; (there[0] % 300) as usize]).unwrap();
        dict.clear().unwrap();
    }
    assert_eq!(dict.stats().unwrap().managers.iter().map(|manager| manager.in_use).sum::<u64>(), 0);
}

/// A codec that refuses some numbers.
struct Picky;

impl Codec<u64> for Picky {
    fn encode(value: &u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend(value.to_le_bytes());
        if *value == 13 { Err(CodecError::new("it is unlucky")) } else { Ok(()) }
    }

    fn decode(bytes: &[u8]) -> Result<u64, CodecError> {
        let value = u64::from_le_bytes(bytes.try_into().map_err(|_| CodecError::new("not 8 bytes"))?);
        if value == 7 { Err(CodecError::new("it is too lucky")) } else { Ok(value) }
    }
}

#[test]
fn what_cannot_be_written_or_read_is_an_error_and_changes_nothing() {
    let (_turn, _dragon) = alone();
    let dict = DDict::<u64, u64, Picky>::builder_with().build().unwrap();
    assert_eq!(dict.put(&13, &1).unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(dict.put(&1, &13).unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!((dict.len().unwrap(), dict.try_get(&1).unwrap()), (0, None));
    dict.put(&1, &7).unwrap();
    let unread = dict.get(&1).unwrap_err();
    assert_eq!((unread.kind(), unread.undecoded()), (ErrorKind::Codec, Some(7_u64.to_le_bytes().as_slice())));
    assert_eq!(dict.update(&1, |_| Some(8)).unwrap_err().kind(), ErrorKind::Codec);
    dict.put(&1, &8).unwrap();
    assert_eq!((dict.get(&1).unwrap(), dict.len().unwrap()), (8, 1));
}

/// 90.
#[test]
fn what_can_never_fit_is_refused_at_once() {
    let (_turn, _dragon) = alone();
    let pool = Pool::new(1).unwrap();
    for (memory, size) in [(4096, 16 << 10), (4 << 20, 16 << 20)] {
        let dict: DDict<u8, Vec<u8>> = DDict::builder().memory_per_node(memory).build().unwrap();
        let put = move |dict: &DDict<u8, Vec<u8>>, size: usize| {
            dict.put(&1, &vec![1; size]).unwrap_err().kind() == ErrorKind::TooLarge
        };
        assert!(put(&dict, size));
        assert_eq!(
            pool.map_with(
                &dict,
                |dict: &DDict<u8, Vec<u8>>, size: usize| {
                    dict.put(&1, &vec![1; size]).unwrap_err().kind() == ErrorKind::TooLarge
                },
                [size]
            )
            .unwrap(),
            [true]
        );
        assert_eq!((dict.len().unwrap(), dict.try_get(&1).unwrap()), (0, None));
        if memory > 4096 {
            dict.put(&1, &vec![1; 1000]).unwrap();
        }
    }
    let dict: DDict<Vec<u8>, u8> = DDict::new().unwrap();
    assert_eq!(dict.put(&vec![1; 9000], &1).unwrap_err().kind(), ErrorKind::TooLarge);
    dict.put(&vec![1; 8000], &1).unwrap();
    assert_eq!(dict.get(&vec![1; 8000]).unwrap(), 1);
}

/// 92, 93.
#[test]
fn numbers_are_added_in_one_step() {
    let (_turn, _dragon) = alone();
    let dict: DDict<String, i64> = DDict::new().unwrap();
    let key = "n".to_string();
    assert_eq!((dict.fetch_add(&key, 1).unwrap(), dict.get(&key).unwrap()), (0, 1));
    dict.put(&key, &40).unwrap();
    assert_eq!([dict.fetch_add(&key, 2).unwrap(), dict.fetch_add(&key, 3).unwrap()], [40, 42]);
    let pool = Pool::new(3).unwrap();
    let add = |dict: &DDict<String, i64>, _: u64| {
        (0..500).for_each(|_| assert!(dict.fetch_add(&"sum".into(), 1).unwrap() < 3000))
    };
    pool.chunk(1).map_with(&dict, add, 0..6).unwrap();
    assert_eq!(dict.get(&"sum".into()).unwrap(), 3000);
    let push = |dict: &DDict<u8, Vec<u64>>, n: u64| {
        let add = |list: Option<Vec<u64>>| Some(list.unwrap_or_default().into_iter().chain([n]).collect());
        dict.update(&0, add).unwrap();
    };
    let lists: DDict<u8, Vec<u64>> = DDict::new().unwrap();
    pool.chunk(1).map_with(&lists, push, 0..200).unwrap();
    let mut list = lists.get(&0).unwrap();
    list.sort();
    assert_eq!(list, (0..200).collect::<Vec<_>>());
    lists.update(&0, |_| None).unwrap();
    assert!(lists.is_empty().unwrap());
}

/// 94.
#[test]
fn one_can_wait_for_a_key_and_for_a_value() {
    let (_turn, _dragon) = alone();
    let dict: DDict<u64, String> = DDict::new().unwrap();
    dict.put(&1, &"one".into()).unwrap();
    dict.wait_for(&1, &"one".into(), SHORT).unwrap();
    assert!(dict.wait_for(&1, &"two".into(), SHORT).unwrap_err().is_timeout());
    assert_eq!(dict.get_timeout(&1, SHORT).unwrap(), "one");
    assert_eq!(dict.get_timeout(&2, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    let pool = Pool::new(1).unwrap();
    let put = |dict: DDict<u64, String>| {
        dict.wait_for(&0, &"go".into(), LONG).unwrap();
        dict.put(&2, &"two".into()).unwrap();
        dict.put(&1, &"two".into()).unwrap();
    };
    let putting = pool.submit(put, dict.clone()).unwrap();
    dict.put(&0, &"go".into()).unwrap();
    assert_eq!(dict.get_timeout(&2, LONG).unwrap(), "two");
    dict.wait_for(&1, &"two".into(), LONG).unwrap();
    putting.get().unwrap();
    let waiting = pool.submit(|dict: DDict<u64, String>| dict.get_timeout(&9, LONG).is_err(), dict.clone()).unwrap();
    dict.destroy();
    assert!(waiting.get_timeout(LONG).unwrap(), "who waits learns that it was destroyed");
}

/// 95.
#[test]
fn keys_and_values_are_those_of_a_model() {
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    let dict = small(2);
    let model: std::collections::BTreeMap<u64, Vec<u8>> =
        (0..2000).map(|n| (n * n, vec![n as u8; (n % 900) as usize])).collect();
    model.iter().for_each(|(key, value)| dict.put(key, value).unwrap());
    let mut keys = dict.keys().unwrap();
    keys.sort();
    assert_eq!(keys, model.keys().copied().collect::<Vec<_>>());
    assert_eq!(dict.iter().unwrap().collect::<dragon::Result<std::collections::BTreeMap<_, _>>>().unwrap(), model);
    assert_eq!(dict.iter().unwrap().take(3).count(), 3);
    dict.clear().unwrap();
    drop(dict);
    wait_for(&dragon, before);
}

/// 96, 97, 108.
#[test]
fn a_manager_is_a_dictionary_of_its_own() {
    let (_turn, _dragon) = alone();
    let dict = small(3);
    (0..300).for_each(|n| dict.put(&n, &vec![1]).unwrap());
    let managers: Vec<_> = (0..3).map(|m| dict.manager(m).unwrap()).collect();
    let lens: Vec<_> = managers.iter().map(|m| m.len().unwrap()).collect();
    assert!(lens.iter().sum::<u64>() == 300 && lens.iter().all(|len| *len > 60), "{lens:?}");
    assert_eq!(dict.manager(3).unwrap_err().kind(), ErrorKind::InvalidArgument);
    for n in 0..300 {
        let of = dict.which_manager(&n).unwrap();
        assert_eq!(of, dict.clone().which_manager(&n).unwrap());
        assert!(managers[of as usize].contains(&n).unwrap() && !managers[(of as usize + 1) % 3].contains(&n).unwrap());
    }
    managers[1].clear().unwrap();
    assert_eq!((managers[1].len().unwrap(), dict.len().unwrap()), (0, 300 - lens[1]));
    dict.clear().unwrap();
    dict.broadcast(&5, &vec![5; 10]).unwrap();
    assert!(managers.iter().all(|m| m.get(&5).unwrap() == vec![5; 10] && m.len().unwrap() == 1));
    assert_eq!(dict.broadcast(&6, &vec![0; 9 << 20]).unwrap_err().kind(), ErrorKind::TooLarge);
    let mut local = dict.local_keys().unwrap();
    local.dedup();
    assert_eq!(local, [5]);
}

/// 107, 109.
#[test]
fn frozen_it_is_read_only() {
    let (_turn, _dragon) = alone();
    let dict = small(2);
    let pool = Pool::new(2).unwrap();
    let batch = |dict: &DDict<u64, Vec<u8>>, part: u64| {
        dict.batch(|batch| (0..100).try_for_each(|n| batch.put(&(part * 100 + n), &vec![part as u8]))).unwrap()
    };
    assert_eq!(pool.chunk(1).map_with(&dict, batch, 0..4).unwrap(), [100; 4]);
    assert_eq!(dict.len().unwrap(), 400);
    dict.freeze().unwrap();
    assert!(dict.is_frozen());
    let refused = |what: Result<(), dragon::Error>| assert_eq!(what.unwrap_err().kind(), ErrorKind::Frozen);
    refused(dict.put(&1, &vec![]));
    refused(dict.batch(|batch| batch.put(&1, &vec![])).map(drop));
    refused(dict.broadcast(&1, &vec![]));
    refused(dict.remove(&1));
    refused(dict.pop(&1).map(drop));
    refused(dict.clear());
    refused(dict.update(&1, |_| Some(vec![])));
    assert_eq!((dict.get(&101).unwrap(), dict.get_ref(&201).unwrap().last()), (vec![1], Some(&2)));
    let in_worker = |dict: DDict<u64, Vec<u8>>| dict.put(&1, &vec![]).unwrap_err().kind() == ErrorKind::Frozen;
    assert!(pool.submit(in_worker, dict.clone()).unwrap().get().unwrap());
    dict.unfreeze().unwrap();
    dict.put(&1, &vec![9]).unwrap();
    assert_eq!(dict.get(&1).unwrap(), [9]);
}

/// 110.
#[test]
fn a_copy_is_equal_and_apart() {
    let (_turn, _dragon) = alone();
    let dict: DDict<u64, String> = DDict::builder().managers_per_node(2).working_set(3).build().unwrap();
    (0..100).for_each(|n| dict.put(&n, &format!("{n} at 0")).unwrap());
    dict.checkpoint();
    (0..50).for_each(|n| dict.put(&n, &format!("{n} at 1")).unwrap());
    dict.remove(&70).unwrap();
    let copy = dict.copy("a copy of the test").unwrap();
    assert_eq!(DDict::<u64, String>::open("a copy of the test").unwrap().len().unwrap(), 99);
    assert_eq!(dict.copy("a copy of the test").unwrap_err().kind(), ErrorKind::Exists);
    for id in [1, 0] {
        copy.set_checkpoint_id(id);
        dict.set_checkpoint_id(id);
        let all = |dict: &DDict<u64, String>| {
            dict.iter().unwrap().collect::<dragon::Result<std::collections::BTreeMap<_, _>>>().unwrap()
        };
        assert_eq!(all(&copy), all(&dict), "at {id}");
    }
    dict.put(&1, &"other".into()).unwrap();
    assert_eq!(copy.get(&1).unwrap(), "1 at 0");
}

/// 111.
#[test]
fn functions_run_where_the_values_are() {
    let (_turn, _dragon) = alone();
    let dict: DDict<u64, Vec<u64>> = DDict::builder().managers_per_node(3).build().unwrap();
    (0..1000).for_each(|n| dict.put(&n, &vec![n; (n % 50) as usize]).unwrap());
    let mut found =
        dict.filter(|least: &u64, key: &u64, value: &Vec<u64>| value.len() > 40 && key > least, &500).unwrap();
    found.sort();
    let expected: Vec<_> = (501..1000).filter(|n| n % 50 > 40).map(|n| (n, vec![n; (n % 50) as usize])).collect();
    assert_eq!(found, expected);
    let most = dict.map_reduce(|key, value| (value.len(), *key), std::cmp::max).unwrap();
    assert_eq!(most, Some((49, 999)));
    dict.clear().unwrap();
    assert_eq!(dict.map_reduce(|key, _| *key, |a, _| a).unwrap(), None);
}

#[test]
fn plain_data_needs_no_serializer_and_can_be_read_in_place() {
    let (_turn, _dragon) = alone();
    let dict: DDict<[u32; 2], [f32; 5000], Pod> = DDict::builder_with().build().unwrap();
    dict.put(&[1, 2], &[0.25; 5000]).unwrap();
    let first = dict.get_ref(&[1, 2]).unwrap();
    dict.put(&[1, 2], &[0.5; 5000]).unwrap();
    let second = dict.get_ref(&[1, 2]).unwrap();
    dict.remove(&[1, 2]).unwrap();
    let sum = |bytes: &[u8]| dragon::codec::bytemuck::cast_slice::<u8, f32>(bytes).iter().sum::<f32>();
    assert_eq!((sum(&first), sum(&second)), (1250.0, 2500.0));
    let small: DDict<u8, u64, Pod> = DDict::builder_with().build().unwrap();
    small.put(&1, &7).unwrap();
    let held = small.get_ref(&1).unwrap();
    (0..1000).for_each(|n| small.put(&1, &n).unwrap());
    assert_eq!((&*held, small.get(&1).unwrap()), (&7_u64.to_ne_bytes()[..], 999));
}
