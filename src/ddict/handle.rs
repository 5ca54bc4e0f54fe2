//! A dictionary's handle as a value: cloned, written as bytes, opened where it is read, found by name.

use std::any::type_name;
use std::marker::PhantomData;
use std::sync::Arc;

use once_cell::sync::OnceCell;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::DDict;
use super::body::Body;
use super::home::Note;
use super::place::{self, Directory, Map, Tie};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId};
use crate::mm;
use crate::mm::MemError;
use crate::names;
use crate::prim::{AtomicU32, Ordering};
use crate::runtime;
use crate::runtime::Core;
use crate::table::TableError;

/// What a dictionary is for, as a number that is the same in all processes of a build: its types and codec.
pub(super) fn label<K, V, C>() -> u64 {
    let sizes = (size_of::<K>(), size_of::<V>());
    let name = format!("{}/{}/{sizes:?}/{}", type_name::<K>(), type_name::<V>(), type_name::<C>());
    rapidhash::v3::rapidhash_v3(name.as_bytes()) | 1
}

/// What a handle is, as bytes.
#[derive(Serialize, Deserialize)]
struct Written {
    node: u32,
    id: ObjectId,
    at: u32,
    manager: Option<u32>,
    /// Of one of several nodes: where everything is.
    directory: Option<Directory>,
}

/// Opens the dictionary of this name, at its newest checkpoint.
pub(super) fn open<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(name: &str) -> Result<DDict<K, V, C>> {
    let core = runtime::current()?;
    let none = || Error::new(ErrorKind::NotFound, format!("nothing has the name `{name}`"));
    let here = names::find(core.memory(), name).map(|id| (core.place().node(), id));
    let (home, id) = match (here, core.names()?) {
        (Some(found), _) => found,
        (None, Some(names)) => names.find(name)?.ok_or_else(none)?,
        (None, None) => return Err(none()),
    };
    match open_at::<K, V, C>(core, home, id) {
        Ok(dict) => {
            dict.sync_to_newest()?;
            Ok(dict)
        }
        // It went between the two looks.
        Err(error) if error.kind() == ErrorKind::NotFound => Err(none()),
        Err(error) if error.kind() == ErrorKind::WrongType => {
            Err(Error::new(ErrorKind::WrongType, format!("`{name}`: {error}")))
        }
        Err(error) => Err(error),
    }
}

fn open_as<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(core: Arc<Core>, id: ObjectId) -> Result<DDict<K, V, C>> {
    let wrong = |what: &str| {
        let (key, value, codec) = (type_name::<K>(), type_name::<V>(), type_name::<C>());
        let text = format!("{what}, not a dictionary from `{key}` to `{value}` in codec `{codec}`");
        Error::new(ErrorKind::WrongType, text)
    };
    let body = match Body::open(core, id) {
        Ok(body) => body,
        Err(TableError::Memory(MemError::WrongKind { .. })) => return Err(wrong("it is something else")),
        Err(error) => return Err(error.into()),
    };
    if body.table().label() != label::<K, V, C>() {
        return Err(wrong("it is a dictionary of other types"));
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

/// Opens a dictionary by its part on some node.
fn open_at<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(
    core: Arc<Core>,
    home: NodeNumber,
    id: ObjectId,
) -> Result<DDict<K, V, C>> {
    let directory = if home == core.place().node() {
        let alone: DDict<K, V, C> = open_as(core.clone(), id)?;
        match Note::of(&alone.body)?.and_then(|note| note.directory) {
            None => return Ok(alone),
            Some(directory) => directory,
        }
    } else {
        place::ask_directory::<K, V, C>(&core, home, id)?
    };
    Ok(DDict::over(Map::open::<K, V, C>(&core, directory)?, 0))
}

impl<K, V, C> DDict<K, V, C> {
    /// A handle of a dictionary of several nodes.
    pub(super) fn over(map: Arc<Map>, at: u32) -> DDict<K, V, C> {
        let (body, at) = (map.body.clone(), AtomicU32::new(at));
        DDict { body, at, manager: None, seat: OnceCell::new(), tie: Some(Tie::new(map)), types: PhantomData }
    }
}

impl<K, V, C> Clone for DDict<K, V, C> {
    /// The same dictionary, at the same checkpoint; from then on each handle has its own.
    fn clone(&self) -> DDict<K, V, C> {
        DDict {
            body: self.body.clone(),
            at: AtomicU32::new(self.at.load(Ordering::Relaxed)),
            manager: self.manager,
            seat: OnceCell::new(),
            tie: self.tie.clone(),
            types: PhantomData,
        }
    }
}

impl<K, V, C> Serialize for DDict<K, V, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.body.core.is_closed() {
            return Err(ser::Error::custom("the runtime of this dictionary has been finalized"));
        }
        if self.tie.as_ref().is_none_or(|tie| tie.map.here.is_some()) {
            mm::note(self.body.object());
        }
        let directory = self.tie.as_ref().map(|tie| tie.map.directory.clone());
        if let (Some(tie), Some((node, part))) = (&self.tie, directory.as_ref().and_then(|all| all.places.first())) {
            // Other nodes must not hear that this process lets go before they hear that another holds it.
            self.body.core.linger((*node, *part), tie.map.clone());
        }
        let (id, at) = (self.body.object().id(), self.at.load(Ordering::Relaxed));
        let node = self.body.core.place().node();
        Written { node, id, at, manager: self.manager, directory }.serialize(serializer)
    }
}

impl<'de, K: 'static, V: 'static, C: Codec<K> + Codec<V>> Deserialize<'de> for DDict<K, V, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<DDict<K, V, C>, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let core = runtime::current().map_err(de::Error::custom)?;
        let mut dict: DDict<K, V, C> = match written.directory {
            Some(directory) => {
                let map = Map::open::<K, V, C>(&core, directory).map_err(de::Error::custom)?;
                DDict::over(map, written.at)
            }
            None if written.node == core.place().node() => open_as(core, written.id).map_err(de::Error::custom)?,
            // Of one node, seen from another: it has no directory of its own.
            None => open_at(core, written.node, written.id).map_err(de::Error::custom)?,
        };
        dict.at = AtomicU32::new(written.at);
        dict.manager = written.manager.filter(|manager| *manager < dict.manager_count());
        Ok(dict)
    }
}

impl<K, V, C> std::fmt::Debug for DDict<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, managers) = (self.body.object().id(), self.body.table().shards());
        let (key, value) = (type_name::<K>(), type_name::<V>());
        write!(f, "DDict<{key}, {value}>({}.{}, {managers} managers)", id.index, id.generation)
    }
}
