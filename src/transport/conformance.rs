//! What every engine must do, asked of whichever is given: one body of tests for all transports.
//!
//! A [`Bed`] makes engines that know each other; [`conformance`] makes the tests for it. Several engines are polled in
//! turn by one thread, so that a test is a straight line; what threads do with an engine is the driver's to test.

pub(crate) mod bulk;
pub(crate) mod ends;
pub(crate) mod order;
pub(crate) mod soup;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::mm::{Block, Memory, MemoryConfig};
use crate::time;
use crate::transport::{Engine, Look, Lost, Node, Sink, To, Token, Undelivered};

/// Makes engines of one kind.
pub(crate) trait Bed {
    /// How many times less than others this kind can do in the time of a test.
    const SLOWER: u64 = 1;

    /// So many nodes that have been introduced to each other.
    fn engines(count: u32) -> Vec<Box<dyn Engine>>;
}

/// All tests, for one kind of engine.
macro_rules! conformance {
    ($bed:ty) => {
        $crate::transport::conformance::conformance!($bed:
            order: every_size_arrives_as_it_was, lanes_keep_their_order, all_talk_to_all, both_call_at_once,
                   a_burst_goes_out_without_anybody_pushing, refusals_name_what_is_wrong;
            bulk: blocks_land_once_in_the_block_given, small_and_large_keep_their_order,
                  a_refused_block_is_told_to_its_sender, both_ways_at_once_do_not_stand_still,
                  a_full_lane_says_so_and_recovers;
            ends: every_token_ends_once, a_peer_that_is_given_up_is_lost_once, a_peer_that_leaves_is_lost_once,
                  closing_ends_all_tokens, a_new_incarnation_starts_afresh, an_idle_engine_wants_nothing;
            soup: anything_at_random_arrives_in_order;
        );
    };
    ($bed:ty: $($file:ident: $($test:ident),+;)+) => {
        $($(
            #[test]
            fn $test() {
                $crate::transport::conformance::$file::$test::<$bed>();
            }
        )+)+
    };
}
pub(crate) use conformance;

/// Something that a sink was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Message { from: To, kind: u16, header: Vec<u8>, body: Vec<u8> },
    Landed { from: To, kind: u16, header: Vec<u8>, body: Vec<u8> },
    Done { token: Token, outcome: Result<(), Undelivered> },
    Lost(Lost),
}

/// A sink that writes everything down.
pub(crate) struct Notebook {
    memory: Arc<Memory>,
    /// Landings that are refused from now on.
    pub(crate) refuse: bool,
    pub(crate) notes: Vec<Note>,
    /// Counts instead of notes, for tests with very many messages.
    pub(crate) counting: bool,
    pub(crate) count: u64,
}

impl Sink for Notebook {
    fn message(&mut self, from: To, kind: u16, header: &[u8], body: &[u8]) {
        self.count += 1;
        if !self.counting {
            self.notes.push(Note::Message { from, kind, header: header.into(), body: body.into() });
        }
    }

    fn landing(&mut self, _from: To, _kind: u16, _header: &[u8], len: usize) -> Option<Block> {
        if self.refuse { None } else { self.memory.alloc(len).ok() }
    }

    fn landed(&mut self, from: To, kind: u16, header: &[u8], block: Block, len: usize) {
        self.count += 1;
        if !self.counting {
            let body = block.as_slice()[..len].into();
            self.notes.push(Note::Landed { from, kind, header: header.into(), body });
        }
    }

    fn done(&mut self, token: Token, outcome: Result<(), Undelivered>) {
        self.notes.push(Note::Done { token, outcome });
    }

    fn lost(&mut self, node: Node, epoch: u64, why: &Lost) {
        assert_eq!((node, epoch), (why.node, why.epoch));
        self.notes.push(Note::Lost(why.clone()));
    }
}

/// An engine and who listens to it.
pub(crate) struct Party {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) book: Notebook,
    pub(crate) memory: Arc<Memory>,
}

impl Party {
    pub(crate) fn new(engine: Box<dyn Engine>) -> Party {
        let config = MemoryConfig { segment_size: 64 << 20, limit: 256 << 20, ..MemoryConfig::default() };
        let memory = Memory::create(&config).unwrap();
        let book = Notebook { memory: memory.clone(), refuse: false, notes: Vec::new(), counting: false, count: 0 };
        Party { engine, book, memory }
    }

    pub(crate) fn poll(&mut self) -> usize {
        self.engine.poll(time::now(), Look::Around, &mut self.book)
    }

    pub(crate) fn turn(&mut self) {
        self.poll();
    }

    /// Bodies of the small messages that came, in order.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        let notes = self.book.notes.iter();
        notes.filter_map(|note| if let Note::Message { body, .. } = note { Some(body.clone()) } else { None }).collect()
    }

    /// How many operations ended, well or badly.
    pub(crate) fn ended(&self) -> usize {
        self.book.notes.iter().filter(|note| matches!(note, Note::Done { .. })).count()
    }

    /// The ends of peers.
    pub(crate) fn losses(&self) -> Vec<Lost> {
        let notes = self.book.notes.iter();
        notes.filter_map(|note| if let Note::Lost(lost) = note { Some(lost.clone()) } else { None }).collect()
    }
}

/// Parties that know each other.
pub(crate) fn parties<B: Bed>(count: u32) -> Vec<Party> {
    B::engines(count).into_iter().map(Party::new).collect()
}

/// How long anything may take on a slow machine.
const LONG: Duration = Duration::from_secs(20);

/// Polls all in turn until it is so.
pub(crate) fn until(parties: &mut [Party], mut so: impl FnMut(&mut [Party]) -> bool) {
    let begin = Instant::now();
    while !so(parties) {
        let events: usize = parties.iter_mut().map(Party::poll).sum();
        if events == 0 {
            // Nobody spins while the kernel is at work.
            parties[0].engine.arm();
            parties[0].engine.watch().sleep(Some(Duration::from_micros(200)));
        }
        assert!(
            begin.elapsed() < LONG,
            "it does not come to pass: {:?}",
            parties.iter().map(summary).collect::<Vec<_>>()
        );
    }
}

/// Polls all for a while, to see that nothing happens.
pub(crate) fn for_a_while(parties: &mut [Party], long: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < long {
        parties.iter_mut().for_each(|party| party.turn());
    }
}

fn summary(party: &Party) -> String {
    let last = party.book.notes.last().map(|note| format!("{note:?}").chars().take(200).collect::<String>());
    format!(
        "{} notes, {} counted, last {last:?}, {:?}",
        party.book.notes.len(),
        party.book.count,
        party.engine.counts()
    )
}

/// A lane.
pub(crate) fn to(node: Node, lane: u8) -> To {
    To { node, lane }
}

/// Bytes that show where they were torn: a row of prime length, again and again, which even an unoptimised test
/// makes quickly.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    const ROW: usize = 4093;
    let step = (seed % 100) as usize * 2 + 1;
    let mut bytes: Vec<u8> = (0..len.min(ROW)).map(|at| (at * step + (at >> 8)) as u8 ^ seed as u8).collect();
    while bytes.len() < len {
        let more = (len - bytes.len()).min(ROW);
        bytes.extend_from_within(..more);
    }
    bytes
}
