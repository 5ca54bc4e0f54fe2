//! One lane to one peer: its two streams, and the connection that carries them just now, if any.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::dial::Dial;
use super::frame::{Frame, HEAD, What};
use super::inbox::{Broken, Desk, Gulp, Inbox};
use super::outbox::{Outbox, PIECES, WRITE_MOST};
use super::pipe::Pipe;
use crate::sys::epoll::{Epoll, Interest};
use crate::time;
use crate::transport::{Bulk, Sink, To, Token};

/// Reads of one lane in one poll.
const GULPS: usize = 8;

/// So many messages one behind the other are written each on its own; further ones wait a little for company.
const BURST: u32 = 4;
/// Bytes that are company enough.
const HOLD_MOST: u64 = 32 << 10;
/// Nothing waits for company longer than this, if somebody sends or polls.
const HOLD_LONGEST: Duration = Duration::from_micros(50);

/// Messages from here on are written before they are copied to where they are kept.
const THROUGH: usize = 2 << 10;

/// What a large body must lack before a sleeper waits for more than its next piece, and what it waits for at most.
const WAKE_LEAST: usize = 16 << 10;
const WAKE_MOST: usize = 256 << 10;

/// Received bytes of which the sender is told at the next occasion, not only at leisure.
const ACK_BYTES: u64 = 256 << 10;
/// The leisure.
pub(super) const ACK_AFTER: Duration = Duration::from_millis(10);

/// Between two tries to connect that failed for reasons that may pass: at first, and at most.
const PAUSE_LEAST: Duration = Duration::from_millis(5);
pub(super) const PAUSE_MOST: Duration = Duration::from_millis(200);

/// What carries a lane.
pub(super) enum Link {
    /// Nothing; try again then.
    Down { again: Instant },
    /// We are calling the peer.
    Dialling(Box<Dial>),
    /// A connection.
    Open(Connection),
}

/// A proven connection.
pub(super) struct Connection {
    pub(super) pipe: Pipe,
    /// Whether we called.
    pub(super) dialled: bool,
    /// The number of this connection in the set to sleep on.
    pub(super) key: u64,
    /// What the set to sleep on watches it for; `None`: it is not in the set.
    watched: Option<Interest>,
    /// Bytes that must have come before a sleeper is woken.
    wake_at: usize,
    /// The end of a passing frame that did not fit.
    tail: Vec<u8>,
}

impl Connection {
    pub(super) fn new(pipe: Pipe, dialled: bool, key: u64) -> Connection {
        Connection { pipe, dialled, key, watched: Some(Interest::READ), wake_at: 1, tail: Vec::new() }
    }

    /// Asks to be told when there is room, or not to be.
    #[inline]
    fn watch(&mut self, epoll: &Epoll, write: bool) -> io::Result<()> {
        match self.watched {
            Some(watched) if watched.write != write => self.set_watched(epoll, write),
            None if write => self.set_watched(epoll, write),
            _ => Ok(()),
        }
    }

    fn set_watched(&mut self, epoll: &Epoll, write: bool) -> io::Result<()> {
        let wanted = Interest { read: true, write };
        match self.watched.replace(wanted) {
            None => epoll.add(&self.pipe, self.key, wanted),
            Some(_) => epoll.change(&self.pipe, self.key, wanted),
        }
    }

    /// Gives the kernel the end of a passing frame. False: it has no room.
    fn write_tail(&mut self) -> Result<bool, Broken> {
        while !self.tail.is_empty() {
            match give(&mut self.pipe, &[IoSlice::new(&self.tail)])? {
                Some(taken) => drop(self.tail.drain(..taken)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// `None`: there is no room.
#[inline]
fn give(pipe: &mut Pipe, pieces: &[IoSlice<'_>]) -> Result<Option<usize>, Broken> {
    match pipe.write(pieces) {
        Ok(taken) => Ok(Some(taken)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(Broken::Closed(error)),
    }
}

/// Gives the kernel what is next. Returns what it took, and of how much.
#[inline]
fn give_next(outbox: &Outbox, pipe: &mut Pipe) -> Result<(usize, usize), Broken> {
    if let Some(piece) = outbox.next_piece() {
        return Ok((give(pipe, &[IoSlice::new(piece)])?.unwrap_or(0), piece.len()));
    }
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let used = outbox.next_pieces(&mut pieces);
    let offered = pieces[..used].iter().map(|piece| piece.len()).sum();
    Ok((give(pipe, &pieces[..used])?.unwrap_or(0), offered))
}

/// False: there is no room for what is sealed already.
#[inline]
fn flush(pipe: &mut Pipe) -> Result<bool, Broken> {
    match pipe.flush() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(Broken::Closed(error)),
    }
}

/// A lane.
pub(super) struct Lane {
    pub(super) to: To,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    pub(super) link: Link,
    /// Connections that have come about.
    pub(super) session: u32,
    /// Since when there is none.
    pub(super) down_since: Instant,
    /// Connections in a row that ended with nonsense.
    pub(super) garbled: u32,
    /// What the last failed try to connect ended with.
    pub(super) trouble: String,
    /// Where the last call went.
    pub(super) tried_at: Option<SocketAddr>,
    /// Which of the peer's places is called, and how many were since there was a connection.
    pub(super) place: usize,
    tried: usize,
    pause: Duration,
    /// When something was written last, as seen at the last tick.
    pub(super) spoke_at: Instant,
    spoke: bool,
    /// The position that the peer knows we have reached.
    told: u64,
    /// Since when it does not.
    pub(super) owes_since: Option<Instant>,
    burst: u32,
    wrote_at: Instant,
    /// The kernel had no room at the last write.
    blocked: bool,
    /// Something waits for company.
    held: bool,
}

impl Lane {
    pub(super) fn new(to: To, now: Instant) -> Lane {
        Lane {
            to,
            outbox: Outbox::default(),
            inbox: Inbox::new(),
            link: Link::Down { again: now },
            session: 0,
            down_since: now,
            garbled: 0,
            trouble: String::new(),
            tried_at: None,
            place: 0,
            tried: 0,
            pause: Duration::ZERO,
            spoke_at: now,
            spoke: false,
            told: 0,
            owes_since: None,
            burst: 0,
            wrote_at: now,
            blocked: false,
            held: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    #[inline]
    fn head(&mut self, what: What, kind: u16, header: &[u8], len: usize) -> [u8; HEAD] {
        self.told = self.inbox.position();
        // The caller has checked the header's length.
        Frame { what, kind, header: header.len() as u16, len: len as u64, ack: self.told }.write()
    }

    /// Takes a small message, and writes it unless it is better to wait for more. What takes a while to be copied is copied
    /// when it has been written, while it is on its way.
    #[inline]
    pub(super) fn send(
        &mut self,
        kind: u16,
        header: &[u8],
        body: &[u8],
        token: Token,
        epoll: &Epoll,
    ) -> Result<Posted, Broken> {
        let head = self.head(What::Message, kind, header, body.len());
        let parts = [&head[..], header, body];
        if body.len() < THROUGH || self.burst >= BURST || !self.is_clear() {
            self.outbox.push(parts, token);
            return self.post(epoll);
        }
        let written = self.write_through(parts);
        self.outbox.push(parts, token);
        self.outbox.advance(written?);
        self.burst += 1;
        self.wrote(epoll).map(|()| Posted::Done)
    }

    /// Gives the kernel parts of a frame that are not in the outbox yet.
    fn write_through(&mut self, parts: [&[u8]; 3]) -> Result<usize, Broken> {
        let Link::Open(connection) = &mut self.link else { return Ok(0) };
        Ok(give(&mut connection.pipe, &parts.map(IoSlice::new))?.unwrap_or(0))
    }

    /// Takes a large one.
    pub(super) fn push_bulk(&mut self, kind: u16, header: &[u8], body: Bulk, token: Token) {
        let head = self.head(What::Bulk, kind, header, body.len);
        self.outbox.push_bulk([&head, header, &[]], body, token);
    }

    /// After a push: writes, unless it is better to wait for more.
    #[inline]
    pub(super) fn post(&mut self, epoll: &Epoll) -> Result<Posted, Broken> {
        if self.blocked || !self.is_open() {
            return Ok(Posted::Done);
        }
        if self.burst < BURST {
            self.burst += 1;
            return self.write(epoll).map(|()| Posted::Done);
        }
        if self.outbox.unsent() >= HOLD_MOST || time::now() - self.wrote_at >= HOLD_LONGEST {
            return self.write(epoll).map(|()| Posted::Done);
        }
        self.hold(epoll)
    }

    /// Waits for company. Whoever sleeps is thereby told that there is something to write.
    fn hold(&mut self, epoll: &Epoll) -> Result<Posted, Broken> {
        let Link::Open(connection) = &mut self.link else { return Ok(Posted::Done) };
        connection.watch(epoll, true).map_err(Broken::Closed)?;
        let first = !std::mem::replace(&mut self.held, true);
        Ok(if first { Posted::Held } else { Posted::Done })
    }

    /// Somebody waits for what comes back, or nothing was sent for a while: no holding back for now.
    #[inline]
    pub(super) fn end_burst(&mut self) {
        self.burst = 0;
    }

    /// Writes all that the kernel takes.
    pub(super) fn write(&mut self, epoll: &Epoll) -> Result<(), Broken> {
        let Link::Open(connection) = &mut self.link else { return Ok(()) };
        let room = flush(&mut connection.pipe)? && connection.write_tail()?;
        let most = self.outbox.sent() + WRITE_MOST;
        while room && self.outbox.unsent() > 0 && self.outbox.sent() < most && connection.pipe.is_flushed() {
            let (taken, offered) = give_next(&self.outbox, &mut connection.pipe)?;
            self.outbox.advance(taken);
            // Sealed bytes are taken a record at a time; otherwise less than offered means that there is no more room.
            if taken == 0 || (taken < offered && !connection.pipe.is_sealed()) {
                break;
            }
        }
        self.wrote(epoll)
    }

    /// After a write: notes it, and asks to be told when there is room for what is left.
    #[inline]
    fn wrote(&mut self, epoll: &Epoll) -> Result<(), Broken> {
        let Link::Open(connection) = &mut self.link else { return Ok(()) };
        (self.spoke, self.held) = (true, false);
        if self.burst >= BURST {
            self.wrote_at = time::now();
        }
        let left = self.outbox.unsent() > 0 || !connection.tail.is_empty() || !connection.pipe.is_flushed();
        self.blocked = left;
        connection.watch(epoll, left).map_err(Broken::Closed)
    }

    /// Whether what is written now is what comes next on the wire, as it is.
    fn is_clear(&self) -> bool {
        matches!(&self.link, Link::Open(connection) if !connection.pipe.is_sealed()) && self.can_say()
    }

    /// Whether nothing is in the way of a passing frame.
    pub(super) fn can_say(&self) -> bool {
        let Link::Open(connection) = &self.link else { return false };
        self.outbox.unsent() == 0 && connection.tail.is_empty() && connection.pipe.is_flushed()
    }

    /// Says something that has no place in the stream. Not while the stream has something to say: that says more,
    /// and a refusal must not be overtaken by the news that what it refuses has come.
    pub(super) fn say(&mut self, what: What, epoll: &Epoll) -> Result<(), Broken> {
        let head = Frame::passing(what, self.inbox.position()).write();
        let position = self.inbox.position();
        if !self.can_say() {
            return Ok(());
        }
        let Link::Open(connection) = &mut self.link else { return Ok(()) };
        let taken = give(&mut connection.pipe, &[IoSlice::new(&head)])?.unwrap_or(0);
        if 0 < taken && taken < HEAD {
            connection.tail.extend_from_slice(&head[taken..]);
            connection.watch(epoll, true).map_err(Broken::Closed)?;
            self.blocked = true;
        }
        if taken > 0 {
            self.told = position;
            self.spoke = true;
        }
        Ok(())
    }

    /// Whether sleepers are told of what comes.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        !matches!(&self.link, Link::Open(Connection { watched: None, .. }))
    }

    /// Sleepers are told again. Of a large body not of every piece: to be woken costs more than the piece.
    pub(super) fn rewatch(&mut self, epoll: &Epoll) {
        let lacks = self.inbox.lacks();
        let wake_at = if lacks >= WAKE_LEAST { lacks.min(WAKE_MOST) } else { 1 };
        if let Link::Open(connection) = &mut self.link
            && connection.wake_at != wake_at
            && !connection.pipe.is_sealed()
        {
            connection.pipe.wake_at(wake_at);
            connection.wake_at = wake_at;
        }
        if let Link::Open(connection) = &mut self.link
            && connection.watched.is_none()
            && let Err(error) = connection.set_watched(epoll, self.blocked)
        {
            tracing::error!(%error, "a connection cannot be watched");
        }
    }

    /// Sleepers are not told any more: somebody looks all the time, for whom the telling only takes time.
    pub(super) fn unwatch(&mut self, epoll: &Epoll) {
        if let Link::Open(connection) = &mut self.link
            && connection.watched == Some(Interest::READ)
            && epoll.remove(&connection.pipe).is_ok()
        {
            connection.watched = None;
        }
    }

    /// Reads what has come, within bounds.
    #[inline]
    pub(super) fn read(&mut self, scratch: &mut [u8], bulk_most: u64, sink: &mut dyn Sink) -> Result<Heard, Broken> {
        let Link::Open(connection) = &mut self.link else { return Ok(Heard::default()) };
        let mut desk = Desk { from: self.to, outbox: &mut self.outbox, sink, bulk_most };
        let mut heard = Heard::default();
        for _ in 0..GULPS {
            let Some(gulp) = self.inbox.gulp(&mut connection.pipe, scratch, &mut desk)? else { return Ok(heard) };
            heard.add(gulp);
            if !gulp.more {
                return Ok(heard);
            }
        }
        // Only what the socket does not tell of must be remembered.
        heard.more = connection.pipe.is_sealed();
        Ok(heard)
    }

    /// Where a call was tried last, for words.
    pub(super) fn tried_at(&self) -> String {
        self.tried_at.map_or("an address that nobody has told".into(), |place| place.to_string())
    }

    /// Whether the peer is to be told now how far we are. What is owed is settled by anything that is sent; only if
    /// nothing is, this.
    pub(super) fn must_pay(&self, since: Instant, now: Instant) -> bool {
        let plenty = self.owed() >= ACK_BYTES && !self.inbox.is_landing();
        plenty || now.saturating_duration_since(since) >= ACK_AFTER
    }

    /// Bytes that have come without the peer's being told.
    #[inline]
    pub(super) fn owed(&self) -> u64 {
        self.inbox.position() - self.told
    }

    /// At a tick: when we last said anything.
    pub(super) fn last_spoke(&mut self, now: Instant) -> Instant {
        if std::mem::take(&mut self.spoke) {
            self.spoke_at = now;
        }
        self.spoke_at
    }

    /// Goes on over another connection, from where the peer stands. Returns how many bytes are sent again.
    pub(super) fn open(&mut self, connection: Connection, stands: u64, now: Instant) -> Result<u64, Broken> {
        let again = self.outbox.resume(stands)?;
        self.link = Link::Open(connection);
        self.inbox.cut();
        self.told = self.inbox.position();
        (self.spoke_at, self.spoke, self.burst, self.blocked) = (now, false, 0, false);
        (self.tried, self.pause) = (0, Duration::ZERO);
        Ok(again)
    }

    /// A call failed: the next place is to be called, at once, or, when all have been, after a pause.
    pub(super) fn next_try(&mut self, places: usize) -> Duration {
        self.place += 1;
        self.tried += 1;
        if !self.tried.is_multiple_of(places) {
            return Duration::ZERO;
        }
        self.pause = (2 * self.pause).clamp(PAUSE_LEAST, PAUSE_MOST);
        self.pause
    }

    /// The connection is gone.
    pub(super) fn cut(&mut self, now: Instant, again: Instant) {
        if self.is_open() {
            self.down_since = now;
        }
        self.link = Link::Down { again };
        self.inbox.cut();
        self.blocked = false;
    }
}

/// What became of a message just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// It is on its way, or will be as soon as there is room or a connection.
    Done,
    /// It is the first that waits for company.
    Held,
}

/// What reading did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Whether anything came, be it only a sign of life.
    pub(super) anything: bool,
    /// Things that the sink was told.
    pub(super) events: usize,
    /// There is more that the socket does not tell of.
    pub(super) more: bool,
}

impl Heard {
    #[inline]
    fn add(&mut self, gulp: Gulp) {
        self.anything = true;
        self.events += gulp.events;
    }
}
