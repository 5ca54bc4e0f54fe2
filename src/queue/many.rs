//! Many messages in one call, and all messages as an iterator.

use std::iter::FusedIterator;

use super::{GetManyError, PutError, Queue};
use crate::channel::Payload;
use crate::codec::{Codec, Undecoded};
use crate::error::{Error, Result};
use crate::time::Deadline;

/// Messages that are taken from an iterator at once.
const GROUP: usize = 64;
/// Fewer than this are put one by one.
const LEAST: usize = 3;

impl<T, C: Codec<T>> Queue<T, C> {
    /// Puts all messages in order, waiting for room where there is none. Others may put theirs in between.
    ///
    /// It pays for many short messages: about half of what putting a message costs is paid once for up to 64 of them. For
    /// that it takes them from the iterator in groups, if that knows how many it has (a vector, an array, a range); the
    /// messages of a group are put when the group is complete. From any other iterator each message is put before the
    /// next is asked for.
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
    /// Those of [`put`](Queue::put), with the message that was refused, those that had been taken from the iterator behind it
    /// ([`into_unsent`](PutError::into_unsent)), and how many were put before. What the iterator has left stays in it,
    /// if it is passed by reference.
    pub fn put_many(&self, messages: impl IntoIterator<Item = T>) -> Result<usize, PutError<T>> {
        let mut messages = messages.into_iter();
        let known = match messages.size_hint() {
            (least, Some(most)) if least == most => most,
            _ => 1,
        };
        let mut group = Vec::with_capacity(known.min(GROUP));
        let mut sent = 0;
        loop {
            group.extend(messages.by_ref().take(known.clamp(1, GROUP)));
            if group.is_empty() {
                return Ok(sent);
            }
            let (put, result) = self.put_group(&group);
            sent += put;
            if let Err(error) = result {
                let mut unsent = group.drain(put..);
                // The one that was refused is among them.
                let refused = unsent.next().expect("the refused one was not put");
                return Err(PutError::new(error, refused, sent).with_rest(unsent.collect()));
            }
            group.clear();
        }
    }

    /// Puts all of a group, waiting for room. How many were put, and why the next one was not.
    fn put_group(&self, group: &[T]) -> (usize, Result<()>) {
        let inline = self.body.inline();
        let fits = |message: &&T| inline.zip(C::length(message)).is_some_and(|(inline, len)| len <= inline);
        let mut put = 0;
        while put < group.len() {
            let left = &group[put..];
            let run = if left.len() < LEAST { 0 } else { left.iter().take_while(fits).count() };
            if run >= LEAST {
                let len = |n: usize| C::length(&left[n]).unwrap_or(0);
                let (sent, ran) = self.body.send_run(run, len, |n, space| C::write(&left[n], space));
                put += sent;
                if let Err(error) = ran {
                    return (put, Err(self.refused(error)));
                }
                if sent > 0 {
                    continue;
                }
            }
            // One that has to wait for room, or goes another way.
            if let Err(error) = self.send(&left[0], Deadline::Never) {
                return (put, Err(error));
            }
            put += 1;
        }
        (put, Ok(()))
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
            self.get_run(most, &mut taken)?;
            if taken.len() == most {
                break;
            }
            // There may be more behind what one run can take.
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

    /// Takes out what is there, until there are `most`.
    fn get_run(&self, most: usize, taken: &mut Vec<T>) -> Result<(), GetManyError<T>> {
        let wanted = most - taken.len();
        let mut undecoded = None;
        let take = |payload: Payload<'_>, kept: &mut Option<_>| {
            match C::decode(&payload) {
                Ok(message) => taken.push(message),
                Err(why) => undecoded = Some(Undecoded::new(why, &payload)),
            }
            payload.leave_block(kept);
            undecoded.is_none()
        };
        let received = self.body.receive_run(wanted, take);
        let error = match (undecoded, received.error) {
            (Some(undecoded), _) => self.undecodable(undecoded),
            (None, Some(error)) => self.refused(error.into()),
            (None, None) => return Ok(()),
        };
        Err(GetManyError::new(error, std::mem::take(taken)))
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
