//! Producers and consumers as two groups of processes with a queue between: consumers are started again when they fail,
//! and end when the producers have.
//!
//! ```text
//! cargo run --release --example producer_consumer
//! cargo run --release --example producer_consumer -- --producers 4 --consumers 2 --items 1000
//! ```
#![allow(missing_docs, reason = "an example")]

use clap::Parser;
use dragon::{ProcessGroup, Queue, Restart, Template};

/// Sums numbers that producers make, in consumers.
#[derive(Parser)]
struct Arguments {
    /// Producer processes.
    #[arg(long, default_value_t = 2)]
    producers: usize,
    /// Consumer processes.
    #[arg(long, default_value_t = 2)]
    consumers: usize,
    /// Numbers that each producer makes.
    #[arg(long, default_value_t = 100)]
    items: u64,
}

fn produce((numbers, items): (Queue<u64>, u64)) -> Result<(), String> {
    numbers.put_many(1..=items).map(drop).map_err(|error| error.to_string())
}

/// The share of one consumer: how many numbers, and their sum.
fn consume((numbers, sums): (Queue<u64>, Queue<(u64, u64)>)) -> Result<(), String> {
    let (mut count, mut sum) = (0, 0);
    for number in &numbers {
        sum += number.map_err(|error| error.to_string())?;
        count += 1;
    }
    sums.put((count, sum)).map_err(|error| error.to_string())
}

fn main() -> dragon::Result<()> {
    let Arguments { producers, consumers, items } = Arguments::parse();
    dragon::run(|_| {
        let (numbers, sums) = (Queue::bounded(64)?, Queue::unbounded()?);
        let mut makers = ProcessGroup::builder().name("producers").build()?;
        makers.add(producers, Template::function(produce, (numbers.clone(), items)))?;
        let mut takers = ProcessGroup::builder().name("consumers").restart(Restart::OnFailure { max: 3 }).build()?;
        takers.add(consumers, Template::function(consume, (numbers.clone(), sums.clone())))?;
        takers.start()?;
        makers.start()?;
        makers.join()?;
        // No more will come: consumers take what is left, and end.
        numbers.close();
        let exits = takers.join()?;
        sums.close();
        let shares = sums.iter().collect::<dragon::Result<Vec<(u64, u64)>>>()?;
        let (count, sum) = shares.iter().fold((0, 0), |all, share| (all.0 + share.0, all.1 + share.1));
        println!(
            "{count} numbers, sum {sum}, by {} consumers that ended well",
            exits.iter().filter(|e| e.success()).count()
        );
        Ok(())
    })
    .map(drop)
}
