//! The process in which libpmix is a server: this very program once more, which becomes it before its `main`. It serves all
//! teams of the process that started it, and ends when that does.
//!
//! ```text
//! parent                              this process                                    ranks
//! Begin, Open  ─── socket ──▶  reader ──▶ main ──▶ libpmix ◀── its own sockets ──▶  PMIx_Init, Fence, ..
//!              ◀────────────  writer ◀──────┴──◀ calls ┘
//! ```

use std::{
    collections::HashMap,
    env, fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::DirBuilderExt, net::UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use super::pmix_helper;
use super::pmix_server::{Call, Server, Waiting};
use super::pmix_words::{Order, Report, frame, take};
use super::rendezvous::{For, ready};
use super::{birth, process};
use crate::time::Deadline;

/// Set in its environment to the process id of who started it.
const VARIABLE: &str = "DRAGON_PMIX_SERVER";
const ROOM: usize = 64 << 10;

/// A server that has been started.
pub(crate) struct Office {
    process: Child,
    folder: PathBuf,
}

impl Office {
    /// Starts a server for this process and tells it to begin. What is written to the socket is framed [`Order`]s, what comes
    /// are [`Report`]s. `host` is this node's name.
    pub(crate) fn start(host: &str, inherit: impl Fn(&str) -> bool) -> io::Result<(Office, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        let folder = env::temp_dir().join(format!("dragon-pmix-{}-{}", process::id(), nonce()?));
        let mut command = Command::new("/proc/self/exe");
        for (name, _) in env::vars_os() {
            if !name.to_str().is_some_and(&inherit) {
                command.env_remove(name);
            }
        }
        command.env(VARIABLE, process::id().to_string());
        // The shared store of version 4.2 loses a rank's words now and then, the plain one does not; and credentials that
        // need a daemon make clients complain that have none.
        command.env("PMIX_MCA_gds", "hash").env("PMIX_MCA_psec", "native");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let office = Office { process: command.spawn()?, folder };
        let folder = office.folder.to_string_lossy().into_owned();
        let mut socket = ours;
        socket.write_all(&frame(&Order::Begin { libraries: pmix_helper::libraries(), folder, host: host.into() }))?;
        socket.set_nonblocking(true)?;
        Ok((office, socket.into()))
    }
}

impl Office {
    /// Where its files are, for as long as it lives.
    pub(crate) fn folder(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        // It ends with its socket, which is closed by now, and tidies away; one that hangs in the library does not.
        let patience = Deadline::after(Duration::from_secs(1));
        let ended =
            process::pidfd(self.process.id()).and_then(|pidfd| ready(&[(pidfd.as_fd(), For::Reading)], patience));
        if !ended.is_ok_and(|ended| ended[0]) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        // What it has not tidied away itself.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn nonce() -> io::Result<String> {
    Ok(format!("{:08x}", getrandom::u32().map_err(io::Error::other)?))
}

/// Whether this process was started to be a server.
pub(crate) fn is_asked() -> bool {
    env::var_os(VARIABLE).is_some() && !birth::is_privileged() && birth::stdin_is_local_stream()
}

/// The whole life of a server.
pub(crate) fn be_server() -> ! {
    birth::set_name(c"dragon-pmix");
    birth::ignore_broken_pipes();
    if let Ok(parent) = birth::take_stdin().map(UnixStream::from) {
        // Who does not hear of it sees the socket end.
        let _ = serve(parent);
    }
    birth::exit_at_once(0)
}

enum Event {
    Order(Order),
    Call(Call),
    /// The parent is gone.
    End,
}

fn serve(parent: UnixStream) -> io::Result<()> {
    let (events, coming) = channel();
    let (reader, orders) = (parent.try_clone()?, events.clone());
    thread::Builder::new().spawn(move || read(reader, &orders))?;
    let Ok(Event::Order(Order::Begin { libraries, folder, host })) = coming.recv() else { return Ok(()) };
    // What lies there lets in whoever can read it.
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let mut desk = match Server::begin(&libraries, &folder, &host) {
        Ok((server, calls)) => {
            thread::Builder::new().spawn(move || pass_on(&calls, &events))?;
            Desk { parent, server, waiting: HashMap::new(), tickets: 0 }
        }
        Err(why) => return (&parent).write_all(&frame(&Report::Begun(Err(why)))),
    };
    let served = desk.run(&coming);
    // Nobody is left to take leave of: this process ends at once, and the library has nothing else to tidy away.
    let _ = fs::remove_dir_all(&folder);
    served
}

fn read(mut parent: UnixStream, orders: &Sender<Event>) {
    let (mut come, mut room) = (Vec::new(), vec![0; ROOM]);
    while let Ok(length @ 1..) = parent.read(&mut room) {
        come.extend_from_slice(&room[..length]);
        while let Ok(Some(order)) = take(&mut come) {
            if orders.send(Event::Order(order)).is_err() {
                return;
            }
        }
    }
    // Nobody listens any more only when this process ends.
    let _ = orders.send(Event::End);
}

fn pass_on(calls: &Receiver<Call>, events: &Sender<Event>) {
    while let Ok(call) = calls.recv() {
        if events.send(Event::Call(call)).is_err() {
            return;
        }
    }
}

/// What the main thread works with.
struct Desk {
    parent: UnixStream,
    server: Server,
    /// Questions of the library that the parent has not answered.
    waiting: HashMap<u64, Waiting>,
    tickets: u64,
}

impl Desk {
    fn run(&mut self, coming: &Receiver<Event>) -> io::Result<()> {
        self.report(&Report::Begun(Ok(())))?;
        while let Ok(event) = coming.recv() {
            match event {
                Event::End => return Ok(()),
                Event::Order(order) => self.carry_out(order)?,
                Event::Call(call) => self.ask(call)?,
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Begin { .. } => {}
            Order::Open(team) => {
                let environments = self.server.open(&team);
                return self.report(&Report::Opened { name: team.name, environments });
            }
            Order::Close { name } => self.server.close(&name),
            Order::Fenced { ticket, all: what } | Order::Found { ticket, what } => {
                if let Some(waiting) = self.waiting.remove(&ticket) {
                    waiting.answer(what);
                }
            }
            Order::Seek { name, rank, ticket } => self.server.seek(&name, rank, ticket),
            Order::Hear { ticket } => Server::come_back(ticket),
        }
        Ok(())
    }

    fn ask(&mut self, call: Call) -> io::Result<()> {
        let report = match call {
            Call::Fence { name, ranks, left, answer } => Report::Fence { ticket: self.keep(answer), name, ranks, left },
            Call::Want { name, rank, answer } => Report::Want { ticket: self.keep(answer), name, rank },
            Call::Abort { name, rank, code, words } => Report::Abort { name, rank, code, words },
            Call::Left { ticket, what } => Report::Left { ticket, what },
            Call::Heard { ticket } => Report::Heard { ticket },
        };
        self.report(&report)
    }

    fn keep(&mut self, answer: Waiting) -> u64 {
        self.tickets += 1;
        self.waiting.insert(self.tickets, answer);
        self.tickets
    }

    fn report(&mut self, report: &Report) -> io::Result<()> {
        self.parent.write_all(&frame(report))
    }
}
