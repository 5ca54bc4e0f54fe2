//! What grows with the number of ranks, and what does not: rounds of a start, memory for each peer, descriptors.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Debug;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use common::until::until;
use common::{Job, start, start_through, start_with, text};
use dragon::Runtime;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Bytes that this process has on its heap.
struct Counting;

static HEAP: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    /// What the trait asks of its callers.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    /// What the trait asks of its callers.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Hears how many rounds a start took.
struct Rounds;

static ROUNDS: AtomicU64 = AtomicU64::new(0);

impl Visit for Rounds {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "rounds" {
            ROUNDS.store(value, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Subscriber for Rounds {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        about.target().starts_with("dragon::bootstrap")
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Rounds);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    tracing::subscriber::set_global_default(Rounds).unwrap();
    let dragon = match dragon::init() {
        Err(error) if part == "too many" => return println!("SAID {error}"),
        begun => begun.unwrap(),
    };
    match &part[..] {
        "rounds" => println!("FIGURE {}", ROUNDS.load(Ordering::Relaxed)),
        "heap" => heap(&dragon),
        "room" => {}
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

/// All are there, and nobody has called anybody: a start opens no lane. Nobody calls before all have looked.
fn heap(dragon: &Runtime) {
    println!("FIGURE {}", HEAP.load(Ordering::Relaxed));
    let looked = PathBuf::from(std::env::var_os("LOOKED").unwrap());
    File::create(looked.join(dragon.rank().to_string())).unwrap();
    until("all have looked", || looked.read_dir().unwrap().count() == dragon.size());
}

/// The figure that each rank printed.
fn figures(job: Job) -> Vec<i64> {
    let figure = |output: &std::process::Output| {
        let said = text(output);
        assert!(output.status.success(), "{said}");
        let line = said.lines().find_map(|line| line.strip_prefix("FIGURE ")).map(str::trim);
        line.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    };
    job.outputs().iter().map(figure).collect()
}

#[test]
fn the_rounds_of_a_start_do_not_grow_with_the_ranks() {
    let on_one = |ranks: usize| vec![0; ranks];
    let each_its_own = |ranks: u32| (0..ranks).collect::<Vec<u32>>();
    for nodes in [on_one(2), on_one(16), on_one(64), each_its_own(4), each_its_own(32)] {
        let rounds = figures(start("rounds", &nodes));
        // Meet; doors and how it went; addresses; charters; ready; part.
        assert!(rounds.iter().all(|rounds| *rounds == 7), "{} ranks: {rounds:?}", nodes.len());
    }
}

/// What each further rank costs on the heap of three ranks, if rank `r` is on node `node(r)`.
fn bytes_for_each(node: fn(u32) -> u32) -> [i64; 3] {
    /// Beyond a power of two, where vectors that double have most to spare.
    const MANY: u32 = 66;
    const FEW: u32 = 8;
    let heap = |ranks: u32| {
        let folder = tempfile::tempdir().unwrap();
        let looked = folder.path().display().to_string();
        let nodes: Vec<u32> = (0..ranks).map(node).collect();
        figures(start_with("heap", &nodes, |_| vec![("LOOKED", looked.clone())]))
    };
    let (few, many) = (heap(FEW), heap(MANY));
    [0, 1, FEW as usize - 1].map(|rank| (many[rank] - few[rank]) / i64::from(MANY - FEW))
}

#[test]
fn a_peer_that_nobody_has_talked_to_costs_less_than_200_bytes() {
    let (on_other_nodes, on_two_nodes) = (bytes_for_each(|rank| rank), bytes_for_each(|rank| rank % 2));
    println!("{on_other_nodes:?} bytes for one on a node of its own, {on_two_nodes:?} if there are two nodes");
    assert!([on_other_nodes, on_two_nodes].as_flattened().iter().all(|each| (1..200).contains(each)));
}

/// Starts ranks of as many nodes under a limit of descriptors.
fn limited(limit: &str, part: &str, ranks: u32) -> Job {
    let line = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    start_through(&["sh", "-c", &line], part, &(0..ranks).collect::<Vec<_>>(), |_| Vec::new())
}

#[test]
fn a_soft_limit_of_descriptors_is_raised() {
    limited("-Sn 40", "room", 48).ends_well();
}

#[test]
fn a_hard_limit_of_descriptors_is_named_on_every_rank() {
    for output in limited("-n 90", "too many", 48).outputs() {
        let said = text(&output);
        assert!(output.status.success() && said.contains("SAID rank 0 needs"), "{said}");
        assert!(said.contains("to meet 48 ranks") && said.contains("may have 90") && said.contains("ulimit"), "{said}");
    }
}
