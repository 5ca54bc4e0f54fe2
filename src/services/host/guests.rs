//! Guests of a node: processes of other nodes that use its objects, and what becomes of them when they end.
//!
//! ```text
//! process ── Goes ──▶ its own host                       before it uses the first object of a node
//!         ── Hold ──▶ the home's host: a guest, with a place in the process table (mm/guests.rs)
//! agent  ── Ended ──▶ the dead one's own host ── Ended ──▶ every home where it went
//! ```
//! A guest that has ended, or whose node is lost, is dropped. It may still wait for something on threads of the home: these
//! are woken, give up, and the last of them that lets go of the guest repairs what it held, as for any death. So the
//! repair never runs beside an operation in the name of the same guest.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::super::far::encode_guest;
use super::super::far::sync_words::{GuestCall, SyncHead};
use super::super::far::words::GUEST;
use super::super::recover::recover;
use super::{Inner, lock, unclear};
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::latch::{self, Gone, Who};
use crate::mesh::{Answer, Request};
use crate::mm::{Kind, MemError, Memory, Object};
use crate::prim::Ordering;
use crate::wire;

/// A process of another node.
pub(super) struct Guest {
    memory: Arc<Memory>,
    place: ProcId,
    incarnation: u32,
    /// Set when it has ended.
    pub(super) gone: Gone,
    /// What it has open, and how often.
    held: Mutex<HashMap<ObjectId, (Object, usize)>>,
}

/// A node and the place of a process there.
type Whence = (NodeNumber, ProcId);

#[derive(Default)]
struct Book {
    guests: HashMap<Whence, Arc<Guest>>,
    /// The last of the processes that had that place and ended: what one of them still has on its way comes too late.
    ended: HashMap<Whence, u32>,
    lost: HashSet<NodeNumber>,
    /// Processes of this node: where they use objects.
    abroad: HashMap<ProcId, (u32, BTreeSet<NodeNumber>)>,
}

/// All guests of a node.
pub(super) struct Guests {
    memory: Arc<Memory>,
    book: Mutex<Book>,
}

impl Guests {
    pub(super) fn new(memory: Arc<Memory>) -> Guests {
        Guests { memory, book: Mutex::default() }
    }

    pub(super) fn serve(&self, host: &Arc<Inner>, request: &Request, answer: Answer) {
        let here = request.from == host.hub.me();
        match wire::decode::<GuestCall>(&request.body) {
            Ok(GuestCall::Goes { incarnation, to }) if here => {
                self.goes(request.process, incarnation, to);
                answer.send(0, &[]);
            }
            Ok(GuestCall::Ended { process, incarnation }) => {
                let process = ProcId(process);
                self.ended_there((request.from, process), incarnation);
                host.dicts.ended(host, request.from, process, incarnation);
                if here {
                    self.ended_here(host, process, incarnation);
                }
            }
            Ok(GuestCall::Goes { .. }) => unclear(answer, "a process tells its own node where it goes"),
            Err(error) => unclear(answer, &error.to_string()),
        }
    }

    /// A process of this node is going to use objects of another.
    fn goes(&self, process: ProcId, incarnation: u32, to: NodeNumber) {
        let mut book = lock(&self.book);
        let entry = book.abroad.entry(process).or_insert((incarnation, BTreeSet::new()));
        if entry.0 != incarnation {
            *entry = (incarnation, BTreeSet::new());
        }
        entry.1.insert(to);
    }

    /// A process of this node has ended.
    fn ended_here(&self, host: &Arc<Inner>, process: ProcId, incarnation: u32) {
        let mut book = lock(&self.book);
        if book.abroad.get(&process).is_none_or(|(known, _)| *known != incarnation) {
            return;
        }
        let Some((_, homes)) = book.abroad.remove(&process) else { return };
        drop(book);
        let mesh = host.mesh();
        host.threads.run(move || {
            let call = encode_guest(&GuestCall::Ended { process: process.0, incarnation });
            for home in homes {
                let told = mesh.tell(home, GUEST, &call);
                // A node that is lost knows it already, in its way.
                told.unwrap_or_else(|error| tracing::debug!(home, %error, "a node does not hear that a guest ended"));
            }
        });
    }

    /// A process of another node has ended.
    fn ended_there(&self, whence: Whence, incarnation: u32) {
        let mut book = lock(&self.book);
        let last = book.ended.entry(whence).or_insert(incarnation);
        *last = incarnation.max(*last);
        let ended = book.guests.get(&whence).is_some_and(|guest| guest.incarnation <= incarnation);
        let guest = ended.then(|| book.guests.remove(&whence)).flatten();
        drop(book);
        guest.iter().for_each(|guest| guest.leave());
    }

    /// Whether a process has ended, as far as is known here.
    pub(super) fn is_past(&self, node: NodeNumber, process: ProcId, incarnation: u32) -> bool {
        let book = lock(&self.book);
        book.lost.contains(&node) || book.ended.get(&(node, process)).is_some_and(|ended| *ended >= incarnation)
    }

    /// A node is lost, and its processes with it.
    pub(super) fn lost(&self, node: NodeNumber) {
        let mut book = lock(&self.book);
        book.lost.insert(node);
        let (gone, stay) = std::mem::take(&mut book.guests).into_iter().partition(|((from, _), _)| *from == node);
        book.guests = stay;
        drop(book);
        let gone: HashMap<Whence, Arc<Guest>> = gone;
        gone.values().for_each(|guest| guest.leave());
    }

    /// Opens an object in the name of a process of another node.
    pub(super) fn hold(
        &self,
        request: &Request,
        head: &SyncHead,
        id: ObjectId,
        kind: Kind,
    ) -> Result<Object, MemError> {
        let object = self.memory.open_object(id, kind)?;
        let (whence, incarnation) = ((request.from, request.process), head.incarnation);
        let mut book = lock(&self.book);
        let late = book.ended.get(&whence).is_some_and(|ended| *ended >= incarnation);
        if late || book.lost.contains(&request.from) {
            return Err(MemError::ObjectGone { index: id.index, generation: id.generation });
        }
        let known = book.guests.get(&whence).filter(|guest| guest.incarnation == incarnation).cloned();
        let mut before = None;
        let guest = match known {
            Some(guest) => guest,
            None => {
                let place = self.memory.admit_guest(request.from, head.pid)?;
                let guest = Arc::new(Guest::new(self.memory.clone(), place, incarnation));
                before = book.guests.insert(whence, guest.clone());
                guest
            }
        };
        // Under the lock, so that nobody forgets a guest who is about to have something open.
        guest.hold(object.clone());
        drop(book);
        // That it has ended is still on its way here.
        before.iter().for_each(|guest| guest.leave());
        Ok(object)
    }

    pub(super) fn let_go(&self, request: &Request, head: &SyncHead, id: ObjectId) {
        let whence = (request.from, request.process);
        let mut book = lock(&self.book);
        let Some(guest) = book.guests.get(&whence).filter(|guest| guest.incarnation == head.incarnation).cloned()
        else {
            return;
        };
        let object = guest.let_go(id);
        if lock(&guest.held).is_empty() {
            book.guests.remove(&whence);
        }
        drop(book);
        drop(object);
    }

    /// The guest that a call is of, and the object it has open.
    pub(super) fn find(&self, request: &Request, head: &SyncHead, id: ObjectId) -> Option<(Arc<Guest>, Object)> {
        let whence = (request.from, request.process);
        let guest = lock(&self.book).guests.get(&whence).cloned()?;
        let object = guest.object(id).filter(|_| guest.incarnation == head.incarnation)?;
        Some((guest, object))
    }
}

impl Guest {
    fn new(memory: Arc<Memory>, place: ProcId, incarnation: u32) -> Guest {
        Guest { memory, place, incarnation, gone: Gone::default(), held: Mutex::default() }
    }

    /// One of its threads.
    pub(super) fn who(&self, thread: u32) -> Who {
        Who { process: self.place, thread }
    }

    /// What it has open of that name.
    pub(super) fn object(&self, id: ObjectId) -> Option<Object> {
        lock(&self.held).get(&id).map(|(object, _)| object.clone())
    }

    fn hold(&self, object: Object) {
        let mut held = lock(&self.held);
        object.lend(self.place);
        held.entry(object.id()).or_insert((object, 0)).1 += 1;
    }

    fn let_go(&self, id: ObjectId) -> Option<Object> {
        let mut held = lock(&self.held);
        let (object, times) = held.get_mut(&id)?;
        *times -= 1;
        if *times > 0 {
            return None;
        }
        object.end_loan(self.place);
        held.remove(&id).map(|(object, _)| object)
    }

    /// It has ended: what waits in its name gives up.
    fn leave(&self) {
        // SeqCst: pairs with the look of a thread that is about to sleep; before its cell is healed.
        self.gone.store(true, Ordering::SeqCst);
        latch::rouse(&self.memory, self.place);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // While its objects are open here: `held` goes after this.
        recover(&self.memory, self.place, &|_, _| ());
    }
}
