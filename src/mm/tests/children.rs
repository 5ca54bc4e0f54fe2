//! Real processes on one memory: they exchange blocks, free each other's, and are killed doing so.
//!
//! A child is this test binary again, asked for the one test `child`, with the memory as its standard
//! input. Blocks travel through a board of letter boxes that are as robust as a channel's slots.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::id::ObjectId;
use crate::id::ProcId;
use crate::mm::Block;
use crate::mm::Handle;
use crate::mm::Kind;
use crate::mm::Memory;
use crate::mm::MemoryConfig;
use crate::mm::Object;
use crate::mm::ProcessState;
use crate::prim::AtomicU64;
use crate::prim::Ordering::SeqCst;
use crate::time;

const BOXES: usize = 64;
const EMPTY: u64 = 0;
const WRITING: u64 = 1;
const FULL: u64 = 2;
const READING: u64 = 3;

/// A letter box: `owner << 8 | state`, and a handle.
#[repr(C)]
struct LetterBox {
    state: AtomicU64,
    handle: [AtomicU64; 3],
}

#[repr(C)]
struct Board {
    stop: AtomicU64,
    exchanged: AtomicU64,
    boxes: [LetterBox; BOXES],
}

fn board(object: &Object) -> &Board {
    // SAFETY: the block is large enough, zeroed by the parent, and only atomics are in it.
    unsafe { object.ptr().cast().as_ref() }
}

impl LetterBox {
    fn claim(&self, from: u64, to: u64, me: ProcId) -> bool {
        self.state.compare_exchange(from, u64::from(me.0) << 8 | to, SeqCst, SeqCst).is_ok()
    }

    fn send(&self, block: Block) -> Option<Block> {
        if !self.claim(EMPTY, WRITING, block.memory().me()) {
            return Some(block);
        }
        for (at, word) in self.handle.iter().zip(block.into_handle().to_words()) {
            at.store(word, SeqCst);
        }
        self.state.store(FULL, SeqCst);
        None
    }

    fn handle(&self) -> Handle {
        Handle::from_words([0, 1, 2].map(|at: usize| self.handle[at].load(SeqCst)))
    }

    fn receive(&self, memory: &Arc<Memory>) -> Option<Block> {
        if !self.claim(FULL, READING, memory.me()) {
            return None;
        }
        let block = memory.take_over(self.handle()).unwrap();
        self.state.store(EMPTY, SeqCst);
        Some(block)
    }

    /// As a channel does: what the dead was writing is void, what it was reading is there again.
    fn repair(&self, dead: ProcId) {
        let state = self.state.load(SeqCst);
        if state >> 8 == u64::from(dead.0) {
            self.state.store(if state & 0xFF == READING { FULL } else { EMPTY }, SeqCst);
        }
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn length(&mut self) -> usize {
        match self.below(100) {
            0 => 16 + self.below(2 << 20),
            1..10 => 16 + self.below(100_000),
            _ => 16 + self.below(5000),
        }
    }
}

/// The bytes of a block follow from its first eight; ends and a sample are enough.
fn fill(block: &mut Block, seed: u64) {
    let bytes = block.as_mut_slice();
    bytes.fill(seed as u8);
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
}

fn check(block: &Block) {
    let bytes = block.as_slice();
    let mark = bytes[0];
    let step = (bytes.len() / 64).max(1);
    assert!(bytes[8..].iter().step_by(step).all(|byte| *byte == mark), "somebody wrote in a block that was not his");
    assert_eq!(bytes[bytes.len() - 1], mark);
}

fn turn(memory: &Arc<Memory>, board: &Board, dice: &mut Dice, mine: &mut Vec<Block>) {
    let at = &board.boxes[dice.below(BOXES)];
    match dice.below(4) {
        0 | 1 if mine.len() < 100 => {
            let mut block = memory.alloc(dice.length()).unwrap();
            let seed = dice.0;
            fill(&mut block, seed);
            mine.push(block);
        }
        2 if !mine.is_empty() => {
            let block = mine.swap_remove(dice.below(mine.len()));
            mine.extend(at.send(block));
        }
        3 => {
            if let Some(block) = at.receive(memory) {
                check(&block);
                board.exchanged.fetch_add(1, SeqCst);
                if dice.below(2) == 0 {
                    mine.push(block)
                }
            }
        }
        _ => {
            if !mine.is_empty() {
                check(&mine.swap_remove(dice.below(mine.len())));
            }
        }
    }
}

#[test]
#[ignore = "the body of the children of other tests"]
fn child() {
    let Ok(text) = std::env::var("DRAGON_MM_CHILD") else { return };
    let numbers: Vec<u64> = text.split(',').map(|number| number.parse().unwrap()).collect();
    let place = ProcId(numbers[0] as u16);
    let id = ObjectId { index: numbers[1] as u32, generation: numbers[2] as u32 };
    let memory = Memory::attach(std::io::stdin().as_fd().try_clone_to_owned().unwrap(), place).unwrap();
    let object = memory.open_object(id, Kind::Channel).unwrap();
    let (mut dice, mut mine) = (Dice(0x9E37_79B9 + u64::from(std::process::id()) * 7919), Vec::new());
    while board(&object).stop.load(SeqCst) == 0 {
        turn(&memory, board(&object), &mut dice, &mut mine);
        if dice.below(50_000) == 0 {
            memory.trim();
        }
    }
    mine.iter().for_each(check);
}

struct World {
    memory: Arc<Memory>,
    object: Object,
    children: Vec<(ProcId, Child)>,
}

impl World {
    fn new() -> World {
        let config = MemoryConfig { segment_size: 64 << 20, limit: 2 << 30, ..MemoryConfig::default() };
        let memory = Memory::create(&config).unwrap();
        let mut block = memory.alloc(size_of::<Board>()).unwrap();
        block.as_mut_slice().fill(0);
        let object = memory.create_object(Kind::Channel, block).unwrap();
        World { memory, object, children: Vec::new() }
    }

    fn spawn(&mut self) {
        self.spawn_with("");
    }

    /// A child that kills itself at a mark (`name:times`), if it comes there.
    fn spawn_with(&mut self, crash_at: &str) {
        let place = self.memory.reserve_process().unwrap();
        let id = self.object.id();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mm::tests::children::child", "--ignored", "--test-threads=1", "-q"])
            .env("DRAGON_CRASH_AT", crash_at)
            .env("DRAGON_MM_CHILD", format!("{},{},{}", place.0, id.index, id.generation))
            .stdin(Stdio::from(self.memory.descriptor().try_clone_to_owned().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.memory.process_started(place, child.id());
        self.children.push((place, child));
    }

    fn is_live(&self, place: ProcId) -> bool {
        self.memory.processes().iter().any(|entry| entry.id == place && entry.state == ProcessState::Live)
    }

    /// What `channel::repair` does, on this board.
    fn recover(&self, dead: ProcId) {
        assert!(self.memory.begin_recovery(dead));
        let boxes = &board(&self.object).boxes;
        boxes.iter().for_each(|at| at.repair(dead));
        let full = boxes.iter().filter(|at| matches!(at.state.load(SeqCst) & 0xFF, FULL | READING));
        let referenced: HashSet<Handle> = full.map(LetterBox::handle).collect();
        self.memory.reclaim_blocks(dead, &referenced);
        assert!(self.memory.release_objects_of(dead).is_empty());
        self.memory.end_recovery(dead);
    }

    /// Children end; letters that are left are read; nothing is in use that was not at the start.
    fn close(mut self, before: u64) {
        board(&self.object).stop.store(1, SeqCst);
        for (place, mut child) in std::mem::take(&mut self.children) {
            assert!(child.wait().unwrap().success());
            self.recover(place);
        }
        for at in &board(&self.object).boxes {
            at.receive(&self.memory).iter().for_each(check);
        }
        assert_eq!(self.memory.heap_stats().in_use_bytes, before);
        assert_eq!(self.memory.processes().len(), 1);
        self.memory.trim();
        let stats = self.memory.heap_stats();
        assert!(stats.slabs <= 1, "only the board is left: {stats:?}");
        assert!(self.memory.alloc(60 << 20).is_ok());
    }
}

fn seconds() -> u64 {
    std::env::var("DRAGON_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn processes_exchange_blocks_and_nothing_is_lost() {
    for processes in [2, 4, 8] {
        let mut world = World::new();
        let before = world.memory.heap_stats().in_use_bytes;
        (0..processes).for_each(|_| world.spawn());
        // How long they do so is what is chosen; that they do at all is waited for.
        std::thread::sleep(Duration::from_millis(seconds() * 1000 / 3));
        let begun = std::time::Instant::now();
        while board(&world.object).exchanged.load(SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody exchanges anything");
            std::thread::yield_now();
        }
        world.close(before);
    }
}

#[test]
fn killed_processes_lose_nothing() {
    let mut world = World::new();
    let before = world.memory.heap_stats().in_use_bytes;
    let mut dice = Dice(time::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()) << 20 | 1);
    (0..3).for_each(|_| world.spawn());
    for _ in 0..50 {
        let (place, mut child) = world.children.remove(dice.below(3));
        while !world.is_live(place) {
            assert!(child.try_wait().unwrap().is_none(), "a child ended by itself");
            std::thread::yield_now();
        }
        // At no moment in particular.
        std::thread::sleep(Duration::from_micros(dice.below(8000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        world.recover(place);
        world.spawn();
    }
    world.close(before);
}

/// Each mark that this workload passes, the first time and later.
#[cfg(feature = "failpoints")]
#[test]
fn killed_at_every_mark_nothing_is_lost() {
    let mut reached = Vec::new();
    for mark in MARKS {
        let mut world = World::new();
        let before = world.memory.heap_stats().in_use_bytes;
        world.spawn();
        for times in [1, 2, 50, 1] {
            world.spawn_with(&format!("{mark}:{times}"));
            let (place, mut child) = world.children.pop().unwrap();
            let deadline = time::Deadline::after(Duration::from_millis(400));
            while child.try_wait().unwrap().is_none() && !deadline.passed() {
                std::thread::yield_now();
            }
            if child.try_wait().unwrap().is_some() && !reached.contains(mark) {
                reached.push(*mark);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            world.recover(place);
        }
        world.close(before);
    }
    let missed: Vec<_> = MARKS.iter().filter(|mark| !reached.contains(mark)).collect();
    assert!(missed.is_empty(), "never passed: {missed:?}");
}

#[cfg(feature = "failpoints")]
const MARKS: &[&str] = &[
    "process.join.named",
    "heap.stretch.committed",
    "heap.claim.head",
    "heap.claim.tail",
    "heap.claim.held",
    "heap.free.begun",
    "heap.free.tail",
    "heap.free.head",
    "heap.slab.prepared",
    "heap.slab.bits_taken",
    "heap.slab.held",
    "heap.slab.bit_set",
    "heap.slab.freed",
    "heap.slab.retired",
    "heap.slab.unit_freed",
    "heap.taken_over",
    "object.bit_set",
];
