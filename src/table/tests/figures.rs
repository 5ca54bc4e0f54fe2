//! Figures while others write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::Desktop;
use crate::id::ProcId;
use crate::table::desk::{Change, Desk};

#[test]
fn a_tally_is_one_that_there_was_at_an_instant() {
    let desktop = Desktop::new(1, 64 << 20);
    let shard = desktop.table().shard(0);
    let desks: Vec<Desk<'_>> = shard.desks().collect();
    let change = |desk: &Desk<'_>, entries: i64| {
        assert!(desk.begin(ProcId(900)));
        desk.close(Change { entries, bytes: 1000 * entries });
    };
    let (first, last) = (&desks[0], &desks[desks.len() - 1]);
    change(first, 10);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Added where a look begins, and taken off at once where it ends.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                change(first, 1);
                change(last, -1);
                (0..1000).for_each(|_| std::hint::spin_loop());
            }
        });
        let seen: Vec<_> = (0..5000).map(|_| shard.tally()).collect();
        over.store(true, Ordering::Relaxed);
        let wrong = seen.iter().find(|tally| ![10, 11].contains(&tally.entries) || tally.bytes != 1000 * tally.entries);
        assert_eq!(wrong, None);
    });
    change(first, -10);
    assert_eq!(desktop.len(), 0);
}
