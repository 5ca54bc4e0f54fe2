//! Everything that a process can do to queues, in a process that may be killed at any point of it.

use dragon::{Pool, Queue};

/// Uses queues of every sort, alone and with a worker of `pool`. Returns the same whenever it lives.
pub fn exercise(pool: &Pool) -> u64 {
    let mut sum = 0;
    for bounded in [true, false] {
        let builder = || if bounded { Queue::builder().capacity(700) } else { Queue::builder() };
        // Enough that an unbounded one needs three pieces and gives two of them back.
        let queue: Queue<u64> = builder().joinable().build().unwrap();
        queue.put_many(0..700).unwrap();
        let work = |queue: Queue<u64>| {
            let got = queue.get_many(600).unwrap();
            got.iter().for_each(|_| queue.task_done().unwrap());
            got.iter().sum::<u64>()
        };
        sum += pool.submit(work, queue.clone()).unwrap().get().unwrap();
        sum += work(queue.clone());
        queue.join().unwrap();
        queue.put(7).unwrap();
        queue.close();
        sum += queue.iter().map(Result::unwrap).sum::<u64>();
        sum += carry(pool, bounded);
    }
    // Two processes of this test may be here at the same time, so the name is this one's own.
    let name = format!("exercised by {}", std::process::id());
    let named = Queue::<u64>::builder().capacity(1).name(&name).build().unwrap();
    Queue::<u64>::open(&name).unwrap().put(3).unwrap();
    sum + named.get().unwrap()
}

/// Handles in messages: taken out here, taken out by a worker, returned by it, and left in a queue that ends.
fn carry(pool: &Pool, bounded: bool) -> u64 {
    let make = |n: u64| {
        let carried = if n.is_multiple_of(2) { Queue::bounded(2) } else { Queue::unbounded() }.unwrap();
        carried.put(n).unwrap();
        carried
    };
    let outer = if bounded { Queue::bounded(8) } else { Queue::unbounded() }.unwrap();
    (0..8).for_each(|n| outer.put((make(n), vec![n; 100 * n as usize])).unwrap());
    let take = |outer: Queue<(Queue<u64>, Vec<u64>)>| outer.get().unwrap().0;
    let returned = pool.submit(take, outer.clone()).unwrap().get().unwrap();
    returned.get().unwrap() + take(outer.clone()).get().unwrap() + take(outer).get().unwrap()
}
