//! The leader's book of names. What a node says of its own objects is believed; whether one is still there its node
//! says to who opens it.

use std::collections::HashMap;
use std::sync::Mutex;

use super::super::far::words::{NameCall, Why};
use super::{lock, unclear};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::{Answer, Request};
use crate::wire;

/// Whose each name is.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<String, (NodeNumber, ObjectId)>>);

impl Registry {
    pub(super) fn serve(&self, request: &Request, answer: Answer) {
        match wire::decode::<NameCall>(&request.body) {
            Ok(NameCall::Give { name, node, object }) if node == request.from => self.give(name, node, object, answer),
            Ok(NameCall::Give { .. }) => unclear(answer, "a node names only its own objects"),
            Ok(NameCall::Find { name }) => {
                let found = lock(&self.0).get(&name).copied();
                let mut bytes = Vec::new();
                // Numbers into memory: nothing in it can fail.
                let _ = wire::encode(&found, &mut bytes);
                answer.send(0, &bytes);
            }
            Err(error) => unclear(answer, &error.to_string()),
        }
    }

    /// A node's own book has refused a name that one of its live objects has; so an entry of the same node is old. One
    /// of another node counts until that node says that it is over.
    fn give(&self, name: String, node: NodeNumber, object: ObjectId, answer: Answer) {
        let mut names = lock(&self.0);
        match names.get(&name) {
            Some((other, _)) if *other != node => {
                let text = format!("the name `{name}` is taken on node {other}");
                drop(names);
                answer.send(Why::Taken as u16, text.as_bytes());
            }
            _ => {
                names.insert(name, (node, object));
                drop(names);
                answer.send(0, &[]);
            }
        }
    }
}
