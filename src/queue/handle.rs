//! A queue's handle as a value: cloned, written as bytes, opened where it is read, found by name.

use std::any::type_name;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::Queue;
use super::body::Body;
use crate::channel::ChannelError;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId};
use crate::mm;
use crate::mm::MemError;
use crate::names;
use crate::runtime;
use crate::runtime::Core;
use crate::select::{Door, Ready, Source};
use crate::time::Deadline;

/// What a queue is for, as a number that is the same in all processes of a build: its messages' type and codec.
pub(super) fn label<T, C>() -> u64 {
    let name = format!("{}/{}/{}", type_name::<T>(), size_of::<T>(), type_name::<C>());
    rapidhash::v3::rapidhash_v3(name.as_bytes()) | 1
}

/// Between two looks for a name that nobody has given yet.
const AGAIN: Duration = Duration::from_millis(2);

/// Opens the queue of this name as soon as there is one.
pub(super) fn open_by<T, C: Codec<T>>(name: &str, deadline: Deadline) -> Result<Queue<T, C>> {
    loop {
        match open(name) {
            Err(error) if error.kind() == ErrorKind::NotFound && !deadline.passed() => {
                // Nobody can say when a name will be given: it is somebody else's program.
                std::thread::park_timeout(AGAIN.min(deadline.left().unwrap_or(AGAIN)));
            }
            opened => return opened,
        }
    }
}

/// Opens the queue of this name.
pub(super) fn open<T, C: Codec<T>>(name: &str) -> Result<Queue<T, C>> {
    let core = runtime::current()?;
    let none = || Error::new(ErrorKind::NotFound, format!("nothing has the name `{name}`"));
    let here = names::find(core.memory(), name).map(|id| (core.place().node(), id));
    let (home, id) = match (here, core.names()?) {
        (Some(found), _) => found,
        (None, Some(names)) => names.find(name)?.ok_or_else(none)?,
        (None, None) => return Err(none()),
    };
    match open_as(core.clone(), home, id) {
        // It went between the two looks.
        Err(error) if error.kind() == ErrorKind::NotFound => Err(none()),
        Err(error) if error.kind() == ErrorKind::WrongType => {
            Err(Error::new(ErrorKind::WrongType, format!("`{name}`: {error}")))
        }
        opened => opened,
    }
}

fn open_as<T, C: Codec<T>>(core: Arc<Core>, home: NodeNumber, id: ObjectId) -> Result<Queue<T, C>> {
    let wrong = |what: &str| {
        let (messages, codec) = (type_name::<T>(), type_name::<C>());
        let text = format!("{what}, not a queue of `{messages}` in codec `{codec}`");
        Error::new(ErrorKind::WrongType, text)
    };
    let opened = match core.mesh()? {
        Some(mesh) if home != core.place().node() => Body::open_far(mesh, home, id).map_err(Error::from),
        _ => Body::open(core.memory(), id).map_err(|error| match error {
            ChannelError::Memory(MemError::WrongKind { .. }) => wrong("it is something else"),
            other => other.into(),
        }),
    };
    let body = opened?;
    match body.label() {
        0 => Err(wrong("it is a channel")),
        found if found == label::<T, C>() => Ok(Queue { body, core, types: PhantomData }),
        _ => Err(wrong("it is a queue of other messages")),
    }
}

impl<T, C> Clone for Queue<T, C> {
    fn clone(&self) -> Queue<T, C> {
        Queue { body: self.body.clone(), core: self.core.clone(), types: PhantomData }
    }
}

impl<T, C> Serialize for Queue<T, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.core.is_closed() {
            return Err(ser::Error::custom("the runtime of this queue has been finalized"));
        }
        match (&self.body, self.body.object()) {
            (_, Some(object)) => mm::note(object),
            // Its home must not hear that this process lets go of it before it hears that another holds it.
            (body, None) => {
                let home = body.home().unwrap_or(self.core.place().node());
                self.core.linger((home, body.id()), body.clone());
            }
        }
        (self.body.home().unwrap_or(self.core.place().node()), self.body.id()).serialize(serializer)
    }
}

impl<'de, T, C: Codec<T>> Deserialize<'de> for Queue<T, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Queue<T, C>, D::Error> {
        let (home, id) = <(NodeNumber, ObjectId)>::deserialize(deserializer)?;
        let core = runtime::current().map_err(de::Error::custom)?;
        open_as(core, home, id).map_err(de::Error::custom)
    }
}

impl<T: 'static, C: Codec<T>> Source for Queue<T, C> {
    fn door(&self) -> Door<'_> {
        Door { cell: self.body.readers(), ready: self }
    }
}

impl<T: 'static, C: Codec<T>> Ready for Queue<T, C> {
    fn is_ready(&self) -> bool {
        self.body.is_ready()
    }
}

impl<T, C> std::fmt::Debug for Queue<T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.body.id();
        write!(f, "Queue<{}>({}.{}, {} messages", type_name::<T>(), id.index, id.generation, self.body.len())?;
        match self.body.capacity() {
            Some(capacity) => write!(f, " of {capacity})"),
            None => f.write_str(")"),
        }
    }
}
