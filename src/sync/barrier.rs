//! A meeting of a fixed number of parties, across processes and nodes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shared::{Shared, Site, Sort};
use crate::error::{Error, ErrorKind, Result};
use crate::latch;
use crate::latch::{Arrival, Generation, Refusal};
use crate::mesh::Body;
use crate::mm::Kind;
use crate::runtime::NodeId;
use crate::services::{FarObject, SyncOp};
use crate::time::Deadline;

enum OfBarrier {}

impl Sort for OfBarrier {
    const KIND: Kind = Kind::Barrier;
    const CALLED: &'static str = "barrier";
}

/// A place where a fixed number of threads, of any processes of the job, wait for each other, again and again.
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
/// **Other nodes.** Parties of other nodes wait at the barrier's home. It breaks when a process of any node ends that has it
/// open, or a whole node is lost.
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
        let begin = |words: &_| latch::Barrier::in_words(words).begin(parties as u64);
        Ok(Barrier(Shared::create(latch::Barrier::WORDS, begin)?))
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
    /// let meet = || barrier.wait_with(|| rounds.update(|n| *n += 1).unwrap()).and_then(|_| rounds.get());
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
        let arrival = self.arrive(false, deadline)?;
        self.number(arrival, deadline)
    }

    fn wait_with_by(&self, action: impl FnOnce(), deadline: Deadline) -> Result<usize> {
        let mut arrival = self.arrive(true, deadline)?;
        if let Arrival::Acts(generation) = arrival {
            let unless_done = BreakOnPanic(self);
            action();
            std::mem::forget(unless_done);
            arrival = self.acted(generation, deadline)?;
        }
        self.number(arrival, deadline)
    }

    #[inline]
    fn arrive(&self, acts: bool, deadline: Deadline) -> Result<Arrival> {
        match self.0.site() {
            Site::Near(words) => {
                let arrived = latch::Barrier::in_words(words).arrive(acts, deadline);
                arrived.map_err(|refusal| self.refused(refusal, deadline))
            }
            Site::Far(far) => self.arrive_far(far, SyncOp::Arrive, u64::from(acts), deadline),
        }
    }

    fn acted(&self, generation: Generation, deadline: Deadline) -> Result<Arrival> {
        match self.0.site() {
            Site::Near(words) => {
                let acted = latch::Barrier::in_words(words).acted(generation);
                acted.map_err(|refusal| self.refused(refusal, deadline))
            }
            Site::Far(far) => self.arrive_far(far, SyncOp::Acted, generation.0, Deadline::Never),
        }
    }

    fn arrive_far(&self, far: &FarObject, op: SyncOp, word: u64, deadline: Deadline) -> Result<Arrival> {
        let body: Body = self.0.ask(far, op, [word, 0], deadline, &[])?;
        let unclear = || Error::new(ErrorKind::Io, format!("node {} says nothing of its barrier", far.home()));
        let [acts, number]: [u64; 2] =
            bytemuck::pod_read_unaligned(body.get(..size_of::<[u64; 2]>()).ok_or_else(unclear)?);
        Ok(if acts == 0 { Arrival::Met(number) } else { Arrival::Acts(Generation(number)) })
    }

    #[inline]
    fn number(&self, arrival: Arrival, deadline: Deadline) -> Result<usize> {
        match arrival {
            Arrival::Met(number) => Ok(number as usize),
            // `wait_with_by` has seen to that one.
            Arrival::Acts(_) => Err(self.refused(Refusal::Broken, deadline)),
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
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost).
    pub fn abort(&self) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => latch::Barrier::in_words(words).abort(),
            Site::Far(far) => self.0.tell(far, SyncOp::Abort, 0)?,
        }
        Ok(())
    }

    /// Makes the barrier as new. Who waits gets [`Broken`](ErrorKind::Broken).
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost).
    pub fn reset(&self) -> Result<()> {
        match self.0.site() {
            Site::Near(words) => latch::Barrier::in_words(words).reset(),
            Site::Far(far) => self.0.tell(far, SyncOp::Reset, 0)?,
        }
        Ok(())
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.figures()[0] != 0
    }

    /// For how many it is; 0 if its node is lost.
    pub fn parties(&self) -> usize {
        self.figures()[2] as usize
    }

    /// How many wait at this moment.
    pub fn waiting(&self) -> usize {
        self.figures()[1] as usize
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    fn figures(&self) -> [u64; 3] {
        match self.0.site() {
            Site::Near(words) => {
                let latch = latch::Barrier::in_words(words);
                [u64::from(latch.is_broken()), latch.waiting(), latch.parties()]
            }
            Site::Far(far) => {
                let [broken, waiting, parties, _] = far.figures();
                [broken, waiting, parties]
            }
        }
    }
}

/// Breaks the barrier when dropped, which it is only by a panic.
struct BreakOnPanic<'a>(&'a Barrier);

impl Drop for BreakOnPanic<'_> {
    fn drop(&mut self) {
        // A barrier whose node is lost is broken for all.
        let _ = self.0.abort();
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let broken = if self.is_broken() { ", broken" } else { "" };
        write!(f, "Barrier({}, {} of {} wait{broken})", self.0.name(), self.waiting(), self.parties())
    }
}
