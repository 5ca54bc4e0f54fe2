//! MPI without `mpiexec`: serves what the ranks of MPI programs ask, those of all teams of this process, on one thread.
//!
//! ```text
//! Mpi::open ──▶ one socket for each rank ──▶ shell: epoll ──▶ pmi::Share        PMI-1, PMI-2
//!          └──▶ Order::Open ──▶ the office, a process with libpmix              PMIx
//! barrier, fence ──▶ Exchange: what all nodes of the team have put together     several nodes
//! ```
//! An idle team costs no thread and no time: the shell sleeps until a rank says something.

mod desk;
mod exchange;
mod line;
mod office;
mod shell;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded, unbounded};

pub(in crate::services) use self::exchange::look_up;
pub(crate) use self::exchange::{Alone, Exchange, Far};
use self::shell::{Order, Shell};
use super::ServiceError;
use crate::pmi::{Ending, Speaks, Team};
use crate::sys::poll::Bell;

/// Far longer than a server takes that answers at all.
const PATIENCE: Duration = Duration::from_secs(1);

/// A team whose ranks on this node are to be served.
pub(crate) struct Plan {
    /// Its ranks.
    pub(crate) team: Team,
    /// This node's place among those of the team.
    pub(crate) place: u32,
    /// The names of the team's nodes, all different, by place.
    pub(crate) hosts: Vec<String>,
    /// Whether several of its nodes are one machine.
    pub(crate) crowded: bool,
    /// What its ranks speak.
    pub(crate) speaks: Speaks,
    /// The way to the other nodes.
    pub(crate) exchange: Arc<dyn Exchange>,
    /// Hears, under this number, if the team must end: whoever started its ranks ends them.
    pub(crate) ends: Sender<(u64, Ending)>,
    pub(crate) key: u64,
}

/// What a rank is to be started with.
#[derive(Debug)]
pub(crate) struct Billet {
    /// Its number in the team.
    pub(crate) rank: u32,
    /// Variables to be set. What an outer launcher has left is to be removed (`bootstrap::makes_a_rank`).
    pub(crate) environment: Vec<(String, String)>,
    /// To be open in the rank under the number `RANKS_DESCRIPTOR`, and closed here as soon as the rank is started: only
    /// then is its end noticed.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// A team that is served for as long as this lives.
pub(crate) struct Served {
    mpi: Arc<Mpi>,
    name: String,
}

/// The server of this process.
pub(crate) struct Mpi {
    orders: Sender<Order>,
    bell: Arc<Bell>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Mpi {
    /// The server of this process: started if nobody uses it yet, ended when nobody does any more.
    pub(crate) fn here() -> Result<Arc<Mpi>, ServiceError> {
        static HERE: Mutex<Weak<Mpi>> = Mutex::new(Weak::new());
        let mut here = lock(&HERE);
        if let Some(mpi) = here.upgrade() {
            return Ok(mpi);
        }
        let mpi = Arc::new(Mpi::start().map_err(|error| ServiceError::spawn("the server of MPI ranks", error))?);
        *here = Arc::downgrade(&mpi);
        Ok(mpi)
    }

    fn start() -> std::io::Result<Mpi> {
        let bell = Arc::new(Bell::new()?);
        let (orders, todo) = unbounded();
        let shell = Shell::new(todo, orders.clone(), bell.clone())?;
        let thread = thread::Builder::new().name("dragon-mpi".into()).spawn(move || shell.run())?;
        Ok(Mpi { orders, bell, thread: Mutex::new(Some(thread)) })
    }

    /// Serves a team: what each of its ranks on this node is to be started with, in order.
    pub(crate) fn open(self: &Arc<Self>, plan: Plan) -> Result<(Served, Vec<Billet>), ServiceError> {
        let name = plan.team.name.clone();
        let (reply, answer) = bounded(1);
        self.order(Order::Open(Box::new(plan), reply));
        let billets = answer.recv().map_err(|_| ServiceError::Stopped)?.map_err(|why| ServiceError::Mpi { why })?;
        Ok((Served { mpi: self.clone(), name }, billets))
    }

    fn order(&self, order: Order) {
        // Fails only when the thread has ended, and then who waits for an answer learns that.
        let _ = self.orders.send(order);
        self.bell.ring();
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        self.order(Order::Stop);
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the server of MPI ranks panicked");
        }
    }
}

impl Served {
    /// Waits until all that its ranks here have said by now has been told to who hears of their end, however soon after it
    /// they ended. A server that does not answer is not waited for.
    pub(crate) fn hear_out(&self) {
        let (reply, heard) = bounded(0);
        self.mpi.order(Order::HearOut(self.name.clone(), reply));
        // Nothing is ever sent: the reply is dropped.
        let _ = heard.recv_timeout(PATIENCE);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.mpi.order(Order::Close(std::mem::take(&mut self.name)));
    }
}

/// Locks, whatever happened to the thread that held the lock: what it guards here is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
