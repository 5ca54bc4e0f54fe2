//! The order of bring-up of a job with several ranks, on one page.
//!
//! ```text
//! plan       what the environment says (bootstrap::detect)
//! meet       the ranks find each other and agree on a job and a secret (bootstrap::join)
//! share      ranks that can share memory become a node; its lowest rank, the head, makes the memory
//! address    heads open their way to other nodes; everybody learns all addresses
//! charter    heads write down what the node's processes know of the job
//! hub, host  heads begin to take and to answer calls
//! watch      each rank notices the end of the others of its node
//! ```
//! Whatever fails on one rank is told to all, so that none waits for it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::thread;

use serde::{Deserialize, Serialize};

use super::core::{Core, HubThreads, Ties, tell_of_ends};
use super::events::Event;
use super::place::{Charter, Chartered, Place};
use crate::bootstrap::{self, BootstrapError, JoinConfig, NodeShare, Plan, Process, World};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{JobId, ProcId};
use crate::mesh::{Hub, Lanes, Member, Mesh};
use crate::mm::{MemError, Memory, MemoryConfig};
use crate::services::{AfterRepair, Agent, Host, Loss, Seat, Watched};
use crate::sys;
use crate::task;
use crate::transport::{Engine, Identity, Lossy, Secret, Settings, Tcp, TransportError, Tuning};

/// Descriptors beyond those that go with the number of ranks.
const SPARE: u64 = 64;

/// What the environment says about this process, which is not a worker.
pub(super) fn plan() -> Result<Plan> {
    Ok(bootstrap::detect(&environment())?)
}

fn environment() -> Process {
    Process { is_worker: false }
}

/// What a rank tells the others when nodes are made.
#[derive(Debug, Serialize, Deserialize)]
struct Card {
    /// Its place in its node's process table.
    process: ProcId,
    /// Of a head: which incarnation of its node it is, and where other nodes reach it.
    lane: Option<(u64, Vec<u8>)>,
}

/// Meets the other ranks. Returns when all of them are ready.
pub(super) fn start(plan: &Plan, config: &MemoryConfig) -> Result<Arc<Core>> {
    let join = JoinConfig::read(&environment(), task::build())?;
    let mut world = bootstrap::join(plan, &join, sys::process::host_name().as_bytes())?;
    if world.size == 1 {
        return Ok(Core::alone(Memory::create(config)?, config.clone()));
    }
    // A head has a socket for each rank of its node and one for each other node, and every rank watches its neighbours. What
    // it may not have shows where it is wanted.
    sys::process::allow_descriptors(sys::process::open_descriptors() + 2 * u64::from(world.size) + SPARE);
    let core = settle(&mut world, config).inspect_err(|error| world.fail(&error.to_string()))?;
    world.finish()?;
    Ok(core)
}

fn settle(world: &mut World, config: &MemoryConfig) -> Result<Arc<Core>> {
    let (memory, share) = share(world, config)?;
    let is_head = matches!(share, NodeShare::Head { .. });
    let mut engine = (is_head && nodes(world) > 1).then(|| open_engine(world)).transpose()?;
    let lane = engine.as_ref().map(|(epoch, engine)| (*epoch, engine.address()));
    let cards = exchange(world, &Card { process: memory.me(), lane })?;
    let ranks = world.node.ranks.iter().map(|rank| (*rank, cards[*rank as usize].process)).collect();
    if let Some((_, engine)) = &mut engine {
        let lanes = cards.iter().enumerate().filter_map(|(rank, card)| Some((world.nodes[rank], card.lane.as_ref()?)));
        for (node, (epoch, address)) in lanes.filter(|(node, _)| *node != world.node.index) {
            engine.know(node, *epoch, address)?;
        }
    }
    let hub = is_head.then(|| Hub::new(world.node.index, nodes(world), memory.clone())).transpose()?;
    if let Some(hub) = &hub {
        let (node, nodes, post) = (world.node.index, world.nodes.clone(), hub.post());
        let charter = Charter { node, nodes, ranks, post };
        let place = Place::of_rank(world.rank, Chartered::write(&memory, charter)?);
        world.barrier()?;
        let head = Head { hub: hub.clone(), engine: engine.map(|(_, engine)| engine) };
        return finish_head(world, memory, config, place, head, share);
    }
    world.barrier()?;
    let lost = || Error::new(ErrorKind::Start, "the head of this node wrote no charter");
    let place = Place::of_rank(world.rank, Chartered::find(&memory).ok_or_else(lost)?);
    finish_member(world, memory, config, place, share)
}

fn nodes(world: &World) -> u32 {
    world.nodes.iter().max().map_or(1, |last| last + 1)
}

/// Opens this node's way to the others.
fn open_engine(world: &World) -> Result<(u64, Box<dyn Engine>)> {
    let name = |bytes: &[u8; 16]| u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]));
    let chance = || getrandom::u64().map_err(|error| Error::with_source(ErrorKind::Io, "make up a number", error));
    let (epoch, mut build) = (chance()?, [0; 16]);
    build.iter_mut().zip(task::build()).for_each(|(to, from)| *to = from);
    let me =
        Identity { job: JobId(name(&world.job)), node: world.node.index, epoch, build, secret: Secret(world.secret) };
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let tuning = Tuning { nodes: nodes(world), ..Tuning::default() };
    let weather = settings.lossy;
    let tcp = Box::new(Tcp::open(me, settings, tuning)?);
    Ok(match weather {
        None => (epoch, tcp),
        Some(weather) => (epoch, Box::new(Lossy::around(tcp, weather)?)),
    })
}

/// What a head has besides its memory.
struct Head {
    hub: Arc<Hub>,
    engine: Option<Box<dyn Engine>>,
}

/// Becomes the head or a member of a node, with its memory.
fn share(world: &mut World, config: &MemoryConfig) -> Result<(Arc<Memory>, NodeShare)> {
    let made = OnceLock::new();
    let make = || -> std::result::Result<OwnedFd, String> {
        let memory = Memory::create(config).map_err(|error| error.to_string())?;
        let file = memory.descriptor().try_clone_to_owned().map_err(|error| error.to_string())?;
        made.set(memory).map_err(|_| "its memory is made twice".to_string())?;
        Ok(file)
    };
    let admit = |applicant: bootstrap::Applicant| {
        let memory = made.get().ok_or("the memory is not made yet")?;
        let rank = applicant.rank;
        let full = |error: MemError| format!("no place for rank {rank}: {error}");
        let process = memory.reserve_process().map_err(full)?;
        memory.process_started(process, applicant.pid);
        Ok(u32::from(process.0))
    };
    let share = bootstrap::share(world, make, admit)?;
    if let (NodeShare::Head { members }, Some(memory)) = (&share, made.get()) {
        for member in members {
            tracing::debug!(rank = member.rank, pid = member.pid, place = member.slot, "a rank of this node");
        }
        // Who was let in and did not come has its place for nothing.
        let came = |process: ProcId| members.iter().any(|member| member.slot == u32::from(process.0));
        let places = memory.processes().into_iter().map(|entry| entry.id);
        places.filter(|id| *id != memory.me() && !came(*id)).for_each(|id| memory.abandon_process(id));
    }
    let memory = match &share {
        NodeShare::Head { .. } => made.into_inner(),
        NodeShare::Member { file, slot, .. } => {
            let file =
                file.try_clone().map_err(|error| Error::with_source(ErrorKind::Io, "the node's memory", error))?;
            Some(Memory::attach(file, ProcId(*slot as u16))?)
        }
    };
    let none = || Error::new(ErrorKind::Start, "this rank is head of a node and has made no memory");
    Ok((memory.ok_or_else(none)?, share))
}

fn exchange(world: &mut World, card: &Card) -> Result<Vec<Card>> {
    let mut bytes = Vec::new();
    crate::wire::encode(card, &mut bytes)?;
    let all = world.allgather(&bytes)?;
    Ok(all.iter().map(|bytes| crate::wire::decode(bytes)).collect::<std::result::Result<_, _>>()?)
}

fn finish_head(
    world: &mut World,
    memory: Arc<Memory>,
    config: &MemoryConfig,
    place: Place,
    Head { hub, engine }: Head,
    share: NodeShare,
) -> Result<Arc<Core>> {
    let core = Core::in_world(memory.clone(), config.clone(), place, Mesh::Hub(hub.clone()));
    let told = Arc::downgrade(&core);
    let tell = move |loss: Loss| {
        if let Some(core) = told.upgrade() {
            core.tell(event(loss));
        }
    };
    let hosts = world.cards.iter().map(|card| String::from_utf8_lossy(card).into_owned()).collect();
    let seat = Seat { node: world.node.index, leader: world.nodes[0], of_ranks: world.nodes.clone(), hosts };
    let host = Host::serve(&hub, &memory, seat, tell);
    if let Some(engine) = engine {
        hub.set_carrier(Lanes::open(engine, &hub)?);
    }
    let relayed = hub.clone();
    let relay = thread::Builder::new().name("dragon-relay".into()).spawn(move || relayed.relay());
    let relay = relay.map_err(|error| Error::with_source(ErrorKind::ResourceLimit, "no thread for calls", error))?;
    let told = host.clone();
    let watched = watch(&core, world, share, move |rank, how| {
        told.rank_is_gone(rank, how);
        let (told, how) = (told.clone(), how.to_string());
        Box::new(move || told.rank_is_buried(rank, &how))
    });
    let ends = tell_of_ends(core.mesh()?, core.place().nodes());
    let agent = Arc::new(Agent::start(memory, watched, ends)?);
    host.let_in(&agent, config);
    core.tie(Ties { agent, hub: Some(HubThreads { hub, host, threads: vec![relay] }) });
    world.barrier()?;
    Ok(core)
}

fn finish_member(
    world: &mut World,
    memory: Arc<Memory>,
    config: &MemoryConfig,
    place: Place,
    share: NodeShare,
) -> Result<Arc<Core>> {
    let chartered = place.charter.as_ref().map(|chartered| chartered.charter.post);
    let post = chartered.ok_or_else(|| Error::new(ErrorKind::Start, "a member without a charter"))?;
    let member = Arc::new(Member::new(place.node(), memory.clone(), post)?);
    let head = world.node.ranks[0];
    let core = Core::in_world(memory.clone(), config.clone(), place, Mesh::Member(member.clone()));
    let watched = watch(&core, world, share, move |rank, _| {
        if rank == head {
            member.hub_is_gone();
        }
        Box::new(|| ())
    });
    let agent = Agent::start(memory, watched, tell_of_ends(core.mesh()?, core.place().nodes()))?;
    core.tie(Ties { agent: Arc::new(agent), hub: None });
    world.barrier()?;
    Ok(core)
}

/// Whom of its node this rank watches: by their control sockets, or as processes.
fn watch(
    core: &Arc<Core>,
    world: &World,
    share: NodeShare,
    gone: impl Fn(u32, &str) -> AfterRepair + Clone + Send + 'static,
) -> Vec<Watched> {
    let mut ends: Vec<(u32, OwnedFd)> = match share {
        NodeShare::Head { members } => members.into_iter().map(|member| (member.rank, member.control)).collect(),
        NodeShare::Member { head, control, .. } => vec![(head, control)],
    };
    let Some(chartered) = core.place().charter.clone() else { return Vec::new() };
    let processes = core.memory().processes();
    for (rank, process) in &chartered.charter.ranks {
        if *rank == world.rank || ends.iter().any(|(other, _)| other == rank) {
            continue;
        }
        let pid = processes.iter().find(|entry| entry.id == *process).map_or(0, |entry| entry.pid);
        // One that cannot be seen from here is watched by the head.
        if let Ok(end) = sys::process::pidfd(pid) {
            ends.push((*rank, end));
        }
    }
    let place =
        |rank: u32| chartered.charter.ranks.iter().find(|(other, _)| *other == rank).map(|(_, process)| *process);
    let watched = ends.into_iter().filter_map(|(rank, end)| {
        let (process, gone, core) = (place(rank)?, gone.clone(), Arc::downgrade(core));
        let (chartered, node) = (chartered.clone(), chartered.charter.node);
        let ended = move || -> AfterRepair {
            if chartered.has_left(rank) {
                return Box::new(|| ());
            }
            let how = "has ended without finishing".to_string();
            let repaired = gone(rank, &how);
            // The head tells its own process when it tells the leader.
            if let Some(core) = core.upgrade().filter(|core| !core.is_head()) {
                core.tell(Event::RankLost { rank: rank as usize, node: super::NodeId(node), how });
            }
            repaired
        };
        Some(Watched { process, end, ended: Box::new(ended) })
    });
    watched.collect()
}

fn event(loss: Loss) -> Event {
    match loss {
        Loss::Rank { rank, node, how, .. } => Event::RankLost { rank: rank as usize, node: super::NodeId(node), how },
        Loss::Node { node, how, .. } => Event::NodeLost { node: super::NodeId(node), how },
    }
}

impl From<TransportError> for Error {
    fn from(source: TransportError) -> Error {
        let kind = match &source {
            TransportError::BadSetting { .. } | TransportError::NoInterface { .. } => ErrorKind::InvalidArgument,
            TransportError::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Start,
        };
        Error::with_source(kind, "", source)
    }
}

impl From<BootstrapError> for Error {
    fn from(source: BootstrapError) -> Error {
        let kind = match &source {
            BootstrapError::Variable { .. } => ErrorKind::InvalidArgument,
            BootstrapError::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Start,
        };
        Error::with_source(kind, "", source)
    }
}
