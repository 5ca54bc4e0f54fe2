//! The heap against a model: a map of live blocks, by any order of requests of two processes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::mm::Block;
use crate::mm::Handle;
use crate::mm::MemError;
use crate::mm::tests::basics::small;
use crate::mm::tests::recovery::join;

#[derive(Clone, Debug)]
enum Step {
    Alloc { len: usize, by_other: bool },
    Free { which: usize },
    HandOver { which: usize },
    Trim { by_other: bool },
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..300usize, 3 => 300..9000usize, 2 => 9000..70_000usize, 1 => 70_000..3_000_000usize]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (lengths(), any::<bool>()).prop_map(|(len, by_other)| Step::Alloc { len, by_other }),
        4 => any::<usize>().prop_map(|which| Step::Free { which }),
        2 => any::<usize>().prop_map(|which| Step::HandOver { which }),
        1 => any::<bool>().prop_map(|by_other| Step::Trim { by_other }),
    ]
}

/// Live blocks by where they start.
#[derive(Default)]
struct Model(BTreeMap<(u16, u64), (Block, u8)>);

impl Model {
    fn add(&mut self, mut block: Block, mark: u8) {
        let handle = block.handle();
        assert_eq!(block.ptr().as_ptr() as usize % 64, 0);
        let (start, end) = (handle.offset, handle.offset + handle.len.max(1));
        if let Some((&(segment, before), (other, _))) = self.0.range(..=(handle.segment, start)).next_back() {
            assert!(segment != handle.segment || before + other.handle().len.max(1) <= start, "overlaps below");
        }
        if let Some((&(segment, after), _)) = self.0.range((handle.segment, start)..).next() {
            assert!(segment != handle.segment || end <= after, "overlaps above");
        }
        block.as_mut_slice().fill(mark);
        self.0.insert((handle.segment, start), (block, mark));
    }

    fn take(&mut self, which: usize) -> Option<(Block, u8)> {
        let key = *self.0.keys().nth(which % self.0.len().max(1))?;
        let (block, mark) = self.0.remove(&key)?;
        assert!(block.as_slice().iter().all(|byte| *byte == mark), "contents changed");
        Some((block, mark))
    }
}

fn run(steps: Vec<Step>) {
    let memory = small();
    let other = join(&memory);
    let mut model = Model::default();
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Alloc { len, by_other } => {
                let from = if by_other { &other } else { &memory };
                model.add(from.alloc(len).unwrap(), at as u8);
            }
            Step::Free { which } => drop(model.take(which)),
            Step::HandOver { which } => {
                if let Some((block, mark)) = model.take(which) {
                    let to = if block.memory().me() == memory.me() { &other } else { &memory };
                    model.add(to.take_over(block.into_handle()).unwrap(), mark);
                }
            }
            Step::Trim { by_other } => {
                (if by_other { &other } else { &memory }).trim();
            }
        }
        assert_eq!(memory.heap_stats().in_use_blocks, model.0.len() as u64);
    }
    while model.take(0).is_some() {}
    assert_eq!(memory.heap_stats().in_use_bytes, 0);
    memory.trim();
    other.trim();
    assert_eq!(memory.heap_stats().slabs, 0);
    // All in one piece again: the largest block there can be fits where all the small ones were.
    assert!(memory.alloc(50 << 20).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn as_the_model(steps in prop::collection::vec(step(), 1..120)) {
        run(steps);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::array::uniform24(any::<u8>())) {
        let memory = small();
        let _kept: Vec<_> = [64, 5000, 100_000].map(|len| memory.alloc(len).unwrap()).into();
        let claim: Handle = bytemuck::cast(bytes);
        let refused = matches!(memory.resolve(claim), Err(MemError::BadHandle { .. }));
        prop_assert!(refused);
        prop_assert!(memory.take_over(claim).is_err());
    }

    #[test]
    fn any_change_of_a_handle_is_refused(
        len in lengths(), field in 0..5usize, by in 1..u64::MAX,
    ) {
        let memory = small();
        let block = memory.alloc(len).unwrap();
        let mut claim = block.handle();
        match field {
            0 => claim.segment = claim.segment.wrapping_add((by as u16).max(1)),
            1 => claim.heap = (by as u16).max(1),
            2 => claim.generation = claim.generation.wrapping_add((by as u32).max(1)),
            3 => claim.offset = claim.offset.wrapping_add(by),
            _ => claim.len = claim.len.saturating_add(by.saturating_add(1 << 17)),
        }
        prop_assert!(memory.resolve(claim).is_err(), "{claim:?}");
        prop_assert!(memory.resolve(block.handle()).is_ok());
    }
}

#[test]
fn a_handle_dies_with_its_block() {
    let memory = small();
    let mut stale = Vec::new();
    for round in 0..200 {
        for len in [64, 4096, 70_000] {
            stale.push(memory.alloc(len).unwrap().handle());
        }
        if round % 10 == 0 {
            memory.trim();
        }
        let live: Vec<_> = [64, 4096, 70_000].map(|len| memory.alloc(len).unwrap()).into();
        assert!(live.iter().all(|block| memory.resolve(block.handle()).is_ok()));
        assert!(stale.iter().all(|handle| memory.resolve(*handle).is_err()));
    }
}
