//! Sums under threads, and after a death.

use std::thread;

use super::Sum;
use crate::id::ProcId;
use crate::prim::AtomicU64;

const A: ProcId = ProcId(3);
const B: ProcId = ProcId(4);

fn words() -> [AtomicU64; 3] {
    [0, 0, 0].map(AtomicU64::new)
}

#[test]
fn nothing_that_threads_add_is_lost() {
    let words = words();
    thread::scope(|scope| {
        for process in [A, A, B] {
            let words = &words;
            scope.spawn(move || (0..100_000).for_each(|n| Sum::in_words(words).add(process, n % 7)));
        }
    });
    assert_eq!(Sum::in_words(&words).total(), 3 * (0..100_000).map(|n| n % 7).sum::<u64>());
}

#[test]
fn the_sum_of_the_dead_is_kept_and_goes_to_another_owner() {
    let words = words();
    let sum = Sum::in_words(&words);
    sum.add(A, 1);
    sum.add(A, 10);
    sum.add(B, 100);
    sum.disown(B);
    sum.add(A, 1000);
    sum.disown(A);
    sum.add(B, 10_000);
    sum.add(B, 100_000);
    sum.add(A, 1_000_000);
    assert_eq!(sum.total(), 1_111_111);
    let others = words[2].load(crate::prim::Ordering::Relaxed);
    assert_eq!(others, 1 + 100 + 10_000 + 1_000_000, "who owns it adds to its own word");
}
