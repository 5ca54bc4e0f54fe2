//! One process of a group.

use std::ffi::OsStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ProcessGroup;
use super::calls::{self, Answer, Call, View};
use super::exit::{Exit, ProcessState, Signal};
use super::group::STUCK;
use super::stream::{Input, Output};
use super::template::{Lead, Template};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::NodeId;
use crate::task::Outcome;
use crate::wire::Message;

/// One process of a group, or a process that is a group by itself.
///
/// ```
/// let _dragon = dragon::init()?;
/// let process = dragon::Process::function(|name: String| println!("hello {name}"), "you".to_string()).start()?;
/// assert!(process.join()?.success());
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Process {
    group: ProcessGroup,
    at: usize,
}

impl Process {
    pub(super) fn of(group: ProcessGroup, at: usize) -> Process {
        Process { group, at }
    }

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

    fn look(&self) -> Result<View> {
        match self.group.ask(&Call::LookAt(self.at))? {
            Answer::Process(view) => Ok(view),
            _ => Err(calls::strange()),
        }
    }

    /// Its process id on its node, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.look().ok()?.pid
    }

    /// Its node, since it was started.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.look().map_or(0, |view| view.node))
    }

    /// What it is doing. One whose group is gone has ended.
    pub fn state(&self) -> ProcessState {
        self.look().map_or(ProcessState::Ended, |view| view.state)
    }

    /// How it ended, if it has for good.
    pub fn exit(&self) -> Option<Exit> {
        self.look().ok()?.exit
    }

    /// Waits until it has ended for good.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it was not started; [`Closed`](ErrorKind::Closed) if the process
    /// that made its group is gone.
    pub fn join(&self) -> Result<Exit> {
        self.wait(None)
    }

    /// [`join`](Process::join) for at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut); it runs on.
    pub fn join_timeout(&self, patience: Duration) -> Result<Exit> {
        self.wait(Some(patience))
    }

    fn wait(&self, patience: Option<Duration>) -> Result<Exit> {
        self.group.wait(Some(self.at), patience)?.pop().ok_or_else(calls::strange)
    }

    /// Sends it a signal, and to what it has started. That it has ended is no error.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a signal that there is not; [`Closed`](ErrorKind::Closed).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.group.ask(&Call::Signal(Some(self.at), signal)).map(drop)
    }

    /// Ends it, as [`ProcessGroup::stop`] does, and says how it ended. It does not begin again.
    ///
    /// # Errors
    /// Those of [`ProcessGroup::stop`].
    pub fn stop(&self, patience: Duration) -> Result<Exit> {
        self.group.ask(&Call::Stop(Some(self.at), patience))?;
        self.wait(Some(patience + STUCK))
    }

    /// Kills it and what it has started, and says how it ended. It does not begin again.
    ///
    /// # Errors
    /// Those of [`ProcessGroup::stop`].
    pub fn kill(&self) -> Result<Exit> {
        self.group.ask(&Call::Kill(Some(self.at)))?;
        self.wait(Some(STUCK))
    }

    /// What it writes to its standard output, where the template says [`Stdio::Pipe`](crate::Stdio::Pipe). Once for each
    /// time that it was started, and only in the process that made its group.
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
        self.must_be_piped(which)?;
        let far = self.group.inner()?.far_stream(self.at, which).map(|(site, stream)| Output::far(site, stream));
        let near = || self.group.inner().ok()?.take_stream(self.at, which).map(Output::near);
        far.or_else(near).ok_or_else(|| self.no_pipe(which))
    }

    /// What it reads from its standard input, where the template says [`Stdio::Pipe`](crate::Stdio::Pipe). It sees the end
    /// when the value is dropped. Once for each time that it was started.
    ///
    /// # Errors
    /// Those of [`stdout`](Process::stdout).
    pub fn stdin(&self) -> Result<Input> {
        self.must_be_piped(0)?;
        let far = self.group.inner()?.far_stream(self.at, 0).map(|(site, stream)| Input::far(site, stream));
        let near = || self.group.inner().ok()?.take_stream(self.at, 0).map(Input::near);
        far.or_else(near).ok_or_else(|| self.no_pipe(0))
    }

    fn must_be_piped(&self, which: usize) -> Result<()> {
        let state = self.group.inner()?.lock();
        let wish = state.templates[state.of[self.at]].wish()?;
        if wish.stdio[which] == Lead::Pipe { Ok(()) } else { Err(self.no_pipe(which)) }
    }

    fn no_pipe(&self, which: usize) -> Error {
        let name = ["input", "output", "error"][which];
        let text = format!(
            "the standard {name} of process {} of group {:?} is no pipe, was taken already, or the process was not started",
            self.at,
            self.group.name()
        );
        Error::new(ErrorKind::InvalidArgument, text)
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({} of group {:?}, {:?})", self.at, self.group.name(), self.state())
    }
}
