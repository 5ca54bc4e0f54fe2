//! The thread that serves all teams of this process: it reads what ranks and the office say, and does what follows.
//!
//! It never waits for anything but its set of descriptors. What waits for other nodes does so on threads of its own, and
//! comes back as an order.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};

use super::desk::{Desk, add, has_descriptor, pack, unpack};
use super::line::Line;
use super::office::Office;
use super::{Billet, Plan};
use crate::pmi::{Deed, Ending};
use crate::services::threads::Threads;
use crate::sys::epoll::{Epoll, Interest, Ready};
use crate::sys::pmix_words::{Order as Word, Report};
use crate::sys::poll::Bell;

/// The numbers of descriptors that are no rank's.
const BELL: u64 = 0;
const OFFICE: u64 = 1;
const FIRST: u64 = 2;

type Reply = Sender<Result<Vec<Billet>, String>>;

/// What others want of the shell.
pub(super) enum Order {
    Open(Box<Plan>, Reply),
    Close(String),
    /// Drops the sender when all has been told that the team's ranks have said.
    HearOut(String, Sender<()>),
    /// Something that had to wait is done: for the team of that name.
    Back(String, Back),
    Stop,
}

/// What had to wait.
pub(super) enum Back {
    Met { round: u64, all: Result<Vec<Vec<u8>>, String> },
    Told { ticket: u64, said: Result<Option<String>, String> },
    Fenced { ticket: u64, all: Result<Vec<Vec<u8>>, String> },
    Found { ticket: u64, what: Result<Vec<u8>, String> },
    Wanted { wanted: u64, rank: u32 },
}

struct RanksLine {
    line: Line,
    team: String,
    rank: u32,
}

/// Who waits for the office to open a team.
struct Opening {
    reply: Reply,
    billets: Vec<Billet>,
}

pub(super) struct Shell {
    epoll: Epoll,
    bell: Arc<Bell>,
    todo: Receiver<Order>,
    /// For threads that wait: their way back.
    back: Sender<Order>,
    threads: Threads,
    teams: HashMap<String, Desk>,
    lines: HashMap<u64, RanksLine>,
    next: u64,
    office: Option<Office>,
    opening: HashMap<String, Opening>,
    /// Wishes of other nodes that the office looks for: the team, and the wish's number there.
    seeking: HashMap<u64, (String, u64)>,
    seeks: u64,
    /// Who wants all told that ranks have said.
    hearing: HashMap<u64, Sender<()>>,
}

impl Shell {
    pub(super) fn new(todo: Receiver<Order>, back: Sender<Order>, bell: Arc<Bell>) -> io::Result<Shell> {
        let epoll = Epoll::new()?;
        epoll.add(&*bell, BELL, Interest::READ)?;
        Ok(Shell {
            epoll,
            bell,
            todo,
            back,
            threads: Threads::new(),
            teams: HashMap::new(),
            lines: HashMap::new(),
            next: FIRST,
            office: None,
            opening: HashMap::new(),
            seeking: HashMap::new(),
            seeks: 0,
            hearing: HashMap::new(),
        })
    }

    pub(super) fn run(mut self) {
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            ready.clear();
            if let Err(error) = self.epoll.look(&mut ready) {
                return tracing::error!(%error, "MPI ranks are served no more");
            }
            if ready.is_empty() {
                self.epoll.sleep(None);
                continue;
            }
            for one in &ready {
                match one.key {
                    BELL if !self.answer_bell() => return,
                    BELL => {}
                    OFFICE => self.look_at_office(*one),
                    _ => self.look_at_rank(*one),
                }
            }
        }
    }

    /// False: it is to stop.
    fn answer_bell(&mut self) -> bool {
        self.bell.answer();
        while let Ok(order) = self.todo.try_recv() {
            match order {
                Order::Open(plan, reply) => self.open(*plan, reply),
                Order::Close(name) => self.close(&name),
                Order::HearOut(name, reply) => self.hear_out(&name, reply),
                Order::Back(name, back) => self.come_back(&name, back),
                Order::Stop => return false,
            }
        }
        true
    }

    // ---- teams ----------------------------------------------------------------------------------

    fn open(&mut self, plan: Plan, reply: Reply) {
        let (name, speaks) = (plan.team.name.clone(), plan.speaks);
        let mut desk = Desk::new(plan);
        let mut billets = desk.billets();
        for billet in billets.iter_mut().filter(|billet| has_descriptor(billet)) {
            match self.connect(&name, billet.rank) {
                Ok((key, its)) => {
                    desk.lines.insert(billet.rank, key);
                    billet.descriptor = Some(its);
                }
                Err(error) => {
                    desk.lines.values().for_each(|key| drop(self.lines.remove(key)));
                    return drop(reply.send(Err(format!("a socket for rank {}: {error}", billet.rank))));
                }
            }
        }
        let opening = desk.opening();
        if speaks.pmix && desk.team.nodes() > 1 {
            self.listen(&desk);
        }
        self.teams.insert(name.clone(), desk);
        if !speaks.pmix {
            return drop(reply.send(Ok(billets)));
        }
        self.opening.insert(name.clone(), Opening { reply, billets });
        let host = opening.hosts.get(opening.place as usize).cloned().unwrap_or_default();
        if let Err(why) = self.ensure_office(&host) {
            return self.opened(&name, Err(why));
        }
        self.tell_office(&Word::Open(opening));
    }

    /// The lines of PMI are read here, and in order; what is said in PMIx takes a way of its own.
    fn hear_out(&mut self, name: &str, reply: Sender<()>) {
        if self.office.is_some() && self.teams.get(name).is_some_and(|desk| desk.speaks.pmix) {
            self.seeks += 1;
            self.hearing.insert(self.seeks, reply);
            self.tell_office(&Word::Hear { ticket: self.seeks });
        }
    }

    fn connect(&mut self, team: &str, rank: u32) -> io::Result<(u64, OwnedFd)> {
        let (ours, its) = UnixStream::pair()?;
        let key = self.next;
        self.next += 1;
        let line = Line::new(&self.epoll, ours.into(), key)?;
        self.lines.insert(key, RanksLine { line, team: team.into(), rank });
        Ok((key, its.into()))
    }

    /// The office has opened a team, or not.
    fn opened(&mut self, name: &str, environments: Result<Vec<Vec<(String, String)>>, String>) {
        let Some(Opening { reply, mut billets }) = self.opening.remove(name) else { return };
        let goes_without = self.teams.get(name).is_some_and(|desk| desk.speaks.without_pmix);
        let answer = match environments {
            Ok(all) => {
                let more =
                    if self.teams.get(name).is_some_and(|desk| desk.crowded) { self.own_shm() } else { Vec::new() };
                let all = all.into_iter().map(|own| [more.clone(), own].concat());
                billets.iter_mut().zip(all).for_each(|(billet, more)| add(billet, more));
                Ok(billets)
            }
            Err(why) if goes_without => {
                tracing::debug!(name, why, "no PMIx; the ranks of this team may speak PMI only");
                billets.iter_mut().for_each(|billet| billet.environment.retain(|(name, _)| name != "JSM_JSRUN_PORT"));
                Ok(billets)
            }
            Err(why) => Err(why),
        };
        if answer.is_err() {
            self.close(name);
        }
        // Who does not wait any more has gone.
        let _ = reply.send(answer);
    }

    /// Open MPI's shared memory is named by machine, team and number on the node: equal on nodes that are one machine.
    fn own_shm(&self) -> Vec<(String, String)> {
        let folder = self.office.as_ref().map(Office::folder).unwrap_or_default();
        let variable = |part: &str| (format!("OMPI_MCA_btl_{part}_backing_directory"), folder.clone());
        vec![variable("vader"), variable("sm")]
    }

    fn close(&mut self, name: &str) {
        let Some(desk) = self.teams.remove(name) else { return };
        desk.lines.values().for_each(|key| drop(self.lines.remove(key)));
        if desk.speaks.pmix {
            self.tell_office(&Word::Close { name: name.into() });
        }
        if desk.team.nodes() > 1 {
            self.threads.run(move || desk.exchange.leave());
        }
    }

    // ---- ranks ----------------------------------------------------------------------------------

    fn look_at_rank(&mut self, ready: Ready) {
        let Some(RanksLine { line, team, rank }) = self.lines.get_mut(&ready.key) else { return };
        if ready.write {
            line.flush(&self.epoll);
        }
        let (team, rank, come) = (team.clone(), *rank, line.read());
        let Some(desk) = self.teams.get_mut(&team) else { return };
        match come {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => desk.share.hear(rank, &bytes),
            Err(_) => {
                self.lines.remove(&ready.key);
                desk.share.hung_up(rank);
            }
        }
        self.carry_out(&team);
    }

    fn carry_out(&mut self, name: &str) {
        let Some(desk) = self.teams.get_mut(name) else { return };
        while let Some(deed) = desk.share.poll() {
            match deed {
                Deed::Say { rank, bytes } => {
                    if let Some(line) = desk.lines.get(&rank).and_then(|key| self.lines.get_mut(key)) {
                        line.line.write(&self.epoll, &bytes);
                    }
                }
                Deed::HangUp { rank } => drop(desk.lines.get(&rank).and_then(|key| self.lines.remove(key))),
                Deed::End(ending) => desk.end(ending),
                Deed::Meet { round, news } => {
                    let (exchange, places) = (desk.exchange.clone(), (0..desk.team.nodes()).collect::<Vec<_>>());
                    let meet = move || exchange.meet(&format!("barrier {round}"), &places, pack(news));
                    later(&self.threads, &self.back, &self.bell, name, move || Some(Back::Met { round, all: meet() }));
                }
                Deed::Ask { ticket, call } => {
                    let exchange = desk.exchange.clone();
                    let ask = move || Some(Back::Told { ticket, said: exchange.ask(call) });
                    later(&self.threads, &self.back, &self.bell, name, ask);
                }
            }
        }
    }

    fn come_back(&mut self, name: &str, back: Back) {
        let Some(desk) = self.teams.get_mut(name) else { return };
        match back {
            Back::Met { round, all } => match all.and_then(|all| unpack(&all)) {
                Ok(news) => desk.share.met(round, Ok(&news)),
                Err(why) => desk.share.met(round, Err(why)),
            },
            Back::Told { ticket, said } => desk.share.told(ticket, said),
            Back::Fenced { ticket, all } => {
                if let Err(why) = &all {
                    desk.end(Ending::Cut { why: why.clone() });
                }
                let all = all.map(|all| all.concat());
                return self.tell_office(&Word::Fenced { ticket, all });
            }
            Back::Found { ticket, what } => return self.tell_office(&Word::Found { ticket, what }),
            Back::Wanted { wanted, rank } => {
                self.listen_again(name);
                self.seeks += 1;
                self.seeking.insert(self.seeks, (name.into(), wanted));
                return self.tell_office(&Word::Seek { name: name.into(), rank, ticket: self.seeks });
            }
        }
        self.carry_out(name);
    }

    // ---- the office -----------------------------------------------------------------------------

    fn ensure_office(&mut self, host: &str) -> Result<(), String> {
        if self.office.is_none() {
            let office = Office::start(&self.epoll, OFFICE, host);
            self.office = Some(office.map_err(|error| format!("its PMIx server cannot be started: {error}"))?);
        }
        Ok(())
    }

    fn tell_office(&mut self, word: &Word) {
        if let Some(office) = &mut self.office {
            office.order(&self.epoll, word);
        }
    }

    fn look_at_office(&mut self, ready: Ready) {
        let Some(office) = &mut self.office else { return };
        if ready.write {
            office.flush(&self.epoll);
        }
        match office.hear() {
            Ok(reports) => reports.into_iter().for_each(|report| self.take(report)),
            Err(why) => self.lose_office(&why),
        }
    }

    /// Nobody who speaks PMIx is served any more; the next team gets a new one.
    fn lose_office(&mut self, why: &str) {
        self.office = None;
        self.hearing.clear();
        let opening: Vec<String> = self.opening.keys().cloned().collect();
        opening.iter().for_each(|name| self.opened(name, Err(why.into())));
        let served = self.teams.values_mut().filter(|desk| desk.speaks.pmix && !desk.speaks.without_pmix);
        served.for_each(|desk| desk.end(Ending::Cut { why: why.into() }));
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Begun(Ok(())) => {}
            Report::Begun(Err(why)) => self.lose_office(&why),
            Report::Opened { name, environments } => self.opened(&name, environments),
            Report::Fence { ticket, name, ranks, left } => {
                let Some(desk) = self.teams.get_mut(&name) else { return };
                let (fence, exchange) = (desk.next_fence(ranks), desk.exchange.clone());
                let meet = move || exchange.meet(&fence.name, &fence.places, left);
                later(&self.threads, &self.back, &self.bell, &name, move || Some(Back::Fenced { ticket, all: meet() }));
            }
            Report::Want { ticket, name, rank } => {
                let Some(desk) = self.teams.get(&name) else { return };
                let (exchange, place) = (desk.exchange.clone(), desk.team.place(rank));
                let fetch = move || match place {
                    Some(place) => exchange.fetch(place, rank),
                    None => Err(format!("there is no rank {rank}")),
                };
                later(&self.threads, &self.back, &self.bell, &name, move || {
                    Some(Back::Found { ticket, what: fetch() })
                });
            }
            Report::Left { ticket, what } => {
                let Some((name, wanted)) = self.seeking.remove(&ticket) else { return };
                let Some(exchange) = self.teams.get(&name).map(|desk| desk.exchange.clone()) else { return };
                self.threads.run(move || exchange.give(wanted, what));
            }
            Report::Heard { ticket } => drop(self.hearing.remove(&ticket)),
            Report::Abort { name, rank, code, words } => {
                if let Some(desk) = self.teams.get_mut(&name) {
                    desk.end(Ending::Abort { rank, code, words });
                }
            }
        }
    }

    fn listen_again(&self, name: &str) {
        if let Some(desk) = self.teams.get(name) {
            self.listen(desk);
        }
    }

    /// Waits for wishes of other nodes. The end of that is the end of the team, which others notice.
    fn listen(&self, desk: &Desk) {
        let exchange = desk.exchange.clone();
        later(&self.threads, &self.back, &self.bell, &desk.team.name, move || {
            exchange.wanted().ok().map(|(wanted, rank)| Back::Wanted { wanted, rank })
        });
    }
}

/// Does something that waits on a thread of its own; what comes of it comes back as an order.
fn later(
    threads: &Threads,
    back: &Sender<Order>,
    bell: &Arc<Bell>,
    team: &str,
    work: impl FnOnce() -> Option<Back> + Send + 'static,
) {
    let (back, bell, team) = (back.clone(), bell.clone(), team.to_string());
    threads.run(move || {
        if let Some(done) = work() {
            // Fails only when the shell has ended.
            let _ = back.send(Order::Back(team, done));
            bell.ring();
        }
    });
}
