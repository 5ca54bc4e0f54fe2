//! What a group decides: who begins when, who is pushed to end, who begins again. A value: time and ends come in as
//! arguments, and what is to be done comes out; nothing here starts, signals or waits.
//!
//! ```text
//! Idle ── start ──▶ Waiting ── room ──▶ Starting ── started ──▶ Running ── ended ──▶ Ended
//!                      ▲                                                      │
//!                      └────────────── Restart, after a pause ────────────────┘
//! ```

use std::time::{Duration, Instant};

use super::exit::{Exit, GroupEvent, GroupState, How, ProcessState, Signal};
use crate::id::NodeNumber;
use crate::runtime::NodeId;

/// When a process of a group is started again after its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    #[default]
    Never,
    /// When it ended otherwise than with code 0, at most so many times.
    OnFailure {
        /// How many times.
        max: u32,
    },
    /// However it ended, at most so many times; a group of such processes ends when it is stopped.
    Always {
        /// How many times.
        max: u32,
    },
}

/// A process that lived this long has begun well: it is started again at once.
const WELL: Duration = Duration::from_secs(1);
/// The pause before the second start in a row that did not go well; it doubles up to [`WELL`].
const PAUSE: Duration = Duration::from_millis(10);
/// How long processes have to end when their time is up.
pub(super) const WALLTIME_PATIENCE: Duration = Duration::from_millis(500);
/// How long one has to end that has said that it is about to.
const SOON: Duration = Duration::from_millis(250);
/// So many ends are remembered.
const HISTORY: usize = 1024;

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Launch { member: usize, attempt: u32 },
    Signal { member: usize, signal: Signal },
    Tell(GroupEvent),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Not before this instant.
    Waiting(Option<Instant>),
    Starting,
    Running(Instant),
    Ended,
}

/// Somebody wants it to end: the signal that it got last, and when it gets the next ones.
#[derive(Clone, Copy, Debug)]
struct Push {
    signal: Signal,
    term: Option<Instant>,
    kill: Option<Instant>,
}

impl Push {
    fn next(&self) -> Option<Instant> {
        self.term.or(self.kill)
    }
}

struct Member {
    phase: Phase,
    node: NodeNumber,
    pid: u32,
    attempt: u32,
    /// Starts in a row that did not go well.
    failed: u32,
    push: Option<Push>,
    exit: Option<How>,
}

/// The group as a value.
pub(super) struct Plan {
    members: Vec<Member>,
    restart: Restart,
    /// Most that run at a time.
    at_once: usize,
    walltime: Option<Duration>,
    until: Option<Instant>,
    state: GroupState,
    begun: bool,
    history: Vec<Exit>,
}

impl Plan {
    pub(super) fn new(restart: Restart, at_once: usize, walltime: Option<Duration>) -> Plan {
        let (members, history) = (Vec::new(), Vec::new());
        let (until, state, begun) = (None, GroupState::Idle, false);
        Plan { members, restart, at_once, walltime, until, state, begun, history }
    }

    pub(super) fn add(&mut self, node: NodeNumber) {
        let (phase, push, exit) = (Phase::Idle, None, None);
        self.members.push(Member { phase, node, pid: 0, attempt: 0, failed: 0, push, exit });
    }

    pub(super) fn state(&self) -> GroupState {
        self.state
    }

    /// Whether it was ever started.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn close(&mut self) {
        self.state = GroupState::Closed;
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn node(&self, member: usize) -> NodeNumber {
        self.members[member].node
    }

    pub(super) fn attempt(&self, member: usize) -> u32 {
        self.members[member].attempt
    }

    pub(super) fn pid(&self, member: usize) -> Option<u32> {
        matches!(self.members[member].phase, Phase::Running(_)).then_some(self.members[member].pid)
    }

    pub(super) fn member_state(&self, member: usize) -> ProcessState {
        match self.members[member].phase {
            Phase::Idle => ProcessState::Idle,
            Phase::Waiting(_) | Phase::Starting => ProcessState::Waiting,
            Phase::Running(_) => ProcessState::Running,
            Phase::Ended => ProcessState::Ended,
        }
    }

    /// How it ended, if it has and does not begin again.
    pub(super) fn exit(&self, member: usize) -> Option<Exit> {
        let one = &self.members[member];
        let how = one.exit.clone().filter(|_| one.phase == Phase::Ended)?;
        Some(Exit { process: member, pid: one.pid, node: one.node, restarts: one.attempt.saturating_sub(1), how })
    }

    /// The last ends, of all attempts.
    pub(super) fn history(&self) -> &[Exit] {
        &self.history
    }

    pub(super) fn start(&mut self, now: Instant) -> Vec<Effect> {
        (self.state, self.begun) = (GroupState::Running, true);
        self.until = self.walltime.and_then(|walltime| now.checked_add(walltime));
        for member in &mut self.members {
            *member = Member { phase: Phase::Waiting(None), node: member.node, ..Member::new() };
        }
        self.fill(now)
    }

    /// What was started is not, before anything of it was launched.
    pub(super) fn unstart(&mut self) {
        self.state = GroupState::Idle;
        self.members.iter_mut().for_each(|member| member.phase = Phase::Idle);
    }

    /// Whoever waits begins, as far as there is room.
    fn fill(&mut self, now: Instant) -> Vec<Effect> {
        let busy = |member: &&Member| matches!(member.phase, Phase::Starting | Phase::Running(_));
        let mut room = self.at_once.saturating_sub(self.members.iter().filter(busy).count());
        let mut effects = Vec::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            let due = matches!(member.phase, Phase::Waiting(from) if from.is_none_or(|from| from <= now));
            if due && room > 0 {
                room -= 1;
                member.attempt += 1;
                member.phase = Phase::Starting;
                effects.push(Effect::Launch { member: at, attempt: member.attempt });
            }
        }
        effects
    }

    pub(super) fn started(&mut self, member: usize, attempt: u32, pid: u32, now: Instant) -> Vec<Effect> {
        let one = &mut self.members[member];
        // Else it has ended already, which was heard first.
        if one.attempt != attempt || one.phase != Phase::Starting {
            return Vec::new();
        }
        one.phase = Phase::Running(now);
        one.pid = pid;
        let node = NodeId::new(one.node);
        let mut effects = vec![Effect::Tell(GroupEvent::Started { process: member, pid, node, restarts: attempt - 1 })];
        // Somebody wanted it to end while it was being started.
        effects.extend(one.push.map(|push| Effect::Signal { member, signal: push.signal }));
        effects
    }

    /// A process has ended. `pid` is 0 if it never began.
    pub(super) fn ended(&mut self, member: usize, attempt: u32, pid: u32, how: How, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if pid != 0 {
            // Its end may be heard first.
            effects.extend(self.started(member, attempt, pid, now));
        }
        let one = &mut self.members[member];
        let lived = match one.phase {
            Phase::Running(since) => now.duration_since(since),
            Phase::Starting => Duration::ZERO,
            _ => return effects,
        };
        if one.attempt != attempt {
            return effects;
        }
        let never_began = matches!(how, How::NotStarted(_));
        let exit = Exit { process: member, pid, node: one.node, restarts: attempt - 1, how: how.clone() };
        if one.push.take().is_some() {
            // What it started and did not take along.
            effects.push(Effect::Signal { member, signal: Signal::KILL });
            one.phase = Phase::Ended;
        } else {
            let again = match self.restart {
                Restart::Never => false,
                Restart::OnFailure { max } => how != How::Code(0) && attempt <= max,
                Restart::Always { max } => attempt <= max,
            };
            let again = again && !never_began && self.state == GroupState::Running && !matches!(how, How::Lost(_));
            one.failed = if lived >= WELL { 0 } else { one.failed + 1 };
            let pause = PAUSE.saturating_mul(1 << one.failed.saturating_sub(2).min(7)).min(WELL);
            let from = (one.failed > 1).then_some(now + pause);
            one.phase = if again { Phase::Waiting(from) } else { Phase::Ended };
        }
        one.pid = pid;
        one.exit = Some(how);
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push(exit.clone());
        effects.push(Effect::Tell(GroupEvent::Ended(exit)));
        effects.extend(self.fill(now));
        effects.extend(self.settle());
        effects
    }

    fn settle(&mut self) -> Option<Effect> {
        let over = self.members.iter().all(|member| member.phase == Phase::Ended);
        (over && self.state == GroupState::Running).then(|| {
            (self.state, self.until) = (GroupState::Idle, None);
            Effect::Tell(GroupEvent::Finished)
        })
    }

    /// Pushes these to end: with INT, in the middle of the patience with TERM, at its end with KILL.
    pub(super) fn stop(
        &mut self,
        members: impl Iterator<Item = usize>,
        patience: Duration,
        now: Instant,
    ) -> Vec<Effect> {
        let push = Push { signal: Signal::INT, term: now.checked_add(patience / 2), kill: now.checked_add(patience) };
        self.push(members, push)
    }

    /// It is about to end by itself; if it does not within [`SOON`], it is killed.
    pub(super) fn end_soon(&mut self, member: usize, now: Instant) -> Vec<Effect> {
        // One that was stopped goes on.
        self.push(std::iter::once(member), Push { signal: Signal::CONT, term: None, kill: now.checked_add(SOON) })
    }

    /// Whether all run at a time, and none begins again.
    pub(super) fn starts_each_once_and_at_once(&self) -> bool {
        self.restart == Restart::Never && self.at_once >= self.members.len()
    }

    pub(super) fn kill(&mut self, members: impl Iterator<Item = usize>) -> Vec<Effect> {
        self.push(members, Push { signal: Signal::KILL, term: None, kill: None })
    }

    fn push(&mut self, members: impl Iterator<Item = usize>, push: Push) -> Vec<Effect> {
        let mut effects = Vec::new();
        for at in members {
            let member = &mut self.members[at];
            match member.phase {
                Phase::Waiting(_) => {
                    member.phase = Phase::Ended;
                    let never = || How::NotStarted("it was stopped before".into());
                    member.exit.get_or_insert_with(never);
                }
                Phase::Starting => member.push = Some(push),
                Phase::Running(_) => {
                    member.push = Some(push);
                    effects.push(Effect::Signal { member: at, signal: push.signal });
                }
                // Those that it started and that are left.
                Phase::Ended if push.signal == Signal::KILL => {
                    effects.push(Effect::Signal { member: at, signal: push.signal });
                }
                Phase::Ended | Phase::Idle => {}
            }
        }
        effects.extend(self.settle());
        effects
    }

    /// Those of these that run get a signal.
    pub(super) fn signal(&mut self, members: impl Iterator<Item = usize>, signal: Signal) -> Vec<Effect> {
        members.filter(|at| self.pid(*at).is_some()).map(|member| Effect::Signal { member, signal }).collect()
    }

    /// What is due by now.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            effects.extend(self.stop(0..self.members.len(), WALLTIME_PATIENCE, now));
        }
        for (at, member) in self.members.iter_mut().enumerate() {
            let Some(push) = &mut member.push else { continue };
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            let signal = if due(push.kill) {
                (push.term, push.kill) = (None, None);
                Signal::KILL
            } else if due(push.term) {
                push.term = None;
                Signal::TERM
            } else {
                continue;
            };
            push.signal = signal;
            if matches!(member.phase, Phase::Running(_)) {
                effects.push(Effect::Signal { member: at, signal });
            }
        }
        effects.extend(self.fill(now));
        effects
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let busy = self.members.iter().filter(|member| matches!(member.phase, Phase::Starting | Phase::Running(_)));
        let room = busy.count() < self.at_once;
        let of = |member: &Member| match member.phase {
            // Without room it waits for an end, whatever the time.
            Phase::Waiting(from) => from.filter(|_| room),
            _ => member.push.as_ref().and_then(Push::next),
        };
        self.members.iter().filter_map(of).chain(self.until).min()
    }

    /// All members on a node that is lost.
    #[expect(dead_code, reason = "for processes on other nodes, which come next")]
    pub(super) fn lost(&mut self, node: NodeNumber, why: &str, now: Instant) -> Vec<Effect> {
        let there: Vec<_> = (0..self.len()).filter(|member| self.node(*member) == node).collect();
        let mut effects = Vec::new();
        for member in there {
            let (attempt, pid) = (self.attempt(member), self.members[member].pid);
            effects.extend(self.ended(member, attempt, pid, How::Lost(why.into()), now));
            // Nothing can begin there any more.
            if matches!(self.members[member].phase, Phase::Waiting(_)) {
                effects.extend(self.kill(std::iter::once(member)));
            }
        }
        effects
    }
}

impl Member {
    fn new() -> Member {
        Member { phase: Phase::Idle, node: 0, pid: 0, attempt: 0, failed: 0, push: None, exit: None }
    }
}
