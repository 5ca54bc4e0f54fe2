//! Many threads on one channel. Run under ThreadSanitizer too.

use std::{sync::atomic::AtomicU64, sync::atomic::Ordering, thread};

use super::memory;
use crate::channel::{Channel, ChannelError};
use crate::time::Deadline;

const EACH: u64 = 3_000;

/// Numbered messages, every tenth too long for a slot.
fn message(producer: u64, n: u64) -> Vec<u8> {
    let mut bytes = vec![n as u8; if n.is_multiple_of(10) { 300 } else { 16 }];
    bytes[..8].copy_from_slice(&producer.to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn exchange(capacity: usize, producers: u64, consumers: usize) {
    let memory = memory();
    let channel = Channel::create(&memory, capacity, 48).unwrap();
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        let sending: Vec<_> = (0..producers)
            .map(|producer| {
                let channel = channel.clone();
                scope.spawn(move || {
                    for n in 0..EACH {
                        channel.send(&message(producer, n), Deadline::Never).unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..consumers {
            let (channel, sum) = (channel.clone(), &sum);
            scope.spawn(move || {
                let mut last = vec![None; producers as usize];
                loop {
                    let got = match channel.recv(Deadline::Never) {
                        Ok(got) => got,
                        Err(ChannelError::Closed) => break,
                        Err(other) => panic!("{other}"),
                    };
                    let number = |at: usize| u64::from_le_bytes(got[at..at + 8].try_into().unwrap());
                    let (producer, n) = (number(0), number(8));
                    assert_eq!(*got, message(producer, n));
                    assert!(last[producer as usize] < Some(n), "out of order");
                    last[producer as usize] = Some(n);
                    sum.fetch_add(n + 1, Ordering::Relaxed);
                }
            });
        }
        sending.into_iter().for_each(|sending| sending.join().unwrap());
        channel.close();
    });
    // A load: ThreadSanitizer does not see the joins inside std.
    assert_eq!(sum.load(Ordering::Relaxed), producers * EACH * (EACH + 1) / 2);
    drop(channel);
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}

#[test]
fn one_to_one() {
    exchange(64, 1, 1);
}

#[test]
fn many_to_many() {
    exchange(16, 4, 4);
}

#[test]
fn many_to_many_through_one_slot() {
    exchange(1, 3, 3);
}
