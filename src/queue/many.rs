//! Many messages in one call, and all messages as an iterator.

use std::iter::FusedIterator;

use super::{GetManyError, PutError, Queue};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::time::Deadline;

impl<T, C: Codec<T>> Queue<T, C> {
    /// Puts all messages in order, waiting for room where there is none. Others may put theirs in between.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let queue = dragon::Queue::<u32>::bounded(4)?;
    /// assert_eq!(queue.put_many([1, 2, 3])?, 3);
    /// assert_eq!(queue.get_many(10)?, [1, 2, 3]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`put`](Queue::put), with the message that was refused, and how many were put before. What the
    /// iterator has left stays in it, if it is passed by reference.
    pub fn put_many(&self, messages: impl IntoIterator<Item = T>) -> Result<usize, PutError<T>> {
        let mut sent = 0;
        for message in messages {
            if let Err(error) = self.send(&message, Deadline::Never) {
                return Err(PutError::new(error, message, sent));
            }
            sent += 1;
        }
        Ok(sent)
    }

    /// Takes out what is there, at most `most` messages; waits for the first.
    ///
    /// # Errors
    /// Those of [`get`](Queue::get). If a message in the middle cannot be read, the error brings those before it.
    pub fn get_many(&self, most: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_by(most, Deadline::Never)
    }

    /// Takes out what is there, at most `most` messages; an empty vector if there is nothing.
    ///
    /// # Errors
    /// Those of [`get_many`](Queue::get_many).
    pub fn try_get_many(&self, most: usize) -> Result<Vec<T>, GetManyError<T>> {
        match self.get_many_by(most, Deadline::Now) {
            Err(ended) if ended.error().is_timeout() => Ok(ended.into_taken()),
            ended => ended,
        }
    }

    fn get_many_by(&self, most: usize, first: Deadline) -> Result<Vec<T>, GetManyError<T>> {
        let mut taken = Vec::with_capacity(most.min(self.len()));
        while taken.len() < most {
            let deadline = if taken.is_empty() { first } else { Deadline::Now };
            match self.get_by(deadline) {
                Ok(message) => taken.push(message),
                // The next call will meet it again.
                Err(error) if !taken.is_empty() && (error.is_timeout() || error.is_closed()) => break,
                Err(error) => return Err(GetManyError::new(error, taken)),
            }
        }
        Ok(taken)
    }

    /// All messages as they come; ends when the queue is closed and empty.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let queue = dragon::Queue::<u32>::bounded(4)?;
    /// queue.put_many([1, 2, 3])?;
    /// queue.close();
    /// assert_eq!(queue.iter().map(|message| message.unwrap()).sum::<u32>(), 6);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T, C> {
        Iter { queue: self, over: false }
    }
}

/// The messages of a queue as they come: see [`Queue::iter`].
pub struct Iter<'q, T, C> {
    queue: &'q Queue<T, C>,
    over: bool,
}

impl<T, C: Codec<T>> Iterator for Iter<'_, T, C> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if self.over {
            return None;
        }
        let got = self.queue.get();
        self.over = got.as_ref().is_err_and(Error::is_closed);
        (!self.over).then_some(got)
    }
}

impl<T, C: Codec<T>> FusedIterator for Iter<'_, T, C> {}

impl<T, C> std::fmt::Debug for Iter<'_, T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("over", &self.over).finish_non_exhaustive()
    }
}

impl<'q, T, C: Codec<T>> IntoIterator for &'q Queue<T, C> {
    type Item = Result<T>;
    type IntoIter = Iter<'q, T, C>;

    fn into_iter(self) -> Iter<'q, T, C> {
        self.iter()
    }
}
