//! How the hub comes together: the doors are open, and whoever proves to belong here is given his seat.
//!
//! Strangers cost a descriptor for a few seconds and nothing else: what they say is not parsed, how many may wait to
//! prove themselves is bounded, and the one who has waited longest goes first. Whoever knows the secret and does not fit
//! (a rank that came twice, another idea of how many there are, another build) ends the start for all, at once; those who
//! are still on their way are told the same when they come.

use std::{collections::VecDeque, io, os::fd::AsFd, time::Duration};

use socket2::Socket;

use super::address;
use super::auth::{CLAIM, KEY, Meeting, random};
use super::error::{BootstrapError, Failure, FailureKind};
use super::hub::{Hub, ranks, say_failed, tell};
use super::link::{Body, End, Link};
use super::message::{CARD_MAX, Hello, RANKS_MAX, TO_HUB_MAX, ToHub, ToSpoke, VERSION, Welcome, decode, encode};
use crate::sys::process;
use crate::sys::rendezvous::{self, For, Watched};
use crate::time::Deadline;

/// How long somebody may take to prove himself.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a start that has failed is explained to ranks that come only now.
const EXPLAINING: Duration = Duration::from_secs(5);
/// Descriptors beyond those of the ranks: doors, strangers, files.
const SPARE: u64 = 64;
/// So many may be at it at once.
const WAITING_MAX: usize = 256;
/// So many are let in before those who are in are looked after again.
const TURN: usize = 64;

/// Somebody who has not said yet who he is.
struct Newcomer {
    until: Deadline,
    stage: Stage,
}

enum Stage {
    /// He has been greeted with this number and is to prove himself.
    Proving { socket: Socket, nonce: [u8; KEY], said: Vec<u8> },
    /// He has, and is to say who he is.
    Naming(Link),
}

/// A rank that is here.
struct Seat {
    link: Link,
    hello: Hello,
}

/// The hub while ranks come.
pub(super) struct Gathering<'a> {
    doors: Vec<Socket>,
    meeting: &'a Meeting,
    own: Hello,
    deadline: Deadline,
    newcomers: VecDeque<Newcomer>,
    /// Those who have proved themselves and said who they are, and have no seat yet.
    proven: VecDeque<Seat>,
    /// By rank; that of rank 0 stays empty.
    seats: Vec<Option<Seat>>,
    /// Those who take any rank.
    unplaced: Vec<Seat>,
    strangers: usize,
}

/// Waits until all ranks are there, or the time of the least patient is up.
pub(super) fn gather(
    doors: Vec<Socket>,
    meeting: &Meeting,
    own: Hello,
    job: [u8; 16],
    deadline: Deadline,
) -> Result<(Hub, Welcome), BootstrapError> {
    if own.size > RANKS_MAX {
        let why = format!("{} ranks are too many, at most {RANKS_MAX}", own.size);
        return Err(BootstrapError::Unclear { why });
    }
    let room = room_for(own.size);
    let seats = (0..own.size).map(|_| None).collect();
    let (newcomers, proven, unplaced) = (VecDeque::new(), VecDeque::new(), Vec::new());
    let mut gathering = Gathering { doors, meeting, own, deadline, newcomers, proven, seats, unplaced, strangers: 0 };
    match room.and_then(|()| gathering.until_all_are_there()) {
        Ok(()) => gathering.welcome(job),
        Err(failure) => Err(gathering.fail(failure)),
    }
}

/// Sees to it that this process may have a descriptor for each rank.
fn room_for(size: u32) -> Result<(), Failure> {
    let needed = process::open_descriptors() + u64::from(size) + SPARE;
    match process::allow_descriptors(needed) {
        Some(limit) if limit < needed => {
            let text = format!(
                "rank 0 needs {needed} descriptors to meet {size} ranks and may have {limit}: raise the hard limit, `ulimit -Hn`"
            );
            Err(Failure { kind: FailureKind::Rank, text })
        }
        _ => Ok(()),
    }
}

impl Gathering<'_> {
    fn until_all_are_there(&mut self) -> Result<(), Failure> {
        while self.present() < self.own.size as usize {
            if self.deadline.passed() {
                return Err(self.too_late());
            }
            let strangers = self.doors.len() + self.newcomers.len();
            // A failure here shows in what is looked at below.
            let ready = rendezvous::ready(&self.watched(), self.next_deadline()).unwrap_or_default();
            self.hear_seated(ready.get(strangers..).unwrap_or_default())?;
            self.let_in();
            self.hear_newcomers();
            while let Some(seat) = self.proven.pop_front() {
                self.seat(seat)?;
            }
        }
        Ok(())
    }

    /// How many ranks are here, this one included.
    fn present(&self) -> usize {
        1 + self.seats.iter().flatten().count() + self.unplaced.len()
    }

    fn watched(&self) -> Vec<Watched<'_>> {
        let newcomers = self.newcomers.iter().map(|newcomer| match &newcomer.stage {
            Stage::Proving { socket, .. } => socket.as_fd(),
            Stage::Naming(link) => link.as_fd(),
        });
        let seated = self.seats.iter().flatten().chain(&self.unplaced).map(|seat| seat.link.as_fd());
        self.doors.iter().map(AsFd::as_fd).chain(newcomers).chain(seated).map(|fd| (fd, For::Reading)).collect()
    }

    fn next_deadline(&self) -> Deadline {
        let oldest = self.newcomers.front().map_or(Deadline::Never, |newcomer| newcomer.until);
        earlier(oldest, self.deadline)
    }

    fn let_in(&mut self) {
        let (mut accepted, mut is_full) = (Vec::new(), false);
        for door in &self.doors {
            for _ in 0..TURN {
                match door.accept() {
                    Ok((socket, _)) => accepted.push(socket),
                    Err(error) => {
                        is_full |= process::is_out_of_descriptors(&error);
                        break;
                    }
                }
            }
        }
        if is_full {
            self.make_room();
        }
        for socket in accepted {
            match self.greet(socket) {
                Ok(newcomer) => self.newcomers.push_back(newcomer),
                Err(_) => self.strangers += 1,
            }
        }
        while self.newcomers.len() > WAITING_MAX && self.make_room() {}
    }

    /// Turns out the one who has taken longest to prove himself; he may call again. Never one who has: he would believe
    /// that the world is over. False if there is none.
    fn make_room(&mut self) -> bool {
        let longest = self.newcomers.iter().position(|newcomer| matches!(newcomer.stage, Stage::Proving { .. }));
        let turned_out = longest.and_then(|at| self.newcomers.remove(at));
        self.strangers += usize::from(turned_out.is_some());
        turned_out.is_some()
    }

    fn greet(&self, socket: Socket) -> io::Result<Newcomer> {
        socket.set_nonblocking(true)?;
        address::welcome(&socket)?;
        let nonce = random()?;
        say(&socket, &self.meeting.greeting(&nonce))?;
        let stage = Stage::Proving { socket, nonce, said: Vec::new() };
        Ok(Newcomer { until: Deadline::after(HANDSHAKE), stage })
    }

    fn hear_newcomers(&mut self) {
        for newcomer in std::mem::take(&mut self.newcomers) {
            let until = newcomer.until;
            match hear(newcomer.stage, self.meeting) {
                Ok(Heard::NotYet(_)) if until.passed() => self.stranger("said nothing, or too slowly"),
                Ok(Heard::NotYet(stage)) => self.newcomers.push_back(Newcomer { until, stage }),
                Ok(Heard::Hello(link, hello)) => self.proven.push_back(Seat { link, hello }),
                Err(_) => self.stranger("does not know the secret of this job"),
            }
        }
    }

    fn stranger(&mut self, what: &str) {
        if self.strangers == 0 {
            tracing::warn!("somebody who {what} has called while the ranks meet; further ones are not reported");
        }
        self.strangers += 1;
    }

    fn seat(&mut self, seat: Seat) -> Result<(), Failure> {
        if let Err(failure) = self.fits(&seat.hello) {
            // To be told with the others.
            self.proven.push_front(seat);
            return Err(failure);
        }
        self.deadline = earlier(self.deadline, Deadline::after(Duration::from_millis(seat.hello.patience)));
        match seat.hello.rank {
            // `fits` has seen that the rank has a seat, and that it is empty.
            Some(rank) => self.seats[rank as usize] = Some(seat),
            None => self.unplaced.push(seat),
        }
        Ok(())
    }

    fn fits(&self, hello: &Hello) -> Result<(), Failure> {
        let wrong = |kind, text| Err(Failure { kind, text });
        let (they, we) = (name(hello), name(&self.own));
        if hello.version != VERSION || hello.build != self.own.build {
            let text = format!("{they} is another build of the program than {we}: start all ranks from the same file");
            return wrong(FailureKind::WrongBuild, text);
        }
        if hello.size != self.own.size {
            let text =
                format!("{they} says that there are {} ranks, {we} that there are {}", hello.size, self.own.size);
            return wrong(FailureKind::Mismatch, text);
        }
        if hello.card.len() > CARD_MAX {
            return wrong(FailureKind::Mismatch, format!("the card of {they} is longer than {CARD_MAX} bytes"));
        }
        let there = match hello.rank {
            None => return Ok(()),
            Some(0) => Some(&self.own),
            Some(rank) if rank >= hello.size => {
                return wrong(
                    FailureKind::Mismatch,
                    format!("{they} is not one of {} ranks, which count from 0", hello.size),
                );
            }
            Some(rank) => self.seats[rank as usize].as_ref().map(|seat| &seat.hello),
        };
        match there {
            None => Ok(()),
            Some(other) => {
                wrong(FailureKind::Mismatch, format!("two processes are the same rank: {they} and {}", name(other)))
            }
        }
    }

    /// A rank that is here has nothing to say but that it cannot go on.
    fn hear_seated(&mut self, ready: &[bool]) -> Result<(), Failure> {
        let seated = self.seats.iter_mut().flatten().chain(&mut self.unplaced);
        for (seat, _) in seated.zip(ready).filter(|(_, ready)| **ready) {
            match seat.link.pull(TO_HUB_MAX) {
                Ok(None) => {}
                Ok(Some(bytes)) => match decode(&bytes) {
                    Some(ToHub::Failed(failure)) => return Err(failure),
                    _ => return Err(gone(&seat.hello, "spoke out of turn")),
                },
                Err(_) => {
                    return Err(gone(&seat.hello, "ended, or its connection did, while the others were still coming"));
                }
            }
        }
        Ok(())
    }

    fn too_late(&self) -> Failure {
        let (present, size) = (self.present(), self.own.size);
        let missing = match self.unplaced.is_empty() {
            true => ranks((1..size).filter(|rank| self.seats[*rank as usize].is_none())),
            false => format!("{} more", size as usize - present),
        };
        let strangers = match self.strangers {
            0 => String::new(),
            n => format!("; {n} that called did not know the secret (is DRAGON_SECRET the same everywhere?)"),
        };
        let text = format!(
            "timeout: {present} of {size} processes came; missing {missing}{strangers}. Raise DRAGON_START_TIMEOUT if they only are slow"
        );
        Failure { kind: FailureKind::Timeout, text }
    }

    /// Tells all why it is over: those who are here, and for a while those who are still to come.
    fn fail(mut self, failure: Failure) -> BootstrapError {
        say_failed(self.seats.iter_mut().flatten().chain(&mut self.unplaced).map(|seat| &mut seat.link), &failure);
        let mut told: Vec<bool> = self.seats.iter().map(Option::is_some).collect();
        let mut unplaced = self.unplaced.len();
        // Who did not come in time is not waited for once more.
        let patience = if failure.kind == FailureKind::Timeout { Duration::ZERO } else { EXPLAINING };
        self.deadline = self.deadline.within(patience);
        loop {
            for mut seat in std::mem::take(&mut self.proven) {
                say_failed(std::iter::once(&mut seat.link), &failure);
                match seat.hello.rank.and_then(|rank| told.get_mut(rank as usize)) {
                    Some(told) => *told = true,
                    None => unplaced += 1,
                }
            }
            let came = 1 + told.iter().skip(1).filter(|told| **told).count() + unplaced;
            if came >= told.len() || self.deadline.passed() {
                return BootstrapError::Failed(failure);
            }
            // Those who were here say nothing more.
            let watched: Vec<_> = self.watched().into_iter().take(self.doors.len() + self.newcomers.len()).collect();
            if rendezvous::ready(&watched, self.next_deadline()).is_err() {
                return BootstrapError::Failed(failure);
            }
            self.let_in();
            self.hear_newcomers();
        }
    }

    /// Gives everybody his rank, and all cards.
    fn welcome(mut self, job: [u8; 16]) -> Result<(Hub, Welcome), BootstrapError> {
        let mut unplaced = std::mem::take(&mut self.unplaced).into_iter();
        let seats = std::mem::take(&mut self.seats).into_iter().skip(1);
        let (mut spokes, mut hellos) = (Vec::new(), vec![self.own]);
        for seat in seats.filter_map(|seat| seat.or_else(|| unplaced.next())) {
            spokes.push(seat.link);
            hellos.push(seat.hello);
        }
        for (link, rank) in spokes.iter_mut().zip(1..) {
            link.queue(Body::new(encode(&ToSpoke::Rank(rank))));
        }
        let welcome = Welcome::new(job, hellos.into_iter().map(|hello| (hello.card, hello.claims)));
        let told = tell(spokes.iter_mut(), &Body::new(encode(&ToSpoke::Welcome(welcome.clone()))), self.deadline);
        match told {
            Ok(()) => Ok((Hub { spokes }, welcome)),
            Err((at, why)) => {
                let text = format!("rank {} ended, or its connection did, when all were there: {why}", at + 1);
                let failure = Failure { kind: FailureKind::Lost, text };
                say_failed(spokes.iter_mut(), &failure);
                Err(BootstrapError::Failed(failure))
            }
        }
    }
}

enum Heard {
    NotYet(Stage),
    Hello(Link, Hello),
}

/// Takes in what a newcomer has said. An error: he does not belong here.
fn hear(stage: Stage, meeting: &Meeting) -> io::Result<Heard> {
    match stage {
        Stage::Proving { socket, nonce, mut said } => {
            if !fill(&socket, &mut said, CLAIM)? {
                return Ok(Heard::NotYet(Stage::Proving { socket, nonce, said }));
            }
            // `fill` has made it exactly so long.
            let claim = said.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
            let (verdict, keys) = meeting.judge(claim, &nonce);
            say(&socket, &verdict)?;
            let keys = keys.ok_or(io::ErrorKind::PermissionDenied)?;
            hear(Stage::Naming(Link::new(socket, End::Hub, keys)?), meeting)
        }
        Stage::Naming(mut link) => match link.pull(TO_HUB_MAX)? {
            None => Ok(Heard::NotYet(Stage::Naming(link))),
            Some(bytes) => match decode(&bytes) {
                Some(ToHub::Hello(hello)) => Ok(Heard::Hello(link, *hello)),
                _ => Err(io::ErrorKind::InvalidData.into()),
            },
        },
    }
}

/// Reads until `said` is so long. False: not all of it is there yet.
fn fill(socket: &Socket, said: &mut Vec<u8>, length: usize) -> io::Result<bool> {
    let mut room = [0; CLAIM];
    while said.len() < length {
        match rendezvous::receive(socket, &mut room[..length - said.len()]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => said.extend_from_slice(&room[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Sends a few bytes on a socket that has room for them, or has been flooded by its own user.
fn say(socket: &Socket, words: &[u8]) -> io::Result<()> {
    let sent = rendezvous::send(socket, words)?;
    if sent == words.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn earlier(a: Deadline, b: Deadline) -> Deadline {
    match (a.left(), b.left()) {
        (Some(left), Some(other)) if left > other => b,
        (None, Some(_)) => b,
        _ => a,
    }
}

fn gone(hello: &Hello, what: &str) -> Failure {
    Failure { kind: FailureKind::Lost, text: format!("{} {what}", name(hello)) }
}

/// `rank 3 (host n7, process 4711)`
fn name(hello: &Hello) -> String {
    let rank = hello.rank.map_or("a process".into(), |rank| format!("rank {rank}"));
    format!("{rank} (host {}, process {})", hello.host, hello.pid)
}
