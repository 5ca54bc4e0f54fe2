//! A meeting of a fixed number of parties, across the processes of a node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shared::{Shared, Sort};
use crate::error::{Error, ErrorKind, Result};
use crate::latch;
use crate::latch::{Arrival, Refusal};
use crate::mm::Kind;
use crate::time::Deadline;

enum OfBarrier {}

impl Sort for OfBarrier {
    const KIND: Kind = Kind::Barrier;
    const CALLED: &'static str = "barrier";
}

/// A place where a fixed number of threads, of any processes of the node, wait for each other, again and again.
///
/// Each of the parties gets another number from 0, in the order they came. One of them, the one that came
/// last, may [act](Barrier::wait_with) while the others still wait.
///
/// **Broken.** When one party's time is up the meeting cannot come about: it gets
/// [`TimedOut`](ErrorKind::TimedOut), all others [`Broken`](ErrorKind::Broken), and so does whoever comes, until
/// somebody [resets](Barrier::reset) the barrier. [`abort`](Barrier::abort) does the same on purpose.
///
/// **Death.** When a process ends that has the barrier open, waiting or not, the barrier breaks: the others
/// would wait for it for ever. Drop a handle before the process ends if it is no party. An action
/// that panics or dies breaks the barrier too.
///
/// ```
/// let _dragon = dragon::init()?;
/// let barrier = dragon::sync::Barrier::new(3)?;
/// let pool = dragon::Pool::new(2)?;
/// let meet = |barrier: dragon::sync::Barrier| barrier.wait().unwrap();
/// let others = [pool.submit(meet, barrier.clone())?, pool.submit(meet, barrier.clone())?];
/// let mut numbers = vec![barrier.wait()?];
/// for other in others {
///     numbers.push(other.get()?);
/// }
/// numbers.sort();
/// assert_eq!(numbers, [0, 1, 2]);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Barrier(Shared<OfBarrier>);

impl Barrier {
    /// A barrier for so many parties, from 1 to about a million.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for no parties or too many;
    /// [`NotInitialized`](ErrorKind::NotInitialized), [`OutOfMemory`](ErrorKind::OutOfMemory).
    pub fn new(parties: usize) -> Result<Barrier> {
        let most = latch::Barrier::MOST_PARTIES;
        if parties == 0 || parties as u64 > most {
            let text = format!("a barrier is for 1 to {most} parties, not {parties}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let barrier = Barrier(Shared::create(latch::Barrier::WORDS, |_| ())?);
        barrier.latch().begin(parties as u64);
        Ok(barrier)
    }

    /// Waits until all parties are here. Returns the place in the order they came, from 0.
    ///
    /// # Errors
    /// [`Broken`](ErrorKind::Broken).
    pub fn wait(&self) -> Result<usize> {
        self.wait_by(Deadline::Never)
    }

    /// As [`wait`](Barrier::wait), but at most this long; then the barrier is broken for all. There is no `try_wait`:
    /// a time of zero breaks the barrier unless this party is the last.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), [`Broken`](ErrorKind::Broken).
    pub fn wait_timeout(&self, patience: Duration) -> Result<usize> {
        self.wait_by(Deadline::after(patience))
    }

    /// As [`wait`](Barrier::wait); if this party comes last it calls `action` before anybody goes on.
    ///
    /// If all parties pass an action, exactly one is called. A closure cannot lie in shared memory, hence
    /// each party brings its own, where Dragon's barrier has one.
    ///
    /// ```
    /// let _dragon = dragon::init()?;
    /// let (barrier, rounds) = (dragon::sync::Barrier::new(2)?, dragon::sync::Value::new(0_u32)?);
    /// let meet = || barrier.wait_with(|| rounds.update(|n| *n += 1)).map(|_| rounds.get());
    /// std::thread::scope(|s| {
    ///     let other = s.spawn(meet);
    ///     assert_eq!((meet()?, other.join().unwrap()?), (1, 1));
    ///     Ok::<(), dragon::Error>(())
    /// })
    /// # ?; Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Broken`](ErrorKind::Broken).
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<usize> {
        self.wait_with_by(action, Deadline::Never)
    }

    /// As [`wait_with`](Barrier::wait_with), but waits at most this long; then the barrier is broken for all.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), [`Broken`](ErrorKind::Broken).
    pub fn wait_with_timeout(&self, action: impl FnOnce(), patience: Duration) -> Result<usize> {
        self.wait_with_by(action, Deadline::after(patience))
    }

    fn wait_by(&self, deadline: Deadline) -> Result<usize> {
        let arrival = self.latch().arrive(false, deadline);
        self.number(arrival, deadline)
    }

    fn wait_with_by(&self, action: impl FnOnce(), deadline: Deadline) -> Result<usize> {
        let mut arrival = self.latch().arrive(true, deadline);
        if let Ok(Arrival::Acts(generation)) = arrival {
            let unless_done = BreakOnPanic(self);
            action();
            std::mem::forget(unless_done);
            arrival = self.latch().acted(generation);
        }
        self.number(arrival, deadline)
    }

    #[inline]
    fn number(&self, arrival: std::result::Result<Arrival, Refusal>, deadline: Deadline) -> Result<usize> {
        match arrival {
            Ok(Arrival::Met(number)) => Ok(number as usize),
            // `wait_with_by` has seen to that one.
            Ok(Arrival::Acts(_)) => Err(self.refused(Refusal::Broken, deadline)),
            Err(refusal) => Err(self.refused(refusal, deadline)),
        }
    }

    #[cold]
    fn refused(&self, refusal: Refusal, deadline: Deadline) -> Error {
        if (refusal, deadline) == (Refusal::TimedOut, Deadline::Now) {
            let text = format!("not all parties of {} are here, and no time was given to wait for them", self.0.name());
            return Error::new(ErrorKind::TimedOut, text);
        }
        self.0.refused(refusal, deadline, || format!("not all of its {} parties came", self.parties()))
    }

    /// Breaks the barrier: all who wait, and all who come, get [`Broken`](ErrorKind::Broken) until it is reset.
    pub fn abort(&self) {
        self.latch().abort();
    }

    /// Makes the barrier as new. Who waits gets [`Broken`](ErrorKind::Broken).
    pub fn reset(&self) {
        self.latch().reset();
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.latch().is_broken()
    }

    /// For how many it is.
    pub fn parties(&self) -> usize {
        self.latch().parties() as usize
    }

    /// How many wait at this moment.
    pub fn waiting(&self) -> usize {
        self.latch().waiting() as usize
    }

    #[inline]
    fn latch(&self) -> latch::Barrier<'_> {
        latch::Barrier::in_words(self.0.words())
    }
}

/// Breaks the barrier when dropped, which it is only by a panic.
struct BreakOnPanic<'a>(&'a Barrier);

impl Drop for BreakOnPanic<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let broken = if self.is_broken() { ", broken" } else { "" };
        write!(f, "Barrier({}, {} of {} wait{broken})", self.0.name(), self.waiting(), self.parties())
    }
}
