//! Latency of messages between two processes, one way, by message length: DragonHPC's `p2p_lat`.
//!
//! A message goes to a worker process and comes back; half of that time is printed.
use std::time::Instant;

use clap::Parser;
use dragon::{Channel, Pool, Queue, Result};

#[derive(Parser)]
struct Options {
    /// Typed queues of byte vectors: the default.
    #[arg(long, conflicts_with = "bytes")]
    queues: bool,
    /// Channels of bytes, which a receiver reads in place.
    #[arg(long)]
    bytes: bool,
    /// Message lengths in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 64, 1024, 65536, 1 << 20])]
    sizes: Vec<usize>,
    /// Round trips per length.
    #[arg(long, default_value_t = 1000)]
    iterations: u32,
    /// One JSON object per length instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let what = if options.bytes { "bytes" } else { "queues" };
    let _dragon = dragon::init()?;
    let pool = Pool::new(1)?;
    if !options.json {
        println!("one way (round trip / 2) between two processes, {what}\nMsglen [B]   Lat [usec]");
    }
    for &size in &options.sizes {
        let micros = (if options.bytes { over_channels } else { over_queues })(&pool, size, options.iterations)?;
        match options.json {
            true => println!("{{\"what\":\"{what}\",\"bytes\":{size},\"one_way_us\":{micros:.4}}}"),
            false => println!("{size:<12} {micros:.3}"),
        }
    }
    Ok(())
}

fn over_queues(pool: &Pool, size: usize, iterations: u32) -> Result<f64> {
    let (there, back) = (Queue::<Vec<u8>>::bounded(4)?, Queue::<Vec<u8>>::bounded(4)?);
    let echo = |(from, to): (Queue<_>, Queue<_>)| from.iter().for_each(|message| to.put(message.unwrap()).unwrap());
    let echoing = pool.submit(echo, (there.clone(), back.clone()))?;
    let mut message = vec![1; size];
    let micros = time(iterations, || {
        there.put(std::mem::take(&mut message))?;
        back.get().map(|came| message = came)
    })?;
    there.close();
    echoing.get().map(|()| micros)
}

fn over_channels(pool: &Pool, size: usize, iterations: u32) -> Result<f64> {
    let (there, back) = (Channel::create(4, 1024)?, Channel::create(4, 1024)?);
    let echo = |(from, to): (Channel, Channel)| while from.recv().is_ok_and(|message| to.send(&message).is_ok()) {};
    let echoing = pool.submit(echo, (there.clone(), back.clone()))?;
    let message = vec![1; size];
    let micros = time(iterations, || there.send(&message).and_then(|()| back.recv().map(drop)))?;
    there.close();
    echoing.get().map(|()| micros)
}

/// Microseconds of half a turn, after a tenth as many to warm up.
fn time(iterations: u32, mut turn: impl FnMut() -> Result<()>) -> Result<f64> {
    (0..iterations.div_ceil(10)).try_for_each(|_| turn())?;
    let begin = Instant::now();
    (0..iterations).try_for_each(|_| turn())?;
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(iterations) / 2.0)
}
