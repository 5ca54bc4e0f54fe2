//! Tasks on their way: sent to the workers, not yet answered.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::Ticket;
use super::sink::Sink;
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
}

/// A launch with its encoded message, waiting for its turn.
pub(super) struct Parcel {
    pub(super) launch: Launch,
    pub(super) bytes: Vec<u8>,
}

struct Flight {
    launch: Launch,
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
}

impl Flights {
    pub(super) fn new(most: usize) -> Flights {
        let places = (0..most).map(|_| Place { generation: 0, flight: None }).collect();
        Flights { places, free: (0..most as u32).rev().collect(), bytes: 0, backlog: VecDeque::new() }
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

    /// Enters a launch; `Err` gives it back if the table is full.
    pub(super) fn enter(&mut self, launch: Launch, bytes: &[u8]) -> Result<Ticket, Launch> {
        let Some(index) = self.free.pop() else { return Err(launch) };
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1).max(1);
        let copy = (launch.retries > 0).then(|| bytes.to_vec());
        place.flight = Some(Flight { launch, copy, size: bytes.len() });
        self.bytes += bytes.len();
        Ok(Ticket::new(index as usize, place.generation))
    }

    fn take(&mut self, ticket: Ticket) -> Option<Flight> {
        let place = self.places.get_mut(ticket.index()).filter(|p| p.generation == ticket.generation())?;
        let flight = place.flight.take()?;
        self.free.push(ticket.index() as u32);
        self.bytes -= flight.size;
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

    /// The flights of one job.
    pub(super) fn of(&self, sink: &Arc<dyn Sink>) -> Vec<Ticket> {
        let same = |flight: &Flight| is_same(&flight.launch.sink, sink);
        let places = self.places.iter().enumerate();
        places
            .filter(|(_, place)| place.flight.as_ref().is_some_and(same))
            .map(|(index, place)| Ticket::new(index, place.generation))
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
        let first = flights.enter(launch(0), b"abc").ok().unwrap();
        assert!(flights.enter(launch(0), b"").is_err(), "the table is full");
        assert_eq!((flights.in_flight(), flights.bytes()), (1, 3));
        assert!(flights.land(first).is_some());
        let second = flights.enter(launch(0), b"").ok().unwrap();
        assert!(flights.land(first).is_none(), "an answer that comes twice finds nobody");
        assert!(flights.land(second).is_some());
        assert!(flights.is_empty());
    }

    #[test]
    fn a_lost_task_is_sent_again_as_often_as_allowed() {
        let mut flights = Flights::new(2);
        let ticket = flights.enter(launch(1), b"x").ok().unwrap();
        let Some(Ok(parcel)) = flights.crash(ticket) else { panic!("it may be sent again") };
        assert_eq!((parcel.launch.retries, &parcel.bytes[..]), (0, &b"x"[..]));
        let ticket = flights.enter(parcel.launch, &parcel.bytes).ok().unwrap();
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
}
