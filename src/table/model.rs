//! The table under the shuttle model checker, on words that are not mapped: the very code of the product, in as many
//! interleavings as time allows.

use std::sync::Arc;

use shuttle::{check_pct, check_random, thread};

use super::entry::{Head, State};
use super::ground::Ground;
use super::{Cargo, Expect, How, Plan, Table, View, Wrote};
use crate::id::ProcId;
use crate::mm::{Block, Given, MemError};
use crate::prim::{AtomicU64, Ordering};

const SCHEDULES: usize = 1_000;
const DEPTH: usize = 4;
/// Words for all blocks of one run.
const LAND: usize = 12 << 10;

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(body.clone(), SCHEDULES);
    check_pct(body, SCHEDULES, DEPTH);
}

/// Words that are given out one after the other, and never come back.
struct Field {
    root: Vec<AtomicU64>,
    words: Vec<AtomicU64>,
    next: AtomicU64,
}

/// A block: where it starts, and room to write bytes into before it is seen.
struct Lot(Vec<u8>);

impl Ground for Arc<Field> {
    type Block = Lot;

    fn me(&self) -> ProcId {
        ProcId(1)
    }

    fn root(&self) -> &[AtomicU64] {
        &self.root
    }

    fn words(&self, spot: u64, most: usize) -> Option<&[AtomicU64]> {
        let words = self.words.get(spot as usize..)?;
        Some(&words[..most.min(words.len())])
    }

    fn bytes(&self, _spot: u64, _len: usize) -> Option<&[u8]> {
        None
    }

    fn make(&self, bytes: usize) -> Result<(Lot, Given), MemError> {
        let lines = bytes.div_ceil(64) as u64;
        let spot = 8 * self.next.fetch_add(lines, Ordering::Relaxed);
        assert!((spot + 8 * lines) as usize <= LAND, "a larger field");
        let given = Given::from_word((spot >> 3) << 28 | 1).unwrap();
        Ok((Lot(vec![0; bytes]), given))
    }

    fn adopt(&self, _block: Block) -> Result<(Lot, Given), MemError> {
        unreachable!("a model's values are written")
    }

    fn bytes_of<'b>(&self, block: &'b mut Lot) -> &'b mut [u8] {
        &mut block.0
    }

    fn give(&self, _block: Lot) {}

    fn take_back(&self, _given: Given) -> Option<Lot> {
        Some(Lot(Vec::new()))
    }

    fn give_for(&self, _given: Given, _dead: ProcId) {}
}

type Model = Arc<Table<Arc<Field>>>;

fn table() -> Model {
    let zero = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
    let (root, words) = (zero(super::ROOT_WORDS + super::SHARD_WORDS), zero(LAND));
    let field = Arc::new(Field { root, words, next: AtomicU64::new(1) });
    let plan = Plan { label: 1, shards: 1, limit: 1 << 19, history: false, seed: 5, upper: [0; 8] };
    let table = Table::over_new(field, &plan);
    table.shard(0).lay_first_lines().unwrap();
    Arc::new(table)
}

fn how(expect: Expect) -> How {
    How { view: View::up_to(0), floor: 0, kept: false, cargo: false, expect, gate: 0 }
}

/// A value of so many words, all of them the same.
fn put(table: &Model, key: u64, value: u64, words: usize) {
    assert_ne!(put_if(table, key, value, words, Expect::Any), Wrote::Refused);
}

fn put_if(table: &Model, key: u64, value: u64, words: usize, expect: Expect) -> Wrote {
    let bytes = key.to_ne_bytes();
    let fill = |space: &mut [u8]| bytemuck::cast_slice_mut(space).fill(value);
    table.put(0, &table.key(&bytes), &how(expect), 8 * words, &mut Cargo::new(), fill, |_| ()).unwrap()
}

fn get(table: &Model, key: u64) -> Option<u64> {
    let bytes = key.to_ne_bytes();
    let mut found = None;
    let whole = |value: &[u8]| {
        let words: &[u64] = bytemuck::cast_slice(value);
        assert!(words.iter().all(|word| *word == words[0]), "torn: {words:?}");
        found = Some(words[0]);
    };
    table.get(0, &table.key(&bytes), View::up_to(0), &mut Cargo::new(), whole).unwrap();
    found
}

fn remove(table: &Model, key: u64) -> bool {
    let bytes = key.to_ne_bytes();
    table.remove(0, &table.key(&bytes), &how(Expect::Any), &mut Cargo::new()).unwrap() != Wrote::Refused
}

/// Blocks that are not free, nor kept for a next call.
fn blocks(table: &Model) -> usize {
    table.trim(0);
    table.shard(0).heads().into_iter().filter(|head: &Head| head.state() != State::Free).count()
}

#[test]
fn a_reader_sees_one_value_or_the_other_and_both_writers_leave_one() {
    check(|| {
        let table = table();
        put(&table, 7, 1, 2);
        let writers = [2, 3].map(|value| {
            let table = table.clone();
            thread::spawn(move || {
                put(&table, 7, value, value as usize);
                put(&table, 7, value + 10, 2);
            })
        });
        let first = get(&table, 7).expect("it is never gone");
        let second = get(&table, 7).expect("it is never gone");
        // Of each writer the later value is not followed by its earlier one.
        assert!(!(first > 10 && second == first - 10), "{first} and then {second}");
        assert!(first == 1 || second != 1, "back to the beginning");
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert!([12, 13].contains(&get(&table, 7).unwrap()));
        assert_eq!((blocks(&table), table.tally(0).entries), (1, 1));
    });
}

#[test]
fn what_is_pinned_stays_and_is_freed_by_whoever_is_last() {
    check(|| {
        let table = table();
        put(&table, 7, 1, 2);
        let readers = [0, 1].map(|_| {
            let table = table.clone();
            thread::spawn(move || {
                let bytes = 7_u64.to_ne_bytes();
                let mut cargo = Cargo::new();
                let Some(pinned) = table.pin(0, &table.key(&bytes), View::up_to(0), &mut cargo).unwrap() else {
                    return;
                };
                let words = table.ground.words(pinned.spot, 2).unwrap();
                let look = || words.iter().map(|word| word.load(Ordering::Acquire)).collect::<Vec<_>>();
                let first = look();
                assert!(first[0] == first[1] && [1, 2, 3].contains(&first[0]), "{first:?}");
                assert_eq!(look(), first);
                table.unpin(pinned, &mut cargo);
            })
        });
        put(&table, 7, 2, 2);
        put(&table, 7, 3, 2);
        remove(&table, 7);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!((blocks(&table), table.tally(0).entries), (0, 0));
    });
}

#[test]
fn of_two_who_put_a_new_key_one_does() {
    check(|| {
        let table = table();
        let others = [1, 2].map(|value| {
            let table = table.clone();
            thread::spawn(move || put_if(&table, 7, value, 1, Expect::Absent))
        });
        let removed = remove(&table, 7);
        let wrote: Vec<Wrote> = others.into_iter().map(|other| other.join().unwrap()).collect();
        let news = wrote.iter().filter(|wrote| **wrote == Wrote::New).count();
        let there = usize::from(get(&table, 7).is_some());
        assert_eq!(news, there + usize::from(removed), "{wrote:?}");
        assert_eq!((blocks(&table), table.tally(0).entries as usize), (there, there));
    });
}

#[test]
fn no_key_is_missed_while_lines_are_split() {
    check(|| {
        let table = table();
        // As many as make the next ones split lines.
        (0..15).for_each(|key| put(&table, key, key + 1, 1));
        let growing = {
            let table = table.clone();
            thread::spawn(move || (15..20).for_each(|key| put(&table, key, key + 1, 1)))
        };
        let changing = {
            let table = table.clone();
            thread::spawn(move || (0..6).for_each(|key| put(&table, key, key + 1, 2)))
        };
        for key in (0..15).rev() {
            assert_eq!(get(&table, key), Some(key + 1));
        }
        let mut seen = Vec::new();
        for part in 0..super::PARTS {
            table.walk_keys(0, part, View::up_to(0), |key| seen.push(u64::from_ne_bytes(key.try_into().unwrap())));
        }
        growing.join().unwrap();
        changing.join().unwrap();
        seen.sort_unstable();
        seen.retain(|key| *key < 15);
        assert_eq!(seen, (0..15).collect::<Vec<_>>(), "a walk sees each once");
        for key in 0..20 {
            assert_eq!(get(&table, key), Some(key + 1));
        }
        assert!(table.shard(0).depth() > super::layout::FIRST_DEPTH, "nothing was split");
        assert_eq!((blocks(&table), table.tally(0).entries), (20, 20));
    });
}
