//! Semantic cases 48 to 60 of a pool, from outside. The number of the case stands at each test.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use dragon::{ErrorKind, Pool};

fn pool(workers: usize) -> (dragon::Runtime, Pool) {
    (dragon::init().unwrap(), Pool::new(workers).unwrap())
}

/// A task that takes time for itself, as a computation would.
fn doze(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn square_slowly((x, millis): (u64, u64)) -> u64 {
    doze(millis);
    x * x
}

#[test]
fn case_48_a_submitted_task_delivers_when_it_is_done() {
    let (_dragon, pool) = pool(2);
    let begin = Instant::now();
    let task = pool.submit(square_slowly, (7, 300)).unwrap();
    assert_eq!(task.get().unwrap(), 49);
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[test]
fn case_49_a_timeout_leaves_task_and_pool_usable() {
    let (_dragon, pool) = pool(1);
    let task = pool.submit(square_slowly, (9, 400)).unwrap();
    let error = task.get_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.is_timeout() && error.to_string().contains("square_slowly"), "{error}");
    assert_eq!(task.get().unwrap(), 81);
    pool.close();
    pool.join().unwrap();
}

#[test]
fn case_50_asynchronous_maps_equal_sequential_ones() {
    let (_dragon, pool) = pool(3);
    let expected: Vec<i64> = (0..10).map(|x| x * x).collect();
    assert_eq!(pool.map_async(|x: i64| x * x, 0..10).unwrap().get().unwrap(), expected);
    let expected: Vec<i64> = (0..100).map(|x| x * x).collect();
    assert_eq!(pool.chunk(20).map_async(|x: i64| x * x, 0..100).unwrap().get().unwrap(), expected);
    assert_eq!(pool.map_async(|x: i64| x, []).unwrap().get().unwrap(), []);
    assert_eq!(pool.map(|x: i64| x, []).unwrap(), []);
}

#[test]
fn case_51_terminate_does_not_wait_for_queued_work() {
    let (_dragon, pool) = pool(2);
    let tasks: Vec<_> = (0..100).map(|x| pool.submit(square_slowly, (x, 100)).unwrap()).collect();
    let begin = Instant::now();
    pool.terminate(Duration::from_millis(200)).unwrap();
    pool.join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let given_up = tasks.into_iter().filter_map(|task| task.get().err()).collect::<Vec<_>>();
    assert!(given_up.len() >= 90);
    assert!(given_up.iter().all(dragon::Error::is_cancelled));
}

#[test]
fn case_52_a_panic_is_the_tasks_error_and_the_worker_lives_on() {
    let (_dragon, pool) = pool(1);
    let before = pool.submit(|()| std::process::id(), ()).unwrap().get().unwrap();
    let (heard, hears) = mpsc::channel();
    let task = pool.submit(|x: u32| if x == 3 { panic!("no {x} here") } else { x }, 3).unwrap();
    task.on_done(move |result| heard.send(result.as_ref().unwrap_err().kind()).unwrap());
    let error = task.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskPanicked);
    let text = error.to_string();
    assert!(text.contains("no 3 here") && text.contains("tests/pool.rs:"), "{text}");
    assert_eq!(hears.recv().unwrap(), ErrorKind::TaskPanicked);
    assert_eq!(pool.submit(|()| std::process::id(), ()).unwrap().get().unwrap(), before);
}

#[test]
fn case_53_callbacks_come_once_with_the_whole_list() {
    let (_dragon, pool) = pool(2);
    let (heard, hears) = mpsc::channel();
    let whole = heard.clone();
    pool.map_async(|x: u32| x + 1, 0..50).unwrap().on_done(move |all| whole.send(all.as_ref().unwrap().len()).unwrap());
    assert_eq!(hears.recv().unwrap(), 50);
    let failing = pool.chunk(1).map_async(|x: u32| 10 / (x - x) + x, 1..20).unwrap();
    failing.on_done(move |all| heard.send(usize::from(all.is_err()) * 1000).unwrap());
    assert_eq!(hears.recv().unwrap(), 1000);
    assert!(hears.try_recv().is_err(), "each is called once");
}

#[test]
fn case_54_streams_are_ordered_or_complete() {
    let (_dragon, pool) = pool(2);
    let expected: Vec<u64> = (0..1000).map(|x| x * 3).collect();
    let mut stream = pool.chunk(100).imap(|x: u64| x * 3, 0..1000).unwrap();
    let ordered: Vec<u64> = stream.by_ref().map(Result::unwrap).collect();
    assert_eq!(ordered, expected);
    assert!(stream.next().is_none(), "the end stays the end");
    let mut any: Vec<u64> =
        pool.chunk(100).imap_unordered(|x: u64| x * 3, 0..1000).unwrap().map(Result::unwrap).collect();
    any.sort_unstable();
    assert_eq!(any, expected);
    let singly: Vec<u64> = pool.imap(|x: u64| x * 3, 0..1000).unwrap().map(Result::unwrap).collect();
    assert_eq!(singly, expected);
}

#[test]
fn case_54_a_stream_draws_only_a_few_items_ahead_and_goes_on_behind_an_error() {
    let (_dragon, pool) = pool(2);
    let mut drawn = 0;
    let items = std::iter::repeat_with(|| {
        drawn += 1;
        drawn
    });
    let mut stream = pool.imap(|x: u64| if x == 2 { panic!("two") } else { x }, items).unwrap();
    assert_eq!(stream.next().unwrap().unwrap(), 1);
    assert_eq!(stream.next().unwrap().unwrap_err().kind(), ErrorKind::TaskPanicked);
    assert_eq!(stream.next().unwrap().unwrap(), 3);
    drop(stream);
    assert!(drawn <= 16, "{drawn} items were drawn for 3 results");
}

#[test]
fn case_55_several_arguments_are_a_tuple() {
    let (_dragon, pool) = pool(2);
    let products = pool.map(|(a, b): (u64, u64)| a * b, (0..20).zip(100..120)).unwrap();
    assert_eq!(products, (0..20).zip(100..120).map(|(a, b)| a * b).collect::<Vec<u64>>());
}

#[test]
fn case_57_calls_out_of_turn_are_refused() {
    let _dragon = dragon::init().unwrap();
    assert_eq!(Pool::new(0).err().unwrap().kind(), ErrorKind::InvalidArgument);
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.join().unwrap_err().kind(), ErrorKind::StillOpen);
    assert_eq!(pool.chunk(0).map(|x: u8| x, [1]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    pool.close();
    assert_eq!(pool.map(|x: u8| x, [1]).unwrap_err().kind(), ErrorKind::Closed);
    assert!(pool.submit(|x: u8| x, 1).err().unwrap().is_closed());
    assert!(pool.imap(|x: u8| x, [1]).err().unwrap().is_closed());
    pool.join().unwrap();
    pool.join().unwrap();
    assert!(pool.workers().is_empty());
}

#[test]
fn case_57_close_lets_submitted_tasks_finish() {
    let (_dragon, pool) = pool(2);
    let tasks: Vec<_> = (0..20).map(|x| pool.submit(square_slowly, (x, 10)).unwrap()).collect();
    pool.close();
    pool.join().unwrap();
    for (x, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.get().unwrap(), (x * x) as u64);
    }
}

#[test]
fn case_58_a_pool_inside_a_task_of_a_pool() {
    let (_dragon, pool) = pool(2);
    let sums = pool.map(
        |n: u64| {
            let inner = Pool::new(2).unwrap();
            let squares: Vec<u64> = inner.map(|x: u64| x * x, 0..n).unwrap();
            (squares.iter().sum::<u64>(), inner.submit(|()| std::process::id(), ()).unwrap().get().unwrap())
        },
        [3, 5],
    );
    let sums = sums.unwrap();
    assert_eq!((sums[0].0, sums[1].0), (5, 30));
    assert_ne!(sums[0].1, sums[1].1);
}

#[test]
fn case_59_one_task_per_worker_means_a_fresh_process_each() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::builder().processes(2).tasks_per_worker(1).build().unwrap();
    let pids = pool.chunk(1).map(|_: u32| std::process::id(), 0..12).unwrap();
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 12, "{pids:?}");
    pool.close();
    pool.join().unwrap();
}

#[test]
fn case_60_a_killed_worker_fails_its_task_and_is_replaced() {
    let (dragon, pool) = pool(2);
    let events = dragon.events();
    let victim = pool.submit(|()| doze(60_000), ()).unwrap();
    let pid = busy_pid(&pool);
    kill(pid);
    let error = victim.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkerLost);
    let text = error.to_string();
    assert!(text.contains("SIGKILL") && text.contains(&pid.to_string()) && text.contains("retries"), "{text}");
    let dragon::Event::WorkerLost { pid: told, task, .. } = events.next_timeout(Duration::from_secs(10)).unwrap()
    else {
        panic!("another event")
    };
    assert!(told == pid && task.is_some());
    assert_eq!(pool.map(|x: u64| x, 0..100).unwrap().len(), 100);
    assert_eq!(pool.workers().len(), 2);
}

#[test]
fn case_60_retries_run_the_task_of_a_killed_worker_again() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::builder().processes(1).retries(1).build().unwrap();
    let marker = tempfile::NamedTempFile::new().unwrap();
    let task = pool.submit(
        |path: String| {
            // The first worker waits to be killed, the second finds that it came.
            if std::fs::metadata(&path).unwrap().len() > 0 {
                return true;
            }
            std::fs::write(&path, "was here").unwrap();
            doze(60_000);
            false
        },
        marker.path().to_str().unwrap().to_string(),
    );
    let task = task.unwrap();
    while std::fs::metadata(marker.path()).unwrap().len() == 0 {
        thread::yield_now();
    }
    kill(busy_pid(&pool));
    assert!(task.get().unwrap());
}

#[test]
fn a_task_that_exits_or_overflows_its_stack_is_named_with_how() {
    #[allow(unconditional_recursion)] // running out of stack is the point
    fn dive(depth: u64) -> u64 {
        std::hint::black_box([depth; 64])[3] + dive(depth + 1)
    }
    let (_dragon, pool) = pool(1);
    let error = pool.submit(|code: i32| -> () { std::process::exit(code) }, 7).unwrap().get().unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("code 7"), "{error}");
    let error = pool.submit(dive, 0).unwrap().get().unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("dive"), "{error}");
    let error = pool.submit(|()| -> () { std::process::abort() }, ()).unwrap().get().unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("SIGABRT"), "{error}");
    assert_eq!(pool.map(|x: u8| x, [1, 2]).unwrap(), [1, 2]);
}

#[test]
fn a_cancelled_task_never_runs_and_a_running_one_is_not_cancelled() {
    let (_dragon, pool) = pool(1);
    let marker = tempfile::NamedTempFile::new().unwrap();
    let running = pool.submit(square_slowly, (2, 300)).unwrap();
    busy_pid(&pool);
    let path = marker.path().to_str().unwrap().to_string();
    let queued = pool.submit(|path: String| std::fs::write(path, "ran").unwrap(), path).unwrap();
    assert!(queued.cancel(), "nobody can have begun it");
    assert!(!running.cancel(), "it runs");
    assert_eq!(queued.get().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(running.get().unwrap(), 4);
    pool.close();
    pool.join().unwrap();
    assert_eq!(std::fs::metadata(marker.path()).unwrap().len(), 0, "the cancelled task ran");
}

#[test]
fn a_map_that_has_begun_is_not_cancelled_for_nothing_and_ends_all_the_same() {
    let (_dragon, pool) = pool(1);
    let map = pool.chunk(1).map_async(square_slowly, (0..3_000).map(|x| (x, 100))).unwrap();
    busy_pid(&pool);
    assert!(!map.cancel(), "its first part runs");
    assert_eq!(map.get().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn an_initializer_runs_first_in_every_worker_and_breaks_the_pool_if_it_fails() {
    use std::sync::OnceLock;
    static GREETING: OnceLock<String> = OnceLock::new();
    let _dragon = dragon::init().unwrap();
    let set = |text: String| GREETING.set(text).unwrap();
    let pool = Pool::builder().processes(3).initializer(set, "hello".to_string()).build().unwrap();
    let greetings = pool.chunk(1).map(|_: u8| GREETING.get().unwrap().clone(), 0..30).unwrap();
    assert!(greetings.iter().all(|g| g == "hello"));
    let broken = Pool::builder().processes(2).initializer(|_: u8| panic!("no licence"), 0).build().unwrap();
    let error = broken.map(|x: u8| x, [1]).unwrap_err();
    assert!(error.kind() == ErrorKind::WorkerStart && error.to_string().contains("no licence"), "{error}");
}

#[test]
fn many_threads_share_one_pool() {
    let (_dragon, pool) = pool(2);
    thread::scope(|scope| {
        for k in 0..6_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..20 {
                    let expected: Vec<u64> = (0..50).map(|x| x * k + round).collect();
                    assert_eq!(
                        pool.chunk(7)
                            .map(|(x, k, r): (u64, u64, u64)| x * k + r, (0..50).map(|x| (x, k, round)))
                            .unwrap(),
                        expected
                    );
                    assert_eq!(pool.submit(|x: u64| x + 1, round).unwrap().get().unwrap(), round + 1);
                }
            });
        }
    });
}

#[test]
fn more_tasks_than_fit_wait_their_turn_without_anybody_waiting() {
    let (_dragon, pool) = pool(2);
    let tasks: Vec<_> = (0..5_000_u64).map(|x| pool.submit(|x: u64| x ^ 1, x).unwrap()).collect();
    let (heard, hears) = mpsc::channel();
    tasks[4_999].on_done(move |result| heard.send(*result.as_ref().unwrap()).unwrap());
    assert_eq!(hears.recv().unwrap(), 4_998);
    for (x, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.get().unwrap(), x as u64 ^ 1);
    }
}

#[test]
fn a_context_is_decoded_once_per_worker() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static DECODED: AtomicU32 = AtomicU32::new(0);
    #[derive(serde::Serialize)]
    struct Counted(u64);
    impl<'de> serde::Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            DECODED.fetch_add(1, Ordering::Relaxed);
            u64::deserialize(d).map(Counted)
        }
    }
    let (_dragon, pool) = pool(2);
    let seen =
        pool.chunk(1).map_with(&Counted(40), |c: &Counted, x: u64| (c.0 + x, DECODED.load(Ordering::Relaxed)), 0..200);
    for (x, (sum, decoded)) in seen.unwrap().into_iter().enumerate() {
        assert_eq!((sum, decoded), (40 + x as u64, 1));
    }
}

#[test]
fn a_dropped_pool_takes_its_workers_with_it() {
    let (_dragon, pool) = pool(3);
    let pids: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    assert_eq!(pids.len(), 3);
    drop(pool);
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "worker {pid} is still there");
    }
}

/// The worker that has taken a task.
fn busy_pid(pool: &Pool) -> u32 {
    loop {
        if let Some(worker) = pool.workers().iter().find(|w| w.state == dragon::WorkerState::Busy) {
            return worker.pid;
        }
        thread::yield_now();
    }
}

fn kill(pid: u32) {
    // SAFETY: a signal to a process that this test started and that cannot have been reaped yet.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
}
