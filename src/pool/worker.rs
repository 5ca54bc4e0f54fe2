//! The worker's side: what a child process of a pool does from birth to exit.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::board::Board;
use super::message::{ContextRef, ResultHead, Status, TaskHead, Ticket, split};
use crate::channel;
use crate::channel::{Channel, ChannelError, Letter, Payload};
use crate::error::Error;
use crate::id::ObjectId;
use crate::mm::{Block, Memory, MemoryConfig, Object};
use crate::runtime;
use crate::runtime::{Core, Duty};
use crate::services;
use crate::task::{self, Failure, Scope, Thunk};
use crate::time::Deadline;
use crate::wait::Patience;
use crate::wire;

/// What a worker is told at birth.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) board: ObjectId,
    pub(super) tasks: ObjectId,
    pub(super) results: ObjectId,
    /// How many workers and flights the board has room for.
    pub(super) workers: usize,
    pub(super) flights: usize,
    /// This worker's line on the board.
    pub(super) place: usize,
    /// After so many tasks it makes room for a fresh one; 0: never.
    pub(super) tasks_per_worker: u64,
    /// A function to run first: its name, and where in shared memory its argument stands.
    pub(super) initializer: Option<(Vec<u8>, [u8; 24])>,
    /// For a pool of another node.
    pub(super) far: bool,
    pub(super) memory: MemoryConfig,
}

impl Assignment {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Plain numbers and short strings into memory: nothing in it can fail.
        let _ = wire::encode(self, &mut bytes);
        bytes
    }
}

/// The entry of a worker process.
pub(super) fn serve(argument: &[u8]) {
    match Worker::start(argument) {
        Ok(mut worker) => worker.run(),
        // The pool learns it from the exit: it counts workers that end before they were ready.
        Err(error) => tracing::error!(error, "a worker cannot start"),
    }
}

/// What a rank does that is a worker while it waits for the others: see `conscript.rs`.
pub(super) fn serve_on_rank(assignment: Assignment) {
    let Some(duty) = Duty::here() else { return };
    let place = assignment.place;
    match Worker::on_rank(assignment, duty.clone()) {
        Ok(mut worker) => {
            duty.wake_at_end(&worker.tasks);
            worker.run();
            duty.forget(&worker.tasks);
            worker.leave(place);
        }
        Err(error) => tracing::error!(%error, "a rank cannot work for a pool"),
    }
}

struct Worker {
    /// Of a rank: how long it may work.
    duty: Option<Arc<Duty>>,
    core: Arc<Core>,
    memory: Arc<Memory>,
    board: Board,
    tasks: Channel,
    results: Channel,
    assignment: Assignment,
    functions: HashMap<u32, &'static Thunk>,
    contexts: HashMap<u64, Box<dyn Any + Send + Sync>>,
    output: Vec<u8>,
}

/// A task that was taken from the ring.
enum Taken {
    Small { head: TaskHead, bytes: Vec<u8> },
    Large { head: TaskHead, block: Block },
    Broken,
}

impl Worker {
    fn start(argument: &[u8]) -> Result<Worker, String> {
        let birth = task::birth::take().ok_or("it was not born as one")?;
        let (me, told) = services::read_argument(argument).ok_or("it was told something unintelligible")?;
        let assignment: Assignment = wire::decode(told).map_err(|e| e.to_string())?;
        let file = birth.descriptors.into_iter().next().ok_or("it was handed no memory")?;
        let memory = Memory::attach(file, me).map_err(|e| e.to_string())?;
        let core = runtime::adopt(memory.clone(), assignment.memory.clone()).clone();
        Worker::open(core, memory, assignment, None).map_err(|error| error.to_string())
    }

    fn on_rank(assignment: Assignment, duty: Arc<Duty>) -> Result<Worker, Error> {
        let core = runtime::current()?;
        let memory = core.memory().clone();
        Worker::open(core, memory, assignment, Some(duty))
    }

    fn open(
        core: Arc<Core>,
        memory: Arc<Memory>,
        assignment: Assignment,
        duty: Option<Arc<Duty>>,
    ) -> Result<Worker, Error> {
        Ok(Worker {
            duty,
            board: Board::open(&memory, assignment.board, assignment.workers, assignment.flights)?,
            tasks: Channel::open(&memory, assignment.tasks)?,
            results: Channel::open(&memory, assignment.results)?,
            core,
            memory,
            assignment,
            functions: HashMap::new(),
            contexts: HashMap::new(),
            output: Vec::new(),
        })
    }

    fn run(&mut self) {
        self.board.attach(self.assignment.place);
        if let Err(text) = self.initialize() {
            let text = format!("the pool's initializer failed: {text}");
            return self.answer(Ticket::NONE, Status::UNFIT, text.as_bytes());
        }
        let mut patience = Patience::new();
        let mut done = 0;
        loop {
            match self.take(&mut patience) {
                Ok(taken) => self.serve_one(taken),
                Err(ChannelError::Closed | ChannelError::Interrupted) => return,
                // A task is gone and nobody can say which: all who wait must hear of it.
                Err(error) => return self.answer(Ticket::NONE, Status::UNFIT, error.to_string().as_bytes()),
            }
            done += 1;
            if done == self.assignment.tasks_per_worker {
                return;
            }
        }
    }

    fn serve_one(&mut self, taken: Taken) {
        match taken {
            Taken::Small { head, bytes } => self.handle(head, &bytes),
            Taken::Large { head, block } => self.handle(head, &block.as_slice()[size_of::<TaskHead>()..]),
            Taken::Broken => tracing::error!("a message to a worker is shorter than its head"),
        }
        mark!("pool.worker.answered");
        self.board.done(self.assignment.place);
    }

    /// Waits for a task and notes on the board that it is ours, while its message is still claimed: whoever
    /// dies here either has not taken it, and it is ready again for others, or has its name on the board.
    fn take(&self, patience: &mut Patience) -> Result<Taken, ChannelError> {
        let stop = || self.board.is_stopping() || self.duty.as_ref().is_some_and(|duty| duty.is_over());
        if stop() {
            return Err(ChannelError::Interrupted);
        }
        self.tasks.recv_with(patience, Deadline::Never, &stop, |position, payload| {
            let note = |bytes: &[u8]| {
                let (head, rest) = split::<TaskHead>(bytes)?;
                self.board.take(self.assignment.place, head.ticket, position);
                mark!("pool.worker.taken");
                Some((head, rest.len()))
            };
            match payload {
                Payload::Inline(bytes) => note(bytes).map_or(Taken::Broken, |(head, rest)| Taken::Small {
                    head,
                    bytes: bytes[bytes.len() - rest..].to_vec(),
                }),
                Payload::Block(block) => {
                    note(block.as_slice()).map_or(Taken::Broken, |(head, _)| Taken::Large { head, block })
                }
            }
        })
    }

    fn handle(&mut self, head: TaskHead, body: &[u8]) {
        if self.board.is_cancelled(head.ticket) {
            return self.answer(head.ticket, Status::SKIPPED, &[]);
        }
        mark!("pool.worker.running");
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        // What its result holds handles of lives on until the answer holds it.
        let (called, cargo) = channel::gather(|| self.call(head, body, &mut output));
        let status = match called {
            Ok(Ok(())) => Status::DONE,
            Ok(Err(failure)) => {
                output.clear();
                // Text and numbers into memory: nothing in it can fail.
                let _ = wire::encode(&failure, &mut output);
                Status::FAILED
            }
            Err(text) => {
                output = text.into_bytes();
                Status::REFUSED
            }
        };
        if self.assignment.far && !cargo.is_empty() {
            // Nobody holds it on the way to the other node.
            let here = self.core.place().node();
            cargo.iter().for_each(|object| self.core.linger((here, object.id()), object.clone()));
        }
        mark!("pool.worker.ran");
        self.answer_with(head.ticket, status, &output, &cargo);
        output.shrink_to(1 << 20);
        self.output = output;
    }

    fn call(&mut self, head: TaskHead, body: &[u8], output: &mut Vec<u8>) -> Result<Result<(), Failure>, String> {
        let thunk = self.function(head.function)?;
        let (context, input) = if head.with_context == 0 {
            (None, body)
        } else {
            let (reference, rest) = split::<ContextRef>(body).ok_or("its context is missing")?;
            if let Err(failure) = self.learn(&reference)? {
                return Ok(Err(failure));
            }
            (self.contexts.get(&reference.id).map(|context| &**context), rest)
        };
        Ok(thunk.call(&mut Scope::new(input, output).with_context(context)))
    }

    /// Finds the function that a task names.
    fn function(&mut self, at: u32) -> Result<&'static Thunk, String> {
        if let Some(thunk) = self.functions.get(&at) {
            return Ok(thunk);
        }
        let bytes = self.board.entry(at).ok_or("its function is not on the pool's board")?;
        let thunk = task::find_in_full(&bytes)?;
        self.functions.insert(at, thunk);
        Ok(thunk)
    }

    /// Decodes a context at its first use, and forgets the one before: maps with contexts follow each other.
    fn learn(&mut self, reference: &ContextRef) -> Result<Result<(), Failure>, String> {
        if self.contexts.contains_key(&reference.id) {
            return Ok(Ok(()));
        }
        let decoder = self.function(reference.decoder as u32)?;
        let bytes = self.memory.bytes(reference.block).map_err(|e| e.to_string())?;
        let mut nothing = Vec::new();
        let mut scope = Scope::new(bytes, &mut nothing);
        if let Err(failure) = decoder.call(&mut scope) {
            return Ok(Err(failure));
        }
        if self.contexts.len() >= CONTEXTS {
            self.contexts.clear();
        }
        self.contexts.extend(scope.made.map(|made| (reference.id, made)));
        Ok(Ok(()))
    }

    fn initialize(&mut self) -> Result<(), String> {
        let Some((name, handle)) = &self.assignment.initializer else { return Ok(()) };
        let thunk = task::find_in_full(name)?;
        let input = self.memory.bytes(bytemuck::pod_read_unaligned(handle)).map_err(|e| e.to_string())?;
        thunk.call(&mut Scope::new(input, &mut Vec::new())).map_err(|failure| failure.to_string())
    }

    /// Sends an answer. One that finds no memory becomes an answer that says so; at worst, cut short, it fits
    /// the ring itself.
    fn answer(&self, ticket: Ticket, status: Status, body: &[u8]) {
        self.answer_with(ticket, status, body, &[]);
    }

    fn answer_with(&self, ticket: Ticket, status: Status, body: &[u8], cargo: &[Object]) {
        let Err(error) = self.send(ticket, status, body, cargo) else { return };
        let text = format!("its result of {} bytes cannot be returned: {error}", body.len());
        let fits = self.results.inline_capacity() - size_of::<ResultHead>();
        let short = &text.as_bytes()[..text.len().min(fits)];
        let told = self
            .send(ticket, Status::NO_ROOM, text.as_bytes(), &[])
            .or_else(|_| self.send(ticket, Status::NO_ROOM, short, &[]));
        if let Err(error) = told {
            tracing::error!(%error, "a worker cannot answer");
        }
    }

    /// Says that this rank works no more. There is room for that.
    fn leave(&self, place: usize) {
        if let Err(error) = self.send(Ticket::NONE, Status::LEFT, &(place as u64).to_le_bytes(), &[]) {
            tracing::debug!(%error, "a pool does not hear that a rank has left it");
        }
    }

    fn send(&self, ticket: Ticket, status: Status, body: &[u8], cargo: &[Object]) -> Result<u64, ChannelError> {
        let head = ResultHead::new(ticket, status);
        let len = size_of::<ResultHead>() + body.len();
        let fill = |space: &mut [u8]| {
            let (front, rest) = space.split_at_mut(size_of::<ResultHead>());
            front.copy_from_slice(bytemuck::bytes_of(&head));
            rest.copy_from_slice(body);
        };
        match cargo {
            [] => self.results.send_with(len, Deadline::Never, fill),
            _ => self.results.post(&mut Letter::new(len, cargo, fill), Deadline::Never),
        }
    }
}

/// So many contexts a worker remembers.
const CONTEXTS: usize = 16;
