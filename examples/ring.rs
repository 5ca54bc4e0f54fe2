//! A token goes round a ring of processes, each with a queue to the next: the time of one hop.
use std::time::Instant;

use clap::Parser;
use dragon::{Pool, Queue, Result};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Processes in the ring, this one included.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..))]
    processes: u16,
    /// Times round.
    #[arg(long, default_value_t = 1000)]
    rounds: u64,
}

type Token = Queue<u64>;

/// Passes the token on, one higher, until there is none any more.
fn pass((from, to): (Token, Token)) {
    for token in &from {
        to.put(token.expect("a number") + 1).expect("room for the only token");
    }
    to.close();
}

fn main() -> Result<()> {
    let options = Options::parse();
    let _dragon = dragon::init()?;
    let others = usize::from(options.processes) - 1;
    let pool = Pool::new(others)?;
    let queues = (0..=others).map(|_| Queue::bounded(1)).collect::<Result<Vec<Token>>>()?;
    let passing = (0..others)
        .map(|at| pool.submit(pass, (queues[at].clone(), queues[at + 1].clone())))
        .collect::<Result<Vec<_>>>()?;
    let (first, last) = (&queues[0], &queues[others]);
    let begin = Instant::now();
    let mut token = 0;
    for _ in 0..options.rounds {
        first.put(token + 1)?;
        token = last.get()?;
    }
    let took = begin.elapsed();
    first.close();
    passing.into_iter().try_for_each(|task| task.get())?;
    let hops = options.rounds * u64::from(options.processes);
    assert_eq!(token, hops, "every process has counted every round");
    println!(
        "{hops} hops through {} processes, {:.2} us each",
        options.processes,
        took.as_secs_f64() * 1e6 / hops as f64
    );
    Ok(())
}
