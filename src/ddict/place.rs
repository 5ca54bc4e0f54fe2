//! Where the managers of a dictionary of several nodes are.
//!
//! Each of its nodes has one part: a table of its own (`body.rs`) with as many shards as it has managers. The parts in
//! order are the *places*; manager `m` is shard `m % n` of place `m / n`, with `n` managers to a node. A key belongs to the
//! manager that its hash says, which begins with the same seed everywhere. The directory says all that, never changes, and
//! travels inside each handle.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use once_cell::sync::OnceCell;
use serde::{Deserialize, Serialize};

use super::body::{Body, Rules};
use super::far::Calls;
use super::home::{self, PartOpening, Said};
use super::store::Persist;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId};
use crate::names;
use crate::prim::{AtomicU64, Ordering};
use crate::runtime::{Core, NodeId};
use crate::services::FarDict;
use crate::table::Key;
use crate::task::{self, thunk};
use crate::wire;

/// What all parts have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) label: u64,
    /// What hashes begin with.
    pub(super) seed: u64,
    /// Managers of each node.
    pub(super) managers: u32,
    /// Bytes of each manager.
    pub(super) limit: u64,
    pub(super) rules: Rules,
    /// Copies of each manager on other nodes.
    pub(super) replicas: u32,
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    pub(super) shape: Shape,
    /// The part of each place: its node, and what that calls it.
    pub(super) places: Vec<(NodeNumber, ObjectId)>,
}

/// A dictionary of several nodes as this process has it open: it holds all parts.
pub(super) struct Map {
    pub(super) directory: Directory,
    /// The part of this node; without shards, if no manager is here.
    pub(super) body: Arc<Body>,
    /// The place of this node.
    pub(super) here: Option<usize>,
    /// By place; none, where the part is in this node's memory and there are no replicas.
    homes: Vec<Option<FarDict>>,
    /// The places that did not answer this process: with replicas, others act for them.
    lost: AtomicU64,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) manager: u32,
    pub(super) place: usize,
    pub(super) shard: usize,
}

impl Directory {
    pub(super) fn managers(&self) -> u32 {
        self.places.len() as u32 * self.shape.managers
    }

    /// The manager of a key.
    pub(super) fn manager_of(&self, key: &Key<'_>) -> u32 {
        (((key.hash >> 20 & 0xFFFF_FFFF) * u64::from(self.managers())) >> 32) as u32
    }

    pub(super) fn spot(&self, manager: u32) -> Spot {
        let Shape { managers, .. } = self.shape;
        Spot { manager, place: (manager / managers) as usize, shard: (manager % managers) as usize }
    }

    /// The node of a manager.
    pub(super) fn node_of(&self, manager: u32) -> NodeNumber {
        self.places[self.spot(manager).place].0
    }

    /// The managers of a place.
    pub(super) fn managers_of(&self, place: usize) -> std::ops::Range<u32> {
        let first = place as u32 * self.shape.managers;
        first..first + self.shape.managers
    }
}

/// Maps that this process has open, so that a handle that comes often is not opened anew each time.
static OPEN: Mutex<Vec<Weak<Map>>> = Mutex::new(Vec::new());

impl Map {
    /// Opens all parts of a dictionary.
    pub(super) fn open<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(
        core: &Arc<Core>,
        directory: Directory,
    ) -> Result<Arc<Map>> {
        let job = core.memory().job();
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|map| map.strong_count() > 0);
        let same = |map: &Arc<Map>| map.directory == directory && map.body.core.memory().job() == job;
        if let Some(map) = open.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(map);
        }
        drop(open);
        let opening = |place: usize| PartOpening::Open { part: directory.places[place].1 };
        let nodes: Vec<NodeNumber> = directory.places.iter().map(|(node, _)| *node).collect();
        let replicated = directory.shape.replicas > 0;
        let (mut homes, mut lost) = (Vec::new(), 0);
        for (place, opened) in open_parts::<K, V, C>(core, &nodes, replicated, opening)?.into_iter().enumerate() {
            match (opened, core.mesh()?) {
                // Others act for it; or if there are none, whoever calls for its keys is told, and the rest can be used.
                (Err(error), Some(mesh)) if error.kind() == ErrorKind::NodeLost => {
                    let (node, part) = directory.places[place];
                    homes.push(Some(FarDict::unheld(mesh, node, part)));
                    lost |= if replicated { 1 << place } else { 0 };
                }
                (opened, _) => homes.push(opened?.0),
            }
        }
        let here = nodes.iter().position(|node| *node == core.place().node());
        let map = Map::over(core, directory, here, homes, lost)?;
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&map));
        Ok(map)
    }

    /// Makes the parts of a new dictionary on these nodes.
    pub(super) fn create<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(
        core: &Arc<Core>,
        shape: Shape,
        nodes: &[NodeNumber],
        persist: Option<(&Persist, &str)>,
    ) -> Result<Arc<Map>> {
        let here = nodes.iter().position(|node| *node == core.place().node());
        // The near one first: it lives as long as this is in hand. With replicas its home makes it.
        let near = here.filter(|_| shape.replicas == 0);
        let body = near.map(|_| home::make_body(core.clone(), &shape)).transpose()?;
        let opening = |_: usize| PartOpening::Make { shape };
        let opened = open_parts::<K, V, C>(core, nodes, shape.replicas > 0, opening)?;
        let (homes, mut parts): (Vec<_>, Vec<_>) = opened.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
        if let (Some(here), Some(body)) = (here, &body) {
            parts[here] = body.object().id();
        }
        let places = nodes.iter().copied().zip(parts).collect();
        let map = Map::over(core, Directory { shape, places }, here, homes, 0)?;
        map.settle(persist)?;
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&map));
        Ok(map)
    }

    fn over(
        core: &Arc<Core>,
        directory: Directory,
        here: Option<usize>,
        homes: Vec<Option<FarDict>>,
        lost: u64,
    ) -> Result<Arc<Map>> {
        let body = match here {
            Some(here) => Body::open(core.clone(), directory.places[here].1)?,
            None => home::make_root(core.clone(), &directory.shape)?,
        };
        Ok(Arc::new(Map { directory, body: Arc::new(body), here, homes, lost: AtomicU64::new(lost) }))
    }

    /// Writes the directory at every place, before anybody else has the dictionary.
    fn settle(&self, persist: Option<(&Persist, &str)>) -> Result<()> {
        let places = self.directory.places.len();
        let archives = persist.map(|(persist, base)| super::far_persist::notes(persist, base, places)).transpose()?;
        let note = |place: usize| {
            let archive = archives.as_ref().and_then(|archives| archives.get(place).cloned().flatten());
            let base = persist.map(|(_, base)| base.to_owned());
            home::Note { archive, directory: Some(self.directory.clone()), base }.encoded()
        };
        if let Some(here) = self.here.filter(|here| self.homes[*here].is_none()) {
            self.body.table().set_note(&note(here)?)?;
        }
        let mut calls = Calls::new(self)?;
        for place in self.far_places() {
            calls.ask(place, super::far::op::SETTLE, 0, &note(place)?)?;
        }
        calls.finish(|_, _| Ok(()))
    }

    /// Where a key, or what a handle of one manager says, goes; none, if that is the memory of this node.
    #[inline]
    pub(super) fn away(&self, manager: Option<u32>, key: &Key<'_>, writes: bool) -> Option<Spot> {
        let manager = manager.unwrap_or_else(|| self.directory.manager_of(key));
        if self.directory.shape.replicas == 0 {
            let spot = self.directory.spot(manager);
            return (Some(spot.place) != self.here).then_some(spot);
        }
        let spot = self.acting(manager);
        // Who reads where its manager has always been needs nobody; all writes go through the home.
        let near = Some(spot.place) == self.here && spot == self.directory.spot(manager) && !writes;
        let may = || self.body.is_usable() && self.homes[spot.place].as_ref().is_none_or(|home| !home.is_cut());
        (!near || !may()).then_some(spot)
    }

    /// Where the copy of a manager is that acts, as far as this process knows.
    pub(super) fn acting(&self, manager: u32) -> Spot {
        let own = self.directory.spot(manager);
        let lost = self.lost.load(Ordering::Relaxed); // a hint: homes know better
        let place = self.directory.copies(manager, lost).first().copied().unwrap_or(own.place);
        Spot { manager, place, shard: self.directory.shard_at(manager, place).unwrap_or(own.shard) }
    }

    /// A place does not answer: with replicas another acts for it, if one is left.
    pub(super) fn lose(&self, place: usize) {
        if self.directory.shape.replicas > 0 {
            self.lost.fetch_or(1 << place, Ordering::Relaxed); // as in `acting`
        }
    }

    /// The shard of a key whose manager is here.
    #[inline]
    pub(super) fn shard_here(&self, manager: Option<u32>, key: &Key<'_>) -> usize {
        self.directory.spot(manager.unwrap_or_else(|| self.directory.manager_of(key))).shard
    }

    /// The part of a place that is on another node.
    pub(super) fn home(&self, place: usize) -> Result<&FarDict> {
        let none = || Error::new(ErrorKind::NotFound, "that part of the dictionary is on this node");
        self.homes.get(place).and_then(Option::as_ref).ok_or_else(none)
    }

    pub(super) fn far_places(&self) -> impl Iterator<Item = usize> {
        (0..self.homes.len()).filter(|place| self.homes[*place].is_some())
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.directory.places.iter().map(|(node, _)| NodeId::new(*node)).collect()
    }

    /// Gives the dictionary a name, by which any process of the job finds the part that has it.
    pub(super) fn give_name(&self, name: &str) -> Result<()> {
        let core = &self.body.core;
        match self.here {
            Some(_) => {
                names::give(core.memory(), name, self.body.object().id())?;
                if let Some(names) = core.names()? {
                    names.give(name, self.body.object().id())?;
                }
                Ok(())
            }
            None => {
                let place = self.far_places().next().unwrap_or_default();
                self.read(
                    place,
                    super::far::send(
                        self.home(place)?,
                        super::far::Head::new(super::far::op::NAME),
                        name.as_bytes(),
                        0,
                        |_| (),
                    ),
                )
                .map(drop)
            }
        }
    }

    /// The places that have not been found lost.
    pub(super) fn there(&self) -> Vec<usize> {
        let lost = self.lost.load(Ordering::Relaxed); // as in `acting`
        (0..self.directory.places.len()).filter(|place| lost >> (place % 64) & 1 == 0).collect()
    }

    pub(super) fn node(&self, place: usize) -> NodeNumber {
        self.directory.places[place].0
    }
}

/// By place: the hold on its part, and what its node calls that; or why there is none.
type Opened = Vec<Result<(Option<FarDict>, ObjectId)>>;

/// Opens or makes the parts that are on other nodes, all at the same time.
fn open_parts<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(
    core: &Arc<Core>,
    nodes: &[NodeNumber],
    replicated: bool,
    opening: impl Fn(usize) -> PartOpening,
) -> Result<Opened> {
    let entry = task::name_in_full(thunk::one(home::open_part::<K, V, C>))?;
    let none = ObjectId { index: 0, generation: 0 };
    Ok(std::thread::scope(|scope| {
        let far = |(place, node): (usize, &NodeNumber)| {
            let (node, entry, opening) = (*node, entry.clone(), opening(place));
            // With replicas all writes go by way of the home, also near ones.
            let far = replicated || node != core.place().node();
            far.then(|| scope.spawn(move || open_one(core, node, entry, &opening)))
        };
        let threads: Vec<_> = nodes.iter().enumerate().map(far).collect();
        let panicked = |_| Err(Error::new(ErrorKind::Io, "a thread that opens a part of a dictionary panicked"));
        let join = |thread: Option<std::thread::ScopedJoinHandle<'_, Result<FarDict>>>| match thread {
            None => Ok((None, none)),
            Some(thread) => thread.join().unwrap_or_else(panicked).map(|home| {
                let part = home.part();
                (Some(home), part)
            }),
        };
        threads.into_iter().map(join).collect()
    }))
}

fn open_one(core: &Core, node: NodeNumber, entry: Vec<u8>, opening: &PartOpening) -> Result<FarDict> {
    let mut argument = Vec::new();
    wire::encode(opening, &mut argument)?;
    let (home, said) = core.open_far_dict(node, entry, argument)?;
    match (home, wire::decode::<Said>(&said)?) {
        (Some(home), Ok(_)) => Ok(home),
        (_, Err((kind, text))) => Err(Error::new(kind, format!("node {node}: {text}"))),
        (None, Ok(_)) => Err(Error::new(ErrorKind::Io, format!("node {node} has nobody for its part of a dictionary"))),
    }
}

/// The directory that a part of another node has.
pub(super) fn ask_directory<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(
    core: &Arc<Core>,
    node: NodeNumber,
    part: ObjectId,
) -> Result<Directory> {
    let entry = task::name_in_full(thunk::one(home::open_part::<K, V, C>))?;
    let mut argument = Vec::new();
    wire::encode(&PartOpening::Open { part }, &mut argument)?;
    let (_home, said) = core.open_far_dict(node, entry, argument)?;
    match wire::decode::<Said>(&said)? {
        Ok(Some(directory)) => Ok(directory),
        Ok(None) => Err(Error::new(ErrorKind::NotFound, format!("a dictionary of node {node} alone"))),
        Err((kind, text)) => Err(Error::new(kind, text)),
    }
}

/// A handle's tie to a dictionary of several nodes. A clone is another handle.
pub(super) struct Tie {
    pub(super) map: Arc<Map>,
    /// Set by the first write where others wait for writers: the homes know this handle by it.
    writer: OnceCell<Writer>,
}

/// A handle that homes know; they hear when it goes.
struct Writer {
    map: Arc<Map>,
    number: u64,
}

static WRITERS: AtomicU64 = AtomicU64::new(1);

impl Tie {
    pub(super) fn new(map: Arc<Map>) -> Tie {
        Tie { map, writer: OnceCell::new() }
    }

    /// The number of this handle for homes that keep an account of writers; 0 elsewhere.
    pub(super) fn writer(&self) -> u64 {
        if !self.map.directory.shape.rules.waits_for_writers {
            return 0;
        }
        // Relaxed: only has to differ.
        let new = || Writer { map: self.map.clone(), number: WRITERS.fetch_add(1, Ordering::Relaxed) };
        self.writer.get_or_init(new).number
    }

    /// Tells all homes that keep an account of this handle where it is now.
    pub(super) fn goes_to(&self, checkpoint: u32) {
        if let Some(writer) = self.writer.get() {
            super::far::tell_all(&writer.map, super::far::op::SIT, writer.number, checkpoint);
        }
    }
}

impl Clone for Tie {
    fn clone(&self) -> Tie {
        Tie::new(self.map.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        super::far::tell_all(&self.map, super::far::op::RISE, self.number, 0);
    }
}
