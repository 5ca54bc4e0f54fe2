//! The process table: places are kept, taken, given up, and used again only after recovery.

use crate::id::ProcId;
use crate::mm::MemError;
use crate::mm::Memory;
use crate::mm::ProcessState;
use crate::mm::tests::basics::small;
use crate::mm::tests::recovery::join;
use crate::sys::process;

#[test]
fn a_place_is_kept_taken_and_given_up() {
    let memory = small();
    let root = memory.processes()[0];
    assert_eq!((root.id, root.pid, root.state), (ProcId::ROOT, process::id(), ProcessState::Live));
    assert_eq!(Some(root.start_time), process::start_time(process::id()));
    let place = memory.reserve_process().unwrap();
    memory.process_started(place, 4711);
    let kept = memory.processes()[1];
    assert_eq!((kept.id, kept.pid, kept.parent, kept.state), (place, 4711, ProcId::ROOT, ProcessState::Reserved));
    memory.abandon_process(place);
    assert_eq!(memory.processes().len(), 1);
    // A live place cannot be given up, nor taken twice.
    let other = join(&memory);
    memory.abandon_process(other.me());
    assert_eq!(memory.processes()[1].state, ProcessState::Live);
    let again = Memory::attach(memory.descriptor().try_clone_to_owned().unwrap(), other.me());
    assert!(matches!(again, Err(MemError::NotReserved { .. })));
}

#[test]
fn the_table_can_be_full() {
    let memory = small();
    let places: Vec<_> = std::iter::from_fn(|| memory.reserve_process().ok()).collect();
    assert_eq!(places.len(), 1023);
    let error = memory.reserve_process().unwrap_err();
    assert!(matches!(error, MemError::TooManyProcesses { most: 1024 }));
    memory.abandon_process(places[500]);
    assert_eq!(memory.reserve_process().unwrap(), places[500]);
}

#[test]
fn the_last_place_works_like_the_first() {
    let memory = small();
    let places: Vec<_> = std::iter::from_fn(|| memory.reserve_process().ok()).collect();
    let file = memory.descriptor().try_clone_to_owned().unwrap();
    let last = Memory::attach(file, *places.last().unwrap()).unwrap();
    assert_eq!(last.me(), ProcId(1024));
    let object = last.create_object(crate::mm::Kind::PoolBoard, last.alloc(10).unwrap()).unwrap();
    let large = last.alloc(1 << 20).unwrap();
    let taken = memory.take_over(large.into_handle()).unwrap();
    assert!(memory.open_object(object.id(), crate::mm::Kind::PoolBoard).is_ok());
    drop((taken, object));
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}

#[test]
fn places_of_children_that_never_began_go_with_their_parent() {
    let memory = small();
    let other = join(&memory);
    let (unborn, born) = (other.reserve_process().unwrap(), other.reserve_process().unwrap());
    memory.process_started(born, 99);
    assert!(memory.begin_recovery(other.me()));
    memory.end_recovery(other.me());
    let left: Vec<_> = memory.processes().into_iter().map(|entry| entry.id).collect();
    assert_eq!(left, [ProcId::ROOT, born]);
    assert_ne!(unborn, born);
    // The process behind the other place is seen to end by whoever watches it.
    assert!(memory.begin_recovery(born));
    memory.end_recovery(born);
    assert!(!memory.begin_recovery(born));
    assert!(!memory.begin_recovery(ProcId::ROOT));
    assert!(!memory.begin_recovery(ProcId(0)) && !memory.begin_recovery(ProcId(5000)));
}
