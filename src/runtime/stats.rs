//! Figures of a job on a node, read straight from its memory by whoever may look at it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::channel;
use crate::counters::Counters;
use crate::id::ObjectId;
use crate::latch;
use crate::mm::{HeapStats, Kind, ProcessState, Sight, View};
use crate::names;
use crate::table;

/// Figures of a job on a node at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The node's shared memory.
    pub memory: MemoryStats,
    /// The processes of the job that share this node's memory, this one included.
    pub processes: Vec<ProcessStats>,
    /// The objects that there are, by age of their place: queues, locks and all others.
    pub objects: Vec<ObjectStats>,
}

/// Figures of a node's shared memory, in bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Handed out and not yet given back.
    pub in_use: u64,
    /// How many blocks that is.
    pub blocks: u64,
    /// Taken from the system so far. It is kept for reuse until the runtime ends.
    pub committed: u64,
    /// The most the job may take on this node.
    pub limit: u64,
}

/// A process of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessStats {
    /// Its process id on its node.
    pub pid: u32,
    /// That of the process that started it, if it is one of the job's and still there.
    pub parent: Option<u32>,
    /// Where it is in its life.
    pub phase: ProcessPhase,
    /// How many objects it has open.
    pub objects: usize,
}

/// Where a process of a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessPhase {
    /// It was started and is not ready yet.
    Starting,
    /// It takes part in the job.
    Running,
    /// It has ended, and what it held is being given back.
    Ended,
}

/// A shared object: what it is, how it stands, and what it has counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObjectStats {
    /// What the texts of errors call it: its place and which of the objects it is that were ever there.
    pub id: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// How many processes have it open. None if only messages keep it alive.
    pub open_in: usize,
    /// Messages in it, keys of a dictionary, permits left, parties that wait, holders of a lock, blocks of a memory pool; 1 for an event that
    /// is set. `None` where there is nothing to count.
    pub len: Option<u64>,
    /// The most that `len` can be, if there is a bound.
    pub capacity: Option<u64>,
    /// Whether nobody can put any more.
    pub closed: bool,
    /// Bytes of shared memory that it takes itself; blocks of messages are not among them.
    pub memory: u64,
    /// What it has counted.
    pub counters: Counters,
}

/// What sort of thing a shared object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A [`Queue`](crate::Queue), with a bound or without.
    Queue,
    /// A [`Channel`](crate::Channel). A pool of processes has two.
    Channel,
    /// A [`MemoryPool`](crate::MemoryPool).
    MemoryPool,
    /// A [`Pool`](crate::Pool).
    Pool,
    /// A [`Lock`](crate::sync::Lock).
    Lock,
    /// A [`RwLock`](crate::sync::RwLock).
    RwLock,
    /// A [`Semaphore`](crate::sync::Semaphore).
    Semaphore,
    /// A [`Barrier`](crate::sync::Barrier).
    Barrier,
    /// An [`Event`](crate::sync::Event).
    Event,
    /// A [`Condvar`](crate::sync::Condvar).
    Condvar,
    /// A [`Value`](crate::sync::Value).
    Value,
    /// An [`Array`](crate::sync::Array).
    Array,
    /// A [`DDict`](crate::DDict), or the part of one that is on this node.
    DDict,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One line of `label=value`, as logs like it.
impl fmt::Display for ObjectStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object={} kind={}", self.id, self.kind)?;
        self.name.iter().try_for_each(|name| write!(f, " name={name:?}"))?;
        self.len.iter().try_for_each(|len| write!(f, " len={len}"))?;
        self.capacity.iter().try_for_each(|capacity| write!(f, " capacity={capacity}"))?;
        let Counters { puts, gets, bytes, waits, wakes, high_water, deaths } = self.counters;
        write!(f, " open_in={} closed={} puts={puts} gets={gets} bytes={bytes}", self.open_in, self.closed)?;
        write!(f, " waits={waits} wakes={wakes} high_water={high_water} deaths={deaths}")
    }
}

impl Stats {
    /// Reads everything but the memory's figures, which the job's own processes know better.
    pub(crate) fn read(view: &View, memory: HeapStats) -> Stats {
        let sights = view.objects();
        let (processes, objects) = (processes(view, &sights), objects(view, &sights));
        Stats { processes, objects, ..Stats::of_memory(memory) }
    }

    pub(super) fn of_memory(memory: HeapStats) -> Stats {
        let memory = MemoryStats {
            in_use: memory.in_use_bytes,
            blocks: memory.in_use_blocks,
            committed: memory.committed,
            limit: memory.limit,
        };
        Stats { memory, processes: Vec::new(), objects: Vec::new() }
    }

    /// The object of this name.
    pub fn object(&self, name: &str) -> Option<&ObjectStats> {
        self.objects.iter().find(|object| object.name.as_deref() == Some(name))
    }
}

fn processes(view: &View, sights: &[Sight]) -> Vec<ProcessStats> {
    let entries = view.processes();
    let known = entries.iter().filter(|entry| entry.pid != 0 && entry.guest().is_none());
    let stats = known.map(|entry| {
        let parent = entries.iter().find(|other| other.id == entry.parent);
        let phase = match entry.state {
            ProcessState::Free | ProcessState::Reserved => ProcessPhase::Starting,
            ProcessState::Live => ProcessPhase::Running,
            ProcessState::Dead | ProcessState::Recovering => ProcessPhase::Ended,
        };
        let objects = sights.iter().filter(|sight| view.has_open(entry.id, sight.id)).count();
        ProcessStats { pid: entry.pid, parent: parent.map(|parent| parent.pid), phase, objects }
    });
    stats.collect()
}

fn objects(view: &View, sights: &[Sight]) -> Vec<ObjectStats> {
    let names: HashMap<ObjectId, String> = names::all(view.name_entries()).into_iter().collect();
    // A piece of a queue without a bound is no object of its own.
    let pieces: HashSet<ObjectId> = sights.iter().flat_map(|sight| channel::pieces(view, sight)).collect();
    let whole = sights.iter().filter(|sight| !pieces.contains(&sight.id));
    // One whose figures cannot be read has gone meanwhile.
    whole.filter_map(|sight| object(view, sight, names.get(&sight.id).cloned())).collect()
}

fn object(view: &View, sight: &Sight, name: Option<String>) -> Option<ObjectStats> {
    let blank = ObjectStats {
        id: format!("{}.{}", sight.id.index, sight.id.generation),
        kind: ObjectKind::Pool,
        name,
        open_in: sight.open_in as usize,
        len: None,
        capacity: None,
        closed: false,
        memory: sight.handle.len,
        counters: Counters::default(),
    };
    let mut stats = match sight.kind {
        Kind::Channel | Kind::Chain => {
            let seen = channel::figures(view, sight)?;
            let kind = if seen.label == 0 { ObjectKind::Channel } else { ObjectKind::Queue };
            let (len, capacity, memory) = (Some(seen.len), seen.capacity, sight.handle.len + seen.beside);
            ObjectStats { kind, len, capacity, memory, closed: seen.closed, counters: seen.counters, ..blank }
        }
        Kind::MemoryPool => {
            let seen = view.memory_pool(sight)?;
            let kind = ObjectKind::MemoryPool;
            ObjectStats { kind, name: Some(seen.name), len: Some(seen.blocks), ..blank }
        }
        Kind::PoolBoard => blank,
        Kind::Dict => {
            let seen = table::figures(view.words(sight.handle)?)?;
            let (total, counters) = (seen.total(), Counters { puts: seen.calls, ..blank.counters });
            let (len, memory) = (Some(total.entries), sight.handle.len + total.bytes);
            ObjectStats { kind: ObjectKind::DDict, len, memory, counters, ..blank }
        }
        _ => {
            let seen = latch::figures(view, sight)?;
            let (len, capacity, counters) = (seen.len, seen.capacity, seen.counters);
            ObjectStats { kind: latch_kind(sight.kind)?, len, capacity, counters, ..blank }
        }
    };
    stats.counters.deaths = sight.deaths.into();
    Some(stats)
}

fn latch_kind(kind: Kind) -> Option<ObjectKind> {
    Some(match kind {
        Kind::Lock => ObjectKind::Lock,
        Kind::RwLock => ObjectKind::RwLock,
        Kind::Semaphore => ObjectKind::Semaphore,
        Kind::Barrier => ObjectKind::Barrier,
        Kind::Event => ObjectKind::Event,
        Kind::Condvar => ObjectKind::Condvar,
        Kind::Value => ObjectKind::Value,
        Kind::Array => ObjectKind::Array,
        Kind::Channel | Kind::Chain | Kind::MemoryPool | Kind::PoolBoard | Kind::Charter | Kind::Dict => return None,
    })
}
