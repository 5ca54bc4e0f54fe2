//! Groups of processes as their users see them.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;

use super::conductor;
use super::exit::{Exit, GroupEvent, GroupState, ProcessState, Signal};
use super::inner::Inner;
use super::plan::{Plan, Restart};
use super::stream::{Input, Output};
use super::template::{Lead, Template};
use crate::error::{Error, ErrorKind, Result};
use crate::pmi::Pmi;
use crate::runtime;
use crate::runtime::NodeId;
use crate::task::Outcome;
use crate::time::Deadline;
use crate::wire::Message;

/// How long a killed process may take to end before it counts as stuck in the kernel.
const STUCK: Duration = Duration::from_secs(10);

/// Settings of a [`ProcessGroup`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProcessGroupBuilder {
    name: String,
    restart: Restart,
    walltime: Option<Duration>,
    at_once: Option<usize>,
    node: Option<NodeId>,
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

    /// The node of processes whose template names none; the caller's, by default.
    pub fn node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
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
        Ok(ProcessGroup { inner, node: self.node })
    }
}

/// Any number of processes that are started, watched and ended together.
///
/// Each is a program or a function, as its [`Template`] says. Everything is checked before the first one is started:
/// programs, folders, files, nodes. A process leads a process group of its own, so that a signal reaches what it has
/// started too. When the last handle in the process that made the group is gone, or that process dies, all its
/// processes are killed.
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
    inner: Arc<Inner>,
    node: Option<NodeId>,
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

    /// Adds so many processes of this template.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) while the group runs; [`Closed`](ErrorKind::Closed);
    /// [`Codec`](ErrorKind::Codec) if the argument of a function cannot be encoded; [`NotFound`](ErrorKind::NotFound) for a
    /// node that is not there.
    pub fn add(&mut self, count: usize, template: Template) -> Result<()> {
        self.add_all(count, template)
    }

    pub(super) fn add_all(&self, count: usize, template: Template) -> Result<()> {
        let nodes = self.inner.core.place().nodes();
        let named = template.node.or(self.node).map(NodeId::number);
        if let Some(node) = named.filter(|node| *node >= nodes) {
            let text = format!("there is no node {node} in this job of {nodes}");
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        self.inner.add(count, template, named.unwrap_or_else(|| self.inner.default_node()))
    }

    /// Starts all its processes, or as many as may run at a time.
    ///
    /// A group whose processes have all ended can be started again.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for a program, folder or file that is not there and
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) for one that may not be used, before anything is started;
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) if the system lets no further process be made: then those that were
    /// started have been stopped. [`InvalidArgument`](ErrorKind::InvalidArgument) if the group runs or has no process;
    /// [`Closed`](ErrorKind::Closed); [`NodeLost`](ErrorKind::NodeLost).
    pub fn start(&self) -> Result<()> {
        self.inner.start()
    }

    /// Its processes, in the order in which they were added.
    pub fn processes(&self) -> Vec<Process> {
        (0..self.len()).map(|at| self.process(at)).collect()
    }

    pub(super) fn process(&self, at: usize) -> Process {
        Process { group: self.clone(), at }
    }

    /// How many processes it has.
    pub fn len(&self) -> usize {
        self.inner.lock().plan.len()
    }

    /// Whether it has no process.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it is called; nothing, if nobody gave it a name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What it is doing.
    pub fn state(&self) -> GroupState {
        self.inner.lock().plan.state()
    }

    /// Why it ended before its time, if it is an MPI program and did: which rank called `MPI_Abort` with which code, which one
    /// was killed or left.
    pub fn broken(&self) -> Option<String> {
        self.inner.lock().broken.clone()
    }

    /// The last 1,024 ends of its processes, of all attempts, in their order.
    pub fn ended(&self) -> Vec<Exit> {
        self.inner.lock().plan.history().to_vec()
    }

    /// What happens in the group from now on. Each call gives an independent stream.
    pub fn events(&self) -> GroupEvents {
        GroupEvents(self.inner.subscribe())
    }

    /// Waits until all its processes have ended, and says how: one end for each, in their order.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it was not started.
    pub fn join(&self) -> Result<Vec<Exit>> {
        self.join_by(Deadline::Never)
    }

    /// [`join`](ProcessGroup::join) for at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut); the group runs on.
    pub fn join_timeout(&self, patience: Duration) -> Result<Vec<Exit>> {
        self.join_by(Deadline::after(patience))
    }

    fn join_by(&self, deadline: Deadline) -> Result<Vec<Exit>> {
        if !self.inner.lock().plan.has_begun() {
            return Err(self.inner.refused("was not started"));
        }
        self.inner.wait(deadline)
    }

    /// Sends a signal to all its processes that run, and to what they have started.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the group does not run, or for a signal that there is not;
    /// [`Closed`](ErrorKind::Closed).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.must_run()?;
        self.inner.decide(|plan, _| plan.signal(0..plan.len(), signal))
    }

    /// Ends all its processes, really: INT now, TERM in the middle of the patience, KILL at its end. Returns when all have
    /// ended.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the group does not run; [`Closed`](ErrorKind::Closed);
    /// [`TimedOut`](ErrorKind::TimedOut) if ten seconds after KILL one has not ended: it is stuck in the kernel.
    pub fn stop(&self, patience: Duration) -> Result<()> {
        self.must_run()?;
        self.inner.decide(|plan, now| plan.stop(0..plan.len(), patience, now))?;
        self.inner.wait(Deadline::after(patience + STUCK)).map(drop)
    }

    /// Kills all its processes and what they have started, and returns when they have ended.
    ///
    /// # Errors
    /// Those of [`stop`](ProcessGroup::stop).
    pub fn kill(&self) -> Result<()> {
        self.must_run()?;
        self.kill_all()
    }

    fn kill_all(&self) -> Result<()> {
        self.inner.decide(|plan, _| plan.kill(0..plan.len()))?;
        self.inner.wait(Deadline::after(STUCK)).map(drop)
    }

    /// Kills what is left of it, and lets it do nothing more. Idempotent.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) as [`kill`](ProcessGroup::kill).
    pub fn close(&self) -> Result<()> {
        if self.state() == GroupState::Closed {
            return Ok(());
        }
        let ended = self.kill_all();
        let mut state = self.inner.lock();
        state.plan.close();
        let yard = state.yard.take();
        drop(state);
        yard.iter().for_each(|yard| yard.clear());
        ended
    }

    fn must_run(&self) -> Result<()> {
        match self.state() {
            GroupState::Running => Ok(()),
            GroupState::Closed => Err(self.inner.closed()),
            GroupState::Idle => Err(self.inner.refused("does not run")),
        }
    }
}

impl std::fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessGroup({:?}, {} processes, {:?})", self.inner.name, self.len(), self.state())
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

/// One process of a group, or a process that is a group by itself.
///
/// ```
/// let _dragon = dragon::init()?;
/// let process = dragon::Process::function(|name: String| println!("hello {name}"), "you".to_string()).start()?;
/// assert!(process.join()?.success());
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone)]
pub struct Process {
    group: ProcessGroup,
    at: usize,
}

impl Process {
    /// The template of a process that runs a program: a path, or a name that is looked up in `PATH`.
    pub fn program(program: impl AsRef<OsStr>) -> Template {
        Template::program(program)
    }

    /// The template of a process that runs a function of this program: see [`Template::function`].
    pub fn function<F, T, R>(function: F, argument: T) -> Template
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Outcome + 'static,
    {
        Template::function(function, argument)
    }

    /// Its number in its group, from 0.
    pub fn id(&self) -> usize {
        self.at
    }

    /// The group it is of.
    pub fn group(&self) -> &ProcessGroup {
        &self.group
    }

    /// Its process id on its node, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.inner().lock().plan.pid(self.at)
    }

    /// Its node.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.inner().lock().plan.node(self.at))
    }

    /// What it is doing.
    pub fn state(&self) -> ProcessState {
        self.inner().lock().plan.member_state(self.at)
    }

    /// How it ended, if it has for good.
    pub fn exit(&self) -> Option<Exit> {
        self.inner().lock().plan.exit(self.at)
    }

    /// Waits until it has ended for good.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it was not started.
    pub fn join(&self) -> Result<Exit> {
        self.inner().wait_for(self.at, Deadline::Never)
    }

    /// [`join`](Process::join) for at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut); it runs on.
    pub fn join_timeout(&self, patience: Duration) -> Result<Exit> {
        self.inner().wait_for(self.at, Deadline::after(patience))
    }

    /// Sends it a signal, and to what it has started. That it has ended is no error.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a signal that there is not.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.inner().decide(|plan, _| plan.signal(self.at..self.at + 1, signal))
    }

    /// Ends it, as [`ProcessGroup::stop`] does, and says how it ended. It does not begin again.
    ///
    /// # Errors
    /// Those of [`ProcessGroup::stop`].
    pub fn stop(&self, patience: Duration) -> Result<Exit> {
        self.inner().decide(|plan, now| plan.stop(self.at..self.at + 1, patience, now))?;
        self.inner().wait_for(self.at, Deadline::after(patience + STUCK))
    }

    /// Kills it and what it has started, and says how it ended. It does not begin again.
    ///
    /// # Errors
    /// Those of [`ProcessGroup::stop`].
    pub fn kill(&self) -> Result<Exit> {
        self.inner().decide(|plan, _| plan.kill(self.at..self.at + 1))?;
        self.inner().wait_for(self.at, Deadline::after(STUCK))
    }

    /// What it writes to its standard output, where the template says [`Stdio::Pipe`](crate::Stdio::Pipe). Once for each
    /// time that it was started.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it has no such pipe, was not started, or the pipe was taken.
    pub fn stdout(&self) -> Result<Output> {
        self.output(1)
    }

    /// What it writes to its standard error: as [`stdout`](Process::stdout).
    ///
    /// # Errors
    /// Those of [`stdout`](Process::stdout).
    pub fn stderr(&self) -> Result<Output> {
        self.output(2)
    }

    fn output(&self, which: usize) -> Result<Output> {
        let yard = self.pipe(which)?;
        yard.take_stream(self.at, which).map(Output::near).ok_or_else(|| self.no_pipe(which))
    }

    /// What it reads from its standard input, where the template says [`Stdio::Pipe`](crate::Stdio::Pipe). It sees the end
    /// when the value is dropped. Once for each time that it was started.
    ///
    /// # Errors
    /// Those of [`stdout`](Process::stdout).
    pub fn stdin(&self) -> Result<Input> {
        let yard = self.pipe(0)?;
        yard.take_stream(self.at, 0).map(Input::near).ok_or_else(|| self.no_pipe(0))
    }

    fn pipe(&self, which: usize) -> Result<Arc<super::yard::Yard>> {
        let state = self.inner().lock();
        let wish = state.templates[state.of[self.at]].wish()?;
        let yard = state.yard.clone().filter(|_| wish.stdio[which] == Lead::Pipe);
        yard.ok_or_else(|| self.no_pipe(which))
    }

    fn no_pipe(&self, which: usize) -> Error {
        let name = ["input", "output", "error"][which];
        let text = format!(
            "the standard {name} of process {} of {} is no pipe, was taken already, or the process was not started",
            self.at,
            self.inner().who()
        );
        Error::new(ErrorKind::InvalidArgument, text)
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.group.inner
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({} of {}, {:?})", self.at, self.inner().who(), self.state())
    }
}
