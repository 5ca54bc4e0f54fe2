//! What shared objects count of themselves, in words that anybody may read at any time.
//!
//! Counting must not cost what it counts. So what an object keeps anyway is not counted once more: how far a ring has
//! come says how many messages were put and taken, the word of an event how often it was set. Waiting and
//! waking is counted where it costs a system call (`wait`). What is left is added to by plain stores of the one who
//! holds the object, or to a [`Sum`].

mod sum;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;

pub(crate) use sum::Sum;

/// What an object has counted since it was made. What does not apply to its kind is 0.
///
/// Every figure is right at some moment of the call that reads it; several of one object need not be of the same
/// moment. Nothing that was counted is lost when a process dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages put; permits given; times an event was set, a condition was told of, an [`RwLock`](crate::sync::RwLock)
    /// was taken to write, a value of more than 8 bytes was written. A message that was given up when its slot was taken
    /// already, since the queue grew or was closed just then, counts as put and as taken.
    pub puts: u64,
    /// Messages taken out; permits taken; times a lock was taken (an `RwLock`: to read), a barrier was passed by all.
    pub gets: u64,
    /// Bytes of the messages that were put, as they travel. One that was given up counts as one that fills its slot.
    pub bytes: u64,
    /// Times somebody had to go to sleep: for a message, for room, for a lock. Who is served before it sleeps does
    /// not count.
    pub waits: u64,
    /// Calls of the kernel to wake somebody.
    pub wakes: u64,
    /// The most messages that were seen in it at a time. Looked at once in 64 puts, when somebody had to sleep
    /// because it was full, and whenever the figures are read; so it may be up to 63 too low.
    pub high_water: u64,
    /// Processes that died while they had it open, after each of which it was repaired.
    pub deaths: u64,
}
