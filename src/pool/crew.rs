//! The workers of a pool as its owner sees them: who lives, who is to be started, what they report.

use crossbeam::channel::Sender;

use super::board::Board;
use super::conscript::{Conscript, Ranks};
use super::home::Home;
use super::worker::{self, Assignment};
use crate::error::Result;
use crate::policy::Seat;
use crate::runtime::NodeId;
use crate::services::{Born, ChildEnd, Order};
use crate::task::{self, thunk};

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// The process is there and not yet ready for tasks.
    Starting,
    /// Waits for a task.
    Idle,
    /// Runs a task.
    Busy,
}

/// One worker process, at the moment of the question.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its process id on its node.
    pub pid: u32,
    /// Its node.
    pub node: NodeId,
    /// How many tasks it has answered; a chunk of a map counts as one.
    pub tasks_done: u64,
    /// What it is doing.
    pub state: WorkerState,
}

/// Who works at a place.
#[derive(Clone)]
enum Member {
    /// A process that was started for it.
    Child(Born),
    /// A rank that waits for others.
    Rank(Conscript),
}

impl Member {
    fn pid(&self) -> u32 {
        match self {
            Member::Child(born) => born.pid,
            Member::Rank(conscript) => conscript.pid,
        }
    }
}

/// The worker processes of one pool.
pub(super) struct Crew {
    members: Vec<Option<Member>>,
    /// Places that no rank will ever take again.
    written_off: Vec<bool>,
    /// How much speaks against starting more: workers in a row that ended before they could take a task.
    pub(super) failed_starts: u32,
}

impl Crew {
    pub(super) fn new(size: usize) -> Crew {
        Crew { members: vec![None; size], written_off: vec![false; size], failed_starts: 0 }
    }

    /// How many worker processes there are.
    pub(super) fn alive(&self) -> usize {
        self.members.iter().flatten().count()
    }

    /// Places without a worker.
    pub(super) fn vacant(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&at| self.members[at].is_none()).collect()
    }

    /// Notes who was started at a place.
    pub(super) fn seat(&mut self, place: usize, born: Born) {
        self.members[place] = Some(Member::Child(born));
    }

    /// Notes a rank that takes a place.
    pub(super) fn conscribe(&mut self, place: usize, rank: Conscript) {
        self.members[place] = Some(Member::Rank(rank));
    }

    /// Takes a rank off its place.
    pub(super) fn discharge(&mut self, place: usize) -> Option<Conscript> {
        let seat = self.members.get_mut(place)?;
        match seat.take() {
            Some(Member::Rank(conscript)) => Some(conscript),
            other => {
                *seat = other;
                None
            }
        }
    }

    /// No rank will ever take this place again.
    pub(super) fn write_off(&mut self, place: usize) {
        self.written_off[place] = true;
    }

    /// All ranks are lost that there were.
    pub(super) fn is_written_off(&self) -> bool {
        !self.written_off.is_empty() && self.written_off.iter().all(|place| *place)
    }

    /// Takes a dead worker off its place.
    pub(super) fn unseat(&mut self, serial: u64) -> Option<(usize, Born)> {
        let is_it = |member: &Option<Member>| matches!(member, Some(Member::Child(born)) if born.serial == serial);
        let place = self.members.iter().position(is_it)?;
        match self.members[place].take() {
            Some(Member::Child(born)) => Some((place, born)),
            _ => None,
        }
    }

    /// Kills all that are left. A rank is not killed, but what it still does is not waited for.
    pub(super) fn kill(&mut self) {
        for seat in &mut self.members {
            match seat {
                Some(Member::Child(born)) => {
                    if let Err(error) = born.kill() {
                        tracing::warn!(pid = born.pid, %error, "cannot kill a worker");
                    }
                }
                Some(Member::Rank(_)) => *seat = None,
                None => {}
            }
        }
    }

    pub(super) fn infos(&self, board: &Board, node: NodeId) -> Vec<WorkerInfo> {
        let seated = self.members.iter().enumerate().filter_map(|(place, m)| Some((place, m.as_ref()?)));
        let info = |(place, member): (usize, &Member)| {
            let (tasks_done, busy, attached) = board.progress(place);
            let state = match (attached, busy) {
                (false, _) => WorkerState::Starting,
                (true, false) => WorkerState::Idle,
                (true, true) => WorkerState::Busy,
            };
            WorkerInfo { pid: member.pid(), node, tasks_done, state }
        };
        seated.map(info).collect()
    }
}

/// How the workers of one pool are started.
pub(super) struct Recruiter {
    pub(super) home: Home,
    pub(super) board: Board,
    pub(super) assignment: Assignment,
    /// One for each place, or none at all.
    pub(super) seats: Vec<Seat>,
    pub(super) ended: Sender<ChildEnd>,
    /// Ranks that are the workers, instead of children.
    pub(super) ranks: Option<Ranks>,
}

impl Recruiter {
    /// Starts a worker for each of these places, all or none.
    pub(super) fn start(&self, places: &[usize]) -> Result<Vec<Born>> {
        let entry = task::reference(thunk::entry(worker::serve))?;
        let order = |&place: &usize| {
            self.board.reset(place);
            let assignment = Assignment { place, ..self.assignment.clone() };
            let order = Order::worker(entry, assignment.encode(), self.ended.clone());
            match self.seats.get(place) {
                Some(seat) => order.on(seat),
                None => order,
            }
        };
        self.home.spawn(places.iter().map(order).collect())
    }
}
