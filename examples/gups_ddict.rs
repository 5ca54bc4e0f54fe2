//! Random access to a dictionary by many clients, by value size: the benchmark that DragonHPC publishes for its own.
//!
//! Every client is a process with keys of its own. Rates are of the slowest client, the fastest, and of all together.
use std::time::Instant;

use clap::Parser;
use dragon::codec::Raw;
use dragon::sync::Barrier;
use dragon::{DDict, Pool, Result};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Client processes.
    #[arg(long, default_value_t = 2)]
    clients: usize,
    /// Managers of the dictionary.
    #[arg(long, default_value_t = 2)]
    managers: usize,
    /// Value sizes in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 1024, 16384, 262_144, 4 << 20])]
    sizes: Vec<usize>,
    /// Times that each client goes through its keys.
    #[arg(long, default_value_t = 3)]
    iterations: usize,
    /// Keys of each client; of large values fewer, as many as fit into 256 MiB for all.
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
}

type Dict = DDict<u64, Vec<u8>, Raw>;
type Work = (Dict, Barrier, u8, usize, u64, usize);

/// Calls per second of one client.
fn client((dict, go, work, size, keys, iterations): &Work, rank: u64) -> f64 {
    let (value, mut mine) = (vec![rank as u8; *size], rank * keys..(rank + 1) * keys);
    go.wait().expect("all clients come");
    let begin = Instant::now();
    for _ in 0..*iterations {
        let done = match work {
            0 => mine.clone().try_for_each(|key| dict.put(&key, &value)),
            1 => dict.batch(|batch| mine.clone().try_for_each(|key| batch.put(&key, &value))).map(drop),
            2 => mine.clone().try_for_each(|key| dict.get(&key).map(drop)),
            _ => mine.try_for_each(|key| dict.get_ref(&key).map(drop)),
        };
        done.expect("the dictionary is large enough");
        mine = rank * keys..(rank + 1) * keys;
    }
    (*keys as usize * iterations) as f64 / begin.elapsed().as_secs_f64()
}

fn main() -> Result<()> {
    let Options { clients, managers, sizes, iterations, keys } = Options::parse();
    let _dragon = dragon::init()?;
    let pool = Pool::new(clients)?;
    println!("{clients} clients, {managers} managers");
    println!("operation    size [B]   iterations  keys/client  min [op/s]   max [op/s]   sum [op/s]   GB/s");
    for size in sizes {
        let keys = keys.min((256 << 20) / size.max(1) / clients).max(1) as u64;
        let dict = Dict::builder_with().managers_per_node(managers).build()?;
        for (work, name) in (0..).zip(["put", "batch put", "get", "frozen get"]) {
            (work == 3).then(|| dict.freeze()).transpose()?;
            let work = (dict.clone(), Barrier::new(clients)?, work, size, keys, iterations);
            let rates = pool.chunk(1).map_with(&work, client, 0..clients as u64)?;
            let [low, high] = [f64::min, f64::max].map(|which| rates.iter().copied().reduce(which).unwrap_or(0.0));
            let sum: f64 = rates.iter().sum();
            print!("{name:<12} {size:<10} {iterations:<11} {keys:<12} ");
            println!("{low:<12.0} {high:<12.0} {sum:<12.0} {:.3}", sum * size as f64 / 1e9);
        }
        dict.destroy();
    }
    Ok(())
}
