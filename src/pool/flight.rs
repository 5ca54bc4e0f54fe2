//! Tasks on their way: sent to the workers of some site, not yet answered.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::Ticket;
use super::sink::Sink;
use super::sites::FarContext;
use crate::channel::Load;
use crate::mm::Block;
use crate::task::Thunk;

/// One part of a job, as the pool keeps it while workers have it.
#[derive(Clone)]
pub(super) struct Launch {
    /// Who takes the answer.
    pub(super) sink: Arc<dyn Sink>,
    /// Which part of its job it is.
    pub(super) part: u32,
    /// The function, to name it in errors.
    pub(super) thunk: &'static Thunk,
    /// How often it may still be sent again after its worker was lost.
    pub(super) retries: u32,
    /// Nobody reads it here: it keeps the block for workers that may.
    pub(super) _context: Option<Arc<Context>>,
    /// Nor this: the objects whose handles are in the message, which live until it was answered.
    pub(super) _cargo: Load,
}

/// What many tasks share, encoded, with the objects whose handles are in it.
pub(super) struct Context {
    pub(super) _block: Block,
    pub(super) _cargo: Load,
    /// It is also at the pool's sites on other nodes.
    pub(super) _far: Option<FarContext>,
}

/// A launch with its encoded message, waiting for its turn.
pub(super) struct Parcel {
    pub(super) launch: Launch,
    pub(super) bytes: Vec<u8>,
}

/// Workers of one node, as the pool counts what they have. Site 0 is this node.
pub(super) struct Share {
    pub(super) workers: usize,
    /// So many tasks may be on their way to it: enough that no worker waits for the next one to come over the network.
    pub(super) most: usize,
    pub(super) in_flight: usize,
    /// It takes tasks.
    pub(super) is_open: bool,
    /// It has no worker left and will have none. What holds for site 0 is in the crew.
    pub(super) is_over: bool,
}

impl Share {
    pub(super) fn new(workers: usize, most: usize, is_open: bool) -> Share {
        Share { workers, most, in_flight: 0, is_open, is_over: false }
    }
}

struct Flight {
    launch: Launch,
    site: usize,
    /// The message once more, if it may have to be sent again.
    copy: Option<Vec<u8>>,
    size: usize,
}

struct Place {
    generation: u32,
    flight: Option<Flight>,
}

/// The table of flights: at most as many as the ring of results holds, so that no worker ever waits to answer.
pub(super) struct Flights {
    places: Vec<Place>,
    free: Vec<u32>,
    bytes: usize,
    /// Those for which there was no room yet.
    pub(super) backlog: VecDeque<Parcel>,
    pub(super) loads: Vec<Share>,
}

impl Flights {
    pub(super) fn new(most: usize) -> Flights {
        let places = (0..most).map(|_| Place { generation: 0, flight: None }).collect();
        let loads = vec![Share::new(1, usize::MAX, true)];
        Flights { places, free: (0..most as u32).rev().collect(), bytes: 0, backlog: VecDeque::new(), loads }
    }

    /// Nothing is on its way and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight() == 0 && self.backlog.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Bytes of messages on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The site that has least to do, if there is one that may have more.
    fn choose(&self) -> Option<usize> {
        if let [_here] = &self.loads[..] {
            return Some(0);
        }
        let eager = self.loads.iter().enumerate().filter(|(_, load)| load.is_open && load.in_flight < load.most);
        eager.min_by_key(|(_, load)| (load.in_flight << 16) / load.workers.max(1)).map(|(site, _)| site)
    }

    /// Enters a launch for some site; `Err` gives it back if the table is full, or all have enough.
    pub(super) fn enter(&mut self, launch: Launch, bytes: &[u8]) -> Result<(Ticket, usize), Launch> {
        let Some(site) = self.choose() else { return Err(launch) };
        let Some(index) = self.free.pop() else { return Err(launch) };
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1).max(1);
        let copy = (launch.retries > 0).then(|| bytes.to_vec());
        place.flight = Some(Flight { launch, site, copy, size: bytes.len() });
        self.bytes += bytes.len();
        self.loads[site].in_flight += 1;
        Ok((Ticket::new(index as usize, place.generation), site))
    }

    fn take(&mut self, ticket: Ticket) -> Option<Flight> {
        let place = self.places.get_mut(ticket.index()).filter(|p| p.generation == ticket.generation())?;
        let flight = place.flight.take()?;
        self.free.push(ticket.index() as u32);
        self.bytes -= flight.size;
        self.loads[flight.site].in_flight -= 1;
        Some(flight)
    }

    /// Takes a flight out: it was answered, or never left.
    pub(super) fn land(&mut self, ticket: Ticket) -> Option<Launch> {
        self.take(ticket).map(|flight| flight.launch)
    }

    /// Takes out a flight whose worker was lost. `Ok` is to be sent again, `Err` is not.
    pub(super) fn crash(&mut self, ticket: Ticket) -> Option<Result<Parcel, Launch>> {
        let Flight { mut launch, copy, .. } = self.take(ticket)?;
        Some(match copy {
            Some(bytes) => {
                launch.retries -= 1;
                Ok(Parcel { launch, bytes })
            }
            None => Err(launch),
        })
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) -> Vec<Launch> {
        let waiting = self.backlog.drain(..).map(|parcel| parcel.launch).collect::<Vec<_>>();
        let flying: Vec<_> = (0..self.places.len())
            .filter(|&index| self.places[index].flight.is_some())
            .map(|index| Ticket::new(index, self.places[index].generation))
            .collect();
        flying.into_iter().filter_map(|ticket| self.land(ticket)).chain(waiting).collect()
    }

    /// The flights of one job, each with its site.
    pub(super) fn of(&self, sink: &Arc<dyn Sink>) -> Vec<(Ticket, usize)> {
        self.flying(|flight| is_same(&flight.launch.sink, sink))
    }

    /// The flights to one site.
    pub(super) fn to(&self, site: usize) -> Vec<(Ticket, usize)> {
        self.flying(|flight| flight.site == site)
    }

    fn flying(&self, which: impl Fn(&Flight) -> bool) -> Vec<(Ticket, usize)> {
        let places = self.places.iter().enumerate();
        let flying = places.filter_map(|(index, place)| Some((index, place, place.flight.as_ref()?)));
        flying
            .filter(|(_, _, flight)| which(flight))
            .map(|(index, place, flight)| (Ticket::new(index, place.generation), flight.site))
            .collect()
    }
}

/// Whether two handles are of the same sink.
pub(super) fn is_same(a: &Arc<dyn Sink>, b: &Arc<dyn Sink>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::sink::{Callback, Outcome};
    use crate::task::thunk;

    struct Deaf;
    impl Sink for Deaf {
        fn part(self: Arc<Self>, _: u32, _: Outcome<'_>) -> Option<Callback> {
            None
        }
    }

    fn launch(retries: u32) -> Launch {
        Launch {
            sink: Arc::new(Deaf),
            part: 0,
            thunk: thunk::one(|x: u8| x),
            retries,
            _context: None,
            _cargo: Load::default(),
        }
    }

    #[test]
    fn a_ticket_lands_once_and_never_for_its_successor() {
        let mut flights = Flights::new(1);
        let first = flights.enter(launch(0), b"abc").ok().unwrap().0;
        assert!(flights.enter(launch(0), b"").is_err(), "the table is full");
        assert_eq!((flights.in_flight(), flights.bytes()), (1, 3));
        assert!(flights.land(first).is_some());
        let second = flights.enter(launch(0), b"").ok().unwrap().0;
        assert!(flights.land(first).is_none(), "an answer that comes twice finds nobody");
        assert!(flights.land(second).is_some());
        assert!(flights.is_empty());
    }

    #[test]
    fn a_lost_task_is_sent_again_as_often_as_allowed() {
        let mut flights = Flights::new(2);
        let ticket = flights.enter(launch(1), b"x").ok().unwrap().0;
        let Some(Ok(parcel)) = flights.crash(ticket) else { panic!("it may be sent again") };
        assert_eq!((parcel.launch.retries, &parcel.bytes[..]), (0, &b"x"[..]));
        let ticket = flights.enter(parcel.launch, &parcel.bytes).ok().unwrap().0;
        assert!(matches!(flights.crash(ticket), Some(Err(_))));
    }

    #[test]
    fn clearing_gives_back_what_flies_and_what_waits() {
        let mut flights = Flights::new(4);
        let known = launch(0);
        let sink = known.sink.clone();
        flights.enter(known, b"a").ok().unwrap();
        flights.enter(launch(0), b"b").ok().unwrap();
        flights.backlog.push_back(Parcel { launch: launch(0), bytes: Vec::new() });
        assert_eq!(flights.of(&sink).len(), 1);
        assert_eq!(flights.clear().len(), 3);
        assert!(flights.is_empty());
    }

    #[test]
    fn each_site_gets_what_its_workers_can_use() {
        let mut flights = Flights::new(16);
        flights.loads = vec![Share::new(1, 2, true), Share::new(3, 6, true), Share::new(1, 2, false)];
        let sites: Vec<_> = (0..8).map(|_| flights.enter(launch(0), b"").ok().unwrap()).collect();
        let to = |site| sites.iter().filter(|(_, to)| *to == site).count();
        assert_eq!((to(0), to(1), to(2)), (2, 6, 0));
        assert!(sites[..4].iter().filter(|(_, to)| *to == 1).count() == 3, "by turns: {sites:?}");
        assert!(flights.enter(launch(0), b"").is_err(), "all have enough");
        assert_eq!(flights.to(0).len(), 2);
        flights.land(sites[0].0).unwrap();
        assert_eq!(flights.enter(launch(0), b"").ok().unwrap().1, sites[0].1, "who has answered gets the next");
    }
}
