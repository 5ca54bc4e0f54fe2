//! The host of a node: answers the calls of all processes of the job to this node. It runs in the head's process.
//!
//! What can be answered at once is answered on the thread that brought the call; what may wait gets a thread of its
//! own for as long as it waits (`services/threads.rs`).

mod dicts;
mod guests;
mod latches;
mod machine;
mod meetings;
mod names;
mod queues;
mod roster;
mod sessions;
mod sync;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::dicts::Dicts;
pub(crate) use self::dicts::{DictCall, DictHome, seat as seat_dict};
use self::guests::Guests;
use self::machine::Description;
pub(crate) use self::machine::describe;
pub(super) use self::meetings::MeetingCall;
use self::meetings::Meetings;
use self::names::Registry;
use self::queues::Queues;
pub(crate) use self::roster::Reservist;
use self::roster::Roster;
use self::sessions::Sessions;
pub(crate) use self::sessions::{Guest, Venue};
use self::world::World;
pub(crate) use self::world::{Loss, finish};
use super::agent::Agent;
use super::far::words::{DICT, GUEST, MACHINE, MPI, NAMES, QUEUE, SESSION, SYNC, WORLD, Why};
use super::threads::Threads;
use crate::id::NodeNumber;
use crate::mesh::{Answer, Hub, Mesh, Request, Server};
use crate::mm::{Memory, MemoryConfig};

/// Where the node stands in the job.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// This node.
    pub(crate) node: NodeNumber,
    /// The node of the leader.
    pub(crate) leader: NodeNumber,
    /// The node of each rank.
    pub(crate) of_ranks: Vec<NodeNumber>,
    /// The machine of each rank.
    pub(crate) hosts: Vec<String>,
}

impl Seat {
    fn ranks_of(&self, node: NodeNumber) -> Vec<u32> {
        (0..).zip(&self.of_ranks).filter(|(_, of)| **of == node).map(|(rank, _)| rank).collect()
    }

    fn host(&self, rank: u32) -> String {
        self.hosts.get(rank as usize).cloned().unwrap_or_default()
    }

    fn lost(&self, node: NodeNumber, how: &str) -> Loss {
        let ranks = self.ranks_of(node);
        let host = ranks.first().map_or_else(String::new, |rank| self.host(*rank));
        Loss::Node { node, host, ranks, how: how.into() }
    }

    fn nodes(&self) -> u32 {
        self.of_ranks.iter().max().map_or(1, |last| last + 1)
    }
}

/// What the host shares with the threads that answer for it.
struct Inner {
    hub: Arc<Hub>,
    memory: Arc<Memory>,
    seat: Seat,
    threads: Arc<Threads>,
    world: World,
    queues: Queues,
    dicts: Dicts,
    names: Registry,
    guests: Guests,
    sessions: Arc<Sessions>,
    meetings: Meetings,
    machine: Description,
    roster: Arc<Roster>,
}

/// The server of a node's hub.
#[derive(Clone)]
pub(crate) struct Host(Arc<Inner>);

impl Host {
    /// Begins to answer the calls to this hub. `tell` hears of ranks and nodes that are lost.
    pub(crate) fn serve(
        hub: &Arc<Hub>,
        memory: &Arc<Memory>,
        seat: Seat,
        tell: impl Fn(Loss) + Send + Sync + 'static,
    ) -> Host {
        let world = World::new(&seat, Box::new(tell));
        let (queues, names) = (Queues::new(memory.clone()), Registry::default());
        let guests = Guests::new(memory.clone());
        let roster = Roster::new();
        let sessions = Sessions::new(memory.clone(), roster.clone());
        let inner = Inner {
            hub: hub.clone(),
            memory: memory.clone(),
            seat,
            threads: Arc::new(Threads::new()),
            world,
            queues,
            dicts: Dicts::default(),
            names,
            guests,
            sessions,
            meetings: Meetings::default(),
            machine: Description::default(),
            roster,
        };
        let host = Host(Arc::new(inner));
        hub.set_server(Arc::new(host.clone()));
        host
    }

    /// From now on processes of other nodes may have something running here, with children of this agent.
    pub(crate) fn let_in(&self, agent: &Arc<Agent>, config: &MemoryConfig) {
        self.0.sessions.furnish(self.0.hub.clone(), config.clone(), agent.clone());
    }

    /// Ends what other nodes have running here.
    pub(crate) fn close(&self) {
        self.0.sessions.close();
        self.0.dicts.close();
    }

    /// A rank of this node has ended without a farewell.
    pub(crate) fn rank_is_gone(&self, rank: u32, how: &str) {
        self.0.world.rank_is_gone(&self.0, rank, how);
    }

    /// And what it held has been repaired.
    pub(crate) fn rank_is_buried(&self, rank: u32, how: &str) {
        self.0.roster.tell(Reservist::Gone { rank, how: how.into() });
    }
}

impl Inner {
    fn mesh(&self) -> Mesh {
        Mesh::Hub(self.hub.clone())
    }
}

impl Server for Host {
    fn serve(&self, request: Request, answer: Answer) {
        match request.service {
            WORLD => self.0.world.serve(&self.0, &request, answer),
            QUEUE => self.0.queues.serve(&self.0, request, answer),
            DICT => self.0.dicts.serve(&self.0, request, answer),
            NAMES => self.0.names.serve(&self.0, &request, answer),
            SYNC => sync::serve(&self.0.guests, self.0.hub.me(), &self.0.threads, &request, answer),
            GUEST => self.0.guests.serve(&self.0, &request, answer),
            MACHINE => machine::serve(&self.0, answer),
            SESSION => self.0.sessions.serve(&self.0.threads, request, answer),
            MPI => self.0.meetings.serve(&request, answer),
            other => {
                let (node, process) = (request.from, request.process.0);
                tracing::error!(node, process, service = other, "a call that nobody serves");
                unclear(answer, &format!("nobody serves calls of kind {other}"));
            }
        }
    }

    fn lost(&self, node: NodeNumber, why: &str) {
        self.0.queues.lost(node);
        self.0.guests.lost(node);
        self.0.dicts.lost(&self.0, node);
        self.0.sessions.lost(node);
        self.0.meetings.lost(node);
        self.0.world.node_is_gone(&self.0, node, why);
    }
}

/// Locks, whatever happened to the thread that held the lock: what it guards here is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers that a call made no sense.
fn unclear(answer: Answer, what: &str) {
    answer.send(Why::Unclear as u16, what.as_bytes());
}
