//! Our own transport: lanes over TCP, authenticated, resumed after a cut, optionally encrypted.
//!
//! `frame.rs` and `handshake.rs` draw what is on the wire. `outbox.rs` and `inbox.rs` are the two halves of a lane's
//! stream, which outlives connections; `lane.rs` puts them on one. `dial.rs` and `arrivals.rs` make connections,
//! `crossing.rs` decides which of two stays, `clock.rs` notices silence. This file holds them together.

pub(super) mod address;
mod arrivals;
mod clock;
mod crossing;
mod dial;
mod frame;
mod handshake;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
mod inbox;
mod interfaces;
mod lane;
mod listen;
mod outbox;
mod peers;
mod pipe;
mod record;
mod slab;
mod strangers;
#[cfg(test)]
pub(in crate::transport) mod tests;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use arrivals::Arrival;
use dial::Trouble;
use inbox::{Broken, SCRATCH};
use lane::{Connection, Lane, Link, Posted};
use listen::Listener;
use peers::Peers;
use slab::{Keys, Owner, Slab};
use strangers::Strangers;

use crate::sys::epoll::{Epoll, Interest, Ready};
use crate::time;
use crate::transport::error::Why;
use crate::transport::{
    BODY_MOST, Bulk, Caps, Counts, Engine, HEADER_MOST, Identity, LANES, Look, Lost, Node, SendError, Settings, Sink,
    To, Token, TransportError, Tuning, Undelivered,
};

/// The higher node of a broken connection lets the lower one call first.
const COURTESY: Duration = Duration::from_millis(10);

/// Connections in a row that may end with nonsense before the peer is given up.
const GARBLED_MOST: u32 = 3;

/// So often a lane must have answered at once before it is taken out of the set to sleep on.
const HITS: u32 = 32;

/// Polls in a row that may look at nothing but the lane that spoke last.
const BLINKERS: u32 = 8;

/// What the sink is to be told at the next poll.
enum Outcome {
    Done(Token, Undelivered),
    Lost(Arc<Lost>),
}

/// The engine.
pub(crate) struct Tcp {
    me: Identity,
    settings: Settings,
    tuning: Tuning,
    listeners: Vec<Listener>,
    epoll: Arc<Epoll>,
    keys: Keys,
    peers: Peers,
    lanes: Slab<Lane>,
    arrivals: Slab<Arrival>,
    strangers: Strangers,
    scratch: Box<[u8]>,
    ready: Vec<Ready>,
    /// The lane that spoke last, which is asked first.
    hot: Option<usize>,
    polls: u32,
    /// How often it had something to say in a row without anybody's having slept.
    hits: u32,
    /// Lanes with more to read than their sockets tell of.
    unread: Vec<usize>,
    /// Lanes that owe their peers the news of how far we are.
    owing: Vec<usize>,
    /// Lanes that wait a moment before they write.
    holding: Vec<usize>,
    /// Connections that broke while nobody could be told.
    failed: Vec<(usize, Broken)>,
    outcomes: VecDeque<Outcome>,
    /// Something has begun that whoever sleeps does not know of.
    restless: bool,
    next_tick: Instant,
    last_poll: Instant,
    /// Since when nobody is let in, for want of descriptors.
    doors_closed: Option<Instant>,
    counts: Counts,
    closed: bool,
}

impl Tcp {
    /// Opens the ports at which peers find this engine.
    pub(crate) fn open(me: Identity, settings: Settings, tuning: Tuning) -> Result<Tcp, TransportError> {
        dial::check_chance()?;
        let listeners = listen::open(&settings)?;
        let epoll = Epoll::new().map_err(TransportError::io("make a set of sockets (epoll)"))?;
        for (at, listener) in listeners.iter().enumerate() {
            let added = epoll.add(&listener.socket, Keys::listener(at), Interest::READ);
            added.map_err(TransportError::io("watch a port (epoll)"))?;
        }
        let now = time::now();
        Ok(Tcp {
            me,
            settings,
            tuning,
            listeners,
            epoll: Arc::new(epoll),
            keys: Keys::default(),
            peers: Peers::default(),
            lanes: Slab::new(),
            arrivals: Slab::new(),
            strangers: Strangers::default(),
            scratch: vec![0; SCRATCH].into(),
            ready: Vec::new(),
            hot: None,
            polls: 0,
            hits: 0,
            unread: Vec::new(),
            owing: Vec::new(),
            holding: Vec::new(),
            failed: Vec::new(),
            outcomes: VecDeque::new(),
            restless: false,
            next_tick: now,
            last_poll: now,
            doors_closed: None,
            counts: Counts::default(),
            closed: false,
        })
    }

    #[inline]
    fn lane_at(&self, to: To) -> Option<usize> {
        self.peers.get(to.node)?.lane(to.lane)
    }

    fn new_lane(&mut self, to: To, now: Instant) -> usize {
        let at = self.lanes.put(Lane::new(to, now));
        self.peers.set_lane(to.node, to.lane, Some(at));
        self.tick_at(now);
        at
    }

    /// The lane to send on, opened if need be.
    #[inline]
    fn lane_to(&mut self, to: To) -> Result<usize, SendError> {
        if to.lane >= LANES {
            return Err(SendError::NoLane(to.lane));
        }
        if self.closed {
            return Err(SendError::Closed);
        }
        let known = self.peers.get(to.node).ok_or(SendError::Unknown(to.node))?;
        if let Some(at) = known.lane(to.lane) {
            return Ok(at);
        }
        if let Some(lost) = &known.lost {
            return Err(SendError::Lost(lost.clone()));
        }
        let now = time::now();
        let at = self.new_lane(to, now);
        self.restless = true;
        self.dial(at, now);
        self.lane_at(to).ok_or_else(|| {
            // The call failed at once, and that was the last word.
            let lost = self.peers.get(to.node).and_then(|known| known.lost.clone());
            lost.map_or(SendError::Full, SendError::Lost)
        })
    }

    /// The lane to send `header` and `body` bytes on, if it takes them.
    #[inline]
    fn lane_for(&mut self, to: To, header: usize, body: u64, most: u64) -> Result<usize, SendError> {
        if header > HEADER_MOST {
            return Err(SendError::TooLong { what: "a header", len: header as u64, most: HEADER_MOST as u64 });
        }
        if body > most {
            return Err(SendError::TooLong { what: "a body", len: body, most });
        }
        let at = self.lane_to(to)?;
        if self.lanes[at].outbox.kept() >= self.tuning.lane_bytes { Err(SendError::Full) } else { Ok(at) }
    }

    #[inline]
    fn posted(&mut self, at: usize, posted: Result<Posted, Broken>) {
        match posted {
            Ok(Posted::Done) => {}
            Ok(Posted::Held) => self.holding.push(at),
            Err(broken) => {
                self.failed.push((at, broken));
                self.restless = true;
            }
        }
    }

    /// Reads from a lane. Returns how many things the sink was told.
    #[inline]
    fn read(&mut self, at: usize, now: Instant, sink: &mut dyn Sink) -> usize {
        let Some(lane) = self.lanes.get_mut(at) else { return 0 };
        let heard = match lane.read(&mut self.scratch, self.tuning.bulk_most, sink) {
            Ok(heard) => heard,
            Err(broken) => {
                self.broke(at, broken, now);
                return 1;
            }
        };
        if !heard.anything {
            return 0;
        }
        lane.end_burst();
        if lane.owed() > 0 && lane.owes_since.is_none() {
            lane.owes_since = Some(now);
            self.owing.push(at);
        }
        if lane.inbox.has_refused() {
            self.failed.extend(lane.write(&self.epoll).err().map(|broken| (at, broken)));
        }
        if heard.more {
            self.unread.push(at);
        }
        let node = self.lanes[at].to.node;
        if let Some(known) = self.peers.get_mut(node) {
            known.heard = Some(now);
        }
        if self.hot != Some(at) {
            self.set_hot(at);
        }
        heard.events
    }

    /// Another lane speaks than the last time.
    fn set_hot(&mut self, at: usize) {
        self.arm();
        self.hot = Some(at);
    }

    /// The lane that is asked first has answered again, to somebody who does not sleep.
    fn count_hit(&mut self, at: usize) {
        self.hits += 1;
        if self.hits >= HITS
            && let Some(lane) = self.lanes.get_mut(at)
        {
            lane.unwatch(&self.epoll);
        }
    }

    /// A socket is ready.
    fn serve(&mut self, ready: Ready, now: Instant, sink: &mut dyn Sink) -> usize {
        match Keys::owner(ready.key) {
            Owner::Listener(at) => {
                self.accept(at, now);
                0
            }
            Owner::Arrival(at) => {
                self.arrival_ready(at, ready.key, now);
                0
            }
            Owner::Lane(at) => self.serve_lane(at, ready, now, sink),
            Owner::Other => 0,
        }
    }

    fn serve_lane(&mut self, at: usize, ready: Ready, now: Instant, sink: &mut dyn Sink) -> usize {
        let Some(lane) = self.lanes.get_mut(at) else { return 0 };
        match &lane.link {
            Link::Down { .. } => 0,
            Link::Dialling(_) => {
                self.dial_ready(at, now);
                0
            }
            // The socket that was ready is gone.
            Link::Open(connection) if connection.key != ready.key => 0,
            Link::Open(_) => {
                let written = if ready.write { lane.write(&self.epoll) } else { Ok(()) };
                let events = if ready.read { self.read(at, now, sink) } else { 0 };
                if let Err(broken) = written {
                    self.broke(at, broken, now);
                }
                events
            }
        }
    }

    /// A lane has a connection: on with what it has to say.
    fn lane_opened(&mut self, at: usize, connection: Connection, stands: u64, session: u32, now: Instant) {
        let lane = &mut self.lanes[at];
        lane.session = session;
        let opened = lane.open(connection, stands, now);
        let node = lane.to.node;
        let again = match opened {
            Ok(again) => again,
            Err(Broken::Garbled(why)) => return self.lose(node, Why::Garbled(why)),
            Err(broken) => return self.broke(at, broken, now),
        };
        self.counts.opened += 1;
        self.counts.resent += again;
        if session > 1 {
            tracing::debug!(node, lane = self.lanes[at].to.lane, again, "a lane goes on over a new connection");
        }
        if let Some(known) = self.peers.get_mut(node) {
            known.heard = Some(now);
        }
        if let Err(broken) = self.lanes[at].write(&self.epoll) {
            self.broke(at, broken, now);
        }
    }

    /// A connection cannot go on.
    fn broke(&mut self, at: usize, broken: Broken, now: Instant) {
        let Some(lane) = self.lanes.get_mut(at) else { return };
        let node = lane.to.node;
        if !lane.is_open() {
            return;
        }
        self.counts.broken += 1;
        match broken {
            Broken::Bye => return self.lose(node, Why::Left),
            Broken::Garbled(why) => {
                lane.garbled += 1;
                if lane.garbled >= GARBLED_MOST {
                    return self.lose(node, Why::Garbled(why));
                }
                lane.trouble = why.into();
            }
            Broken::Closed(error) => lane.trouble = error.to_string(),
        }
        let first = self.me.node < node;
        let again = if first { now } else { now + COURTESY };
        lane.cut(now, again);
        self.tick_at(again);
        if first {
            self.dial(at, now);
        }
    }

    /// Gives up a call that takes too long.
    fn hang_up(&mut self, at: usize, now: Instant) {
        if let Link::Dialling(dial) = &self.lanes[at].link {
            let place = dial.place;
            let error = std::io::ErrorKind::TimedOut.into();
            self.dial_failed(at, place, Trouble::Io(error), now);
        }
    }

    /// A peer is lost: its lanes go, and all that was under way ends.
    fn lose(&mut self, node: Node, why: Why) {
        let Some(known) = self.peers.get_mut(node).filter(|known| known.lost.is_none()) else { return };
        let lost = Arc::new(Lost { node, epoch: known.epoch, why });
        known.lost = Some(lost.clone());
        let lanes: Vec<usize> = known.lanes().collect();
        for at in lanes {
            let Some(mut lane) = self.lanes.take(at) else { continue };
            let undone = lane.outbox.abandon().map(|token| Outcome::Done(token, Undelivered::Lost(lost.clone())));
            self.outcomes.extend(undone);
            self.peers.set_lane(node, lane.to.lane, None);
        }
        self.drop_parked(node);
        self.outcomes.push_back(Outcome::Lost(lost));
        self.restless = true;
    }

    /// Tells what has happened since the last poll without one.
    fn tell(&mut self, sink: &mut dyn Sink) -> usize {
        let mut told = 0;
        while let Some(outcome) = self.outcomes.pop_front() {
            told += 1;
            match outcome {
                Outcome::Done(token, how) => sink.done(token, Err(how)),
                Outcome::Lost(lost) => sink.lost(lost.node, lost.epoch, &lost),
            }
        }
        told
    }

    fn look_around(&mut self, now: Instant, sink: &mut dyn Sink) -> usize {
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.epoll.look(&mut ready) {
            tracing::error!(%error, "the sockets of this node cannot be looked at");
        }
        let events = ready.drain(..).map(|ready| self.serve(ready, now, sink)).sum();
        self.ready = ready;
        events
    }
}

impl Engine for Tcp {
    fn caps(&self) -> Caps {
        let name = if self.settings.encryption { "tcp, encrypted" } else { "tcp" };
        Caps { name, wire: handshake::WIRE, bulk_most: self.tuning.bulk_most }
    }

    fn address(&self) -> Vec<u8> {
        let places: Vec<_> = self.listeners.iter().map(|listener| listener.at).collect();
        address::write(&places)
    }

    fn know(&mut self, node: Node, epoch: u64, address: &[u8]) -> Result<(), TransportError> {
        if node >= self.tuning.nodes {
            return Err(TransportError::NoSuchNode { node, nodes: self.tuning.nodes });
        }
        address::read(address).map_err(|why| TransportError::BadAddress { node, why })?;
        match self.peers.get(node) {
            Some(known) if known.epoch == epoch => self.peers.move_to(node, address),
            known => {
                if known.is_some() {
                    self.lose(node, Why::Replaced);
                }
                self.peers.put(node, epoch, address);
            }
        }
        Ok(())
    }

    fn give_up(&mut self, node: Node, why: &str) {
        self.lose(node, Why::Told(why.into()));
    }

    fn send(&mut self, to: To, kind: u16, header: &[u8], body: &[u8], token: Token) -> Result<(), SendError> {
        let at = self.lane_for(to, header.len(), body.len() as u64, BODY_MOST as u64)?;
        let posted = self.lanes[at].send(kind, header, body, token, &self.epoll);
        self.posted(at, posted);
        Ok(())
    }

    fn send_bulk(&mut self, to: To, kind: u16, header: &[u8], body: Bulk, token: Token) -> Result<(), SendError> {
        let most = self.tuning.bulk_most.min(body.block.bytes().len() as u64);
        let at = self.lane_for(to, header.len(), body.len as u64, most)?;
        self.lanes[at].push_bulk(kind, header, body, token);
        let posted = self.lanes[at].post(&self.epoll);
        self.posted(at, posted);
        Ok(())
    }

    fn flush(&mut self) {
        while let Some(at) = self.holding.pop() {
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            lane.end_burst();
            self.failed.extend(lane.write(&self.epoll).err().map(|broken| (at, broken)));
        }
    }

    fn poll(&mut self, now: Instant, look: Look, sink: &mut dyn Sink) -> usize {
        if self.closed {
            return self.tell(sink);
        }
        self.restless = false;
        if !self.owing.is_empty() {
            self.pay_debts(now);
        }
        let mut events = 0;
        if let Some(at) = self.hot {
            events = self.read(at, now, sink);
            if events > 0 && look == Look::Quick {
                self.count_hit(at);
            }
        }
        self.polls = self.polls.wrapping_add(1);
        let quick = self.hot.is_some() && (events > 0 || look == Look::Quick);
        if !quick || self.polls.is_multiple_of(BLINKERS) {
            events += self.look_around(now, sink);
        }
        for at in std::mem::take(&mut self.unread) {
            events += self.read(at, now, sink);
        }
        for (at, broken) in std::mem::take(&mut self.failed) {
            self.broke(at, broken, now);
        }
        if now >= self.next_tick {
            self.tick(now);
        }
        self.last_poll = now;
        events + self.tell(sink)
    }

    fn watch(&self) -> Arc<Epoll> {
        self.epoll.clone()
    }

    fn arm(&mut self) {
        self.hits = 0;
        if let Some(lane) = self.hot.and_then(|at| self.lanes.get_mut(at)) {
            lane.rewatch(&self.epoll);
        }
    }

    #[inline]
    fn is_armed(&self) -> bool {
        self.hot.and_then(|at| self.lanes.get(at)).is_none_or(Lane::is_watched)
    }

    fn poll_by(&self) -> Option<Instant> {
        if self.wants_poll() {
            return Some(self.last_poll);
        }
        let idle = self.lanes.len() == 0 && self.arrivals.len() == 0 && self.doors_closed.is_none();
        let tick = (!idle).then_some(self.next_tick);
        tick.into_iter().chain(self.debt_due()).min()
    }

    fn wants_poll(&self) -> bool {
        self.restless || !self.unread.is_empty() || !self.failed.is_empty() || !self.outcomes.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|(_, lane)| lane.outbox.kept() == 0) && self.outcomes.is_empty()
    }

    fn close(&mut self, sink: &mut dyn Sink) {
        for at in self.lanes.numbers() {
            let Some(mut lane) = self.lanes.take(at) else { continue };
            // Whether it is heard is the peer's to see: it will also see the end of the connection.
            let _ = lane.say(frame::What::Bye, &self.epoll);
            lane.outbox.abandon().for_each(|token| self.outcomes.push_back(Outcome::Done(token, Undelivered::Closed)));
        }
        self.closed = true;
        self.arrivals = Slab::new();
        self.listeners.clear();
        self.tell(sink);
    }

    fn counts(&self) -> Counts {
        Counts { strangers: self.strangers.count(), lanes: self.lanes.len() as u64, ..self.counts }
    }
}
