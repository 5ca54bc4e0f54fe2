//! `dragon` gives a program the whole cluster as one computer, as a library.
//!
//! Call [`init`] in `main`, keep what it returns, and use the types of this crate: no server, no daemon,
//! no launcher of our own. Processes that share a node share memory; a process that dies, at any
//! instruction, is an error of what it was doing and of nothing else.
//!
//! ```
//! fn main() -> dragon::Result<()> {
//!     let _dragon = dragon::init()?;
//!     let pool = dragon::Pool::new(4)?;
//!     let squares: Vec<u64> = pool.map(|x: u64| x * x, 0..10)?;
//!     println!("{squares:?}");
//!     Ok(())
//! }
//! ```
//!
//! [`Pool`] is where to start. `ARCHITECTURE.md` in the source says how the house is built.
#![deny(missing_docs)]

#[macro_use]
mod prim;

// floor 0: words, and the machine
mod id;
mod policy;
mod sys;
mod time;
// floor 1: memory, rings, waiting
mod mm;
mod ring;
mod wait;
// floor 2: who else is there; one node; functions; the language
mod bootstrap;
mod channel;
pub mod codec;
mod counters;
mod latch;
mod names;
mod pmi;
mod table;
mod task;
#[allow(dead_code, reason = "the trait promises what fabrics will need; its conformance suite asks for all of it")]
mod transport;
mod wire;
// floor 3: decisions; calls between nodes
mod mesh;
mod proto;
// floor 4: what a node does for its processes
mod services;
// floor 5: assembly
mod error;
mod runtime;
// floor 6: what users type
mod ddict;
pub mod observe;
mod pool;
mod process;
mod queue;
mod select;
mod shared;
pub mod sync;

pub use ddict::{Batch, DDict, DDictBuilder, DDictStats, Entries, ManagerStats, Persist, Posix, Ref, Store, Whole};
pub use error::{Error, ErrorKind, Result};
pub use mm::{Backing, HugePages};
pub use pmi::Pmi;
pub use policy::{Distribution, Gpu, Node, Numa, Placement, Policy, Vendor};
pub use pool::{Chunked, Pool, PoolBuilder, Stream, Task, TaskWatch, WorkerInfo, WorkerState};
pub use process::{
    Exit, GroupEvent, GroupEvents, GroupState, Input, Output, Process, ProcessGroup, ProcessGroupBuilder, ProcessState,
    Restart, Signal, Stdio, Template,
};
pub use queue::{GetManyError, Iter, PutError, Queue, QueueBuilder};
pub use runtime::{Builder, Event, Events, MemoryStats, NodeId, Runtime, Stats, System, builder, init, run};
pub use select::{ProcessWatch, Selector, Source};
pub use shared::{Allocation, Channel, Loan, MemoryPool, Received};
pub use sync::{Array, Barrier, Condvar, Lock, RwLock, Semaphore, Value};
pub use task::Outcome;
pub use wire::Message;

/// Places where a crash test may kill this process. Only with feature `failpoints`.
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub mod failpoint {
    pub use crate::prim::failpoint::arm;
}

/// The transport without the runtime. Only with feature `probe`.
#[cfg(feature = "probe")]
#[doc(hidden)]
pub mod probe {
    pub use crate::transport::probe::{Mode, Probe};
}
