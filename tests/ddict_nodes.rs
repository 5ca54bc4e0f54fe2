//! Dictionaries over several nodes: the same calls as on one, from every rank and its workers, and what is left when
//! processes and nodes die.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use common::{LONG, start};
use dragon::sync::Barrier;
use dragon::{DDict, ErrorKind, Message, Pool, Queue, Runtime};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "keys" => keys(&dragon),
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

/// Rank 0 makes something, and all ranks have it.
fn share<T: Message + Clone>(dragon: &Runtime, make: impl FnOnce() -> T) -> T {
    if dragon.rank() != 0 {
        return Queue::<T>::open_timeout("shared", LONG).unwrap().get().unwrap();
    }
    let (made, queue) = (make(), Queue::<T>::builder().name("shared").build().unwrap());
    (1..dragon.size()).for_each(|_| queue.put(made.clone()).unwrap());
    // Kept until all have taken it.
    std::mem::forget(queue);
    made
}

/// A dictionary that all ranks have, and a barrier of theirs.
fn dict<K: Message, V: Message>(dragon: &Runtime, managers: usize) -> (DDict<K, V>, Barrier) {
    let size = dragon.size();
    share(dragon, || {
        let dict = DDict::builder().memory_per_node(64 << 20).managers_per_node(managers).name("dict").build();
        (dict.unwrap(), Barrier::new(size).unwrap())
    })
}

#[test]
fn keys_are_put_and_found_from_every_node() {
    start("keys", &[0, 1]).ends_well();
    start("keys", &[0, 1, 1, 2]).ends_well();
}

fn keys(dragon: &Runtime) {
    let (dict, all) = dict::<u64, Vec<u8>>(dragon, 2);
    let (me, size) = (dragon.rank() as u64, dragon.size() as u64);
    let value = |key: u64| vec![key as u8; (key % 300) as usize];
    (0..300).for_each(|n| dict.put(&(n * size + me), &value(n * size + me)).unwrap());
    all.wait().unwrap();
    for key in 0..300 * size {
        assert_eq!(dict.get(&key).unwrap(), value(key));
        assert!(dict.contains(&key).unwrap());
    }
    let missing = dict.get(&(300 * size)).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::KeyNotFound);
    assert!(!dict.contains(&(300 * size)).unwrap() && dict.try_get(&(300 * size)).unwrap().is_none());
    all.wait().unwrap();
    (0..300).for_each(|n| dict.remove(&(n * size + me)).unwrap());
    assert_eq!(dict.remove(&me).unwrap_err().kind(), ErrorKind::KeyNotFound);
    // Large values, long keys.
    let large: Vec<u8> = (0..3_000_000_u32).map(|x| (x % 251) as u8).collect();
    (0..6).for_each(|n| dict.put(&(n * size + me), &large).unwrap());
    (0..6).for_each(|n| assert!(dict.get(&(n * size + me)).unwrap() == large));
    all.wait().unwrap();
    let again = DDict::<u64, Vec<u8>>::open("dict").unwrap();
    (0..6 * size).for_each(|key| assert!(again.get(&key).unwrap().len() == large.len()));
    assert_eq!(DDict::<u64, u32>::open("dict").unwrap_err().kind(), ErrorKind::WrongType);
    // From a worker, which talks to the other node by way of its head.
    let pool = Pool::new(1).unwrap();
    let sum = |dict: DDict<u64, Vec<u8>>| (0..6).map(|key| dict.get(&key).unwrap().len()).sum::<usize>();
    assert_eq!(pool.submit(sum, dict.clone()).unwrap().get().unwrap(), 6 * large.len());
    all.wait().unwrap();
}
