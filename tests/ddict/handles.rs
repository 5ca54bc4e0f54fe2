//! Handles that travel, names, handles as values; and what is left when the last is gone.

use dragon::{DDict, ErrorKind, Pool, Queue};

use super::{LONG, alone, in_use, small, wait_for};

/// 91.
#[test]
fn other_processes_see_what_is_put_also_when_its_maker_is_gone() {
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    let pool = Pool::new(2).unwrap();
    pool.map(|x: u64| x, 0..10).unwrap();
    let make = |()| {
        let dict = small(2);
        (0..100).for_each(|n| dict.put(&n, &vec![n as u8; 3000]).unwrap());
        dict
    };
    let dict = pool.submit(make, ()).unwrap().get_timeout(LONG).unwrap();
    pool.kill().unwrap();
    drop(pool);
    let pool = Pool::new(2).unwrap();
    let read = |dict: &DDict<u64, Vec<u8>>, n: u64| dict.get(&n).unwrap();
    let values = pool.map_with(&dict, read, 0..100).unwrap();
    assert!(values.iter().enumerate().all(|(n, value)| *value == vec![n as u8; 3000]));
    drop((dict, values));
    pool.close();
    pool.join().unwrap();
    drop(pool);
    wait_for(&dragon, before);
}

#[test]
fn a_dictionary_has_a_name_and_its_types() {
    let (_turn, _dragon) = alone();
    let dict: DDict<u64, String> = DDict::builder().name("words of the test").build().unwrap();
    dict.put(&1, &"one".into()).unwrap();
    assert_eq!(DDict::<u64, String>::open("words of the test").unwrap().get(&1).unwrap(), "one");
    assert_eq!(DDict::<u64, u64>::open("words of the test").unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(Queue::<u64>::open("words of the test").unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(DDict::<u64, u64>::open("no words").unwrap_err().kind(), ErrorKind::NotFound);
    let again = DDict::<u64, u64>::builder().name("words of the test").build();
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Exists);
    drop(dict);
    assert_eq!(DDict::<u64, String>::open("words of the test").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_in_a_queue_or_a_dictionary_lives() {
    let (_turn, dragon) = alone();
    let before = in_use(&dragon);
    let outer: DDict<u64, DDict<u64, Vec<u8>>> = DDict::new().unwrap();
    let queues: DDict<u64, (Queue<u64>, String)> = DDict::new().unwrap();
    let messages: Queue<DDict<u64, Vec<u8>>> = Queue::unbounded().unwrap();
    for n in 0..5 {
        let inner = small(1);
        inner.put(&n, &vec![1; 20_000]).unwrap();
        outer.put(&n, &inner).unwrap();
        messages.put(inner).unwrap();
        let queue = Queue::unbounded().unwrap();
        queue.put(n).unwrap();
        queues.put(&n, &(queue, format!("queue {n}"))).unwrap();
    }
    let pool = Pool::new(1).unwrap();
    let read = |outer: &DDict<u64, DDict<u64, Vec<u8>>>, n: u64| outer.get(&n).unwrap().get(&n).unwrap().len();
    assert_eq!(pool.map_with(&outer, read, 0..5).unwrap(), [20_000; 5]);
    assert_eq!(messages.get().unwrap().get(&0).unwrap().len(), 20_000);
    assert_eq!(queues.get(&3).unwrap().0.get().unwrap(), 3);
    // Replaced, removed, and left: each lets go of what only it kept alive.
    let reference = queues.get_ref(&1).unwrap();
    queues.put(&1, &(Queue::unbounded().unwrap(), "another".into())).unwrap();
    queues.remove(&2).unwrap();
    outer.remove(&2).unwrap();
    drop((reference, queues, outer, messages));
    pool.close();
    pool.join().unwrap();
    drop(pool);
    wait_for(&dragon, before);
}

/// 114.
#[test]
fn settings_that_make_no_sense_are_refused() {
    let (_turn, _dragon) = alone();
    let builder = DDict::<u64, u64>::builder;
    for wrong in [
        builder().managers_per_node(0),
        builder().managers_per_node(1025),
        builder().working_set(0),
        builder().wait_for_keys(true),
        builder().wait_for_writers(true),
        builder().name(""),
        builder().persist(dragon::Persist::posix("/tmp")),
        builder().name("x").persist(dragon::Persist::posix("/tmp").every(0)),
        builder().name("x").persist(dragon::Persist::posix("/tmp").keep(0)),
    ] {
        assert_eq!(wrong.build().unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
