//! Locks, barriers, events and values that the processes of a job share, on one node or on several.
//!
//! | type | what it is | when a process that uses it dies |
//! |---|---|---|
//! | [`Lock`] | one at a time, optionally again and again | its lock is handed on, poisoned |
//! | [`RwLock`] | one who writes or many who read | readers are forgotten; a writer's lock is handed on, poisoned |
//! | [`Semaphore`] | a number of permits | what it took stays taken: a permit has no owner |
//! | [`Barrier`] | a meeting of a fixed number of parties | the barrier breaks for all, until it is reset |
//! | [`Event`] | a flag to wait for | who waits goes on waiting for somebody else to set it |
//! | [`Condvar`] | waiting for a change of what a [`Lock`] guards | all who wait wake up once and look again |
//! | [`Value`] | a plain value, read and written whole | what it was writing does not happen |
//! | [`Array`] | a row of plain values | elements up to 8 bytes are whole; its lock is handed on, poisoned |
//!
//! **Handles are values.** Clone them, put them into the argument of a task or into a message: they are the
//! same object in the process that takes them out. A handle must be held somewhere until it has been taken
//! out there; when the last handle anywhere is gone (a killed process counts as letting go), so is the object.
//!
//! **Other nodes.** An object lies in the memory of the node that made it, its home. There each call is a few operations on
//! shared memory, whoever else uses it. On another node each call is one message to the home and one back (`update` of a
//! value two, and more if others change it meanwhile), and who waits does so at the home. What holds on one
//! node holds over several: a process that dies is known to the home, through the process that started it, within
//! milliseconds, and a whole node when its connection closes or has been silent for three seconds; then what they
//! held is handed on. If the *home* is lost, so is the object: calls fail with
//! [`NodeLost`](crate::ErrorKind::NodeLost), also those that wait, and what is only looked at (`is_locked`, `permits`, `is_set`
//! and the like) is seen as 0 or false. Guards are given back by a call too, so whoever is told of it afterwards, by
//! whatever way, finds it done.
//!
//! **Waiting.** `x()` waits as long as it takes, `x_timeout(d)` at most so long, `try_x()` not at all; both of
//! the latter fail with [`TimedOut`](crate::ErrorKind::TimedOut). Who waits spins for some microseconds, then
//! sleeps and uses no processor. A waiter that dies is forgotten.
//!
//! **Fairness.** None of these keeps a queue: when something becomes free one sleeper is woken, and takes it if no
//! thread that happened to be awake was quicker. This keeps a contended lock from costing a wake-up (60 to
//! 90 µs between cores of a virtual machine) each time it changes hands; the price is that under steady
//! contention some threads get it more often than others. A writer that waits for an [`RwLock`] keeps new
//! readers out.
//!
//! ```
//! let _dragon = dragon::init()?;
//! let (lock, total) = (dragon::sync::Lock::new()?, dragon::sync::Array::from_slice(&[0_u64, 0])?);
//! let pool = dragon::Pool::new(2)?;
//! pool.map_with(
//!     &(lock, total.clone()),
//!     |(lock, total): &(dragon::sync::Lock, dragon::sync::Array<u64>), n: u64| {
//!         let _guard = lock.lock().unwrap();
//!         total.set(0, total.get(0).unwrap() + n).unwrap();
//!         total.set(1, total.get(1).unwrap() + 1).unwrap();
//!     },
//!     1..=100,
//! )?;
//! assert_eq!(total.to_vec()?, [5050, 100]);
//! # Ok::<(), dragon::Error>(())
//! ```

mod array;
mod barrier;
mod condvar;
mod event;
mod lock;
mod rwlock;
mod semaphore;
mod shared;
mod value;

pub use array::Array;
pub use barrier::Barrier;
pub use condvar::Condvar;
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::Semaphore;
pub use value::Value;
