//! Where the nodes of an MPI team meet: their home keeps what each has brought until all have come, and passes on what one
//! wants of another.
//!
//! A team is known here from its first call until all its nodes have left or are lost. With a node lost it is over: who waits
//! is told, who comes later too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::super::far::words::Why;
use super::super::mpi::look_up;
use super::{lock, unclear};
use crate::id::NodeNumber;
use crate::mesh::{Answer, Request};
use crate::pmi::BookCall;
use crate::wire;

/// What nodes of a team ask its home.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::services) enum MeetingCall {
    /// Answered with what the nodes at `places` have brought, in their order.
    Meet {
        team: String,
        nodes: Vec<NodeNumber>,
        meeting: String,
        place: u32,
        places: Vec<u32>,
        #[serde(with = "serde_bytes_of")]
        mine: Vec<u8>,
    },
    /// Answered with what the rank at that place has left.
    Fetch {
        team: String,
        nodes: Vec<NodeNumber>,
        place: u32,
        rank: u32,
    },
    /// Answered when somebody fetches from this place, with the number of the wish and the rank.
    Listen {
        team: String,
        nodes: Vec<NodeNumber>,
        place: u32,
    },
    Give {
        team: String,
        wanted: u64,
        what: Result<Vec<u8>, String>,
    },
    Leave {
        team: String,
        place: u32,
    },
    /// For the leader.
    Book(BookCall),
}

/// Long bytes as bytes, not one by one.
mod serde_bytes_of {
    use serde::{Deserializer, Serializer, de::Visitor};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// The teams at home here.
#[derive(Default)]
pub(super) struct Meetings {
    teams: Mutex<HashMap<String, Team>>,
    book: Mutex<HashMap<String, String>>,
}

#[derive(Default)]
struct Team {
    nodes: Vec<NodeNumber>,
    meetings: HashMap<String, Meeting>,
    listening: HashMap<u32, Answer>,
    /// Wishes that nobody has taken yet, by place.
    wishes: BTreeMap<(u32, u64), u32>,
    wished: HashMap<u64, Answer>,
    wish: u64,
    left: Vec<u32>,
    /// Why it is over.
    over: Option<String>,
}

#[derive(Default)]
struct Meeting {
    brought: BTreeMap<u32, Vec<u8>>,
    waiting: Vec<Answer>,
}

impl Meetings {
    pub(super) fn serve(&self, request: &Request, answer: Answer) {
        match wire::decode::<MeetingCall>(&request.body) {
            Ok(MeetingCall::Book(call)) => say(answer, &look_up(&mut lock(&self.book), call)),
            Ok(MeetingCall::Meet { team, nodes, meeting, place, places, mine }) => {
                self.with(&team, &nodes, answer, |team, answer| team.meet(meeting, place, &places, mine, answer));
            }
            Ok(MeetingCall::Fetch { team, nodes, place, rank }) => {
                self.with(&team, &nodes, answer, |team, answer| team.fetch(place, rank, answer));
            }
            Ok(MeetingCall::Listen { team, nodes, place }) => {
                self.with(&team, &nodes, answer, |team, answer| team.listen(place, answer));
            }
            Ok(MeetingCall::Give { team, wanted, what }) => {
                let wished = lock(&self.teams).get_mut(&team).and_then(|team| team.wished.remove(&wanted));
                wished.into_iter().for_each(|wished| say(wished, &what));
                say(answer, &Ok::<_, String>(()));
            }
            Ok(MeetingCall::Leave { team, place }) => {
                self.leave(&team, place);
                say(answer, &Ok::<_, String>(()));
            }
            Err(error) => unclear(answer, &error.to_string()),
        }
    }

    fn with(&self, name: &str, nodes: &[NodeNumber], answer: Answer, serve: impl FnOnce(&mut Team, Answer) -> Answers) {
        let mut teams = lock(&self.teams);
        let team = teams.entry(name.into()).or_insert_with(|| Team { nodes: nodes.to_vec(), ..Team::default() });
        let answers = match team.over.clone() {
            Some(why) => vec![(answer, Err(why))],
            None => serve(team, answer),
        };
        drop(teams);
        answers.into_iter().for_each(|(answer, what)| send(answer, what));
    }

    fn leave(&self, name: &str, place: u32) {
        let mut teams = lock(&self.teams);
        let Some(team) = teams.get_mut(name) else { return };
        team.left.push(place);
        let gone = team.end(&format!("the node at place {place} of the team has left"));
        if (0..team.nodes.len() as u32).all(|place| team.left.contains(&place)) {
            teams.remove(name);
        }
        drop(teams);
        gone.into_iter().for_each(|(answer, what)| send(answer, what));
    }

    /// What a node brought or wanted is over.
    pub(super) fn lost(&self, node: NodeNumber) {
        let mut gone = Vec::new();
        let mut teams = lock(&self.teams);
        for team in teams.values_mut().filter(|team| team.nodes.contains(&node)) {
            gone.extend(team.end(&format!("node {node} is lost")));
            let places = (0..).zip(&team.nodes).filter(|(_, at)| **at == node).map(|(place, _)| place);
            let lost: Vec<u32> = places.collect();
            team.left.extend(lost);
        }
        teams.retain(|_, team| !(0..team.nodes.len() as u32).all(|place| team.left.contains(&place)));
        drop(teams);
        gone.into_iter().for_each(|(answer, what)| send(answer, what));
    }
}

/// Who is to be answered now: encoded, or why not.
type Answers = Vec<(Answer, Result<Vec<u8>, String>)>;

impl Team {
    fn meet(&mut self, name: String, place: u32, places: &[u32], mine: Vec<u8>, answer: Answer) -> Answers {
        let meeting = self.meetings.entry(name.clone()).or_default();
        meeting.brought.insert(place, mine);
        meeting.waiting.push(answer);
        if !places.iter().all(|place| meeting.brought.contains_key(place)) {
            return Vec::new();
        }
        let Some(Meeting { brought, waiting }) = self.meetings.remove(&name) else { return Vec::new() };
        let all = encoded(&brought.into_values().collect::<Vec<_>>());
        waiting.into_iter().map(|answer| (answer, Ok(all.clone()))).collect()
    }

    fn fetch(&mut self, place: u32, rank: u32, answer: Answer) -> Answers {
        self.wish += 1;
        self.wished.insert(self.wish, answer);
        match self.listening.remove(&place) {
            Some(listener) => vec![(listener, Ok(encoded(&(self.wish, rank))))],
            None => {
                self.wishes.insert((place, self.wish), rank);
                Vec::new()
            }
        }
    }

    fn listen(&mut self, place: u32, answer: Answer) -> Answers {
        let next = self.wishes.range((place, 0)..=(place, u64::MAX)).next().map(|(key, _)| *key);
        if let Some(key) = next
            && let Some(rank) = self.wishes.remove(&key)
        {
            return vec![(answer, Ok(encoded(&(key.1, rank))))];
        }
        let before = self.listening.insert(place, answer);
        before.into_iter().map(|answer| (answer, Err("somebody else listens now".into()))).collect()
    }

    /// Nobody will meet any more.
    fn end(&mut self, why: &str) -> Answers {
        self.over.get_or_insert_with(|| why.into());
        let meetings = std::mem::take(&mut self.meetings).into_values().flat_map(|meeting| meeting.waiting);
        let listening = std::mem::take(&mut self.listening).into_values();
        let wished = std::mem::take(&mut self.wished).into_values();
        meetings.chain(listening).chain(wished).map(|answer| (answer, Err(why.into()))).collect()
    }
}

fn encoded(what: &impl wire::Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Numbers and bytes into memory: nothing in it can fail.
    let _ = wire::encode(what, &mut bytes);
    bytes
}

fn say<M: wire::Message>(answer: Answer, what: &Result<M, String>) {
    match what {
        Ok(what) => send(answer, Ok(encoded(what))),
        Err(why) => send(answer, Err(why.clone())),
    }
}

fn send(answer: Answer, what: Result<Vec<u8>, String>) {
    match what {
        Ok(bytes) => answer.send(0, &bytes),
        Err(why) => answer.send(Why::Other as u16, why.as_bytes()),
    }
}
