//! A small world of places, clients and messages, in which one manager has one key, whose value is the set of the writes that
//! are in it: each write reads the value and adds itself.
//!
//! What a place does for a call, or to fill a copy, is a *task*: a stack of steps, as a thread would take them in `ddict`, with
//! the lock of the key and the lock of who changes the set. Messages arrive in any order, or never if their sender died. Who
//! has lost a node hears nothing from it any more.

use std::rc::Rc;

use super::{Need, Ring, Standing, Verdict};

const MANAGER: u32 = 0;
/// Tasks of a place: one for each client, and the one that fills copies.
const FILLS: usize = 2;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// What a deposed place said before it was deposed may be done after.
    LateFollowers,
    /// A copy is filled while writes are under way that do not know of it.
    UnsettledFill,
    /// Who is next in the ring gets a write first.
    NextFirst,
    /// A write is done and answered before the others have it.
    AnswerFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Say {
    Copy(u8),
    Adopt,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    from: usize,
    to: usize,
    /// The task that waits for the answer.
    task: usize,
    lost: u64,
    /// None: an answer, and whether it was done.
    say: Option<Say>,
    done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Sees to it that the place acts.
    Act,
    /// Agrees with others that a place is lost, and tells all.
    DropOut(usize),
    /// Takes the lock of the key.
    Lock,
    Unlock,
    /// Reads for a client.
    Read,
    /// Decides a write, adds a bit.
    Decide(u8),
    /// Brings a value to these places; then what follows on the stack.
    Spread(u8, Vec<usize>),
    /// Looks again where it goes.
    Begin(u8),
    Await(usize, Say),
    Apply(u8),
    Answer(u8),
    /// Fills the copies that are missing.
    FillNext,
    /// Looks at all keys, and fills those that are there.
    Walk(usize),
    FillIn(usize),
    Filled(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    alive: bool,
    standing: Standing,
    value: u8,
    /// Whoever holds the lock of the key, and that of who changes the set.
    key: Option<usize>,
    change: Option<usize>,
    /// Nodes that are lost to this one.
    gone: u64,
    /// Losses that the host has heard of, to be seen to.
    to_see_to: u64,
    tasks: [Vec<Step>; FILLS + 1],
    /// Calls that are let in and not done yet, with [`Flaw::LateFollowers`].
    late: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    calls: Vec<u8>,
    /// The place that it waits for, and what was known to all when it began.
    waits: Option<(usize, u8)>,
    /// Places that did not answer it.
    lost: u64,
    bit: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    ring: Ring,
    /// Shared by the worlds in which they are the same.
    places: Vec<Rc<Place>>,
    clients: Vec<Client>,
    messages: Vec<Message>,
    deaths: usize,
    /// There is more than one, or was.
    second_death: bool,
    cuts: usize,
    /// Nobody hears this one any more.
    cut: Option<usize>,
    /// What somebody has been told of: it must be in all that is told to whoever asks later.
    known: u8,
    flaw: Option<Flaw>,
    pub wrong: Option<String>,
}

fn has(set: u64, place: usize) -> bool {
    set >> place & 1 == 1
}

/// What happens to a world.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "to be shown when something is wrong")]
pub enum Event {
    Begins,
    Calls { client: usize, place: usize, call: char },
    HasNobodyLeft { client: usize },
    FindsDead { client: usize, place: usize },
    Dies { place: usize },
    IsCutOff { place: usize },
    Loses { place: usize, other: usize },
    SeesTo { place: usize, lost: usize },
    DoesAtLast { place: usize },
    Arrives { message: Message, heard: bool },
    Takes { place: usize, task: usize, step: Step },
}

type Nexts = Vec<(Event, World)>;

impl World {
    /// The calls of each client are `w`rites and `r`eads.
    pub fn new(ring: Ring, calls: &[&[u8]], deaths: usize) -> World {
        let place = |place: usize| Place {
            alive: true,
            standing: Standing::new(ring, place),
            value: 0,
            key: None,
            change: None,
            gone: 0,
            to_see_to: 0,
            tasks: Default::default(),
            late: Vec::new(),
        };
        let client = |(number, calls): (usize, &&[u8])| Client {
            calls: calls.iter().rev().copied().collect(),
            waits: None,
            lost: 0,
            bit: if number == 0 { 1 } else { 16 },
        };
        World {
            ring,
            places: (0..ring.places).map(|at| Rc::new(place(at))).collect(),
            clients: calls.iter().enumerate().map(client).collect(),
            messages: Vec::new(),
            deaths,
            second_death: deaths > 1,
            cuts: 0,
            cut: None,
            known: 0,
            flaw: None,
            wrong: None,
        }
    }

    /// The same, in which a place may be cut off from all others.
    pub fn with_a_cut(self) -> World {
        World { cuts: 1, ..self }
    }

    /// The same without a rule.
    pub fn with(self, flaw: Flaw) -> World {
        World { flaw: Some(flaw), ..self }
    }

    /// All that may happen next.
    pub fn nexts(&self) -> Nexts {
        let mut nexts = Vec::new();
        for client in 0..self.clients.len() {
            self.client_calls(client, &mut nexts);
        }
        for place in (0..self.places.len()).filter(|place| self.places[*place].alive) {
            for task in 0..=FILLS {
                self.task_goes_on(place, task, &mut nexts);
            }
            self.place_changes(place, &mut nexts);
        }
        for at in 0..self.messages.len() {
            self.message_arrives(at, &mut nexts);
        }
        nexts
    }

    /// Whether nobody waits for anything when nothing can happen any more.
    pub fn is_at_rest(&self) -> Result<(), String> {
        let busy = |place: &Rc<Place>| place.alive && place.tasks.iter().any(|task| !task.is_empty());
        let waits = |client: &Client| client.waits.is_some() || !client.calls.is_empty();
        match self.places.iter().any(busy) || self.clients.iter().any(waits) {
            true => Err(format!("somebody waits for ever: {self:#?}")),
            false => Ok(()),
        }
    }

    fn at(&mut self, place: usize) -> &mut Place {
        Rc::make_mut(&mut self.places[place])
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        one != other && (self.cut == Some(one) || self.cut == Some(other))
    }

    fn client_calls(&self, client: usize, nexts: &mut Nexts) {
        let mut next = self.clone();
        let me = &mut next.clients[client];
        if me.waits.is_some() {
            return;
        }
        let Some(call) = me.calls.last().copied() else { return };
        // When all are lost it starts again with those that still live, as a new client would.
        let Some(to) = self.ring.copies(MANAGER, me.lost).first().copied() else {
            me.calls.clear();
            nexts.push((Event::HasNobodyLeft { client }, next));
            return;
        };
        // Its last call there is over.
        if !self.places[to].tasks[client].is_empty() {
            return;
        }
        me.calls.pop();
        if !self.places[to].alive {
            me.lost |= 1 << to;
            me.calls.push(call);
            nexts.push((Event::FindsDead { client, place: to }, next));
            return;
        }
        me.waits = Some((to, self.known));
        let bit = me.bit;
        if call == b'w' {
            me.bit <<= 1;
        }
        let write = vec![Step::Decide(bit), Step::Lock, Step::Act];
        next.at(to).tasks[client] = if call == b'r' { vec![Step::Read, Step::Act] } else { write };
        nexts.push((Event::Calls { client, place: to, call: call as char }, next));
    }

    /// A client hears of its call: of a value, or that nobody knows.
    fn answer(&mut self, client: usize, value: Option<u8>) {
        let Some((place, before)) = self.clients[client].waits.take() else { return };
        let Some(value) = value else {
            self.clients[client].lost |= if self.places[place].alive { 0 } else { 1 << place };
            return;
        };
        // Who is cut off may be shown what is old, until its node notices.
        if self.cut != Some(place) && value & before != before {
            self.wrong = Some(format!("client {client} is told {value:#b}, though {before:#b} was known"));
        }
        self.known |= value;
    }

    fn place_changes(&self, place: usize, nexts: &mut Nexts) {
        let here = &self.places[place];
        if self.deaths > 0 {
            let mut next = self.clone();
            next.deaths -= 1;
            next.at(place).alive = false;
            next.at(place).tasks = Default::default();
            for client in 0..next.clients.len() {
                if next.clients[client].waits.is_some_and(|(at, _)| at == place) {
                    next.answer(client, None);
                }
            }
            nexts.push((Event::Dies { place }, next));
        }
        if self.cuts > 0 {
            let mut next = self.clone();
            next.cuts -= 1;
            next.cut = Some(place);
            nexts.push((Event::IsCutOff { place }, next));
        }
        for other in (0..self.places.len()).filter(|other| *other != place && !has(here.gone, *other)) {
            if !self.places[other].alive || self.is_cut(place, other) {
                let mut next = self.clone();
                next.lose(place, other);
                nexts.push((Event::Loses { place, other }, next));
            }
        }
        if let Some(lost) =
            (0..self.places.len()).find(|other| has(here.to_see_to, *other) && here.tasks[FILLS].is_empty())
        {
            let mut next = self.clone();
            next.at(place).to_see_to &= !(1 << lost);
            next.at(place).tasks[FILLS] = vec![Step::FillNext, Step::DropOut(lost)];
            nexts.push((Event::SeesTo { place, lost }, next));
        }
        for at in 0..here.late.len() {
            let mut next = self.clone();
            let message = next.at(place).late.remove(at);
            next.follow(message);
            nexts.push((Event::DoesAtLast { place }, next));
        }
    }

    fn lose(&mut self, place: usize, other: usize) {
        if !has(self.places[place].gone, other) {
            self.at(place).gone |= 1 << other;
            self.at(place).to_see_to |= 1 << other;
        }
    }

    fn message_arrives(&self, at: usize, nexts: &mut Nexts) {
        let mut next = self.clone();
        let message = next.messages.remove(at);
        let Message { from, to, task, .. } = message;
        let deaf = !self.places[to].alive || has(self.places[to].gone, from) || self.is_cut(from, to);
        let what = Event::Arrives { message, heard: !deaf };
        if deaf {
            nexts.push((what, next));
            return;
        }
        if message.say.is_none() {
            let here = next.at(to);
            match here.tasks[task].pop() {
                Some(Step::Await(of, say)) if of == from => next.answered(to, task, (of, say), message.done),
                other => here.tasks[task].extend(other),
            }
        } else {
            let adopted = next.at(to).standing.adopt(from, message.lost).is_ok();
            match (adopted, self.flaw == Some(Flaw::LateFollowers)) {
                (false, _) => next.reply(message, false),
                (true, true) => next.at(to).late.push(message),
                (true, false) => next.follow(message),
            }
        }
        nexts.push((what, next));
    }

    fn follow(&mut self, message: Message) {
        let here = self.at(message.to);
        match message.say {
            Some(Say::Copy(value)) => here.value = value,
            Some(Say::Full) => here.standing.is_full_now(MANAGER),
            _ => {}
        }
        self.reply(message, true);
    }

    fn reply(&mut self, message: Message, done: bool) {
        let Message { from, to, .. } = message;
        self.messages.push(Message { from: to, to: from, say: None, done, ..message });
        self.messages.sort_unstable();
    }

    fn say(&mut self, place: usize, task: usize, to: usize, say: Say) {
        let lost = self.places[place].standing.lost();
        self.at(place).tasks[task].push(Step::Await(to, say));
        self.messages.push(Message { from: place, to, task, lost, say: Some(say), done: false });
        self.messages.sort_unstable();
    }

    /// Another place has answered a task.
    fn answered(&mut self, place: usize, task: usize, (of, say): (usize, Say), done: bool) {
        if !done {
            return self.fails(place, task);
        }
        let here = self.at(place);
        match say {
            // The set has not changed: it is this task that has the right to.
            Say::Adopt => {
                let lost = here.standing.lost();
                here.standing.told(of, lost);
            }
            Say::Full => here.standing.filled(MANAGER, of),
            Say::Copy(_) => {}
        }
    }

    /// A task ends with an error.
    fn fails(&mut self, place: usize, task: usize) {
        let here = self.at(place);
        here.tasks[task].clear();
        here.key = here.key.filter(|holder| *holder != task);
        here.change = here.change.filter(|holder| *holder != task);
        if task < FILLS {
            self.answer(task, None);
        }
    }

    fn task_goes_on(&self, place: usize, task: usize, nexts: &mut Nexts) {
        let Some(step) = self.places[place].tasks[task].last().cloned() else { return };
        let mut next = self.clone();
        next.at(place).tasks[task].pop();
        let what = Event::Takes { place, task, step: step.clone() };
        if !next.take(place, task, step) {
            return;
        }
        // What nobody else can tell from being done later.
        while let Some(Step::Unlock | Step::Decide(_) | Step::Begin(_) | Step::Spread(..)) =
            next.places[place].tasks[task].last()
        {
            let Some(step) = next.at(place).tasks[task].pop() else { break };
            next.take(place, task, step);
        }
        nexts.push((what, next));
    }

    /// Takes a step. False if it must wait.
    fn take(&mut self, place: usize, task: usize, step: Step) -> bool {
        match step {
            Step::Act => return self.act(place, task),
            Step::DropOut(lost) => return self.drop_out(place, task, lost),
            Step::Await(to, say) => return self.give_up(place, task, to, say),
            Step::Lock => match self.places[place].key {
                None => self.at(place).key = Some(task),
                Some(_) => return false,
            },
            Step::Unlock => self.at(place).key = None,
            Step::Read => {
                let here = &self.places[place];
                let value = here.standing.acts(MANAGER).then_some(here.value);
                self.answer(task, value);
            }
            Step::Decide(bit) => self.decide(place, task, bit),
            Step::Begin(value) => self.begin(place, task, value),
            Step::Spread(value, mut left) => {
                if let Some(to) = left.pop() {
                    self.at(place).tasks[task].push(Step::Spread(value, left));
                    self.say(place, task, to, Say::Copy(value));
                }
            }
            Step::Apply(value) => self.at(place).value = value,
            Step::Answer(value) => self.answer(task, Some(value)),
            Step::FillNext => self.fill_next(place, task),
            Step::Walk(to) => {
                if self.places[place].value != 0 {
                    self.at(place).tasks[task].extend([Step::Unlock, Step::FillIn(to), Step::Lock]);
                }
            }
            Step::FillIn(to) => {
                let value = self.places[place].value;
                self.say(place, task, to, Say::Copy(value));
            }
            Step::Filled(to) => self.say(place, task, to, Say::Full),
        }
        true
    }

    /// Takes the right to change the set; false if another has it.
    fn may_change(&mut self, place: usize, task: usize) -> bool {
        let change = &mut self.at(place).change;
        if change.is_some_and(|holder| holder != task) {
            return false;
        }
        *change = Some(task);
        true
    }

    fn act(&mut self, place: usize, task: usize) -> bool {
        let need = self.places[place].standing.need(MANAGER);
        if need == Ok(Need::Nothing) {
            let here = self.at(place);
            here.change = here.change.filter(|holder| *holder != task);
            return true;
        }
        if !self.may_change(place, task) {
            return false;
        }
        match need {
            Ok(Need::Agree(other)) => {
                self.at(place).tasks[task].push(Step::Act);
                self.agree(place, task, other);
            }
            Ok(Need::Tell(other)) => {
                self.at(place).tasks[task].push(Step::Act);
                self.say(place, task, other, Say::Adopt);
            }
            _ => self.fails(place, task),
        }
        true
    }

    fn drop_out(&mut self, place: usize, task: usize, lost: usize) -> bool {
        if !self.may_change(place, task) {
            return false;
        }
        let here = self.at(place);
        if !here.standing.is_lost(lost) {
            here.tasks[task].push(Step::DropOut(lost));
            self.agree(place, task, lost);
            return true;
        }
        match here.standing.to_tell() {
            Some(other) => {
                here.tasks[task].push(Step::DropOut(lost));
                self.say(place, task, other, Say::Adopt);
            }
            None => here.change = None,
        }
        true
    }

    /// Asks all that can be reached, which ask the place in question. Where several may die there are nodes without a place
    /// too, so that those who are left are enough.
    fn agree(&mut self, place: usize, task: usize, other: usize) {
        let all = self.places.len();
        let others = if self.second_death { all..all + 2 } else { all..all };
        let left: Vec<usize> =
            (0..all).filter(|at| !self.places[place].standing.is_lost(*at)).chain(others.clone()).collect();
        let hears = |at: usize| {
            let (one, two) = (&self.places[place], &self.places[at]);
            two.alive && !has(one.gone, at) && !has(two.gone, place) && !self.is_cut(place, at)
        };
        let is_gone =
            |at: usize| !self.places[other].alive || self.is_cut(at, other) || has(self.places[at].gone, other);
        let votes: Vec<usize> =
            (0..all).filter(|at| *at != other && (*at == place || hears(*at)) && is_gone(*at)).collect();
        votes.iter().for_each(|at| self.lose(*at, other));
        let agree = others.filter(|_| !self.places[other].alive);
        let number = |at: usize| at as u32;
        let votes: Vec<u32> = votes.into_iter().chain(agree).filter(|at| left.contains(at)).map(number).collect();
        let left: Vec<u32> = left.into_iter().map(number).collect();
        match self.at(place).standing.judge(other, &left, &votes, place as u32) {
            Verdict::Lost => {}
            Verdict::Reachable | Verdict::Alone => self.fails(place, task),
        }
    }

    /// No answer will come any more, if the place is lost to this one.
    fn give_up(&mut self, place: usize, task: usize, to: usize, say: Say) -> bool {
        let here = self.at(place);
        if !has(here.gone, to) {
            return false;
        }
        match say {
            // The step below asks what is to be done now.
            Say::Adopt => self.agree(place, task, to),
            Say::Copy(_) | Say::Full => match here.tasks[task].pop() {
                Some(Step::Spread(value, _)) => here.tasks[task].extend([Step::Begin(value), Step::DropOut(to)]),
                _ => self.fails(place, task),
            },
        }
        true
    }

    fn decide(&mut self, place: usize, task: usize, bit: u8) {
        let flaw = self.flaw;
        let here = self.at(place);
        let value = here.value | bit;
        match flaw {
            Some(Flaw::AnswerFirst) => {
                here.tasks[task].extend([Step::Unlock, Step::Begin(value), Step::Answer(value), Step::Apply(value)]);
            }
            _ => here.tasks[task].extend([Step::Answer(value), Step::Unlock, Step::Apply(value), Step::Begin(value)]),
        }
    }

    /// Where a value goes now, with the lock of the key.
    fn begin(&mut self, place: usize, task: usize, value: u8) {
        let flaw = self.flaw;
        let here = self.at(place);
        match here.standing.need(MANAGER) {
            Ok(Need::Nothing) => {
                let is_one = |place: &usize| here.standing.followers(MANAGER).any(|to| to == *place);
                // The last of them is taken out first.
                let mut to: Vec<usize> = here.standing.order().filter(is_one).collect();
                if flaw != Some(Flaw::NextFirst) {
                    to.reverse();
                }
                here.tasks[task].push(Step::Spread(value, to));
            }
            Ok(_) => here.tasks[task].extend([Step::Begin(value), Step::Act]),
            Err(_) => self.fails(place, task),
        }
    }

    fn fill_next(&mut self, place: usize, task: usize) {
        let flaw = self.flaw;
        let here = self.at(place);
        let mine = here.standing.to_fill().into_iter().find(|(manager, _)| *manager == MANAGER);
        let Some((_, to)) = mine else { return };
        here.tasks[task].extend([Step::FillNext, Step::Filled(to), Step::Walk(to)]);
        if flaw != Some(Flaw::UnsettledFill) {
            // Writes that began before the copy was due are over.
            here.tasks[task].extend([Step::Unlock, Step::Lock]);
        }
        here.tasks[task].push(Step::Act);
    }
}
