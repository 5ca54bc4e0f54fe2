//! What objects count, read from inside by `stats` and from outside by `observe`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dragon::observe::{self, Counters, Job, ObjectKind, ObjectStats, ProcessPhase};
use dragon::sync::{Array, Barrier, Condvar, Event, Lock, RwLock, Semaphore, Value};
use dragon::{Channel, MemoryPool, Pool, Queue, Runtime};

/// The runtime, while no other test of this file has it: they look at all objects of the node.
fn alone() -> (MutexGuard<'static, ()>, Runtime) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (turn, dragon::init().unwrap())
}

fn only(dragon: &Runtime, kind: ObjectKind) -> ObjectStats {
    let all = dragon.stats().objects;
    let mut found = all.iter().filter(|object| object.kind == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind} among {all:?}")).clone();
    assert!(found.next().is_none(), "one {kind}: {all:?}");
    one
}

/// Waits until it is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        thread::yield_now();
    }
}

#[test]
fn queues_count_what_goes_through_them() {
    let (_turn, dragon) = alone();
    let bounded = Queue::<u64>::builder().capacity(100).name("with a bound").build().unwrap();
    let unbounded = Queue::<Vec<u8>>::builder().name("without").build().unwrap();
    for _ in 0..10 {
        bounded.put_many(0..100).unwrap();
        assert!(bounded.try_put(1).is_err());
        bounded.get_many(100).unwrap();
    }
    bounded.put_many(0..7).unwrap();
    for len in 0..2000 {
        unbounded.put(vec![1; len % 300]).unwrap();
    }
    unbounded.get_many(1500).unwrap();
    let stats = dragon.stats();
    assert_eq!(stats.objects.len(), 2, "the pieces of a queue are no objects of their own: {:?}", stats.objects);
    let one = stats.object("with a bound").unwrap();
    assert_eq!((one.kind, one.len, one.capacity, one.open_in), (ObjectKind::Queue, Some(7), Some(100), 1));
    let Counters { puts, gets, bytes, high_water, waits, deaths, .. } = one.counters;
    assert_eq!((puts, gets, bytes, waits, deaths), (1007, 1000, 8 * 1007, 0, 0));
    assert!((37..=100).contains(&high_water), "looked at once in 64: {high_water}");
    let other = stats.object("without").unwrap();
    assert_eq!((other.kind, other.len, other.capacity), (ObjectKind::Queue, Some(500), None));
    assert_eq!((other.counters.puts, other.counters.gets), (2000, 1500));
    // A message of bytes is as long as its bytes, and its length before them.
    let least: usize = (0..2000).map(|len| len % 300).sum();
    assert!((least as u64..least as u64 + 2 * 2000 + 16_000).contains(&other.counters.bytes), "{:?}", other.counters);
    assert!(other.counters.high_water > 2000 - 64);
    unbounded.close();
    assert!(dragon.stats().object("without").unwrap().closed);
    drop((bounded, unbounded));
    assert!(dragon.stats().objects.is_empty());
}

#[test]
fn bytes_of_many_threads_are_all_counted() {
    let (_turn, dragon) = alone();
    for make in [|| Queue::<[u8; 24]>::bounded(64), Queue::unbounded] {
        let queue = make().unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..5000).for_each(|n| queue.put([n as u8; 24]).unwrap()));
            }
            scope.spawn(|| (0..15_000).for_each(|_| assert_eq!(queue.get().unwrap().len(), 24)));
        });
        let Counters { puts, gets, bytes, .. } = only(&dragon, ObjectKind::Queue).counters;
        // A slot that its sender gave up, because the queue was growing just then, counts as put and taken.
        let about = 15_000..15_100;
        assert!(puts == gets && about.contains(&puts) && bytes == 24 * 15_000, "{puts} {gets} {bytes}");
    }
}

#[test]
fn every_kind_of_object_is_seen_with_what_it_counted() {
    let (_turn, dragon) = alone();
    let (lock, rwlock, semaphore) = (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::bounded(5).unwrap());
    let (barrier, event, condvar) = (Barrier::new(1).unwrap(), Event::new().unwrap(), Condvar::new().unwrap());
    let (value, array) = (Value::new([1_u64; 4]).unwrap(), Array::<u32>::zeroed(10).unwrap());
    let (channel, memory) = (Channel::create(4, 64).unwrap(), MemoryPool::create("memory", 1 << 20).unwrap());
    for _ in 0..3 {
        drop(lock.lock().unwrap());
        drop((rwlock.read().unwrap(), rwlock.read().unwrap()));
        drop(rwlock.write().unwrap());
        semaphore.acquire().unwrap();
        barrier.wait().unwrap();
        event.set().unwrap();
        event.clear().unwrap();
        condvar.notify_all().unwrap();
        value.set([7; 4]).unwrap();
        drop(array.lock().unwrap());
        channel.send(b"bytes").unwrap();
    }
    semaphore.release(1).unwrap();
    event.set().unwrap();
    let (_held, _block) = (lock.lock().unwrap(), memory.alloc(1000).unwrap());
    let is = |kind, len, capacity, puts, gets| {
        let seen = only(&dragon, kind);
        let counted = (seen.len, seen.capacity, seen.counters.puts, seen.counters.gets);
        assert_eq!(counted, (len, capacity, puts, gets), "{kind}");
        assert_eq!((seen.open_in, seen.counters.deaths), (1, 0));
    };
    is(ObjectKind::Lock, Some(1), None, 0, 4);
    is(ObjectKind::RwLock, Some(0), None, 3, 6);
    is(ObjectKind::Semaphore, Some(3), Some(5), 1, 3);
    is(ObjectKind::Barrier, Some(0), Some(1), 0, 3);
    is(ObjectKind::Event, Some(1), None, 4, 0);
    is(ObjectKind::Condvar, None, None, 3, 0);
    is(ObjectKind::Value, None, None, 4, 0); // its first value included
    is(ObjectKind::Array, Some(0), None, 0, 3);
    is(ObjectKind::Channel, Some(3), Some(4), 3, 0);
    assert_eq!(only(&dragon, ObjectKind::Channel).counters.bytes, 15);
    is(ObjectKind::MemoryPool, Some(1), None, 0, 0);
    assert_eq!(dragon.stats().object("memory").unwrap().kind, ObjectKind::MemoryPool);
}

#[test]
fn waiting_and_waking_is_counted_where_somebody_sleeps() {
    let (_turn, dragon) = alone();
    let queue = Queue::<u8>::bounded(1).unwrap();
    let counters = || only(&dragon, ObjectKind::Queue).counters;
    thread::scope(|scope| {
        scope.spawn(|| queue.get().unwrap());
        until("the consumer sleeps", || counters().waits == 1);
        assert_eq!((counters().wakes, counters().high_water), (0, 0));
        queue.put(1).unwrap();
    });
    assert_eq!((counters().waits, counters().wakes), (1, 1));
    queue.put(2).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| queue.put(3).unwrap());
        until("the producer sleeps", || counters().waits == 2);
        assert_eq!(queue.get().unwrap(), 2);
    });
    assert_eq!((counters().waits, counters().wakes, counters().high_water), (2, 2, 1));
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(lock.lock().unwrap()));
        until("somebody sleeps at the lock", || only(&dragon, ObjectKind::Lock).counters.waits == 1);
        drop(guard);
    });
    assert_eq!(only(&dragon, ObjectKind::Lock).counters.wakes, 1);
}

#[test]
fn deaths_are_counted_by_what_the_dead_had_open_and_processes_are_listed() {
    let (_turn, dragon) = alone();
    let (known, unknown) = (Queue::<u32>::builder().capacity(2).name("known").build().unwrap(), Lock::new().unwrap());
    let pool = Pool::new(2).unwrap();
    for deaths in 1..=3 {
        let pid = pool.submit(|known: Queue<u32>| known.put(std::process::id()).unwrap(), known.clone());
        pid.unwrap().get().unwrap();
        let pid = known.get().unwrap();
        let task = pool.submit(|known: Queue<u32>| while known.get().is_ok() {}, known.clone()).unwrap();
        until("the task has the queue open", || dragon.stats().object("known").unwrap().open_in == 2);
        let stats = dragon.stats();
        let parent = stats.processes.iter().find(|process| process.parent.is_none()).unwrap();
        assert!(parent.pid == std::process::id() && parent.phase == ProcessPhase::Running && parent.objects >= 2);
        assert!(stats.processes.iter().any(|process| process.pid == pid && process.parent == Some(parent.pid)));
        let busy = pool.workers().into_iter().find(|worker| worker.state == dragon::WorkerState::Busy).unwrap();
        // SAFETY: a child of this process that waits in a task.
        assert_eq!(unsafe { libc::kill(busy.pid as i32, libc::SIGKILL) }, 0);
        assert!(task.get().unwrap_err().is_lost());
        assert_eq!(dragon.stats().object("known").unwrap().counters.deaths, deaths);
    }
    assert_eq!(only(&dragon, ObjectKind::Lock).counters.deaths, 0);
    drop(unknown);
}

// ---- from outside -------------------------------------------------------------------------------------------------------

/// A program of its own with a queue that fills while it is told to.
fn shown() {
    let _dragon = dragon::init().unwrap();
    let queue = Queue::<u64>::builder().name("shown").capacity(1000).build().unwrap();
    let _pool = Pool::new(2).unwrap();
    println!("ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        queue.put_many(0..line.parse().unwrap()).unwrap();
        println!("done");
    }
}

struct Shown(Child, Box<dyn Iterator<Item = String>>);

impl Shown {
    fn start(backing: &str) -> Shown {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_job_is_seen_from_outside_and_does_not_notice", "--nocapture"])
            .env("DRAGON_TEST_SHOWN", "1")
            .env("DRAGON_SHM", backing)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut shown = Shown(child, Box::new(lines));
        shown.hear("ready");
        shown
    }

    fn hear(&mut self, word: &str) {
        assert!(self.1.any(|line| line.ends_with(word)), "it ended before it said {word}");
    }

    fn put(&mut self, messages: u64) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{messages}").unwrap();
        self.hear("done");
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_job_is_seen_from_outside_and_does_not_notice() {
    if std::env::var_os("DRAGON_TEST_SHOWN").is_some() {
        return shown();
    }
    for backing in ["memfd", "named"] {
        let mut shown = Shown::start(backing);
        let job = Job::of_process(shown.0.id()).unwrap();
        assert!(observe::jobs().iter().any(|other| other.id() == job.id()), "with {backing}");
        let puts = || job.stats().object("shown").unwrap().counters.puts;
        assert_eq!(puts(), 0);
        shown.put(10);
        assert_eq!(puts(), 10);
        shown.put(300);
        let stats = job.stats();
        assert_eq!((puts(), stats.object("shown").unwrap().len), (310, Some(310)));
        assert!(stats.memory.in_use > 1000 && stats.memory.committed >= stats.memory.in_use, "{:?}", stats.memory);
        let running = || job.stats().processes.into_iter().filter(|process| process.phase == ProcessPhase::Running);
        until("both workers have begun", || running().count() == 3);
        assert_eq!(job.stats().processes.len(), 3);
        let worker = running().find(|process| process.parent.is_some()).unwrap().pid;
        assert_eq!(Job::of_process(worker).unwrap().id(), job.id(), "any of its processes leads to it");
        assert!(!job.is_over());
        shown.0.kill().unwrap();
        shown.0.wait().unwrap();
        until("its workers have gone too", || job.is_over());
        assert_eq!(puts(), 310, "what was there can still be read");
    }
}

#[test]
fn what_is_no_job_is_named() {
    let mut other = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let error = Job::of_process(other.id()).unwrap_err();
    assert!(error.kind() == dragon::ErrorKind::NotFound && error.to_string().contains(&other.id().to_string()));
    drop(other.stdin.take());
    other.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    other.wait().unwrap();
    assert_eq!(Job::of_process(u32::MAX).unwrap_err().kind(), dragon::ErrorKind::NotFound);
}
