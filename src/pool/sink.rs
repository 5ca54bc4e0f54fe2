//! Where results go: each part of a job ends in exactly one call on its sink.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::message::{ResultHead, Status};
use crate::channel::Payload;
use crate::error::{Error, ErrorKind};
use crate::prim::{AtomicBool, AtomicUsize, Ordering};
use crate::task::{Failure, Thunk};
use crate::wire::{self, Message};

/// What became of one part of a job.
pub(super) enum Outcome<'a> {
    /// The encoded results.
    Done(&'a [u8]),
    /// Why there are none.
    Failed(Error),
}

/// Something to run on the pool's callback thread.
pub(super) type Callback = Box<dyn FnOnce() + Send>;

/// Takes the parts of one job. Called with no lock of the pool held but the role of the collector.
pub(super) trait Sink: Send + Sync {
    /// Takes a part. What it returns is run on the callback thread.
    fn part(self: Arc<Self>, part: u32, outcome: Outcome<'_>) -> Option<Callback>;

    /// Takes a part as its worker sent it: a message with its head.
    fn answered(
        self: Arc<Self>,
        part: u32,
        status: Status,
        message: Payload<'_>,
        thunk: &'static Thunk,
    ) -> Option<Callback> {
        self.part(part, Outcome::read(status, &message[size_of::<ResultHead>()..], thunk))
    }
}

impl<'a> Outcome<'a> {
    /// What an answer means.
    pub(super) fn read(status: Status, rest: &'a [u8], thunk: &Thunk) -> Outcome<'a> {
        Outcome::Failed(match status {
            Status::DONE => return Outcome::Done(rest),
            Status::FAILED => failed(rest, thunk.name()),
            Status::SKIPPED => cancelled(thunk.name()),
            _ => {
                let kind = if status == Status::NO_ROOM { ErrorKind::OutOfMemory } else { ErrorKind::WrongBuild };
                Error::new(kind, format!("task `{}`: {}", thunk.name(), String::from_utf8_lossy(rest)))
            }
        })
    }
}

fn failed(encoded: &[u8], name: &str) -> Error {
    match wire::decode::<Failure>(encoded) {
        Ok(failure) => Error::from_failure(&failure, &format!("task `{name}`")),
        Err(error) => error.into(),
    }
}

/// The error of a task that was given up.
pub(super) fn cancelled(name: &str) -> Error {
    Error::new(ErrorKind::Cancelled, format!("task `{name}` was cancelled before it finished"))
}

/// Locks, whatever happened to the thread that held the lock: what it guards here is whole between statements.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a finished [`MapSink`] delivers if nobody waits for it in a call.
pub(super) type WhenWhole<R> = Box<dyn FnOnce(Result<Vec<R>, Error>) -> Option<Callback> + Send>;

/// Collects the parts of a map, in order.
pub(super) struct MapSink<R> {
    got: Mutex<Got<R>>,
    left: AtomicUsize,
    failed: AtomicBool,
}

struct Got<R> {
    parts: Parts<R>,
    error: Option<Error>,
    when_whole: Option<WhenWhole<R>>,
}

/// Results as they come: whole chunks, or single items where a chunk is one item.
enum Parts<R> {
    Chunks(Vec<Vec<R>>),
    Items(Vec<Option<R>>),
}

impl<R: Message> MapSink<R> {
    /// For so many items in chunks of `chunk`.
    pub(super) fn new(items: usize, chunk: usize, when_whole: Option<WhenWhole<R>>) -> Arc<MapSink<R>> {
        let parts = items.div_ceil(chunk);
        let room = match chunk {
            1 => Parts::Items((0..items).map(|_| None).collect()),
            _ => Parts::Chunks((0..parts).map(|_| Vec::new()).collect()),
        };
        Arc::new(MapSink {
            got: Mutex::new(Got { parts: room, error: None, when_whole }),
            left: AtomicUsize::new(parts),
            failed: AtomicBool::new(false),
        })
    }

    /// Nothing more can change the answer: all parts are there, or one failed.
    pub(super) fn is_settled(&self) -> bool {
        // Acquire both, pairs with the Release in `part`.
        self.left.load(Ordering::Acquire) == 0 || self.failed.load(Ordering::Acquire)
    }

    /// The answer of a settled map.
    pub(super) fn take(&self) -> Result<Vec<R>, Error> {
        lock(&self.got).take()
    }
}

impl<R: Message> Got<R> {
    fn take(&mut self) -> Result<Vec<R>, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        Ok(match std::mem::replace(&mut self.parts, Parts::Chunks(Vec::new())) {
            Parts::Chunks(chunks) => {
                let mut all = Vec::with_capacity(chunks.iter().map(Vec::len).sum());
                chunks.into_iter().for_each(|mut chunk| all.append(&mut chunk));
                all
            }
            Parts::Items(items) => items.into_iter().flatten().collect(),
        })
    }

    fn put(&mut self, part: usize, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.parts {
            Parts::Chunks(chunks) => chunks[part] = wire::decode_many(bytes)?,
            Parts::Items(items) => {
                let mut one: Vec<R> = wire::decode_many(bytes)?;
                items[part] = one.pop();
            }
        }
        Ok(())
    }
}

impl<R: Message> Sink for MapSink<R> {
    fn part(self: Arc<Self>, part: u32, outcome: Outcome<'_>) -> Option<Callback> {
        let mut got = lock(&self.got);
        let put = match outcome {
            Outcome::Done(bytes) => got.put(part as usize, bytes),
            Outcome::Failed(error) => Err(error),
        };
        let first_error = put.is_err() && got.error.is_none();
        if let Err(error) = put {
            got.error.get_or_insert(error);
            self.failed.store(true, Ordering::Release); // pairs with `is_settled`
        }
        let last = self.left.fetch_sub(1, Ordering::AcqRel) == 1; // pairs with `is_settled`
        if first_error || last {
            let deliver = got.when_whole.take()?;
            let answer = got.take();
            drop(got);
            return deliver(answer);
        }
        None
    }
}
