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

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::far::{Head, SaidError, op, status};
use super::far_batch::{self, Record};
use super::place::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::mesh::{Mesh, MeshError};
use crate::prim::{AtomicBool, AtomicU64, Ordering};
use crate::services::{FarDict, FarError, lost_to};
use crate::wire;

/// Locks of keys.
const STRIPES: usize = 64;
/// Most places of a dictionary with replicas: one bit each.
pub(super) const PLACES_MOST: usize = 64;

/// What a write comes to, for all copies.
pub(super) struct Effect {
    pub(super) manager: u32,
    pub(super) key: Vec<u8>,
    /// None: the key is removed.
    pub(super) value: Option<Vec<u8>>,
    pub(super) kept: bool,
}

impl Directory {
    /// How many places may have a copy of a manager, counted from its own.
    pub(super) fn roles(&self) -> usize {
        let replicas = self.shape.replicas as usize;
        if replicas == 0 { 1 } else { self.places.len().min(2 * replicas + 1) }
    }

    /// The shard of a manager's copy at a place, if that may have one.
    pub(super) fn shard_at(&self, manager: u32, place: usize) -> Option<usize> {
        let managers = self.shape.managers as usize;
        let (own, count) = (manager as usize / managers, self.places.len());
        let role = (place + count - own) % count;
        (role < self.roles()).then(|| role * managers + manager as usize % managers)
    }

    /// The manager of which a shard at a place is a copy.
    pub(super) fn manager_at(&self, place: usize, shard: usize) -> u32 {
        let (managers, count) = (self.shape.managers as usize, self.places.len());
        let own = (place + count - shard / managers) % count;
        (own * managers + shard % managers) as u32
    }

    /// The places of a manager's copies, of which the first acts, if these are lost.
    pub(super) fn copies(&self, manager: u32, lost: u64) -> Vec<usize> {
        let (own, count) = (manager as usize / self.shape.managers as usize, self.places.len());
        let ring = (0..self.roles()).map(|role| (own + role) % count).filter(|place| lost >> place & 1 == 0);
        ring.take(self.shape.replicas as usize + 1).collect()
    }
}

/// What the home of a place knows of copies.
pub(super) struct Copies {
    pub(super) place: usize,
    pub(super) directory: Directory,
    mesh: Mesh,
    nodes: u32,
    /// By place. They hold nothing, so that parts of a dictionary that nobody has do not keep each other.
    links: Vec<FarDict>,
    /// The places that are lost, as is agreed.
    lost: AtomicU64,
    /// The set that all others have been told.
    told: AtomicU64,
    /// Nobody agrees with this place any more.
    pub(super) alone: AtomicBool,
    /// Managers of which the copy here is full.
    full: Mutex<HashSet<u32>>,
    /// Copies elsewhere that this place has filled, or that were full from the start.
    filled: Mutex<HashSet<(u32, usize)>>,
    stripes: Vec<Mutex<()>>,
    /// Held by who changes the set.
    change: Mutex<()>,
    /// Held by who fills copies.
    filling: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Copies {
    pub(super) fn new(mesh: &Mesh, nodes: u32, directory: Directory) -> Option<Copies> {
        let place = directory.places.iter().position(|(node, _)| *node == mesh.me())?;
        let links = directory.places.iter().map(|(node, part)| FarDict::unheld(mesh, *node, *part)).collect();
        let all = 0..directory.managers();
        let full = all.clone().filter(|manager| directory.copies(*manager, 0).contains(&place)).collect();
        let filled = all.flat_map(|manager| directory.copies(manager, 0).into_iter().map(move |to| (manager, to)));
        Some(Copies {
            place,
            mesh: mesh.clone(),
            nodes,
            links,
            lost: AtomicU64::new(0),
            told: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            full: Mutex::new(full),
            filled: Mutex::new(filled.collect()),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            change: Mutex::default(),
            filling: Mutex::default(),
            directory,
        })
    }

    /// The set of lost places, as far as this place knows.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst) // pairs with the changes of it
    }

    /// Takes the locks of these keys, in their order.
    pub(super) fn lock_keys<'k>(&self, hashes: impl Iterator<Item = u64> + 'k) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<usize> = hashes.map(|hash| hash as usize % STRIPES).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().map(|stripe| lock(&self.stripes[stripe])).collect()
    }

    /// Whether this place acts for a manager, without asking anybody.
    pub(super) fn acts_now(&self, manager: u32) -> bool {
        let lost = self.lost();
        self.directory.copies(manager, lost).first() == Some(&self.place)
            && (lost == self.told.load(Ordering::SeqCst)) // pairs with `tell`
            && !self.alone.load(Ordering::SeqCst) // pairs with `give_up`
            && lock(&self.full).contains(&manager)
    }

    /// Sees to it that this place acts for a manager, if all before it in the ring are lost.
    pub(super) fn act(&self, manager: u32) -> Result<()> {
        if self.acts_now(manager) {
            return Ok(());
        }
        let _change = lock(&self.change);
        loop {
            // SeqCst: pairs with `agree` and `adopt`.
            if self.alone.load(Ordering::SeqCst) {
                return Err(self.nobody());
            }
            match self.directory.copies(manager, self.lost()).first().copied() {
                Some(first) if first == self.place => break,
                Some(first) => self.agree(first)?,
                None => return Err(self.gone(manager)),
            }
        }
        self.tell()?;
        if lock(&self.full).contains(&manager) { Ok(()) } else { Err(self.gone(manager)) }
    }

    /// A place did not answer: it is lost, or nothing can be done.
    fn drop_out(&self, place: usize) -> Result<()> {
        let _change = lock(&self.change);
        self.agree(place)?;
        self.tell()
    }

    /// A node is lost, as this one sees it. Whether that changed anything.
    pub(super) fn node_lost(&self, node: u32) -> bool {
        let Some(place) = self.directory.places.iter().position(|(of, _)| *of == node) else { return false };
        if self.lost() >> place & 1 == 1 {
            return false;
        }
        let dropped = self.drop_out(place);
        dropped.inspect_err(|error| tracing::warn!(%error, node, "a node of a dictionary is lost")).is_ok()
    }

    /// Agrees with others that a place is lost. The lock `change` is held.
    fn agree(&self, place: usize) -> Result<()> {
        let lost = self.lost();
        if lost >> place & 1 == 1 {
            return Ok(());
        }
        let node = self.directory.places[place].0;
        let is_gone = |of: u32| {
            let at = self.directory.places.iter().position(|(node, _)| *node == of);
            at.is_some_and(|at| lost >> at & 1 == 1)
        };
        let left: Vec<u32> = (0..self.nodes).filter(|of| !is_gone(*of)).collect();
        let votes = lost_to(&self.mesh, &left, node);
        if !votes.contains(&self.mesh.me()) {
            let text = format!("node {node} of a dictionary is not lost, though a process could not reach it");
            return Err(Error::new(ErrorKind::NodeLost, text));
        }
        let half = 2 * votes.len() == left.len() && votes.contains(left.first().unwrap_or(&0));
        if 2 * votes.len() > left.len() || half {
            tracing::warn!(node, "a node of a dictionary with replicas is lost");
            self.lost.fetch_or(1 << place, Ordering::SeqCst); // pairs with `lost`
            return Ok(());
        }
        self.alone.store(true, Ordering::SeqCst); // pairs with `acts_now`
        Err(self.nobody())
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

    /// Tells all others which places are lost. The lock `change` is held.
    fn tell(&self) -> Result<()> {
        'again: loop {
            let lost = self.lost();
            // SeqCst: pairs with the store at the end.
            if self.told.load(Ordering::SeqCst) == lost {
                return Ok(());
            }
            for place in (0..self.links.len()).filter(|place| *place != self.place && lost >> place & 1 == 0) {
                let head = Head { name: lost, ..Head::new(op::ADOPT) };
                match self.say(place, &head, &[]) {
                    Err(Unsaid::Lost) => {
                        self.agree(place)?;
                        continue 'again;
                    }
                    Err(Unsaid::Refused(error)) => return Err(error),
                    Ok(()) => {}
                }
            }
            self.told.store(lost, Ordering::SeqCst); // pairs with `acts_now`
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

    /// Another place says which are lost.
    pub(super) fn adopt(&self, from: u32, lost: u64) -> Result<()> {
        let place = self.directory.places.iter().position(|(node, _)| *node == from);
        if place.is_none_or(|place| self.lost() >> place & 1 == 1) {
            let text =
                format!("node {from} counts as lost, and others have gone on without its part of the dictionary");
            return Err(Error::new(ErrorKind::NodeLost, text));
        }
        if lost >> self.place & 1 == 1 {
            self.alone.store(true, Ordering::SeqCst); // pairs with `acts_now`
            return Err(self.nobody());
        }
        let before = self.lost.fetch_or(lost, Ordering::SeqCst); // pairs with `lost`
        // Who told us has told all.
        let _ = self.told.compare_exchange(before, before | lost, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }

    /// Another place has filled the copy here.
    pub(super) fn is_full_now(&self, manager: u32) {
        lock(&self.full).insert(manager);
    }

    /// Does it at all other copies. This place acts for all managers concerned, and holds the locks of the keys.
    pub(super) fn spread(&self, at: u32, effects: &[Effect]) -> Result<()> {
        'again: loop {
            for effect in effects {
                self.act(effect.manager)?;
            }
            let lost = self.lost();
            let mut records: Vec<Vec<u8>> = vec![Vec::new(); self.links.len()];
            for effect in effects {
                for to in self.directory.copies(effect.manager, lost).into_iter().filter(|to| *to != self.place) {
                    self.record(&mut records[to], to, effect);
                }
            }
            for (to, records) in records.iter().enumerate().filter(|(_, records)| !records.is_empty()) {
                let head = Head { name: lost, at, ..Head::new(op::COPY) };
                match self.say(to, &head, records) {
                    Err(Unsaid::Lost) => {
                        self.drop_out(to)?;
                        continue 'again;
                    }
                    Err(Unsaid::Refused(error)) => return Err(error),
                    Ok(()) => {}
                }
            }
            return Ok(());
        }
    }

    pub(super) fn record(&self, records: &mut Vec<u8>, to: usize, effect: &Effect) {
        let Some(shard) = self.directory.shard_at(effect.manager, to) else { return };
        let value = effect.value.as_deref();
        let record = Record { shard, key: &effect.key, value: value.unwrap_or_default(), kept: effect.kept };
        far_batch::add(records, &record, value.is_none());
    }

    /// The right to fill copies; none while another does.
    pub(super) fn begin_to_fill(&self) -> Option<MutexGuard<'_, ()>> {
        self.filling.try_lock().ok()
    }

    /// Copies that are to be filled, of managers that this place acts for.
    pub(super) fn to_fill(&self) -> Vec<(u32, usize)> {
        let (lost, filled) = (self.lost(), lock(&self.filled).clone());
        let mine = |manager: &u32| self.directory.copies(*manager, lost).first() == Some(&self.place);
        let managers = (0..self.directory.managers()).filter(mine);
        let copies =
            managers.flat_map(|manager| self.directory.copies(manager, lost).into_iter().map(move |to| (manager, to)));
        copies.filter(|(manager, to)| *to != self.place && !filled.contains(&(*manager, *to))).collect()
    }

    /// Puts some keys at one copy. Their locks are held.
    pub(super) fn fill(&self, to: usize, at: u32, effects: &[Effect]) -> Result<()> {
        let mut records = Vec::new();
        effects.iter().for_each(|effect| self.record(&mut records, to, effect));
        let head = Head { name: self.lost(), at, ..Head::new(op::COPY) };
        self.say(to, &head, &records).map_err(|unsaid| self.unfilled(to, unsaid))
    }

    /// A copy has all keys.
    pub(super) fn filled(&self, manager: u32, to: usize) -> Result<()> {
        let shard = self.directory.shard_at(manager, to).unwrap_or_default();
        let head = Head { name: self.lost(), shard: shard as u32, ..Head::new(op::FULL) };
        self.say(to, &head, &[]).map_err(|unsaid| self.unfilled(to, unsaid))?;
        lock(&self.filled).insert((manager, to));
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
