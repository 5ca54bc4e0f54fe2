//! What can go wrong when a child is started.

use std::io;
use std::path::{Path, PathBuf};

use crate::mm::MemError;
use crate::sys::process;
use crate::task::TaskError;
use crate::wire::WireError;

/// Why a child could not be started or looked after.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// The limit on open descriptors of this process is reached.
    #[error(
        "no descriptor left for another child process: each takes two of the {limit} that this process may \
         have open (RLIMIT_NOFILE; raise it with `ulimit -n` or start fewer processes)"
    )]
    Descriptors {
        /// The soft limit.
        limit: u64,
    },
    /// The kernel would not make another process.
    #[error(
        "no further process can be started: {source} (RLIMIT_NPROC, `ulimit -u`, the pids limit of the \
         container, or memory)"
    )]
    Processes {
        /// The kernel's word.
        source: io::Error,
    },
    /// Something else about one step of starting a child.
    #[error("cannot start a child process: {what}: {source}")]
    Spawn {
        /// The step.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {}: {step}: {source}", file.display())]
    Program {
        /// Its file.
        file: PathBuf,
        /// The step.
        step: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// What the kernel takes for the end of a string stands in one.
    #[error("an argument, a variable or a path of a process holds a zero byte: {text:?}")]
    ZeroByte {
        /// The text.
        text: String,
    },
    /// The node's memory has no place for another process.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// The function that the child should run cannot be sent.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// What the child is to be told cannot be written.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Ranks of an MPI program cannot be served.
    #[error("cannot serve MPI ranks: {why}")]
    Mpi {
        /// What the matter is.
        why: String,
    },
    /// The agent of this process has been stopped.
    #[error("the runtime of this process has been finalized: no child can be started any more")]
    Stopped,
}

impl ServiceError {
    /// Sorts a failure of the kernel by the limit that caused it.
    pub(crate) fn spawn(what: &'static str, source: io::Error) -> ServiceError {
        if process::is_out_of_descriptors(&source) {
            let limit = process::descriptor_limit().unwrap_or(u64::MAX);
            return ServiceError::Descriptors { limit };
        }
        if process::is_out_of_processes(&source) {
            return ServiceError::Processes { source };
        }
        ServiceError::Spawn { what, source }
    }

    /// The same for a program.
    pub(crate) fn of_program(file: &Path, step: &'static str, source: io::Error) -> ServiceError {
        match ServiceError::spawn(step, source) {
            ServiceError::Spawn { what, source } => ServiceError::Program { file: file.into(), step: what, source },
            limit => limit,
        }
    }
}
