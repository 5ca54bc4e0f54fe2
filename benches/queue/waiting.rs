//! What waiting costs: being woken, and not being woken.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use super::EXPECT;
use super::common::limits::{self, Wait};
use super::common::os;
use super::common::table::Race;
use dragon::{Pool, Queue};

/// Long enough for everybody to fall asleep.
const PAUSE: Duration = Duration::from_millis(2);

pub fn races(pool: &Pool) {
    Race::new("waiting: round trip, both asleep", "us")
        .runner("futex", || limits::wake_round_trip(Wait::Asleep, PAUSE))
        .runner("queue", || woken(pool))
        .run()
        .at_most("queue", 1.3, "futex");
    Race::new("waiting: processor time of a blocked consumer in 1 s", "us")
        .runner("queue", || idle(pool))
        .at_most_rounds(3)
        .run()
        .below("queue", 100.0);
}

fn echo((there, back, core, turns): (Queue<u64>, Queue<u64>, usize, u32)) {
    let _pinned = os::pin(core);
    for _ in 0..turns {
        back.put(there.get().expect("the bench puts as many")).expect("the bench takes as many");
    }
}

fn woken(pool: &Pool) -> f64 {
    let turns = 100;
    let [here, there] = os::two_cores();
    let (to, from) = (Queue::bounded(1).expect(EXPECT), Queue::bounded(1).expect(EXPECT));
    let partner = pool.submit(echo, (to.clone(), from.clone(), there, turns)).expect("the pool is open");
    let _pinned = os::pin(here);
    let figure = limits::median_microseconds(turns, PAUSE, |turn| {
        to.put(u64::from(turn)).expect("nobody closes it");
        black_box(from.get().expect("nobody closes it"));
    });
    partner.get().expect("echo does not fail");
    figure
}

/// Nanoseconds that all threads of a process have run.
fn run_time(pid: u32) -> u64 {
    let of = |folder: std::path::PathBuf| fs::read_to_string(folder.join("schedstat")).ok();
    let first = |text: String| text.split_ascii_whitespace().next()?.parse::<u64>().ok();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten();
    tasks.filter_map(|task| first(of(task.path())?)).sum()
}

fn idle(pool: &Pool) -> f64 {
    let queue = Queue::<u64>::bounded(1).expect(EXPECT);
    let pid = pool.workers()[0].pid;
    let partner = pool.submit(|queue: Queue<u64>| queue.get().is_ok(), queue.clone()).expect("the pool is open");
    // By then it sleeps.
    thread::sleep(Duration::from_millis(200));
    let before = run_time(pid);
    thread::sleep(Duration::from_secs(1));
    let used = run_time(pid) - before;
    queue.put(1).expect("nobody closes it");
    assert!(partner.get().expect("getting does not fail"));
    used as f64 / 1e3
}
