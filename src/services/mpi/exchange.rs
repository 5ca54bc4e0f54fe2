//! How the nodes of a team put together what their ranks leave: one call of each node to the team's home, and its answer,
//! when the last has called.
//!
//! All that is here waits, and so is called on threads of their own. The home's half is `services/host/meetings.rs`.

use std::collections::HashMap;
use std::sync::Mutex;

use super::super::far::words::MPI;
use super::super::far::{self, FarError};
use super::super::host::MeetingCall;
use super::lock;
use crate::id::NodeNumber;
use crate::mesh::{Mesh, Reply};
use crate::pmi::BookCall;
use crate::wire;

/// A request for what a rank of this node has left: its number, to be told with the answer.
pub(crate) type Wanted = (u64, u32);

/// The way to the other nodes of a team.
pub(crate) trait Exchange: Send + Sync {
    /// Puts together what the nodes at these places have for the meeting of that name, in their order.
    fn meet(&self, meeting: &str, places: &[u32], mine: Vec<u8>) -> Result<Vec<Vec<u8>>, String>;

    /// Asks the book of published names.
    fn ask(&self, call: BookCall) -> Result<Option<String>, String>;

    /// What a rank at that place has left.
    fn fetch(&self, place: u32, rank: u32) -> Result<Vec<u8>, String>;

    /// Waits until another node wants something of this one. An error is the end of the team.
    fn wanted(&self) -> Result<Wanted, String>;

    /// Gives what was wanted.
    fn give(&self, wanted: u64, what: Result<Vec<u8>, String>);

    /// This node takes no part any more.
    fn leave(&self);
}

/// A team on one node, and a book of its own.
#[derive(Default)]
pub(crate) struct Alone(Mutex<HashMap<String, String>>);

/// Keeps a book.
pub(in crate::services) fn look_up(
    book: &mut HashMap<String, String>,
    call: BookCall,
) -> Result<Option<String>, String> {
    /// More names than these, or longer ones, are nobody's services.
    const MOST: usize = 4096;
    match call {
        BookCall::Publish { name, port } => {
            if book.len() >= MOST || name.len() > MOST || port.len() > MOST || name.is_empty() {
                return Err("no room for this name".into());
            }
            if book.contains_key(&name) {
                return Err("the name is published already".into());
            }
            book.insert(name, port);
            Ok(None)
        }
        BookCall::Unpublish { name } => book.remove(&name).map(|_| None).ok_or_else(|| "no such name".into()),
        BookCall::LookUp { name } => book.get(&name).cloned().map(Some).ok_or_else(|| "no such name".into()),
    }
}

impl Exchange for Alone {
    fn meet(&self, _: &str, _: &[u32], mine: Vec<u8>) -> Result<Vec<Vec<u8>>, String> {
        Ok(vec![mine])
    }

    fn ask(&self, call: BookCall) -> Result<Option<String>, String> {
        look_up(&mut lock(&self.0), call)
    }

    fn fetch(&self, _: u32, rank: u32) -> Result<Vec<u8>, String> {
        Err(format!("there is no rank {rank} on another node"))
    }

    fn wanted(&self) -> Result<Wanted, String> {
        Err("there is no other node".into())
    }

    fn give(&self, _: u64, _: Result<Vec<u8>, String>) {}

    fn leave(&self) {}
}

/// A team on several nodes of a job.
#[allow(dead_code, reason = "groups on several nodes use it, which come next")]
pub(crate) struct Far {
    mesh: Mesh,
    /// Where its nodes meet.
    home: NodeNumber,
    /// Where the job's names are.
    leader: NodeNumber,
    team: String,
    place: u32,
    nodes: Vec<NodeNumber>,
}

#[allow(dead_code, reason = "as above")]
impl Far {
    /// The way of the node at `place`. `nodes` are those of the team, by place.
    pub(crate) fn new(
        mesh: Mesh,
        home: NodeNumber,
        leader: NodeNumber,
        team: String,
        place: u32,
        nodes: Vec<NodeNumber>,
    ) -> Far {
        Far { mesh, home, leader, team, place, nodes }
    }

    fn call(&self, node: NodeNumber, call: &MeetingCall) -> Result<Reply, String> {
        let mut bytes = Vec::new();
        wire::encode(call, &mut bytes).map_err(|error| error.to_string())?;
        let reply = self.mesh.call(node, MPI, &bytes).map_err(|error| FarError::from(error).to_string())?;
        far::well(reply).map_err(|error| match error {
            FarError::Refused { text, .. } => text,
            other => other.to_string(),
        })
    }

    fn answer<M: wire::Message>(&self, node: NodeNumber, call: &MeetingCall) -> Result<M, String> {
        wire::decode(&self.call(node, call)?.body).map_err(|error| error.to_string())
    }
}

impl Exchange for Far {
    fn meet(&self, meeting: &str, places: &[u32], mine: Vec<u8>) -> Result<Vec<Vec<u8>>, String> {
        let (team, place, nodes) = (self.team.clone(), self.place, self.nodes.clone());
        let (meeting, places) = (meeting.into(), places.to_vec());
        self.answer(self.home, &MeetingCall::Meet { team, nodes, meeting, place, places, mine })
    }

    fn ask(&self, call: BookCall) -> Result<Option<String>, String> {
        self.answer(self.leader, &MeetingCall::Book(call))
    }

    fn fetch(&self, place: u32, rank: u32) -> Result<Vec<u8>, String> {
        let (team, nodes) = (self.team.clone(), self.nodes.clone());
        self.answer(self.home, &MeetingCall::Fetch { team, nodes, place, rank })
    }

    fn wanted(&self) -> Result<Wanted, String> {
        let (team, nodes, place) = (self.team.clone(), self.nodes.clone(), self.place);
        self.answer(self.home, &MeetingCall::Listen { team, nodes, place })
    }

    fn give(&self, wanted: u64, what: Result<Vec<u8>, String>) {
        let given = self.call(self.home, &MeetingCall::Give { team: self.team.clone(), wanted, what });
        if let Err(why) = given {
            tracing::warn!(team = self.team, why, "another node does not get what a rank has left");
        }
    }

    fn leave(&self) {
        // A home that is lost has forgotten the team anyway.
        let _ = self.call(self.home, &MeetingCall::Leave { team: self.team.clone(), place: self.place });
    }
}
