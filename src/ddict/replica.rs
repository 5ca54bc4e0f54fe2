//! Copies of managers on other nodes, and who of them acts.
//!
//! The copies of a manager are at the first `n + 1` places that are not lost, counted round the ring from the manager's own.
//! The first of them *acts*: its home takes all writes, of its own node's processes too. A write has three steps, under a lock
//! of the key's stripe: it is decided, it is done at all other copies, it is done here; then it is answered. So whatever was
//! answered is at all copies, and all copies see the writes of a key in the same order. Reads go to the acting copy, which
//! shows nothing that the others do not have.
//!
//! That a place is *lost* is agreed: more than half of the nodes that are left, or half of them with the lowest, cannot reach it.
//! The mesh never again talks to a node that it has lost, so one that is cut off with few others finds nobody to agree with, and
//! refuses. Which places are lost is a set that only grows, the *epoch* of the map. Before a copy acts in place of
//! a lost one it tells the set to all others; a call with an older set, from a place that is in it, is refused. Then
//! it fills a copy at the next place, key by key under the same locks, while writes go on. Only a copy that is full may act.
//!
//! What is decided, and when, stands in `proto/copies`, without effects, where all that can happen to small worlds is gone through.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::far::{Head, SaidError, op, status};
use super::far_batch::{self, Record};
use super::place::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ProcId};
use crate::mesh::{Mesh, MeshError};
use crate::proto::copies::{Need, Refusal, Ring, Standing, Verdict};
use crate::services::{FarDict, FarError, lost_to};
use crate::wire;

/// Locks of keys.
const STRIPES: usize = 64;
/// Most places of a dictionary with replicas: one bit each.
pub(super) const PLACES_MOST: usize = 64;

/// What a write comes to at a checkpoint, for all copies.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) manager: u32,
    pub(super) key: Vec<u8>,
    /// None: the key is removed.
    pub(super) value: Option<Vec<u8>>,
    pub(super) kept: bool,
    pub(super) at: u32,
}

/// A handle that writes, wherever it is: node, process, and its number there.
pub(super) type Writer = (NodeNumber, ProcId, u64);

/// The head of what an acting copy says that it does, by a writer that is to be known where others wait for writers.
pub(super) fn copying(at: u32, writer: Option<Writer>) -> Head {
    let (node, process, writer) = writer.unwrap_or((0, ProcId(0), 0));
    Head { at, writer, patience: u64::from(node) << 16 | u64::from(process.0), ..Head::new(op::COPY) }
}

/// The writer that such a head tells of.
pub(super) fn copied_by(head: &Head) -> Option<Writer> {
    let by = ((head.patience >> 16) as NodeNumber, ProcId(head.patience as u16), head.writer);
    (head.writer != 0).then_some(by)
}

impl Directory {
    /// How places and managers are laid out.
    pub(super) fn ring(&self) -> Ring {
        let (managers, replicas) = (self.shape.managers as usize, self.shape.replicas as usize);
        Ring { places: self.places.len(), managers, replicas }
    }

    /// The shard of a manager's copy at a place, if that may have one.
    pub(super) fn shard_at(&self, manager: u32, place: usize) -> Option<usize> {
        let managers = self.shape.managers as usize;
        let (own, count) = (manager as usize / managers, self.places.len());
        let role = (place + count - own) % count;
        (role < self.ring().roles()).then(|| role * managers + manager as usize % managers)
    }

    /// The manager of which a shard at a place is a copy.
    pub(super) fn manager_at(&self, place: usize, shard: usize) -> u32 {
        let (managers, count) = (self.shape.managers as usize, self.places.len());
        let own = (place + count - shard / managers) % count;
        (own * managers + shard % managers) as u32
    }

    /// The places of a manager's copies, of which the first acts, if these are lost.
    pub(super) fn copies(&self, manager: u32, lost: u64) -> Vec<usize> {
        self.ring().copies(manager, lost)
    }
}

/// What the home of a place knows of copies, and by what means it does what follows from it.
pub(super) struct Copies {
    pub(super) place: usize,
    pub(super) directory: Directory,
    mesh: Mesh,
    nodes: u32,
    /// By place. They hold nothing, so that parts of a dictionary that nobody has do not keep each other.
    links: Vec<FarDict>,
    /// Read by whoever does what another place says, as long as that takes.
    standing: RwLock<Standing>,
    stripes: Vec<Mutex<()>>,
    /// Held by who changes the set of lost places.
    change: Mutex<()>,
    /// Held by who fills copies.
    filling: Mutex<()>,
    /// Held by who tells another place which handles write, or that one is gone: of the same handle in this order.
    passing: Mutex<()>,
    /// Held by who goes on to a checkpoint with all places.
    advance: Mutex<()>,
    /// Held by who stores checkpoints: by place of whose managers, up to which all are stored.
    stored: Mutex<HashMap<usize, u32>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Copies {
    pub(super) fn new(mesh: &Mesh, nodes: u32, directory: Directory) -> Option<Copies> {
        let place = directory.places.iter().position(|(node, _)| *node == mesh.me())?;
        let links = directory.places.iter().map(|(node, part)| FarDict::unheld(mesh, *node, *part)).collect();
        Some(Copies {
            place,
            mesh: mesh.clone(),
            nodes,
            links,
            standing: RwLock::new(Standing::new(directory.ring(), place)),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            change: Mutex::default(),
            filling: Mutex::default(),
            passing: Mutex::default(),
            advance: Mutex::default(),
            stored: Mutex::default(),
            directory,
        })
    }

    fn standing(&self) -> RwLockReadGuard<'_, Standing> {
        self.standing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_standing(&self) -> RwLockWriteGuard<'_, Standing> {
        self.standing.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody agrees with this place any more.
    pub(super) fn is_alone(&self) -> bool {
        self.standing().is_alone()
    }

    /// Takes the locks of these keys, in their order.
    pub(super) fn lock_keys<'k>(&self, hashes: impl Iterator<Item = u64> + 'k) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<usize> = hashes.map(|hash| hash as usize % STRIPES).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().map(|stripe| lock(&self.stripes[stripe])).collect()
    }

    /// Waits until all writes are over that had begun.
    pub(super) fn settle_writes(&self) {
        self.stripes.iter().for_each(|stripe| drop(lock(stripe)));
    }

    /// Whether this place acts for a manager, without asking anybody.
    pub(super) fn acts_now(&self, manager: u32) -> bool {
        self.standing().acts(manager)
    }

    /// Sees to it that this place acts for a manager, if all before it in the ring are lost.
    pub(super) fn act(&self, manager: u32) -> Result<()> {
        if self.acts_now(manager) {
            return Ok(());
        }
        let _change = lock(&self.change);
        loop {
            let need = self.standing().need(manager);
            match need {
                Ok(Need::Nothing) => return Ok(()),
                Ok(Need::Agree(place)) => self.agree(place)?,
                Ok(Need::Tell(place)) => self.tell(place)?,
                Err(refusal) => return Err(self.refused(manager, refusal)),
            }
        }
    }

    fn refused(&self, manager: u32, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Alone | Refusal::Deposed => self.nobody(),
            Refusal::Gone => self.gone(manager),
        }
    }

    /// A place did not answer: it is lost, and all others know, or nothing can be done.
    fn drop_out(&self, place: usize) -> Result<()> {
        let _change = lock(&self.change);
        self.agree(place)?;
        loop {
            let next = self.standing().to_tell();
            match next {
                Some(other) => self.tell(other)?,
                None => return Ok(()),
            }
        }
    }

    /// A node is lost, as this one sees it. Whether that changed anything.
    pub(super) fn node_lost(&self, node: u32) -> bool {
        let Some(place) = self.place_of(node).filter(|place| !self.standing().is_lost(*place)) else { return false };
        let dropped = self.drop_out(place);
        dropped.inspect_err(|error| tracing::warn!(%error, node, "a node of a dictionary is lost")).is_ok()
    }

    fn place_of(&self, node: u32) -> Option<usize> {
        self.directory.places.iter().position(|(of, _)| *of == node)
    }

    /// Agrees with others that a place is lost. The lock `change` is held.
    fn agree(&self, place: usize) -> Result<()> {
        let node = self.directory.places[place].0;
        let left: Vec<u32> = {
            let standing = self.standing();
            let is_gone = |of: u32| self.place_of(of).is_some_and(|at| standing.is_lost(at));
            (0..self.nodes).filter(|of| !is_gone(*of)).collect()
        };
        if !left.contains(&node) {
            return Ok(());
        }
        let votes = lost_to(&self.mesh, &left, node);
        let verdict = self.change_standing().judge(place, &left, &votes, self.mesh.me());
        match verdict {
            Verdict::Lost => {
                mark!("far.lost.agreed");
                tracing::warn!(node, "a node of a dictionary with replicas is lost");
                Ok(())
            }
            Verdict::Alone => Err(self.nobody()),
            Verdict::Reachable => {
                let text = format!("node {node} of a dictionary is not lost, though a process could not reach it");
                Err(Error::new(ErrorKind::NodeLost, text))
            }
        }
    }

    fn nobody(&self) -> Error {
        let text = format!(
            "node {} is cut off from so many others that its part of the dictionary must not be used: others may have \
             gone on without it",
            self.mesh.me()
        );
        Error::new(ErrorKind::NodeLost, text)
    }

    fn gone(&self, manager: u32) -> Error {
        let node = self.directory.node_of(manager);
        let text = format!(
            "manager {manager} of node {node} is lost with all its copies, or before the next was full; `replicas` makes more"
        );
        Error::new(ErrorKind::ManagerLost, text)
    }

    /// Tells a place which are lost. The lock `change` is held.
    fn tell(&self, place: usize) -> Result<()> {
        let lost = self.standing().lost();
        let head = Head { name: lost, ..Head::new(op::ADOPT) };
        match self.say(place, &head, &[]) {
            Err(Unsaid::Lost) => self.agree(place),
            Err(Unsaid::Refused(error)) => Err(error),
            Ok(()) => {
                mark!("far.lost.told");
                self.change_standing().told(place, lost);
                Ok(())
            }
        }
    }

    fn say(&self, place: usize, head: &Head, body: &[u8]) -> std::result::Result<(), Unsaid> {
        let fill = |space: &mut [u8]| space.copy_from_slice(body);
        match self.links[place].call(bytemuck::bytes_of(head), body.len(), fill) {
            Ok(reply) if reply.status == status::ERROR => {
                let said = wire::decode::<SaidError>(&reply.body);
                let (kind, text) = said.unwrap_or((ErrorKind::Io, "another node's answer is garbled".into()));
                Err(Unsaid::Refused(Error::new(kind, text)))
            }
            Ok(_) => Ok(()),
            Err(FarError::Mesh(MeshError::Lost { .. })) => Err(Unsaid::Lost),
            Err(error) => Err(Unsaid::Refused(error.into())),
        }
    }

    /// Another place says which are lost, and has something carried out. While that is done the set does not grow: what a place said before
    /// it was deposed is not done after.
    pub(super) fn follow(&self, from: u32, lost: u64, carry_out: impl FnOnce() -> Result<()>) -> Result<()> {
        let deposed = || {
            let text =
                format!("node {from} counts as lost, and others have gone on without its part of the dictionary");
            Error::new(ErrorKind::NodeLost, text)
        };
        let place = self.place_of(from).ok_or_else(deposed)?;
        let refused = |refusal| if refusal == Refusal::Deposed { deposed() } else { self.nobody() };
        if self.standing().lost() != lost {
            self.change_standing().adopt(place, lost).map_err(refused)?;
            mark!("far.lost.heard");
        }
        let standing = self.standing();
        if standing.is_lost(place) {
            return Err(deposed());
        }
        carry_out()
    }

    /// Another place has filled the copy here.
    pub(super) fn is_full_now(&self, manager: u32) {
        self.change_standing().is_full_now(manager);
    }

    /// Does it at all other copies. This place acts for all managers concerned, and holds the locks of the keys.
    pub(super) fn spread(&self, like: &Head, effects: &[Effect]) -> Result<()> {
        'again: loop {
            for effect in effects {
                self.act(effect.manager)?;
            }
            let mut records: Vec<Vec<u8>> = vec![Vec::new(); self.links.len()];
            let (lost, order) = {
                let standing = self.standing();
                for effect in effects {
                    for to in standing.followers(effect.manager) {
                        self.record(&mut records[to], to, effect);
                    }
                }
                (standing.lost(), standing.order())
            };
            for (to, records) in order.map(|to| (to, &records[to])).filter(|(_, records)| !records.is_empty()) {
                let head = Head { name: lost, ..*like };
                match self.say(to, &head, records) {
                    Err(Unsaid::Lost) => {
                        self.drop_out(to)?;
                        continue 'again;
                    }
                    Err(Unsaid::Refused(error)) => return Err(error),
                    Ok(()) => {
                        mark!("far.spread.one");
                    }
                }
            }
            return Ok(());
        }
    }

    pub(super) fn record(&self, records: &mut Vec<u8>, to: usize, effect: &Effect) {
        let Some(shard) = self.directory.shard_at(effect.manager, to) else { return };
        let value = effect.value.as_deref();
        let (key, value_bytes, at) = (&effect.key, value.unwrap_or_default(), Some(effect.at));
        let record = Record { shard, key, value: value_bytes, kept: effect.kept, at };
        far_batch::add(records, &record, value.is_none());
    }

    /// The places of whose managers this one has the copies that act, or have to: see [`Copies::act`].
    pub(super) fn acts_for(&self) -> Vec<usize> {
        let lost = self.standing().lost();
        let is_mine = |own: &usize| self.directory.copies(self.first_of(*own), lost).first() == Some(&self.place);
        (0..self.links.len()).filter(is_mine).collect()
    }

    /// The first manager of a place. All of them have their copies at the same places.
    pub(super) fn first_of(&self, own: usize) -> u32 {
        self.directory.managers_of(own).start
    }

    /// The places whose managers may have a copy here as things are, whether that is full or not.
    pub(super) fn copies_of(&self) -> Vec<usize> {
        let lost = self.standing().lost();
        let is_mine = |own: &usize| self.directory.copies(self.first_of(*own), lost).contains(&self.place);
        (0..self.links.len()).filter(is_mine).collect()
    }

    /// The shards that the copies of a place's managers have here.
    pub(super) fn shards_of(&self, own: usize) -> Vec<usize> {
        let shards = self.directory.managers_of(own).map(|manager| self.directory.shard_at(manager, self.place));
        shards.flatten().collect()
    }

    /// Has all other places that are there do something, and then this one, again if one of them is lost meanwhile.
    pub(super) fn everywhere(&self, head: &Head, here: impl Fn() -> Result<()>) -> Result<()> {
        'again: loop {
            let (lost, order) = {
                let standing = self.standing();
                (standing.lost(), standing.order().filter(|place| !standing.is_lost(*place)).collect::<Vec<_>>())
            };
            for place in order {
                match self.say(place, &Head { name: lost, ..*head }, &[]) {
                    Ok(()) => {}
                    Err(Unsaid::Lost) => {
                        self.drop_out(place)?;
                        continue 'again;
                    }
                    Err(Unsaid::Refused(error)) => return Err(error),
                }
            }
            here()?;
            if self.standing().lost() == lost {
                return Ok(());
            }
        }
    }

    /// Makes sure that nobody has gone on without this place: all others are told which are lost, and would refuse.
    pub(super) fn confirm(&self) -> Result<()> {
        self.everywhere(&Head::new(op::ADOPT), || Ok(()))
    }

    /// The right to go on to a checkpoint with all places.
    pub(super) fn begin_to_advance(&self) -> MutexGuard<'_, ()> {
        lock(&self.advance)
    }

    /// The right to store checkpoints; by place of whose managers, up to which all are stored.
    pub(super) fn begin_to_store(&self) -> MutexGuard<'_, HashMap<usize, u32>> {
        lock(&self.stored)
    }

    /// The right to tell other places of handles that write.
    pub(super) fn begin_to_pass(&self) -> MutexGuard<'_, ()> {
        lock(&self.passing)
    }

    /// Tells all other places that handles are gone: they may have heard of those from here after they heard that.
    pub(super) fn pass_on_gone(&self, writers: &[Writer]) {
        let _passing = self.begin_to_pass();
        for (place, writer) in
            (0..self.links.len()).flat_map(|place| writers.iter().map(move |writer| (place, *writer)))
        {
            if place != self.place {
                let head = Head { op: op::GONE, ..copying(0, Some(writer)) };
                // One that is lost need not hear it.
                let _ = self.links[place].tell(bytemuck::bytes_of(&head));
            }
        }
    }

    /// Waits until nobody fills copies.
    pub(super) fn settle_fills(&self) {
        drop(lock(&self.filling));
    }

    /// The right to fill copies; none while another does.
    pub(super) fn begin_to_fill(&self) -> Option<MutexGuard<'_, ()>> {
        self.filling.try_lock().ok()
    }

    /// Copies that are to be filled, of managers that this place acts for.
    pub(super) fn to_fill(&self) -> Vec<(u32, usize)> {
        self.standing().to_fill()
    }

    /// Puts some keys at one copy. Their locks are held.
    pub(super) fn fill(&self, to: usize, newest: u32, effects: &[Effect]) -> Result<()> {
        let mut records = Vec::new();
        effects.iter().for_each(|effect| self.record(&mut records, to, effect));
        let head = Head { name: self.standing().lost(), ..copying(newest, None) };
        self.say(to, &head, &records).map_err(|unsaid| self.unfilled(to, unsaid))?;
        Ok(())
    }

    /// A copy has all keys. `writers` follows.
    pub(super) fn filled(&self, manager: u32, to: usize, writers: &[u8]) -> Result<()> {
        let shard = self.directory.shard_at(manager, to).unwrap_or_default();
        let head = Head { name: self.standing().lost(), shard: shard as u32, ..Head::new(op::FULL) };
        self.say(to, &head, writers).map_err(|unsaid| self.unfilled(to, unsaid))?;
        mark!("far.fill.told");
        self.change_standing().filled(manager, to);
        Ok(())
    }

    fn unfilled(&self, to: usize, unsaid: Unsaid) -> Error {
        match unsaid {
            Unsaid::Refused(error) => error,
            Unsaid::Lost => {
                let node = self.directory.places[to].0;
                Error::new(ErrorKind::NodeLost, format!("node {node} is lost while it gets a copy"))
            }
        }
    }
}

/// Why another place was not told.
enum Unsaid {
    /// Its node is lost to this one.
    Lost,
    Refused(Error),
}

#[cfg(test)]
mod tests {
    use super::super::body::Rules;
    use super::super::place::Shape;
    use super::*;
    use crate::id::ObjectId;

    fn directory(places: u32, managers: u32, replicas: u32) -> Directory {
        let rules = Rules { window: 1, waits_for_keys: false, waits_for_writers: false, persists: false };
        let shape = Shape { label: 1, seed: 2, managers, limit: 1 << 20, rules, replicas };
        let part = ObjectId { index: 0, generation: 0 };
        Directory { shape, places: (0..places).map(|node| (node, part)).collect() }
    }

    #[test]
    fn copies_go_round_the_ring_and_past_the_lost() {
        let all = directory(5, 2, 1);
        assert_eq!((all.copies(0, 0), all.copies(9, 0)), (vec![0, 1], vec![4, 0]));
        assert_eq!((all.copies(0, 0b1), all.copies(0, 0b10), all.copies(0, 0b11)), (vec![1, 2], vec![0, 2], vec![2]));
        assert!(all.copies(0, 0b111).is_empty());
        for (manager, place) in (0..10).flat_map(|manager| (0..5).map(move |place| (manager, place))) {
            let shard = all.shard_at(manager, place);
            assert!(shard.is_none_or(|shard| all.manager_at(place, shard) == manager));
            assert!(shard.is_some() || !all.copies(manager, 0b10101).contains(&place));
        }
        assert_eq!(directory(2, 3, 1).copies(4, 0), vec![1, 0]);
        assert_eq!(directory(3, 1, 0).copies(1, 0), vec![1]);
    }
}
