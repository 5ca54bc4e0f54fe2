//! What a process is to be: a program or a function, and what surrounds it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Process, ProcessGroup};
use crate::channel;
use crate::channel::Load;
use crate::error::{Error, Result};
use crate::runtime::NodeId;
use crate::task::{self, Captures, Outcome, thunk};
use crate::wire;
use crate::wire::Message;

/// Where a standard stream of a process leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdio {
    /// To the same place as that of the process that starts it: the caller on its own node, a rank on others.
    #[default]
    Inherit,
    /// Nowhere: reads end at once, what is written vanishes.
    Null,
    /// To the caller, who reads or writes it by [`Process::stdout`], [`Process::stderr`] or [`Process::stdin`]. A process
    /// whose output nobody reads stands still when its pipe is full.
    Pipe,
    /// To a file of the process's node: read, or appended to and made if need be. A relative path is relative to the
    /// process's working directory.
    File(PathBuf),
    /// Of standard error alone: to where standard output leads.
    Stdout,
}

/// [`Stdio`] as it travels. Paths need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Lead {
    Inherit,
    Null,
    Pipe,
    File(OsString),
    Stdout,
}

impl From<Stdio> for Lead {
    fn from(stdio: Stdio) -> Lead {
        match stdio {
            Stdio::Inherit => Lead::Inherit,
            Stdio::Null => Lead::Null,
            Stdio::Pipe => Lead::Pipe,
            Stdio::File(path) => Lead::File(path.into_os_string()),
            Stdio::Stdout => Lead::Stdout,
        }
    }
}

/// What a process runs, as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Job {
    Program { program: OsString, arguments: Vec<OsString> },
    Function { name: Vec<u8>, argument: Vec<u8> },
}

/// A template as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wish {
    pub(super) job: Job,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) bare: bool,
    pub(super) cwd: Option<OsString>,
    /// Standard input, output and error.
    pub(super) stdio: [Lead; 3],
    pub(super) labelled: bool,
    pub(super) cpus: Vec<usize>,
}

/// What a process is to be. Made by [`Process::program`] or [`Process::function`], completed by the methods here, and
/// started by itself with [`start`](Template::start) or many times as part of a [`ProcessGroup`].
///
/// ```
/// use std::io::Read;
/// let _dragon = dragon::init()?;
/// let echo = dragon::Process::program("/bin/sh").args(["-c", "echo $GREETING"]).env("GREETING", "hello");
/// let process = echo.stdout(dragon::Stdio::Pipe).start()?;
/// let mut said = String::new();
/// process.stdout()?.read_to_string(&mut said).unwrap();
/// assert_eq!(said, "hello\n");
/// assert!(process.join()?.success());
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a template does nothing until it is started or added to a group"]
pub struct Template {
    pub(super) wish: std::result::Result<Wish, String>,
    pub(super) node: Option<NodeId>,
    /// What the argument of a function holds handles of.
    #[expect(dead_code, reason = "it is held, not read")]
    load: Arc<Load>,
}

impl Template {
    /// A process that runs a program: a path, or a name that is looked up in `PATH`.
    pub fn program(program: impl AsRef<OsStr>) -> Template {
        let job = Job::Program { program: program.as_ref().into(), arguments: Vec::new() };
        Template::new(Ok(job), Load::default())
    }

    /// A process that runs a function of this program with an argument that travels. It ends with code 0 when the function
    /// returns, with 101 when it panics, or as its [`Outcome`] says.
    ///
    /// The function is an `fn` item or a closure that captures nothing. Handles in the argument stay good until the
    /// template, and the group it was added to, are gone.
    pub fn function<F, T, R>(function: F, argument: T) -> Template
    where
        F: Fn(T) -> R + Copy + Send + Sync + 'static,
        T: Message,
        R: Outcome + 'static,
    {
        const { Captures::<F>::NOTHING };
        let mut bytes = Vec::new();
        let (encoded, load) = channel::gather(|| wire::encode(&argument, &mut bytes));
        let job = encoded.map_err(|error| error.to_string()).and_then(|()| {
            let name = task::name_in_full(thunk::life(function)).map_err(|error| error.to_string())?;
            Ok(Job::Function { name, argument: bytes })
        });
        Template::new(job, load)
    }

    fn new(job: std::result::Result<Job, String>, load: Load) -> Template {
        let stdio = [Lead::Inherit, Lead::Inherit, Lead::Inherit];
        let (env, cpus) = (Vec::new(), Vec::new());
        let wish = job.map(|job| Wish { job, env, bare: false, cwd: None, stdio, labelled: false, cpus });
        Template { wish, node: None, load: Arc::new(load) }
    }

    fn with(mut self, change: impl FnOnce(&mut Wish)) -> Template {
        if let Ok(wish) = &mut self.wish {
            change(wish);
        }
        self
    }

    /// One more argument of the program. A function has none.
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Template {
        self.args([argument])
    }

    /// More arguments of the program. A function has none.
    pub fn args<A: AsRef<OsStr>>(self, more: impl IntoIterator<Item = A>) -> Template {
        self.with(|wish| {
            if let Job::Program { arguments, .. } = &mut wish.job {
                arguments.extend(more.into_iter().map(|argument| argument.as_ref().to_os_string()));
            }
        })
    }

    /// A variable of its environment, besides those of the process that starts it.
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Template {
        self.with(|wish| wish.env.push((name.as_ref().into(), value.as_ref().into())))
    }

    /// Gives it none of the variables of the process that starts it.
    pub fn env_clear(self) -> Template {
        self.with(|wish| wish.bare = true)
    }

    /// Where it begins; where the process that starts it is, by default.
    pub fn cwd(self, folder: impl Into<PathBuf>) -> Template {
        self.with(|wish| wish.cwd = Some(folder.into().into_os_string()))
    }

    /// Where its standard input comes from. [`Stdio::Null`] for a function, unless something else is said here.
    pub fn stdin(self, stdio: Stdio) -> Template {
        self.with(|wish| wish.stdio[0] = stdio.into())
    }

    /// Where its standard output leads.
    pub fn stdout(self, stdio: Stdio) -> Template {
        self.with(|wish| wish.stdio[1] = stdio.into())
    }

    /// Where its standard error leads.
    pub fn stderr(self, stdio: Stdio) -> Template {
        self.with(|wish| wish.stdio[2] = stdio.into())
    }

    /// Puts the name of its group and its number there before each line of an inherited output.
    pub fn labelled(self) -> Template {
        self.with(|wish| wish.labelled = true)
    }

    /// The node it runs on.
    pub fn node(mut self, node: NodeId) -> Template {
        self.node = Some(node);
        self
    }

    /// Starts one such process.
    ///
    /// # Errors
    /// Those of [`ProcessGroup::start`].
    pub fn start(self) -> Result<Process> {
        let group = ProcessGroup::builder().build()?;
        group.add_all(1, self)?;
        group.start()?;
        Ok(group.process(0))
    }

    pub(super) fn wish(&self) -> Result<&Wish> {
        self.wish.as_ref().map_err(|text| Error::new(crate::error::ErrorKind::Codec, text.clone()))
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.wish {
            Ok(Wish { job: Job::Program { program, arguments }, .. }) => {
                write!(f, "Template({program:?} with {} arguments)", arguments.len())
            }
            Ok(_) => f.write_str("Template(a function)"),
            Err(error) => write!(f, "Template({error})"),
        }
    }
}
