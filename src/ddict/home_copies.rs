//! The part of a home that keeps copies: what it does for calls of a dictionary with replicas (`replica.rs`).

use std::sync::Arc;

use super::far::{flag, op};
use super::far_batch;
use super::home::{Asked, Home, refuse, said};
use super::replica::{Copies, Effect, Writer, copied_by, copying};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::mesh::Answer;
use crate::services::Threads;
use crate::table::{Cargo, Expect, How, PARTS, Past, View, Wrote};
use crate::wire;

/// Keys that are filled in at a time.
const CHUNK: usize = 64;

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> Home<K, V, C> {
    /// What this home knows of copies, if there are any.
    pub(super) fn copies(&self) -> Option<&Copies> {
        if let Some(known) = self.copies.get() {
            return known.as_ref();
        }
        let note = super::home::Note::of(&self.body).ok()??;
        let (core, directory) = (&self.body.core, note.directory?);
        let replicated = directory.shape.replicas > 0;
        let mesh = core.mesh().ok().flatten().filter(|_| replicated);
        let made = mesh.and_then(|mesh| Copies::new(mesh, core.place().nodes(), directory));
        self.copies.get_or_init(|| made).as_ref()
    }

    /// Takes a call for a copy. What asks other nodes gets a thread.
    pub(super) fn call_copies(self: Arc<Self>, place: usize, asked: Asked, answer: Answer, threads: &Arc<Threads>) {
        let Some(copies) = self.copies() else { return };
        let manager = copies.directory.manager_at(place, asked.head.shard as usize);
        let (op, acts) = (asked.head.op, copies.acts_now(manager));
        match op {
            op::COPY | op::ADOPT | op::FULL => match self.follow(copies, &asked, manager) {
                Ok(()) => {
                    mark!("far.copy.done");
                    answer.send(0, &[]);
                }
                Err(error) => refuse(answer, &error),
            },
            op::GET | op::CONTAINS if acts => self.carry_out(&asked, answer),
            // Those of a handle come in their order.
            op::SIT => self.carry_out(&asked, answer),
            op::RUN | op::NAME | op::SETTLE | op::RISE => threads.run(move || self.carry_out(&asked, answer)),
            op::GONE => threads.run(move || {
                copied_by(&asked.head).into_iter().for_each(|writer| self.forget_writer(writer));
                answer.send(0, &[]);
            }),
            op::WAIT | op::TURN | op::SWEEP | op::QUIET | op::RESTORE => threads.run(move || {
                let Some(copies) = self.copies() else { return };
                let done = match asked.head.op {
                    op::RESTORE => self.restore_step(copies, &asked),
                    _ => self.take_step(copies, &asked),
                };
                self.note_alone(copies);
                match done {
                    Ok(()) => answer.send(0, &[]),
                    Err(error) => refuse(answer, &error),
                }
            }),
            _ => threads.run(move || {
                self.act(&asked, manager, answer);
                if !acts {
                    // It does now, perhaps: then others lack a copy.
                    self.fill_copies();
                }
            }),
        }
    }

    fn act(&self, asked: &Asked, manager: u32, answer: Answer) {
        let Some(copies) = self.copies() else { return };
        let done = match asked.head.op {
            op::PUT | op::REMOVE => self.change(copies, asked, manager).map(|wrote| (said(wrote), Vec::new())),
            op::BATCH => self.change_all(copies, asked).map(|()| (0, Vec::new())),
            _ => match copies.act(manager) {
                Ok(()) => return self.carry_out(asked, answer),
                Err(error) => Err(error),
            },
        };
        match done {
            Ok((status, bytes)) => {
                mark!("far.act.done");
                answer.send(status, &bytes);
            }
            Err(error) => {
                self.note_alone(copies);
                refuse(answer, &error);
            }
        }
    }

    /// Does what the acting copy says.
    fn follow(&self, copies: &Copies, asked: &Asked, manager: u32) -> Result<()> {
        let followed = copies.follow(asked.from, asked.head.name, || match asked.head.op {
            op::COPY => {
                mark!("far.copy.heard");
                if let Some(writer) = copied_by(&asked.head) {
                    self.note_writer(writer, asked.head.at)?;
                }
                self.apply(asked.head.at, asked.value())
            }
            op::FULL => {
                let writers: Vec<(Writer, u32, u32)> = wire::decode(asked.value())?;
                writers.into_iter().try_for_each(|(writer, at, last)| {
                    self.writer_of(writer, at);
                    self.note_writer(writer, last)
                })
            }
            _ => Ok(()),
        });
        self.note_alone(copies);
        if followed.is_ok() && asked.head.op == op::FULL {
            copies.is_full_now(manager);
            mark!("far.fill.full");
        }
        followed
    }

    /// Processes of this node must not read what others have gone on without.
    fn note_alone(&self, copies: &Copies) {
        if copies.is_alone() {
            self.body.give_up();
        }
    }

    /// A handle writes at a checkpoint, where others wait for writers.
    fn note_writer(&self, writer: Writer, at: u32) -> Result<()> {
        let handle = self.writer_of(writer, at);
        let now = handle.checkpoint_id().max(at);
        handle.note_writing(at)?;
        handle.set_checkpoint_id(now);
        Ok(())
    }

    /// Puts and removes what stands in the records, here: whether that may be was decided by whoever acts.
    fn apply(&self, at: u32, records: &[u8]) -> Result<()> {
        let table = self.body.table();
        far_batch::each(records, |record, removes| {
            if record.shard >= table.shards() {
                return Err(Error::new(ErrorKind::InvalidArgument, "the part has no such copy"));
            }
            let (key, of) = (table.key(record.key), record.at.unwrap_or(at));
            mark!("far.copy.record");
            let fill = |space: &mut [u8]| space.copy_from_slice(record.value);
            self.write_at(at, of, record.kept, |how, cargo| match removes {
                true => Ok(table.remove(record.shard, &key, how, cargo)?),
                false => Ok(table.put(record.shard, &key, how, record.value.len(), cargo, fill, |_| ())?),
            })
        })
    }

    /// Calls what writes at a checkpoint that may be retired by now; `newest` is one that it is not beyond.
    fn write_at(
        &self,
        newest: u32,
        at: u32,
        kept: bool,
        call: impl Fn(&How, &mut Cargo) -> Result<Wrote>,
    ) -> Result<()> {
        let (rules, mut cargo) = (&self.body.rules, Cargo::new());
        let view = View { at, exact: rules.waits_for_keys };
        loop {
            let gate = self.turn_to(newest)?;
            // As in any write.
            let floor = if rules.window == 1 && !rules.persists { at } else { self.body.floor() };
            let how = How { view, floor, kept, cargo: false, expect: Expect::Any, gate: gate.0 };
            let wrote = call(&how, &mut cargo);
            self.body.unload(&mut cargo);
            if wrote? != Wrote::Stale {
                return Ok(());
            }
        }
    }

    /// One write: decided, done elsewhere, done here.
    fn change(&self, copies: &Copies, asked: &Asked, manager: u32) -> Result<Wrote> {
        copies.act(manager)?;
        let (head, table) = (&asked.head, self.body.table());
        if head.has(flag::CARGO) {
            let text = "a value of a dictionary with replicas cannot hold handles of queues, locks and the like: what they \
                        are of is on one node and is lost with it, so a copy of the value would be of no use";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let key = table.key(asked.key());
        let _mine = self.begin(copies, asked, || copies.lock_keys([key.hash].into_iter()))?;
        let dict = self.handle(head.shard, head.at);
        let there = dict.look(asked.key(), |_| ())?;
        let puts = head.op == op::PUT;
        let goes = match head.expected() {
            Expect::Any => puts || there.is_some(),
            Expect::Absent => there.is_none(),
            Expect::Same(name) => there == Some(name),
        };
        if !goes {
            return Ok(Wrote::Refused);
        }
        let value = puts.then(|| asked.value().to_vec());
        mark!("far.act.decided");
        let (key, kept, at) = (asked.key().to_vec(), head.has(flag::KEPT), head.at);
        self.do_all(copies, asked, &[Effect { manager, key, value, kept, at }])?;
        Ok(if there.is_some() { Wrote::Over } else { Wrote::New })
    }

    /// Takes locks, when one may write at the caller's checkpoint.
    fn begin<L>(&self, copies: &Copies, asked: &Asked, lock: impl Fn() -> L) -> Result<L> {
        let at = asked.head.at;
        if self.body.rules.waits_for_writers
            && let Some(writer) = self.writer(asked)
        {
            writer.note_writing(at)?;
        }
        loop {
            self.reach(copies, at)?;
            let mine = lock();
            // Whoever turns the gate from now on waits for the locks.
            let gate = self.body.gate();
            self.handle(0, at).may_write(at, gate)?;
            if at <= gate.newest() {
                return Ok(mine);
            }
        }
    }

    /// The writes of a batch.
    fn change_all(&self, copies: &Copies, asked: &Asked) -> Result<()> {
        let (mut effects, table, place) = (Vec::new(), self.body.table(), copies.place);
        far_batch::each(asked.value(), |record, removes| {
            let manager = copies.directory.manager_at(place, record.shard);
            let value = (!removes).then(|| record.value.to_vec());
            effects.push(Effect { manager, key: record.key.to_vec(), value, kept: record.kept, at: asked.head.at });
            Ok(())
        })?;
        effects.iter().try_for_each(|effect| copies.act(effect.manager))?;
        let hashes = || effects.iter().map(|effect| table.key(&effect.key).hash);
        let _mine = self.begin(copies, asked, || copies.lock_keys(hashes()))?;
        mark!("far.act.batch");
        self.do_all(copies, asked, &effects)
    }

    /// The locks of the keys are held.
    fn do_all(&self, copies: &Copies, asked: &Asked, effects: &[Effect]) -> Result<()> {
        let at = asked.head.at;
        let like = copying(at, asked.writer());
        let mut records = Vec::new();
        for effect in effects {
            copies.record(&mut records, copies.place, effect);
        }
        let here = || {
            mark!("far.act.spread");
            self.apply(at, &records)
        };
        let done = copies.spread(&like, effects).and_then(|()| here());
        if done.is_err() {
            // What some copies have and this one has not is taken back, as far as they answer.
            let now: Result<Vec<Effect>> =
                effects.iter().map(|effect| self.now(effect.manager, copies, &effect.key, at)).collect();
            let _ = now.and_then(|now| copies.spread(&like, &now));
        }
        done
    }

    /// All that a key has here, for another copy: the oldest first.
    fn past(&self, manager: u32, copies: &Copies, key: &[u8]) -> Result<Vec<Effect>> {
        let shard = copies.directory.shard_at(manager, copies.place).unwrap_or_default();
        let (table, mut cargo) = (self.body.table(), Cargo::new());
        let past = table.past(shard, &table.key(key), &mut cargo)?;
        self.body.unload(&mut cargo);
        let effect = |past: Past| {
            let Past { version, kept, value } = past;
            Effect { manager, key: key.to_vec(), value, kept, at: version }
        };
        Ok(past.into_iter().rev().map(effect).collect())
    }

    /// What a key has here at a checkpoint, for a copy that has something else there.
    fn now(&self, manager: u32, copies: &Copies, key: &[u8], at: u32) -> Result<Effect> {
        let exact = self.body.rules.waits_for_keys;
        let mut past = self.past(manager, copies, key)?;
        past.retain(|effect| effect.at == at || effect.at < at && (!exact || effect.kept));
        let nothing = || Effect { manager, key: key.to_vec(), value: None, kept: false, at };
        Ok(past.pop().map_or_else(nothing, |effect| Effect { at, ..effect }))
    }

    /// Other places are told that handles are gone, if there are copies.
    pub(super) fn pass_on_gone(&self, writers: &[Writer]) {
        if let Some(copies) = self.copies() {
            copies.pass_on_gone(writers);
        }
    }

    /// A node is lost: others agree, and copies that are missing are filled.
    pub(super) fn do_without(&self, node: NodeNumber) {
        let Some(copies) = self.copies() else { return };
        copies.node_lost(node);
        self.note_alone(copies);
        self.fill_copies();
    }

    pub(super) fn fill_copies(&self) {
        let Some(copies) = self.copies() else { return };
        let Some(_filling) = copies.begin_to_fill() else { return };
        for (manager, to) in copies.to_fill() {
            let filled = copies.act(manager).and_then(|()| self.fill_copy(copies, manager, to));
            match filled {
                Ok(()) => tracing::info!(manager, place = to, "a manager of a dictionary has a further copy"),
                Err(error) => tracing::warn!(manager, place = to, %error, "a copy of a manager is not complete"),
            }
        }
    }

    fn fill_copy(&self, copies: &Copies, manager: u32, to: usize) -> Result<()> {
        let shard = copies.directory.shard_at(manager, copies.place).unwrap_or_default();
        let table = self.body.table();
        // What is not seen below was put by writes that know of this copy.
        copies.settle_writes();
        mark!("far.fill.begun");
        for part in 0..PARTS {
            let mut keys = Vec::new();
            table.walk_all_keys(shard, part, |key| keys.push(key.to_vec()));
            for chunk in keys.chunks(CHUNK) {
                let _mine = copies.lock_keys(chunk.iter().map(|key| table.key(key).hash));
                let gate = self.body.gate();
                if gate.is_restoring() {
                    return Err(Error::new(ErrorKind::Frozen, "it is being restored, which fills all copies"));
                }
                let past = chunk.iter().map(|key| self.past(manager, copies, key)).collect::<Result<Vec<_>>>()?;
                let effects: Vec<Effect> = past.into_iter().flatten().flat_map(filled_as).collect();
                copies.fill(to, gate.newest(), &effects)?;
                mark!("far.fill.some");
            }
        }
        let _passing = copies.begin_to_pass();
        let mut writers = Vec::new();
        wire::encode(&self.writers(), &mut writers)?;
        copies.filled(manager, to, &writers)
    }
}

/// What a further copy gets for what a key has at one checkpoint. That it was removed there is said only of what is there.
fn filled_as(effect: Effect) -> Vec<Effect> {
    match effect.value {
        Some(_) => vec![effect],
        None => vec![Effect { value: Some(Vec::new()), ..effect.clone() }, effect],
    }
}
