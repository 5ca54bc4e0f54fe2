//! Many messages in one call, and many things in one wait.

#[path = "common/until.rs"]
mod until;

use std::thread;
use std::time::Duration;

use dragon::sync::Event;
use dragon::{Channel, ErrorKind, Pool, ProcessWatch, Queue, Selector};
use until::{named, sleeps, until};

#[test]
fn of_many_messages_none_is_lost_when_the_queue_closes_on_the_way() {
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<u32>::bounded(4).unwrap();
    let refused = thread::scope(|scope| {
        let putting = scope.spawn(|| queue.put_many(0..10).unwrap_err());
        while !queue.is_full() {
            thread::yield_now();
        }
        queue.close();
        putting.join().unwrap()
    });
    assert!(refused.kind() == ErrorKind::Closed && refused.sent() == 4, "{refused:?}");
    assert_eq!(refused.into_unsent(), (4..10).collect::<Vec<_>>());
    assert_eq!(queue.get_many(10).unwrap(), [0, 1, 2, 3]);
    assert!(queue.get_many(10).unwrap_err().error().is_closed());
}

#[test]
fn an_iterator_that_does_not_know_its_length_may_wait_for_what_was_put() {
    let _dragon = dragon::init().unwrap();
    let (queue, mut next) = (Queue::<u32>::unbounded().unwrap(), 0);
    let one_by_one = std::iter::from_fn(|| {
        assert_eq!(queue.len(), next as usize, "each is put before the next is asked for");
        next += 1;
        (next <= 100).then_some(next)
    });
    assert_eq!(queue.put_many(one_by_one).unwrap(), 100);
}

#[test]
fn many_messages_of_all_lengths_and_with_handles_come_in_order() {
    let _dragon = dragon::init().unwrap();
    let letter =
        |n: u64| (n, Some(Queue::<u8>::bounded(1).unwrap()).filter(|_| n.is_multiple_of(7)), vec![n; n as usize]);
    for queue in [Queue::bounded(10).unwrap(), Queue::unbounded().unwrap()] {
        thread::scope(|scope| {
            scope.spawn(|| queue.put_many((0..300).map(letter).collect::<Vec<_>>()).unwrap());
            let mut expected = 0;
            while expected < 300 {
                for (n, handle, numbers) in queue.get_many(17).unwrap() {
                    assert!(n == expected && handle.is_some() == n.is_multiple_of(7) && numbers == vec![n; n as usize]);
                    expected += 1;
                }
            }
        });
    }
    let bytes = |n: usize| vec![n as u8; if n.is_multiple_of(5) { 1000 } else { n % 100 }];
    for queue in [Queue::<Vec<u8>>::bounded(10).unwrap(), Queue::unbounded().unwrap()] {
        thread::scope(|scope| {
            scope.spawn(|| queue.put_many((0..1000).map(bytes).collect::<Vec<_>>()).unwrap());
            let mut got = Vec::new();
            while got.len() < 1000 {
                got.extend(queue.get_many(100).unwrap());
            }
            assert!(got.iter().enumerate().all(|(n, message)| *message == bytes(n)));
        });
    }
}

#[test]
fn one_thread_waits_for_queues_events_tasks_and_processes_at_once() {
    let _dragon = dragon::init().unwrap();
    let (pool, other) = (Pool::new(1).unwrap(), Pool::new(1).unwrap());
    let (queue, event) =
        (Queue::<u64>::builder().capacity(1).name("waited for").build().unwrap(), Event::new().unwrap());
    let (channel, go) = (Channel::create(1, 8).unwrap(), Queue::<u64>::bounded(1).unwrap());
    let worker = ProcessWatch::of(pool.workers()[0].pid).unwrap();
    let task = other.submit(|go: Queue<u64>| go.get().unwrap(), go.clone()).unwrap();
    let mut selector = Selector::new();
    let sources = [
        selector.add(&queue),
        selector.add(&event),
        selector.add(&channel),
        selector.add(&task.watch()),
        selector.add(&worker),
    ];
    assert_eq!(selector.try_select().unwrap_err().kind(), ErrorKind::Empty);
    assert_eq!(selector.select_timeout(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::TimedOut);
    let after = |what: &(dyn Fn() + Sync)| {
        let before = sleeps(named("waited for"));
        thread::scope(|scope| {
            let selecting = scope.spawn(|| selector.select_timeout(Duration::from_secs(20)).unwrap());
            until("it sleeps", || sleeps(named("waited for")) > before);
            what();
            selecting.join().unwrap()
        })
    };
    assert_eq!(after(&|| queue.put(7).unwrap()), sources[0]);
    assert_eq!(queue.get().unwrap(), 7);
    assert_eq!(after(&|| event.set().unwrap()), sources[1]);
    event.clear().unwrap();
    assert_eq!(after(&|| channel.send(b"x").unwrap()), sources[2]);
    channel.recv().unwrap();
    assert_eq!(after(&|| go.put(8).unwrap()), sources[3]);
    assert_eq!(task.try_get().unwrap().unwrap(), 8);
    // The task stays done; whoever waits for the process alone hears of its end.
    let mut selector = Selector::new();
    let (_, over) = (selector.add(&queue), selector.add(&worker));
    let ended = thread::scope(|scope| {
        let selecting = scope.spawn(|| selector.select_timeout(Duration::from_secs(20)).unwrap());
        // SAFETY: a child of this process, which is killed for the test.
        assert_eq!(unsafe { libc::kill(worker.pid() as i32, libc::SIGKILL) }, 0);
        selecting.join().unwrap()
    });
    assert_eq!(ended, over);
    worker.wait_timeout(Duration::from_secs(20)).unwrap();
    assert!(worker.is_over());
    assert_eq!(ProcessWatch::of(u32::MAX).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(ProcessWatch::of(std::process::id()).unwrap().wait_timeout(Duration::from_millis(5)).is_err());
}
