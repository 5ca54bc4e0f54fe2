//! Bandwidth of messages between two processes, one way, by message length.
//!
//! One process puts as fast as it can, the other gets. `--loans` fills and reads messages where they are,
//! without a copy.
use std::time::Instant;

use clap::Parser;
use dragon::{Channel, Pool, Queue, Result};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Loans of a channel, filled and read in place, in place of a queue of byte vectors.
    #[arg(long)]
    loans: bool,
    /// Message lengths in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 64, 1024, 65536, 1 << 20])]
    sizes: Vec<usize>,
    /// Bytes sent per length; of short messages fewer, at most a million.
    #[arg(long, default_value_t = 1 << 28)]
    total: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let _dragon = dragon::init()?;
    let pool = Pool::new(1)?;
    println!("one way between two processes, {}", if options.loans { "loans" } else { "queues" });
    println!("Msglen [B]   Rate [1/s]     BW [MB/s]");
    for &size in &options.sizes {
        let count = (options.total / size.max(1)).clamp(1, 1_000_000);
        let send = if options.loans { by_loans } else { by_queue };
        let seconds = send(&pool, size, count)?;
        let rate = count as f64 / seconds;
        println!("{size:<12} {rate:<14.0} {:.1}", rate * size as f64 / 1e6);
    }
    Ok(())
}

fn by_queue(pool: &Pool, size: usize, count: usize) -> Result<f64> {
    let queue = Queue::<Vec<u8>>::bounded(64)?;
    let getting =
        pool.submit(|queue: Queue<Vec<u8>>| queue.iter().map(|m| m.unwrap().len()).sum::<usize>(), queue.clone())?;
    let message = vec![1; size];
    let begin = Instant::now();
    (0..count).try_for_each(|_| queue.put(message.clone()))?;
    queue.close();
    assert_eq!(getting.get()?, count * size);
    Ok(begin.elapsed().as_secs_f64())
}

fn by_loans(pool: &Pool, size: usize, count: usize) -> Result<f64> {
    let channel = Channel::create(64, 64)?;
    let receive = |channel: Channel| {
        let (mut bytes, mut sum) = (0, 0_u64);
        while let Ok(message) = channel.recv() {
            bytes += message.len();
            sum += u64::from(message[0]);
        }
        (bytes, sum)
    };
    let receiving = pool.submit(receive, channel.clone())?;
    let begin = Instant::now();
    for _ in 0..count {
        let mut loan = channel.loan(size)?;
        loan[0] = 1;
        channel.send_loan(loan).map_err(|(error, _)| error)?;
    }
    channel.close();
    assert_eq!(receiving.get()?, (count * size, count as u64));
    Ok(begin.elapsed().as_secs_f64())
}
