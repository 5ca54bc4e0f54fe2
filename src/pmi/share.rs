//! One node's share of a team: what each of its ranks asked, and what is to be done about it.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::limits::{KEY_MOST, NAME_MOST, ON_NODE_MOST, VALUE_SAID, WAITING_MOST};
use super::store::{News, Store, check};
use super::talk::{Ask, Form, Talk};
use super::team::Team;

/// Something for the shell to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Bytes for a rank.
    Say { rank: u32, bytes: Vec<u8> },
    /// Close the connection of a rank: one that aborts waits for that, and then ends with its code.
    HangUp { rank: u32 },
    /// All ranks of this node have come to a barrier: exchange what they left with the other shares, then [`Share::met`].
    Meet { round: u64, news: News },
    /// A question to the book of published names, then [`Share::told`].
    Ask { ticket: u64, call: BookCall },
    /// The team is at its end. Said once.
    End(Ending),
}

/// Why a team is at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A rank called `MPI_Abort`.
    Abort { rank: u32, code: i32, words: String },
    /// A rank is gone that others wait for, or that had not taken its leave.
    Left { rank: u32 },
    /// A rank sent what is no request.
    Nonsense { rank: u32, why: String },
    /// The other nodes cannot be reached any more.
    Cut { why: String },
}

/// A question to the book of published names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BookCall {
    Publish { name: String, port: String },
    Unpublish { name: String },
    LookUp { name: String },
}

/// How far a rank has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was said that has to be ended.
    Fresh,
    Begun,
    Finalized,
    Gone,
}

struct Seat {
    rank: u32,
    talk: Talk,
    stage: Stage,
    /// How to answer when the barrier opens.
    at_barrier: Option<Form>,
}

/// The ranks of a team on one node.
pub(crate) struct Share {
    team: Team,
    seats: Vec<Seat>,
    store: Store,
    /// What ranks leave for those of their node alone, and who waits for something there.
    on_node: HashMap<String, String>,
    waiting: Vec<(usize, String, Form)>,
    /// Questions to the book: who asked.
    asked: HashMap<u64, (usize, Form)>,
    tickets: u64,
    round: u64,
    deeds: VecDeque<Deed>,
    over: bool,
}

type Answer<'a> = &'a [(&'a str, &'a str)];
const WELL: Answer<'static> = &[("rc", "0"), ("msg", "success")];

impl Share {
    /// The share of the node at that place.
    pub(crate) fn new(team: Team, place: u32) -> Share {
        let seat = |rank| Seat { rank, talk: Talk::default(), stage: Stage::Fresh, at_barrier: None };
        let seats = team.ranks_at(place).into_iter().map(seat).collect();
        Share {
            team,
            seats,
            store: Store::default(),
            on_node: HashMap::new(),
            waiting: Vec::new(),
            asked: HashMap::new(),
            tickets: 0,
            round: 0,
            deeds: VecDeque::new(),
            over: false,
        }
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Deed> {
        self.deeds.pop_front()
    }

    /// Bytes have come from a rank of this node.
    pub(crate) fn hear(&mut self, rank: u32, bytes: &[u8]) {
        let Some(at) = self.seat(rank) else { return };
        self.seats[at].talk.hear(bytes);
        while !self.over && self.seats[at].stage != Stage::Gone {
            match self.seats[at].talk.next() {
                Ok(Some((ask, form))) => self.answer(at, ask, form),
                Ok(None) => return,
                Err(why) => return self.end(Ending::Nonsense { rank, why: why.into() }),
            }
        }
    }

    /// A rank's connection is at its end.
    pub(crate) fn hung_up(&mut self, rank: u32) {
        let Some(at) = self.seat(rank) else { return };
        let before = std::mem::replace(&mut self.seats[at].stage, Stage::Gone);
        self.seats[at].at_barrier = None;
        self.waiting.retain(|(who, ..)| *who != at);
        if before == Stage::Begun {
            self.end(Ending::Left { rank });
        }
        self.look_for_missing();
    }

    /// The shares have met: what the ranks of all nodes had left, or why that failed.
    pub(crate) fn met(&mut self, round: u64, news: Result<&[(String, String)], String>) {
        if round != self.round || self.over {
            return;
        }
        match news {
            Ok(news) => self.store.learn(news),
            Err(why) => return self.end(Ending::Cut { why }),
        }
        self.open_barrier();
    }

    /// What the book of names says: a port, nothing more, or why not.
    pub(crate) fn told(&mut self, ticket: u64, said: Result<Option<String>, String>) {
        let Some((at, form)) = self.asked.remove(&ticket) else { return };
        match said {
            // Old clients look at `info`, newer ones at `rc`.
            Ok(port) => {
                let port = port.iter().map(|port| ("port", port.as_str()));
                let fields: Vec<_> =
                    [("info", "ok"), ("rc", "0"), ("msg", "success")].into_iter().chain(port).collect();
                self.say(at, &form, &fields);
            }
            Err(why) => self.say(at, &form, &[("info", "error"), ("rc", "-1"), ("msg", &why.replace(' ', "_"))]),
        }
    }

    fn answer(&mut self, at: usize, ask: Ask, form: Form) {
        match ask {
            Ask::Init { version } => self.begin(at, version, &form),
            Ask::WhoAmI => self.introduce(at),
            Ask::FullInit => self.begin_in_frames(at, &form),
            Ask::Limits | Ask::AppNumber | Ask::StoreName | Ask::UniverseSize => self.tell_facts(at, &ask, &form),
            Ask::Put { key, value } => {
                let done = self.store.put(&key, &value);
                self.say_done(at, &form, done);
            }
            Ask::Get { key } => self.get(at, &key, &form),
            Ask::PutOnNode { key, value } => self.put_on_node(at, key, value, &form),
            Ask::GetOnNode { key, waits } => self.get_on_node(at, key, waits, form),
            Ask::Barrier => self.arrive(at, form),
            Ask::Finalize => {
                self.seats[at].stage = Stage::Finalized;
                self.say(at, &form, WELL);
                self.look_for_missing();
            }
            Ask::Abort { code, words } => {
                let rank = self.seats[at].rank;
                self.seats[at].stage = Stage::Gone;
                self.end(Ending::Abort { rank, code, words });
                self.deeds.push_back(Deed::HangUp { rank });
            }
            Ask::Publish { name, port } => self.ask(at, form, BookCall::Publish { name, port }),
            Ask::Unpublish { name } => self.ask(at, form, BookCall::Unpublish { name }),
            Ask::LookUp { name } => self.ask(at, form, BookCall::LookUp { name }),
            Ask::Other(command) => {
                tracing::debug!(team = self.team.name, rank = self.seats[at].rank, command, "a request not served");
                self.say(at, &form, &[("rc", "-1"), ("msg", "not_supported"), ("errmsg", "not_supported")]);
            }
        }
    }

    // ---- who and what ---------------------------------------------------------------------------

    fn begin(&mut self, at: usize, version: u32, form: &Form) {
        let (version, subversion) = if version == 2 { ("2", "0") } else { ("1", "1") };
        // Version 2 has begun with the second half only.
        if version == "1" {
            self.seats[at].stage = Stage::Begun;
        }
        self.say(at, form, &[("pmi_version", version), ("pmi_subversion", subversion), ("rc", "0")]);
    }

    fn begin_in_frames(&mut self, at: usize, form: &Form) {
        self.seats[at].stage = Stage::Begun;
        let (rank, size) = (self.seats[at].rank.to_string(), self.team.size().to_string());
        let facts =
            [("rank", &rank[..]), ("size", &size), ("appnum", "0"), ("debugged", "FALSE"), ("pmiverbose", "FALSE")];
        let head = [("rc", "0"), ("pmi-version", "2"), ("pmi-subversion", "0")];
        self.say(at, form, &head.into_iter().chain(facts).collect::<Vec<_>>());
    }

    /// Who came over a port hears in several lines who it is.
    fn introduce(&mut self, at: usize) {
        let rank = self.seats[at].rank;
        let lines =
            format!("cmd=initack rc=0\ncmd=set size={}\ncmd=set rank={rank}\ncmd=set debug=0\n", self.team.size());
        self.deeds.push_back(Deed::Say { rank, bytes: lines.into_bytes() });
    }

    fn tell_facts(&mut self, at: usize, ask: &Ask, form: &Form) {
        let (size, name) = (self.team.size().to_string(), self.team.name.clone());
        let [keys, values, names] = [KEY_MOST, VALUE_SAID, NAME_MOST].map(|most| most.to_string());
        let limits = [("rc", "0"), ("kvsname_max", &names[..]), ("keylen_max", &keys), ("vallen_max", &values)];
        match ask {
            Ask::Limits => self.say(at, form, &limits),
            Ask::AppNumber => self.say(at, form, &[("rc", "0"), ("appnum", "0")]),
            Ask::UniverseSize => self.say(at, form, &[("rc", "0"), ("size", &size)]),
            _ if form.framed => self.say(at, form, &[("rc", "0"), ("jobid", &name)]),
            _ => self.say(at, form, &[("rc", "0"), ("kvsname", &name)]),
        }
    }

    // ---- the store ------------------------------------------------------------------------------

    fn get(&mut self, at: usize, key: &str, form: &Form) {
        let found = match key {
            "PMI_process_mapping" => self.team.mapping(),
            "universeSize" if form.framed => Some(self.team.size().to_string()),
            _ => self.store.get(key).map(Into::into),
        };
        self.say_found(at, form, found);
    }

    fn put_on_node(&mut self, at: usize, key: String, value: String, form: &Form) {
        let room = if self.on_node.len() < ON_NODE_MOST { Ok(()) } else { Err("too_many_keys") };
        let fits = room.and_then(|()| check(&key, &value));
        self.say_done(at, form, fits);
        if fits.is_err() {
            return;
        }
        let (come, wait) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, wanted, _)| *wanted == key);
        self.waiting = wait;
        let come: Vec<_> = come;
        come.into_iter().for_each(|(who, _, form)| self.say_found(who, &form, Some(value.clone())));
        self.on_node.insert(key, value);
    }

    fn get_on_node(&mut self, at: usize, key: String, waits: bool, form: Form) {
        let found = self.on_node.get(&key).cloned();
        let may_wait = self.waiting.iter().filter(|(who, ..)| *who == at).count() < WAITING_MOST;
        if found.is_none() && waits && may_wait {
            return self.waiting.push((at, key, form));
        }
        self.say_found(at, &form, found);
    }

    fn ask(&mut self, at: usize, form: Form, call: BookCall) {
        if self.asked.values().filter(|(who, _)| *who == at).count() >= WAITING_MOST {
            return self.say(at, &form, &[("rc", "-1"), ("msg", "too_many_questions")]);
        }
        self.tickets += 1;
        self.asked.insert(self.tickets, (at, form));
        self.deeds.push_back(Deed::Ask { ticket: self.tickets, call });
    }

    // ---- barriers -------------------------------------------------------------------------------

    fn arrive(&mut self, at: usize, form: Form) {
        if self.seats[at].at_barrier.replace(form).is_some() {
            let (rank, why) = (self.seats[at].rank, "it came to a barrier twice");
            return self.end(Ending::Nonsense { rank, why: why.into() });
        }
        if self.seats.iter().any(|seat| seat.at_barrier.is_none()) {
            return self.look_for_missing();
        }
        self.round += 1;
        let news = self.store.take_news();
        match self.team.nodes() {
            1 => self.open_barrier(),
            _ => self.deeds.push_back(Deed::Meet { round: self.round, news }),
        }
    }

    fn open_barrier(&mut self) {
        for at in 0..self.seats.len() {
            if let Some(form) = self.seats[at].at_barrier.take() {
                self.say(at, &form, &[("rc", "0")]);
            }
        }
    }

    /// Who waits at a barrier to which somebody will never come, waits for ever.
    fn look_for_missing(&mut self) {
        let waits = self.seats.iter().any(|seat| seat.at_barrier.is_some());
        let missing = |seat: &&Seat| seat.at_barrier.is_none() && matches!(seat.stage, Stage::Finalized | Stage::Gone);
        if let (true, Some(seat)) = (waits, self.seats.iter().find(missing)) {
            self.end(Ending::Left { rank: seat.rank });
        }
    }

    fn end(&mut self, ending: Ending) {
        if !std::mem::replace(&mut self.over, true) {
            self.deeds.push_back(Deed::End(ending));
        }
    }

    // ---- saying ---------------------------------------------------------------------------------

    fn say(&mut self, at: usize, form: &Form, fields: &[(&str, &str)]) {
        let seat = &self.seats[at];
        if seat.stage != Stage::Gone {
            self.deeds.push_back(Deed::Say { rank: seat.rank, bytes: form.say(fields) });
        }
    }

    fn say_done(&mut self, at: usize, form: &Form, done: Result<(), &'static str>) {
        match done {
            Ok(()) => self.say(at, form, WELL),
            Err(why) => self.say(at, form, &[("rc", "-1"), ("msg", why), ("errmsg", why)]),
        }
    }

    fn say_found(&mut self, at: usize, form: &Form, found: Option<String>) {
        match (found, form.framed) {
            (Some(value), true) => self.say(at, form, &[("rc", "0"), ("found", "TRUE"), ("value", &value)]),
            (None, true) => self.say(at, form, &[("rc", "0"), ("found", "FALSE")]),
            (Some(value), false) => self.say(at, form, &[("rc", "0"), ("msg", "success"), ("value", &value)]),
            (None, false) => self.say(at, form, &[("rc", "-1"), ("msg", "key_not_found")]),
        }
    }

    fn seat(&self, rank: u32) -> Option<usize> {
        self.seats.iter().position(|seat| seat.rank == rank)
    }
}
