//! Long values that go to another node: they are sent from where they are and stay where they land, and nothing is left of
//! either when the node dies on the way.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::shared::share;
use common::{LONG, start, text};
use dragon::codec::{Codec, Pod, Raw};
use dragon::sync::Barrier;
use dragon::{DDict, Pool, Queue, Runtime};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "whole" => whole(&dragon),
        "killed" => return lost(dragon, libc::SIGKILL),
        "stopped" => return lost(dragon, libc::SIGSTOP),
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

#[test]
fn long_values_of_every_kind_come_whole_and_leave_nothing() {
    start("whole", &[0, 1]).ends_well();
}

const KEYS: u64 = 3;
/// In the entry; in a block by itself; short enough to be copied into a lane and too long for that; a length that is no whole
/// number of words.
const LENGTHS: [usize; 6] = [100, 5000, 60_000, 300_001, 1 << 20, 3_000_003];

/// So many bytes of which each piece says where it stands and what it is from.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![seed as u8; len];
    bytes.chunks_mut(1000).enumerate().for_each(|(at, piece)| piece[0] = at as u8);
    bytes
}

fn whole(dragon: &Runtime) {
    let all = share(dragon, || Barrier::new(dragon.size()).unwrap());
    let before = dragon.stats().memory.in_use;
    all.wait().unwrap();
    let text = |len: usize, seed: u64| seed.to_string().repeat(len)[..len].to_string();
    for len in LENGTHS {
        exchange::<Vec<u8>, dragon::codec::Postcard>(dragon, &all, |seed| bytes(len, seed));
        exchange::<Vec<u8>, Raw>(dragon, &all, |seed| bytes(len, seed));
        exchange::<String, Raw>(dragon, &all, |seed| text(len, seed));
        exchange::<Vec<u64>, dragon::codec::Postcard>(dragon, &all, |seed| vec![seed << 40 | len as u64; len / 8]);
        exchange::<(u8, Vec<u16>), dragon::codec::Postcard>(dragon, &all, |seed| {
            (seed as u8, (0..len as u16 / 3).collect())
        });
    }
    by_worker(dragon, &all);
    exchange::<[u64; 9000], Pod>(dragon, &all, |seed| std::array::from_fn(|at| at as u64 ^ seed));
    // The dictionaries are gone, and so is every block that a value was in.
    let begun = Instant::now();
    while dragon.stats().memory.in_use > before {
        let now = dragon.stats().memory.in_use;
        assert!(begun.elapsed() < LONG / 2, "{now} bytes where {before} were before");
        std::thread::yield_now();
    }
    all.wait().unwrap();
}

/// Each rank puts values of its own at all keys, twice, and finds those of the other.
fn exchange<V, C>(dragon: &Runtime, all: &Barrier, value: impl Fn(u64) -> V)
where
    V: Clone + PartialEq + Send + Sync + 'static,
    C: Codec<V> + Codec<u64>,
{
    let (dict, _) = meet::<V, C>(dragon, all);
    let (me, other) = (dragon.rank() as u64, 1 - dragon.rank() as u64);
    for round in 0..2 {
        for key in 0..KEYS {
            let mine = value(10 * key + me + 100 * round);
            dict.put(&(100 * me + key), &mine).unwrap();
            assert!(mine == value(10 * key + me + 100 * round), "what was put is the caller's again");
        }
        assert!(!dict.put_new(&(100 * me), &value(7)).unwrap(), "it is there");
    }
    all.wait().unwrap();
    for key in 0..KEYS {
        for rank in [me, other] {
            assert!(dict.get(&(100 * rank + key)).unwrap() == value(10 * key + rank + 100), "{key} of {rank}");
        }
    }
    all.wait().unwrap();
    if me == 0 {
        dict.clear().unwrap();
        assert_eq!(dict.len().unwrap(), 0);
    }
    all.wait().unwrap();
}

/// A dictionary that both ranks have, by its name: nothing else is made for it.
fn meet<V: 'static, C: Codec<V> + Codec<u64>>(dragon: &Runtime, all: &Barrier) -> (DDict<u64, V, C>, String) {
    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("long {}", TIMES.fetch_add(1, Ordering::Relaxed));
    let make = || DDict::<u64, V, C>::builder_with().memory_per_node(128 << 20).name(&name).build().unwrap();
    let made = (dragon.rank() == 0).then(make);
    all.wait().unwrap();
    let dict = made.unwrap_or_else(|| DDict::open_with(&name).unwrap());
    all.wait().unwrap();
    (dict, name)
}

/// A process without lanes of its own puts through the hub of its node.
fn by_worker(dragon: &Runtime, all: &Barrier) {
    let (dict, name) = meet::<Vec<u8>, dragon::codec::Postcard>(dragon, all);
    // By its name: what a handle that was sent to somebody is of is kept for a while.
    let put = |(name, me): (String, u64)| {
        let dict = DDict::<u64, Vec<u8>>::open(&name).unwrap();
        (0..KEYS).try_for_each(|key| dict.put(&(100 * me + key), &vec![(key + me) as u8; 2_000_001])).unwrap()
    };
    let pool = Pool::builder().processes(1).local().build().unwrap();
    pool.submit(put, (name, dragon.rank() as u64)).unwrap().get().unwrap();
    pool.close();
    pool.join().unwrap();
    all.wait().unwrap();
    for (rank, key) in [0, 1].into_iter().flat_map(|rank| (0..KEYS).map(move |key| (rank, key))) {
        assert!(dict.get(&(100 * rank + key)).unwrap() == vec![(key + rank) as u8; 2_000_001]);
    }
    all.wait().unwrap();
}

#[test]
fn who_puts_a_long_value_hears_when_the_node_is_killed() {
    loses("killed");
}

#[test]
fn who_puts_a_long_value_hears_when_the_node_stands_still() {
    loses("stopped");
}

fn loses(part: &str) {
    let outputs = start(part, &[0, 1]).outputs();
    assert!(outputs[0].status.success(), "{}\n{}", text(&outputs[0]), text(&outputs[1]));
    assert!(!outputs[1].status.success());
}

/// Rank 1 is killed, or stopped, at whatever it does while long values come.
fn lost(dragon: Runtime, signal: i32) {
    let pids = share(&dragon, || Queue::<u32>::bounded(1).unwrap());
    let dict = share(&dragon, || {
        DDict::<u64, Vec<u8>>::builder().memory_per_node(256 << 20).managers_per_node(1).build().unwrap()
    });
    if dragon.rank() == 1 {
        pids.put(std::process::id()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let pid = pids.get().unwrap() as i32;
    let there = |key: &u64| dict.manager_node(dict.which_manager(key).unwrap()).unwrap().number() == 1;
    let keys: Vec<u64> = (0..).filter(there).take(4).collect();
    let kill = |signal: i32| {
        // SAFETY: a signal to the other rank, which is there until it is waited for by who started both.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    };
    let value: Vec<u8> = bytes(12 << 20, 1);
    let refused = std::thread::scope(|scope| {
        let threads: Vec<_> = keys
            .iter()
            .map(|key| {
                let (dict, value) = (&dict, &value);
                scope.spawn(move || (0..).find_map(|_| dict.put(key, value).err()).unwrap())
            })
            .collect();
        while !keys.iter().all(|key| dict.contains(key).unwrap()) {
            std::thread::yield_now();
        }
        kill(signal);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(refused.iter().all(dragon::Error::is_lost), "{refused:?}");
    if signal != libc::SIGKILL {
        kill(libc::SIGKILL);
    }
    assert!(dragon.finalize().unwrap_err().is_lost());
}
