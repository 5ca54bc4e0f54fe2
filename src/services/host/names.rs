//! The leader's book of names. What a node says of its own objects is believed; whether one is still there its node
//! says to who opens it, and to the leader if another wants its name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::super::far::words::{NAMES, NameCall, Why};
use super::{Inner, lock, unclear};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::{Answer, MeshError, Request};
use crate::wire;

/// Whose each name is.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<String, (NodeNumber, ObjectId)>>);

impl Registry {
    pub(super) fn serve(&self, host: &Arc<Inner>, request: &Request, answer: Answer) {
        match wire::decode::<NameCall>(&request.body) {
            Ok(NameCall::Give { name, node, object }) if node == request.from => {
                give(host, Entry { name, node, object }, answer);
            }
            Ok(NameCall::Give { .. }) => unclear(answer, "a node names only its own objects"),
            Ok(NameCall::Find { name }) => say(answer, &lock(&self.0).get(&name).copied()),
            Ok(NameCall::Lives { object }) => say(answer, &host.memory.is_live(object)),
            Err(error) => unclear(answer, &error.to_string()),
        }
    }

    /// A node's own book has refused a name that one of its live objects has; so an entry of the same node is old. One
    /// of another node is returned.
    fn enter(&self, entry: &Entry) -> Option<(NodeNumber, ObjectId)> {
        let mut names = lock(&self.0);
        let other = names.get(&entry.name).copied().filter(|(other, _)| *other != entry.node);
        if other.is_none() {
            names.insert(entry.name.clone(), (entry.node, entry.object));
        }
        other
    }

    /// That object is not there any more.
    fn strike(&self, name: &str, of: (NodeNumber, ObjectId)) {
        let mut names = lock(&self.0);
        if names.get(name) == Some(&of) {
            names.remove(name);
        }
    }
}

/// A name that an object shall have.
struct Entry {
    name: String,
    node: NodeNumber,
    object: ObjectId,
}

/// Gives a name. If an object of another node has it, that node is asked whether it is still there, on another thread.
fn give(host: &Arc<Inner>, entry: Entry, answer: Answer) {
    if host.names.enter(&entry).is_none() {
        return answer.send(0, &[]);
    }
    let asks = host.clone();
    host.threads.run(move || {
        while let Some(other) = asks.names.enter(&entry) {
            if lives(&asks, other) {
                let text = format!("the name `{}` is taken on node {}", entry.name, other.0);
                return answer.send(Why::Taken as u16, text.as_bytes());
            }
            asks.names.strike(&entry.name, other);
        }
        answer.send(0, &[]);
    });
}

/// Whether an object is still there. One of which nobody can say so is.
fn lives(host: &Inner, (node, object): (NodeNumber, ObjectId)) -> bool {
    let mut call = Vec::new();
    // Numbers into memory: nothing in it can fail.
    let _ = wire::encode(&NameCall::Lives { object }, &mut call);
    match host.mesh().call(node, NAMES, &call) {
        Ok(reply) => wire::decode(&reply.body).unwrap_or(true),
        Err(MeshError::Lost { .. }) => false,
        Err(_) => true,
    }
}

fn say(answer: Answer, what: &impl wire::Message) {
    let mut bytes = Vec::new();
    // As in `lives`.
    let _ = wire::encode(what, &mut bytes);
    answer.send(0, &bytes);
}
