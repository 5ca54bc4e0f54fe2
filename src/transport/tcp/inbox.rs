//! The receiving half of a lane's stream: bytes become messages, and large bodies land in their blocks.
//!
//! What was read but is not yet a frame belongs to the connection and goes with it; `position` counts only what was
//! delivered or has landed, and is where a new connection goes on, in the middle of a large body if need be.

use std::io;

use super::frame::{First, Frame, Garbled, What, first};
use super::outbox::Outbox;
use super::pipe::{Got, Pipe};
use crate::mm::Block;
use crate::transport::{BODY_MOST, HEADER_MOST, Sink, To, Token, Undelivered};

/// Bytes to ask for while large bodies come: little enough that nearly all of a body is read to where it stays.
const APPETITE_LEAST: usize = 4 << 10;
/// While small things come: a copy of this is cheaper than another call.
const APPETITE: usize = 16 << 10;
/// When they come one behind the other.
const APPETITE_MOST: usize = 128 << 10;
/// Bytes of a large body that one call takes at most: while it copies, nothing more can come in.
const CALL_MOST: usize = 256 << 10;
/// Bodies from here on are large.
const LARGE: u64 = 48 << 10;

/// Bytes that the engine's one buffer must have: a frame that is nearly complete, and what is read behind it.
pub(super) const SCRATCH: usize = super::frame::HEAD + HEADER_MOST + BODY_MOST + APPETITE_MOST;

/// Why a connection cannot go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// It ended, or the system says so.
    Closed(io::Error),
    /// What came over it makes no sense.
    Garbled(&'static str),
    /// The peer said good-bye.
    Bye,
}

impl From<Garbled> for Broken {
    fn from(garbled: Garbled) -> Broken {
        Broken::Garbled(garbled.0)
    }
}

/// Who is told of what came in, and what it changes.
pub(super) struct Desk<'a> {
    pub(super) from: To,
    pub(super) outbox: &'a mut Outbox,
    pub(super) sink: &'a mut dyn Sink,
    pub(super) bulk_most: u64,
}

/// What one gulp did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gulp {
    /// Things that the sink was told.
    pub(super) events: usize,
    /// There may be more to read right now.
    pub(super) more: bool,
}

/// A large body that is on its way into its block, or into nowhere.
struct Landing {
    kind: u16,
    header: Vec<u8>,
    /// `None`: it was refused.
    block: Option<Block>,
    got: usize,
    len: usize,
}

/// The receiving half of a lane.
pub(super) struct Inbox {
    position: u64,
    partial: Vec<u8>,
    /// Bytes from the first of `partial` on that make another look worth while.
    need: usize,
    landing: Option<Landing>,
    appetite: usize,
    refused: bool,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { position: 0, partial: Vec::new(), need: 0, landing: None, appetite: APPETITE, refused: false }
    }

    /// Everything before it has come.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that a large body still lacks.
    pub(super) fn lacks(&self) -> usize {
        self.landing.as_ref().map_or(0, |landing| landing.len - landing.got)
    }

    /// Whether a large body is under way.
    pub(super) fn is_landing(&self) -> bool {
        self.landing.is_some()
    }

    /// Whether the peer is to be told of a refusal. True once.
    pub(super) fn has_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// The connection is gone, and with it what was no whole frame.
    pub(super) fn cut(&mut self) {
        self.partial.clear();
        self.need = 0;
    }

    /// Reads once and delivers what is complete. `None`: there is nothing to read.
    #[inline]
    pub(super) fn gulp(
        &mut self,
        pipe: &mut Pipe,
        scratch: &mut [u8],
        desk: &mut Desk,
    ) -> Result<Option<Gulp>, Broken> {
        let (more, events) = match &mut self.landing {
            None => {
                let kept = self.partial.len();
                scratch[..kept].copy_from_slice(&self.partial);
                let most = (kept + self.appetite).max(self.need).min(scratch.len());
                let Some(got) = read(pipe, &mut scratch[kept..most])? else { return Ok(None) };
                if kept + got.bytes == most {
                    self.appetite = (2 * self.appetite).min(APPETITE_MOST);
                }
                (got.more, self.deliver(&scratch[..kept + got.bytes], desk)?)
            }
            Some(landing) => {
                let Some(got) = read(pipe, landing.place(scratch))? else { return Ok(None) };
                landing.got += got.bytes;
                self.position += got.bytes as u64;
                let events = self.land(desk);
                // A body that is just complete says nothing about what follows it; the socket will.
                (got.more && (self.is_landing() || pipe.is_sealed()), events)
            }
        };
        Ok(Some(Gulp { events, more }))
    }

    /// Delivers the whole frames of `bytes` and keeps the rest.
    fn deliver(&mut self, bytes: &[u8], desk: &mut Desk) -> Result<usize, Broken> {
        let (mut at, mut events) = (0, 0);
        while self.landing.is_none() {
            match first(&bytes[at..], desk.bulk_most)? {
                First::Incomplete { need } => {
                    self.need = need;
                    break;
                }
                First::Whole { frame, header, body, size } => {
                    at += size;
                    events += self.whole(frame, header, body, size, desk)?;
                }
                First::Bulk { frame, header, size } => {
                    at += size;
                    self.begin(frame, header, size, desk)?;
                    at += self.fill(&bytes[at..]);
                    events += 1 + self.land(desk);
                }
            }
        }
        self.partial.clear();
        self.partial.extend_from_slice(&bytes[at..]);
        Ok(events)
    }

    fn whole(
        &mut self,
        frame: Frame,
        header: &[u8],
        body: &[u8],
        size: usize,
        desk: &mut Desk,
    ) -> Result<usize, Broken> {
        if frame.what.is_lasting() {
            self.position += size as u64;
        }
        let mut events = 0;
        match frame.what {
            What::Message => {
                desk.sink.message(desk.from, frame.kind, header, body);
                events += 1;
            }
            // The head was checked: a refusal's header is a position.
            What::Refused => desk.outbox.refused(u64::from_le_bytes(header.try_into().unwrap_or_default())),
            What::Bye => return Err(Broken::Bye),
            What::Ack | What::Ping | What::Bulk => {}
        }
        // After the refusal: that something has come does not say that it was wanted.
        Ok(events + acknowledged(frame.ack, desk)?)
    }

    /// Finds the place for a large body, or has it refused.
    fn begin(&mut self, frame: Frame, header: &[u8], size: usize, desk: &mut Desk) -> Result<(), Broken> {
        acknowledged(frame.ack, desk)?;
        self.appetite = if frame.len < LARGE { self.appetite.max(APPETITE) } else { APPETITE_LEAST };
        self.position += size as u64;
        // Checked against `bulk_most`, which is a length of memory.
        let len = frame.len as usize;
        let block = desk.sink.landing(desk.from, frame.kind, header, len).filter(|block| block.len() >= len);
        if block.is_none() {
            self.refused = true;
            let end = (self.position + frame.len).to_le_bytes();
            let refusal = Frame { what: What::Refused, kind: 0, header: 8, len: 0, ack: self.position };
            desk.outbox.push([&refusal.write(), &end, &[]], Token::NONE);
        }
        self.landing = Some(Landing { kind: frame.kind, header: header.to_vec(), block, got: 0, len });
        Ok(())
    }

    /// Moves what came together with the head to its place.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let Some(landing) = &mut self.landing else { return 0 };
        let some = bytes.len().min(landing.len);
        if let Some(block) = &mut landing.block {
            block.as_mut_slice()[..some].copy_from_slice(&bytes[..some]);
        }
        landing.got = some;
        self.position += some as u64;
        some
    }

    /// Hands over a large body that is complete.
    fn land(&mut self, desk: &mut Desk) -> usize {
        let Some(landing) = self.landing.take_if(|landing| landing.got == landing.len) else { return 0 };
        match landing.block {
            None => 0,
            Some(block) => {
                desk.sink.landed(desk.from, landing.kind, &landing.header, block, landing.len);
                1
            }
        }
    }
}

impl Landing {
    /// Where the next bytes belong.
    fn place<'a>(&'a mut self, scratch: &'a mut [u8]) -> &'a mut [u8] {
        match &mut self.block {
            Some(block) => {
                let to = self.len.min(self.got.saturating_add(CALL_MOST));
                &mut block.as_mut_slice()[self.got..to]
            }
            None => {
                let most = scratch.len().min(self.len - self.got);
                &mut scratch[..most]
            }
        }
    }
}

fn acknowledged(at: u64, desk: &mut Desk) -> Result<usize, Garbled> {
    let mut ended = 0;
    let Desk { outbox, sink, .. } = desk;
    outbox.arrived(at, |token, well| {
        ended += 1;
        sink.done(token, if well { Ok(()) } else { Err(Undelivered::Refused) });
    })?;
    Ok(ended)
}

/// `None`: there is nothing now.
#[inline]
fn read(pipe: &mut Pipe, into: &mut [u8]) -> Result<Option<Got>, Broken> {
    match pipe.read(into) {
        Ok(Got { bytes: 0, .. }) => Err(Broken::Closed(io::ErrorKind::UnexpectedEof.into())),
        Ok(got) => Ok(Some(got)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(Broken::Closed(error)),
    }
}
