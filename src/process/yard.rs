//! Where processes of a group are started on one node: in the owner's process, or, for an owner on another node, in the
//! process that is the node's host.
//!
//! Everything that can be checked is checked before the first process is started: programs, folders, files.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::Sender;

use super::entry::{self, Argument, Told};
use super::exit::Signal;
use super::labels::Labels;
use super::template::{Job, Lead, Wish};
use crate::error::{Error, ErrorKind, Result};
use crate::mm::{Block, Memory, MemoryConfig};
use crate::pmi::{Pmi, Speaks, choose};
use crate::policy::Seat;
use crate::runtime;
use crate::runtime::Core;
use crate::services::{Born, ChildEnd, Order, Setting, Venue, Work};
use crate::sys;
use crate::task::{self, thunk};
use crate::wire;

/// An argument up to this length is told; a longer one lies in shared memory.
const TOLD: usize = 4 << 10;

/// Where the loader looks for libraries besides.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Whose agent starts them.
pub(super) enum Home {
    Own(Arc<Core>),
    Guest(Arc<Venue>),
}

impl Home {
    fn memory(&self) -> &Arc<Memory> {
        match self {
            Home::Own(core) => core.memory(),
            Home::Guest(venue) => &venue.memory,
        }
    }

    fn config(&self) -> &MemoryConfig {
        match self {
            Home::Own(core) => core.config(),
            Home::Guest(venue) => &venue.config,
        }
    }

    fn spawn(&self, orders: Vec<Order>) -> Result<Vec<Born>> {
        match self {
            Home::Own(core) => core.spawn(orders),
            Home::Guest(venue) => Ok(venue.agent.spawn(orders)?),
        }
    }

    /// The machine, for errors, and which node it is where there are several.
    fn name(&self) -> String {
        let node = match self {
            Home::Own(core) if core.place().nodes() == 1 => return runtime::host_name(),
            Home::Own(core) => core.place().node(),
            Home::Guest(venue) => venue.node(),
        };
        format!("{} (node {node})", runtime::host_name())
    }
}

/// A wish that was checked.
struct Ready {
    work: Prepared,
    setting: Setting,
    stdio: [Lead; 3],
    labelled: bool,
}

enum Prepared {
    Program {
        file: PathBuf,
        arguments: Vec<OsString>,
    },
    /// What the child is told, and what keeps its argument where it stands.
    Function {
        told: Vec<u8>,
        _argument: Option<Block>,
    },
}

/// One process to start.
pub(super) struct Start {
    pub(super) member: usize,
    pub(super) attempt: u32,
    /// Which of the wishes.
    pub(super) wish: usize,
    /// What its end is told under.
    pub(super) key: u64,
    /// Its cpus and GPUs.
    pub(super) seat: Option<Seat>,
    /// Variables and descriptors that it alone gets.
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) descriptors: Vec<(Arc<OwnedFd>, i32)>,
}

/// A process that was started, and our ends of its pipes.
struct Berth {
    born: Born,
    attempt: u32,
    streams: [Option<OwnedFd>; 3],
}

/// The processes of a group on one node.
pub(super) struct Yard {
    home: Home,
    /// By number of the wish: those of this node.
    ready: Vec<Option<Ready>>,
    /// Puts names before lines, where a wish says so.
    labels: Labels,
    berths: Mutex<HashMap<usize, Berth>>,
}

impl Yard {
    /// Checks everything. Starts nothing.
    pub(super) fn new(home: Home, name: &str, wishes: &[Option<Wish>]) -> Result<Yard> {
        let prepare = |wish: &Option<Wish>| wish.as_ref().map(|wish| prepare(&home, wish)).transpose();
        let ready = wishes.iter().map(prepare).collect::<Result<_>>()?;
        Ok(Yard { home, ready, labels: Labels::new(name), berths: Mutex::default() })
    }

    /// What processes of each wish are given, to be ranks of an MPI program.
    pub(super) fn speaks(&self, pmi: Pmi) -> Vec<Speaks> {
        let of = |ready: &Ready| match &ready.work {
            Prepared::Program { file, .. } => {
                let named = ready.setting.env.iter().rev().find(|(name, _)| name == LIBRARY_PATH);
                let inherited = || std::env::var_os(LIBRARY_PATH).filter(|_| !ready.setting.bare);
                let library_path = named.map(|(_, value)| value.clone()).or_else(inherited).unwrap_or_default();
                choose(pmi, file, &library_path)
            }
            // A function is a rank only if the user says so: this very program may link to MPI for other reasons.
            Prepared::Function { .. } if pmi == Pmi::Auto => Speaks::default(),
            Prepared::Function { .. } => choose(pmi, Path::new(""), OsStr::new("")),
        };
        self.ready.iter().map(|ready| ready.as_ref().map(of).unwrap_or_default()).collect()
    }

    /// Starts these, all or none, and says which processes they are.
    pub(super) fn start(&self, starts: &[Start], ended: &Sender<ChildEnd>) -> Result<Vec<u32>> {
        let (mut orders, mut streams) = (Vec::with_capacity(starts.len()), Vec::with_capacity(starts.len()));
        for start in starts {
            let (order, ours) = self.order(start, ended)?;
            orders.push(order);
            streams.push(ours);
        }
        let born = self.home.spawn(orders).map_err(|error| self.here(error))?;
        let mut berths = self.lock();
        let pids = born.iter().map(|born| born.pid).collect();
        for ((start, born), mut streams) in starts.iter().zip(born).zip(streams) {
            self.label(start, &mut streams)?;
            berths.insert(start.member, Berth { born, attempt: start.attempt, streams });
        }
        Ok(pids)
    }

    fn order(&self, start: &Start, ended: &Sender<ChildEnd>) -> Result<(Order, [Option<OwnedFd>; 3])> {
        let none = || Error::new(ErrorKind::InvalidArgument, "a process that was not prepared for this node");
        let ready = self.ready.get(start.wish).and_then(Option::as_ref).ok_or_else(none)?;
        let mut setting = ready.setting.clone();
        start.seat.iter().for_each(|seat| setting.take_seat(seat));
        setting.env.extend(start.env.iter().cloned());
        setting.descriptors.extend(start.descriptors.iter().cloned());
        let streams = self.open(ready, &mut setting)?;
        let work = match &ready.work {
            Prepared::Program { file, arguments } => Work::Program { file: file.clone(), arguments: arguments.clone() },
            Prepared::Function { told, .. } => {
                Work::Function { entry: task::reference(thunk::entry(entry::live))?, argument: told.clone() }
            }
        };
        Ok((Order { work, setting, key: start.key, ended: ended.clone() }, streams))
    }

    /// Makes the pipes of one process.
    fn open(&self, ready: &Ready, setting: &mut Setting) -> Result<[Option<OwnedFd>; 3]> {
        let mut ours = [None, None, None];
        for (at, lead) in ready.stdio.iter().enumerate() {
            let is_piped = *lead == Lead::Pipe || (ready.labelled && at != 0 && *lead == Lead::Inherit);
            if is_piped {
                let (read, write) = std::io::pipe().map_err(|error| self.here(pipes(error)))?;
                let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
                let (mine, its) = if at == 0 { (write, read) } else { (read, write) };
                ours[at] = Some(mine);
                setting.stdio[at] = Some(Arc::new(its));
            }
        }
        if ready.stdio[2] == Lead::Stdout {
            setting.stdio[2] = match &setting.stdio[1] {
                Some(output) => Some(output.clone()),
                None => Some(Arc::new(sys::process::stdout().map_err(|error| self.here(pipes(error)))?)),
            };
        }
        Ok(ours)
    }

    /// Gives away our ends of those pipes that only bring lines to be labelled.
    fn label(&self, start: &Start, streams: &mut [Option<OwnedFd>; 3]) -> Result<()> {
        let Some(ready) = self.ready[start.wish].as_ref().filter(|ready| ready.labelled) else { return Ok(()) };
        for at in [1, 2].into_iter().filter(|at| ready.stdio[*at] == Lead::Inherit) {
            if let Some(pipe) = streams[at].take() {
                self.labels.add(start.member, at, pipe).map_err(|error| self.here(pipes(error)))?;
            }
        }
        Ok(())
    }

    /// Waits until all lines that were written have been labelled, of processes that have ended.
    pub(super) fn flush(&self) {
        self.labels.flush();
    }

    /// An error of this node.
    fn here(&self, error: Error) -> Error {
        Error::new(error.kind(), format!("on {}: {error}", self.home.name()))
    }

    /// Sends a signal to a process, and to all that it has started and that did not leave its process group.
    pub(super) fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        let Some(born) = self.lock().get(&member).map(|berth| berth.born.clone()) else { return Ok(()) };
        born.signal(signal.as_raw()).map_err(|error| {
            let text = format!("signal {} to pid {}", signal.as_raw(), born.pid);
            let kind = match error.kind() {
                std::io::ErrorKind::InvalidInput => ErrorKind::InvalidArgument,
                std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Io,
            };
            Error::with_source(kind, text, error)
        })
    }

    /// Our end of a pipe of a process as it was started that time, once.
    pub(super) fn take_stream(&self, member: usize, attempt: u32, which: usize) -> Option<OwnedFd> {
        self.lock().get_mut(&member).filter(|berth| berth.attempt == attempt)?.streams.get_mut(which)?.take()
    }

    /// Kills all that were started and forgets them.
    pub(super) fn clear(&self) {
        for (_, berth) in self.lock().drain() {
            if let Err(error) = berth.born.signal(Signal::KILL.as_raw()) {
                tracing::warn!(pid = berth.born.pid, %error, "cannot kill a process");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Berth>> {
        self.berths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pipes(error: std::io::Error) -> Error {
    if sys::process::is_out_of_descriptors(&error) {
        let limit = sys::process::descriptor_limit().unwrap_or(u64::MAX);
        let text = format!(
            "no descriptor left for the pipes of a process: of the {limit} that this process may have open each \
             process takes one, and one more for each pipe (RLIMIT_NOFILE, `ulimit -n`)"
        );
        return Error::new(ErrorKind::ResourceLimit, text);
    }
    Error::with_source(ErrorKind::Io, "a pipe for a process", error)
}

fn prepare(home: &Home, wish: &Wish) -> Result<Ready> {
    check_texts(home, wish)?;
    let cwd = wish.cwd.as_ref().map(PathBuf::from);
    if let Some(cwd) = &cwd {
        check_folder(home, cwd)?;
    }
    let mut setting = Setting { env: wish.env.clone(), bare: wish.bare, leads_group: true, ..Setting::default() };
    let is_function = matches!(wish.job, Job::Function { .. });
    for (at, lead) in wish.stdio.iter().enumerate() {
        setting.stdio[at] = match lead {
            // A function's standard input is nothing anyway: its process began with ours there.
            Lead::Null | Lead::Inherit if at == 0 && is_function => None,
            Lead::Null => {
                let null = sys::launch::null();
                Some(Arc::new(null.map_err(|error| Error::with_source(ErrorKind::Io, "open /dev/null", error))?))
            }
            Lead::File(path) => Some(Arc::new(open_file(home, cwd.as_deref(), Path::new(path), at == 0)?)),
            Lead::Stdout if at != 2 => {
                let text = "Stdio::Stdout is for standard error, which then goes where standard output goes";
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            Lead::Pipe | Lead::Inherit | Lead::Stdout => None,
        };
    }
    let work = match &wish.job {
        Job::Program { program, arguments } => {
            let file = find_program(home, program, wish, cwd.as_deref())?;
            let arguments = [program].into_iter().chain(arguments).cloned().collect();
            Prepared::Program { file, arguments }
        }
        Job::Function { name, argument } => prepare_function(home, name, argument)?,
    };
    setting.cwd = cwd;
    Ok(Ready { work, setting, stdio: wish.stdio.clone(), labelled: wish.labelled })
}

fn prepare_function(home: &Home, name: &[u8], argument: &[u8]) -> Result<Prepared> {
    let (argument, kept) = if argument.len() <= TOLD {
        (Argument::Here(argument.to_vec()), None)
    } else {
        let block = home.memory().store(argument)?;
        let mut place = [0; 24];
        place.copy_from_slice(bytemuck::bytes_of(&block.handle()));
        (Argument::There(place), Some(block))
    };
    let told = Told { function: name.to_vec(), argument, memory: home.config().clone() };
    let mut bytes = Vec::new();
    wire::encode(&told, &mut bytes)?;
    Ok(Prepared::Function { told: bytes, _argument: kept })
}

fn refused(home: &Home, what: String, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Io,
    };
    Error::with_source(kind, format!("{what} on {}; nothing was started", home.name()), error)
}

/// The kernel takes a zero byte for the end of a text.
fn check_texts(home: &Home, wish: &Wish) -> Result<()> {
    let program = match &wish.job {
        Job::Program { program, arguments } => Some([program].into_iter().chain(arguments)),
        Job::Function { .. } => None,
    };
    let variables = wish.env.iter().flat_map(|(name, value)| [name, value]);
    match program.into_iter().flatten().chain(variables).chain(&wish.cwd).find(|text| text.as_bytes().contains(&0)) {
        None => Ok(()),
        Some(text) => {
            let what = "an argument, a variable or the working directory of a process";
            let text = format!("{what} holds a zero byte: {text:?}, on {}; nothing was started", home.name());
            Err(Error::new(ErrorKind::InvalidArgument, text))
        }
    }
}

fn check_folder(home: &Home, folder: &Path) -> Result<()> {
    let what = || format!("the working directory {} of a process", folder.display());
    let is_folder = std::fs::metadata(folder).map_err(|error| refused(home, what(), error))?.is_dir();
    if !is_folder {
        return Err(refused(home, what(), std::io::ErrorKind::NotADirectory.into()));
    }
    sys::process::may_execute(folder).map_err(|error| refused(home, what(), error))
}

fn open_file(home: &Home, cwd: Option<&Path>, path: &Path, read: bool) -> Result<OwnedFd> {
    let path = cwd.map_or_else(|| path.to_path_buf(), |cwd| cwd.join(path));
    let opened = if read { File::open(&path) } else { File::options().append(true).create(true).open(&path) };
    let what = || format!("the file {} for the {} of a process", path.display(), if read { "input" } else { "output" });
    Ok(opened.map_err(|error| refused(home, what(), error))?.into())
}

/// Where to look for programs, if nothing says so.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The file of a program, which may be executed: as far as that can be known before.
fn find_program(home: &Home, program: &OsStr, wish: &Wish, cwd: Option<&Path>) -> Result<PathBuf> {
    let what = || format!("the program {}", Path::new(program).display());
    if program.as_bytes().contains(&b'/') {
        let file = cwd.map_or_else(|| PathBuf::from(program), |cwd| cwd.join(program));
        check_program(&file).map_err(|error| refused(home, what(), error))?;
        return Ok(file);
    }
    let named = wish.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let inherited = || if wish.bare { None } else { std::env::var_os("PATH") };
    let folders = named.or_else(inherited).unwrap_or_else(|| PATH.into());
    let mut denied = None;
    for folder in std::env::split_paths(&folders) {
        let file = cwd.map_or_else(|| folder.clone(), |cwd| cwd.join(&folder)).join(program);
        match check_program(&file) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => denied = Some((file, error)),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some((file, error)) => refused(home, format!("the program {}", file.display()), error),
        None => {
            let what = format!("{}, looked for in PATH={}", what(), Path::new(&folders).display());
            refused(home, what, std::io::ErrorKind::NotFound.into())
        }
    })
}

fn check_program(file: &Path) -> std::io::Result<()> {
    if std::fs::metadata(file)?.is_dir() {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    sys::process::may_execute(file)
}
