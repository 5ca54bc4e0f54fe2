//! The door of a node: a local socket by which its head passes the memory file to the other ranks.
//!
//! ```text
//! member -> head   nonce of the offer, its rank
//! head -> member   nonce, slot; with it the descriptor     or: nonce, why not
//! ```
//! The offer travels over the star, so that only ranks of the job know name and nonce; the kernel says that the other end
//! is the same user. A name without a file leaves nothing behind, but it is known in one network namespace only; where
//! ranks share `/dev/shm` and no network, the door is a file there.

use std::{
    fmt::Display,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Applicant, Member};
use crate::bootstrap::address::{connect, welcome};
use crate::bootstrap::auth::{random, same};
use crate::bootstrap::error::BootstrapError;
use crate::bootstrap::message::{decode, encode};
use crate::bootstrap::secret::hex;
use crate::sys::identity::SHARED_MEMORY;
use crate::sys::poll::Bell;
use crate::sys::rendezvous::{self, For};
use crate::sys::shm;
use crate::sys::socket;
use crate::time::Deadline;

/// How long a member that has come in may take to say who it is.
const MANNERS: Duration = Duration::from_secs(2);
/// A record at the door is shorter.
const RECORD: usize = 4096;
/// A door that an earlier start has left open is surely nobody's after this.
const STALE: Duration = Duration::from_secs(600);
const SUFFIX: &str = ".door";

/// Where the door is, and what to say there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// With a slash in it, it is a file.
    name: String,
    nonce: [u8; 16],
}

/// What a member says.
#[derive(Serialize, Deserialize)]
struct Request {
    nonce: [u8; 16],
    rank: u32,
}

/// What the head says to it.
#[derive(Serialize, Deserialize)]
struct Reply {
    nonce: [u8; 16],
    slot: Result<u32, String>,
}

/// What came of a member's way to the door.
pub(super) enum Fetched {
    In {
        file: OwnedFd,
        slot: u32,
        control: OwnedFd,
    },
    Refused(String),
    /// There is no way from here: not the same node.
    Apart,
}

/// An open door.
pub(super) struct Door {
    listener: Socket,
    offer: Offer,
}

impl Door {
    /// Opens one: without a file if all who may come are in one network namespace.
    pub(super) fn open(one_network: bool) -> io::Result<Door> {
        let name = format!("dragon-{}-{}{SUFFIX}", shm::user(), hex(&random::<8>()?));
        let nonce = random()?;
        let in_folder = || {
            sweep(Path::new(SHARED_MEMORY));
            listen(format!("{SHARED_MEMORY}/{name}"))
        };
        let opened = match one_network {
            true => listen(name.clone()),
            // If there is no room for a file, those of the same network get in at least.
            false => in_folder().or_else(|_| listen(name.clone())),
        };
        opened.map(|(listener, name)| Door { listener, offer: Offer { name, nonce } })
    }

    /// What to tell the members.
    pub(super) fn offer(&self) -> Offer {
        self.offer.clone()
    }

    /// Lets members in, from another thread, until `meanwhile` is done: by then all have come who can.
    pub(super) fn while_open<E: Display, R>(
        self,
        members: &[u32],
        file: &OwnedFd,
        admit: &mut (impl FnMut(Applicant) -> Result<u32, E> + Send),
        meanwhile: impl FnOnce() -> Result<R, BootstrapError>,
    ) -> (Vec<Member>, Result<R, BootstrapError>) {
        let bell = match Bell::new() {
            Ok(bell) => bell,
            Err(source) => return (Vec::new(), Err(BootstrapError::Io { what: "make a bell".into(), source })),
        };
        std::thread::scope(|scope| {
            let server = scope.spawn(|| self.serve(members, file, admit, &bell));
            let done = meanwhile();
            bell.ring();
            // A panic of `admit` is the caller's; the members have seen the door close.
            let let_in = server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (let_in, done)
        })
    }

    fn serve<E: Display>(
        &self,
        members: &[u32],
        file: &OwnedFd,
        admit: &mut impl FnMut(Applicant) -> Result<u32, E>,
        bell: &Bell,
    ) -> Vec<Member> {
        let mut let_in: Vec<Member> = Vec::new();
        loop {
            let watched = [(self.listener.as_fd(), For::Reading), (bell.as_fd(), For::Reading)];
            let ready = rendezvous::ready(&watched, Deadline::Never).unwrap_or_else(|_| vec![true; 2]);
            while let Ok((visitor, _)) = self.listener.accept() {
                let expected = |rank| members.contains(&rank) && let_in.iter().all(|member| member.rank != rank);
                // Who is not expected, or cannot be talked to, is not let in and will say so to all.
                if let Ok(Some(member)) = self.receive(visitor, expected, file, admit) {
                    let_in.push(member);
                }
            }
            if ready[1] {
                return let_in;
            }
        }
    }

    fn receive<E: Display>(
        &self,
        visitor: Socket,
        expected: impl Fn(u32) -> bool,
        file: &OwnedFd,
        admit: &mut impl FnMut(Applicant) -> Result<u32, E>,
    ) -> io::Result<Option<Member>> {
        welcome(&visitor)?;
        let pid = rendezvous::peer(visitor.as_fd())?.pid;
        let record = next_record(&visitor, Deadline::after(MANNERS))?.0;
        let request = decode::<Request>(&record).ok_or(io::ErrorKind::InvalidData)?;
        if !same(&request.nonce, &self.offer.nonce) || !expected(request.rank) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let rank = request.rank;
        let slot = admit(Applicant { rank, pid }).map_err(|why| why.to_string());
        let member = slot.clone().ok().map(|slot| (slot, visitor.as_fd().try_clone_to_owned()));
        let descriptors = [file.as_fd()];
        let with: &[_] = if slot.is_ok() { &descriptors } else { &[] };
        let slot = slot.map_err(|why| why.chars().take(RECORD / 8).collect());
        socket::send(visitor.as_fd(), &encode(&Reply { nonce: request.nonce, slot }), with)?;
        member.map(|(slot, control)| Ok(Member { rank, pid, slot, control: control? })).transpose()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(path) = self.offer.path() {
            // Somebody swept it, or nobody can: either way there is nothing more to do.
            let _ = fs::remove_file(path);
        }
    }
}

impl Offer {
    fn path(&self) -> Option<&Path> {
        self.name.contains('/').then(|| Path::new(&self.name))
    }

    fn address(&self) -> io::Result<SockAddr> {
        address(&self.name)
    }

    /// Goes there and asks to be let in.
    pub(super) fn fetch(&self, rank: u32, deadline: Deadline) -> Fetched {
        let Ok(visitor) = self.enter(rank, deadline) else { return Fetched::Apart };
        // From here on it is the same machine: what goes wrong now is no reason to be another node.
        match self.hear(&visitor, deadline) {
            Ok((file, slot)) => Fetched::In { file, slot, control: visitor.into() },
            Err(why) => Fetched::Refused(why),
        }
    }

    fn enter(&self, rank: u32, deadline: Deadline) -> io::Result<Socket> {
        let visitor = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        connect(&visitor, &self.address()?, deadline)?;
        welcome(&visitor)?;
        socket::send(visitor.as_fd(), &encode(&Request { nonce: self.nonce, rank }), &[])?;
        Ok(visitor)
    }

    fn hear(&self, visitor: &Socket, deadline: Deadline) -> Result<(OwnedFd, u32), String> {
        let (record, mut files) = next_record(visitor, deadline).map_err(|why| format!("it does not answer: {why}"))?;
        let reply = decode::<Reply>(&record).filter(|reply| same(&reply.nonce, &self.nonce));
        let slot = reply.ok_or("it says something else than was expected")?.slot?;
        Ok((files.pop().ok_or("it has sent no memory: is there a free descriptor?")?, slot))
    }
}

fn next_record(visitor: &Socket, deadline: Deadline) -> io::Result<socket::Record> {
    if !rendezvous::ready(&[(visitor.as_fd(), For::Reading)], deadline)?[0] {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket::receive_now(visitor, RECORD)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn address(name: &str) -> io::Result<SockAddr> {
    match name.contains('/') {
        true => SockAddr::unix(name),
        false => SockAddr::unix(format!("\0{name}")),
    }
}

fn listen(name: String) -> io::Result<(Socket, String)> {
    let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    listener.bind(&address(&name)?)?;
    if name.contains('/') {
        fs::set_permissions(&name, fs::Permissions::from_mode(0o600))?;
    }
    listener.listen(4096)?;
    listener.set_nonblocking(true)?;
    Ok((listener, name))
}

/// Removes this user's doors that no living process can have open: a start takes far less time.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let prefix = format!("dragon-{}-", shm::user());
    let ours = |name: &str| name.starts_with(&prefix) && name.ends_with(SUFFIX);
    let doors = entries.flatten().filter(|entry| ours(&entry.file_name().to_string_lossy()));
    for path in doors.map(|entry| -> PathBuf { entry.path() }) {
        let age = fs::symlink_metadata(&path).and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > STALE) {
            // Somebody else may have been faster.
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn file() -> OwnedFd {
        shm::memory_file("test", false).unwrap()
    }

    #[test]
    fn the_file_goes_through_a_door_with_and_without_a_name() {
        for one_network in [true, false] {
            let door = Door::open(one_network).unwrap();
            let (offer, path) = (door.offer(), door.offer.path().map(Path::to_path_buf));
            assert_eq!(path.as_ref().is_some_and(|path| path.exists()), !one_network);
            let mut admit = |applicant: Applicant| Ok::<_, String>(applicant.rank * 10);
            let file = file();
            let (members, fetched) =
                door.while_open(&[3, 4], &file, &mut admit, || Ok([3, 4].map(|rank| offer.fetch(rank, soon()))));
            assert_eq!(members.iter().map(|member| (member.rank, member.slot)).collect::<Vec<_>>(), [(3, 30), (4, 40)]);
            assert!(members.iter().all(|member| member.pid == std::process::id()));
            assert!(fetched.unwrap().into_iter().all(|found| matches!(found, Fetched::In { slot: 30 | 40, .. })));
            assert!(path.is_none_or(|path| !path.exists()), "the name is gone with the door");
        }
    }

    #[test]
    fn who_is_not_expected_is_not_let_in() {
        let door = Door::open(true).unwrap();
        let (offer, wrong) = (door.offer(), Offer { nonce: [0; 16], ..door.offer() });
        let closed = Offer { name: format!("{}x", offer.name), ..door.offer() };
        let mut admitted = 0;
        let mut admit = |_| {
            admitted += 1;
            Ok::<_, String>(0)
        };
        let tries = || {
            let mute = offer.enter(9, soon()).unwrap();
            let refused =
                [wrong.fetch(1, soon()), offer.fetch(2, soon()), offer.fetch(1, soon()), offer.fetch(1, soon())];
            drop(mute);
            Ok((
                refused.map(|found| matches!(found, Fetched::In { .. })),
                matches!(closed.fetch(1, soon()), Fetched::Apart),
            ))
        };
        let (members, tried) = door.while_open(&[1], &file(), &mut admit, tries);
        assert_eq!(tried.unwrap(), ([false, false, true, false], true));
        assert_eq!((members.len(), admitted), (1, 1));
    }

    #[test]
    fn what_an_earlier_start_left_is_swept_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: String, age: Duration| {
            let file = fs::File::create(folder.path().join(&name)).unwrap();
            file.set_modified(file.metadata().unwrap().modified().unwrap() - age).unwrap();
        };
        let (mine, old) = (shm::user(), STALE * 2);
        make(format!("dragon-{mine}-1{SUFFIX}"), old);
        make(format!("dragon-{mine}-2{SUFFIX}"), Duration::ZERO);
        make(format!("dragon-{mine}-3"), old);
        make(format!("dragon-{}-4{SUFFIX}", mine + 1), old);
        sweep(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
