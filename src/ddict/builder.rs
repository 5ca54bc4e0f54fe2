//! How a dictionary is put together.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use once_cell::sync::OnceCell;

use super::DDict;
use super::archive::Archive;
use super::body::{Body, Rules};
use super::handle::label;
use super::home::Note;
use super::place::{Map, Shape};
use super::replica::PLACES_MOST;
use super::store::Persist;
use crate::codec::{Codec, Postcard};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::names;
use crate::policy::{Placement, Policy};
use crate::prim::AtomicU32;
use crate::runtime;
use crate::runtime::{Core, NodeId};

/// Bytes per node, if nothing is said.
const MEMORY: u64 = 1 << 30;
/// Most managers of a node.
const MANAGERS_MOST: usize = 1024;
/// Most checkpoints that can be looked at.
const WINDOW_MOST: u32 = 1 << 20;

/// Settings of a [`DDict`].
///
/// ```
/// # let _dragon = dragon::init()?;
/// let dict: dragon::DDict<String, u64> =
///     dragon::DDict::builder().memory_per_node(64 << 20).managers_per_node(2).name("counts of the example").build()?;
/// dict.put(&"apples".into(), &3)?;
/// assert_eq!(dragon::DDict::<String, u64>::open("counts of the example")?.get(&"apples".into())?, 3);
/// # Ok::<(), dragon::Error>(())
/// ```
#[must_use]
pub struct DDictBuilder<K, V, C = Postcard> {
    memory: u64,
    /// The nodes by policies, unless they are named.
    policies: Vec<Policy>,
    managers: usize,
    name: Option<String>,
    window: u32,
    waits_for_keys: bool,
    waits_for_writers: bool,
    persist: Option<Persist>,
    nodes: Option<Vec<NodeId>>,
    replicas: u32,
    /// What hashes begin with, of a copy.
    seed: Option<u64>,
    types: PhantomData<fn(K, V, C) -> V>,
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDictBuilder<K, V, C> {
    pub(super) fn new() -> DDictBuilder<K, V, C> {
        DDictBuilder {
            memory: MEMORY,
            policies: Vec::new(),
            managers: 1,
            name: None,
            window: 1,
            waits_for_keys: false,
            waits_for_writers: false,
            persist: None,
            nodes: None,
            replicas: 0,
            seed: None,
            types: PhantomData,
        }
    }

    /// The nodes whose memory it is in, in this order; others use it from afar. Default: all nodes of the job, in the order of
    /// their numbers.
    pub fn nodes(mut self, nodes: &[NodeId]) -> Self {
        self.nodes = Some(nodes.to_vec());
        self
    }

    /// The nodes in whose memory it is, by policies: for each the first node on which it places something, each node once, in
    /// that order. Of a policy, completed by that of the [scope](Policy::scope), only its placement and distribution count. A
    /// scope alone puts it on all nodes of its placement. [`nodes`](DDictBuilder::nodes) beats both.
    ///
    /// ```
    /// let dragon = dragon::init()?;
    /// let each = dragon.system().node_policies();
    /// let dict = dragon::DDict::<u64, u64>::builder().memory_per_node(64 << 20).policies(each).build()?;
    /// dict.put(&1, &2)?;
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn policies(mut self, policies: impl IntoIterator<Item = Policy>) -> Self {
        self.policies = policies.into_iter().collect();
        self
    }

    /// How many bytes keys, values and what belongs to them may take on each node; nothing is ever evicted. Each manager has
    /// an equal part of it. It is taken from the node's memory as it is needed. Default: 1 GiB.
    pub fn memory_per_node(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// In how many parts the keys of a node are divided. All processes of the node work on all of them directly, so
    /// more than one only serves to [address](DDict::manager) them. Default: 1.
    pub fn managers_per_node(mut self, managers: usize) -> Self {
        self.managers = managers;
        self
    }

    /// How many copies of each manager other nodes have. A write is done at all copies before it returns, so with at
    /// least 1 no write that has returned is lost with a node; another then acts for it, and a further node gets a copy. Each
    /// node's memory is shared between its managers and its copies of others. After the loss of a node some other has a copy
    /// more, and takes more memory. A call that was under way when the node was lost may fail with
    /// [`NodeLost`](ErrorKind::NodeLost) and be done all the same.
    ///
    /// All copies have all checkpoints of the working set; what is stored of them whoever acts stores, and it is the same
    /// whether there are copies or not. The first write at a new checkpoint goes through all nodes. Values that hold handles of
    /// queues, locks and the like are refused with [`InvalidArgument`](ErrorKind::InvalidArgument): what those are of is on one
    /// node and is lost with it, so a copy of the value would be of no use. Default: 0.
    pub fn replicas(mut self, copies: u32) -> Self {
        self.replicas = copies;
        self
    }

    /// A name for [`DDict::open`]: 1 to 112 bytes that no other object of the job has. It goes with the dictionary.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many checkpoints can be looked at: the newest and those before it. Default: 1.
    pub fn working_set(mut self, checkpoints: u32) -> Self {
        self.window = checkpoints;
        self
    }

    /// Whether a value belongs to its checkpoint alone, so that [`get`](DDict::get) waits for a key that has not been put at
    /// this one. Keys put with [`put_persistent`](DDict::put_persistent) are seen at all later ones too. Needs a working set of
    /// at least 2. Default: false.
    pub fn wait_for_keys(mut self, wait: bool) -> Self {
        self.waits_for_keys = wait;
        self
    }

    /// Whether a checkpoint that somebody has written at is kept until all who have are past it. Needs a working set of at
    /// least 2. Default: false.
    pub fn wait_for_writers(mut self, wait: bool) -> Self {
        self.waits_for_writers = wait;
        self
    }

    /// Stores checkpoints, so that they outlive the job: see [`Persist`]. Needs a name, under which they are stored.
    pub fn persist(mut self, persist: Persist) -> Self {
        self.persist = Some(persist);
        self
    }

    /// Makes the dictionary.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for no managers or more than 1024, a working set of 0, waiting with a
    /// working set of 1, a name of no or too many bytes, a [`Persist`] without a name or that stores at every 0 or keeps 0; [`Exists`](ErrorKind::Exists) if the name is taken;
    /// [`NotInitialized`](ErrorKind::NotInitialized), [`OutOfMemory`](ErrorKind::OutOfMemory),
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) for the 32,769th object.
    pub fn build(self) -> Result<DDict<K, V, C>> {
        self.check()?;
        let core = runtime::current()?;
        let rules = Rules {
            window: self.window,
            waits_for_keys: self.waits_for_keys,
            waits_for_writers: self.waits_for_writers,
            persists: self.persist.is_some(),
        };
        let limit = self.memory / (self.managers as u64 * (1 + u64::from(self.replicas)));
        let nodes = self.places(&core)?;
        if self.replicas > 0 {
            self.check_replicas(nodes.len())?;
        }
        if nodes != [core.place().node()] {
            return self.build_on(core, &nodes, rules, limit);
        }
        let body = Body::create(core.clone(), label::<K, V, C>(), self.managers, limit, rules)?;
        if let (Some(persist), Some(name)) = (self.persist, &self.name) {
            let archive = Some(Archive::note(persist, name)?);
            body.table().set_note(&Note { archive, directory: None, base: None }.encoded()?)?;
        }
        if let Some(name) = &self.name {
            names::give(core.memory(), name, body.object().id())?;
            if let Some(names) = core.names()? {
                names.give(name, body.object().id())?;
            }
        }
        Ok(DDict {
            body: Arc::new(body),
            at: AtomicU32::new(0),
            manager: None,
            seat: OnceCell::new(),
            tie: None,
            types: PhantomData,
        })
    }

    fn check_replicas(&self, nodes: usize) -> Result<()> {
        let refused = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
        if self.replicas as usize >= nodes {
            return refused(format!(
                "{} replicas need {} nodes, and there are {nodes}",
                self.replicas,
                self.replicas + 1
            ));
        }
        if nodes > PLACES_MOST {
            return refused(format!("a dictionary with replicas has at most {PLACES_MOST} nodes: see `nodes`"));
        }
        Ok(())
    }

    /// The nodes that it shall be on.
    fn places(&self, core: &Core) -> Result<Vec<NodeNumber>> {
        let all = core.place().nodes();
        let Some(nodes) = &self.nodes else { return self.places_by_policies(core) };
        let numbers: Vec<NodeNumber> = nodes.iter().map(|node| node.number()).collect();
        let refused = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
        if let Some(unknown) = numbers.iter().find(|number| **number >= all) {
            return refused(format!("a dictionary cannot be on node {unknown}: the job has nodes 0 to {}", all - 1));
        }
        if numbers.is_empty() || numbers.iter().collect::<BTreeSet<_>>().len() < numbers.len() {
            return refused("a dictionary's nodes are at least one, and none of them twice: see `nodes`".into());
        }
        Ok(numbers)
    }

    /// The nodes of its policies, each once; without any, those of the scope, or all.
    fn places_by_policies(&self, core: &Core) -> Result<Vec<NodeNumber>> {
        if self.policies.is_empty() {
            return match Policy::current().placement {
                None | Some(Placement::Anywhere) => Ok((0..core.place().nodes()).collect()),
                Some(placement) => {
                    let there = core.room(&Policy::new().placement(placement))?;
                    Ok(there.into_iter().map(|(node, _)| node.number()).collect())
                }
            };
        }
        let wanted: Vec<_> = self.policies.iter().map(|policy| (policy.clone(), 1)).collect();
        let mut seen = BTreeSet::new();
        let homes = core.homes(&wanted)?.into_iter().map(NodeId::number);
        Ok(homes.filter(|node| seen.insert(*node)).collect())
    }

    /// One with parts on other nodes.
    fn build_on(self, core: Arc<Core>, nodes: &[NodeNumber], rules: Rules, limit: u64) -> Result<DDict<K, V, C>> {
        let label = label::<K, V, C>();
        let seed = self.seed.unwrap_or(core.memory().job().0 ^ label);
        let shape = Shape { label, seed, managers: self.managers as u32, limit, rules, replicas: self.replicas };
        let persist = self.persist.as_ref().zip(self.name.as_deref());
        let map = Map::create::<K, V, C>(&core, shape, nodes, persist)?;
        if let Some(name) = &self.name {
            map.give_name(name)?;
        }
        Ok(DDict::over(map, 0))
    }

    fn check(&self) -> Result<()> {
        let refused = |text: &str| Err(Error::new(ErrorKind::InvalidArgument, text));
        if !(1..=MANAGERS_MOST).contains(&self.managers) {
            return refused("a dictionary has 1 to 1024 managers on a node");
        }
        if !(1..=WINDOW_MOST).contains(&self.window) {
            return refused("a dictionary's working set has 1 to 1,048,576 checkpoints");
        }
        if self.window == 1 && (self.waits_for_keys || self.waits_for_writers) {
            return refused("to wait for keys or writers needs a working set of at least 2: see `working_set`");
        }
        if self.persist.is_some() && self.name.is_none() {
            return refused("a dictionary that stores checkpoints needs a name, under which they are stored");
        }
        self.persist.as_ref().map_or(Ok(()), Persist::check)
    }
}

impl<K, V, C> std::fmt::Debug for DDictBuilder<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { memory, managers, name, window, .. } = self;
        write!(f, "DDictBuilder {{ memory: {memory}, managers: {managers}, name: {name:?}, working_set: {window} }}")
    }
}

/// An empty dictionary of the same shape under another name, which stores no checkpoints.
pub(super) fn alike<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(
    dict: &DDict<K, V, C>,
    name: &str,
) -> Result<DDict<K, V, C>> {
    let (table, rules) = (dict.body.table(), dict.body.rules);
    let nodes = dict.tie.as_ref().map(|tie| tie.map.nodes());
    let managers = dict.tie.as_ref().map_or(table.shards(), |tie| tie.map.directory.shape.managers as usize);
    let replicas = dict.tie.as_ref().map_or(0, |tie| u64::from(tie.map.directory.shape.replicas));
    // One of this node alone stays so.
    let nodes = nodes.or_else(|| Some(vec![NodeId::new(dict.body.core.place().node())]));
    DDictBuilder {
        memory: table.limit() * managers as u64 * (1 + replicas),
        policies: Vec::new(),
        managers,
        name: Some(name.into()),
        window: rules.window,
        waits_for_keys: rules.waits_for_keys,
        waits_for_writers: rules.waits_for_writers,
        persist: None,
        nodes,
        replicas: dict.tie.as_ref().map_or(0, |tie| tie.map.directory.shape.replicas),
        seed: Some(table.seed()),
        types: PhantomData,
    }
    .build()
}
