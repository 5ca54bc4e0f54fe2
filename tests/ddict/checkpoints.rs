//! Checkpoints: what is seen at which, and who waits for whom.

use dragon::{DDict, ErrorKind, Pool};

use super::{LONG, SHORT, alone};

fn dict(window: u32) -> DDict<String, u64> {
    DDict::builder().working_set(window).managers_per_node(2).build().unwrap()
}

fn waiting(window: u32) -> DDict<String, u64> {
    DDict::builder().working_set(window).wait_for_keys(true).build().unwrap()
}

fn key(name: &str) -> String {
    name.into()
}

/// 98.
#[test]
fn a_key_has_a_value_at_each_checkpoint() {
    let (_turn, _dragon) = alone();
    let dict = dict(3);
    assert_eq!((dict.checkpoint_id(), dict.rollback()), (0, 0));
    dict.put(&key("a"), &1).unwrap();
    dict.put(&key("b"), &1).unwrap();
    assert_eq!(dict.checkpoint(), 1);
    assert_eq!(dict.get(&key("a")).unwrap(), 1, "what was put before is still seen");
    dict.put(&key("a"), &2).unwrap();
    dict.remove(&key("b")).unwrap();
    dict.put(&key("c"), &2).unwrap();
    let seen = || ["a", "b", "c"].map(|name| dict.try_get(&key(name)).unwrap());
    assert_eq!((seen(), dict.len().unwrap()), ([Some(2), None, Some(2)], 2));
    dict.rollback();
    assert_eq!((seen(), dict.len().unwrap()), ([Some(1), Some(1), None], 2));
    // Writes at an earlier one are seen there, and from there on until the next.
    dict.put(&key("a"), &10).unwrap();
    dict.put(&key("d"), &10).unwrap();
    assert_eq!(dict.get(&key("a")).unwrap(), 10);
    dict.checkpoint();
    assert_eq!((seen(), dict.get(&key("d")).unwrap()), ([Some(2), None, Some(2)], 10));
    let mut keys = dict.keys().unwrap();
    keys.sort();
    assert_eq!(keys, ["a", "c", "d"]);
}

/// 99.
#[test]
fn with_one_checkpoint_the_keys_stay() {
    let (_turn, _dragon) = alone();
    let dict = dict(1);
    let other = dict.clone();
    dict.put(&key("a"), &1).unwrap();
    dict.put(&key("b"), &1).unwrap();
    dict.checkpoint();
    assert_eq!(dict.len().unwrap(), 2);
    dict.put(&key("a"), &2).unwrap();
    assert_eq!((dict.len().unwrap(), dict.get(&key("a")).unwrap(), dict.get(&key("b")).unwrap()), (2, 2, 1));
    assert_eq!(other.get(&key("a")).unwrap_err().kind(), ErrorKind::CheckpointRetired);
    assert_eq!(other.put(&key("a"), &3).unwrap_err().kind(), ErrorKind::CheckpointRetired);
    assert_eq!((other.sync_to_newest().unwrap(), other.get(&key("a")).unwrap()), (1, 2));
}

/// 100, 106.
#[test]
fn a_retired_checkpoint_is_refused() {
    let (_turn, _dragon) = alone();
    let dict = dict(2);
    let late = dict.clone();
    for n in 0..5 {
        dict.put(&key("a"), &n).unwrap();
        dict.put(&key(&n.to_string()), &n).unwrap();
        if n < 4 {
            dict.checkpoint();
        }
    }
    for error in [
        late.get(&key("a")).unwrap_err(),
        late.put(&key("a"), &9).unwrap_err(),
        late.remove(&key("a")).unwrap_err(),
        late.contains(&key("a")).unwrap_err(),
        late.keys().unwrap_err(),
        late.len().unwrap_err(),
        late.get_ref(&key("a")).unwrap_err(),
        late.iter().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::CheckpointRetired, "{error}");
        assert!(error.to_string().contains("3 to 4"), "{error}");
    }
    dict.rollback();
    assert_eq!((dict.get(&key("a")).unwrap(), dict.len().unwrap()), (3, 5));
    assert_eq!(late.sync_to_newest().unwrap(), 4);
    assert_eq!((late.get(&key("a")).unwrap(), late.get(&key("0")).unwrap(), late.len().unwrap()), (4, 0, 6));
}

#[test]
fn retired_values_give_their_memory_back() {
    let (_turn, _dragon) = alone();
    let dict: DDict<u64, Vec<u8>> = DDict::builder().working_set(2).memory_per_node(8 << 20).build().unwrap();
    let in_use = |dict: &DDict<u64, Vec<u8>>| dict.stats().unwrap().managers[0].in_use;
    let mut after_two = 0;
    for step in 0..20 {
        (0..100).for_each(|n| dict.put(&n, &vec![step; 10_000]).unwrap());
        (0..1000).for_each(|n| dict.put(&(1000 + n), &vec![step; 100]).unwrap());
        if step == 2 {
            after_two = in_use(&dict);
        }
        assert!(step <= 2 || in_use(&dict) <= after_two, "{step}: {} and {after_two} before", in_use(&dict));
        dict.checkpoint();
    }
}

/// 101.
#[test]
fn one_waits_for_a_key_of_a_checkpoint() {
    let (_turn, _dragon) = alone();
    let dict = waiting(2);
    let pool = Pool::new(1).unwrap();
    dict.put(&key("a"), &1).unwrap();
    dict.checkpoint();
    // Who gets first waits.
    assert!(dict.get_timeout(&key("a"), SHORT).unwrap_err().is_timeout());
    assert_eq!(dict.try_get(&key("a")).unwrap(), None);
    let getting = pool.submit(|dict: DDict<String, u64>| dict.get(&"a".into()).unwrap(), dict.clone()).unwrap();
    assert!(getting.get_timeout(SHORT).is_err_and(|error| error.is_timeout()));
    dict.put(&key("a"), &2).unwrap();
    assert_eq!(getting.get_timeout(LONG).unwrap(), 2);
    // Who gets after does not.
    assert_eq!(dict.get(&key("a")).unwrap(), 2);
}

/// 102.
#[test]
fn waiting_is_for_values_and_not_for_looks() {
    let (_turn, _dragon) = alone();
    let dict = waiting(2);
    dict.put_persistent(&key("p"), &1).unwrap();
    dict.put(&key("a"), &1).unwrap();
    assert_eq!(dict.len().unwrap(), 2);
    dict.checkpoint();
    assert!(!dict.contains(&key("a")).unwrap() && dict.contains(&key("p")).unwrap());
    assert_eq!((dict.len().unwrap(), dict.keys().unwrap()), (1, vec![key("p")]));
    dict.put(&key("b"), &2).unwrap();
    let mut keys = dict.keys().unwrap();
    keys.sort();
    assert_eq!(keys, ["b", "p"]);
    dict.rollback();
    assert_eq!(dict.len().unwrap(), 2);
}

/// 103.
#[test]
fn a_put_ahead_of_the_working_set_waits_until_the_oldest_is_complete() {
    let (_turn, _dragon) = alone();
    let dict = waiting(2);
    let pool = Pool::new(2).unwrap();
    dict.put(&key("a"), &0).unwrap();
    dict.put(&key("b"), &0).unwrap();
    let ahead = |dict: DDict<String, u64>| {
        dict.set_checkpoint_id(2);
        dict.put(&"a".into(), &2).unwrap();
        dict.put(&"a".into(), &22).unwrap();
        dict.get(&"a".into()).unwrap()
    };
    let putting = pool.submit(ahead, dict.clone()).unwrap();
    assert!(putting.get_timeout(SHORT).is_err_and(|error| error.is_timeout()));
    dict.checkpoint();
    dict.put(&key("a"), &1).unwrap();
    assert!(putting.get_timeout(SHORT).is_err_and(|error| error.is_timeout()), "b is still missing at 1");
    dict.put(&key("b"), &1).unwrap();
    assert_eq!(putting.get_timeout(LONG).unwrap(), 22);
    assert_eq!(dict.get(&key("a")).unwrap(), 1);
    dict.rollback();
    assert_eq!(dict.get(&key("a")).unwrap_err().kind(), ErrorKind::CheckpointRetired);
}

/// 104.
#[test]
fn a_persistent_key_is_seen_until_it_is_removed() {
    let (_turn, _dragon) = alone();
    let dict = waiting(3);
    dict.put_persistent(&key("p"), &1).unwrap();
    dict.checkpoint();
    assert_eq!(dict.get(&key("p")).unwrap(), 1);
    assert_eq!(dict.pop(&key("p")).unwrap(), 1);
    assert!(!dict.contains(&key("p")).unwrap());
    dict.checkpoint();
    assert!(!dict.contains(&key("p")).unwrap());
    dict.put(&key("p"), &3).unwrap();
    assert_eq!(dict.get(&key("p")).unwrap(), 3);
    dict.checkpoint();
    assert!(!dict.contains(&key("p")).unwrap(), "it was put at one checkpoint only");
    dict.set_checkpoint_id(0);
    assert_eq!(dict.get(&key("p")).unwrap(), 1);
}

/// 105.
#[test]
fn one_waits_for_writers_to_go_on() {
    let (_turn, _dragon) = alone();
    let dict: DDict<String, u64> = DDict::builder().working_set(2).wait_for_writers(true).build().unwrap();
    let pool = Pool::new(2).unwrap();
    let slow = dict.clone();
    slow.put(&key("slow"), &0).unwrap();
    let fast = |dict: DDict<String, u64>| {
        for step in 0..3 {
            dict.put(&"fast".into(), &step).unwrap();
            dict.checkpoint();
        }
    };
    let running = pool.submit(fast, dict.clone()).unwrap();
    assert!(running.get_timeout(SHORT).is_err_and(|error| error.is_timeout()), "the slow one has written at 0");
    slow.checkpoint();
    running.get_timeout(LONG).unwrap();
    // One that dies is not waited for.
    let die = |dict: DDict<String, u64>| -> u64 {
        dict.put(&"dying".into(), &1).unwrap();
        std::process::abort()
    };
    dict.sync_to_newest().unwrap();
    drop(slow);
    assert!(pool.submit(die, dict.clone()).unwrap().get().unwrap_err().is_lost());
    for step in 0..4 {
        dict.put(&key("after"), &step).unwrap();
        dict.checkpoint();
    }
}
