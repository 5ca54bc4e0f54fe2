//! Dictionaries against maps within one process, copying, and, if it is there, Redis.

mod common;
#[path = "ddict/redis.rs"]
mod redis;

use std::collections::hash_map::RandomState;
use std::hint::black_box;
use std::time::Instant;

use common::limits::nanoseconds_each;
use common::table::Race;
use common::{machine, os};
use dashmap::DashMap;
use dragon::codec::{Codec, Pod, Raw};
use dragon::sync::Barrier;
use dragon::{DDict, Pool};
use redis::Redis;
use rustc_hash::FxBuildHasher;

const EXPECT: &str = "a bench runs where dragon runs";

fn main() {
    machine::print_head("ddict");
    let _dragon = dragon::init().expect(EXPECT);
    let [here, _] = os::two_cores();
    let pinned = os::pin(here);
    maps::<u64>(["8 B, 10,000 keys: get", "8 B, 10,000 keys: put over"], 10_000, |n| n);
    maps::<[u64; 128]>(["1 KiB, 10,000 keys: get", "1 KiB, 10,000 keys: put over"], 10_000, |n| [n; 128]);
    maps::<u64>(["8 B, a million keys: get", "8 B, a million keys: put over"], 1_000_000, |n| n);
    copies();
    references();
    drop(pinned);
    listing();
    overhead();
    together(&Pool::new(1).expect(EXPECT));
}

/// The keys in an order that no cache foresees.
fn scattered(n: u64, keys: u64) -> u64 {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) & (keys.next_power_of_two() - 1)
}

fn filled<V: 'static>(keys: u64, value: impl Fn(u64) -> V) -> DDict<u64, V, Pod>
where
    Pod: Codec<V>,
{
    let dict = DDict::<u64, V, Pod>::builder_with().memory_per_node(4 << 30).build().expect(EXPECT);
    (0..keys).for_each(|n| dict.put(&n, &value(n)).expect(EXPECT));
    dict
}

/// One thread reads and overwrites.
fn maps<V>([get, put]: [&'static str; 2], keys: u64, value: impl Fn(u64) -> V + Copy)
where
    V: bytemuck_pod::Plain,
    Pod: Codec<V>,
{
    let turns = if keys > 100_000 { 500_000 } else { 1_000_000 };
    let at = |n: u64| scattered(n, keys) % keys;
    let dict = filled(keys, value);
    let dash: DashMap<u64, V, FxBuildHasher> = DashMap::default();
    let papaya: papaya::HashMap<u64, V, FxBuildHasher> = papaya::HashMap::default();
    let slow: DashMap<u64, V, RandomState> = DashMap::default();
    for n in 0..keys {
        dash.insert(n, value(n));
        papaya.pin().insert(n, value(n));
        slow.insert(n, value(n));
    }
    let keep = |value: V| _ = black_box(value);
    Race::new(get, "ns")
        .runner("DashMap, one process, FxHash", || {
            nanoseconds_each(turns, |n| keep(*dash.get(&at(n)).expect("filled")))
        })
        .runner("papaya, one process, FxHash", || {
            nanoseconds_each(turns, |n| keep(*papaya.pin().get(&at(n)).expect("filled")))
        })
        .runner("DashMap, one process, SipHash", || {
            nanoseconds_each(turns, |n| keep(*slow.get(&at(n)).expect("filled")))
        })
        .runner("DDict", || nanoseconds_each(turns, |n| keep(dict.get(&at(n)).expect("filled"))))
        .run()
        .at_most("DDict", 3.0, "DashMap, one process, FxHash");
    Race::new(put, "ns")
        .runner("DashMap, one process, FxHash", || {
            nanoseconds_each(turns, |n| _ = black_box(dash.insert(at(n), value(n))))
        })
        .runner("papaya, one process, FxHash", || {
            nanoseconds_each(turns, |n| _ = black_box(papaya.pin().insert(at(n), value(n)).is_some()))
        })
        .runner("DashMap, one process, SipHash", || {
            nanoseconds_each(turns, |n| _ = black_box(slow.insert(at(n), value(n))))
        })
        .runner("DDict", || nanoseconds_each(turns, |n| dict.put(&at(n), &value(n)).expect(EXPECT)))
        .run()
        .at_most("DDict", 5.0, "DashMap, one process, FxHash");
}

/// What the maps hold.
mod bytemuck_pod {
    pub trait Plain: 'static + Copy {}
    impl Plain for u64 {}
    impl Plain for [u64; 128] {}
}

/// Large values, against copying as much into shared memory that is warm. Who keeps the old value until the new one is there
/// cannot write into one block again and again, which may stay in the second cache level: hence two lines of copying.
fn copies() {
    for (title, size) in [("put 1 MiB", 1 << 20), ("put 16 MiB", 16 << 20)] {
        let turns = (1_u64 << 30) / size as u64;
        let dict = DDict::<u64, Vec<u8>, Raw>::builder_with().build().expect(EXPECT);
        let value = vec![7_u8; size];
        let warm = dragon::Channel::create(4, 64).expect(EXPECT);
        let loan = || warm.loan(size).expect(EXPECT);
        let (mut block, mut blocks) = (loan(), [loan(), loan(), loan()]);
        let rate = |nanoseconds: f64| size as f64 / nanoseconds;
        Race::new(title, "GB/s")
            .runner("memcpy into warm blocks in turn", || {
                let mut copy = |n: u64| black_box(&mut blocks[n as usize % 3]).copy_from_slice(black_box(&value));
                rate(nanoseconds_each(turns, &mut copy))
            })
            .runner("memcpy into one warm block", || {
                rate(nanoseconds_each(turns, |_| black_box(&mut block).copy_from_slice(black_box(&value))))
            })
            .runner("put over", || rate(nanoseconds_each(turns, |n| dict.put(&(n % 2), &value).expect(EXPECT))))
            .runner("get into a new vector", || {
                rate(nanoseconds_each(turns / 4, |_| drop(black_box(dict.get(&0)).expect(EXPECT))))
            })
            .run()
            .at_least("put over", 0.8, "memcpy into warm blocks in turn")
            .at_least("put over", 0.8, "memcpy into one warm block");
    }
}

fn references() {
    let dict = DDict::<u64, Vec<u8>, Raw>::builder_with().build().expect(EXPECT);
    let sizes = [8, 1 << 10, 1 << 20, 16 << 20];
    for (n, size) in sizes.iter().enumerate() {
        dict.put(&(n as u64), &vec![1; *size]).expect(EXPECT);
    }
    let get = |n: u64| nanoseconds_each(500_000, |_| _ = black_box(dict.get_ref(&n)).expect(EXPECT)[0]);
    Race::new("get_ref", "ns")
        .runner("8 B", || get(0))
        .runner("1 KiB", || get(1))
        .runner("1 MiB", || get(2))
        .runner("16 MiB", || get(3))
        .run()
        .at_most("16 MiB", 2.0, "8 B");
}

fn listing() {
    let dict = filled(1_000_000, |n| n);
    let milliseconds = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
    Race::new("a million keys", "ms")
        .runner("keys()", || {
            let begin = Instant::now();
            assert_eq!(black_box(dict.keys()).expect(EXPECT).len(), 1_000_000);
            milliseconds(begin)
        })
        .runner("map_reduce: the sum of all values", || {
            let begin = Instant::now();
            let sum = dict.map_reduce(|_, value| *value, |a, b| a + b).expect(EXPECT);
            assert_eq!(sum, Some(499_999_500_000));
            milliseconds(begin)
        })
        .run()
        .below("keys()", 200.0);
}

/// Shared memory beyond keys and values, at worst while a dictionary grows.
fn overhead() {
    let runtime = dragon::init().expect(EXPECT);
    let worst = |keys: u64| {
        let before = runtime.stats().memory.in_use;
        let dict = DDict::<u64, u64, Pod>::builder_with().memory_per_node(4 << 30).build().expect(EXPECT);
        let mut worst: f64 = 0.0;
        for n in 0..keys {
            dict.put(&n, &n).expect(EXPECT);
            if n > keys / 10 && n.is_multiple_of(keys / 50) {
                worst = worst.max((runtime.stats().memory.in_use - before) as f64 / n as f64 - 16.0);
            }
        }
        worst
    };
    Race::new("memory beyond 8 B keys and 8 B values", "B each")
        .at_most_rounds(1)
        .runner("a million keys", || worst(1_000_000))
        .runner("10 million keys", || worst(10_000_000))
        .run()
        .below("10 million keys", 64.0);
}

/// A client's part: gets and puts in turn, and how many a second.
fn client((dict, go, core, turns): (DDict<u64, u64, Pod>, Barrier, usize, u64)) -> f64 {
    let _pinned = os::pin(core);
    go.wait().expect("two come");
    let begin = Instant::now();
    for n in 0..turns {
        let key = scattered(n, 100_000) % 100_000;
        if n % 2 == 0 {
            black_box(dict.get(&key).expect("filled"));
        } else {
            dict.put(&key, &n).expect("there is room");
        }
    }
    turns as f64 / begin.elapsed().as_secs_f64()
}

/// Two processes that read and write the same dictionary.
fn together(pool: &Pool) {
    let turns = 1_000_000;
    let dict = filled(100_000, |n| n);
    let [here, there] = os::two_cores();
    let run = || {
        let go = Barrier::new(2).expect(EXPECT);
        let partner = pool.submit(client, (dict.clone(), go.clone(), there, turns)).expect("the pool is open");
        let mine = client((dict.clone(), go, here, turns));
        (mine + partner.get().expect("a client does not fail")) / 1e6
    };
    let redis = Redis::find();
    let outcome = Race::new("two clients, half gets and half puts of 8 B", "million/s")
        .maybe("Redis, unix socket, pipeline 16", redis.as_ref().map(|redis| || redis.figure()))
        .runner("DDict", run)
        .run();
    outcome.at_least("DDict", 10.0, "Redis, unix socket, pipeline 16").reaches("DDict", 1.0);
}
