//! Pascal's triangle in a shared `Array`: processes fill each row together, meet at a `Barrier`, and add what they
//! wrote to a `Value`.
use clap::Parser;
use dragon::sync::{Array, Barrier, Value};
use dragon::{Pool, Result};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Worker processes.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Rows, at most 63 so that their sum fits.
    #[arg(long, default_value_t = 13, value_parser = clap::value_parser!(u8).range(1..=63))]
    rows: u8,
}

/// Where row `n` begins.
fn row(n: usize) -> usize {
    n * (n + 1) / 2
}

type Shared = (Array<u64>, Value<u64>, Barrier);

/// One worker's part: of each row every so many'th number.
fn fill((shared, me, workers, rows): (Shared, usize, usize, usize)) {
    let (triangle, sum, barrier) = shared;
    for n in 0..rows {
        for k in (me..=n).step_by(workers) {
            let above = |k: usize| triangle.get(row(n - 1) + k).expect("the row above is there");
            let number = if k == 0 || k == n { 1 } else { above(k - 1) + above(k) };
            triangle.set(row(n) + k, number).expect("its place is there");
            sum.update(|sum| *sum += number).expect("the sum is there");
        }
        // The next row needs all of this one.
        barrier.wait().expect("all workers come");
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (workers, rows) = (options.workers, usize::from(options.rows));
    let _dragon = dragon::init()?;
    let pool = Pool::new(workers)?;
    let shared = (Array::zeroed(row(rows))?, Value::new(0)?, Barrier::new(workers)?);
    let tasks = (0..workers).map(|me| pool.submit(fill, (shared.clone(), me, workers, rows)));
    tasks.collect::<Result<Vec<_>>>()?.into_iter().try_for_each(|task| task.get())?;
    let (triangle, sum, _) = shared;
    for n in 0..rows {
        let numbers: Vec<String> = triangle.read(row(n)..row(n + 1))?.iter().map(u64::to_string).collect();
        println!("{:^80}", numbers.join(" "));
    }
    println!("the sum of all numbers is {}, which is 2^{rows} - 1: {}", sum.get()?, sum.get()? == (1 << rows) - 1);
    Ok(())
}
