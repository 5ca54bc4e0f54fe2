//! Sessions: what processes of other nodes have running in this one.
//!
//! A process names a function of the program; here it is called, on a thread of its own, and makes a *guest*, which gets
//! everything that comes for that session. The guest ends when it wants to. It is told when the node of its owner is lost;
//! that the owner itself has died, it finds out by asking whether it is still wanted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crossbeam::channel::Receiver;

use super::super::agent::Agent;
use super::super::far::words::{IS_WANTED, OPEN, Opening, SESSION, SessionTail, Why};
use super::super::threads::Threads;
use super::roster::{Reservist, Roster};
use super::{lock, unclear};
use crate::channel::Channel;
use crate::id::{NodeNumber, ObjectId};
use crate::latch;
use crate::mesh::{Answer, Body, Hub, Mesh, Request};
use crate::mm::{Life, Memory, MemoryConfig};
use crate::task::{self, Scope};
use crate::time::Deadline;
use crate::wait::{Patience, wait_until};
use crate::wire;

/// What a session consists of on this side.
pub(crate) trait Guest: Send + Sync {
    /// Takes a message. Must not wait.
    fn message(&self, op: u32, body: Body, answer: Answer);

    /// Nobody wants it any more. Must not wait.
    fn dismiss(&self);
}

/// What a guest finds here.
#[derive(Clone)]
pub(crate) struct Venue {
    pub(crate) memory: Arc<Memory>,
    pub(crate) config: MemoryConfig,
    pub(crate) agent: Arc<Agent>,
    mesh: Mesh,
    owner: NodeNumber,
    session: u64,
    sessions: Weak<Sessions>,
    roster: Arc<Roster>,
}

/// What guests need of their node: there when it is complete.
struct House {
    hub: Arc<Hub>,
    config: MemoryConfig,
    agent: Arc<Agent>,
}

/// Where an opening function finds the venue and leaves the guest.
struct Stage {
    venue: Venue,
    guest: Option<Arc<dyn Guest>>,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// A guest; `None` while it is being made.
type Seated = Option<Arc<dyn Guest>>;

/// The sessions of this node.
pub(in crate::services) struct Sessions {
    memory: Arc<Memory>,
    roster: Arc<Roster>,
    house: OnceLock<House>,
    guests: Mutex<HashMap<(NodeNumber, u64), Seated>>,
}

impl Sessions {
    pub(super) fn new(memory: Arc<Memory>, roster: Arc<Roster>) -> Arc<Sessions> {
        Arc::new(Sessions { memory, roster, house: OnceLock::new(), guests: Mutex::default() })
    }

    pub(super) fn furnish(&self, hub: Arc<Hub>, config: MemoryConfig, agent: Arc<Agent>) {
        let _ = self.house.set(House { hub, config, agent }); // the first stays
    }

    pub(super) fn serve(self: &Arc<Self>, threads: &Threads, request: Request, answer: Answer) {
        let owner = request.from;
        let Some((body, tail)) = split_tail(request.body) else {
            return unclear(answer, "a call for a session is shorter than its tail");
        };
        match tail.op {
            OPEN => {
                lock(&self.guests).insert((owner, tail.session), None);
                let sessions = self.clone();
                threads.run(move || sessions.open(owner, tail.session, &body, answer));
            }
            IS_WANTED => {
                let channel = ObjectId::from_word(tail.session).ok_or(());
                let is_there = channel.is_ok_and(|id| Channel::open(&self.memory, id).is_ok());
                answer.send(0, &[u8::from(is_there)]);
            }
            op => {
                let guest = lock(&self.guests).get(&(owner, tail.session)).cloned().flatten();
                match guest {
                    Some(guest) => guest.message(op, body, answer),
                    None => answer.send(Why::Gone as u16, b"that session is over"),
                }
            }
        }
    }

    fn open(self: &Arc<Self>, owner: NodeNumber, session: u64, opening: &[u8], answer: Answer) {
        let key = (owner, session);
        match self.make(owner, session, opening) {
            Ok((guest, said)) => {
                let mut guests = lock(&self.guests);
                // Else the owner was lost meanwhile.
                let wanted = guests.contains_key(&key);
                if let (true, Some(guest)) = (wanted, &guest) {
                    guests.insert(key, Some(guest.clone()));
                } else {
                    guests.remove(&key);
                }
                drop(guests);
                if let (false, Some(guest)) = (wanted, &guest) {
                    guest.dismiss();
                }
                answer.send(0, &said);
            }
            Err(text) => {
                lock(&self.guests).remove(&key);
                answer.send(Why::Other as u16, text.as_bytes());
            }
        }
    }

    fn make(self: &Arc<Self>, owner: NodeNumber, session: u64, opening: &[u8]) -> Result<(Seated, Vec<u8>), String> {
        let House { hub, config, agent } = self.house.get().ok_or("this node has not begun")?;
        let opening: Opening = wire::decode(opening).map_err(|error| error.to_string())?;
        let entry = task::find_in_full(&opening.entry)?;
        let venue = Venue {
            memory: self.memory.clone(),
            config: config.clone(),
            agent: agent.clone(),
            mesh: Mesh::Hub(hub.clone()),
            owner,
            session,
            sessions: Arc::downgrade(self),
            roster: self.roster.clone(),
        };
        STAGE.set(Some(Stage { venue, guest: None }));
        let mut said = Vec::new();
        let called = entry.call(&mut Scope::new(&opening.argument, &mut said));
        let guest = STAGE.take().and_then(|stage| stage.guest);
        called.map(|()| (guest, said)).map_err(|failure| failure.to_string())
    }

    pub(super) fn lost(&self, node: NodeNumber) {
        self.dismiss(|owner| owner == node);
    }

    pub(super) fn close(&self) {
        self.dismiss(|_| true);
    }

    fn dismiss(&self, whose: impl Fn(NodeNumber) -> bool) {
        let mut guests = lock(&self.guests);
        let gone: Vec<_> = guests.keys().filter(|(owner, _)| whose(*owner)).copied().collect();
        let gone: Vec<_> = gone.iter().filter_map(|key| guests.remove(key)).flatten().collect();
        drop(guests);
        gone.iter().for_each(|guest| guest.dismiss());
    }
}

impl Venue {
    /// Where the session of this thread takes place: inside the function that opens it.
    pub(crate) fn here() -> Option<Venue> {
        STAGE.with_borrow(|stage| stage.as_ref().map(|stage| stage.venue.clone()))
    }

    /// Who gets what comes for the session of this thread: inside the function that opens it.
    pub(crate) fn seat(guest: Arc<dyn Guest>) {
        STAGE.with_borrow_mut(|stage| {
            if let Some(stage) = stage {
                stage.guest = Some(guest);
            }
        });
    }

    /// The number of this node.
    pub(crate) fn node(&self) -> NodeNumber {
        self.mesh.me()
    }

    /// What becomes of the ranks of this node, from the beginning.
    pub(crate) fn reservists(&self) -> Receiver<Reservist> {
        self.roster.listen()
    }

    /// Whether the owner is still there. Waits for its node to answer.
    pub(crate) fn is_wanted(&self) -> bool {
        let tail = SessionTail { session: self.session, op: IS_WANTED, spare: 0 };
        let answer = self.mesh.call(self.owner, SESSION, bytemuck::bytes_of(&tail));
        answer.is_ok_and(|reply| reply.body.first() == Some(&1))
    }

    /// Waits until everything that a process held has been given back, whoever sees to it.
    pub(crate) fn wait_for_end(&self, life: Life, deadline: Deadline) {
        let over = || self.memory.is_past(life).then_some(());
        let waited = wait_until(latch::cell_of_ends(&self.memory), &mut Patience::new(), deadline, over);
        if waited.is_err() {
            tracing::warn!("the repair of a death takes long");
        }
    }

    /// The guest goes.
    pub(crate) fn leave(&self) {
        if let Some(sessions) = self.sessions.upgrade() {
            let gone = lock(&sessions.guests).remove(&(self.owner, self.session));
            drop(gone);
        }
    }
}

/// Takes a call apart: what it says, and for whom.
fn split_tail(body: Body) -> Option<(Body, SessionTail)> {
    let len = body.len().checked_sub(size_of::<SessionTail>())?;
    let tail = bytemuck::pod_read_unaligned(&body[len..]);
    let body = match body {
        Body::Bytes(mut bytes) => {
            bytes.truncate(len);
            Body::Bytes(bytes)
        }
        Body::Block { block, begin, .. } => Body::Block { block, begin, end: begin + len },
    };
    Some((body, tail))
}
