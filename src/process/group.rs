//! Groups of processes as their users see them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::Process;
use super::calls::{self, Answer, Call, Whom};
use super::conductor;
use super::door::{Address, Remote};
use super::exit::{Exit, GroupEvent, GroupState, Signal};
use super::inner::Inner;
use super::plan::{Plan, Restart};
use super::template::Template;
use crate::error::{Error, ErrorKind, Result};
use crate::pmi::Pmi;
use crate::policy::Policy;
use crate::runtime;
use crate::runtime::NodeId;

/// How long a killed process may take to end before it counts as stuck in the kernel.
pub(super) const STUCK: Duration = Duration::from_secs(10);

/// Settings of a [`ProcessGroup`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProcessGroupBuilder {
    name: String,
    restart: Restart,
    walltime: Option<Duration>,
    at_once: Option<usize>,
    policy: Policy,
    pmi: Pmi,
}

impl ProcessGroupBuilder {
    /// What it is called in errors and before labelled lines.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// When a process that has ended is started again; never, by default. One that keeps ending within a second pauses
    /// before it begins again, from 10 ms up to a second.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How long the group may run: then it is stopped, within half a second.
    pub fn walltime(mut self, walltime: Duration) -> Self {
        self.walltime = Some(walltime);
        self
    }

    /// How many of its processes may run at a time; the others wait until one has ended. All, by default.
    pub fn at_once(mut self, most: usize) -> Self {
        self.at_once = Some(most);
        self
    }

    /// Where its processes run, and with which cpus and GPUs, as far as their templates leave it open.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy.over(&self.policy);
        self
    }

    /// The node of its processes: short for a policy.
    pub fn node(self, node: NodeId) -> Self {
        self.policy(Policy::new().node(node))
    }

    /// Whether its processes are ranks of an MPI program, which they are without any `mpiexec`; they are not, by default.
    ///
    /// Ranks are numbered in the order of the processes. They begin all at once and none begins again. One that ends
    /// otherwise than with code 0, calls `MPI_Abort`, or leaves the others waiting, ends the group: it has its own exit, the
    /// others were ended by [`Signal::KILL`], and [`ProcessGroup::broken`] says why.
    pub fn pmi(mut self, pmi: Pmi) -> Self {
        self.pmi = pmi;
        self
    }

    /// Makes the group. Nothing is started.
    ///
    /// # Errors
    /// [`NotInitialized`](ErrorKind::NotInitialized); [`InvalidArgument`](ErrorKind::InvalidArgument) for 0 at a time.
    pub fn build(self) -> Result<ProcessGroup> {
        if self.at_once == Some(0) {
            return Err(Error::new(ErrorKind::InvalidArgument, "a group runs at least one process at a time, not 0"));
        }
        let core = runtime::current()?;
        let plan = Plan::new(self.restart, self.at_once.unwrap_or(usize::MAX), self.walltime);
        let inner = Inner::new(self.name, core, conductor::conductor()?, self.pmi, plan);
        Ok(ProcessGroup { body: Body::Here(inner), policy: self.policy })
    }
}

/// Any number of processes that are started, watched and ended together.
///
/// Each is a program or a function, as its [`Template`] says. Everything is checked before the first one is started:
/// programs, folders, files, nodes. A process leads a process group of its own, so that a signal reaches what it has
/// started too. When the last handle in the process that made the group is gone, or that process dies, all its
/// processes are killed.
///
/// A handle is a value: put into the argument of a task, a message or a dictionary, it is the same group in the process
/// that takes it out, on any node. There it can be looked at, started, signalled, waited for and ended; when the process that
/// made it is gone, such calls fail with [`Closed`](ErrorKind::Closed), or with [`NodeLost`](ErrorKind::NodeLost).
///
/// ```
/// let _dragon = dragon::init()?;
/// let mut group = dragon::ProcessGroup::builder().name("demo").build()?;
/// group.add(2, dragon::Template::program("/bin/sh").args(["-c", "exit 7"]))?;
/// group.add(1, dragon::Template::function(|code: i32| code, 5))?;
/// group.start()?;
/// let codes: Vec<_> = group.join()?.iter().map(|exit| exit.code()).collect();
/// assert_eq!(codes, [Some(7), Some(7), Some(5)]);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone)]
pub struct ProcessGroup {
    body: Body,
    /// Where its processes run, as far as their templates leave it open.
    policy: Policy,
}

#[derive(Clone)]
enum Body {
    /// This process made it.
    Here(Arc<Inner>),
    There(Arc<Remote>),
}

impl ProcessGroup {
    /// A group without processes.
    ///
    /// # Errors
    /// [`NotInitialized`](ErrorKind::NotInitialized).
    pub fn new() -> Result<ProcessGroup> {
        ProcessGroup::builder().build()
    }

    /// Settings of a group.
    pub fn builder() -> ProcessGroupBuilder {
        ProcessGroupBuilder::default()
    }

    /// Adds so many processes of this template. Only in the process that made the group.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) while the group runs, or elsewhere; [`Closed`](ErrorKind::Closed);
    /// [`Codec`](ErrorKind::Codec) if the argument of a function cannot be encoded.
    pub fn add(&mut self, count: usize, template: Template) -> Result<()> {
        self.add_all(count, template)
    }

    pub(super) fn add_all(&self, count: usize, template: Template) -> Result<()> {
        let policy = template.policy.clone().over(&self.policy).over(&Policy::current());
        self.inner()?.add(count, template, policy)
    }

    /// Starts all its processes, or as many as may run at a time.
    ///
    /// A group whose processes have all ended can be started again.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for a program, folder, file, node, cpu or GPU that is not there and
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) for one that may not be used, before anything is started;
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) if the system lets no further process be made: then those that were
    /// started have been stopped. [`InvalidArgument`](ErrorKind::InvalidArgument) if the group runs or has no process;
    /// [`Closed`](ErrorKind::Closed); [`NodeLost`](ErrorKind::NodeLost).
    pub fn start(&self) -> Result<()> {
        self.ask(&Call::Start).map(drop)
    }

    /// Its processes, in the order in which they were added. None can be seen of a group whose maker is gone.
    pub fn processes(&self) -> Vec<Process> {
        (0..self.len()).map(|at| self.process(at)).collect()
    }

    pub(super) fn process(&self, at: usize) -> Process {
        Process::of(self.clone(), at)
    }

    /// How many processes it has.
    pub fn len(&self) -> usize {
        self.look().map_or(0, |(_, len)| len)
    }

    /// Whether it has no process.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it is called; nothing, if nobody gave it a name.
    pub fn name(&self) -> &str {
        match &self.body {
            Body::Here(inner) => &inner.name,
            Body::There(remote) => remote.name(),
        }
    }

    /// What it is doing. A group whose maker is gone is closed.
    pub fn state(&self) -> GroupState {
        self.look().map_or(GroupState::Closed, |(state, _)| state)
    }

    fn look(&self) -> Result<(GroupState, usize)> {
        match self.ask(&Call::Look)? {
            Answer::Group { state, len } => Ok((state, len)),
            _ => Err(calls::strange()),
        }
    }

    /// Why it ended before its time, if it is an MPI program and did: which rank called `MPI_Abort` with which code, which one
    /// was killed or left.
    pub fn broken(&self) -> Option<String> {
        match self.ask(&Call::Broken) {
            Ok(Answer::Broken(why)) => why,
            _ => None,
        }
    }

    /// The last 1,024 ends of its processes, of all attempts, in their order.
    pub fn ended(&self) -> Vec<Exit> {
        match self.ask(&Call::History) {
            Ok(Answer::Exits(exits)) => exits,
            _ => Vec::new(),
        }
    }

    /// What happens in the group from now on. Each call gives an independent stream. Only in the process that made it.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) elsewhere.
    pub fn events(&self) -> Result<GroupEvents> {
        Ok(GroupEvents(self.inner()?.subscribe()))
    }

    /// Waits until all its processes have ended, and says how: one end for each, in their order.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it was not started; [`Closed`](ErrorKind::Closed) if the process
    /// that made it is gone.
    pub fn join(&self) -> Result<Vec<Exit>> {
        self.wait(None, None)
    }

    /// [`join`](ProcessGroup::join) for at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut); the group runs on.
    pub fn join_timeout(&self, patience: Duration) -> Result<Vec<Exit>> {
        self.wait(None, Some(patience))
    }

    pub(super) fn wait(&self, whom: Whom, patience: Option<Duration>) -> Result<Vec<Exit>> {
        match self.ask(&Call::Wait(whom, patience))? {
            Answer::Exits(exits) => Ok(exits),
            _ => Err(calls::strange()),
        }
    }

    /// Sends a signal to all its processes that run, and to what they have started.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the group does not run, or for a signal that there is not;
    /// [`Closed`](ErrorKind::Closed).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.ask(&Call::Signal(None, signal)).map(drop)
    }

    /// Ends all its processes, really: INT now, TERM in the middle of the patience, KILL at its end. Returns when all have
    /// ended.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the group does not run; [`Closed`](ErrorKind::Closed);
    /// [`TimedOut`](ErrorKind::TimedOut) if ten seconds after KILL one has not ended: it is stuck in the kernel.
    pub fn stop(&self, patience: Duration) -> Result<()> {
        self.ask(&Call::Stop(None, patience))?;
        self.wait(None, Some(patience + STUCK)).map(drop)
    }

    /// Kills all its processes and what they have started, and returns when they have ended.
    ///
    /// # Errors
    /// Those of [`stop`](ProcessGroup::stop).
    pub fn kill(&self) -> Result<()> {
        self.ask(&Call::Kill(None))?;
        self.wait(None, Some(STUCK)).map(drop)
    }

    /// Kills what is left of it, and lets it do nothing more. Idempotent.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) as [`kill`](ProcessGroup::kill).
    pub fn close(&self) -> Result<()> {
        match self.state() {
            GroupState::Closed => return Ok(()),
            GroupState::Running => self.kill()?,
            GroupState::Idle => {}
        }
        self.ask(&Call::Close).map(drop)
    }

    pub(super) fn ask(&self, call: &Call) -> Result<Answer> {
        match &self.body {
            Body::Here(inner) => call.perform(inner),
            Body::There(remote) => remote.ask(call),
        }
    }

    /// The group itself, where it was made.
    pub(super) fn inner(&self) -> Result<&Arc<Inner>> {
        match &self.body {
            Body::Here(inner) => Ok(inner),
            Body::There(remote) => {
                let text = format!(
                    "group {:?} was made by another process, and only there processes are added and their pipes and \
                     events read",
                    remote.name()
                );
                Err(Error::new(ErrorKind::InvalidArgument, text))
            }
        }
    }
}

impl Serialize for ProcessGroup {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.body {
            Body::Here(inner) => inner.address().map_err(ser::Error::custom)?.serialize(serializer),
            Body::There(remote) => remote.address.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ProcessGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<ProcessGroup, D::Error> {
        let remote = Remote::new(Address::deserialize(deserializer)?);
        Ok(ProcessGroup { body: Body::There(Arc::new(remote)), policy: Policy::new() })
    }
}

impl std::fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessGroup({:?}, {} processes, {:?})", self.name(), self.len(), self.state())
    }
}

/// A stream of what happens in a group. As an iterator it waits for the next event and ends with the group.
#[derive(Debug)]
pub struct GroupEvents(Receiver<GroupEvent>);

impl GroupEvents {
    /// The next event if there is one already.
    pub fn try_next(&self) -> Option<GroupEvent> {
        self.0.try_recv().ok()
    }

    /// The next event, waiting at most this long.
    pub fn next_timeout(&self, patience: Duration) -> Option<GroupEvent> {
        self.0.recv_timeout(patience).ok()
    }
}

impl Iterator for GroupEvents {
    type Item = GroupEvent;

    fn next(&mut self) -> Option<GroupEvent> {
        self.0.recv().ok()
    }
}
