//! What a death may leave at a desk, and what a repair must not take for it.

use super::{Desktop, how};
use crate::id::ProcId;
use crate::table::desk::{Change, PageWork};
use crate::table::entry::{Entry, State};
use crate::table::pin::Cargo;
use crate::table::{Name, Wrote};

const DEAD: ProcId = ProcId(900);
const LATER: ProcId = ProcId(901);

#[test]
fn a_block_that_the_dead_had_only_thought_of_is_not_taken_from_whoever_has_it_since() {
    let desktop = Desktop::new(1, 64 << 20);
    desktop.put(b"a", b"one");
    let table = desktop.table();
    let desk = table.shard(0).desks().find(|desk| desk.begin(DEAD)).unwrap();
    table.shard(0).note_block_of(&desk, 0);
    let noted = desk.new_entry();
    table.shard(0).repair(DEAD);
    // Whoever has the same desk next dies before it notes anything, while the block is filled and not yet in the table.
    let mut taken = Name::NONE;
    let repaired = |name: Name| {
        taken = name;
        assert!(desk.begin(LATER));
        table.shard(0).repair(LATER);
    };
    let key = table.key(b"b");
    let fill = |space: &mut [u8]| space.copy_from_slice(b"two");
    let wrote = table.put(0, &key, &how(0), 3, &mut Cargo::new(), fill, repaired).unwrap();
    assert_eq!((wrote, taken), (Wrote::New, noted), "the block is the one that was noted");
    let entry = Entry::at(&table.ground, taken.spot()).unwrap();
    assert_eq!(entry.head().state(), State::Live);
    assert_eq!(desktop.get(b"b").unwrap(), b"two");
    assert_eq!(desktop.len(), 2);
}

#[test]
fn nothing_read_is_believed_of_an_entry_that_is_leaving() {
    let desktop = Desktop::new(1, 64 << 20);
    let mut name = Name::NONE;
    let (table, key) = (desktop.table(), desktop.table().key(b"a"));
    table.put(0, &key, &how(0), 1, &mut Cargo::new(), |space| space.fill(1), |bound| name = bound).unwrap();
    let entry = Entry::at(&table.ground, name.spot()).unwrap();
    let seen = entry.head();
    assert!(entry.is_still(seen) && entry.is_still(seen.pinned()));
    entry.word().store(seen.pinned().0, crate::prim::Ordering::Release);
    assert!(entry.is_still(seen), "a reader that holds it changes nothing for the others");
    // From here on whoever frees it may have taken its form away.
    entry.word().store(seen.to(State::Leaving, 1).0, crate::prim::Ordering::Release);
    assert!(!entry.is_still(seen));
    entry.word().store(seen.0, crate::prim::Ordering::Release);
}

#[test]
fn what_was_counted_is_not_counted_again_because_a_page_was_made_since() {
    let desktop = Desktop::new(1, 64 << 20);
    let desk = desktop.table().shard(0).desks().find(|desk| desk.begin(DEAD)).unwrap();
    let change = Change { entries: 1, bytes: 500 };
    desk.note_change(change, true);
    assert_eq!(desk.change(), Some((change, true)));
    desk.count(change);
    assert_eq!(desk.change(), None);
    desk.begin_page_work(PageWork::Make);
    desk.end_page_work(Change { entries: 0, bytes: 4096 });
    assert_eq!(desk.change(), None);
    desk.close(Change::default());
    desk.begin(DEAD);
    desk.close(Change { entries: -1, bytes: -4596 });
}
