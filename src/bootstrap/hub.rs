//! Rank 0's end of the star: takes what every rank says and says it to all, one round after the other.
//!
//! There is no thread: the hub works while its rank is in a call that concerns all, and waits for the others there as
//! they wait for it. A rank that ends, or says that it cannot go on, ends the call on every rank with the same words.

use std::{io, os::fd::AsFd, time::Duration};

use super::error::{BootstrapError, Failure, FailureKind};
use super::link::{Body, Link};
use super::message::{ROUND_MAX, TO_HUB_MAX, ToHub, ToSpoke, decode, encode};
use crate::sys::rendezvous::{self, For};
use crate::time::Deadline;

/// How long a failing hub tries to say so to ranks that do not listen.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// So many ranks are named in an error.
const NAMED: usize = 20;

/// The connections to all other ranks: that of rank `r` is the `r - 1`st.
pub(super) struct Hub {
    pub(super) spokes: Vec<Link>,
}

impl Hub {
    /// One round: everybody's bytes, by rank.
    pub(super) fn round(&mut self, mine: &[u8], deadline: Deadline) -> Result<Vec<Vec<u8>>, BootstrapError> {
        let result = self.try_round(mine, deadline);
        self.or_tell(result)
    }

    fn try_round(&mut self, mine: &[u8], deadline: Deadline) -> Result<Vec<Vec<u8>>, Failure> {
        let mut all = vec![mine.to_vec()];
        for (at, message) in self.collect(deadline)?.into_iter().enumerate() {
            match message {
                ToHub::Round(bytes) if bytes.len() <= ROUND_MAX => all.push(bytes),
                other => return Err(unexpected(at, &other)),
            }
        }
        let said = ToSpoke::Round(all);
        tell(self.spokes.iter_mut(), &Body::new(encode(&said)), deadline).map_err(lost)?;
        let ToSpoke::Round(all) = said else { return Ok(Vec::new()) };
        Ok(all)
    }

    /// The last round: everybody says that it needs the star no more, and rank 0 leaves last.
    pub(super) fn finish(&mut self, deadline: Deadline) -> Result<(), BootstrapError> {
        let result = self.try_finish(deadline);
        self.or_tell(result)
    }

    fn try_finish(&mut self, deadline: Deadline) -> Result<(), Failure> {
        let said = self.collect(deadline)?;
        if let Some((at, other)) = said.iter().enumerate().find(|(_, message)| !matches!(message, ToHub::Bye)) {
            return Err(unexpected(at, other));
        }
        tell(self.spokes.iter_mut(), &Body::new(encode(&ToSpoke::Bye)), deadline).map_err(lost)
    }

    /// Tells all ranks why it is over.
    pub(super) fn fail(&mut self, failure: &Failure) {
        say_failed(self.spokes.iter_mut(), failure);
    }

    /// What went wrong here goes wrong everywhere.
    fn or_tell<T>(&mut self, result: Result<T, Failure>) -> Result<T, BootstrapError> {
        result.map_err(|failure| {
            self.fail(&failure);
            BootstrapError::Failed(failure)
        })
    }

    /// One message of each rank.
    fn collect(&mut self, deadline: Deadline) -> Result<Vec<ToHub>, Failure> {
        let mut said: Vec<Option<ToHub>> = self.spokes.iter().map(|_| None).collect();
        loop {
            let missing: Vec<usize> = (0..said.len()).filter(|at| said[*at].is_none()).collect();
            if missing.is_empty() {
                return Ok(said.into_iter().flatten().collect());
            }
            if deadline.passed() {
                let ranks = ranks(missing.iter().map(|at| *at as u32 + 1));
                let text = format!(
                    "timeout: rank 0 has waited for what {ranks} should say; raise DRAGON_START_TIMEOUT if they only are slow"
                );
                return Err(Failure { kind: FailureKind::Timeout, text });
            }
            let watched: Vec<_> = missing.iter().map(|at| (self.spokes[*at].as_fd(), For::Reading)).collect();
            // What is wrong with one of them shows when reading; so look at all if nothing is known.
            let ready = rendezvous::ready(&watched, deadline).unwrap_or_else(|_| vec![true; missing.len()]);
            for (at, _) in missing.into_iter().zip(ready).filter(|(_, ready)| *ready) {
                said[at] = self.message_of(at)?;
            }
        }
    }

    fn message_of(&mut self, at: usize) -> Result<Option<ToHub>, Failure> {
        let got = self.spokes[at].pull(TO_HUB_MAX).map_err(|why| lost((at, why)))?;
        match got.map(|bytes| decode(&bytes)) {
            None => Ok(None),
            Some(Some(ToHub::Failed(failure))) => Err(failure),
            Some(Some(message)) => Ok(Some(message)),
            Some(None) => Err(lost((at, io::ErrorKind::InvalidData.into()))),
        }
    }
}

/// Sends the same to all, to each as fast as it takes it. On failure, whom it concerns.
pub(super) fn tell<'a>(
    links: impl Iterator<Item = &'a mut Link>,
    body: &Body,
    deadline: Deadline,
) -> Result<(), (usize, io::Error)> {
    let mut links: Vec<_> = links.enumerate().collect();
    links.iter_mut().for_each(|(_, link)| link.queue(body.clone()));
    loop {
        for (at, link) in &mut links {
            link.push().map_err(|why| (*at, why))?;
        }
        links.retain(|(_, link)| link.has_unsent());
        let Some((slow, _)) = links.first() else { return Ok(()) };
        if deadline.passed() {
            return Err((*slow, io::ErrorKind::TimedOut.into()));
        }
        let watched: Vec<_> = links.iter().map(|(_, link)| (link.as_fd(), For::Writing)).collect();
        // As in `collect`: what is wrong shows when writing.
        let _ = rendezvous::ready(&watched, deadline);
    }
}

/// Tells all why it is over; who does not hear it sees the connection end.
pub(super) fn say_failed<'a>(links: impl Iterator<Item = &'a mut Link>, failure: &Failure) {
    let body = Body::new(encode(&ToSpoke::Failed(failure.clone())));
    let deadline = Deadline::after(LAST_WORDS);
    for link in links {
        // One by one: a broken one must not keep the others from being told.
        link.queue(body.clone());
        let _ = link.flush(deadline);
    }
}

fn lost((at, why): (usize, io::Error)) -> Failure {
    let rank = at + 1;
    let text = match why.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            format!("rank {rank} ended, or its connection did, before all were through")
        }
        _ => format!("rank {rank} cannot be talked to: {why}"),
    };
    Failure { kind: FailureKind::Lost, text }
}

fn unexpected(at: usize, message: &ToHub) -> Failure {
    let what = match message {
        ToHub::Hello(_) => "introduced itself again",
        ToHub::Round(_) => "said something else",
        ToHub::Failed(_) | ToHub::Bye => "has left already",
    };
    Failure { kind: FailureKind::Mismatch, text: format!("the ranks are not in step: rank {} {what}", at + 1) }
}

/// `ranks 1,3`, and how many more.
pub(super) fn ranks(which: impl Iterator<Item = u32>) -> String {
    let all: Vec<String> = which.map(|rank| rank.to_string()).collect();
    let noun = if all.len() == 1 { "rank" } else { "ranks" };
    match all.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{noun} {} and {more} more", all[..NAMED].join(",")),
        _ => format!("{noun} {}", all.join(",")),
    }
}
