//! Who answers for a part of a dictionary on its own node: the other half of `far.rs`.
//!
//! It runs in the process of the node's head and uses the part as any process of the node does. What can be answered at once
//! is answered on the thread that brought the call; what may wait gets a thread of its own.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use once_cell::sync::OnceCell;
use serde::{Deserialize, Serialize};

use super::DDict;
use super::body::Body;
use super::far::{HEAD, Head, SaidError, flag, op, status};
use super::handle::label;
use super::place::{Directory, Shape};
use super::replica::{Copies, Writer};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::mesh::{Answer, Body as Bytes};
use crate::names;
use crate::prim::AtomicU32;
use crate::runtime;
use crate::runtime::Core;
use crate::services::{DictCall, DictHome, Threads, seat_dict};
use crate::table::{Filled, Key, Wrote};
use crate::task::{self, Scope};
use crate::time::Deadline;
use crate::wire;

/// How long a call of a process that is gone may still wait.
const SLICE: Duration = Duration::from_millis(200);
/// Values from so many bytes on are answered in a block.
const LONG: usize = 4096;

/// Values from so many bytes on are sent from where they are.
const LARGE: usize = 64 << 10;

/// What a part's table notes.
#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    /// How it stores checkpoints, if it does.
    pub(super) archive: Option<Vec<u8>>,
    /// Where the other parts are, if there are others.
    pub(super) directory: Option<Directory>,
    /// The dictionary's name, if parts store checkpoints under names made of it.
    pub(super) base: Option<String>,
}

impl Note {
    pub(super) fn encoded(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        wire::encode(self, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn of(body: &Body) -> Result<Option<Note>> {
        Ok(body.table().note().map(wire::decode).transpose()?)
    }
}

/// What a home is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum PartOpening {
    Make { shape: Shape },
    Open { part: ObjectId },
}

/// What it says: the directory, if it is known, or why it refuses.
pub(super) type Said = std::result::Result<Option<Directory>, SaidError>;

/// Makes a part in this node's memory.
pub(super) fn make_body(core: Arc<Core>, shape: &Shape) -> Result<Body> {
    // Room for the copies that it may have some day: an empty shard takes little.
    let shards = shape.managers as usize * if shape.replicas == 0 { 1 } else { 2 * shape.replicas as usize + 1 };
    Body::create_with(core, shape.label, shards, shape.limit, shape.rules, shape.seed)
}

/// What there is of a dictionary on a node without managers: a table without shards.
pub(super) fn make_root(core: Arc<Core>, shape: &Shape) -> Result<Body> {
    Body::create_with(core, shape.label, 0, shape.limit, shape.rules, shape.seed)
}

/// Runs at the home: makes or opens a part, and seats whoever answers for it.
pub(super) fn open_part<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(opening: PartOpening) -> Said {
    open_or_make::<K, V, C>(&opening).map_err(|error| (error.kind(), error.to_string()))
}

fn open_or_make<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(opening: &PartOpening) -> Result<Option<Directory>> {
    let core = runtime::current()?;
    let body = match opening {
        PartOpening::Make { shape } => make_body(core, shape)?,
        PartOpening::Open { part } => Body::open(core, *part)?,
    };
    if body.table().label() != label::<K, V, C>() {
        return Err(Error::new(ErrorKind::WrongType, "it is a dictionary of other types"));
    }
    let id = body.object().id();
    let directory = match Note::of(&body)?.and_then(|note| note.directory) {
        Some(directory) => Some(directory),
        // Made for one node alone.
        None => Some(alone(&body)),
    };
    seat_dict(
        id,
        Arc::new(Home::<K, V, C> {
            body: Arc::new(body),
            guests: Mutex::default(),
            copies: OnceCell::new(),
            types: PhantomData,
        }),
    );
    Ok(directory)
}

/// The directory of a dictionary that has but this part.
fn alone(body: &Body) -> Directory {
    let (table, rules) = (body.table(), body.rules);
    let (label, seed, limit, managers) = (table.label(), table.seed(), table.limit(), table.shards() as u32);
    let shape = Shape { label, seed, managers, limit, rules, replicas: 0 };
    Directory { shape, places: vec![(body.core.place().node(), body.object().id())] }
}

/// What a home knows of the processes that call it.
struct Guests<K, V, C> {
    /// The handles that write, where others wait for writers.
    writers: HashMap<Writer, Arc<DDict<K, V, C>>>,
    /// How often a process has let go: who waits for one that has gives up.
    left: HashMap<(NodeNumber, ProcId), u64>,
    lost: Vec<NodeNumber>,
}

impl<K, V, C> Default for Guests<K, V, C> {
    fn default() -> Guests<K, V, C> {
        Guests { writers: HashMap::new(), left: HashMap::new(), lost: Vec::new() }
    }
}

/// Answers for a part.
pub(super) struct Home<K, V, C> {
    pub(super) body: Arc<Body>,
    guests: Mutex<Guests<K, V, C>>,
    /// Of a dictionary with replicas: known when the directory is.
    pub(super) copies: OnceCell<Option<Copies>>,
    types: PhantomData<fn(K, V, C) -> V>,
}

/// A call, taken apart.
pub(super) struct Asked {
    pub(super) from: NodeNumber,
    process: ProcId,
    pub(super) head: Head,
    /// The key, if it came with the head.
    key: Vec<u8>,
    body: Bytes,
}

impl Asked {
    fn new(call: DictCall) -> Option<Asked> {
        let DictCall { from, process, head: own, body } = call;
        let apart = !own.is_empty();
        let front = if apart { &own[..] } else { &body[..] };
        let head: Head = bytemuck::pod_read_unaligned(front.get(..HEAD)?);
        let key =
            if head.has(flag::KEY_IN_HEAD) { front.get(HEAD..HEAD + head.key as usize)?.to_vec() } else { Vec::new() };
        let body = if apart { body } else { body.skip(HEAD + key.len()) };
        let whole = head.has(flag::KEY_IN_HEAD) || head.key as usize <= body.len();
        whole.then_some(Asked { from, process, head, key, body })
    }

    pub(super) fn key(&self) -> &[u8] {
        if self.head.has(flag::KEY_IN_HEAD) { &self.key } else { &self.body[..self.head.key as usize] }
    }

    pub(super) fn value(&self) -> &[u8] {
        if self.head.has(flag::KEY_IN_HEAD) { &self.body } else { &self.body[self.head.key as usize..] }
    }

    /// The value, if it fills a block, and can be stored as it is.
    fn take_value(&mut self) -> Option<Filled> {
        let alone = self.head.has(flag::KEY_IN_HEAD) && !self.head.has(flag::CARGO);
        if !alone || !matches!(self.body, Bytes::Block { begin: 0, .. }) {
            return None;
        }
        match std::mem::replace(&mut self.body, Bytes::Bytes(Vec::new())) {
            Bytes::Block { block, end, .. } => Some(Filled::new(block, end)),
            Bytes::Bytes(_) => None,
        }
    }

    /// The handle that calls, if homes keep an account of it.
    pub(super) fn writer(&self) -> Option<Writer> {
        (self.head.writer != 0).then_some((self.from, self.process, self.head.writer))
    }

    fn who(&self) -> (NodeNumber, ProcId) {
        (self.from, self.process)
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DictHome for Home<K, V, C> {
    fn call(self: Arc<Self>, call: DictCall, answer: Answer, threads: &Arc<Threads>) {
        let Some(asked) = Asked::new(call) else {
            let error = Error::new(ErrorKind::Io, "a call for a dictionary that makes no sense");
            return refuse(answer, &error);
        };
        let shards = self.body.table().shards();
        if asked.head.shard as usize >= shards {
            let text = format!("the part has {shards} managers, and no {}", asked.head.shard);
            return refuse(answer, &Error::new(ErrorKind::InvalidArgument, text));
        }
        if let Some(place) = self.copies().map(|copies| copies.place) {
            return self.call_copies(place, asked, answer, threads);
        }
        let quick = self.is_quick(&asked.head);
        let act = move || match asked.head.op {
            op::PUT => say(self.put(asked), answer),
            _ => self.carry_out(&asked, answer),
        };
        if quick {
            return act();
        }
        threads.run(act);
    }

    fn left(self: Arc<Self>, node: NodeNumber, process: Option<ProcId>, threads: &Arc<Threads>) {
        if process.is_none() && self.copies().is_some() {
            let home = self.clone();
            threads.run(move || home.do_without(node));
        }
        let mut guests = self.guests();
        let is_gone = |of: &(NodeNumber, ProcId, u64)| of.0 == node && process.is_none_or(|process| of.1 == process);
        let gone: Vec<_> = guests.writers.keys().copied().filter(is_gone).collect();
        let handles: Vec<_> = gone.iter().filter_map(|key| guests.writers.remove(key)).collect();
        match process {
            Some(process) => *guests.left.entry((node, process)).or_default() += 1,
            None => guests.lost.push(node),
        }
        drop(guests);
        // Others may wait for what it wrote at.
        drop(handles);
        self.body.wake();
        if !gone.is_empty() && self.copies().is_some() {
            threads.run(move || self.pass_on_gone(&gone));
        }
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> Home<K, V, C> {
    fn guests(&self) -> MutexGuard<'_, Guests<K, V, C>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call can be answered without waiting for anybody.
    fn is_quick(&self, head: &Head) -> bool {
        match head.op {
            op::GET | op::CONTAINS | op::SIT | op::SETTLE => true,
            op::PUT | op::REMOVE | op::BATCH => {
                let waits = self.body.rules.waits_for_writers || head.has(flag::CARGO);
                !waits && head.at <= self.body.gate().newest()
            }
            _ => false,
        }
    }

    /// The part as a handle at a checkpoint has it, of one manager.
    pub(super) fn handle(&self, shard: u32, at: u32) -> DDict<K, V, C> {
        DDict {
            body: self.body.clone(),
            at: AtomicU32::new(at),
            manager: Some(shard),
            seat: OnceCell::new(),
            tie: None,
            types: PhantomData,
        }
    }

    /// The handle of the caller, if this home keeps an account of it.
    pub(super) fn writer(&self, asked: &Asked) -> Option<Arc<DDict<K, V, C>>> {
        let at = asked.head.at;
        let handle = self.writer_of(asked.writer()?, at);
        if handle.checkpoint_id() != at {
            handle.set_checkpoint_id(at);
        }
        Some(handle)
    }

    /// The handle of a writer, which is at that checkpoint if it is new.
    pub(super) fn writer_of(&self, writer: Writer, at: u32) -> Arc<DDict<K, V, C>> {
        let new = || Arc::new(self.handle(0, at));
        self.guests().writers.entry(writer).or_insert_with(new).clone()
    }

    /// A handle is gone, or was told of by another place when it was.
    pub(super) fn forget_writer(&self, writer: Writer) {
        let gone = self.guests().writers.remove(&writer);
        drop(gone);
    }

    /// All that write, where others wait for writers: the checkpoint that each is at, and the last that it wrote at.
    pub(super) fn writers(&self) -> Vec<(Writer, u32, u32)> {
        let guests = self.guests();
        let all = guests.writers.iter();
        all.filter_map(|(writer, handle)| handle.writes_at().map(|(at, last)| (*writer, at, last))).collect()
    }

    pub(super) fn carry_out(&self, asked: &Asked, answer: Answer) {
        match asked.head.op {
            op::GET => self.get(asked, answer),
            op::AWAIT => self.wait_for_value(asked, answer),
            _ => say(self.perform(asked), answer),
        }
    }

    fn get(&self, asked: &Asked, answer: Answer) {
        let dict = self.handle(asked.head.shard, asked.head.at);
        let mut found = Found::Nothing;
        let named = asked.head.has(flag::NAME);
        let name = dict.look(asked.key(), |value| {
            found = if value.len() < LARGE || named { Found::copy(&self.body, named, value) } else { Found::Large };
        });
        match (name, found) {
            (Err(error), _) | (_, Found::Refused(error)) => refuse(answer, &error),
            (Ok(None), _) | (_, Found::Nothing) => answer.send(status::MISSING, &[]),
            // Sent from where it is: pinned until it has arrived.
            (Ok(Some(_)), Found::Large) => match dict.reference(asked.key()) {
                Ok(Some(value)) => answer.send_steady(Arc::new(value)),
                Ok(None) => answer.send(status::MISSING, &[]),
                Err(error) => refuse(answer, &error),
            },
            (Ok(Some(name)), Found::Short(mut bytes)) => {
                if named {
                    bytes[..8].copy_from_slice(&name.word().to_le_bytes());
                }
                answer.send(0, &bytes);
            }
            (Ok(Some(name)), Found::Long(mut block)) => {
                if named {
                    block.as_mut_slice()[..8].copy_from_slice(&name.word().to_le_bytes());
                }
                let len = block.len();
                answer.send_block(block, len);
            }
        }
    }

    fn wait_for_value(&self, asked: &Asked, answer: Answer) {
        let dict = self.handle(asked.head.shard, asked.head.at);
        let mut found = Found::Nothing;
        let waited = self.in_slices(asked, &dict, || {
            let look = dict.look(asked.key(), |value| found = Found::copy(&self.body, false, value));
            look.map(|name| name.is_some()).map_or_else(|error| Some(Err(error)), |there| there.then_some(Ok(())))
        });
        match (waited, found) {
            (Err(error), _) | (_, Found::Refused(error)) => refuse(answer, &error),
            (Ok(()), Found::Short(bytes)) => answer.send(0, &bytes),
            (Ok(()), Found::Long(block)) => {
                let len = block.len();
                answer.send_block(block, len);
            }
            (Ok(()), Found::Nothing | Found::Large) => answer.send(status::MISSING, &[]),
        }
    }

    /// Waits, as long as who asked is there.
    pub(super) fn in_slices<T>(
        &self,
        asked: &Asked,
        dict: &DDict<K, V, C>,
        mut ask: impl FnMut() -> Option<Result<T>>,
    ) -> Result<T> {
        let deadline = asked.head.deadline();
        let before = self.guests().left.get(&asked.who()).copied();
        loop {
            let slice = match deadline.left() {
                Some(left) if left < SLICE => deadline,
                _ => Deadline::after(SLICE),
            };
            match dict.wait(slice, &mut ask) {
                Err(error) if error.kind() == ErrorKind::TimedOut && !deadline.passed() => {
                    let guests = self.guests();
                    if guests.lost.contains(&asked.from) || guests.left.get(&asked.who()).copied() != before {
                        return Err(error);
                    }
                }
                waited => return waited,
            }
        }
    }

    fn perform(&self, asked: &Asked) -> Result<(u16, Vec<u8>)> {
        let nothing = (0, Vec::new());
        match asked.head.op {
            op::REMOVE => self.remove(asked),
            op::CONTAINS => {
                let there = self.handle(asked.head.shard, asked.head.at).contains_bytes(asked.key())?;
                Ok((if there { 0 } else { status::MISSING }, Vec::new()))
            }
            op::AWAIT_EQUAL => {
                let dict = self.handle(asked.head.shard, asked.head.at);
                self.in_slices(asked, &dict, || {
                    let mut equal = false;
                    let look = dict.look(asked.key(), |found| equal = found == asked.value());
                    look.map_or_else(|error| Some(Err(error)), |_| equal.then_some(Ok(())))
                })?;
                Ok(nothing)
            }
            op::BATCH => self.put_batch(asked).map(|()| nothing),
            op::RUN => run(asked.value()).map(|said| (0, said)),
            op::SETTLE => {
                self.body.table().set_note(asked.value())?;
                Ok(nothing)
            }
            op::NAME => {
                let (core, id) = (&self.body.core, self.body.object().id());
                let name = String::from_utf8_lossy(asked.key());
                names::give(core.memory(), &name, id)?;
                if let Some(names) = core.names()? {
                    names.give(&name, id)?;
                }
                Ok(nothing)
            }
            op::SIT => {
                let known = (asked.from, asked.process, asked.head.writer);
                let handle = match self.copies() {
                    None => self.guests().writers.get(&known).cloned(),
                    // Another place may tell of this handle later, and not know yet where it went.
                    Some(_) => Some(self.writer_of(known, asked.head.at)),
                };
                handle.iter().for_each(|handle| handle.set_checkpoint_id(asked.head.at));
                Ok(nothing)
            }
            op::RISE => {
                let known = (asked.from, asked.process, asked.head.writer);
                self.forget_writer(known);
                self.pass_on_gone(&[known]);
                Ok(nothing)
            }
            other => Err(Error::new(ErrorKind::Io, format!("operation {other} of dictionaries is not known"))),
        }
    }

    fn put(&self, mut asked: Asked) -> Result<(u16, Vec<u8>)> {
        let landed = asked.take_value();
        let head = &asked.head;
        let (shard, expect, kept) = (head.shard as usize, head.expected(), head.has(flag::KEPT));
        let dict = self.handle(head.shard, head.at);
        let writer = self.writer(&asked);
        let through = writer.as_deref().unwrap_or(&dict);
        let key = self.body.table().key(asked.key());
        mark!("far.home.putting");
        let wrote = match landed {
            Some(value) => through.put_filled_at(shard, &key, &value, expect, kept)?,
            // Its handles are to be held here, so they are opened and written anew.
            None if head.has(flag::CARGO) => {
                let value = super::encode::decode::<V, C>(asked.value())?;
                dict.put_value_at(shard, &key, &value, expect, kept)?
            }
            None => {
                let value = asked.value();
                let fill = |space: &mut [u8]| space.copy_from_slice(value);
                through.put_bytes_at(shard, &key, value.len(), expect, kept, &[], fill)?
            }
        };
        Ok((said(wrote), Vec::new()))
    }

    fn remove(&self, asked: &Asked) -> Result<(u16, Vec<u8>)> {
        let dict = self.handle(asked.head.shard, asked.head.at);
        let writer = self.writer(asked);
        let key = self.body.table().key(asked.key());
        let through = writer.as_deref().unwrap_or(&dict);
        mark!("far.home.removing");
        through
            .remove_bytes_at(asked.head.shard as usize, &key, asked.head.expected())
            .map(|wrote| (said(wrote), Vec::new()))
    }

    /// Puts what `far_batch.rs` has gathered, in its order.
    fn put_batch(&self, asked: &Asked) -> Result<()> {
        let dict = self.handle(0, asked.head.at);
        let writer = self.writer(asked);
        let through = writer.as_deref().unwrap_or(&dict);
        let table = self.body.table();
        super::far_batch::each(asked.value(), |record, _| {
            if record.shard >= table.shards() {
                return Err(Error::new(ErrorKind::InvalidArgument, "the part has no such manager"));
            }
            let key: Key<'_> = table.key(record.key);
            let fill = |space: &mut [u8]| space.copy_from_slice(record.value);
            let expect = crate::table::Expect::Any;
            mark!("far.home.batch");
            through.put_bytes_at(record.shard, &key, record.value.len(), expect, record.kept, &[], fill).map(drop)
        })
    }
}

/// Answers with what a call came to.
fn say(done: Result<(u16, Vec<u8>)>, answer: Answer) {
    match done {
        Ok((status, bytes)) => {
            mark!("far.home.done");
            answer.send(status, &bytes);
        }
        Err(error) => refuse(answer, &error),
    }
}

pub(super) fn said(wrote: Wrote) -> u16 {
    if wrote == Wrote::Refused { status::REFUSED } else { 0 }
}

/// A value that was found, on its way out.
enum Found {
    Nothing,
    Short(Vec<u8>),
    Long(crate::mm::Block),
    /// Not copied.
    Large,
    Refused(Error),
}

impl Found {
    /// A copy, with room for the entry's name in front if that is wanted.
    fn copy(body: &Body, named: bool, value: &[u8]) -> Found {
        let front = if named { 8 } else { 0 };
        if value.len() < LONG {
            let mut bytes = Vec::with_capacity(front + value.len());
            bytes.resize(front, 0);
            bytes.extend_from_slice(value);
            return Found::Short(bytes);
        }
        match body.core.memory().alloc(front + value.len()) {
            Ok(mut block) => {
                block.as_mut_slice()[front..].copy_from_slice(value);
                Found::Long(block)
            }
            Err(error) => Found::Refused(error.into()),
        }
    }
}

/// Runs a function that a caller has named.
fn run(call: &[u8]) -> Result<Vec<u8>> {
    let (entry, argument): (Vec<u8>, Vec<u8>) = wire::decode(call)?;
    let entry = task::find_in_full(&entry).map_err(|text| Error::new(ErrorKind::WrongBuild, text))?;
    let mut said = Vec::new();
    let called = entry.call(&mut Scope::new(&argument, &mut said));
    called.map_err(|failure| Error::from_failure(&failure, "a function that was sent to a dictionary"))?;
    Ok(said)
}

pub(super) fn refuse(answer: Answer, error: &Error) {
    let mut bytes = Vec::new();
    // A number and a text into memory: nothing in it can fail.
    let _ = wire::encode(&(error.kind(), error.to_string()), &mut bytes);
    answer.send(status::ERROR, &bytes);
}
