//! The links of a chain under the model checker, with pieces of one slot each: every history is one of a plain queue, and
//! no message, no piece and no sleeper is left behind.

#[path = "../../tests/linear/checker.rs"]
mod checker;

use std::sync::atomic::{AtomicU64 as Plain, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use shuttle::{check_pct, check_random, thread};

use super::ChannelError;
use super::links::{FIRST, LINKS, Pieces, Side, WINDOW};
use super::model::{Words, fill, value};
use super::pipe::Refusal;
use crate::id::{ObjectId, ProcId};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until};
use checker::{Call, Did, Promise};

const SCHEDULES: usize = 1_500;
const DEPTH: usize = 4;

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(body.clone(), SCHEDULES);
    check_pct(body, SCHEDULES, DEPTH);
}

/// A chain of rings in this process's heap. What is not the protocol's is behind a plain lock, which no schedule sees.
struct Model {
    words: Vec<AtomicU64>,
    readers: WaitCell,
    pieces: Mutex<Vec<Option<Arc<Words>>>>,
    slots: usize,
    /// Broken: does not close a piece before it links the next.
    careless: bool,
    clock: Plain,
    calls: Mutex<Vec<Call>>,
}

impl Model {
    fn new(slots: usize, careless: bool) -> Arc<Model> {
        let words: Vec<_> = (0..WINDOW + LINKS as usize).map(|_| AtomicU64::new(0)).collect();
        words[FIRST].store(1, Ordering::SeqCst);
        let (pieces, calls) = (Mutex::default(), Mutex::default());
        Arc::new(Model { words, readers: WaitCell::new(), pieces, slots, careless, clock: Plain::new(0), calls })
    }

    fn put(&self, number: u64) -> Did {
        let sent = self.send_to_last(|piece| match piece.pipe(ProcId(1)).try_claim() {
            Some(Ok(outgoing)) => {
                fill(outgoing, number).send();
                Ok(())
            }
            Some(Err(Refusal::Closed)) => Err(ChannelError::Closed),
            _ => Err(ChannelError::Full),
        });
        self.readers.notify_one();
        match sent {
            Ok(()) => Did::Put(number),
            // Its window is short under the checker: as good as full.
            Err(ChannelError::TooLong { .. }) => Did::FoundFull,
            Err(error) => panic!("{error}"),
        }
    }

    fn try_get(&self) -> Option<u64> {
        let got = self.receive_from_first(|piece| match piece.pipe(ProcId(2)).try_take() {
            Some(Ok(incoming)) => Ok(value(&incoming)),
            Some(Err(Refusal::Closed)) => Err(ChannelError::Closed),
            _ => Err(ChannelError::Empty),
        });
        if !matches!(got, Err(ChannelError::Empty)) {
            self.readers.notify_one_if(|| self.is_ready());
        }
        match got {
            Ok(value) => Some(value),
            Err(ChannelError::Empty | ChannelError::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn is_ready(&self) -> bool {
        self.numbers()
            .any(|number| self.with(Side::Receiving, number, |piece| piece.is_readable()).ok() == Some(Some(true)))
    }

    fn get(&self) -> u64 {
        let got = wait_until(&self.readers, &mut Patience::new(), Deadline::Never, || self.try_get());
        got.unwrap_or_else(|_| unreachable!("it waits for ever"))
    }

    fn call(&self, call: impl FnOnce(&Model) -> Did) -> Did {
        let begin = self.clock.fetch_add(1, SeqCst);
        let did = call(self);
        self.calls.lock().unwrap().push(Call { begin, end: self.clock.fetch_add(1, SeqCst), did });
        did
    }

    fn piece(&self, id: ObjectId) -> Option<Arc<Words>> {
        self.pieces.lock().unwrap()[id.index as usize].clone()
    }
}

impl Pieces for Model {
    type Piece = Words;

    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn with_piece<R>(
        &self,
        _: Side,
        _: u64,
        id: ObjectId,
        f: impl FnOnce(&Words) -> R,
    ) -> Result<Option<R>, ChannelError> {
        // Whoever has it open keeps it, as long as that lasts.
        Ok(self.piece(id).map(|piece| f(&piece)))
    }

    fn make(&self, _: u64, _: u64) -> Result<ObjectId, ChannelError> {
        // Made before the plain lock is taken: no schedule may change threads while it is held.
        let piece = Words::new(self.slots);
        let mut pieces = self.pieces.lock().unwrap();
        pieces.push(Some(piece));
        Ok(ObjectId { index: pieces.len() as u32 - 1, generation: 5 })
    }

    fn unmake(&self, _: u64, id: ObjectId) {
        let gone = self.pieces.lock().unwrap()[id.index as usize].take();
        assert!(gone.is_some(), "unmade twice");
    }

    fn shut(&self, piece: &Words) {
        if !self.careless {
            piece.pipe(ProcId(1)).close();
        }
    }

    fn is_done(piece: &Words) -> bool {
        piece.is_done()
    }

    fn retired(&self, _: u64, id: ObjectId) {
        let gone = self.pieces.lock().unwrap()[id.index as usize].take().expect("retired twice");
        assert!(gone.is_done(), "a piece was retired with messages in it");
    }
}

fn put_two(chain: &Model, first: u64) {
    for number in first..first + 2 {
        chain.call(|chain| chain.put(number));
    }
}

/// What comes last.
const LAST_VALUE: u64 = 9;

fn play(slots: usize) {
    let chain = Model::new(slots, false);
    let run = |work: fn(&Model)| {
        let chain = chain.clone();
        thread::spawn(move || work(&chain))
    };
    let drain = run(|chain| while chain.call(|chain| Did::Got(chain.get())) != Did::Got(LAST_VALUE) {});
    let threads = [
        run(|chain| put_two(chain, 0)),
        run(|chain| put_two(chain, 2)),
        run(|chain| {
            for _ in 0..2 {
                chain.call(|chain| chain.try_get().map_or(Did::FoundEmpty, Did::Got));
            }
        }),
    ];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    while chain.call(|chain| chain.put(LAST_VALUE)) == Did::FoundFull {
        thread::yield_now();
    }
    drain.join().unwrap();
    let mut history = chain.calls.lock().unwrap().clone();
    history.retain(|call| call.did != Did::FoundFull);
    checker::check(&history, Promise { bound: None, drained: true, held_up: true }).unwrap();
    let left = chain.pieces.lock().unwrap().iter().flatten().count();
    assert!(left <= 1 + chain.numbers().count(), "{left} pieces are left");
}

#[test]
fn model_every_history_of_a_small_chain_is_linearizable() {
    for slots in [1, 2] {
        check(move || play(slots));
    }
}

#[test]
fn model_a_chain_that_is_ended_takes_no_more_and_loses_nothing() {
    check(|| {
        let chain = Model::new(1, false);
        let put = |number: u64| {
            let chain = chain.clone();
            thread::spawn(move || {
                let sent = chain.send_to_last(|piece| match piece.pipe(ProcId(1)).try_claim() {
                    Some(Ok(outgoing)) => Ok(fill(outgoing, number).send()),
                    Some(Err(Refusal::Closed)) => Err(ChannelError::Closed),
                    _ => Err(ChannelError::Full),
                });
                sent.is_ok()
            })
        };
        let putting = [put(1), put(2)];
        chain.end();
        let put = putting.into_iter().filter(|_| true).map(|thread| thread.join().unwrap()).filter(|put| *put).count();
        assert!(chain.is_ended());
        let got = std::iter::from_fn(|| chain.try_get()).count();
        assert_eq!(put, got);
        assert!(matches!(
            chain.send_to_last(|_| -> Result<(), _> { Err(ChannelError::Closed) }),
            Err(ChannelError::Closed)
        ));
    });
}

#[test]
#[should_panic(expected = "what was put is lost")]
fn model_sees_a_piece_that_was_not_closed() {
    check(|| {
        let chain = Model::new(1, true);
        let putting = [0, 10].map(|first| {
            let chain = chain.clone();
            thread::spawn(move || put_two(&chain, first))
        });
        let mut got = 0;
        for _ in 0..4 {
            got += chain.try_get().iter().count();
        }
        putting.into_iter().for_each(|thread| thread.join().unwrap());
        got += std::iter::from_fn(|| chain.try_get()).count();
        let put = chain.calls.lock().unwrap().iter().filter(|call| matches!(call.did, Did::Put(_))).count();
        assert_eq!(put, got, "what was put is lost");
    });
}
