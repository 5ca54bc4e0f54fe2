//! Figures, for those who ask: `cargo test --release mm::tests::timing -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Duration;

use crate::mm::Memory;
use crate::mm::MemoryConfig;
use crate::mm::tests::recovery::join;
use crate::time::now;

fn measure(mut body: impl FnMut(), times: u32) -> Duration {
    body();
    let best = (0..5).map(|_| {
        let start = now();
        (0..times).for_each(|_| body());
        start.elapsed()
    });
    best.min().unwrap() / times
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
#[ignore = "prints figures, checks nothing"]
fn figures() {
    let config = MemoryConfig::default();
    let before = resident();
    let memory = Memory::create(&config).unwrap();
    let (created, block) = (resident(), memory.alloc(64).unwrap());
    println!("resident: {} more for a memory, {} for the first block", created - before, resident() - created);
    drop((block, memory));
    println!("create: {:?}", measure(|| drop(black_box(Memory::create(&config).unwrap())), 200));
    let memory = Memory::create(&config).unwrap();
    println!(
        "attach and recover: {:?}",
        measure(
            || {
                let other = join(&memory);
                assert!(memory.begin_recovery(other.me()));
                memory.end_recovery(other.me());
            },
            100
        )
    );
    for (len, times) in [(64, 1_000_000), (4096, 1_000_000), (65536, 200_000), (1 << 20, 100_000), (1 << 30, 100)] {
        let took = measure(|| drop(black_box(memory.alloc(len).unwrap())), times);
        println!("alloc and free {len}: {took:?}");
    }
    let mut blocks = Vec::with_capacity(10_000);
    let took = measure(
        || {
            blocks.extend((0..10_000).map(|_| memory.alloc(64).unwrap()));
            blocks.clear();
        },
        100,
    );
    println!("10,000 blocks of 64, then freed: {:?} each", took / 10_000);
    let block = memory.alloc(64).unwrap();
    println!("resolve: {:?}", measure(|| drop(black_box(memory.resolve(black_box(block.handle())))), 1_000_000));
    println!(
        "{:?} takes {:?}",
        memory.heap_stats(),
        measure(
            || {
                black_box(memory.heap_stats());
            },
            100
        )
    );
}
