//! Calls about a dictionary of several nodes as a whole: a function goes to each node and does its part where the keys are,
//! all at the same time.

use std::sync::Arc;

use once_cell::sync::OnceCell;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use super::DDict;
use super::body::Body;
use super::encode::{decode, with_key, with_value};
use super::far::{Calls, Head, SaidError, op};
use super::pack;
use super::place::Map;
use super::whole::{DDictStats, ManagerStats};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::prim::{AtomicU32, Ordering};
use crate::runtime;
use crate::runtime::NodeId;
use crate::table::{Expect, Item, View};
use crate::task::{self, thunk};
use crate::wire::{self, Message};

/// What a function is told that does its part of something at one place.
#[derive(Serialize, Deserialize)]
pub(super) struct Sent<A> {
    /// The place, and what its node calls its part.
    pub(super) place: u32,
    part: ObjectId,
    at: u32,
    /// The shards that it is about; none: all.
    pub(super) shards: Option<Vec<u32>>,
    pub(super) argument: A,
}

/// What it says.
pub(super) type Did<R> = std::result::Result<R, SaidError>;

/// For what a function of a place says.
pub(super) fn did<R>(result: Result<R>) -> Did<R> {
    result.map_err(|error| (error.kind(), error.to_string()))
}

impl<A> Sent<A> {
    /// The dictionary of that place, as a handle that knows no other.
    pub(super) fn dict<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(&self) -> Result<DDict<K, V, C>> {
        let body = Body::open(runtime::current()?, self.part)?;
        Ok(DDict {
            body: Arc::new(body),
            at: AtomicU32::new(self.at),
            manager: None,
            seat: OnceCell::new(),
            tie: None,
            types: std::marker::PhantomData,
        })
    }

    /// What a function makes of the dictionary of that place, or of each of the shards that it is about.
    fn each<K: 'static, V: 'static, C: Codec<K> + Codec<V>, R>(
        &self,
        function: impl Fn(&DDict<K, V, C>) -> Result<R>,
    ) -> Result<Vec<R>> {
        let whole = self.dict::<K, V, C>()?;
        match &self.shards {
            None => Ok(vec![function(&whole)?]),
            Some(shards) => shards.iter().map(|shard| function(&whole.at_manager(*shard as usize))).collect(),
        }
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    fn sent<A>(&self, map: &Map, place: usize, argument: A) -> Sent<A> {
        let at = self.at.load(Ordering::Relaxed); // this handle's own
        let replicated = map.directory.shape.replicas > 0;
        let here =
            |manager: u32| Some(map.acting(manager)).filter(|spot| spot.place == place).map(|spot| spot.shard as u32);
        let shards = match self.manager {
            Some(manager) => Some(here(manager).into_iter().collect()),
            None if replicated => Some((0..map.directory.managers()).filter_map(here).collect()),
            None => None,
        };
        Sent { place: place as u32, part: map.directory.places[place].1, at, shards, argument }
    }

    /// The managers that this handle's calls are about.
    fn concerned(&self, map: &Map) -> std::ops::Range<u32> {
        match self.manager {
            Some(manager) => manager..manager + 1,
            None => 0..map.directory.managers(),
        }
    }

    /// The places that this handle's calls go to.
    fn places(&self, map: &Map) -> Vec<usize> {
        let places: std::collections::BTreeSet<usize> =
            self.concerned(map).map(|manager| map.acting(manager).place).collect();
        places.into_iter().collect()
    }

    /// Runs a function at all places of this handle, at the same time: what each says, by place. With replicas again, if
    /// one is lost meanwhile.
    pub(super) fn everywhere<F, A, R>(&self, map: &Map, function: F, argument: &A) -> Result<Vec<(usize, R)>>
    where
        F: Fn(Sent<A>) -> Did<R> + Copy + Send + Sync + 'static,
        A: Message + Clone,
        R: Message,
    {
        self.everywhere_of(map, function, |_| argument.clone())
    }

    /// The same, with an argument that depends on which places there are.
    pub(super) fn everywhere_of<F, A, R>(
        &self,
        map: &Map,
        function: F,
        argument: impl Fn(&[usize]) -> A,
    ) -> Result<Vec<(usize, R)>>
    where
        F: Fn(Sent<A>) -> Did<R> + Copy + Send + Sync + 'static,
        A: Message + Clone,
        R: Message,
    {
        loop {
            self.take_over(map)?;
            let places = self.places(map);
            match self.at_places(map, &places, function, &argument(&places)) {
                Err(error) if error.kind() == ErrorKind::NodeLost && self.places(map) != places => {}
                done => return done,
            }
        }
    }

    /// Sees to it that whoever stands in for a lost place acts: a copy that is not full must not pass for the whole.
    fn take_over(&self, map: &Map) -> Result<()> {
        for manager in self.concerned(map) {
            // What is asked for does not matter.
            let spot = map.acting(manager);
            if spot != map.directory.spot(manager) {
                self.far_contains((map, spot), &self.body.table().key(&[]))?;
            }
        }
        Ok(())
    }

    /// Runs a function at all places that are there, of their whole parts.
    fn at_all<F, A, R>(&self, map: &Map, function: F, argument: &A) -> Result<Vec<(usize, R)>>
    where
        F: Fn(Sent<A>) -> Did<R> + Copy + Send + Sync + 'static,
        A: Message + Clone,
        R: Message,
    {
        loop {
            let places = map.there();
            match self.whole().at_places(map, &places, function, argument) {
                Err(error) if error.kind() == ErrorKind::NodeLost && map.there() != places => {}
                done => return done,
            }
        }
    }

    fn at_places<F, A, R>(&self, map: &Map, places: &[usize], function: F, argument: &A) -> Result<Vec<(usize, R)>>
    where
        F: Fn(Sent<A>) -> Did<R> + Copy + Send + Sync + 'static,
        A: Message + Clone,
        R: Message,
    {
        let entry = task::name_in_full(thunk::one(function))?;
        let mut calls = Calls::new(map)?;
        for place in places.iter().copied().filter(|place| Some(*place) != map.here) {
            let (mut bytes, mut body) = (Vec::new(), Vec::new());
            wire::encode(&self.sent(map, place, argument.clone()), &mut bytes)?;
            wire::encode(&(entry.clone(), bytes), &mut body)?;
            calls.ask_with(place, &Head::new(op::RUN), &body)?;
        }
        let mut all = Vec::new();
        if let Some(here) = map.here.filter(|here| places.contains(here)) {
            all.push((here, said(function(self.sent(map, here, argument.clone())))));
        }
        let finished = calls.finish(|place, reply| {
            all.push((place, said(wire::decode::<Did<R>>(&reply.body)?)));
            Ok(())
        });
        let all = all.into_iter().map(|(place, said)| Ok((place, said?))).collect::<Result<Vec<_>>>();
        finished.and(all)
    }

    /// Runs a function at the place of a manager.
    fn at_manager_of<F, A, R>(&self, map: &Map, manager: u32, function: F, argument: &A) -> Result<R>
    where
        F: Fn(Sent<A>) -> Did<R> + Copy + Send + Sync + 'static,
        A: Message + Clone,
        R: Message,
    {
        let one = self.at_manager(manager as usize);
        let said = one.everywhere(map, function, argument)?.pop();
        said.map(|(_, said)| said).ok_or_else(|| Error::new(ErrorKind::Io, "a manager's node says nothing"))
    }

    pub(super) fn far_keys(&self, map: &Map) -> Result<Vec<K>>
    where
        K: Send,
    {
        let lists = self.everywhere(map, keys_at::<K, V, C>, &())?;
        let lists: Vec<Vec<K>> = lists
            .into_par_iter()
            .map(|(_, keys)| pack::keys(&keys).map(|key| decode::<K, C>(key?)).collect::<Result<Vec<K>>>())
            .collect::<Result<_>>()?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// The keys whose managers are on this node.
    pub(super) fn keys_here(&self, map: &Map) -> Result<Vec<K>>
    where
        K: Send,
    {
        let place = map.here.filter(|here| self.places(map).contains(here));
        let Some(here) = place else { return Ok(Vec::new()) };
        Ok(self.sent(map, here, ()).each(|dict: &DDict<K, V, C>| dict.keys())?.into_iter().flatten().collect())
    }

    pub(super) fn far_len(&self, map: &Map) -> Result<u64> {
        Ok(self.everywhere(map, len_at::<K, V, C>, &())?.into_iter().map(|(_, len)| len).sum())
    }

    pub(super) fn far_clear(&self, map: &Map) -> Result<()> {
        if map.directory.shape.replicas == 0 {
            return self.everywhere(map, clear_at::<K, V, C>, &()).map(drop);
        }
        // Each removal is done at all copies.
        for (_, keys) in self.everywhere(map, keys_at::<K, V, C>, &())? {
            for key in pack::keys(&keys) {
                let key = self.body.table().key(key?);
                if let Some(to) = self.away_to_write(&key) {
                    self.far_remove(to, &key, Expect::Any)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn far_stats(&self, map: &Map) -> Result<DDictStats> {
        let mut all = DDictStats { managers: Vec::new(), newest_checkpoint: 0, frozen: false };
        for (place, (managers, newest, frozen)) in self.everywhere(map, stats_at::<K, V, C>, &())? {
            let node = NodeId::new(map.node(place));
            let of = |(shard, keys, in_use, limit): Figures| {
                let manager = map.directory.manager_at(place, shard as usize);
                ManagerStats { manager, node, keys, in_use, limit }
            };
            all.managers.extend(managers.into_iter().map(of));
            all.newest_checkpoint = all.newest_checkpoint.max(newest);
            all.frozen |= frozen;
        }
        all.managers.sort_by_key(|one| one.manager);
        Ok(all)
    }

    pub(super) fn far_freeze(&self, map: &Map, frozen: bool) -> Result<()> {
        self.at_all(map, freeze_at::<K, V, C>, &frozen)?;
        // With replicas a write is more than what the tables know to be under way.
        if frozen && map.directory.shape.replicas > 0 { self.far_quiet(map) } else { Ok(()) }
    }

    /// With replicas: waits until all writes are over that had begun.
    pub(super) fn far_quiet(&self, map: &Map) -> Result<()> {
        self.at_homes(map, &Head::new(op::QUIET), &[])
    }

    /// Has the homes of all places that are there do something, again if one of them is lost meanwhile.
    pub(super) fn at_homes(&self, map: &Map, head: &Head, body: &[u8]) -> Result<()> {
        loop {
            self.take_over(map)?;
            let (places, mut calls) = (map.there(), Calls::new(map)?);
            places.iter().try_for_each(|place| calls.ask_with(*place, head, body))?;
            match calls.finish(|_, _| Ok(())) {
                Err(error) if error.kind() == ErrorKind::NodeLost && map.there() != places => {}
                done => return done,
            }
        }
    }

    /// As any of the nodes that answer has it.
    pub(super) fn far_is_frozen(&self, map: &Map) -> bool {
        let near = map.here.map(|_| self.body.gate().is_frozen());
        near.unwrap_or_else(|| self.whole().far_stats(map).is_ok_and(|stats| stats.frozen))
    }

    pub(super) fn far_destroy(&self, map: &Map) {
        // One that is lost has nothing left to destroy.
        let _ = self.at_all(map, destroy_at::<K, V, C>, &());
        self.body.wake();
    }

    /// The newest checkpoint of all, as far as they are there.
    pub(super) fn far_newest(&self, map: &Map) -> Result<u32> {
        let newest = match self.at_all(map, newest_at::<K, V, C>, &()) {
            Err(error) if error.kind() == ErrorKind::ManagerLost => {
                let one = |place| self.whole().at_places(map, &[place], newest_at::<K, V, C>, &());
                let there: Vec<_> = map.there().into_iter().filter_map(|place| one(place).ok()).flatten().collect();
                if there.is_empty() { Err(error) } else { Ok(there) }
            }
            all => all,
        };
        Ok(newest?.into_iter().map(|(_, newest)| newest).max().unwrap_or(0))
    }

    /// Copies every part into that of another dictionary of the same shape.
    pub(super) fn far_copy(&self, map: &Map, copy: &Map) -> Result<()> {
        let parts: Vec<ObjectId> = copy.directory.places.iter().map(|(_, part)| *part).collect();
        self.at_all(map, copy_at::<K, V, C>, &parts).map(drop)
    }

    /// One part of a manager of another node, read there.
    pub(super) fn far_walk(
        &self,
        map: &Map,
        manager: usize,
        part: usize,
        view: View,
        mut see: impl FnMut(Item<'_>) -> Result<()>,
    ) -> Result<()> {
        let at = DDict { at: AtomicU32::new(view.at), ..self.clone() };
        let items: Vec<u8> = at.at_manager_of(map, manager as u32, walk_at::<K, V, C>, &(part as u32))?;
        pack::items(&items).try_for_each(|item| see(item?))
    }

    pub(super) fn far_filter<X, F>(&self, map: &Map, _wanted: F, context: &X) -> Result<Vec<(K, V)>>
    where
        K: Send,
        V: Send,
        X: Message + Sync,
        F: Fn(&X, &K, &V) -> bool + Copy + Send + Sync + 'static,
    {
        let mut bytes = Vec::new();
        wire::encode(context, &mut bytes)?;
        let mut found = Vec::new();
        for (_, items) in self.everywhere(map, filter_at::<K, V, C, X, F>, &bytes)? {
            for item in pack::items(&items) {
                let item = item?;
                found.push((decode::<K, C>(item.key)?, decode::<V, C>(item.value)?));
            }
        }
        Ok(found)
    }

    pub(super) fn far_map_reduce<R, F, G>(&self, over: &Map, _mapped: F, reduce: G) -> Result<Option<R>>
    where
        K: Send,
        V: Send,
        R: Message,
        F: Fn(&K, &V) -> R + Copy + Send + Sync + 'static,
        G: Fn(R, R) -> R + Copy + Send + Sync + 'static,
    {
        let sums = self.everywhere(over, map_reduce_at::<K, V, C, R, F, G>, &())?;
        Ok(sums.into_iter().filter_map(|(_, sum)| sum).reduce(reduce))
    }

    /// The same dictionary without a manager of its own.
    pub(super) fn whole(&self) -> DDict<K, V, C> {
        DDict { manager: None, ..self.clone() }
    }
}

fn said<R>(did: Did<R>) -> Result<R> {
    did.map_err(|(kind, text)| Error::new(kind, text))
}

// ---- what runs at a place ---------------------------------------------------------------------------

fn keys_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<()>) -> Did<Vec<u8>> {
    let keys = sent.each(|dict: &DDict<K, V, C>| {
        let (view, table) = (dict.here(), dict.body.table());
        let list = |(manager, part): (usize, usize)| {
            let mut keys = Vec::new();
            table.walk_keys(manager, part, view, |key| pack::add_key(&mut keys, key));
            keys
        };
        let lists: Vec<Vec<u8>> = dict.parts().into_par_iter().map(list).collect();
        dict.still_there(view.at)?;
        Ok(lists.concat())
    });
    did(keys.map(|keys| keys.concat()))
}

fn len_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<()>) -> Did<u64> {
    did(sent.each(|dict: &DDict<K, V, C>| dict.len()).map(|lens| lens.iter().sum()))
}

fn clear_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<()>) -> Did<()> {
    did(sent.each(|dict: &DDict<K, V, C>| dict.clear()).map(drop))
}

/// Shard, keys, bytes in use, most bytes.
type Figures = (u32, u64, u64, u64);

fn stats_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<()>) -> Did<(Vec<Figures>, u32, bool)> {
    let stats = sent.each(|dict: &DDict<K, V, C>| dict.stats());
    did(stats.map(|stats| {
        let managers = stats.iter().flat_map(|stats| &stats.managers);
        let figures = managers.map(|one| (one.manager, one.keys, one.in_use, one.limit)).collect();
        let newest = stats.iter().map(|stats| stats.newest_checkpoint).max();
        (figures, newest.unwrap_or(0), stats.iter().any(|stats| stats.frozen))
    }))
}

fn freeze_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<bool>) -> Did<()> {
    did(sent.dict::<K, V, C>().and_then(|dict| if sent.argument { dict.freeze() } else { dict.unfreeze() }))
}

fn destroy_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<()>) -> Did<()> {
    did(sent.dict::<K, V, C>().map(|dict| dict.destroy()))
}

fn newest_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<()>) -> Did<u32> {
    did(sent.dict::<K, V, C>().and_then(|dict| dict.sync_to_newest()))
}

/// The argument says into which parts, by place.
fn copy_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<Vec<ObjectId>>) -> Did<()> {
    did(sent.dict::<K, V, C>().and_then(|dict| {
        let none = || Error::new(ErrorKind::Io, "a part of a dictionary has none to be copied into");
        let part = *sent.argument.get(sent.place as usize).ok_or_else(none)?;
        let copy = Sent { part, place: sent.place, at: 0, shards: None, argument: () }.dict::<K, V, C>()?;
        dict.copy_into(&copy)
    }))
}

fn walk_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(sent: Sent<u32>) -> Did<Vec<u8>> {
    did(sent.dict::<K, V, C>().and_then(|dict| {
        let (view, mut items) = (dict.here(), Vec::new());
        let add = |item: Item<'_>| {
            pack::add_item(&mut items, &item);
            Ok(())
        };
        let shard = sent.shards.iter().flatten().next().copied().unwrap_or(0);
        dict.walk_part(shard as usize, sent.argument as usize, view, add)?;
        dict.still_there(view.at)?;
        Ok(items)
    }))
}

fn filter_at<K, V, C, X, F>(sent: Sent<Vec<u8>>) -> Did<Vec<u8>>
where
    K: Send + 'static,
    V: Send + 'static,
    C: Codec<K> + Codec<V>,
    X: Message + Sync,
    F: Fn(&X, &K, &V) -> bool + Copy + Send + Sync + 'static,
{
    let items = wire::decode::<X>(&sent.argument).map_err(Error::from).and_then(|context| {
        sent.each(|dict: &DDict<K, V, C>| {
            let mut items = Vec::new();
            for (key, value) in dict.filter(thunk::remake::<F>(), &context)? {
                let value = bytes_of::<V, C>(&value)?;
                with_key::<K, C, _>(&key, |key| {
                    let item = Item { key, value: &value, kept: false, version: 0, cargo: false };
                    pack::add_item(&mut items, &item);
                    Ok(())
                })?;
            }
            Ok(items)
        })
    });
    did(items.map(|items| items.concat()))
}

fn map_reduce_at<K, V, C, R, F, G>(sent: Sent<()>) -> Did<Option<R>>
where
    K: Send + 'static,
    V: Send + 'static,
    C: Codec<K> + Codec<V>,
    R: Message,
    F: Fn(&K, &V) -> R + Copy + Send + Sync + 'static,
    G: Fn(R, R) -> R + Copy + Send + Sync + 'static,
{
    let reduce = thunk::remake::<G>();
    let sums = sent.each(|dict: &DDict<K, V, C>| dict.map_reduce(thunk::remake::<F>(), reduce));
    did(sums.map(|sums| sums.into_iter().flatten().reduce(reduce)))
}

/// What a shipped change makes of a number: the key's bytes and what is added.
pub(super) fn add_at<K, V, C>(sent: Sent<(Vec<u8>, Vec<u8>)>) -> Did<Vec<u8>>
where
    K: 'static,
    V: super::Whole,
    C: Codec<K> + Codec<V>,
{
    let before = sent.each(|dict: &DDict<K, V, C>| {
        let (key, by) = (decode::<K, C>(&sent.argument.0)?, decode::<V, C>(&sent.argument.1)?);
        bytes_of::<V, C>(&dict.fetch_add(&key, by)?)
    });
    did(before.map(|mut before| before.pop().unwrap_or_default()))
}

/// A value as bytes.
pub(super) fn bytes_of<V, C: Codec<V>>(value: &V) -> Result<Vec<u8>> {
    match C::length(value) {
        Some(len) => {
            let mut bytes = vec![0; len];
            C::write(value, &mut bytes);
            Ok(bytes)
        }
        None => with_value::<V, C, _>(value, |bytes, _| Ok(bytes.to_vec())),
    }
}

impl<K: 'static, V: super::Whole, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// Adds to a number of another node, there.
    pub(super) fn far_add(&self, map: &Map, manager: u32, key: &[u8], by: &V) -> Result<V> {
        let argument = (key.to_vec(), bytes_of::<V, C>(by)?);
        let before = self.at_manager_of(map, manager, add_at::<K, V, C>, &argument)?;
        decode::<V, C>(&before)
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// Puts a value at every manager, all nodes at work at the same time.
    pub(super) fn far_broadcast(&self, map: &Map, key: &K, value: &V) -> Result<()> {
        let Some(mut outbox) = super::far_batch::Outbox::of(self)? else { return Ok(()) };
        for manager in 0..map.directory.managers() {
            let one = self.at_manager(manager as usize);
            if !outbox.add(&one, (key, value), false)? {
                one.put_if(key, value, Expect::Any, false)?;
            }
        }
        outbox.finish(self)
    }
}
