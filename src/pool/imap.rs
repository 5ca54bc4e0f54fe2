//! Streams of results: items are drawn as answers come, so that neither side runs far ahead of the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::Pool;
use super::engine::{Engine, Refusal};
use super::flight::Launch;
use super::map::{Chunked, Recipe};
use super::sink::{Callback, Outcome, Sink, lock};
use crate::channel;
use crate::error::Result;
use crate::task::thunk::{self, Captures};
use crate::time::Deadline;
use crate::wire::{self, Message};

/// So many parts per worker are drawn ahead of the one that is asked for.
const AHEAD_PER_WORKER: usize = 4;

/// Parts that have come and were not asked for yet.
struct Arrived<R>(Mutex<BTreeMap<u32, Result<Vec<R>>>>);

impl<R: Message> Sink for Arrived<R> {
    fn part(self: Arc<Self>, part: u32, outcome: Outcome<'_>) -> Option<Callback> {
        let answer = match outcome {
            Outcome::Done(bytes) => wire::decode_many(bytes).map_err(Into::into),
            Outcome::Failed(error) => Err(error),
        };
        lock(&self.0).insert(part, answer);
        None
    }
}

/// The results of [`Pool::imap`] or [`Pool::imap_unordered`], as an iterator of `Result<R>`.
///
/// An error stands where its result would; the stream goes on behind it. Dropping the stream gives up
/// what has not begun.
pub struct Stream<'p, T, R, I> {
    engine: &'p Arc<Engine>,
    recipe: Recipe,
    items: I,
    chunk: usize,
    retries: u32,
    ahead: usize,
    ordered: bool,
    arrived: Arc<Arrived<R>>,
    /// The same, as the pool knows it.
    sink: Arc<dyn Sink>,
    /// A part that found no room.
    waiting: Option<(Vec<u8>, Launch)>,
    sent: u32,
    taken: u32,
    ready: VecDeque<Result<R>>,
    exhausted: bool,
    _items: std::marker::PhantomData<fn(T)>,
}

impl<'p> Chunked<'p> {
    /// [`Pool::imap`] with this chunk size.
    ///
    /// # Errors
    /// As there.
    pub fn imap<F, T, R, I>(&self, f: F, items: I) -> Result<Stream<'p, T, R, I::IntoIter>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        Stream::new(self, f, items.into_iter(), true)
    }

    /// [`Pool::imap_unordered`] with this chunk size.
    ///
    /// # Errors
    /// As there.
    pub fn imap_unordered<F, T, R, I>(&self, f: F, items: I) -> Result<Stream<'p, T, R, I::IntoIter>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        Stream::new(self, f, items.into_iter(), false)
    }
}

impl<'p, T: Message, R: Message, I: Iterator<Item = T>> Stream<'p, T, R, I> {
    fn new<F>(with: &Chunked<'p>, f: F, items: I, ordered: bool) -> Result<Self>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
    {
        let pool: &'p Pool = with.pool;
        pool.engine.check_open()?;
        let arrived = Arc::new(Arrived(Mutex::new(BTreeMap::new())));
        Ok(Stream {
            engine: &pool.engine,
            recipe: Recipe::new(pool, thunk::many(f))?,
            items,
            chunk: with.size(1)?,
            retries: pool.retries,
            ahead: pool.size() * AHEAD_PER_WORKER,
            ordered,
            sink: arrived.clone(),
            arrived,
            waiting: None,
            sent: 0,
            taken: 0,
            ready: VecDeque::new(),
            exhausted: false,
            _items: std::marker::PhantomData,
        })
    }

    /// Sends parts until so many are ahead, the items are exhausted, or there is no room.
    fn feed(&mut self) -> Result<()> {
        while ((self.sent - self.taken) as usize) < self.ahead {
            let Some((mut bytes, launch)) = self.waiting.take().map_or_else(|| self.draw(), |w| Ok(Some(w)))? else {
                break;
            };
            let part = launch.part;
            match self.engine.launch(&mut bytes, launch) {
                Ok(()) => self.sent = part + 1,
                Err((launch, Refusal::Never(error))) => {
                    self.sent = part + 1;
                    self.engine.deliver(launch, Outcome::Failed(error));
                }
                Err((launch, Refusal::Later)) => {
                    self.waiting = Some((bytes, launch));
                    break;
                }
            }
        }
        Ok(())
    }

    /// The next part, encoded.
    fn draw(&mut self) -> Result<Option<(Vec<u8>, Launch)>> {
        if self.exhausted {
            return Ok(None);
        }
        let items: Vec<T> = self.items.by_ref().take(self.chunk).collect();
        self.exhausted = items.len() < self.chunk;
        if items.is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.recipe.begin(&mut bytes);
        let (encoded, cargo) = channel::gather(|| wire::encode_many(&items, &mut bytes));
        encoded?;
        Ok(Some((bytes, self.recipe.launch(self.sink.clone(), self.sent, self.retries, cargo))))
    }

    fn take_arrived(&mut self) -> Option<Result<Vec<R>>> {
        let mut arrived = lock(&self.arrived.0);
        let part = if self.ordered { self.taken } else { *arrived.keys().next()? };
        let answer = arrived.remove(&part)?;
        drop(arrived);
        self.taken += 1;
        Some(answer)
    }
}

impl<T: Message, R: Message, I: Iterator<Item = T>> Iterator for Stream<'_, T, R, I> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        loop {
            if let Some(result) = self.ready.pop_front() {
                return Some(result);
            }
            if let Err(error) = self.feed() {
                self.exhausted = true;
                return Some(Err(error));
            }
            match self.take_arrived() {
                Some(Ok(results)) => {
                    self.ready.extend(results.into_iter().map(Ok));
                    continue;
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {}
            }
            if self.sent == self.taken && self.waiting.is_none() {
                return None;
            }
            let (engine, seen) = (self.engine, self.engine.landed());
            let (wanted, ordered, arrived) = (self.taken, self.ordered, &self.arrived);
            let blocked = self.waiting.is_some();
            let here = || {
                let arrived = lock(&arrived.0);
                if ordered { arrived.contains_key(&wanted) } else { !arrived.is_empty() }
            };
            engine.wait_for(Deadline::Never, &|| here() || (blocked && engine.landed() != seen));
        }
    }
}

impl<T, R, I> Drop for Stream<'_, T, R, I> {
    fn drop(&mut self) {
        if self.sent != self.taken {
            self.engine.cancel(&self.sink);
        }
    }
}

impl<T, R, I> std::fmt::Debug for Stream<'_, T, R, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} parts sent, {} taken)", self.sent, self.taken)
    }
}
