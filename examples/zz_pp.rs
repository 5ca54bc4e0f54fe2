//! x
#![allow(missing_docs, reason="x")]
use std::time::{Duration, Instant};
use dragon::Queue;
fn main() -> dragon::Result<()> {
    let d = dragon::init()?;
    for size in [8usize, 1024, 65536, 1<<20] {
        let mine = Queue::<Vec<u8>>::builder().capacity(4).name(&format!("q{}-{}", size, d.rank())).build()?;
        let other = Queue::<Vec<u8>>::open_timeout(&format!("q{}-{}", size, 1 - d.rank()), Duration::from_secs(10))?;
        let n = if size > 100_000 { 300 } else { 3000 };
        if d.rank() == 0 {
            let m = vec![1u8; size];
            for _ in 0..50 { other.put(m.clone())?; mine.get()?; }
            let mut t: Vec<f64> = (0..n).map(|_| { let b = Instant::now(); other.put(m.clone()).unwrap(); mine.get().unwrap(); b.elapsed().as_secs_f64() * 1e6 / 2.0 }).collect();
            t.sort_by(f64::total_cmp);
            println!("{size:>8} B one way: median {:.1} us, p10 {:.1}, p90 {:.1}", t[t.len()/2], t[t.len()/10], t[t.len()*9/10]);
        } else { for _ in 0..n + 50 { let m = mine.get()?; other.put(m)?; } }
    }
    d.finalize()
}
