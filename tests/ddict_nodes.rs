//! Dictionaries over several nodes: the same calls as on one, from every rank and its workers, and what is left when
//! processes and nodes die.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use std::time::Duration;

use common::copied::Copied;
use common::shared::{share, share_from};
use common::{LONG, start, text};
use dragon::sync::Barrier;
use dragon::{DDict, ErrorKind, Message, Pool, Queue, Runtime};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "keys" => keys(&dragon),
        "changes" => changes(&dragon),
        "whole" => whole(&dragon),
        "checkpoints" => checkpoints(&dragon),
        "writers" => writers(&dragon),
        "handles" => handles(&dragon),
        "ends" => ends(&dragon),
        "elsewhere" => elsewhere(&dragon),
        "stored" => stored(&dragon),
        "copies" => copies(&dragon),
        "kept" => return kept(dragon),
        "few" => return few(dragon),
        "twice" => return twice(dragon),
        "lost" => return lost(dragon),
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

/// Ends a process as a crash does.
fn die() {
    std::process::abort();
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

#[test]
fn changes_of_one_value_are_one_step_wherever_it_is() {
    start("changes", &[0, 1, 2]).ends_well();
}

fn changes(dragon: &Runtime) {
    let (dict, all) = dict::<String, u64>(dragon, 2);
    let (me, size) = (dragon.rank() as u64, dragon.size() as u64);
    let key = |n: u64| format!("counter {n}");
    for n in 0..200 {
        dict.fetch_add(&key(n % 10), 1).unwrap();
        dict.update(&key(10 + n % 10), |old| Some(old.unwrap_or(0) + 2)).unwrap();
    }
    all.wait().unwrap();
    for n in 0..10 {
        assert_eq!(dict.get(&key(n)).unwrap(), 20 * size);
        assert_eq!(dict.get(&key(10 + n)).unwrap(), 40 * size);
    }
    all.wait().unwrap();
    // Of all who put it new, one does; of all who take it, one gets it.
    let won: u64 = (0..20).map(|n| u64::from(dict.put_new(&format!("new {n}"), &me).unwrap())).sum();
    dict.fetch_add(&"won".into(), won).unwrap();
    all.wait().unwrap();
    assert_eq!(dict.get(&"won".into()).unwrap(), 20);
    let got: u64 = (0..20).map(|n| u64::from(dict.pop(&format!("new {n}")).is_ok())).sum();
    dict.fetch_add(&"got".into(), got).unwrap();
    all.wait().unwrap();
    assert_eq!(dict.get(&"got".into()).unwrap(), 20);
    // Waiting: all ranks for values that one of them puts.
    let go = |n: u64| format!("go {n}");
    let short = Duration::from_millis(20);
    assert_eq!(dict.get_timeout(&go(99), short).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(dict.wait_for(&key(0), &7, short).unwrap_err().kind(), ErrorKind::TimedOut);
    all.wait().unwrap();
    if me == size - 1 {
        (0..8).for_each(|n| dict.put(&go(n), &(n + 1)).unwrap());
    }
    for n in 0..8 {
        assert_eq!(dict.get_timeout(&go(n), LONG).unwrap(), n + 1);
        dict.wait_for(&go(n), &(n + 1), LONG).unwrap();
    }
    all.wait().unwrap();
}

#[test]
fn what_concerns_the_whole_dictionary_sees_all_nodes() {
    start("whole", &[0, 1, 1, 2]).ends_well();
}

fn whole(dragon: &Runtime) {
    const KEYS: u64 = 3000;
    let (dict, all) = dict::<u64, u64>(dragon, 2);
    let (me, size) = (dragon.rank() as u64, dragon.size() as u64);
    let mine = (0..KEYS).filter(|key| key % size == me);
    let written = dict.batch(|batch| mine.clone().try_for_each(|key| batch.put(&key, &(2 * key)))).unwrap();
    assert_eq!(written, mine.count() as u64);
    all.wait().unwrap();
    assert_eq!((dict.len().unwrap(), dict.manager_count()), (KEYS, 6));
    let mut keys = dict.keys().unwrap();
    keys.sort_unstable();
    assert!(keys.iter().copied().eq(0..KEYS));
    let mut pairs = dict.iter().unwrap().collect::<dragon::Result<Vec<_>>>().unwrap();
    pairs.sort_unstable();
    assert!(pairs.iter().copied().eq((0..KEYS).map(|key| (key, 2 * key))));
    let local = dict.local_keys().unwrap();
    for key in &local {
        assert_eq!(dict.manager_node(dict.which_manager(key).unwrap()).unwrap(), dragon.node());
    }
    let counts: Vec<u64> = (0..6).map(|manager| dict.manager(manager).unwrap().len().unwrap()).collect();
    assert!(counts.iter().all(|count| *count > KEYS / 20) && counts.iter().sum::<u64>() == KEYS, "{counts:?}");
    assert_eq!(dict.manager(6).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let stats = dict.stats().unwrap();
    assert!(stats.managers.iter().map(|one| one.keys).eq(counts.iter().copied()));
    assert!(stats.managers.iter().zip([0, 0, 1, 1, 2, 2]).all(|(one, node)| one.node.number() == node));
    let mut wanted = dict.filter(|least: &u64, _: &u64, value: &u64| value >= least, &(2 * KEYS - 20)).unwrap();
    wanted.sort_unstable();
    assert!(wanted.iter().copied().eq((KEYS - 10..KEYS).map(|key| (key, 2 * key))));
    assert_eq!(dict.map_reduce(|_, value| *value, |a, b| a + b).unwrap(), Some(KEYS * (KEYS - 1)));
    all.wait().unwrap();
    if me == 1 {
        let copy = dict.copy("copy").unwrap();
        dict.freeze().unwrap();
        assert!(dict.is_frozen() && copy.len().unwrap() == KEYS && copy.get(&7).unwrap() == 14);
        copy.destroy();
        assert!(copy.get(&7).unwrap_err().is_closed() && copy.put(&8, &8).unwrap_err().is_closed());
    }
    all.wait().unwrap();
    assert!((0..20).all(|key| dict.put(&key, &0).unwrap_err().kind() == ErrorKind::Frozen));
    let refused = dict.batch(|batch| (0..20).try_for_each(|key| batch.put(&key, &0)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Frozen);
    all.wait().unwrap();
    if me == 2 {
        dict.unfreeze().unwrap();
        dict.broadcast(&KEYS, &1).unwrap();
        assert_eq!(dict.len().unwrap(), KEYS + 6);
        assert!((0..6).all(|manager| dict.manager(manager).unwrap().get(&KEYS).unwrap() == 1));
        dict.manager(4).unwrap().clear().unwrap();
        assert_eq!(dict.len().unwrap(), KEYS + 6 - counts[4] - 1);
        dict.clear().unwrap();
    }
    all.wait().unwrap();
    assert!(dict.is_empty().unwrap() && dict.keys().unwrap().is_empty());
    // More than there is room for: an error with figures, from wherever it is put.
    let big = DDict::<u64, Vec<u8>>::builder().memory_per_node(1 << 20).build().unwrap();
    let full = (0..64).find_map(|key| big.put(&key, &vec![0; 100_000]).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::OutOfMemory);
    let large = (0..64).map(|key| big.put(&key, &vec![0; 2 << 20]).unwrap_err().kind());
    assert!(large.into_iter().all(|kind| kind == ErrorKind::TooLarge));
    assert!(big.len().unwrap() > 8);
    big.clear().unwrap();
    (0..8).for_each(|key| big.put(&key, &vec![0; 100_000]).unwrap());
    all.wait().unwrap();
}

#[test]
fn checkpoints_are_the_same_on_all_nodes() {
    start("checkpoints", &[0, 1]).ends_well();
}

fn checkpoints(dragon: &Runtime) {
    let (dict, all) = share(dragon, || {
        let dict = DDict::<u64, u64>::builder().working_set(3).memory_per_node(8 << 20).build().unwrap();
        (dict, Barrier::new(dragon.size()).unwrap())
    });
    let me = dragon.rank() as u64;
    for step in 0..5 {
        (0..40).filter(|key| key % 2 == me).for_each(|key| dict.put(&key, &(key + 100 * step)).unwrap());
        all.wait().unwrap();
        assert!((0..40).all(|key| dict.get(&key).unwrap() == key + 100 * step));
        all.wait().unwrap();
        dict.checkpoint();
    }
    dict.rollback();
    dict.rollback();
    assert!((0..40).all(|key| dict.get(&key).unwrap() == key + 300) && dict.len().unwrap() == 40);
    dict.set_checkpoint_id(1);
    assert!((0..40).all(|key| dict.get(&key).unwrap_err().kind() == ErrorKind::CheckpointRetired));
    assert_eq!(dict.sync_to_newest().unwrap(), 4);
    all.wait().unwrap();
    // Keys that are waited for.
    let (dict, all) = share(dragon, || {
        let dict = DDict::<u64, u64>::builder().working_set(2).wait_for_keys(true).build().unwrap();
        (dict, Barrier::new(dragon.size()).unwrap())
    });
    for step in 0..4 {
        if me == 1 {
            (0..10).for_each(|key| dict.put(&key, &step).unwrap());
        } else {
            assert!((0..10).all(|key| dict.get(&key).unwrap() == step));
        }
        // Readers hold nobody up.
        all.wait().unwrap();
        dict.checkpoint();
    }
    all.wait().unwrap();
}

#[test]
fn a_writer_that_is_late_holds_others_up_until_it_goes_on_or_dies() {
    start("writers", &[0, 1]).ends_well();
}

fn writers(dragon: &Runtime) {
    let (dict, all) = share(dragon, || {
        let dict = DDict::<u64, u64>::builder().working_set(2).wait_for_writers(true).build().unwrap();
        (dict, Barrier::new(dragon.size()).unwrap())
    });
    let put_all = |dict: &DDict<u64, u64>| (0..20).for_each(|key| dict.put(&key, &1).unwrap());
    put_all(&dict);
    all.wait().unwrap();
    if dragon.rank() == 0 {
        (0..2).for_each(|_| _ = dict.checkpoint());
        // Waits for rank 1, which is still at 0.
        put_all(&dict);
        all.wait().unwrap();
        (0..2).for_each(|_| _ = dict.checkpoint());
        put_all(&dict);
    } else {
        // A time in which rank 0 may begin to wait; that it does is not needed.
        std::thread::sleep(Duration::from_millis(50));
        (0..2).for_each(|_| _ = dict.checkpoint());
        // A worker that writes and is killed holds nobody up.
        let pool = Pool::new(1).unwrap();
        let task = pool.submit(
            |dict: DDict<u64, u64>| {
                (0..20).for_each(|key| dict.put(&key, &2).unwrap());
                die();
            },
            dict.clone(),
        );
        assert!(task.unwrap().get().unwrap_err().is_lost());
        all.wait().unwrap();
    }
    all.wait().unwrap();
}

#[test]
fn handles_are_values_of_a_dictionary_on_any_node() {
    start("handles", &[0, 1]).ends_well();
}

fn handles(dragon: &Runtime) {
    let (dict, all) = dict::<u64, Queue<u64>>(dragon, 1);
    let me = dragon.rank() as u64;
    for n in 0..6 {
        dict.put(&(2 * n + me), &Queue::bounded(4).unwrap()).unwrap();
    }
    all.wait().unwrap();
    (0..6).for_each(|n| dict.get(&(2 * n + 1 - me)).unwrap().put(n).unwrap());
    all.wait().unwrap();
    (0..6).for_each(|n| assert_eq!(dict.get(&(2 * n + me)).unwrap().get().unwrap(), n));
    all.wait().unwrap();
}

#[test]
fn its_memory_is_free_again_when_the_last_handle_is_gone() {
    start("ends", &[0, 1]).ends_well();
}

fn ends(dragon: &Runtime) {
    let all = share(dragon, || Barrier::new(dragon.size()).unwrap());
    let in_use = || dragon.stats().memory.in_use;
    let free_again = |before: u64| {
        let begun = std::time::Instant::now();
        while in_use() > before + (1 << 20) {
            assert!(begun.elapsed() < LONG, "{} bytes where {before} were before", in_use());
            std::thread::yield_now();
        }
    };
    let (before, value) = (in_use(), vec![1_u8; 1 << 20]);
    all.wait().unwrap();
    if dragon.rank() == 0 {
        let dict = DDict::<u64, Vec<u8>>::builder().memory_per_node(64 << 20).build().unwrap();
        (0..30).for_each(|key| dict.put(&key, &value).unwrap());
    }
    all.wait().unwrap();
    free_again(before);
    all.wait().unwrap();
    if dragon.rank() == 0 {
        // Made by a worker, which is killed while it has it open.
        let pool = Pool::new(1).unwrap();
        let task = pool.submit(
            |value: Vec<u8>| {
                let dict = DDict::<u64, Vec<u8>>::builder().memory_per_node(64 << 20).build().unwrap();
                (0..30).for_each(|key| dict.put(&key, &value).unwrap());
                die();
            },
            value,
        );
        assert!(task.unwrap().get().unwrap_err().is_lost());
    }
    all.wait().unwrap();
    free_again(before);
    all.wait().unwrap();
}

#[test]
fn a_node_without_managers_uses_it_like_the_others() {
    start("elsewhere", &[0, 1, 2]).ends_well();
}

fn elsewhere(dragon: &Runtime) {
    let nodes = dragon.nodes();
    let (dict, all) = share(dragon, || {
        let dict = DDict::<u64, u64>::builder().nodes(&nodes[1..2]).name("there").build().unwrap();
        (dict, Barrier::new(dragon.size()).unwrap())
    });
    let me = dragon.rank() as u64;
    (0..50).for_each(|n| dict.put(&(3 * n + me), &me).unwrap());
    all.wait().unwrap();
    assert!((0..150).all(|key| dict.get(&key).unwrap() == key % 3) && dict.len().unwrap() == 150);
    let local = dict.local_keys().unwrap().len();
    assert_eq!(local, if dragon.rank() == 1 { 150 } else { 0 });
    assert_eq!(DDict::<u64, u64>::open("there").unwrap().get(&4).unwrap(), 1);
    all.wait().unwrap();
    // One of this node alone, opened on others.
    let alone = share_from(dragon, 2, || DDict::<u64, u64>::builder().nodes(&nodes[2..]).build().unwrap());
    alone.put(&me, &me).unwrap();
    all.wait().unwrap();
    assert!((0..3).all(|key| alone.get(&key).unwrap() == key));
    let bad = DDict::<u64, u64>::builder().nodes(&[nodes[0], nodes[0]]).build();
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::InvalidArgument);
    all.wait().unwrap();
}

#[test]
fn stored_checkpoints_are_read_by_another_number_of_nodes() {
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: each test that reads this variable sets it first, and there is one.
    unsafe { std::env::set_var("STORE", folder.path()) };
    start("stored", &[0, 1]).ends_well();
    start("stored", &[0, 1, 2]).ends_well();
    start("stored", &[0, 0]).ends_well();
}

/// Stores what it adds to what it finds.
fn stored(dragon: &Runtime) {
    let all = share(dragon, || Barrier::new(dragon.size()).unwrap());
    if dragon.rank() == 0 {
        let persist = dragon::Persist::posix(std::env::var("STORE").unwrap());
        let dict = DDict::<u64, u64>::builder().managers_per_node(2).working_set(2).name("stored").persist(persist);
        let dict = dict.build().unwrap();
        let before = dict.persisted().unwrap();
        assert_eq!(dict.restore(77).unwrap_err().kind(), ErrorKind::NoCheckpoint);
        let mut known = 0;
        if let Some(last) = before.last() {
            dict.restore(*last).unwrap();
            known = 100 * u64::from(*last + 1);
            assert!(dict.len().unwrap() == known && (0..known).all(|key| dict.get(&key).unwrap() == key));
            dict.checkpoint();
        }
        for _ in 0..3 {
            (known..known + 100).for_each(|key| dict.put(&key, &key).unwrap());
            known += 100;
            assert_eq!(dict.persist().unwrap(), dict.checkpoint_id());
            dict.checkpoint();
        }
        assert_eq!(dict.persisted().unwrap().len(), before.len() + 3);
        assert_eq!(dict.persisted().unwrap().last().copied(), Some(dict.checkpoint_id() - 1));
    }
    all.wait().unwrap();
}

#[test]
fn without_replicas_a_lost_node_is_an_error_for_its_keys_and_the_rest_goes_on() {
    let outputs = start("lost", &[0, 1, 2]).outputs();
    assert!(!outputs[1].status.success());
    assert!(outputs[0].status.success() && outputs[2].status.success(), "{}\n{}", text(&outputs[0]), text(&outputs[2]));
}

fn lost(dragon: Runtime) {
    let (dict, all) = dict::<u64, u64>(&dragon, 1);
    if dragon.rank() == 0 {
        (0..300).for_each(|key| dict.put(&key, &key).unwrap());
    }
    all.wait().unwrap();
    if dragon.rank() == 1 {
        // A time in which others may begin to wait for a key that nobody puts; that they do is not needed.
        std::thread::sleep(Duration::from_millis(50));
        std::process::abort();
    }
    let is_lost = |key: &u64| dict.manager_node(dict.which_manager(key).unwrap()).unwrap().number() == 1;
    let missing = (1000..).find(is_lost).unwrap();
    assert_eq!(dict.get_timeout(&missing, LONG).unwrap_err().kind(), ErrorKind::ManagerLost);
    for key in 0..300 {
        match (is_lost(&key), dict.get(&key), dict.put(&key, &(key + 1))) {
            (true, Err(got), Err(put)) => {
                assert!(got.kind() == ErrorKind::ManagerLost && put.is_lost(), "{got} {put}");
                assert!(got.to_string().contains("node 1"), "{got}");
            }
            (false, Ok(_), Ok(())) => {}
            other => panic!("{key}: {other:?}"),
        }
    }
    assert_eq!(dict.len().unwrap_err().kind(), ErrorKind::ManagerLost);
    assert!(dict.manager(2).unwrap().len().unwrap() > 50);
    // Whoever opens it now has what is left.
    let there = (0..300).find(|key| !is_lost(key)).unwrap();
    let pool = Pool::new(1).unwrap();
    let look =
        |(dict, keys): (DDict<u64, u64>, [u64; 2])| keys.map(|key| dict.get(&key).err().map(|error| error.is_lost()));
    let found = pool.submit(look, (dict.clone(), [there, missing])).unwrap().get().unwrap();
    assert_eq!(found, [None, Some(true)]);
    assert!(DDict::<u64, u64>::open("dict").unwrap().get(&there).is_ok());
    // The others may be at work still.
    let error = dragon.finalize().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NodeLost);
}

/// A dictionary with a replica of each manager.
fn replicated<V: Message>(dragon: &Runtime) -> (DDict<u64, V>, Barrier) {
    share(dragon, || {
        let dict = DDict::builder().memory_per_node(64 << 20).managers_per_node(2).replicas(1).build();
        (dict.unwrap(), Barrier::new(dragon.size()).unwrap())
    })
}

#[test]
fn with_replicas_it_is_the_same_dictionary() {
    start("copies", &[0, 1, 2]).ends_well();
}

fn copies(dragon: &Runtime) {
    let (dict, all) = replicated::<u64>(dragon);
    let (me, size) = (dragon.rank() as u64, dragon.size() as u64);
    (0..100).for_each(|n| dict.put(&(n * size + me), &n).unwrap());
    (0..50).for_each(|n| _ = dict.fetch_add(&(1000 + n % 5), 1).unwrap());
    all.wait().unwrap();
    assert!((0..300).all(|key| dict.get(&key).unwrap() == key / 3));
    assert!((0..5).all(|n| dict.get(&(1000 + n)).unwrap() == 10 * size));
    assert_eq!((dict.len().unwrap(), dict.keys().unwrap().len(), dict.iter().unwrap().count()), (305, 305, 305));
    assert_eq!(dict.map_reduce(|_, _| 1_u64, |a, b| a + b).unwrap(), Some(305));
    all.wait().unwrap();
    let won: usize = (0..20).map(|n| usize::from(dict.put_new(&(2000 + n), &me).unwrap())).sum();
    dict.fetch_add(&3000, won as u64).unwrap();
    all.wait().unwrap();
    assert_eq!(dict.get(&3000).unwrap(), 20);
    all.wait().unwrap();
    let pool = Pool::new(1).unwrap();
    let add =
        |dict: DDict<u64, u64>| dict.batch(|batch| (4000..4100).try_for_each(|key| batch.put(&key, &key))).unwrap();
    assert_eq!(pool.submit(add, dict.clone()).unwrap().get().unwrap(), 100);
    assert!((4000..4100).all(|key| dict.get(&key).unwrap() == key));
    all.wait().unwrap();
    if me == 1 {
        (0..300).for_each(|key| dict.remove(&key).unwrap());
        assert_eq!(dict.remove(&7).unwrap_err().kind(), ErrorKind::KeyNotFound);
        dict.clear().unwrap();
        assert!(dict.is_empty().unwrap());
        let bad = |builder: dragon::DDictBuilder<u64, u64>| builder.build().unwrap_err().kind();
        assert_eq!(bad(DDict::builder().replicas(3)), ErrorKind::InvalidArgument);
    }
    all.wait().unwrap();
}

#[test]
fn with_replicas_no_write_that_has_returned_is_lost_with_a_node() {
    let outputs = start("kept", &[0, 1, 2]).outputs();
    assert!(!outputs[1].status.success());
    assert!(outputs[0].status.success() && outputs[2].status.success(), "{}\n{}", text(&outputs[0]), text(&outputs[2]));
}

/// The value that a rank puts in round `n`: long enough to be torn, if that could be.
fn round(rank: usize, n: u64) -> Vec<u64> {
    vec![n << 8 | rank as u64; 40]
}

fn kept(dragon: Runtime) {
    let (dict, all) = replicated::<Vec<u64>>(&dragon);
    let (rank, events) = (dragon.rank(), dragon.events());
    // Each rank counts up keys of its own, and all count up the same ones.
    let mine = |key: u64| 100 * (rank as u64 + 1) + key;
    let mut last = [0; 20];
    all.wait().unwrap();
    for n in 1..=60 {
        if rank == 1 && n == 20 {
            die();
        }
        for key in 0..20 {
            match dict.put(&mine(key), &round(rank, n)) {
                Ok(()) => last[key as usize] = n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::NodeLost, "{error}"),
            }
            let got = dict.get(&mine(key)).unwrap();
            assert!(got.iter().all(|word| *word == got[0]), "torn: {got:?}");
            assert!(got[0] >> 8 >= last[key as usize], "{} after {}", got[0] >> 8, last[key as usize]);
        }
    }
    let lost = std::iter::from_fn(|| events.next_timeout(LONG)).find(|event| format!("{event:?}").contains("NodeLost"));
    assert!(lost.is_some(), "all hear of the loss");
    // What rank 1 had put is there as well: it got as far as 19.
    (0..20).for_each(|key| assert_eq!(dict.get(&(200 + key)).unwrap(), round(1, 19)));
    let keys = dict.keys().unwrap();
    assert!(keys.len() == 60 && dict.len().unwrap() == 60, "{} keys", keys.len());
    assert_eq!(dragon.finalize().unwrap_err().kind(), ErrorKind::NodeLost);
}

#[test]
fn a_node_that_is_left_with_too_few_refuses_and_does_not_hang() {
    let outputs = start("few", &[0, 1, 2]).outputs();
    assert!(outputs[0].status.success(), "{}", text(&outputs[0]));
}

fn few(dragon: Runtime) {
    let (dict, all) = replicated::<u64>(&dragon);
    (0..100).for_each(|key| dict.put(&key, &key).unwrap());
    all.wait().unwrap();
    if dragon.rank() != 0 {
        die();
    }
    let mut refused = 0;
    let begun = std::time::Instant::now();
    while refused < 200 {
        assert!(begun.elapsed() < LONG);
        for key in 0..100 {
            match dict.put(&key, &key) {
                Ok(()) => {}
                Err(error) => {
                    assert!(error.is_lost(), "{error}");
                    refused += 1;
                }
            }
        }
    }
    // Whichever of the two was lost first: others may have gone on without this node, if they were only cut off.
    let _ = (0..100).filter(|key| dict.get(key).is_ok()).count();
    assert_eq!(dragon.finalize().unwrap_err().kind(), ErrorKind::NodeLost);
}

#[test]
fn a_copy_that_was_lost_is_made_anew_on_another_node() {
    let outputs = start("twice", &[0, 1, 2, 3]).outputs();
    let well: Vec<bool> = outputs.iter().map(|output| output.status.success()).collect();
    assert_eq!(well, [true, false, false, true], "{}", outputs.iter().map(text).collect::<String>());
}

/// Node 1 dies, and when the copies are made anew node 2, which has the only ones that node 1 had not.
fn twice(dragon: Runtime) {
    let rank = dragon.rank();
    let copied = (rank == 2).then(Copied::hear);
    let (dict, all) = replicated::<u64>(&dragon);
    if rank == 0 {
        (0..2000).for_each(|key| dict.put(&key, &key).unwrap());
    }
    all.wait().unwrap();
    if rank == 1 {
        die();
    }
    // Its managers are 2 and 3. They are at node 2 then, which copies them to node 3.
    let lost = |key: &u64| [2, 3].contains(&dict.which_manager(key).unwrap());
    let keys: Vec<u64> = (0..2000).filter(lost).collect();
    let begun = std::time::Instant::now();
    if let Some(copied) = copied {
        (0..2).for_each(|_| copied.recv_timeout(LONG).expect("both managers are copied"));
        die();
    }
    // Until node 2 is lost.
    while keys.iter().all(|key| dict.put(key, &(key + 1)).is_ok()) {
        assert!(begun.elapsed() < LONG, "node 2 is not lost");
    }
    for key in keys {
        assert!([key, key + 1].contains(&dict.get(&key).unwrap()));
    }
    assert_eq!(dict.len().unwrap(), 2000);
    assert_eq!(dragon.finalize().unwrap_err().kind(), ErrorKind::NodeLost);
}
