//! A look at running jobs from outside: what their processes, queues and locks are doing.
//!
//! A [`Job`] is found by its processes, of which each has the job's memory open, and is read where it lies. It
//! need not take part in anything: the job does not notice, is not held up, and does not even have to be well. Only
//! jobs of the same user, of the same version of this library and on the same node can be looked at.
//!
//! `examples/top.rs` shows a job this way, again and again.

use crate::ddict;
use crate::error::{Error, ErrorKind, Result};
use crate::mm::View;
use crate::runtime;
use crate::sys;

pub use crate::counters::Counters;
pub use crate::ddict::{DDictSight, ManagerSight};
pub use crate::runtime::{MemoryStats, ObjectKind, ObjectStats, ProcessPhase, ProcessStats, Stats};

/// A job on this node, as anybody may see it.
///
/// ```
/// let dragon = dragon::init()?;
/// let queue = dragon::Queue::<u8>::builder().capacity(4).name("seen from outside").build()?;
/// queue.put(7)?;
/// let job = dragon::observe::Job::of_process(std::process::id())?;
/// let stats = job.stats();
/// assert_eq!(stats.object("seen from outside").unwrap().len, Some(1));
/// assert!(dragon::observe::jobs().iter().any(|other| other.id() == job.id()));
/// # Ok::<(), dragon::Error>(())
/// ```
pub struct Job(View);

/// All jobs of this user on this node that have a process, in no particular order.
pub fn jobs() -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for view in sys::process::all().into_iter().flat_map(View::of_process).flatten() {
        if jobs.iter().all(|job| job.0.job() != view.job()) {
            jobs.push(Job(view));
        }
    }
    jobs
}

impl Job {
    /// The job that a process takes part in.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such process, it is another user's, or takes part in no job;
    /// [`WrongBuild`](ErrorKind::WrongBuild) if its job is of another version of this library.
    pub fn of_process(pid: u32) -> Result<Job> {
        let mut refused = None;
        for view in View::of_process(pid) {
            match view {
                Ok(view) => return Ok(Job(view)),
                Err(error) => refused = Some(error),
            }
        }
        Err(match refused {
            Some(error) => Error::with_source(ErrorKind::WrongBuild, format!("process {pid}"), error),
            None => {
                let text = format!("process {pid} is not there, is another user's, or takes part in no job");
                Error::new(ErrorKind::NotFound, text)
            }
        })
    }

    /// A name that no other job has: 16 digits.
    pub fn id(&self) -> String {
        self.0.job().to_string()
    }

    /// Its figures at this moment. Those of its memory may be a little off, if blocks come and go meanwhile.
    pub fn stats(&self) -> Stats {
        runtime::Stats::read(&self.0, self.0.heap_stats())
    }

    /// Its dictionaries on this node at this moment, more closely than [`stats`](Job::stats) shows them.
    ///
    /// ```
    /// let _dragon = dragon::init()?;
    /// let dict: dragon::DDict<u64, u64> = dragon::DDict::builder().name("seen by others").build()?;
    /// dict.put(&1, &1)?;
    /// let dicts = dragon::observe::Job::of_process(std::process::id())?.dicts();
    /// let seen = dicts.iter().find(|dict| dict.name.as_deref() == Some("seen by others")).unwrap();
    /// assert_eq!((seen.managers[0].keys, seen.open_in), (1, 1));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn dicts(&self) -> Vec<DDictSight> {
        ddict::seen(&self.0)
    }

    /// Whether none of its processes runs any more.
    pub fn is_over(&self) -> bool {
        let runs = |pid: u32, start: u64| start != 0 && sys::process::start_time(pid) == Some(start);
        !self.0.processes().iter().any(|entry| runs(entry.pid, entry.start_time))
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({})", self.id())
    }
}
