//! A group in the process that made it: the plan, and the shell that carries out what it decides.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::conductor::Conductor;
use super::exit::{Exit, GroupEvent, GroupState, How};
use super::plan::{Effect, Plan};
use super::ranks::{Outfit, Ranks};
use super::template::Template;
use super::yard::{Home, Start, Yard};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::pmi::{Ending, Pmi, Speaks};
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
    pmi: Pmi,
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) plan: Plan,
    pub(super) templates: Vec<Template>,
    /// The template of each member.
    pub(super) of: Vec<usize>,
    pub(super) yard: Option<Arc<Yard>>,
    /// The ranks of the MPI program that it is, if it is one.
    ranks: Option<Ranks>,
    /// Why its ranks had to end.
    pub(super) broken: Option<String>,
    listeners: Vec<Sender<GroupEvent>>,
}

/// What is to be launched: member and attempt.
type Launches = Vec<(usize, u32)>;

impl Inner {
    pub(super) fn new(name: String, core: Arc<Core>, conductor: Arc<Conductor>, pmi: Pmi, plan: Plan) -> Arc<Inner> {
        let (templates, of, listeners) = (Vec::new(), Vec::new(), Vec::new());
        let state = State { plan, templates, of, yard: None, ranks: None, broken: None, listeners };
        let inner = Inner { name, core, conductor, pmi, state: Mutex::new(state), changed: Condvar::new() };
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

    pub(super) fn add(&self, count: usize, template: Template, node: NodeNumber) -> Result<()> {
        template.wish()?;
        let mut state = self.lock();
        match state.plan.state() {
            GroupState::Idle => {}
            GroupState::Running => return Err(self.refused("takes no more processes while it runs")),
            GroupState::Closed => return Err(self.closed()),
        }
        let at = state.templates.len();
        state.templates.push(template);
        (0..count).for_each(|_| state.plan.add(node));
        state.of.extend(std::iter::repeat_n(at, count));
        Ok(())
    }

    pub(super) fn start(self: &Arc<Self>) -> Result<()> {
        let (effects, templates) = {
            let mut state = self.lock();
            match state.plan.state() {
                GroupState::Idle if state.plan.len() == 0 => {
                    return Err(self.refused("has no process: add some before it is started"));
                }
                GroupState::Idle => {}
                GroupState::Running => return Err(self.refused("runs already")),
                GroupState::Closed => return Err(self.closed()),
            }
            (state.plan.start(now()), state.templates.clone())
        };
        if let Err(error) = self.prepare(&templates) {
            self.lock().plan.unstart();
            self.changed.notify_all();
            return Err(error);
        }
        self.carry_out(effects).map_err(|error| self.undo(error))
    }

    /// Checks all on all nodes.
    fn prepare(self: &Arc<Self>, templates: &[Template]) -> Result<()> {
        let wishes = templates.iter().map(|template| template.wish().cloned()).collect::<Result<Vec<_>>>()?;
        let yard = Yard::new(Home::Own(self.core.clone()), &wishes)?;
        let speaks = yard.speaks(self.pmi);
        let before = self.lock().yard.replace(Arc::new(yard));
        before.iter().for_each(|yard| yard.clear());
        self.serve_ranks(&speaks)
    }

    /// If it is an MPI program: from now on its ranks are served. `speaks` is of each template.
    fn serve_ranks(self: &Arc<Self>, speaks: &[Speaks]) -> Result<()> {
        let (speaks, nodes, fits): (Vec<Speaks>, Vec<NodeNumber>, bool) = {
            let mut state = self.lock();
            // Those of an earlier start are served no more.
            (state.ranks, state.broken) = (None, None);
            let speaks = state.of.iter().map(|template| speaks[*template]).collect();
            let nodes = (0..state.plan.len()).map(|member| state.plan.node(member)).collect();
            (speaks, nodes, state.plan.starts_each_once_and_at_once())
        };
        if !fits && speaks.iter().any(|speaks| speaks.anything()) {
            let why = "is an MPI program: its ranks begin all at once and none begins again, so neither `at_once` nor `restart` \
                       can be served (`pmi(Pmi::None)` if they are no ranks)";
            return Err(self.refused(why));
        }
        let ranks = Ranks::open(self, &speaks, &nodes)?;
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
                None => self.launch(&part).unwrap_or_else(|error| {
                    let effects = self.not_started(&part, &error);
                    failed = Some(error);
                    effects
                }),
                // Those behind one that failed.
                Some(error) => self.not_started(&part, error),
            };
            let also = self.tell_and_signal(effects, &mut launches);
            failed = failed.or(also);
        }
        self.changed.notify_all();
        if self.lock().plan.deadline().is_some() {
            self.conductor.wake();
        }
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
                    let yard = self.lock().yard.clone();
                    if let Some(Err(error)) = yard.map(|yard| yard.signal(member, signal)) {
                        failed.get_or_insert(error);
                    }
                }
            }
        }
        failed
    }

    fn launch(self: &Arc<Self>, part: &[(usize, u32)]) -> Result<Vec<Effect>> {
        let (yard, of, mut outfits) = {
            let mut state = self.lock();
            let take = |ranks: &mut Ranks| part.iter().map(|(member, _)| (*member, ranks.take(*member))).collect();
            let outfits: HashMap<usize, Outfit> = state.ranks.as_mut().map(take).unwrap_or_default();
            (state.yard.clone(), part.iter().map(|(member, _)| state.of[*member]).collect::<Vec<_>>(), outfits)
        };
        let yard = yard.ok_or_else(|| self.refused("was not prepared"))?;
        let starts = part.iter().zip(of).map(|((member, attempt), wish)| {
            let key = self.conductor.key(self, *member, *attempt);
            let (env, descriptors) = outfits.remove(member).unwrap_or_default();
            Start { member: *member, wish, key, env, descriptors }
        });
        let starts: Vec<Start> = starts.collect();
        let started = yard.start(&starts, &self.conductor.ends);
        let pids = started.inspect_err(|_| starts.iter().for_each(|start| self.conductor.forget(start.key)))?;
        let mut state = self.lock();
        let begun = part.iter().zip(pids).map(|((member, attempt), pid)| (*member, *attempt, pid));
        Ok(begun.flat_map(|(member, attempt, pid)| state.plan.started(member, attempt, pid, now())).collect())
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
        Ok((0..state.plan.len()).filter_map(|member| state.plan.exit(member)).collect())
    }

    /// Waits until one process has ended for good.
    pub(super) fn wait_for(&self, member: usize, deadline: Deadline) -> Result<Exit> {
        let state = self.wait_until(deadline, |state| state.plan.exit(member).is_some())?;
        let gone = || self.refused("has no such process that has ended");
        state.plan.exit(member).ok_or_else(gone)
    }

    fn wait_until(&self, deadline: Deadline, over: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        loop {
            if over(&state) {
                return Ok(state);
            }
            if !state.plan.has_begun() {
                return Err(self.refused("was not started"));
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

    /// The node on which a process is started that says none.
    pub(super) fn default_node(&self) -> NodeNumber {
        self.here()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.yard.iter().for_each(|yard| yard.clear());
    }
}
