//! Real processes on one channel, killed at any moment: nothing is lost, nothing comes twice but what a dead receiver
//! had begun, and the heap is back where it was.
//!
//! A child is this test binary again, asked for the one test `child`, with the memory as its standard input.

use std::{
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use super::memory;
use crate::channel::{Channel, ChannelError, Payload, Repairs, repair};
use crate::id::{ObjectId, ProcId};
use crate::mm::{Kind, Memory, Object, ProcessState};
use crate::prim::{AtomicU64, Ordering::SeqCst};
use crate::time::Deadline;
use crate::wait::Patience;
#[cfg(feature = "failpoints")]
use crate::wait::wait_until;

const NUMBERS: usize = 1 << 16;
const KILLS: usize = 100;

/// How often each number was received by a child.
#[repr(C)]
struct Board {
    stop: AtomicU64,
    received: [AtomicU64; NUMBERS],
}

fn board(object: &Object) -> &Board {
    // SAFETY: the block is large enough, zeroed by the parent, and only atomics are in it.
    unsafe { object.ptr().cast().as_ref() }
}

/// Most fit their slot; the others go in blocks.
fn message(place: u64, n: u64) -> Vec<u8> {
    let mut bytes = vec![(place + n) as u8; if n % 4 == 3 { 100 + (n % 7) as usize * 3000 } else { 20 }];
    bytes[..8].copy_from_slice(&place.to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (place, n) = (number(0), number(8));
    assert!(bytes == message(place, n), "torn");
    (place, n)
}

fn produce(channel: &Channel, incarnation: u64) {
    for n in 0.. {
        match channel.send(&message(incarnation, n), Deadline::Never) {
            Ok(_) => {}
            Err(ChannelError::Closed) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

fn consume(channel: &Channel, board: &Board) {
    let mut patience = Patience::new();
    let stop = || board.stop.load(SeqCst) != 0;
    loop {
        let note = |_: u64, payload: Payload<'_>| {
            let (_, n) = parse(&payload);
            board.received[n as usize].fetch_add(1, SeqCst);
        };
        match channel.recv_with(&mut patience, Deadline::Never, &stop, note) {
            // The receiver before died when it had freed the block: it had noted the number.
            Ok(()) | Err(ChannelError::Lost { .. }) => {}
            Err(ChannelError::Closed | ChannelError::Interrupted) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
#[ignore = "the body of the children of other tests"]
fn child() {
    let Ok(text) = std::env::var("DRAGON_CHANNEL_CHILD") else {
        return;
    };
    let numbers: Vec<u64> = text.split(',').map(|number| number.parse().unwrap()).collect();
    let id = |at: usize| ObjectId { index: numbers[at] as u32, generation: numbers[at + 1] as u32 };
    let file = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let memory = Memory::attach(file, ProcId(numbers[0] as u16)).unwrap();
    let channel = Channel::open(&memory, id(1)).unwrap();
    let object = memory.open_object(id(3), Kind::PoolBoard).unwrap();
    match numbers[5] {
        0 => consume(&channel, board(&object)),
        incarnation => produce(&channel, incarnation),
    }
}

struct World {
    memory: Arc<Memory>,
    channel: Channel,
    object: Object,
    before: u64,
    dice: u64,
}

struct Kid {
    place: ProcId,
    process: Child,
}

impl World {
    fn new(capacity: usize) -> World {
        let memory = memory();
        let mut block = memory.alloc(size_of::<Board>()).unwrap();
        block.as_mut_slice().fill(0);
        let object = memory.create_object(Kind::PoolBoard, block).unwrap();
        let channel = Channel::create(&memory, capacity, 48).unwrap();
        let before = memory.heap_stats().in_use_bytes;
        let dice = 0x9E37_79B9_7F4A_7C15 ^ u64::from(std::process::id());
        World { memory, channel, object, before, dice }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) % n
    }

    /// A consumer (0) or the producer of that incarnation; it kills itself at a mark (`name:times`), if it comes there.
    fn spawn(&self, incarnation: u64, crash_at: &str) -> Kid {
        let place = self.memory.reserve_process().unwrap();
        let (channel, board) = (self.channel.id(), self.object.id());
        let numbers = [
            u64::from(place.0),
            u64::from(channel.index),
            u64::from(channel.generation),
            u64::from(board.index),
            u64::from(board.generation),
            incarnation,
        ];
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "channel::tests::children::child", "--ignored", "--test-threads=1", "-q"])
            .env("DRAGON_CRASH_AT", crash_at)
            .env("DRAGON_CHANNEL_CHILD", numbers.map(|number| number.to_string()).join(","))
            .stdin(Stdio::from(self.memory.descriptor().try_clone_to_owned().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.memory.process_started(place, process.id());
        Kid { place, process }
    }

    fn is_live(&self, kid: &Kid) -> bool {
        let is_it = |entry: &crate::mm::ProcessEntry| entry.id == kid.place && entry.state == ProcessState::Live;
        self.memory.processes().iter().any(is_it)
    }

    fn kill(&self, mut kid: Kid) -> Repairs {
        kid.process.kill().unwrap();
        kid.process.wait().unwrap();
        self.recover(kid.place)
    }

    fn recover(&self, place: ProcId) -> Repairs {
        assert!(self.memory.begin_recovery(place));
        let repairs = repair(&self.memory, place);
        self.memory.end_recovery(place);
        repairs
    }

    /// Waits until the child has begun, and then for no time in particular.
    fn let_run(&mut self, kid: &mut Kid) {
        while !self.is_live(kid) {
            assert!(kid.process.try_wait().unwrap().is_none(), "a child ended by itself");
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(self.below(3000)));
    }

    fn end(self) {
        assert_eq!(self.memory.processes().len(), 1);
        assert_eq!(self.memory.heap_stats().in_use_bytes, self.before);
        drop((self.channel, self.object));
        assert_eq!(self.memory.heap_stats().in_use_blocks, 0);
    }
}

/// Every message of a producer is there up to its last, whatever it was doing when it died.
fn receive_all_of(world: &World, expected: &mut [u64]) {
    loop {
        match world.channel.recv(Deadline::Now) {
            Ok(message) => {
                let (incarnation, n) = parse(&message);
                assert_eq!(expected[incarnation as usize], n, "lost or doubled");
                expected[incarnation as usize] += 1;
            }
            Err(ChannelError::Empty) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

fn kill_producers(capacity: usize) {
    let mut world = World::new(capacity);
    let mut expected = vec![0; KILLS + 2];
    let mut steady = world.spawn(1, "");
    world.let_run(&mut steady);
    for incarnation in 2..KILLS as u64 + 2 {
        let mut kid = world.spawn(incarnation, "");
        while !world.is_live(&kid) {
            receive_all_of(&world, &mut expected);
        }
        world.let_run(&mut kid);
        receive_all_of(&world, &mut expected);
        let repairs = world.kill(kid);
        assert!(repairs.readied.is_empty() && repairs.voided <= 1 && repairs.blocks <= 1, "{repairs:?}");
    }
    world.channel.close();
    assert!(steady.process.wait().unwrap().success());
    world.recover(steady.place);
    loop {
        match world.channel.recv(Deadline::Now) {
            Ok(message) => expected[parse(&message).0 as usize] += 1,
            Err(ChannelError::Closed) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(expected[1] > 0);
    world.end();
}

#[test]
fn killed_producers_lose_nothing() {
    kill_producers(64);
}

#[test]
fn killed_producers_lose_nothing_through_one_slot() {
    kill_producers(1);
}

#[test]
fn killed_consumers_lose_nothing() {
    let mut world = World::new(64);
    let mut steady = world.spawn(0, "");
    world.let_run(&mut steady);
    let (mut sent, mut readied) = (0, 0);
    for _ in 0..KILLS {
        let mut kid = world.spawn(0, "");
        let until = sent + 200;
        while sent < until || !world.is_live(&kid) {
            if sent < NUMBERS as u64 && world.channel.send(&message(1, sent), Deadline::Now).is_ok() {
                sent += 1;
            }
        }
        world.let_run(&mut kid);
        readied += world.kill(kid).readied.len() as u64;
    }
    while sent < NUMBERS as u64 {
        world.channel.send(&message(1, sent), Deadline::after(Duration::from_secs(20))).unwrap();
        sent += 1;
    }
    world.channel.close();
    assert!(steady.process.wait().unwrap().success());
    world.recover(steady.place);
    let received = |n: usize| board(&world.object).received[n].load(SeqCst);
    assert!((0..NUMBERS).all(|n| received(n) >= 1), "lost");
    let doubled: u64 = (0..NUMBERS).map(|n| received(n) - 1).sum();
    assert!(doubled <= readied, "{doubled} came twice, but only {readied} were in the hands of the dead");
    world.end();
}

/// A sleeper that was killed, and one that was woken and killed, leave nobody asleep beside a message.
#[test]
fn killed_sleepers_take_no_wake_up_with_them() {
    let world = World::new(4);
    for n in 0..20 {
        let kids = [(); 2].map(|()| world.spawn(0, ""));
        while world.channel.pipe().readers.sleepers() < 2 {
            std::thread::yield_now();
        }
        let [first, second] = kids;
        world.channel.send(&message(1, n), Deadline::Never).unwrap();
        world.kill(first);
        let deadline = Deadline::after(Duration::from_secs(20));
        while board(&world.object).received[n as usize].load(SeqCst) == 0 {
            assert!(!deadline.passed(), "a message and a sleeper, side by side");
            std::thread::yield_now();
        }
        world.kill(second);
    }
    world.end();
}

/// Each mark that these workloads pass, the first time and later.
#[cfg(feature = "failpoints")]
#[test]
fn killed_at_every_mark_nothing_is_lost() {
    let mut missed: Vec<&str> = MARKS.to_vec();
    for mark in MARKS {
        for times in [1, 2, 30] {
            let crash_at = format!("{mark}:{times}");
            let died = [producer_dies_at(&crash_at), consumer_dies_at(&crash_at)];
            if died.contains(&true) {
                missed.retain(|missed| missed != mark);
            }
        }
    }
    assert!(missed.is_empty(), "never passed: {missed:?}");
}

#[cfg(feature = "failpoints")]
fn ended_within(kid: &mut Kid, milliseconds: u64, mut meanwhile: impl FnMut()) -> bool {
    let deadline = Deadline::after(Duration::from_millis(milliseconds));
    while !deadline.passed() {
        if kid.process.try_wait().unwrap().is_some() {
            return true;
        }
        meanwhile();
    }
    false
}

/// Threads that sleep at both ends of the channel and want nothing: so that the children have somebody to wake.
#[cfg(feature = "failpoints")]
fn beside_sleepers<R>(world: &World, body: impl FnOnce() -> R) -> R {
    let over = std::sync::atomic::AtomicBool::new(false);
    let pipe = world.channel.pipe();
    std::thread::scope(|scope| {
        for cell in [pipe.readers, pipe.writers] {
            let ready = || over.load(SeqCst).then_some(());
            scope.spawn(move || wait_until(cell, &mut Patience::new(), Deadline::Never, ready));
        }
        let result = body();
        over.store(true, SeqCst);
        world.channel.poke();
        result
    })
}

#[cfg(feature = "failpoints")]
fn producer_dies_at(crash_at: &str) -> bool {
    let world = World::new(4);
    let mut expected = [0; 3];
    let mut kid = world.spawn(2, crash_at);
    let meanwhile = || receive_all_of(&world, &mut expected);
    let died = beside_sleepers(&world, || ended_within(&mut kid, 100, meanwhile));
    world.kill(kid);
    receive_all_of(&world, &mut expected);
    // And on it goes.
    world.channel.send(&message(1, 0), Deadline::Now).unwrap();
    receive_all_of(&world, &mut expected);
    assert_eq!(expected[1], 1);
    world.end();
    died
}

#[cfg(feature = "failpoints")]
fn consumer_dies_at(crash_at: &str) -> bool {
    const ALL: u64 = 300;
    let world = World::new(4);
    let (mut kid, mut sent) = (world.spawn(0, crash_at), 0);
    let meanwhile = || {
        if sent < ALL && world.channel.send(&message(1, sent), Deadline::Now).is_ok() {
            sent += 1;
            // Now and then it should find nothing, and sleep.
            if sent % 10 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    };
    let died = beside_sleepers(&world, || ended_within(&mut kid, 100, meanwhile));
    world.kill(kid);
    let mut heir = world.spawn(0, "");
    while sent < ALL {
        world.channel.send(&message(1, sent), Deadline::after(Duration::from_secs(20))).unwrap();
        sent += 1;
    }
    while !world.channel.is_empty() {
        std::thread::yield_now();
    }
    world.channel.close();
    assert!(heir.process.wait().unwrap().success());
    world.recover(heir.place);
    let received = |n: u64| board(&world.object).received[n as usize].load(SeqCst);
    assert!((0..ALL).all(|n| received(n) >= 1), "lost at {crash_at}");
    assert!((0..ALL).map(|n| received(n) - 1).sum::<u64>() <= 1, "doubled at {crash_at}");
    world.end();
    died
}

#[cfg(feature = "failpoints")]
const MARKS: &[&str] = &[
    "ring.write.seen",
    "ring.write.claimed",
    "ring.write.written",
    "ring.write.published",
    "ring.read.seen",
    "ring.read.claimed",
    "ring.read.taken",
    "ring.read.freed",
    "ring.wait.registered",
    "ring.wait.sleeping",
    "ring.wait.called",
    "ring.wait.waking",
    "channel.send.claimed",
    "channel.send.filled",
    "channel.send.published",
    "channel.send_block.claimed",
    "channel.send_block.let_go",
    "channel.send_block.filled",
    "channel.receive.claimed",
    "channel.receive.taken_over",
    "channel.receive.taken",
    "channel.receive.freed",
];
