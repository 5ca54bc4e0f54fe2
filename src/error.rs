//! The one error of the library: opaque, with a kind to branch on and a text to act on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::channel::ChannelError;
use crate::codec::Undecoded;
use crate::mesh::MeshError;
use crate::mm::MemError;
use crate::names::NameError;
use crate::proto::placement::Misplaced;
use crate::services::{FarError, ServiceError, Why};
use crate::table::TableError;
use crate::task::{Failure, TaskError};
use crate::wire::WireError;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong in this library.
///
/// [`kind`](Error::kind) says what sort of failure it is; the text names the object, the cause and the
/// knob to turn. The lower layers' own errors are its [`source`](std::error::Error::source).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A call that needs a runtime came before [`dragon::init()`](crate::init) or after the end.
    NotInitialized,
    /// A builder asked for settings that the running runtime does not have.
    AlreadyInitialized,
    /// A number or a combination that makes no sense.
    InvalidArgument,
    /// The object has been closed.
    Closed,
    /// The ranks of the job could not meet.
    Start,
    /// A node, or a rank, that was needed is lost.
    NodeLost,
    /// The call needs the object to be closed first.
    StillOpen,
    /// The time is up.
    TimedOut,
    /// No room at this moment, and the call was told not to wait.
    Full,
    /// Nothing there at this moment, and the call was told not to wait.
    Empty,
    /// The message is larger than the memory or the object can ever hold.
    TooLarge,
    /// The node's shared memory is used up.
    OutOfMemory,
    /// A limit of the operating system: descriptors, processes, threads.
    ResourceLimit,
    /// The task panicked; the worker lives on.
    TaskPanicked,
    /// The worker process ended while it ran the task.
    WorkerLost,
    /// A pool's workers end, or refuse, before they can take a task.
    WorkerStart,
    /// The task was cancelled or its pool terminated before it could finish.
    Cancelled,
    /// The other process is not the same build, or does not hold the function.
    WrongBuild,
    /// A value could not be encoded or decoded.
    Codec,
    /// Bytes that should name something in shared memory do not.
    BadHandle,
    /// Nothing has this name or id.
    NotFound,
    /// The name is taken.
    Exists,
    /// The object carries values of another type, or is of another kind, than was asked for.
    WrongType,
    /// A file may not be executed, written or entered.
    PermissionDenied,
    /// The operating system refused something else.
    Io,
    /// The barrier is broken until it is reset.
    Broken,
    /// The calling thread would wait for itself.
    WouldDeadlock,
    /// The dictionary has no such key.
    KeyNotFound,
    /// The dictionary is frozen, and the call would change it.
    Frozen,
    /// The checkpoint is older than those that the dictionary keeps.
    CheckpointRetired,
    /// The node of a dictionary's manager is lost, and with it what was there and nowhere else.
    ManagerLost,
    /// There is no stored checkpoint of this number, or none that can be read.
    NoCheckpoint,
}

impl Error {
    /// An error with a text of its own.
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, text: text.into(), source: None }))
    }

    /// An error of a lower layer, with what was being done.
    pub(crate) fn with_source(
        kind: ErrorKind,
        text: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error(Box::new(Inner { kind, text: text.into(), source: Some(Box::new(source)) }))
    }

    /// The same failure, told again to another who waits for it.
    pub(crate) fn again(&self) -> Error {
        Error::new(self.0.kind, self.to_string())
    }

    /// What sort of failure this is.
    ///
    /// ```
    /// let error = dragon::Pool::builder().processes(0).build().unwrap_err();
    /// assert_eq!(error.kind(), dragon::ErrorKind::InvalidArgument);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The time was up, or nothing could be done without waiting.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, ErrorKind::TimedOut | ErrorKind::Full | ErrorKind::Empty)
    }

    /// The bytes of a message that could not be read as its type: it was taken out, and this is what is left of it.
    pub fn undecoded(&self) -> Option<&[u8]> {
        let source = self.0.source.as_ref()?.downcast_ref::<Undecoded>()?;
        Some(source.bytes())
    }

    /// The object was closed.
    pub fn is_closed(&self) -> bool {
        self.0.kind == ErrorKind::Closed
    }

    /// A process died and took the answer with it.
    pub fn is_lost(&self) -> bool {
        matches!(self.0.kind, ErrorKind::WorkerLost | ErrorKind::NodeLost | ErrorKind::ManagerLost)
    }

    /// The task was given up before it finished.
    pub fn is_cancelled(&self) -> bool {
        self.0.kind == ErrorKind::Cancelled
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.source {
            Some(source) if self.0.text.is_empty() => write!(f, "{source}"),
            Some(source) => write!(f, "{}: {source}", self.0.text),
            None => f.write_str(&self.0.text),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text shows the source already; what is behind it is the source's own source.
        self.0.source.as_ref().and_then(|source| source.source())
    }
}

impl From<MemError> for Error {
    fn from(source: MemError) -> Error {
        Error::with_source(memory_kind(&source), "", source)
    }
}

fn memory_kind(error: &MemError) -> ErrorKind {
    match error {
        MemError::OutOfMemory { .. } | MemError::Full { .. } | MemError::PoolFull { .. } => ErrorKind::OutOfMemory,
        MemError::NoHugePages => ErrorKind::OutOfMemory,
        MemError::NameTaken { .. } => ErrorKind::Exists,
        MemError::NoSuchName { .. } => ErrorKind::NotFound,
        MemError::LargerThanSegment { .. } => ErrorKind::TooLarge,
        MemError::BadConfig { .. } => ErrorKind::InvalidArgument,
        MemError::TooManyProcesses { .. } | MemError::TooManyObjects { .. } | MemError::TooManyHolds { .. } => {
            ErrorKind::ResourceLimit
        }
        MemError::ObjectGone { .. } => ErrorKind::NotFound,
        MemError::WrongKind { .. } => ErrorKind::BadHandle,
        MemError::BadHandle { .. } => ErrorKind::BadHandle,
        _ => ErrorKind::Io,
    }
}

impl From<ChannelError> for Error {
    fn from(source: ChannelError) -> Error {
        let kind = match &source {
            ChannelError::Full => ErrorKind::Full,
            ChannelError::Empty => ErrorKind::Empty,
            ChannelError::TimedOut => ErrorKind::TimedOut,
            ChannelError::Closed => ErrorKind::Closed,
            ChannelError::Memory(memory) | ChannelError::Lost { source: memory, .. } => memory_kind(memory),
            ChannelError::Shape { .. } => ErrorKind::InvalidArgument,
            ChannelError::TooLarge { .. } => ErrorKind::TooLarge,
            ChannelError::AtLimit { .. } | ChannelError::TooLong { .. } => ErrorKind::OutOfMemory,
            _ => ErrorKind::Io,
        };
        Error::with_source(kind, "", source)
    }
}

impl From<TableError> for Error {
    fn from(source: TableError) -> Error {
        let kind = match &source {
            TableError::Full { .. } => ErrorKind::OutOfMemory,
            TableError::TooLarge { .. } | TableError::KeyTooLong { .. } => ErrorKind::TooLarge,
            TableError::Memory(memory) => memory_kind(memory),
            TableError::Damaged { .. } => ErrorKind::Io,
        };
        Error::with_source(kind, "", source)
    }
}

impl From<NameError> for Error {
    fn from(source: NameError) -> Error {
        let kind = match &source {
            NameError::Length { .. } => ErrorKind::InvalidArgument,
            NameError::Taken { .. } => ErrorKind::Exists,
            NameError::TooMany => ErrorKind::ResourceLimit,
            NameError::Stopped => ErrorKind::TimedOut,
            NameError::Memory(_) => ErrorKind::OutOfMemory,
        };
        Error::with_source(kind, "", source)
    }
}

impl From<ServiceError> for Error {
    fn from(source: ServiceError) -> Error {
        let kind = match &source {
            ServiceError::Descriptors { .. } | ServiceError::Processes { .. } => ErrorKind::ResourceLimit,
            ServiceError::Spawn { .. } | ServiceError::Mpi { .. } => ErrorKind::Io,
            ServiceError::Program { source, .. } => of_file(source),
            ServiceError::ZeroByte { .. } => ErrorKind::InvalidArgument,
            ServiceError::Memory(memory) => memory_kind(memory),
            ServiceError::Task(_) => ErrorKind::WrongBuild,
            ServiceError::Wire(_) => ErrorKind::Codec,
            ServiceError::Stopped => ErrorKind::NotInitialized,
        };
        Error::with_source(kind, "", source)
    }
}

/// What sort of failure the kernel's word on a file is.
fn of_file(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Io,
    }
}

impl From<Misplaced> for Error {
    fn from(source: Misplaced) -> Error {
        Error::with_source(ErrorKind::InvalidArgument, "", source)
    }
}

impl From<MeshError> for Error {
    fn from(source: MeshError) -> Error {
        let kind = match &source {
            MeshError::Lost { .. } | MeshError::NoHub => ErrorKind::NodeLost,
            MeshError::NoNode { .. } => ErrorKind::NotFound,
            MeshError::Closed => ErrorKind::NotInitialized,
            MeshError::TooLong { .. } => ErrorKind::TooLarge,
            MeshError::Memory(_) => ErrorKind::OutOfMemory,
            MeshError::Dropped { .. } => ErrorKind::Io,
        };
        Error::with_source(kind, "", source)
    }
}

impl From<FarError> for Error {
    fn from(source: FarError) -> Error {
        let kind = match &source {
            FarError::Mesh(mesh) => return mesh.clone().into(),
            FarError::Refused { why, .. } => match why {
                Why::Full => ErrorKind::Full,
                Why::Empty => ErrorKind::Empty,
                Why::TimedOut => ErrorKind::TimedOut,
                Why::Closed => ErrorKind::Closed,
                Why::Gone => ErrorKind::NotFound,
                Why::WrongKind => ErrorKind::WrongType,
                Why::TooLarge => ErrorKind::TooLarge,
                Why::OutOfMemory => ErrorKind::OutOfMemory,
                Why::Taken => ErrorKind::Exists,
                Why::Mine => ErrorKind::WouldDeadlock,
                Why::Broken => ErrorKind::Broken,
                Why::TooMany | Why::BadArgument => ErrorKind::InvalidArgument,
                Why::Unclear | Why::Other => ErrorKind::Io,
            },
        };
        Error::with_source(kind, "", source)
    }
}

impl From<TaskError> for Error {
    fn from(source: TaskError) -> Error {
        Error::with_source(ErrorKind::WrongBuild, "", source)
    }
}

impl From<WireError> for Error {
    fn from(source: WireError) -> Error {
        Error::with_source(ErrorKind::Codec, "", source)
    }
}

impl Error {
    /// What a task met in its worker.
    pub(crate) fn from_failure(failure: &Failure, what: &str) -> Error {
        let kind = match failure {
            Failure::Panicked { .. } => ErrorKind::TaskPanicked,
            _ => ErrorKind::Codec,
        };
        let item = failure.item().map_or_else(String::new, |item| format!(", item {item} of its part"));
        Error::new(kind, format!("{what}{item}: {failure}"))
    }
}
