//! A group in the process that made it: the plan, and the shell that carries out what it decides.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};
use once_cell::sync::OnceCell;

use super::conductor::Conductor;
use super::door::Address;
use super::exit::{Exit, GroupEvent, GroupState, How, Signal};
use super::group::STUCK;
use super::plan::{Effect, Plan};
use super::ranks::{Outfit, Quarters, Ranks};
use super::site::{FarStart, StreamId};
use super::sites::{FarSite, Sites};
use super::template::{Template, Wish};
use super::yard::{Home, Start, Yard};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::pmi::{Ending, Pmi, Speaks};
use crate::policy::{Policy, Seat};
use crate::runtime::Core;
use crate::time::{Deadline, now};

/// So many are ordered of the agent at a time: between, it sees to those that have ended.
const AT_A_TIME: usize = 32;
/// So many events wait for a listener that does not come.
const BACKLOG: usize = 4096;

/// A group.
pub(super) struct Inner {
    pub(super) name: String,
    pub(super) core: Arc<Core>,
    pub(super) conductor: Arc<Conductor>,
    pub(super) pmi: Pmi,
    state: Mutex<State>,
    changed: Condvar,
    /// Where other processes ask; since a handle was sent to one.
    address: OnceCell<Address>,
}

pub(super) struct State {
    pub(super) plan: Plan,
    pub(super) templates: Vec<Template>,
    /// The template of each member.
    pub(super) of: Vec<usize>,
    /// Where so many members shall go.
    wanted: Vec<(Policy, usize)>,
    /// Where each member is, since the last start.
    seats: Vec<Seat>,
    /// Those on this node, and those on others; since the last start.
    pub(super) yard: Option<Arc<Yard>>,
    pub(super) sites: Arc<Sites>,
    /// The ranks of the MPI program that it is, if it is one.
    ranks: Option<Ranks>,
    /// Why its ranks had to end.
    pub(super) broken: Option<String>,
    listeners: Vec<Sender<GroupEvent>>,
    /// So many wait for one of its processes, and not for all.
    for_one: usize,
}

impl State {
    /// The template of a member, and where it is.
    fn order(&self, member: usize) -> (usize, Option<Seat>) {
        (self.of[member], self.seats.get(member).cloned())
    }

    /// What each node has to know: the wishes of its processes, each under its number.
    fn wishes(&self) -> Result<Vec<(NodeNumber, Vec<Option<Wish>>)>> {
        let mut nodes: Vec<(NodeNumber, Vec<Option<Wish>>)> = Vec::new();
        for (member, wish) in self.of.iter().enumerate() {
            let node = self.plan.node(member);
            let at = nodes.iter().position(|(other, _)| *other == node).unwrap_or_else(|| {
                nodes.push((node, vec![None; self.templates.len()]));
                nodes.len() - 1
            });
            if nodes[at].1[*wish].is_none() {
                nodes[at].1[*wish] = Some(self.templates[*wish].wish()?.clone());
            }
        }
        Ok(nodes)
    }
}

/// What is to be launched: member and attempt.
type Launches = Vec<(usize, u32)>;

impl Inner {
    pub(super) fn new(name: String, core: Arc<Core>, conductor: Arc<Conductor>, pmi: Pmi, plan: Plan) -> Arc<Inner> {
        let state = State {
            plan,
            templates: Vec::new(),
            of: Vec::new(),
            wanted: Vec::new(),
            seats: Vec::new(),
            yard: None,
            sites: Arc::default(),
            ranks: None,
            broken: None,
            listeners: Vec::new(),
            for_one: 0,
        };
        let (changed, address) = (Condvar::new(), OnceCell::new());
        let inner = Inner { name, core, conductor, pmi, state: Mutex::new(state), changed, address };
        let inner = Arc::new(inner);
        inner.conductor.admit(&inner);
        inner
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self) -> NodeNumber {
        self.core.place().node()
    }

    pub(super) fn add(&self, count: usize, template: Template, policy: Policy) -> Result<()> {
        template.wish()?;
        let mut state = self.lock();
        match state.plan.state() {
            GroupState::Idle => {}
            GroupState::Running => return Err(self.refused("takes no more processes while it runs")),
            GroupState::Closed => return Err(self.closed()),
        }
        let at = state.templates.len();
        state.templates.push(template);
        state.wanted.push((policy, count));
        (0..count).for_each(|_| state.plan.add(self.here()));
        state.of.extend(std::iter::repeat_n(at, count));
        Ok(())
    }

    pub(super) fn start(self: &Arc<Self>) -> Result<()> {
        let wanted = self.lock().wanted.clone();
        // It may have to ask other nodes what they have.
        let seats = self.core.seats(&wanted)?;
        let (effects, wishes) = {
            let mut state = self.lock();
            match state.plan.state() {
                GroupState::Idle if state.plan.len() == 0 => {
                    return Err(self.refused("has no process: add some before it is started"));
                }
                GroupState::Idle if state.plan.len() != seats.len() => {
                    return Err(self.refused("got processes while it was started"));
                }
                GroupState::Idle => {}
                GroupState::Running => return Err(self.refused("runs already")),
                GroupState::Closed => return Err(self.closed()),
            }
            seats.iter().enumerate().for_each(|(member, seat)| state.plan.place(member, seat.node.number()));
            state.seats = seats;
            (state.plan.start(now()), state.wishes()?)
        };
        if let Err(error) = self.prepare(wishes) {
            self.lock().plan.unstart();
            self.changed.notify_all();
            return Err(error);
        }
        self.carry_out(effects).map_err(|error| self.undo(error))
    }

    /// Checks all on all nodes.
    fn prepare(self: &Arc<Self>, mut wishes: Vec<(NodeNumber, Vec<Option<Wish>>)>) -> Result<()> {
        let here = wishes.iter().position(|(node, _)| *node == self.here()).map(|at| wishes.remove(at).1);
        let yard = here.map(|wishes| Yard::new(Home::Own(self.core.clone()), &self.name, &wishes)).transpose()?;
        let sites = Sites::found(self, wishes)?;
        let speaks = yard.as_ref().map(|yard| yard.speaks(self.pmi)).unwrap_or_default();
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.yard, yard.map(Arc::new));
        let sites = std::mem::replace(&mut state.sites, Arc::new(sites));
        drop(state);
        before.iter().for_each(|yard| yard.clear());
        sites.clear();
        self.serve_ranks(&speaks)
    }

    /// If it is an MPI program: from now on its ranks are served, on all nodes. `here` is of each template, on this node.
    fn serve_ranks(self: &Arc<Self>, here: &[Speaks]) -> Result<()> {
        let (speaks, nodes, fits) = {
            let mut state = self.lock();
            // Those of an earlier start are served no more.
            (state.ranks, state.broken) = (None, None);
            let speaks = |member: usize| match state.sites.on(state.plan.node(member)) {
                Some(site) => site.speaks.get(state.of[member]).copied().unwrap_or_default(),
                None => here.get(state.of[member]).copied().unwrap_or_default(),
            };
            let members = 0..state.plan.len();
            let speaks: Vec<Speaks> = members.clone().map(speaks).collect();
            let nodes: Vec<NodeNumber> = members.map(|member| state.plan.node(member)).collect();
            (speaks, nodes, state.plan.starts_each_once_and_at_once())
        };
        if !fits && speaks.iter().any(|speaks| speaks.anything()) {
            let why = "is an MPI program: its ranks begin all at once and none begins again, so neither `at_once` nor \
                       `restart` can be served (`pmi(Pmi::None)` if they are no ranks)";
            return Err(self.refused(why));
        }
        let sites = self.lock().sites.clone();
        let ranks = Ranks::open(self, &sites, &speaks, &nodes)?;
        self.lock().ranks = ranks;
        Ok(())
    }

    /// The ranks must end: those that others wait for may do so by themselves, for a moment.
    pub(super) fn ranks_end(self: &Arc<Self>, ending: &Ending) {
        let (own, why) = {
            let mut state = self.lock();
            let Some(ranks) = &mut state.ranks else { return };
            let (own, why) = ranks.explain(ending);
            if let (Ending::Abort { .. }, Some(broken)) = (ending, &mut state.broken) {
                // Its word came later than its end.
                broken.clone_from(&why);
            }
            (own, why)
        };
        self.break_up(own, why);
    }

    /// A process here ended badly: what it has said before, such as that it aborts, is to be known first.
    pub(super) fn hear_out(&self) {
        let state = self.lock();
        let served =
            state.ranks.as_ref().filter(|_| state.broken.is_none()).and_then(Ranks::here).map(Quarters::served);
        drop(state);
        served.iter().for_each(|served| served.hear_out());
    }

    /// Ends all but one, which gets a moment to end by itself.
    fn break_up(self: &Arc<Self>, own: Option<usize>, why: String) {
        {
            let mut state = self.lock();
            if state.broken.is_some() {
                return; // what follows from the first end is no news
            }
            tracing::debug!(group = self.name, why, "the ranks of an MPI program end");
            state.broken = Some(why);
        }
        let done = self.decide(|plan, now| {
            let mut effects = plan.kill((0..plan.len()).filter(|member| Some(*member) != own));
            effects.extend(own.map(|own| plan.end_soon(own, now)).unwrap_or_default());
            effects
        });
        if let Err(error) = done {
            tracing::error!(group = self.name, %error, "ranks of an MPI program cannot be ended");
        }
    }

    /// A part could not be started: the rest ends too.
    fn undo(self: &Arc<Self>, error: Error) -> Error {
        let (all, begun) = {
            let state = self.lock();
            let all = state.plan.len();
            (all, (0..all).filter(|member| state.plan.pid(*member).is_some()).count())
        };
        let killed = self.decide(|plan, _| plan.kill(0..plan.len()));
        let _ = killed.and_then(|()| self.wait(Deadline::Never)); // what was started is killed, and ends
        let text = format!("{error}; {begun} of the {all} processes of {} ran by then and were stopped", self.who());
        Error::new(error.kind(), text)
    }

    /// Lets the plan decide, and does what it says.
    pub(super) fn decide(self: &Arc<Self>, what: impl FnOnce(&mut Plan, Instant) -> Vec<Effect>) -> Result<()> {
        let effects = what(&mut self.lock().plan, now());
        self.carry_out(effects)
    }

    fn carry_out(self: &Arc<Self>, effects: Vec<Effect>) -> Result<()> {
        let mut launches = Launches::new();
        let mut failed = self.tell_and_signal(effects, &mut launches);
        let mut at = 0;
        while at < launches.len() {
            let end = launches.len().min(at + AT_A_TIME);
            let part = launches[at..end].to_vec();
            at = end;
            let effects = match &failed {
                None => {
                    let mut effects = Vec::new();
                    failed = self.launch(&part, &mut effects).err();
                    effects
                }
                // Those behind one that failed.
                Some(error) => self.not_started(&part, error),
            };
            let also = self.tell_and_signal(effects, &mut launches);
            failed = failed.or(also);
        }
        let state = self.lock();
        // Each end of many need not wake one who waits for all of them.
        if state.plan.state() != GroupState::Running || state.for_one > 0 {
            self.changed.notify_all();
        }
        if state.plan.deadline().is_some() {
            self.conductor.wake();
        }
        drop(state);
        failed.map_or(Ok(()), Err)
    }

    /// Does what needs no wait, and puts aside what is to be launched.
    fn tell_and_signal(&self, effects: Vec<Effect>, launches: &mut Launches) -> Option<Error> {
        let mut failed = None;
        for effect in effects {
            match effect {
                Effect::Launch { member, attempt } => launches.push((member, attempt)),
                Effect::Tell(event) => self.tell(event),
                Effect::Signal { member, signal } => {
                    if let Err(error) = self.signal(member, signal) {
                        failed.get_or_insert(error);
                    }
                }
            }
        }
        failed
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        let (node, yard, sites) = {
            let state = self.lock();
            (state.plan.node(member), state.yard.clone(), state.sites.clone())
        };
        match sites.on(node) {
            Some(site) => site.signal(member, signal),
            None => yard.map_or(Ok(()), |yard| yard.signal(member, signal)),
        }
    }

    /// Launches these, node by node.
    fn launch(self: &Arc<Self>, part: &[(usize, u32)], effects: &mut Vec<Effect>) -> Result<()> {
        let mut left = part.to_vec();
        let mut failed = None;
        while let Some((first, _)) = left.first() {
            let node = self.lock().plan.node(*first);
            let there = |(member, _): &(usize, u32)| self.lock().plan.node(*member) == node;
            let (these, others): (Vec<_>, Vec<_>) = left.iter().copied().partition(there);
            left = others;
            let started = match &failed {
                None if node == self.here() => self.launch_here(&these),
                None => self.launch_there(&these, node),
                Some(_) => Err(self.refused("is given up")),
            };
            match started {
                Ok(pids) => {
                    let mut state = self.lock();
                    for ((member, attempt), pid) in these.iter().zip(pids) {
                        effects.extend(state.plan.started(*member, *attempt, pid, now()));
                    }
                }
                Err(error) => {
                    effects.extend(self.not_started(&these, failed.as_ref().unwrap_or(&error)));
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn launch_here(self: &Arc<Self>, part: &[(usize, u32)]) -> Result<Vec<u32>> {
        let (yard, mut outfits) = {
            let mut state = self.lock();
            let take = |ranks: &mut Ranks| part.iter().map(|(member, _)| (*member, ranks.take(*member))).collect();
            let outfits: HashMap<usize, Outfit> = state.ranks.as_mut().map(take).unwrap_or_default();
            (state.yard.clone(), outfits)
        };
        let yard = yard.ok_or_else(|| self.refused("was not prepared"))?;
        let starts = part.iter().map(|&(member, attempt)| {
            let key = self.conductor.key(self, member, attempt);
            let (wish, seat) = self.lock().order(member);
            let (env, descriptors) = outfits.remove(&member).unwrap_or_default();
            Start { member, attempt, wish, key, seat, env, descriptors }
        });
        let starts: Vec<Start> = starts.collect();
        let started = yard.start(&starts, &self.conductor.ends);
        started.inspect_err(|_| starts.iter().for_each(|start| self.conductor.forget(start.key)))
    }

    fn launch_there(&self, part: &[(usize, u32)], node: NodeNumber) -> Result<Vec<u32>> {
        let site = self.lock().sites.on(node).ok_or_else(|| self.refused("was not prepared"))?;
        let start = |&(member, attempt): &(usize, u32)| {
            let (wish, seat) = self.lock().order(member);
            FarStart { member: member as u32, attempt, wish: wish as u32, seat, env: Vec::new() }
        };
        site.start(&part.iter().map(start).collect::<Vec<_>>())
    }

    fn not_started(&self, part: &[(usize, u32)], error: &Error) -> Vec<Effect> {
        let mut state = self.lock();
        let how = How::NotStarted(error.to_string());
        part.iter().flat_map(|(member, attempt)| state.plan.ended(*member, *attempt, 0, how.clone(), now())).collect()
    }

    /// A process of this group has ended.
    pub(super) fn ended(self: &Arc<Self>, member: usize, attempt: u32, pid: u32, how: How) {
        let how = match &self.lock().ranks {
            Some(ranks) => ranks.judge(member, how),
            None => how,
        };
        let bad = (how != How::Code(0)).then(|| how.to_string());
        if let Err(error) = self.decide(|plan, now| plan.ended(member, attempt, pid, how, now)) {
            tracing::error!(group = self.name, process = member, %error, "after a process of a group ended");
        }
        let is_rank = self.lock().ranks.as_ref().is_some_and(|ranks| ranks.has(member));
        if let (true, Some(how)) = (is_rank, bad) {
            self.break_up(None, format!("process {member} {how}"));
        }
    }

    /// A node is lost.
    pub(super) fn lost(self: &Arc<Self>, node: NodeNumber, why: &str) {
        if let Err(error) = self.decide(|plan, now| plan.lost(node, why, now)) {
            tracing::error!(group = self.name, node, %error, "after a node of a group was lost");
        }
        if self.lock().ranks.is_some() {
            self.break_up(None, format!("node {node} with some of its ranks is lost: {why}"));
        }
    }

    /// Our end of a pipe of a process on this node.
    pub(super) fn take_stream(&self, member: usize, which: usize) -> Option<OwnedFd> {
        let state = self.lock();
        let (yard, attempt) = (state.yard.clone()?, state.plan.attempt(member));
        drop(state);
        yard.take_stream(member, attempt, which)
    }

    /// The way to a pipe of a process on another node.
    pub(super) fn far_stream(&self, member: usize, which: usize) -> Option<(Arc<FarSite>, StreamId)> {
        let state = self.lock();
        let site = state.sites.on(state.plan.node(member))?;
        Some((site, (member as u32, state.plan.attempt(member), which as u8)))
    }

    /// Where other processes ask.
    pub(super) fn address(self: &Arc<Self>) -> Result<&Address> {
        self.address.get_or_try_init(|| Address::open(self))
    }

    /// Ends it: nothing of it runs any more.
    pub(super) fn close(self: &Arc<Self>) -> Result<()> {
        let killed = self.decide(|plan, _| plan.kill(0..plan.len()));
        let begun = self.lock().plan.has_begun();
        let wait = || if begun { self.wait(Deadline::after(STUCK)).map(drop) } else { Ok(()) };
        let ended = killed.and_then(|()| wait());
        self.lock().plan.close();
        self.clear();
        self.changed.notify_all();
        ended
    }

    /// Kills what is left, for good.
    fn clear(&self) {
        let mut state = self.lock();
        let (yard, sites) = (state.yard.take(), std::mem::take(&mut state.sites));
        drop(state);
        yard.iter().for_each(|yard| yard.clear());
        sites.clear();
    }

    /// Does what is due, and says when something is again.
    pub(super) fn mind(self: &Arc<Self>) -> Option<Instant> {
        let due = self.lock().plan.deadline().is_some_and(|due| due <= now());
        if due && let Err(error) = self.decide(|plan, now| plan.tick(now)) {
            tracing::error!(group = self.name, %error, "what was due in a group could not be done");
        }
        self.lock().plan.deadline()
    }

    /// Waits until nothing of the group runs.
    pub(super) fn wait(&self, deadline: Deadline) -> Result<Vec<Exit>> {
        let over = |state: &State| state.plan.state() != GroupState::Running;
        let state = self.wait_until(deadline, over)?;
        let yard = state.yard.clone();
        drop(state);
        yard.iter().for_each(|yard| yard.flush());
        let state = self.lock();
        Ok((0..state.plan.len()).filter_map(|member| state.plan.exit(member)).collect())
    }

    /// Waits until one process has ended for good.
    pub(super) fn wait_for(&self, member: usize, deadline: Deadline) -> Result<Exit> {
        self.lock().for_one += 1;
        let waited = self.wait_until(deadline, |state| state.plan.exit(member).is_some());
        let waited = waited.map(drop);
        let mut state = self.lock();
        state.for_one -= 1;
        waited?;
        let gone = || self.refused("has no such process that has ended");
        state.plan.exit(member).ok_or_else(gone)
    }

    fn wait_until(&self, deadline: Deadline, over: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        loop {
            if !state.plan.has_begun() {
                return Err(self.refused("was not started"));
            }
            if over(&state) {
                return Ok(state);
            }
            state = match deadline.left() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Err(self.late(&state)),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn late(&self, state: &State) -> Error {
        let alive = (0..state.plan.len()).filter(|member| state.plan.pid(*member).is_some()).count();
        let text = format!("{alive} processes of {} still run when the time is up", self.who());
        Error::new(ErrorKind::TimedOut, text)
    }

    pub(super) fn subscribe(&self) -> Receiver<GroupEvent> {
        let (sender, receiver) = bounded(BACKLOG);
        self.lock().listeners.push(sender);
        receiver
    }

    fn tell(&self, event: GroupEvent) {
        self.lock().listeners.retain(|listener| match listener.try_send(event.clone()) {
            Err(error) if error.is_disconnected() => false,
            Err(_) => {
                tracing::warn!(?event, "a listener of a group is late and misses this event");
                true
            }
            Ok(()) => true,
        });
    }

    pub(super) fn who(&self) -> String {
        if self.name.is_empty() { "the group".into() } else { format!("group {:?}", self.name) }
    }

    pub(super) fn refused(&self, why: &str) -> Error {
        Error::new(ErrorKind::InvalidArgument, format!("{} {why}", self.who()))
    }

    pub(super) fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("{} is closed", self.who()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.clear();
        self.address.get().iter().for_each(|address| address.close());
    }
}
