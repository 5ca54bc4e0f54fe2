//! Nothing is held longer than it is used: the node's memory is back to where it was.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dragon::{Channel, Pool};

/// Tests here look at figures of the whole node, so one runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn large_items_and_results_travel_through_shared_memory_and_are_given_back() {
    let _alone = alone();
    let dragon = dragon::init().unwrap();
    let pool = Pool::new(2).unwrap();
    let idle = dragon.stats().memory.in_use;
    let sizes = [0_usize, 1, 100, 70_000, 3 << 20];
    let items: Vec<Vec<u64>> = sizes.iter().map(|&n| (0..n as u64).collect()).collect();
    let reversed = pool
        .chunk(1)
        .map(
            |mut v: Vec<u64>| {
                v.reverse();
                v
            },
            items.clone(),
        )
        .unwrap();
    for (mut back, item) in reversed.into_iter().zip(items) {
        back.reverse();
        assert_eq!(back, item);
    }
    assert_eq!(dragon.stats().memory.in_use, idle, "every block came back");
}

#[test]
fn a_channel_travels_in_a_tasks_argument_and_its_messages_are_given_back_with_it() {
    let _alone = alone();
    let dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    pool.map(|x: u8| x, [1]).unwrap();
    let idle = dragon.stats().memory.in_use;
    let channel = Channel::create(16, 64).unwrap();
    let task = pool.submit(
        |channel: Channel| {
            for k in 0..10_u64 {
                channel.send(&vec![k as u8; 10_000]).unwrap();
            }
        },
        channel.clone(),
    );
    task.unwrap().get().unwrap();
    for k in 0..4_u8 {
        assert_eq!(*channel.recv().unwrap(), vec![k; 10_000]);
    }
    drop(channel);
    assert_eq!(dragon.stats().memory.in_use, idle, "six messages were left in it");
}

#[test]
fn contexts_streams_errors_and_pools_give_back_what_they_took() {
    let _alone = alone();
    let dragon = dragon::init().unwrap();
    let empty = dragon.stats().memory.in_use;
    let pool = Pool::new(2).unwrap();
    pool.map(|x: u8| x, 0..9).unwrap();
    let idle = dragon.stats().memory.in_use;
    let table: Vec<u64> = (0..50_000).collect();
    assert_eq!(pool.map_with(&table, |t: &Vec<u64>, at: usize| t[at], [7, 49_999]).unwrap(), [7, 49_999]);
    assert!(pool.chunk(1).map(|v: Vec<u8>| assert!(v.len() < 90_000), (0..40).map(|k| vec![0; k * 10_000])).is_err());
    let mut stream = pool.imap(|v: Vec<u8>| v, (0..100).map(|_| vec![1; 100_000])).unwrap();
    assert!(stream.next().unwrap().is_ok());
    drop(stream);
    pool.close();
    pool.join().unwrap();
    let joined = dragon.stats().memory.in_use;
    assert!(joined <= idle, "{joined} bytes are held after the end, {idle} were before the work");
    drop(pool);
    assert_eq!(dragon.stats().memory.in_use, empty);
    assert_eq!(dragon.stats().processes.len(), 1);
}
