//! The processes of a group on a node that is not its owner's: a yard there, which works for the owner's plan.
//!
//! It is a session's guest in the process that is the node's host. One thread starts and signals, and answers the owner's
//! standing question: who has ended? Each pipe that the owner reads or writes has a thread of its own while it does, which
//! takes as much as it is asked for: what nobody asks for stays in the pipe, and its process stands still.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, select, unbounded};
use serde::{Deserialize, Serialize};

use super::conductor::how;
use super::exit::{How, Signal};
use super::ranks::{Crew, Quarters, unique_host};
use super::template::Wish;
use super::yard::{Home, Start, Yard};
use crate::error::{Error, ErrorKind, Result};
use crate::mesh::{Answer, Body};
use crate::pmi::{Ending, Pmi, Speaks};
use crate::policy::Seat;
use crate::services::{ChildEnd, Guest, Venue};
use crate::sys::pipe;
use crate::sys::poll::{self, Bell};
use crate::wire;
use crate::wire::Message;

/// How long nothing need happen until it is asked whether the owner is still there.
const SILENCE: Duration = Duration::from_secs(1);
/// Most bytes of a stream that travel at once.
pub(super) const CHUNK: usize = 1 << 20;

/// What an owner says to a site; 0 and 1 are the session's own.
pub(super) mod op {
    /// Starts processes: [`Vec<FarStart>`](super::FarStart). Answers with their process ids, or an error.
    pub(in crate::process) const LAUNCH: u32 = 16;
    /// `(member, signal)`.
    pub(in crate::process) const SIGNAL: u32 = 17;
    /// Answers when processes have ended: [`Told`](super::Told).
    pub(in crate::process) const STAND: u32 = 18;
    /// A [`StreamId`](super::StreamId): answers with what is there to read; nothing at the end.
    pub(in crate::process) const READ: u32 = 19;
    /// A [`StreamId`](super::StreamId) behind its own length, and bytes.
    pub(in crate::process) const WRITE: u32 = 20;
    /// A [`StreamId`](super::StreamId) that nobody reads or writes any more.
    pub(in crate::process) const SHUT: u32 = 21;
    /// Kills all.
    pub(in crate::process) const CLEAR: u32 = 22;
    /// Kills all, and ends the site.
    pub(in crate::process) const END: u32 = 23;
    /// Serves ranks of an MPI program: a [`Crew`](super::Crew).
    pub(in crate::process) const RANKS: u32 = 24;
}

/// What a site is told at its beginning.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Founding {
    /// Those that processes of this node have.
    pub(super) wishes: Vec<Option<Wish>>,
    /// Of the group.
    pub(super) name: String,
    pub(super) pmi: Pmi,
}

/// What it answers: its node's name, unlike that of any other, and what processes of each wish are given to be ranks.
pub(super) type Founded = (String, Vec<Speaks>);

/// A process to start.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct FarStart {
    pub(super) member: u32,
    pub(super) attempt: u32,
    pub(super) wish: u32,
    pub(super) seat: Option<Seat>,
    pub(super) env: Vec<(OsString, OsString)>,
}

/// A process that has ended: member, attempt, process id, how.
pub(super) type FarEnd = (u32, u32, u32, How);

/// What has happened here.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) ends: Vec<FarEnd>,
    /// Why ranks of an MPI program must end.
    pub(super) endings: Vec<Ending>,
}

/// A pipe: member, attempt, which of the three.
pub(super) type StreamId = (u32, u32, u8);

/// What an error is on its way.
pub(super) type Refusal = (ErrorKind, String);

enum Command {
    Launch(Vec<FarStart>, Answer),
    Signal(u32, i32),
    Stand(Answer),
    Ranks(Box<Crew>, Answer),
    Stream(StreamId, Piece),
    Shut(StreamId),
    Clear,
    End,
}

/// What is to be done with a pipe.
enum Piece {
    Read(Answer),
    Write(Body, usize, Answer),
}

struct Site {
    commands: Sender<Command>,
}

/// What an owner has called on this node.
pub(super) fn open(founding: Founding) -> std::result::Result<Founded, Refusal> {
    found(founding).map_err(|error| (error.kind(), error.to_string()))
}

fn found(founding: Founding) -> Result<Founded> {
    let nowhere = || Error::new(ErrorKind::Start, "a group's site is founded outside of a session");
    let venue = Arc::new(Venue::here().ok_or_else(nowhere)?);
    let yard = Yard::new(Home::Guest(venue.clone()), &founding.name, &founding.wishes)?;
    let founded = (unique_host(Some(venue.node())), yard.speaks(founding.pmi));
    let none = |what| move |error| Error::with_source(ErrorKind::ResourceLimit, what, error);
    let bell = Arc::new(Bell::new().map_err(none("no descriptor for a group's site"))?);
    let (commands, orders) = unbounded();
    let (ends, ended) = unbounded();
    let (endings, ending) = unbounded();
    let (starts, told) = (HashMap::new(), Told::default());
    let keeper = Keeper { yard, venue, ends, endings, ranks: None, starts, keys: 0, told, standing: None, bell };
    let run = thread::Builder::new().name("dragon-site".into()).spawn(move || keeper.run(&orders, &ended, &ending));
    run.map_err(none("no thread for a group's site"))?;
    Venue::seat(Arc::new(Site { commands }));
    Ok(founded)
}

impl Guest for Site {
    fn message(&self, op: u32, body: Body, answer: Answer) {
        let command = match op {
            op::LAUNCH => wire::decode(&body).ok().map(|starts| Command::Launch(starts, answer)),
            op::SIGNAL => wire::decode(&body).ok().map(|(member, signal)| Command::Signal(member, signal)),
            op::STAND => Some(Command::Stand(answer)),
            op::RANKS => wire::decode(&body).ok().map(|crew| Command::Ranks(Box::new(crew), answer)),
            op::READ => wire::decode(&body).ok().map(|stream| Command::Stream(stream, Piece::Read(answer))),
            op::WRITE => {
                let begin = 1 + body.first().map_or(0, |len| usize::from(*len));
                let stream = body.get(1..begin).and_then(|stream| wire::decode(stream).ok());
                stream.map(|stream| Command::Stream(stream, Piece::Write(body, begin, answer)))
            }
            op::SHUT => wire::decode(&body).ok().map(Command::Shut),
            op::CLEAR => Some(Command::Clear),
            op::END => Some(Command::End),
            _ => None,
        };
        match command {
            // Fails only for a site that has ended: the answer, dropped, says so.
            Some(command) => drop(self.commands.send(command)),
            None => tracing::error!(op, "a call to a group's site makes no sense"),
        }
    }

    fn dismiss(&self) {
        let _ = self.commands.send(Command::End); // as above
    }
}

/// What the site's thread owns.
struct Keeper {
    yard: Yard,
    venue: Arc<Venue>,
    ends: Sender<ChildEnd>,
    /// Member and attempt of each process that lives, by its key.
    starts: HashMap<u64, (u32, u32)>,
    keys: u64,
    /// Ends that the owner has not asked for yet.
    told: Told,
    /// Ranks of an MPI program, and where it comes up that they must end.
    ranks: Option<Quarters>,
    endings: Sender<(u64, Ending)>,
    standing: Option<Answer>,
    /// Rung when the pipes' threads are to end.
    bell: Arc<Bell>,
}

impl Keeper {
    fn run(mut self, commands: &Receiver<Command>, ended: &Receiver<ChildEnd>, ending: &Receiver<(u64, Ending)>) {
        let mut streams: HashMap<StreamId, Sender<Piece>> = HashMap::new();
        loop {
            select! {
                recv(ended) -> end => {
                    let ends: Vec<ChildEnd> = end.into_iter().chain(ended.try_iter()).collect();
                    // What it has said before it ended badly is to be known first.
                    if let Some(ranks) = self.ranks.as_ref().filter(|_| ends.iter().any(ChildEnd::is_bad)) {
                        ranks.served().hear_out();
                        self.told.endings.extend(ending.try_iter().map(|(_, ending)| ending));
                    }
                    ends.into_iter().for_each(|end| self.note(end));
                }
                recv(ending) -> ending => self.told.endings.extend(ending.map(|(_, ending)| ending)),
                recv(commands) -> command => match command {
                    Ok(Command::Launch(starts, answer)) => answer.send(0, &encoded(&self.launch(&starts))),
                    Ok(Command::Signal(member, signal)) => self.signal(member, signal),
                    Ok(Command::Stand(answer)) => self.standing = Some(answer),
                    Ok(Command::Ranks(crew, answer)) => answer.send(0, &encoded(&self.enlist(&crew))),
                    Ok(Command::Stream(stream, piece)) => self.stream(&mut streams, stream, piece),
                    Ok(Command::Shut(stream)) => drop((streams.remove(&stream), self.take(stream))),
                    Ok(Command::Clear) => self.yard.clear(),
                    Ok(Command::End) | Err(_) => break,
                },
                default(SILENCE) => if !self.venue.is_wanted() {
                    tracing::debug!("the owner of a group is gone, and its site ends");
                    break;
                },
            }
            let has_news = !self.told.ends.is_empty() || !self.told.endings.is_empty();
            if has_news && let Some(answer) = self.standing.take() {
                answer.send(0, &encoded(&std::mem::take(&mut self.told)));
            }
        }
        self.yard.clear();
        self.bell.ring();
        self.venue.leave();
    }

    fn launch(&mut self, starts: &[FarStart]) -> std::result::Result<Vec<u32>, Refusal> {
        let first = self.keys + 1;
        let starts: Vec<Start> = starts
            .iter()
            .map(|start| {
                self.keys += 1;
                self.starts.insert(self.keys, (start.member, start.attempt));
                let take = |ranks: &mut Quarters| ranks.take(start.member as usize);
                let (env, descriptors) = self.ranks.as_mut().map(take).unwrap_or_default();
                Start {
                    member: start.member as usize,
                    attempt: start.attempt,
                    wish: start.wish as usize,
                    key: self.keys,
                    seat: start.seat.clone(),
                    env: [start.env.clone(), env].concat(),
                    descriptors,
                }
            })
            .collect();
        self.yard.start(&starts, &self.ends).map_err(|error| {
            self.starts.retain(|key, _| *key < first);
            (error.kind(), error.to_string())
        })
    }

    fn enlist(&mut self, crew: &Crew) -> std::result::Result<(), Refusal> {
        let quarters = Quarters::open(crew, Some(self.venue.mesh()), self.endings.clone(), 0);
        self.ranks = Some(quarters.map_err(|error| (error.kind(), format!("on node {}: {error}", self.venue.node())))?);
        Ok(())
    }

    fn note(&mut self, end: ChildEnd) {
        if let Some((member, attempt)) = self.starts.remove(&end.key) {
            self.told.ends.push((member, attempt, end.pid, how(end)));
        }
    }

    fn signal(&self, member: u32, signal: i32) {
        if let Err(error) = self.yard.signal(member as usize, Signal::from_raw(signal)) {
            tracing::warn!(%error, "a process of another node's group gets no signal");
        }
    }

    fn take(&self, (member, attempt, which): StreamId) -> Option<OwnedFd> {
        self.yard.take_stream(member as usize, attempt, usize::from(which))
    }

    /// Hands a piece of work to the thread of its pipe, which begins with the first.
    fn stream(&mut self, streams: &mut HashMap<StreamId, Sender<Piece>>, stream: StreamId, piece: Piece) {
        let work = match streams.get(&stream) {
            Some(work) => work,
            None => {
                // Without a pipe the answer is dropped, which says so.
                let Some(pipe) = self.take(stream) else { return };
                let (work, pieces) = unbounded();
                let (bell, memory) = (self.bell.clone(), self.venue.memory.clone());
                let carry = move || carry(pipe, &pieces, &bell, &memory);
                if let Err(error) = thread::Builder::new().name("dragon-stream".into()).spawn(carry) {
                    return tracing::error!(%error, "no thread for a pipe of another node's group");
                }
                streams.entry(stream).or_insert(work)
            }
        };
        let _ = work.send(piece); // fails only when its thread has ended: as above
    }
}

/// The thread of a pipe.
fn carry(pipe: OwnedFd, pieces: &Receiver<Piece>, bell: &Bell, memory: &Arc<crate::mm::Memory>) {
    // A courtesy of the kernel, of which there may be too little.
    let _ = pipe::grow(&pipe, CHUNK);
    let mut file = std::fs::File::from(pipe);
    for piece in pieces {
        match piece {
            Piece::Read(answer) => {
                let Ok(ready) = poll::readable(&[file.as_fd(), bell.as_fd()]) else { return };
                if !ready[0] {
                    return;
                }
                if !answer_with(&mut file, answer, memory) {
                    return;
                }
            }
            Piece::Write(body, begin, answer) => match file.write_all(&body[begin..]) {
                Ok(()) => answer.send(0, &[]),
                Err(error) => answer.send(crate::services::Why::Closed as u16, error.to_string().as_bytes()),
            },
        }
    }
}

/// Reads what is there. False if nothing more can come.
fn answer_with(file: &mut std::fs::File, answer: Answer, memory: &Arc<crate::mm::Memory>) -> bool {
    use std::io::Read;
    let waiting = pipe::waiting(&*file).clamp(1, CHUNK);
    if let Some(mut block) = (waiting > SMALL).then(|| memory.alloc(waiting).ok()).flatten() {
        return match file.read(&mut block.as_mut_slice()[..waiting]) {
            Ok(0) | Err(_) => {
                answer.send(0, &[]);
                false
            }
            Ok(len) => {
                answer.send_block(block, len);
                true
            }
        };
    }
    let mut bytes = [0; SMALL];
    match file.read(&mut bytes) {
        Ok(0) | Err(_) => {
            answer.send(0, &[]);
            false
        }
        Ok(len) => {
            answer.send(0, &bytes[..len]);
            true
        }
    }
}

/// So much needs no block.
const SMALL: usize = 4 << 10;

fn encoded(what: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Numbers and text into memory: nothing in it can fail.
    let _ = wire::encode(what, &mut bytes);
    bytes
}
