//! What every handle of this module is: an object of shared memory, opened where the handle is taken out; or, if its home
//! is another node, a hold on it there.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::latch::{Refusal, Who};
use crate::mesh::Body;
use crate::mm;
use crate::mm::{Kind, Object};
use crate::prim::AtomicU64;
use crate::runtime::{self, Core, NodeId};
use crate::services::{FarError, FarObject, SyncOp, Watch, Why};
use crate::time::Deadline;
use crate::wait::WaitCell;

/// Which sort of object a handle is of.
pub(super) trait Sort: 'static {
    const KIND: Kind;
    /// What it is called in errors.
    const CALLED: &'static str;
}

/// A hold on a shared object.
pub(super) struct Shared<S> {
    object: Held,
    core: Arc<Core>,
    sort: PhantomData<fn() -> S>,
}

#[derive(Clone)]
enum Held {
    Near(Object),
    Far(Arc<Far>),
}

/// A hold on an object of another node, and where those of this process sleep who wait for it among other things.
pub(super) struct Far {
    object: FarObject,
    watch: Watch,
}

impl Deref for Far {
    type Target = FarObject;

    fn deref(&self) -> &FarObject {
        &self.object
    }
}

/// An object as whoever uses it sees it.
#[derive(Clone, Copy)]
pub(super) enum Site<'a> {
    /// Its words.
    Near(&'a [AtomicU64]),
    /// The way to its home.
    Far(&'a FarObject),
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Shared<S> {
        Shared { object: self.object.clone(), core: self.core.clone(), sort: PhantomData }
    }
}

impl<S: Sort> Shared<S> {
    /// A new object of this node of so many words, all zero until `fill` writes into them.
    pub(super) fn create(words: usize, fill: impl FnOnce(&[AtomicU64])) -> Result<Shared<S>> {
        let core = runtime::current()?;
        let mut block = core.memory().alloc(words * size_of::<u64>())?;
        block.as_mut_slice().fill(0);
        let object = core.memory().create_object(S::KIND, block)?;
        fill(object.words());
        Ok(Shared { object: Held::Near(object), core, sort: PhantomData })
    }

    #[inline]
    pub(super) fn site(&self) -> Site<'_> {
        match &self.object {
            Held::Near(object) => Site::Near(object.words()),
            Held::Far(far) => Site::Far(far),
        }
    }

    /// Where a selector of this process sleeps for the object.
    pub(super) fn cell<'a>(&'a self, near: fn(&'a [AtomicU64]) -> &'a WaitCell, ask: fn(&Far) -> bool) -> &'a WaitCell {
        match &self.object {
            Held::Near(object) => near(object.words()),
            Held::Far(far) => far.watch.cell(far, |far| &far.watch, ask),
        }
    }

    /// Of an object of another node: whether it was ready lately.
    pub(super) fn was_ready(&self) -> Option<bool> {
        match &self.object {
            Held::Near(_) => None,
            Held::Far(far) => Some(far.watch.is_ready()),
        }
    }

    /// The calling thread, as one of this node.
    #[inline]
    pub(super) fn who(&self) -> Who {
        Who::here(self.core.memory().me())
    }

    fn id(&self) -> ObjectId {
        match &self.object {
            Held::Near(object) => object.id(),
            Held::Far(far) => far.id(),
        }
    }

    fn home(&self) -> NodeNumber {
        match &self.object {
            Held::Near(_) => self.core.place().node(),
            Held::Far(far) => far.home(),
        }
    }

    /// The node it is on.
    pub(super) fn node(&self) -> NodeId {
        NodeId::new(self.home())
    }

    /// What to call it in a text.
    pub(super) fn name(&self) -> String {
        let id = self.id();
        let home = match &self.object {
            Held::Near(_) => String::new(),
            Held::Far(far) => format!(" of node {}", far.home()),
        };
        format!("{} {}.{}{home}", S::CALLED, id.index, id.generation)
    }

    /// A process as people know it.
    pub(super) fn process(&self, id: ProcId) -> String {
        let entry = self.core.memory().processes().into_iter().find(|entry| entry.id == id);
        match entry.map(|entry| (entry.pid, entry.guest())) {
            None => "a process that has ended".into(),
            Some((_, Some((node, pid)))) => format!("process {pid} of node {node}"),
            Some((pid, None)) => format!("process {pid}"),
        }
    }

    /// Does something where the object is, without waiting.
    pub(super) fn tell(&self, far: &FarObject, op: SyncOp, word: u64) -> Result<()> {
        self.ask(far, op, [word, 0], Deadline::Now, &[]).map(drop)
    }

    /// Does something where the object is.
    pub(super) fn ask(
        &self,
        far: &FarObject,
        op: SyncOp,
        words: [u64; 2],
        deadline: Deadline,
        bytes: &[u8],
    ) -> Result<Body> {
        far.ask(op, words, deadline, bytes).map_err(|error| self.far_error(error, deadline))
    }

    #[cold]
    fn far_error(&self, error: FarError, deadline: Deadline) -> Error {
        let (refusal, state) = match error {
            FarError::Refused { why: Why::TimedOut, text } => (Refusal::TimedOut, text),
            FarError::Refused { why: Why::Mine, text } => (Refusal::Mine, text),
            FarError::Refused { why: Why::Broken, text } => (Refusal::Broken, text),
            FarError::Refused { why: Why::TooMany, text } => (Refusal::TooMany, text),
            other => {
                let error = Error::from(other);
                return Error::new(error.kind(), format!("{}: {error}", self.name()));
            }
        };
        self.refused(refusal, deadline, || state)
    }

    /// An error from a refusal. `state` says why it had to be waited for; it is asked only if time was given.
    #[cold]
    pub(super) fn refused(&self, refusal: Refusal, deadline: Deadline, state: impl FnOnce() -> String) -> Error {
        let name = self.name();
        match (refusal, deadline) {
            // A call that does not wait may be made often: no look around for its text.
            (Refusal::TimedOut, Deadline::Now) => {
                Error::new(ErrorKind::TimedOut, format!("{name} is not free just now"))
            }
            (Refusal::TimedOut, _) => {
                let text = format!("the time given to wait for {name} is up: {}", state());
                Error::new(ErrorKind::TimedOut, text)
            }
            (Refusal::Mine, _) => {
                let text = format!("this thread holds {name} already and would wait for itself; see `Lock::recursive`");
                Error::new(ErrorKind::WouldDeadlock, text)
            }
            (Refusal::Broken, _) => {
                let text = format!(
                    "{name} is broken: a party's time was up, it was aborted or reset, or a process that had it open \
                     died; `reset` mends it"
                );
                Error::new(ErrorKind::Broken, text)
            }
            (Refusal::TooMany, _) => {
                Error::new(ErrorKind::InvalidArgument, format!("too many for {name}: {}", state()))
            }
        }
    }
}

impl<S: Sort> Serialize for Shared<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> std::result::Result<Z::Ok, Z::Error> {
        if self.core.is_closed() {
            let text = format!("the runtime of {} has been finalized", self.name());
            return Err(ser::Error::custom(text));
        }
        match &self.object {
            Held::Near(object) => mm::note(object),
            // Its home must not hear that this process lets go of it before it hears that another holds it.
            Held::Far(far) => self.core.linger((far.home(), far.id()), far.clone()),
        }
        (self.home(), self.id()).serialize(serializer)
    }
}

impl<'de, S: Sort> Deserialize<'de> for Shared<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Shared<S>, D::Error> {
        let (home, id) = <(NodeNumber, ObjectId)>::deserialize(deserializer)?;
        let core = runtime::current().map_err(de::Error::custom)?;
        let object = if home == core.place().node() {
            Held::Near(core.memory().open_object(id, S::KIND).map_err(de::Error::custom)?)
        } else {
            Held::Far(Arc::new(Far {
                object: core.open_far(home, id, S::KIND).map_err(de::Error::custom)?,
                watch: Watch::new(),
            }))
        };
        Ok(Shared { object, core, sort: PhantomData })
    }
}
