//! Maps: many items, cut into chunks, sent while answers come in.

use std::sync::Arc;

use super::Pool;
use super::engine::Refusal;
use super::flight::{Context, Launch, Parcel};
use super::handle::{Cell, Task};
use super::message::{ContextRef, TaskHead, Ticket};
use super::sink::{MapSink, Sink, WhenWhole};
use super::sites::FarContext;
use crate::channel;
use crate::channel::Load;
use crate::error::{Error, ErrorKind, Result};
use crate::task::Thunk;
use crate::task::thunk::{self, Captures};
use crate::time::Deadline;
use crate::wire::{self, Message};

/// So many chunks per worker, so that a slow one does not keep the others waiting long.
const CHUNKS_PER_WORKER: usize = 4;

/// A function on its way into tasks: where it stands, and what goes with every task of it.
pub(super) struct Recipe {
    function: u32,
    thunk: &'static Thunk,
    context: Option<(ContextRef, Arc<Context>)>,
}

impl Recipe {
    /// Makes the function known to the workers.
    pub(super) fn new(pool: &Pool, thunk: &'static Thunk) -> Result<Recipe> {
        Ok(Recipe { function: pool.engine.function(thunk)?, thunk, context: None })
    }

    /// The same with a context that every worker decodes once.
    fn with_context<C: Message + Sync>(pool: &Pool, thunk: &'static Thunk, context: &C) -> Result<Recipe> {
        let mut bytes = Vec::new();
        let (encoded, _cargo) = channel::gather(|| wire::encode(context, &mut bytes));
        encoded?;
        let block = pool.home.memory().store(&bytes)?;
        let decoder = pool.engine.function(thunk::context::<C>())?.into();
        let reference = ContextRef { id: pool.next_context(), decoder, block: block.handle() };
        let sites = pool.engine.sites.get();
        let _far = sites.map(|sites| FarContext { sites: sites.clone(), id: reference.id });
        sites.map_or(Ok(()), |sites| sites.send_context(reference.id, &bytes))?;
        let context = Arc::new(Context { _block: block, _cargo, _far });
        Ok(Recipe { context: Some((reference, context)), ..Recipe::new(pool, thunk)? })
    }

    /// Everything of a message but the items.
    pub(super) fn begin(&self, bytes: &mut Vec<u8>) {
        let with_context = self.context.is_some().into();
        let head = TaskHead { ticket: Ticket::NONE, function: self.function, with_context };
        bytes.clear();
        bytes.extend_from_slice(bytemuck::bytes_of(&head));
        if let Some((reference, _)) = &self.context {
            bytes.extend_from_slice(bytemuck::bytes_of(reference));
        }
    }

    /// One part; `cargo` are the objects whose handles are in its message.
    pub(super) fn launch(&self, sink: Arc<dyn Sink>, part: u32, retries: u32, cargo: Load) -> Launch {
        let _context = self.context.as_ref().map(|(_, context)| context.clone());
        Launch { sink, part, thunk: self.thunk, retries, _context, _cargo: cargo }
    }

    pub(super) fn thunk(&self) -> &'static Thunk {
        self.thunk
    }
}

/// A pool whose maps cut their items into chunks of a given size. See [`Pool::chunk`].
#[derive(Clone, Copy, Debug)]
pub struct Chunked<'p> {
    pub(super) pool: &'p Pool,
    pub(super) chunk: Option<usize>,
}

impl<'p> Chunked<'p> {
    /// [`Pool::map`] with this chunk size.
    ///
    /// # Errors
    /// As there.
    pub fn map<F, T, R, I>(&self, f: F, items: I) -> Result<Vec<R>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        let recipe = Recipe::new(self.pool, thunk::many(f))?;
        self.run(&recipe, &items.into_iter().collect::<Vec<T>>())
    }

    /// [`Pool::map_with`] with this chunk size.
    ///
    /// # Errors
    /// As there.
    pub fn map_with<C, F, T, R, I>(&self, context: &C, f: F, items: I) -> Result<Vec<R>>
    where
        F: Fn(&C, T) -> R + Copy + Send + Sync + 'static,
        C: Message + Sync,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        let recipe = Recipe::with_context(self.pool, thunk::many_with::<C, F, T, R>(f), context)?;
        self.run(&recipe, &items.into_iter().collect::<Vec<T>>())
    }

    /// [`Pool::par_map`] with this chunk size.
    ///
    /// # Errors
    /// As there.
    pub fn par_map<F, T, R, I>(&self, f: F, items: I) -> Result<Vec<R>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        let recipe = Recipe::new(self.pool, thunk::par_many(f))?;
        let items: Vec<T> = items.into_iter().collect();
        let chunk = self.chunk.unwrap_or_else(|| items.len().div_ceil(self.pool.size()).max(1));
        Chunked { chunk: Some(chunk), ..*self }.run(&recipe, &items)
    }

    /// [`Pool::map_async`] with this chunk size.
    ///
    /// # Errors
    /// As there.
    pub fn map_async<F, T, R, I>(&self, f: F, items: I) -> Result<Task<Vec<R>>>
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Message,
        I: IntoIterator<Item = T>,
    {
        const { Captures::<F>::NOTHING };
        let recipe = Recipe::new(self.pool, thunk::many(f))?;
        let items: Vec<T> = items.into_iter().collect();
        self.pool.engine.check_open()?;
        let chunk = self.size(items.len())?;
        let cell = Cell::new(&self.pool.engine, |_| Err(Error::new(ErrorKind::Codec, "a map has no single answer")));
        if items.is_empty() {
            self.pool.engine.after(cell.clone().settle(Ok(Vec::new())));
            return Ok(Task::new(self.pool.engine.clone(), cell.clone(), cell, recipe.thunk()));
        }
        let whole = cell.clone();
        let deliver: WhenWhole<R> = Box::new(move |answer| whole.settle(answer));
        let sink = MapSink::new(items.len(), chunk, Some(deliver));
        let task = Task::new(self.pool.engine.clone(), cell, sink.clone(), recipe.thunk());
        for (part, items) in items.chunks(chunk).enumerate() {
            let mut bytes = Vec::new();
            recipe.begin(&mut bytes);
            let (encoded, cargo) = channel::gather(|| wire::encode_many(items, &mut bytes));
            encoded?;
            let launch = recipe.launch(sink.clone(), part as u32, self.pool.retries, cargo);
            self.pool.engine.submit(Parcel { launch, bytes });
        }
        Ok(task)
    }

    /// The chunk size for so many items.
    pub(super) fn size(&self, items: usize) -> Result<usize> {
        match self.chunk {
            Some(0) => Err(Error::new(ErrorKind::InvalidArgument, "a chunk holds at least one item, not 0")),
            Some(chunk) => Ok(chunk),
            None => Ok(items.div_ceil(self.pool.size() * CHUNKS_PER_WORKER).max(1)),
        }
    }

    fn run<T: Message, R: Message>(&self, recipe: &Recipe, items: &[T]) -> Result<Vec<R>> {
        let engine = &self.pool.engine;
        engine.check_open()?;
        let chunk = self.size(items.len())?;
        let sink = MapSink::<R>::new(items.len(), chunk, None);
        let shared: Arc<dyn Sink> = sink.clone();
        let sent = self.send_all(recipe, items, chunk, &sink, &shared);
        if sent.is_ok() {
            engine.wait_for(Deadline::Never, &|| sink.is_settled());
        }
        let answer = sent.and_then(|()| sink.take());
        if answer.is_err() {
            engine.cancel(&shared);
        }
        answer
    }

    /// Sends all chunks, taking answers where there is no room; stops early if one of them has failed.
    fn send_all<T: Message, R: Message>(
        &self,
        recipe: &Recipe,
        items: &[T],
        chunk: usize,
        sink: &MapSink<R>,
        shared: &Arc<dyn Sink>,
    ) -> Result<()> {
        let engine = &self.pool.engine;
        let mut bytes = Vec::new();
        for (part, items) in items.chunks(chunk).enumerate() {
            recipe.begin(&mut bytes);
            let (encoded, cargo) = channel::gather(|| wire::encode_many(items, &mut bytes));
            encoded?;
            let mut launch = recipe.launch(shared.clone(), part as u32, self.pool.retries, cargo);
            loop {
                if sink.is_settled() {
                    return Ok(());
                }
                let seen = engine.landed();
                match engine.launch(&mut bytes, launch) {
                    Ok(()) => break,
                    Err((_, Refusal::Never(error))) => return Err(error),
                    Err((back, Refusal::Later)) => launch = back,
                }
                engine.wait_for(Deadline::Never, &|| sink.is_settled() || engine.landed() != seen);
            }
        }
        Ok(())
    }
}
