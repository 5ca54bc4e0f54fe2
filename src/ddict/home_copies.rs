//! The part of a home that keeps copies: what it does for calls of a dictionary with replicas (`replica.rs`).

use std::sync::Arc;

use super::far::{flag, op};
use super::far_batch;
use super::home::{Asked, Home, refuse, said};
use super::replica::{Copies, Effect};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::mesh::Answer;
use crate::services::Threads;
use crate::table::{Expect, PARTS, Wrote};

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
            op::RUN | op::NAME | op::SETTLE => threads.run(move || self.carry_out(&asked, answer)),
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
                self.apply(asked.head.at, asked.value())
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

    /// Puts and removes what stands in the records, here.
    fn apply(&self, at: u32, records: &[u8]) -> Result<()> {
        let (dict, table) = (self.handle(0, at), self.body.table());
        far_batch::each(records, |record, removes| {
            if record.shard >= table.shards() {
                return Err(Error::new(ErrorKind::InvalidArgument, "the part has no such copy"));
            }
            let key = table.key(record.key);
            mark!("far.copy.record");
            if removes {
                return dict.remove_bytes_at(record.shard, &key, Expect::Any).map(drop);
            }
            let fill = |space: &mut [u8]| space.copy_from_slice(record.value);
            dict.put_bytes_at(record.shard, &key, record.value.len(), Expect::Any, record.kept, &[], fill).map(drop)
        })
    }

    /// One write: decided, done elsewhere, done here.
    fn change(&self, copies: &Copies, asked: &Asked, manager: u32) -> Result<Wrote> {
        copies.act(manager)?;
        let (head, table) = (&asked.head, self.body.table());
        if head.has(flag::CARGO) {
            let text = "a value of a dictionary with replicas cannot hold handles of queues, locks and the like";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let key = table.key(asked.key());
        let _mine = copies.lock_keys([key.hash].into_iter());
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
        self.do_all(
            copies,
            head.at,
            &[Effect { manager, key: asked.key().to_vec(), value, kept: head.has(flag::KEPT) }],
        )?;
        Ok(if there.is_some() { Wrote::Over } else { Wrote::New })
    }

    /// The writes of a batch.
    fn change_all(&self, copies: &Copies, asked: &Asked) -> Result<()> {
        let (mut effects, table, place) = (Vec::new(), self.body.table(), copies.place);
        far_batch::each(asked.value(), |record, removes| {
            let manager = copies.directory.manager_at(place, record.shard);
            let value = (!removes).then(|| record.value.to_vec());
            effects.push(Effect { manager, key: record.key.to_vec(), value, kept: record.kept });
            Ok(())
        })?;
        let _mine = copies.lock_keys(effects.iter().map(|effect| table.key(&effect.key).hash));
        mark!("far.act.batch");
        self.do_all(copies, asked.head.at, &effects)
    }

    /// The locks of the keys are held.
    fn do_all(&self, copies: &Copies, at: u32, effects: &[Effect]) -> Result<()> {
        self.handle(0, at).admit(at)?;
        let mut records = Vec::new();
        for effect in effects {
            copies.record(&mut records, copies.place, effect);
        }
        let here = || {
            mark!("far.act.spread");
            self.apply(at, &records)
        };
        let done = copies.spread(at, effects).and_then(|()| here());
        if done.is_err() {
            // What some copies have and this one has not is taken back, as far as they answer.
            let now: Result<Vec<Effect>> =
                effects.iter().map(|effect| self.now(effect.manager, copies, &effect.key, at)).collect();
            let _ = now.and_then(|now| copies.spread(at, &now));
        }
        done
    }

    /// What a key has here now, for another copy.
    fn now(&self, manager: u32, copies: &Copies, key: &[u8], at: u32) -> Result<Effect> {
        let shard = copies.directory.shard_at(manager, copies.place).unwrap_or_default();
        let mut value = None;
        self.handle(shard as u32, at).look(key, |bytes| value = Some(bytes.to_vec()))?;
        Ok(Effect { manager, key: key.to_vec(), value, kept: false })
    }

    /// A node is lost: others agree, and copies that are missing are filled.
    pub(super) fn do_without(&self, node: NodeNumber) {
        let Some(copies) = self.copies() else { return };
        copies.node_lost(node);
        self.note_alone(copies);
        self.fill_copies();
    }

    fn fill_copies(&self) {
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
        let (table, at) = (self.body.table(), self.body.gate().newest());
        let view = self.handle(shard as u32, at).here();
        // What is not seen below was put by writes that know of this copy.
        copies.settle_writes();
        mark!("far.fill.begun");
        for part in 0..PARTS {
            let mut keys = Vec::new();
            table.walk_keys(shard, part, view, |key| keys.push(key.to_vec()));
            for chunk in keys.chunks(CHUNK) {
                let _mine = copies.lock_keys(chunk.iter().map(|key| table.key(key).hash));
                let now = chunk.iter().map(|key| self.now(manager, copies, key, at)).collect::<Result<Vec<_>>>()?;
                copies.fill(to, at, &now)?;
                mark!("far.fill.some");
            }
        }
        copies.filled(manager, to)
    }
}
