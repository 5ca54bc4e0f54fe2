//! Those who call us: from the moment the kernel has them until they have proven who they are, or are sent away.
//!
//! There are never more than `Tuning::unproven` of them, each for at most `Tuning::proof`, each costing a socket and
//! a few hundred bytes. Nothing they say reaches anything else before the proof.

use std::{io, net::SocketAddr, time::Instant};

use socket2::Socket;

use super::Tcp;
use super::crossing::{Present, Ruling, judge};
use super::dial::fresh_nonce;
use super::handshake::{Answer, Foreign, HELLO, Hello, Keys, POSITION, Transcript, Verdict};
use super::lane::{Connection, Link};
use super::listen;
use super::pipe::Pipe;
use super::record::Record;
use super::record::say;
use crate::sys::epoll::Interest;
use crate::sys::process;
use crate::transport::{Node, To};

/// Taken from the kernel in one poll.
const AT_ONCE: usize = 256;

/// Somebody who calls.
pub(super) struct Arrival {
    key: u64,
    socket: Socket,
    from: SocketAddr,
    pub(super) since: Instant,
    stage: Stage,
}

enum Stage {
    /// Has not said who it is.
    Silent(Record<HELLO>),
    /// Waits for the outcome of our own call to the same peer.
    Parked(Hello),
    /// Was let in, if it proves who it is.
    Answered { hello: Hello, transcript: Box<Transcript>, session: u32, record: Record<POSITION> },
}

/// What comes of looking at an arrival.
enum Next {
    Wait,
    /// It goes away: a stranger, with what was wrong, or nobody to talk of.
    Drop(Option<&'static str>),
    /// It has proven who it is.
    Enter(u64),
}

impl Arrival {
    fn is_silent(&self) -> bool {
        matches!(self.stage, Stage::Silent(_))
    }

    /// What it is if it has taken too long: one that waits for us is no stranger.
    pub(super) fn late(&self) -> Option<&'static str> {
        (!matches!(self.stage, Stage::Parked(_))).then_some("it was silent for too long")
    }

    fn is_parked_for(&self, to: To) -> bool {
        matches!(&self.stage, Stage::Parked(hello) if hello.from.node == to.node && hello.lane == to.lane)
    }
}

impl Tcp {
    /// Takes those who wait at a listener.
    pub(super) fn accept(&mut self, at: usize, now: Instant) {
        for _ in 0..AT_ONCE {
            match listen::accept(&self.listeners[at]) {
                Ok((socket, from)) => self.admit(socket, from, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if process::is_out_of_descriptors(&error) => return self.close_doors(&error, now),
                // It gave up before we came to it.
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, socket: Socket, from: SocketAddr, now: Instant) {
        if self.arrivals.len() >= self.tuning.unproven {
            self.evict(now);
        }
        let key = self.keys.arrival(self.arrivals.next());
        if self.epoll.add(&socket, key, Interest::READ).is_err() {
            return;
        }
        let stage = Stage::Silent(Record::new());
        let at = self.arrivals.put(Arrival { key, socket, from, since: now, stage });
        self.tick_at(now + self.tuning.proof);
        // Most have something to say at once.
        self.arrival_ready(at, key, now);
    }

    /// The one that has been here longest makes room; rather one that has not even said who it is.
    fn evict(&mut self, now: Instant) {
        let oldest = self.arrivals.iter().min_by_key(|(_, arrival)| (!arrival.is_silent(), arrival.since));
        if let Some((at, _)) = oldest {
            self.send_away(at, Some("no proof, and others wait"), now);
        }
    }

    /// No descriptors are left: the kernel keeps the next ones for a while.
    fn close_doors(&mut self, error: &io::Error, now: Instant) {
        if self.doors_closed.is_none() {
            tracing::error!(%error, "no connection can be taken for want of descriptors (RLIMIT_NOFILE, `ulimit -n`)");
        }
        self.doors_closed = Some(now);
        self.set_doors(Interest::NOTHING);
        self.tick_at(now + super::clock::DOORS);
    }

    /// Whether listeners are watched.
    pub(super) fn set_doors(&mut self, interest: Interest) {
        for (at, listener) in self.listeners.iter().enumerate() {
            // Fails only for a set that does not work at all, and then nothing does.
            let _ = self.epoll.change(&listener.socket, super::slab::Keys::listener(at), interest);
        }
    }

    pub(super) fn send_away(&mut self, at: usize, stranger: Option<&'static str>, now: Instant) {
        let Some(arrival) = self.arrivals.take(at) else { return };
        if let Some(what) = stranger {
            self.strangers.note(arrival.from, what, now);
        }
    }

    /// Something came from an arrival, or it is gone.
    pub(super) fn arrival_ready(&mut self, at: usize, key: u64, now: Instant) {
        loop {
            let Some(arrival) = self.arrivals.get_mut(at).filter(|arrival| arrival.key == key) else { return };
            let was_silent = arrival.is_silent();
            match self.look_at(at) {
                Ok(Next::Wait) if was_silent && self.arrivals.get(at).is_some_and(|a| !a.is_silent()) => {}
                Ok(Next::Wait) => return,
                Ok(Next::Drop(stranger)) => return self.send_away(at, stranger, now),
                Ok(Next::Enter(stands)) => return self.enter(at, stands, now),
                Err(_) => {
                    let arrival = &self.arrivals[at];
                    let parked = matches!(arrival.stage, Stage::Parked(_));
                    return self.send_away(at, (!parked).then_some("it hung up before it had proven who it is"), now);
                }
            }
        }
    }

    fn look_at(&mut self, at: usize) -> io::Result<Next> {
        let arrival = &mut self.arrivals[at];
        match &mut arrival.stage {
            Stage::Silent(record) => {
                let Some(bytes) = record.read(&arrival.socket)? else { return Ok(Next::Wait) };
                match Hello::read(bytes, self.me.job) {
                    Ok(hello) => self.hear(at, hello),
                    Err(foreign) => {
                        self.tell_version(at, foreign);
                        Ok(Next::Drop(Some(name(foreign))))
                    }
                }
            }
            // It has nothing to say before it is answered; its end is an error.
            Stage::Parked(_) => match Record::<1>::new().read(&arrival.socket)? {
                None => Ok(Next::Wait),
                Some(_) => Ok(Next::Drop(Some("it spoke out of turn"))),
            },
            Stage::Answered { transcript, record, .. } => {
                let Some(bytes) = record.read(&arrival.socket)? else { return Ok(Next::Wait) };
                Ok(match transcript.read_proof(bytes) {
                    Ok(stands) => Next::Enter(stands),
                    Err(_) => Next::Drop(Some("it does not know the secret of the job")),
                })
            }
        }
    }

    /// Decides about a call of which nothing is proven yet.
    fn hear(&mut self, at: usize, hello: Hello) -> io::Result<Next> {
        let verdict = self.verdict(&hello);
        if verdict == Verdict::Welcome {
            match self.rule(&hello) {
                Ruling::Park => {
                    self.arrivals[at].stage = Stage::Parked(hello);
                    return Ok(Next::Wait);
                }
                Ruling::Refuse => return self.answer(at, hello, Verdict::Crossed),
                Ruling::Take => {}
            }
        }
        self.answer(at, hello, verdict)
    }

    fn answer(&mut self, at: usize, hello: Hello, verdict: Verdict) -> io::Result<Next> {
        let session = self.lane_at(lane_of(&hello)).map_or(0, |at| self.lanes[at].session);
        let answer = Answer { verdict, build: self.me.build, session, nonce: fresh_nonce()? };
        let (transcript, bytes) = Transcript::answer(&self.me.secret, &hello, &answer);
        let arrival = &mut self.arrivals[at];
        say(&arrival.socket, &bytes)?;
        if verdict != Verdict::Welcome {
            return Ok(Next::Drop(None));
        }
        let session = hello.session.max(session) + 1;
        arrival.stage = Stage::Answered { hello, transcript: Box::new(transcript), session, record: Record::new() };
        Ok(Next::Wait)
    }

    /// Who speaks another version can at least be told which this is.
    fn tell_version(&self, at: usize, foreign: Foreign) {
        if let Foreign::Wire(_) = foreign {
            let bytes = super::handshake::farewell();
            // A courtesy to a stranger.
            let _ = say(&self.arrivals[at].socket, &bytes);
        }
    }

    /// Whether the caller is who we expect, and we are whom it expects.
    fn verdict(&self, hello: &Hello) -> Verdict {
        let me = (self.me.node, self.me.epoch);
        let from = hello.from;
        if (hello.to.node, hello.to.epoch) != me || from.node == me.0 || from.node >= self.tuning.nodes {
            return Verdict::NotMe;
        }
        if hello.build != self.me.build {
            return Verdict::OtherBuild;
        }
        if hello.encrypted != self.settings.encryption {
            return Verdict::OtherEncryption;
        }
        match self.peers.get(from.node) {
            Some(known) if from.epoch < known.epoch => Verdict::Expelled,
            Some(known) if from.epoch > known.epoch => Verdict::UnknownEpoch,
            Some(known) if known.lost.is_some() => Verdict::Expelled,
            // One that we have not been told of yet may prove itself as well.
            _ => Verdict::Welcome,
        }
    }

    fn rule(&self, hello: &Hello) -> Ruling {
        let lane = self.lane_at(lane_of(hello)).map(|at| &self.lanes[at]);
        let present = match lane.map(|lane| &lane.link) {
            None | Some(Link::Down { .. }) => Present::Down,
            Some(Link::Dialling(_)) => Present::Calling,
            Some(Link::Open(connection)) if connection.dialled => Present::OpenByUs,
            Some(Link::Open(_)) => Present::OpenByThem,
        };
        judge(self.me.node, hello.from.node, present, lane.map_or(0, |lane| lane.session), hello.session)
    }

    /// It has proven who it is, and its connection takes the place of what there was, if that still is right.
    fn enter(&mut self, at: usize, stands: u64, now: Instant) {
        let Some(arrival) = self.arrivals.take(at) else { return };
        let Stage::Answered { hello, transcript, session, .. } = arrival.stage else { return };
        // Meanwhile things may have changed.
        if self.verdict(&hello) != Verdict::Welcome || self.rule(&hello) != Ruling::Take {
            return;
        }
        let to = lane_of(&hello);
        if self.peers.get(to.node).is_none() {
            self.peers.put(to.node, hello.from.epoch, &[]);
        }
        let lane = self.lane_at(to).unwrap_or_else(|| self.new_lane(to, now));
        let welcome = transcript.welcome(self.lanes[lane].inbox.position());
        let key = self.keys.lane(lane);
        if say(&arrival.socket, &welcome)
            .and_then(|()| self.epoll.change(&arrival.socket, key, Interest::READ))
            .is_err()
        {
            return;
        }
        let Keys { there, back } = transcript.keys();
        let keys = self.settings.encryption.then_some((&back, &there));
        let connection = Connection::new(Pipe::new(arrival.socket, keys), false, key);
        self.lane_opened(lane, connection, stands, session, now);
    }

    /// Our own call has come to nothing: whoever waits for its outcome is answered now.
    pub(super) fn unpark(&mut self, lane: usize, now: Instant) {
        let Some(to) = self.lanes.get(lane).map(|lane| lane.to) else { return };
        let parked: Vec<usize> =
            self.arrivals.iter().filter(|(_, arrival)| arrival.is_parked_for(to)).map(|(at, _)| at).collect();
        for at in parked {
            let Stage::Parked(hello) = self.arrivals[at].stage else { continue };
            self.arrivals[at].since = now;
            match self.answer(at, hello, Verdict::Welcome) {
                Ok(Next::Wait) => {}
                _ => self.send_away(at, None, now),
            }
        }
    }

    /// Calls of a lost peer wait for nothing any more: when it calls again it is told.
    pub(super) fn drop_parked(&mut self, node: Node) {
        for at in self.arrivals.numbers() {
            if matches!(&self.arrivals[at].stage, Stage::Parked(hello) if hello.from.node == node) {
                self.arrivals.take(at);
            }
        }
    }

    /// Whether a call of the peer's waits for the outcome of ours.
    pub(super) fn is_parked(&self, to: To) -> bool {
        self.arrivals.iter().any(|(_, arrival)| arrival.is_parked_for(to))
    }

    /// Whether the peer has been let in for that lane, if it proves who it is.
    pub(super) fn is_expected(&self, to: To) -> bool {
        let answered =
            |arrival: &Arrival| matches!(&arrival.stage, Stage::Answered { hello, .. } if lane_of(hello) == to);
        self.arrivals.iter().any(|(_, arrival)| answered(arrival))
    }

    /// Whether the peer is calling us for that lane.
    pub(super) fn is_calling(&self, to: To) -> bool {
        self.arrivals.iter().any(|(_, arrival)| match &arrival.stage {
            Stage::Silent(_) => false,
            Stage::Parked(hello) | Stage::Answered { hello, .. } => lane_of(hello) == to,
        })
    }
}

fn lane_of(hello: &Hello) -> To {
    To { node: hello.from.node, lane: hello.lane }
}

fn name(foreign: Foreign) -> &'static str {
    match foreign {
        Foreign::NotDragon => "it speaks another protocol",
        Foreign::Wire(_) => "it speaks another version of this protocol",
        Foreign::OtherJob => "it belongs to another job",
        Foreign::Nonsense => "it talks nonsense",
        Foreign::NoProof => "it does not know the secret of the job",
    }
}
