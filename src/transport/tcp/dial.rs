//! Calling a peer: from the first packet to a proven connection.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use socket2::Socket;

use super::Tcp;
use super::handshake::{ANSWER, Answer, Foreign, Hello, Incarnation, Keys, Nonce, POSITION, Transcript, Verdict};
use super::lane::{Connection, Link, PAUSE_MOST};
use super::listen;
use super::pipe::Pipe;
use super::record::Record;
use crate::sys::epoll::Interest;
use crate::transport::error::Why;
use crate::transport::{Secret, TransportError};

/// With several places to try, none is tried for longer.
const PLACE_MOST: Duration = Duration::from_secs(1);

/// A call under way.
pub(super) struct Dial {
    pub(super) key: u64,
    pub(super) place: SocketAddr,
    pub(super) began: Instant,
    socket: Socket,
    hello: Hello,
    stage: Stage,
}

enum Stage {
    /// The kernel is at work.
    Connecting,
    /// `Hello` is said.
    Called(Record<ANSWER>),
    /// `Proof` is given.
    Proven { transcript: Box<Transcript>, session: u32, record: Record<POSITION> },
}

/// Where a call has got to.
enum Step {
    /// Somebody else's turn.
    Waiting,
    /// Through.
    Open { stands: u64, keys: Keys, session: u32 },
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    Foreign(Foreign),
    Refused(Answer),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

impl From<Foreign> for Trouble {
    fn from(foreign: Foreign) -> Trouble {
        Trouble::Foreign(foreign)
    }
}

impl Dial {
    /// Does what can be done now. `position`: what this side has received of the lane.
    fn go_on(&mut self, secret: &Secret, position: u64) -> Result<Step, Trouble> {
        loop {
            match &mut self.stage {
                Stage::Connecting => {
                    if !self.is_connected()? {
                        return Ok(Step::Waiting);
                    }
                    super::record::say(&self.socket, &self.hello.write())?;
                    self.stage = Stage::Called(Record::new());
                }
                Stage::Called(record) => {
                    let Some(bytes) = record.read(&self.socket)? else { return Ok(Step::Waiting) };
                    let (transcript, answer) = Transcript::read_answer(secret, &self.hello, bytes)?;
                    if answer.verdict != Verdict::Welcome {
                        return Err(Trouble::Refused(answer));
                    }
                    super::record::say(&self.socket, &transcript.proof(position))?;
                    let session = self.hello.session.max(answer.session) + 1;
                    self.stage = Stage::Proven { transcript: Box::new(transcript), session, record: Record::new() };
                }
                Stage::Proven { transcript, session, record } => {
                    let Some(bytes) = record.read(&self.socket)? else { return Ok(Step::Waiting) };
                    let stands = transcript.read_welcome(bytes)?;
                    return Ok(Step::Open { stands, keys: transcript.keys(), session: *session });
                }
            }
        }
    }

    fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        let Ok(peer) = self.socket.peer_addr() else { return Ok(false) };
        // A free port of this machine may be given to us for our own end, and then nobody else is there.
        if peer.as_socket() == self.socket.local_addr()?.as_socket() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(true)
    }

    fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting)
    }
}

impl Tcp {
    /// Begins a call for a lane.
    pub(super) fn dial(&mut self, at: usize, now: Instant) {
        match self.begin_dial(at, now) {
            Ok(Some(dial)) => self.lanes[at].link = Link::Dialling(Box::new(dial)),
            // A peer that has not told where it is must come to us.
            Ok(None) => self.lanes[at].link = Link::Down { again: now + PAUSE_MOST },
            Err((place, error)) => self.dial_failed(at, place, Trouble::Io(error), now),
        }
    }

    fn begin_dial(&mut self, at: usize, now: Instant) -> Result<Option<Dial>, (SocketAddr, io::Error)> {
        let to = self.lanes[at].to;
        let (peer, places) = self.peers.places(to.node);
        let Some(&place) = places.get(self.lanes[at].place % places.len().max(1)) else { return Ok(None) };
        self.lanes[at].tried_at = Some(place);
        let lane = &self.lanes[at];
        let hello = Hello {
            encrypted: self.settings.encryption,
            lane: to.lane,
            build: self.me.build,
            job: self.me.job,
            from: Incarnation { node: self.me.node, epoch: self.me.epoch },
            to: Incarnation { node: to.node, epoch: peer },
            session: lane.session,
            nonce: fresh_nonce().map_err(|error| (place, error))?,
        };
        let socket = listen::dial(place).map_err(|error| (place, error))?;
        let key = self.keys.lane(at);
        self.epoll.add(&socket, key, Interest::WRITE).map_err(|error| (place, error))?;
        Ok(Some(Dial { key, place, began: now, socket, hello, stage: Stage::Connecting }))
    }

    /// Something happened to a call.
    pub(super) fn dial_ready(&mut self, at: usize, now: Instant) {
        let lane = &mut self.lanes[at];
        let position = lane.inbox.position();
        let Link::Dialling(dial) = &mut lane.link else { return };
        let was_connecting = dial.is_connecting();
        let step = dial.go_on(&self.me.secret, position);
        if was_connecting && !dial.is_connecting() {
            // Fails only for a set that does not work at all, and then nothing does.
            let _ = self.epoll.change(&dial.socket, dial.key, Interest::READ);
        }
        match step {
            Ok(Step::Waiting) => {}
            Ok(Step::Open { stands, keys, session }) => self.dial_through(at, stands, &keys, session, now),
            Err(trouble) => {
                let place = dial.place;
                self.dial_failed(at, place, trouble, now);
            }
        }
    }

    fn dial_through(&mut self, at: usize, stands: u64, keys: &Keys, session: u32, now: Instant) {
        let down = Link::Down { again: now };
        let Link::Dialling(dial) = std::mem::replace(&mut self.lanes[at].link, down) else { return };
        let keys = self.settings.encryption.then_some((&keys.there, &keys.back));
        let connection = Connection::new(Pipe::new(dial.socket, keys), true, dial.key);
        self.lane_opened(at, connection, stands, session, now);
    }

    /// A call has come to nothing: again, elsewhere, or never.
    pub(super) fn dial_failed(&mut self, at: usize, place: SocketAddr, trouble: Trouble, now: Instant) {
        let node = self.lanes[at].to.node;
        let places = self.peers.places(node).1.len().max(1);
        let lane = &mut self.lanes[at];
        // Where the lane was open before and nobody listens any more, nobody will listen elsewhere.
        let final_word = lane.session > 0 && is_refused(&trouble);
        let wait = lane.next_try(places);
        lane.trouble = describe(&trouble);
        lane.link = Link::Down { again: now + wait };
        if (final_word || !wait.is_zero())
            && let Some(why) = self.verdict_on(at, place, &trouble, now)
        {
            return self.lose(node, why);
        }
        self.unpark(at, now);
        self.tick_at(now + wait);
    }

    /// Whether a failed call says that the peer is lost. All its places have been tried.
    fn verdict_on(&self, at: usize, place: SocketAddr, trouble: &Trouble, now: Instant) -> Option<Why> {
        let lane = &self.lanes[at];
        let address = place.to_string();
        match trouble {
            // It may be coming to us just now.
            Trouble::Io(_) if !is_refused(trouble) || self.is_calling(lane.to) => None,
            Trouble::Io(error) => {
                let (within, cause) = (now.saturating_duration_since(lane.down_since), error.to_string());
                Some(match lane.session {
                    0 => Why::Unreachable { address, within, cause },
                    _ => Why::Gone { address, cause },
                })
            }
            Trouble::Foreign(Foreign::Wire(theirs)) => Some(Why::OtherWire(format!(
                "version {theirs} of this transport; here it is {}",
                super::handshake::WIRE
            ))),
            Trouble::Foreign(_) => Some(Why::Stranger { address }),
            Trouble::Refused(answer) => self.refused(answer),
        }
    }

    fn refused(&self, answer: &Answer) -> Option<Why> {
        let hex = |build: &[u8]| build.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match answer.verdict {
            Verdict::NotMe => Some(Why::Replaced),
            Verdict::OtherBuild => Some(Why::OtherBuild { theirs: hex(&answer.build), ours: hex(&self.me.build) }),
            Verdict::OtherEncryption => {
                let ours = if self.settings.encryption { "on" } else { "off" };
                Some(Why::OtherWire(format!("DRAGON_ENCRYPTION is {ours} here and not there")))
            }
            Verdict::Expelled => Some(Why::Expelled),
            Verdict::Leaving => Some(Why::Left),
            Verdict::Welcome | Verdict::UnknownEpoch | Verdict::Crossed => None,
        }
    }

    /// How long one try may take.
    pub(super) fn try_most(&self, at: usize) -> Duration {
        let lane = &self.lanes[at];
        let all = if lane.session == 0 { self.tuning.connect } else { self.settings.silence };
        if self.is_parked(lane.to) {
            // Perhaps only the other direction works.
            return self.settings.silence / 6;
        }
        if self.peers.places(lane.to.node).1.len() > 1 { all.min(PLACE_MOST) } else { all }
    }
}

/// Whether the peer's machine says that nobody listens there.
fn is_refused(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

fn describe(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "it hung up".into(),
        Trouble::Io(error) => error.to_string(),
        Trouble::Foreign(foreign) => format!("what answers is no node of this job: {foreign:?}"),
        Trouble::Refused(answer) => match answer.verdict {
            Verdict::UnknownEpoch => "it does not know this incarnation of this node".into(),
            verdict => format!("it refused: {verdict:?}"),
        },
    }
}

/// Chance enters here, and only here and where a call is answered.
pub(super) fn fresh_nonce() -> io::Result<Nonce> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

/// For whoever makes an engine: that there is chance at all.
pub(super) fn check_chance() -> Result<(), TransportError> {
    fresh_nonce().map(drop).map_err(TransportError::io("get random numbers"))
}
