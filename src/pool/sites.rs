//! The workers of a pool on other nodes, as the pool's owner sees them: each node's are a *site*.
//!
//! A task for a site is a call to its node, and the answer comes into the pool's own ring of results, so that whoever
//! collects sees no difference (`engine.rs`). How many tasks a site may have at a time is its credit (`flight.rs`). When a
//! node is lost, or this node is cut off, the mesh answers in its place. The other half is `site.rs`.

use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};

use super::crew::{WorkerInfo, WorkerState};
use super::engine::{Engine, Phase, Refusal};
use super::flight::{Launch, Share};
use super::message::{ResultHead, Status, Ticket, op};
use super::sink::{Outcome, lock};
use super::{news, site};
use crate::channel::Channel;
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::mesh::{Mesh, MeshError};
use crate::policy::Seat;
use crate::prim::{AtomicBool, Ordering};
use crate::runtime::{Core, NodeId};
use crate::services::{FarError, FarSession};
use crate::task::{self, thunk};
use crate::wire;

/// So many tasks for each worker of a site may be on their way: one that runs, and others that wait for it to be done.
pub(super) const CREDIT: usize = 4;

/// What a site is told when it is founded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Founding {
    /// How many workers; 0: as many as the node may use processors.
    pub(super) workers: u64,
    /// One for each worker, or none at all.
    pub(super) seats: Vec<Seat>,
    /// These ranks of the node are the workers, as soon as they wait for others.
    pub(super) ranks: Option<Vec<u32>>,
    pub(super) tasks_per_worker: u64,
    /// The name of a function that workers run first, and its encoded argument.
    pub(super) initializer: Option<(Vec<u8>, Vec<u8>)>,
}

/// How many workers a site has, or why it has none.
pub(super) type Founded = std::result::Result<u64, (ErrorKind, String)>;

/// What a worker of a site does: process id, tasks done, state.
pub(super) type Figures = (u32, u64, u8);

/// All sites of a pool but its owner's node. Site 1 is the first.
pub(super) struct Sites {
    pub(super) list: Vec<FarSession>,
    /// It is known that this node is cut off from all others.
    cut: AtomicBool,
    /// The workers are ranks, which come when they come.
    pub(super) on_ranks: bool,
    /// Who hears of losses, as long as it is there.
    pub(super) core: Weak<Core>,
    /// Where sites say what is new.
    pub(super) news: Channel,
}

impl Sites {
    /// Founds sites, all at the same time. A node that is lost is left out unless it was `named`. Each comes with the number
    /// of its workers.
    pub(super) fn found(
        mesh: &Mesh,
        (core, engine): (&Arc<Core>, &Engine),
        wanted: &[(NodeNumber, Founding)],
        named: bool,
    ) -> Result<(Sites, Vec<usize>)> {
        let founded: Vec<Result<(FarSession, usize)>> = std::thread::scope(|scope| {
            let found = |(node, founding): &(NodeNumber, Founding)| {
                let (node, founding, inbox) = (*node, founding.clone(), engine.results.id());
                scope.spawn(move || found_one(mesh.clone(), node, inbox, founding))
            };
            let threads: Vec<_> = wanted.iter().map(found).collect();
            let panicked = |_| Err(Error::new(ErrorKind::Io, "a thread that founds a pool's site panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        let news = Channel::create(core.memory(), wanted.len(), size_of::<ResultHead>() + 240)?;
        let (mut sites, mut failed) = ((Vec::new(), Vec::new()), None);
        for one in founded {
            match one {
                Ok((session, workers)) => {
                    sites.0.push(session);
                    sites.1.push(workers);
                }
                Err(error) if error.kind() == ErrorKind::NodeLost && !named => {
                    tracing::warn!(%error, "a pool does without a node");
                }
                Err(error) => failed = Some(error),
            }
        }
        let (list, workers) = sites;
        let on_ranks = wanted.iter().any(|(_, founding)| founding.ranks.is_some());
        let sites = Sites { list, cut: AtomicBool::new(false), on_ranks, core: Arc::downgrade(core), news };
        match failed {
            None => Ok((sites, workers)),
            Some(error) => {
                sites.tell_all(op::KILL, &[]);
                Err(error)
            }
        }
    }

    pub(super) fn session(&self, site: usize) -> &FarSession {
        &self.list[site - 1]
    }

    /// Tells all sites the same. One that is lost needs not hear it.
    pub(super) fn tell_all(&self, op: u32, message: &[u8]) {
        for session in &self.list {
            let _ = session.tell(op, message);
        }
    }

    /// Asks all sites to say when they end.
    fn stand(&self) {
        for (site, session) in (1..).zip(&self.list) {
            if let Err(error) = session.ask(op::STAND, &[], Ticket::standing(site).0) {
                // Whatever the first task is answered says it again.
                tracing::warn!(node = session.node(), %error, "a site of a pool is lost");
            }
        }
    }

    /// Gives tasks up. True if none of them has begun or ever will.
    pub(super) fn cancel(&self, flying: Vec<(Ticket, usize)>) -> bool {
        let mut never = true;
        for (site, session) in (1..).zip(&self.list) {
            let tickets: Vec<u64> = flying.iter().filter(|(_, to)| *to == site).map(|(ticket, _)| ticket.0).collect();
            if !tickets.is_empty() {
                let answer = session.call(op::CANCEL, bytemuck::cast_slice(&tickets));
                never &= answer.is_ok_and(|answer| answer.first() == Some(&1));
            }
        }
        never
    }

    /// Brings a context to all sites.
    pub(super) fn send_context(&self, id: u64, bytes: &[u8]) -> Result<()> {
        for session in &self.list {
            match session.call(op::CONTEXT, &[&id.to_le_bytes(), bytes].concat()) {
                Err(FarError::Mesh(error)) if is_loss(&error) => {}
                Err(FarError::Refused { why: crate::services::Why::Gone, .. }) => {}
                sent => drop(sent?),
            }
        }
        Ok(())
    }

    /// The workers of all sites that answer.
    pub(super) fn infos(&self) -> Vec<WorkerInfo> {
        let mut infos = Vec::new();
        for session in &self.list {
            let figures =
                session.call(op::WORKERS, &[]).ok().and_then(|bytes| wire::decode::<Vec<Figures>>(&bytes).ok());
            infos.extend(figures.into_iter().flatten().map(|(pid, tasks_done, state)| {
                let state = match state {
                    0 => WorkerState::Starting,
                    1 => WorkerState::Idle,
                    _ => WorkerState::Busy,
                };
                WorkerInfo { pid, node: NodeId::new(session.node()), tasks_done, state }
            }));
        }
        infos
    }

    /// This node has lost its way to all others, and nobody has seen to that yet.
    pub(super) fn is_newly_cut(&self) -> bool {
        // Relaxed: set by who sees to it, with the collector's role.
        !self.cut.load(Ordering::Relaxed) && self.list.first().is_some_and(FarSession::is_cut)
    }
}

fn found_one(
    mesh: Mesh,
    node: NodeNumber,
    inbox: crate::id::ObjectId,
    founding: Founding,
) -> Result<(FarSession, usize)> {
    let entry = task::name_in_full(thunk::one(site::open))?;
    let mut argument = Vec::new();
    wire::encode(&founding, &mut argument)?;
    let (session, answer) = FarSession::open(mesh, node, inbox, entry, argument)?;
    match wire::decode::<Founded>(&answer)? {
        Ok(workers) => Ok((session, workers as usize)),
        Err((kind, text)) => Err(Error::new(kind, format!("node {node}: {text}"))),
    }
}

/// The node, or the way to it, is gone.
fn is_loss(error: &MeshError) -> bool {
    matches!(error, MeshError::Lost { .. } | MeshError::NoHub | MeshError::Closed | MeshError::Dropped { .. })
}

/// Keeps a context at all sites.
pub(super) struct FarContext {
    pub(super) sites: Arc<Sites>,
    pub(super) id: u64,
}

impl Drop for FarContext {
    fn drop(&mut self) {
        self.sites.tell_all(op::FORGET, &self.id.to_le_bytes());
    }
}

impl Engine {
    /// Lets sites take part, before the first task. `here` is how many workers this node has.
    pub(super) fn take_in(self: &Arc<Self>, sites: Sites, here: usize, workers: &[usize]) {
        let load = |&workers: &usize| match sites.on_ranks {
            // Nothing goes there until somebody is there to do it.
            true => Share::new(0, 0, workers > 0),
            false => Share::new(workers, workers * CREDIT, workers > 0),
        };
        lock(&self.state).flights.loads = std::iter::once(&here).chain(workers).map(load).collect();
        let sites = Arc::new(sites);
        if self.sites.set(sites.clone()).is_ok() {
            sites.stand();
            news::listen(self, &sites);
        }
    }

    /// Sends a task that was entered for a site.
    pub(super) fn launch_far(
        &self,
        site: usize,
        ticket: Ticket,
        bytes: &mut [u8],
    ) -> std::result::Result<(), (Launch, Refusal)> {
        let Some(sites) = self.sites.get() else { return Ok(()) };
        let Err(error) = sites.session(site).ask(op::TASK, bytes, ticket.0) else { return Ok(()) };
        let mut state = lock(&self.state);
        // Gone only if the pool was terminated meanwhile, and then its sink has been told.
        let Some(launch) = state.flights.land(ticket) else { return Ok(()) };
        if !is_loss(&error) {
            return Err((launch, Refusal::Never(error.into())));
        }
        state.flights.loads[site].is_open = false;
        drop(state);
        // It has not got there, so it may as well go elsewhere.
        self.launch(bytes, launch)
    }

    /// Takes an answer that is not what a worker says of its task. True: there is something to do besides.
    pub(super) fn accept_news(&self, head: ResultHead, rest: &[u8]) -> bool {
        self.count_landed();
        let text = String::from_utf8_lossy(rest);
        let ticket = head.ticket;
        if ticket == Ticket::NONE && head.status == Status::LEFT {
            let place = rest.first_chunk().map_or(usize::MAX, |place| u64::from_le_bytes(*place) as usize);
            lock(&self.state).crew.discharge(place);
            self.turn_over();
        } else if ticket == Ticket::NONE {
            self.break_down(&Error::new(ErrorKind::WorkerStart, text));
        } else if ticket.generation() == 0 {
            self.site_has_ended(ticket.index(), head, rest);
        } else if head.failed != 0 {
            match wire::decode::<MeshError>(rest) {
                Ok(error) if !is_loss(&error) => self.fail(ticket, error.into()),
                error => self.lose_with_node(ticket, &error.map_or_else(|e| e.to_string(), |e| e.to_string())),
            }
        } else {
            match (head.status, wire::decode::<(ErrorKind, String)>(rest)) {
                (Status::ERROR, Ok((kind, text))) => self.fail(ticket, Error::new(kind, text)),
                (Status::LOST, _) => self.lose(ticket, |_| text.into_owned()),
                _ => self.lose_with_node(ticket, &text),
            }
        }
        true
    }

    fn fail(&self, ticket: Ticket, error: Error) {
        let launch = lock(&self.state).flights.land(ticket);
        if let Some(launch) = launch {
            self.deliver(launch, Outcome::Failed(error));
        }
    }

    fn lose_with_node(&self, ticket: Ticket, how: &str) {
        self.lose(ticket, |launch| {
            let (name, part) = (launch.thunk.name(), launch.part);
            format!("{how}; it had task `{name}` (part {part}); `Pool::builder().retries(n)` runs such a task again")
        });
    }

    /// The worker that had a task is lost: it is sent again, or fails.
    fn lose(&self, ticket: Ticket, text: impl FnOnce(&Launch) -> String) {
        let crashed = lock(&self.state).flights.crash(ticket);
        match crashed {
            Some(Ok(parcel)) => lock(&self.state).flights.backlog.push_front(parcel),
            Some(Err(launch)) => {
                let error = Error::new(ErrorKind::WorkerLost, text(&launch));
                self.deliver(launch, Outcome::Failed(error));
            }
            None => {}
        }
    }

    /// A site has no workers any more.
    fn site_has_ended(&self, site: usize, head: ResultHead, rest: &[u8]) {
        let mut state = lock(&self.state);
        let Some(load) = state.flights.loads.get_mut(site) else { return };
        (load.is_open, load.is_over) = (false, true);
        let none_left = state.flights.loads.iter().all(|load| !load.is_open);
        let given_up = state.phase == Phase::Ended;
        let idle = state.phase == Phase::Closing && state.flights.is_empty();
        drop(state);
        let broken = wire::decode::<(ErrorKind, String)>(rest).ok().filter(|_| head.status == Status::ERROR);
        if given_up || idle {
            return self.turn_over();
        }
        if let Some((kind, text)) = broken.filter(|_| head.failed == 0) {
            return self.break_down(&Error::new(kind, text));
        }
        let how = wire::decode::<MeshError>(rest).map_or_else(|_| "it has ended".into(), |error| error.to_string());
        let node = self.sites.get().map_or(0, |sites| sites.session(site).node());
        tracing::warn!(node, how, "a site of a pool is lost");
        if none_left {
            self.break_down(&Error::new(ErrorKind::NodeLost, format!("no node of the pool is left; the last: {how}")));
        }
        self.turn_over();
    }

    /// This node has lost its way to all others: so are their workers.
    pub(super) fn look_for_cut(&self) {
        let Some(sites) = self.sites.get().filter(|sites| sites.is_newly_cut()) else { return };
        sites.cut.store(true, Ordering::Relaxed); // see `is_newly_cut`
        let how = MeshError::NoHub.to_string();
        for site in 1..=sites.list.len() {
            let flying = lock(&self.state).flights.to(site);
            lock(&self.state).flights.loads[site].is_open = false;
            flying.into_iter().for_each(|(ticket, _)| self.lose_with_node(ticket, &how));
            let head = ResultHead { ticket: Ticket::standing(site), failed: 1, status: Status::DONE };
            self.site_has_ended(site, head, how.as_bytes());
        }
        self.count_landed();
        self.pump();
        self.finish_if_done();
    }
}
