//! How a dictionary with replicas goes on to its next checkpoint: all places together, so that whoever acts next shows the same.
//!
//! The first write beyond the newest checkpoint takes three steps through all places, by the home that it came to:
//!
//! | step | at each place | a death there leaves |
//! |---|---|---|
//! | wait | until what is to be retired is complete, by the rules, as far as the place acts | nothing |
//! | turn | it is the newest now; writes at older ones are over; what is retired is stored by whoever acts | what was not stored is so by the next copy, which has it still |
//! | sweep | what is retired is taken out | it is taken out with the next |
//!
//! Only then it is written at. When a place is lost, the step begins anew. If the home itself dies some places are ahead: a write
//! that comes to one of those goes on; it takes the others along, as far as they have a copy. What is retired but not
//! stored or swept is so with the next checkpoint.

use super::body::Gate;
use super::far::{Head, op};
use super::home::{Asked, Home};
use super::replica::Copies;
use crate::codec::Codec;
use crate::error::Result;
use crate::services::patience_of;
use crate::time::Deadline;

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> Home<K, V, C> {
    /// Takes all places to a checkpoint, if it is beyond the newest. Whether it may be written at is the caller's to see.
    pub(super) fn reach(&self, copies: &Copies, at: u32) -> Result<()> {
        let gate = self.body.gate();
        if at <= gate.newest() {
            return Ok(());
        }
        let all = self.handle(0, at);
        all.may_write(at, gate)?;
        let rules = self.body.rules;
        let step = |op| Head { at, ..Head::new(op) };
        if rules.waits_for_keys || rules.waits_for_writers {
            let wait = Head { patience: patience_of(Deadline::Never), ..step(op::WAIT) };
            copies.everywhere(&wait, || all.wait(Deadline::Never, self.until_complete(copies, at)))?;
        }
        // Many that write may come here at the same time.
        let _one = copies.begin_to_advance();
        if at <= self.body.gate().newest() {
            return Ok(());
        }
        copies.everywhere(&step(op::TURN), || self.turn(copies, at))?;
        mark!("far.step.turned");
        if rules.window == 1 && !rules.persists {
            return Ok(());
        }
        copies.everywhere(&step(op::SWEEP), || self.sweep_to(at))
    }

    /// Does a step that another place takes all through.
    pub(super) fn take_step(&self, copies: &Copies, asked: &Asked) -> Result<()> {
        let at = asked.head.at;
        if asked.head.op == op::QUIET {
            // Anybody may ask for that.
            return self.be_quiet(copies);
        }
        copies.follow(asked.from, asked.head.name, || Ok(()))?;
        match asked.head.op {
            op::WAIT => self.in_slices(asked, &self.handle(0, at), self.until_complete(copies, at)),
            op::TURN => self.turn(copies, at),
            _ => self.sweep_to(at),
        }
    }

    /// Says whether all is complete that is retired when this checkpoint is the newest, as far as this place acts.
    fn until_complete<'h>(&'h self, copies: &'h Copies, at: u32) -> impl FnMut() -> Option<Result<()>> + 'h {
        let (all, mut complete) = (self.handle(0, at), 0);
        move || {
            let gate = self.body.gate();
            if gate.is_destroyed() {
                return Some(Err(self.body.destroyed()));
            }
            let retiring = all.oldest(gate.newest())..all.oldest(at);
            complete = retiring.start.max(complete);
            let shards = || copies.acts_for().into_iter().flat_map(|own| copies.shards_of(own));
            while retiring.contains(&complete) && !all.is_incomplete(complete, shards()) {
                complete += 1;
            }
            (complete >= retiring.end).then_some(Ok(()))
        }
    }

    /// From now on no checkpoint before this one is the newest: what the gate is. A write that has been decided at one may be
    /// done here also if that is retired by now.
    pub(super) fn turn_to(&self, at: u32) -> Result<Gate> {
        self.body.change_gate(|gate| (at > gate.newest()).then(|| gate.with_newest(at)))
    }

    fn turn(&self, copies: &Copies, at: u32) -> Result<()> {
        self.turn_to(at)?;
        mark!("far.step.heard");
        let rules = self.body.rules;
        if rules.window == 1 && !rules.persists {
            return Ok(());
        }
        // None that began before is under way at a checkpoint that is retired now.
        copies.settle_writes();
        if rules.persists
            && let Err(error) = self.store_retired(copies)
        {
            // Whoever goes on to the next checkpoint cannot help it; `persisted` shows what there is.
            tracing::error!(%error, "a checkpoint of {} was not stored", self.body.name());
        }
        Ok(())
    }

    /// Stores what is retired and shall be, of all managers that this place acts for.
    fn store_retired(&self, copies: &Copies) -> Result<()> {
        let mut stored = copies.begin_to_store();
        let all = self.handle(0, 0);
        let _keeper = self.body.table().keep();
        let (floor, oldest) = (self.body.floor(), all.oldest(self.body.gate().newest()));
        let mut confirmed = false;
        for own in copies.acts_for() {
            let from = stored.get(&own).copied().unwrap_or(0).max(floor);
            copies.act(copies.first_of(own))?;
            let archive = all.archive_of(own, copies.directory.places.len())?;
            for checkpoint in (from..oldest).filter(|checkpoint| checkpoint.is_multiple_of(archive.every)) {
                if !confirmed {
                    // Another that acts must not be stored over.
                    copies.confirm()?;
                    confirmed = true;
                }
                mark!("far.store.begun");
                all.store_at(&archive, checkpoint, &copies.shards_of(own))?;
                mark!("far.store.done");
            }
            stored.insert(own, oldest);
        }
        Ok(())
    }

    fn sweep_to(&self, at: u32) -> Result<()> {
        let all = self.handle(0, at);
        let floor = all.oldest(at);
        let _keeper = self.body.table().keep();
        if self.body.floor() < floor {
            self.body.raise_floor(floor);
            mark!("far.step.sweeping");
            all.sweep(floor);
        }
        Ok(())
    }

    /// Waits until all writes and fills are over that had begun, if others agree with this place.
    pub(super) fn be_quiet(&self, copies: &Copies) -> Result<()> {
        copies.confirm()?;
        copies.settle_writes();
        copies.settle_fills();
        Ok(())
    }
}
