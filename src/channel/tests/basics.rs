//! One process: what a channel promises, case by case.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use super::{join, memory};
use crate::channel::{Channel, ChannelError, Payload, repair};
use crate::mm::Handle;
use crate::time::Deadline;
use crate::wait::Patience;

const NOW: Deadline = Deadline::Now;

fn after(milliseconds: u64) -> Deadline {
    Deadline::after(Duration::from_millis(milliseconds))
}

fn no() -> bool {
    false
}

#[test]
fn shapes() {
    let memory = memory();
    let channel = Channel::create(&memory, 3, 48).unwrap();
    assert_eq!((channel.capacity(), channel.inline_capacity()), (4, 48));
    assert_eq!(Channel::create(&memory, 1, 0).unwrap().inline_capacity(), 48);
    assert_eq!(Channel::create(&memory, 1, 49).unwrap().inline_capacity(), 112);
    for (capacity, inline) in [(0, 1), (usize::MAX, 1), (1, usize::MAX), (1 << 30, 1)] {
        let refused = Channel::create(&memory, capacity, inline);
        assert!(matches!(refused, Err(ChannelError::Shape { .. })), "{refused:?}");
    }
    drop(channel);
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}

#[test]
fn capacity_one_fills_times_out_and_goes_on() {
    let channel = Channel::create(&memory(), 1, 48).unwrap();
    channel.send(b"first", NOW).unwrap();
    assert!(channel.is_full() && channel.len() == 1);
    let began = Instant::now();
    assert!(matches!(channel.send(b"second", after(30)), Err(ChannelError::TimedOut)));
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(&*channel.recv(NOW).unwrap(), b"first");
    channel.send(b"second", after(30)).unwrap();
    assert_eq!(&*channel.recv(after(30)).unwrap(), b"second");
}

#[test]
fn refusals_are_told_apart() {
    let channel = Channel::create(&memory(), 1, 48).unwrap();
    assert!(matches!(channel.recv(NOW), Err(ChannelError::Empty)));
    let began = Instant::now();
    assert!(matches!(channel.recv(after(30)), Err(ChannelError::TimedOut)));
    assert!(began.elapsed() >= Duration::from_millis(30));
    channel.send(b"", NOW).unwrap();
    assert!(matches!(channel.send(b"", NOW), Err(ChannelError::Full)));
    assert!(ChannelError::Full.is_timeout() && ChannelError::Empty.is_timeout() && ChannelError::TimedOut.is_timeout());
    assert!(!ChannelError::Closed.is_timeout());
    assert_eq!(&*channel.recv(NOW).unwrap(), b"");
}

#[test]
fn short_long_and_loaned_messages() {
    let memory = memory();
    let channel = Channel::create(&memory, 4, 200).unwrap();
    let start = memory.heap_stats().in_use_blocks;
    for len in [0, 1, 112, 113, channel.inline_capacity()] {
        channel.send(&vec![7; len], NOW).unwrap();
        assert_eq!(*channel.recv(NOW).unwrap(), vec![7; len]);
        assert_eq!(memory.heap_stats().in_use_blocks, start);
    }
    for len in [channel.inline_capacity() + 1, 100_000] {
        channel.send_with(len, NOW, |space| space.fill(9)).unwrap();
        let message = channel.recv(NOW).unwrap();
        assert_eq!(*message, vec![9; len]);
        assert_eq!(message.into_block().unwrap().len(), len);
    }
    let mut block = channel.loan(1000).unwrap();
    block.as_mut_slice()[..3].copy_from_slice(b"abc");
    let (sent, at) = (block.handle(), block.ptr());
    channel.send_block(block, 3, NOW).unwrap();
    let block = channel.recv(NOW).unwrap().into_block().unwrap();
    assert_eq!((block.as_slice(), block.ptr(), block.handle().key()), (&b"abc"[..], at, sent.key()));
    drop(block);
    channel.send(b"short", NOW).unwrap();
    assert!(channel.recv(NOW).unwrap().into_block().is_err());
    assert_eq!(memory.heap_stats().in_use_blocks, start);
}

#[test]
fn a_refused_block_comes_back() {
    let channel = Channel::create(&memory(), 1, 48).unwrap();
    channel.send(b"", NOW).unwrap();
    let (error, block) = channel.send_block(channel.loan(100).unwrap(), 100, NOW).unwrap_err();
    assert!(matches!(error, ChannelError::Full));
    let (error, block) = channel.send_block(block, 101, NOW).unwrap_err();
    assert!(matches!(error, ChannelError::TooLarge { used: 101, len: 100 }));
    channel.close();
    let (error, block) = channel.send_block(block, 100, Deadline::Never).unwrap_err();
    assert!(matches!(error, ChannelError::Closed));
    assert_eq!(block.len(), 100);
}

#[test]
fn a_closed_channel_is_drained_first() {
    let channel = Channel::create(&memory(), 4, 48).unwrap();
    channel.send(b"1", NOW).unwrap();
    channel.send(b"2", NOW).unwrap();
    channel.close();
    assert!(channel.is_closed());
    assert!(matches!(channel.send(b"3", Deadline::Never), Err(ChannelError::Closed)));
    assert_eq!(&*channel.recv(NOW).unwrap(), b"1");
    assert_eq!(&*channel.recv(Deadline::Never).unwrap(), b"2");
    assert!(matches!(channel.recv(NOW), Err(ChannelError::Closed)));
    assert!(matches!(channel.recv(Deadline::Never), Err(ChannelError::Closed)));
    channel.wait_readable(Deadline::Never).unwrap();
    channel.wait_writable(Deadline::Never).unwrap();
}

#[test]
fn closing_wakes_all_who_sleep() {
    let channel = Channel::create(&memory(), 1, 48).unwrap();
    let full = Channel::create(&memory(), 1, 48).unwrap();
    full.send(b"", NOW).unwrap();
    thread::scope(|scope| {
        let readers = [(); 3].map(|()| scope.spawn(|| channel.recv(Deadline::Never).unwrap_err()));
        let writers = [(); 3].map(|()| scope.spawn(|| full.send(b"", Deadline::Never).unwrap_err()));
        while channel.pipe().readers.sleepers() < 3 || full.pipe().writers.sleepers() < 3 {
            thread::yield_now();
        }
        channel.close();
        full.close();
        for error in readers.map(|it| it.join().unwrap()).into_iter().chain(writers.map(|it| it.join().unwrap())) {
            assert!(matches!(error, ChannelError::Closed), "{error}");
        }
    });
}

#[test]
fn a_look_sees_the_position_and_the_bytes() {
    let channel = Channel::create(&memory(), 2, 48).unwrap();
    let patience = &mut Patience::new();
    for n in 0..5 {
        assert_eq!(channel.send(b"look", NOW).unwrap(), n);
        let look = |position, payload: Payload<'_>| {
            assert!(matches!(payload, Payload::Inline(b"look")));
            position
        };
        assert_eq!(channel.recv_with(patience, NOW, &no, look).unwrap(), n);
    }
    channel.send(&[1; 500], NOW).unwrap();
    let block = channel.recv_with(patience, NOW, &no, |_, payload| match payload {
        Payload::Block(block) => block,
        Payload::Inline(_) => unreachable!(),
    });
    assert_eq!(block.unwrap().as_slice(), [1; 500]);
}

#[test]
fn panics_leave_the_channel_whole() {
    let memory = memory();
    let channel = Channel::create(&memory, 1, 48).unwrap();
    let start = memory.heap_stats().in_use_blocks;
    let filling = |len| catch_unwind(AssertUnwindSafe(|| channel.send_with(len, NOW, |_| panic!("filling"))));
    assert!(filling(10).is_err() && filling(1000).is_err());
    assert!(matches!(channel.recv(NOW), Err(ChannelError::Empty)));
    channel.send(b"kept", NOW).unwrap();
    let patience = &mut Patience::new();
    let taking = catch_unwind(AssertUnwindSafe(|| channel.recv_with(patience, NOW, &no, |_, _| panic!("taking"))));
    assert!(taking.is_err());
    assert!(matches!(channel.recv(NOW), Err(ChannelError::Empty)), "it was taken");
    channel.send(b"next", NOW).unwrap();
    assert_eq!(&*channel.recv(NOW).unwrap(), b"next");
    assert_eq!(memory.heap_stats().in_use_blocks, start);
}

#[test]
fn a_stop_interrupts() {
    let channel = Channel::create(&memory(), 2, 48).unwrap();
    channel.send(b"stays", NOW).unwrap();
    let take = |_: u64, payload: Payload<'_>| payload.to_vec();
    let taken = channel.recv_with(&mut Patience::new(), Deadline::Never, &|| true, take);
    assert!(matches!(taken, Err(ChannelError::Interrupted)));
    assert_eq!(&*channel.recv(NOW).unwrap(), b"stays");
    let flag = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = || flag.load(std::sync::atomic::Ordering::Relaxed);
        let channel = &channel;
        let waiting = scope.spawn(move || channel.recv_with(&mut Patience::new(), Deadline::Never, &stop, take));
        while channel.pipe().readers.sleepers() == 0 {
            thread::yield_now();
        }
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
        channel.poke();
        assert!(matches!(waiting.join().unwrap(), Err(ChannelError::Interrupted)));
    });
}

#[test]
fn what_is_left_in_a_channel_goes_with_it() {
    let memory = memory();
    let other = join(&memory);
    let channel = Channel::create(&memory, 4, 48).unwrap();
    let theirs = Channel::open(&other, channel.id()).unwrap();
    for _ in 0..3 {
        theirs.send(&[5; 1000], NOW).unwrap();
    }
    drop(channel.clone());
    drop(channel);
    assert_eq!(&*theirs.recv(NOW).unwrap(), [5; 1000], "somebody has it open");
    let id = theirs.id();
    drop(theirs);
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
    assert!(Channel::open(&other, id).is_err());
}

#[test]
fn garbage_is_refused_and_the_slot_is_free_again() {
    let memory = memory();
    let channel = Channel::create(&memory, 1, 48).unwrap();
    let garbage: [[u8; 32]; 4] = [[0; 32], [0xFF; 32], [2; 32], [1; 32]];
    for bytes in garbage {
        let mut outgoing = channel.pipe().try_claim().unwrap().ok().unwrap();
        // SAFETY: a claimed slot of 56 bytes.
        unsafe { outgoing.body().cast::<[u8; 32]>().write(bytes) };
        outgoing.send();
        assert!(matches!(channel.recv(NOW), Err(ChannelError::Garbled { .. })));
    }
    for handle in [Handle::default(), Handle { segment: 9, ..Handle::default() }, bytemuck::cast([0xA5_u8; 24])] {
        let mut outgoing = channel.pipe().try_claim().unwrap().ok().unwrap();
        // SAFETY: a claimed slot.
        unsafe { super::super::layout::label_block(outgoing.body(), handle) };
        let position = outgoing.send();
        let lost = channel.recv(NOW).unwrap_err();
        assert!(matches!(lost, ChannelError::Lost { position: at, .. } if at == position), "{lost}");
    }
    channel.send(b"fine", NOW).unwrap();
    assert_eq!(&*channel.recv(NOW).unwrap(), b"fine");
}

#[test]
fn a_block_of_somebody_else_cannot_be_received() {
    let memory = memory();
    let other = join(&memory);
    let channel = Channel::create(&memory, 1, 48).unwrap();
    let theirs = other.alloc(100).unwrap();
    let mut outgoing = channel.pipe().try_claim().unwrap().ok().unwrap();
    // SAFETY: a claimed slot.
    unsafe { super::super::layout::label_block(outgoing.body(), theirs.handle()) };
    outgoing.send();
    assert!(matches!(channel.recv(NOW), Err(ChannelError::Lost { .. })));
}

#[test]
fn a_death_is_repaired() {
    let memory = memory();
    let other = join(&memory);
    let dead = other.me();
    let channel = Channel::create(&memory, 8, 48).unwrap();
    let start = memory.heap_stats().in_use_blocks;
    let theirs = Channel::open(&other, channel.id()).unwrap();
    let alone = Channel::create(&other, 8, 48).unwrap();
    alone.send(&[1; 1000], NOW).unwrap();
    // Sent by the dead, one in a block; one being received; one being sent; a loan.
    theirs.send(&[2; 1000], NOW).unwrap();
    channel.send(b"read by the dead", NOW).unwrap();
    let mine = channel.recv(NOW).unwrap();
    mem::forget(theirs.pipe().try_take().unwrap().ok().unwrap());
    mem::forget(theirs.pipe().try_claim().unwrap().ok().unwrap());
    mem::forget(theirs.loan(1000).unwrap());
    channel.send(b"last", NOW).unwrap();
    mem::forget((theirs, alone, other));
    assert!(memory.begin_recovery(dead));
    let repairs = repair(&memory, dead);
    assert_eq!((repairs.readied, repairs.voided, repairs.blocks), (vec![(channel.id(), 1)], 1, 1));
    let again = repair(&memory, dead);
    assert_eq!((again.readied.len(), again.voided, again.blocks), (0, 0, 0));
    memory.end_recovery(dead);
    assert_eq!(*mine, [2; 1000]);
    assert_eq!(&*channel.recv(NOW).unwrap(), b"read by the dead");
    assert_eq!(&*channel.recv(NOW).unwrap(), b"last");
    drop(mine);
    assert_eq!(memory.heap_stats().in_use_blocks, start);
}

#[test]
fn a_block_the_dead_had_taken_over_is_received_once() {
    let memory = memory();
    let other = join(&memory);
    let channel = Channel::create(&memory, 8, 48).unwrap();
    let start = memory.heap_stats().in_use_blocks;
    let theirs = Channel::open(&other, channel.id()).unwrap();
    channel.send(&[1; 1000], NOW).unwrap();
    channel.send(&[2; 1000], NOW).unwrap();
    // Died with the first in hand, and after freeing the second, but before freeing its slot.
    for freed in [false, true] {
        let incoming = theirs.pipe().try_take().unwrap().ok().unwrap();
        // SAFETY: a claimed message of 48 bytes.
        let label = unsafe { super::super::layout::read_label(incoming.body(), 48) };
        let super::super::layout::Labelled::InBlock(handle) = label else { unreachable!() };
        let block = other.take_over_from(handle, incoming.sender()).unwrap();
        if freed {
            drop(block);
        } else {
            mem::forget(block);
        }
        mem::forget(incoming);
    }
    let dead = other.me();
    mem::forget((theirs, other));
    assert!(memory.begin_recovery(dead));
    assert_eq!(repair(&memory, dead).readied.len(), 2);
    memory.end_recovery(dead);
    assert_eq!(*channel.recv(NOW).unwrap(), [1; 1000]);
    assert!(matches!(channel.recv(NOW), Err(ChannelError::Lost { .. })));
    assert!(matches!(channel.recv(NOW), Err(ChannelError::Empty)));
    assert_eq!(memory.heap_stats().in_use_blocks, start);
}
