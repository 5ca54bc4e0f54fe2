//! Starting one child: a program, or the same program once more, which becomes a worker before its `main`.
//!
//! A worker is told who it is by the first record on its control socket, which is its standard input, and ends when the
//! socket does. A program knows nothing of us: it is killed when the agent that started it ends.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
};

use crossbeam::channel::Sender;

use super::ServiceError;
use super::agent::ChildEnd;
use crate::bootstrap::makes_a_rank;
use crate::id::ProcId;
use crate::mm::Memory;
use crate::policy::Seat;
use crate::sys;
use crate::sys::launch::{Launch, NotLaunched, launch};
use crate::task::FnRef;
use crate::task::birth::{self, Hello};
use crate::wire;

/// What to start.
pub(crate) struct Order {
    /// What it does.
    pub(crate) work: Work,
    /// What surrounds it.
    pub(crate) setting: Setting,
    /// What its end is told under; the caller's own.
    pub(crate) key: u64,
    /// Who hears of the child's end.
    pub(crate) ended: Sender<ChildEnd>,
}

/// What a child does.
pub(crate) enum Work {
    /// This very program, with the function that it runs instead of `main`.
    Function {
        entry: FnRef,
        /// What the function is told; a few kilobytes at most, larger things travel in shared memory.
        argument: Vec<u8>,
    },
    /// Any program: its file, and its arguments from the zeroth on.
    Program { file: PathBuf, arguments: Vec<OsString> },
}

/// What surrounds a child.
#[derive(Clone, Default)]
pub(crate) struct Setting {
    /// Variables besides those of this process; the last of a name counts.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Whether it gets none of this process's variables.
    pub(crate) bare: bool,
    /// Where it begins; where this process is, by default.
    pub(crate) cwd: Option<PathBuf>,
    /// Standard input, output and error; this process's own, by default.
    pub(crate) stdio: [Option<Arc<OwnedFd>>; 3],
    /// Further descriptors, and the number of each in the child.
    pub(crate) descriptors: Vec<(Arc<OwnedFd>, i32)>,
    /// Processors it may use; all that this process may, by default.
    pub(crate) cpus: Vec<usize>,
    /// Whether it leads a process group, so that a signal reaches those that it starts too.
    pub(crate) leads_group: bool,
}

impl Order {
    /// An order for a worker, which runs a function of this program.
    pub(crate) fn worker(entry: FnRef, argument: Vec<u8>, ended: Sender<ChildEnd>) -> Order {
        Order { work: Work::Function { entry, argument }, setting: Setting::default(), key: 0, ended }
    }

    /// On this seat.
    pub(crate) fn on(mut self, seat: &Seat) -> Order {
        self.setting.take_seat(seat);
        self
    }
}

impl Setting {
    /// Its processors and its GPUs are those of the seat.
    pub(crate) fn take_seat(&mut self, seat: &Seat) {
        self.cpus = seat.cpus.clone().unwrap_or_default();
        self.env.extend(seat.env.iter().map(|(name, value)| (name.into(), value.into())));
    }
}

/// A child that has been started.
#[derive(Clone)]
pub(crate) struct Born {
    /// Which of this process's children it is. Its place and its process id may be another's some day.
    pub(crate) serial: u64,
    /// Its place in the node's process table; nobody's, of a program.
    pub(crate) process: ProcId,
    /// Its process id.
    pub(crate) pid: u32,
    leads_group: bool,
    /// For signals; becomes readable when it ends.
    pub(super) pidfd: Arc<OwnedFd>,
}

impl Born {
    /// Kills it; that it has ended already is no error.
    pub(crate) fn kill(&self) -> io::Result<()> {
        sys::process::kill(&self.pidfd)
    }

    /// Sends a signal to it, and to those of its process group if it leads one. That none is left is no error.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        if self.leads_group {
            return sys::process::signal_group(&self.pidfd, self.pid, signal);
        }
        sys::process::signal(&self.pidfd, signal)
    }
}

/// A living child, as its agent keeps it.
pub(super) struct Living {
    pub(super) born: Born,
    pub(super) key: u64,
    pub(super) ended: Sender<ChildEnd>,
    /// A worker lives as long as this end of its control socket does.
    pub(super) control: Option<OwnedFd>,
}

impl Living {
    /// Reaps it, waiting until it has ended.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        sys::process::wait(self.born.pidfd.as_fd())
    }
}

/// Starts one child. On an error nothing of it is left. It is killed when the calling thread ends.
pub(super) fn spawn(memory: &Memory, serial: u64, order: Order) -> Result<Living, ServiceError> {
    let Order { work, setting, key, ended } = order;
    match work {
        Work::Program { file, arguments } => {
            let (pid, pidfd) = start(&file, &arguments, &setting, None)?;
            let born =
                Born { serial, process: ProcId::NONE, pid, leads_group: setting.leads_group, pidfd: Arc::new(pidfd) };
            Ok(Living { born, key, ended, control: None })
        }
        Work::Function { entry, argument } => {
            let process = memory.reserve_process()?;
            mark!("process.spawn.reserved");
            let started = start_worker(memory, process, &setting, entry, &argument);
            let (pid, pidfd, control) = started.inspect_err(|_| memory.abandon_process(process))?;
            let born = Born { serial, process, pid, leads_group: setting.leads_group, pidfd: Arc::new(pidfd) };
            Ok(Living { born, key, ended, control: Some(control) })
        }
    }
}

fn start_worker(
    memory: &Memory,
    process: ProcId,
    setting: &Setting,
    entry: FnRef,
    argument: &[u8],
) -> Result<(u32, OwnedFd, OwnedFd), ServiceError> {
    let (ours, theirs) = sys::socket::pair().map_err(|e| ServiceError::spawn("its control socket", e))?;
    // The command line of this very program, even if its file was replaced meanwhile.
    let arguments: Vec<_> = std::env::args_os().take(1).collect();
    let (pid, pidfd) = start(Path::new("/proc/self/exe"), &arguments, setting, Some(theirs))?;
    mark!("process.spawn.born");
    memory.process_started(process, pid);
    mark!("process.spawn.known");
    match introduce(memory, process, &ours, setting, entry, argument) {
        Ok(()) => Ok((pid, pidfd, ours)),
        Err(error) => {
            drop(ours);
            // Both fail only for a child that has ended, which is what is wanted.
            let _ = sys::process::kill(&pidfd);
            let _ = sys::process::wait(pidfd.as_fd());
            Err(error)
        }
    }
}

/// Starts a process. One with a control socket is a worker and has that for its standard input.
fn start(
    file: &Path,
    arguments: &[OsString],
    setting: &Setting,
    control: Option<OwnedFd>,
) -> Result<(u32, OwnedFd), ServiceError> {
    let program = c_string(file.as_os_str())?;
    let arguments = arguments.iter().map(|argument| c_string(argument)).collect::<Result<Vec<_>, _>>()?;
    let environment = environment(setting, control.is_some())?;
    let cwd = setting.cwd.as_ref().map(|cwd| c_string(cwd.as_os_str())).transpose()?;
    let mut descriptors: Vec<(BorrowedFd<'_>, i32)> = Vec::new();
    for (number, descriptor) in (0..).zip(&setting.stdio) {
        match (&control, descriptor) {
            (Some(control), _) if number == 0 => descriptors.push((control.as_fd(), number)),
            (_, Some(descriptor)) => descriptors.push((descriptor.as_fd(), number)),
            (_, None) => {}
        }
    }
    descriptors.extend(setting.descriptors.iter().map(|(descriptor, number)| (descriptor.as_fd(), *number)));
    let started = launch(&Launch {
        program: &program,
        arguments: &arguments,
        environment: &environment,
        cwd: cwd.as_deref(),
        descriptors: &descriptors,
        cpus: &setting.cpus,
        leads_group: setting.leads_group,
    });
    started.map_err(|NotLaunched { step, source }| match control {
        Some(_) => ServiceError::spawn(step, source),
        None => ServiceError::of_program(file, step, source),
    })
}

/// The variables of a child, each once.
fn environment(setting: &Setting, is_worker: bool) -> Result<Vec<CString>, ServiceError> {
    let mut all = BTreeMap::new();
    if !setting.bare {
        // What makes a rank of this process must not make one of its children.
        all.extend(std::env::vars_os().filter(|(name, _)| !name.to_str().is_some_and(makes_a_rank)));
    }
    all.extend(setting.env.iter().cloned());
    if is_worker {
        all.insert(birth::VARIABLE.into(), sys::process::id().to_string().into());
    }
    let line = |(name, value): (OsString, OsString)| {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend_from_slice(value.as_bytes());
        c_string(OsStr::from_bytes(&line))
    };
    all.into_iter().map(line).collect()
}

fn c_string(text: &OsStr) -> Result<CString, ServiceError> {
    CString::new(text.as_bytes()).map_err(|_| ServiceError::ZeroByte { text: text.to_string_lossy().into_owned() })
}

/// Tells the child who it is and hands it the node's memory, and its standard input if that is not nothing.
fn introduce(
    memory: &Memory,
    process: ProcId,
    socket: &OwnedFd,
    setting: &Setting,
    entry: FnRef,
    told: &[u8],
) -> Result<(), ServiceError> {
    let mut argument = process.0.to_le_bytes().to_vec();
    argument.extend_from_slice(told);
    let mut hello = Vec::new();
    wire::encode(&Hello { entry, argument }, &mut hello)?;
    let mut descriptors = vec![memory.descriptor()];
    descriptors.extend(setting.stdio[0].as_ref().map(|stdin| stdin.as_fd()));
    match sys::socket::send(socket.as_fd(), &hello, &descriptors) {
        // A child that ended before it was told anything is reported by its end, like any other.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(ServiceError::spawn("telling it who it is", e)),
        Ok(()) => Ok(()),
    }
}

/// Takes apart what a child was told: its place in the process table, and what its entry was told.
pub(crate) fn read_argument(argument: &[u8]) -> Option<(ProcId, &[u8])> {
    let (process, told) = argument.split_first_chunk()?;
    Some((ProcId(u16::from_le_bytes(*process)), told))
}
