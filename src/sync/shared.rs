//! What every handle of this module is: an object of shared memory, opened where the handle is taken out.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, ProcId};
use crate::latch::{Refusal, Who};
use crate::mm;
use crate::mm::{Kind, Object};
use crate::prim::AtomicU64;
use crate::runtime::{self, Core};
use crate::time::Deadline;

/// Which sort of object a handle is of.
pub(super) trait Sort: 'static {
    const KIND: Kind;
    /// What it is called in errors.
    const CALLED: &'static str;
}

/// A hold on a shared object.
pub(super) struct Shared<S> {
    object: Object,
    core: Arc<Core>,
    sort: PhantomData<fn() -> S>,
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Shared<S> {
        Shared { object: self.object.clone(), core: self.core.clone(), sort: PhantomData }
    }
}

impl<S: Sort> Shared<S> {
    /// A new object of so many words, all zero but for what `fill` writes into the first bytes.
    pub(super) fn create(words: usize, fill: impl FnOnce(&mut [u8])) -> Result<Shared<S>> {
        let core = runtime::current()?;
        let mut block = core.memory().alloc(words * size_of::<u64>())?;
        block.as_mut_slice().fill(0);
        fill(block.as_mut_slice());
        let object = core.memory().create_object(S::KIND, block)?;
        Ok(Shared { object, core, sort: PhantomData })
    }

    #[inline]
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.object.words()
    }

    /// The calling thread.
    #[inline]
    pub(super) fn who(&self) -> Who {
        Who::here(self.object.memory().me())
    }

    /// What to call it in a text.
    pub(super) fn name(&self) -> String {
        let id = self.object.id();
        format!("{} {}.{}", S::CALLED, id.index, id.generation)
    }

    /// A process as people know it.
    pub(super) fn process(&self, id: ProcId) -> String {
        let entry = self.object.memory().processes().into_iter().find(|entry| entry.id == id);
        entry.map_or_else(|| "a process that has ended".into(), |entry| format!("process {}", entry.pid))
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
        mm::note(&self.object);
        self.object.id().serialize(serializer)
    }
}

impl<'de, S: Sort> Deserialize<'de> for Shared<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Shared<S>, D::Error> {
        let id = ObjectId::deserialize(deserializer)?;
        let core = runtime::current().map_err(de::Error::custom)?;
        let object = core.memory().open_object(id, S::KIND).map_err(de::Error::custom)?;
        Ok(Shared { object, core, sort: PhantomData })
    }
}
