//! Queues against the speed of light and against other people's queues: latency, throughput, waiting.
//!
//! Words behind `--` choose races by their title: `cargo bench --bench queue -- "latency: 8 B"`.

#[path = "../common/mod.rs"]
mod common;
mod large;
mod latency;
mod throughput;
mod waiting;

use common::machine;
use common::peers::{DragonHpc, Peers};
use dragon::codec::Pod;
use dragon::{Pool, Queue};

const EXPECT: &str = "a bench runs where dragon runs";

/// A queue of messages of `N` numbers, as they lie in memory.
type Words<const N: usize> = Queue<[u64; N], Pod>;

/// Who takes part besides ours.
struct Others {
    peers: Option<Peers>,
    names: Vec<&'static str>,
    dragonhpc: Option<DragonHpc>,
}

fn main() {
    machine::print_head("queue");
    let peers = Peers::find();
    let names = peers.as_ref().map_or_else(Vec::new, Peers::names);
    let others = Others { peers, names, dragonhpc: DragonHpc::find() };
    let _dragon = dragon::init().expect(EXPECT);
    let pool = Pool::new(1).expect(EXPECT);
    latency::races(&pool, &others);
    large::races(&pool);
    throughput::races(&others);
    waiting::races(&pool);
}

impl Others {
    fn figure(&self, name: &str, what: &str, bytes: usize, count: u64) -> f64 {
        self.peers.as_ref().and_then(|peers| peers.figure(name, what, bytes, count)).unwrap_or(f64::NAN)
    }

    /// The sum of so many at the same time.
    fn rate_of_several(&self, several: usize, name: &str, bytes: usize, count: u64) -> f64 {
        let peers = self.peers.as_ref();
        peers.and_then(|peers| peers.figure_of_several(several, name, "rate", bytes, count)).unwrap_or(f64::NAN)
    }
}
