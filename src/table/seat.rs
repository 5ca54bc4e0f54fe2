//! What concerns a table as a whole: who has it in hand, seats for those who want to be known, and a note.
//!
//! A seat is a few words of the floor above that go with the process that took it.

use super::Table;
use super::TableError;
use super::ground::Ground;
use super::ladder::Ladder;
use super::layout::{KEEPER, NOTE, SEAT_RUNGS, SEATS, SEATS_HIGH};
use super::shard::{thread_number, unclaimed};
use crate::id::ProcId;
use crate::mm::Given;
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{Patience, wait_until};

const PROCESS: u64 = 0xFFFF;

/// Words of a seat that are the floor above's.
pub(crate) type Seat<'t> = [&'t AtomicU64; 2];

/// The table as a whole, in this thread's hands until it is dropped.
pub(crate) struct Keeper<'t>(&'t AtomicU64);

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        self.0.swap(0, Ordering::SeqCst); // pairs with `keep`
    }
}

impl<G: Ground> Table<G> {
    /// Takes the table as a whole in hand, so that no other thread does what needs that. Waits for who has it.
    pub(crate) fn keep(&self) -> Keeper<'_> {
        let word = &self.ground.root()[KEEPER];
        let mine = (thread_number() as u64) << 16 | u64::from(self.ground.me().0);
        // SeqCst: pairs with the drop of a keeper and with `repair_seats`.
        let mut free = || word.compare_exchange(0, mine, Ordering::SeqCst, Ordering::SeqCst).ok();
        let mut patience = Patience::new();
        while let Some(cell) = unclaimed(&self.ground) {
            if wait_until(cell, &mut patience, Deadline::after(super::shard::NAP), &mut free).is_ok() {
                break;
            }
        }
        Keeper(word)
    }

    fn seats(&self) -> Ladder<'_, G> {
        let root = self.ground.root();
        Ladder::new(&self.ground, &root[SEAT_RUNGS..SEAT_RUNGS + SEATS.rungs()], SEATS)
    }

    /// Takes a seat with these words, for this process.
    pub(crate) fn take_seat(&self, words: [u64; 2]) -> Result<usize, TableError> {
        let (seats, me) = (self.seats(), u64::from(self.ground.me().0));
        for number in 0..seats.most() {
            let seat = seats.ensure(number)?;
            let taken = 1 << 16 | me;
            // AcqRel: pairs with `leave_seat`.
            if seat[0].load(Ordering::Relaxed) != 0 {
                continue;
            }
            // First, so that whoever looks at the seats, or mends them, sees this one; pairs with `seats_taken`.
            self.ground.root()[SEATS_HIGH].fetch_max(number as u64 + 1, Ordering::SeqCst);
            if seat[0].compare_exchange(0, taken, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                mark!("table.seat.taken");
                seat[1].store(words[0], Ordering::SeqCst); // pairs with `seats_taken`
                seat[2].store(words[1], Ordering::SeqCst);
                seat[0].store(me, Ordering::SeqCst);
                return Ok(number);
            }
        }
        Err(TableError::damaged("there are as many seats as there can be"))
    }

    /// The words of a seat.
    pub(crate) fn seat(&self, number: usize) -> Option<Seat<'_>> {
        let words = self.seats().get(number)?;
        Some([&words[1], &words[2]])
    }

    /// Gives a seat up.
    pub(crate) fn leave_seat(&self, number: usize) {
        if let Some(seat) = self.seats().get(number) {
            seat[0].store(0, Ordering::SeqCst); // pairs with `take_seat` and `seats_taken`
        }
    }

    /// The words of all seats that are taken.
    pub(crate) fn seats_taken(&self) -> impl Iterator<Item = Seat<'_>> {
        let high = self.ground.root()[SEATS_HIGH].load(Ordering::SeqCst) as usize; // pairs with `take_seat`
        let taken = |number: &usize| {
            let word = self.seats().get(*number).map_or(0, |seat| seat[0].load(Ordering::SeqCst)); // as above
            word != 0 && word <= PROCESS
        };
        (0..high).filter(taken).filter_map(|number| self.seat(number))
    }

    /// Takes from the dead what they had of the table as a whole.
    pub(super) fn repair_seats(&self, dead: ProcId) {
        let root = self.ground.root();
        let seats = self.seats();
        seats.repair(dead);
        // Acquire: pairs with `set_note`.
        if let Some(note) = Given::from_word(root[NOTE].load(Ordering::Acquire)) {
            self.ground.give_for(note, dead);
        }
        for number in 0..root[SEATS_HIGH].load(Ordering::SeqCst) as usize {
            let word = seats.get(number).map(|seat| &seat[0]);
            // SeqCst: pairs with `take_seat`.
            if let Some(word) = word.filter(|word| word.load(Ordering::SeqCst) & PROCESS == u64::from(dead.0)) {
                word.store(0, Ordering::SeqCst);
            }
        }
        mark!("table.repair.seats_left");
        let keeper = root[KEEPER].load(Ordering::SeqCst); // pairs with `keep`
        if keeper & PROCESS == u64::from(dead.0) {
            // Failing means that whoever repaired before did it.
            let _ = root[KEEPER].compare_exchange(keeper, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Writes the note. Once, before anybody else has the table.
    pub(crate) fn set_note(&self, bytes: &[u8]) -> Result<(), TableError> {
        let word = size_of::<u64>();
        let (mut block, given) = self.ground.make(word + bytes.len())?;
        let space = self.ground.bytes_of(&mut block);
        space[..word].copy_from_slice(&(bytes.len() as u64).to_ne_bytes());
        space[word..].copy_from_slice(bytes);
        self.ground.root()[NOTE].store(given.word(), Ordering::Release); // pairs with `note`
        mark!("table.note.named");
        self.ground.give(block);
        Ok(())
    }

    /// The note, if there is one.
    pub(crate) fn note(&self) -> Option<&[u8]> {
        let given = Given::from_word(self.ground.root()[NOTE].load(Ordering::Acquire))?; // pairs with `set_note`
        let len = self.ground.words(given.spot(), 1)?.first()?.load(Ordering::Relaxed);
        self.ground.bytes(given.spot() + 1, len as usize)
    }

    pub(super) fn bury_seats(&self) {
        self.seats().bury();
        // Acquire: as in `note`.
        if let Some(note) = Given::from_word(self.ground.root()[NOTE].load(Ordering::Acquire)) {
            drop(self.ground.take_back(note));
        }
    }
}
