//! Refusals that bring back what was refused.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// A message that was not put, and why.
///
/// ```
/// # let _dragon = dragon::init()?;
/// let queue = dragon::Queue::<String>::bounded(1)?;
/// queue.put("first".into())?;
/// let refused = queue.try_put("second".into()).unwrap_err();
/// assert_eq!(refused.kind(), dragon::ErrorKind::Full);
/// assert_eq!(refused.into_inner(), "second");
/// # Ok::<(), dragon::Error>(())
/// ```
pub struct PutError<T> {
    error: Error,
    message: T,
    sent: usize,
    rest: Vec<T>,
}

impl<T> PutError<T> {
    pub(super) fn new(error: Error, message: T, sent: usize) -> PutError<T> {
        PutError { error, message, sent, rest: Vec::new() }
    }

    /// With what was taken from the caller and would have come after the message.
    pub(super) fn with_rest(self, rest: Vec<T>) -> PutError<T> {
        PutError { rest, ..self }
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The message.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// Of [`put_many`](crate::Queue::put_many): the message, and behind it those that had been taken from the iterator
    /// and were not put either.
    pub fn into_unsent(self) -> Vec<T> {
        let mut unsent = self.rest;
        unsent.insert(0, self.message);
        unsent
    }

    /// Of [`put_many`](crate::Queue::put_many): how many messages were put before this one.
    pub fn sent(&self) -> usize {
        self.sent
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PutError({:?}: {})", self.kind(), self.error)
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for PutError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Drops the message.
impl<T> From<PutError<T>> for Error {
    fn from(refused: PutError<T>) -> Error {
        refused.error
    }
}

/// Why [`get_many`](crate::Queue::get_many) ended, and what it had taken by then.
pub struct GetManyError<T> {
    error: Error,
    taken: Vec<T>,
}

impl<T> GetManyError<T> {
    pub(super) fn new(error: Error, taken: Vec<T>) -> GetManyError<T> {
        GetManyError { error, taken }
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The messages that were taken before.
    pub fn into_taken(self) -> Vec<T> {
        self.taken
    }
}

impl<T> fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GetManyError({:?}: {}; {} messages before)", self.kind(), self.error, self.taken.len())
    }
}

impl<T> fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for GetManyError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Drops the messages.
impl<T> From<GetManyError<T>> for Error {
    fn from(ended: GetManyError<T>) -> Error {
        ended.error
    }
}
