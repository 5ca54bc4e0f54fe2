//! Every other rank's end of the star: calls the hub, proves itself, and speaks when it is asked.

use std::{io, os::fd::AsFd, time::Duration};

use socket2::Socket;

use super::address::Address;
use super::auth::{GREETING, Greeted, Judged, Meeting, VERDICT, random};
use super::error::{BootstrapError, Failure, FailureKind};
use super::link::{Body, End, Link};
use super::message::{Hello, ToHub, ToSpoke, Welcome, decode, encode, to_spoke_max};
use crate::sys::rendezvous::{self, For};
use crate::time::Deadline;

/// The hub knows best what is wrong; so long it may take to say so after our own time is up.
const GRACE: Duration = Duration::from_secs(2);

/// The connection to the hub.
pub(super) struct Spoke {
    link: Link,
    size: u32,
}

/// What came of a call.
pub(super) enum Call {
    /// A hub of this job that knows the secret.
    Hub(Link),
    /// A hub of this job that says our secret is wrong, or does not know it.
    Refused(&'static str),
    /// Nobody, somebody else, or a hub of another job.
    Nobody(String),
}

/// Calls there. `patience` bounds each of connecting, greeting and judging.
pub(super) fn call(address: &Address, meeting: &Meeting, patience: Deadline) -> Call {
    match try_call(address, meeting, patience) {
        Ok(call) => call,
        Err(why) => Call::Nobody(why.to_string()),
    }
}

fn try_call(address: &Address, meeting: &Meeting, patience: Deadline) -> io::Result<Call> {
    let socket = address.call(patience)?;
    let greeting: [u8; GREETING] = hear(&socket, patience)?;
    let (claim, expected) = match meeting.claim(&greeting, &random()?) {
        Greeted::Claim(claim, expected) => (claim, expected),
        Greeted::OtherJob => return Ok(Call::Nobody("another job of ours listens there".into())),
        Greeted::Stranger => return Ok(Call::Nobody("another program listens there".into())),
    };
    if rendezvous::send(&socket, &claim)? != claim.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let verdict: [u8; VERDICT] = hear(&socket, patience)?;
    Ok(match expected.judge(&verdict) {
        Judged::Accepted(keys) => Call::Hub(Link::new(socket, End::Spoke, keys)?),
        Judged::Refused => Call::Refused("rank 0 has another secret"),
        Judged::Impostor => Call::Refused("what listens there does not know the secret itself"),
    })
}

/// Reads exactly so many bytes.
fn hear<const N: usize>(socket: &Socket, deadline: Deadline) -> io::Result<[u8; N]> {
    let (mut words, mut got) = ([0; N], 0);
    while got < N {
        if !rendezvous::ready(&[(socket.as_fd(), For::Reading)], deadline)?[0] {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "what listens there says nothing"));
        }
        match rendezvous::receive(socket, &mut words[got..]) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "what listens there hangs up")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => got += other?,
        }
    }
    Ok(words)
}

impl Spoke {
    /// Introduces this rank and waits until all are there. The rank that it was given.
    pub(super) fn join(link: Link, hello: Hello, deadline: Deadline) -> Result<(Spoke, u32, Welcome), BootstrapError> {
        let mut spoke = Spoke { link, size: hello.size };
        let size = hello.size as usize;
        spoke.link.queue(Body::new(encode(&ToHub::Hello(Box::new(hello)))));
        let rank = match spoke.answer(deadline)? {
            ToSpoke::Rank(rank) if (rank as usize) < size => rank,
            _ => return Err(out_of_step()),
        };
        match spoke.answer(deadline)? {
            ToSpoke::Welcome(welcome) if welcome.cards.len() == size && welcome.claims().len() == size => {
                Ok((spoke, rank, welcome))
            }
            _ => Err(out_of_step()),
        }
    }

    /// One round: everybody's bytes, by rank.
    pub(super) fn round(&mut self, mine: &[u8], deadline: Deadline) -> Result<Vec<Vec<u8>>, BootstrapError> {
        self.link.queue(Body::new(encode(&ToHub::Round(mine.to_vec()))));
        match self.answer(deadline)? {
            ToSpoke::Round(all) if all.len() == self.size as usize => Ok(all),
            _ => Err(out_of_step()),
        }
    }

    /// Says that this rank needs the star no more, and waits until none does.
    pub(super) fn finish(&mut self, deadline: Deadline) -> Result<(), BootstrapError> {
        self.link.queue(Body::new(encode(&ToHub::Bye)));
        match self.answer(deadline)? {
            ToSpoke::Bye => Ok(()),
            _ => Err(out_of_step()),
        }
    }

    /// Tells the hub, and so all ranks, why this one cannot go on.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.link.queue(Body::new(encode(&ToHub::Failed(failure.clone()))));
        // If it cannot be told, it sees the connection end.
        let _ = self.link.flush(Deadline::after(GRACE));
    }

    /// What the hub says to what is queued.
    fn answer(&mut self, deadline: Deadline) -> Result<ToSpoke, BootstrapError> {
        let until = deadline.left().map_or(Deadline::Never, |left| Deadline::after(left + GRACE));
        // If it does not go out, the hub may have said why before it went.
        let sent = self.link.flush(until);
        let got = self.link.receive(to_spoke_max(self.size), until);
        let bytes = got.map_err(|why| lost(sent.err().unwrap_or(why)))?;
        match decode(&bytes) {
            Some(ToSpoke::Failed(failure)) => Err(BootstrapError::Failed(failure)),
            Some(message) => Ok(message),
            None => Err(out_of_step()),
        }
    }
}

fn lost(why: io::Error) -> BootstrapError {
    match why.kind() {
        io::ErrorKind::TimedOut => Failure::error(
            FailureKind::Timeout,
            "timeout: rank 0 does not answer; raise DRAGON_START_TIMEOUT if it only is slow",
        ),
        io::ErrorKind::InvalidData => {
            Failure::error(FailureKind::Lost, format!("the connection to rank 0 is disturbed: {why}"))
        }
        _ => Failure::error(FailureKind::Lost, "rank 0 ended, or the connection to it did, before all were through"),
    }
}

fn out_of_step() -> BootstrapError {
    Failure::error(FailureKind::Mismatch, "the ranks are not in step: rank 0 said something else than was expected")
}
