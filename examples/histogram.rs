//! A type of one's own on `MemoryPool` and `Channel`: a histogram that many processes add to at once.
//!
//! Its counts lie in a few shards, blocks of a pool. The id of a shard is a token in a channel: who takes it out has the
//! shard alone until it is put back. So nobody waits while there is a free shard, and a process that dies takes at
//! most the shard with it that it just had.
use clap::Parser;
use dragon::codec::bytemuck;
use dragon::{Channel, MemoryPool, Pool, Result};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Worker processes.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Values to count.
    #[arg(long, default_value_t = 1_000_000)]
    values: u64,
}

/// Counts of values between 0 and 1. A handle is a value, like those that it is made of.
#[derive(Clone, Serialize, Deserialize)]
struct SharedHistogram {
    memory: MemoryPool,
    shards: Channel,
    bins: usize,
}

impl SharedHistogram {
    fn new(name: &str, bins: usize, shards: usize) -> Result<SharedHistogram> {
        let (memory, tokens) = (MemoryPool::create(name, shards * bins * 8)?, Channel::create(shards, 8)?);
        for _ in 0..shards {
            let mut shard = memory.alloc(bins * 8)?;
            shard.fill(0);
            tokens.send(&shard.into_id().to_le_bytes())?;
        }
        Ok(SharedHistogram { memory, shards: tokens, bins })
    }

    fn add(&self, values: impl Iterator<Item = f64>) -> Result<()> {
        let token = self.shards.recv()?;
        let mut shard = self.memory.take(u64::from_le_bytes(token[..].try_into().expect("8 bytes were sent")))?;
        let counts: &mut [u64] = bytemuck::cast_slice_mut(&mut shard[..self.bins * 8]);
        values.for_each(|value| counts[((value * self.bins as f64) as usize).min(self.bins - 1)] += 1);
        self.shards.send(&shard.into_id().to_le_bytes())
    }

    /// The counts, when nobody adds any more.
    fn counts(self) -> Result<Vec<u64>> {
        let mut sums = vec![0; self.bins];
        while let Ok(token) = self.shards.try_recv() {
            let shard = self.memory.take(u64::from_le_bytes(token[..].try_into().expect("8 bytes were sent")))?;
            sums.iter_mut().zip(bytemuck::cast_slice::<u8, u64>(&shard)).for_each(|(sum, count)| *sum += count);
        }
        Ok(sums)
    }
}

/// How many of 16 coins show heads: near the middle more often than not.
fn coins(n: u64) -> f64 {
    let mixed = (n ^ (n >> 30)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from((mixed >> 48).count_ones()) / 17.0
}

fn main() -> Result<()> {
    let Options { workers, values } = Options::parse();
    let _dragon = dragon::init()?;
    let (pool, histogram) = (Pool::new(workers)?, SharedHistogram::new("histogram", 17, workers)?);
    let add = |histogram: &SharedHistogram, (from, to): (u64, u64)| histogram.add((from..to).map(coins)).unwrap();
    pool.map_with(&histogram, add, (0..values).step_by(1000).map(|from| (from, values.min(from + 1000))))?;
    let counts = histogram.counts()?;
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    counts.iter().for_each(|count| println!("{count:>9} {}", "#".repeat((count * 60 / most) as usize)));
    println!("{:>9} values by {workers} processes", counts.iter().sum::<u64>());
    Ok(())
}
