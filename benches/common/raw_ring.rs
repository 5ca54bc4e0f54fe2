//! The least a message between two processes can cost: a ring for one writer and one reader (Lamport's), each
//! of which remembers what it last saw of the other.
//!
//! It knows no death, no sleep, no second writer and one size. A channel is measured against it.

use std::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering},
};

use super::os::Sharable;

/// Two cache lines, so that the prefetcher does not pull in the other side's index.
#[repr(align(128))]
struct Apart<T>(T);

/// The shared part. Zero bytes are an empty ring.
pub struct RawRing<const SIZE: usize, const SLOTS: usize> {
    tail: Apart<AtomicU64>,
    head: Apart<AtomicU64>,
    slots: [UnsafeCell<[u8; SIZE]>; SLOTS],
}

// SAFETY: zero bytes are an empty ring; `tail` and `head` give each slot to one side at a time, as long as
// there is one `Writer` and one `Reader`.
unsafe impl<const SIZE: usize, const SLOTS: usize> Sharable for RawRing<SIZE, SLOTS> {}

impl<const SIZE: usize, const SLOTS: usize> RawRing<SIZE, SLOTS> {
    /// The writing side. Make one.
    pub fn writer(&self) -> Writer<'_, SIZE, SLOTS> {
        Writer { ring: self, tail: 0, head_seen: 0 }
    }

    /// The reading side. Make one.
    pub fn reader(&self) -> Reader<'_, SIZE, SLOTS> {
        Reader { ring: self, head: 0, tail_seen: 0, head_told: 0 }
    }

    fn slot(&self, position: u64) -> *mut [u8; SIZE] {
        self.slots[position as usize % SLOTS].get()
    }
}

/// Writes, and spins while the ring is full.
pub struct Writer<'a, const SIZE: usize, const SLOTS: usize> {
    ring: &'a RawRing<SIZE, SLOTS>,
    tail: u64,
    head_seen: u64,
}

impl<const SIZE: usize, const SLOTS: usize> Writer<'_, SIZE, SLOTS> {
    /// Copies a message in and publishes it.
    #[inline(always)]
    pub fn push(&mut self, message: &[u8; SIZE]) {
        while self.tail - self.head_seen >= SLOTS as u64 {
            // Acquire: pairs with the release in `pop`, so that the reader is done with the slot.
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
            spin_loop();
        }
        // SAFETY: the reader is done with this slot and will not look before `tail` has passed it.
        unsafe { *self.ring.slot(self.tail) = *message };
        self.tail += 1;
        // Release: pairs with the acquire in `pop`.
        self.ring.tail.0.store(self.tail, Ordering::Release);
    }
}

/// Reads, and spins while the ring is empty.
pub struct Reader<'a, const SIZE: usize, const SLOTS: usize> {
    ring: &'a RawRing<SIZE, SLOTS>,
    head: u64,
    tail_seen: u64,
    head_told: u64,
}

impl<const SIZE: usize, const SLOTS: usize> Reader<'_, SIZE, SLOTS> {
    /// Copies the next message out.
    #[inline(always)]
    pub fn pop(&mut self) -> [u8; SIZE] {
        while self.tail_seen == self.head {
            // Acquire: pairs with the release in `push`, for the message's bytes.
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
            spin_loop();
        }
        // SAFETY: published, and the writer will not touch it before `head` has passed it.
        let message = unsafe { *self.ring.slot(self.head) };
        self.head += 1;
        // The writer needs to know only now and then: once a quarter of the ring.
        if self.head - self.head_told >= SLOTS as u64 / 4 {
            // Release: pairs with the acquire in `push`.
            self.ring.head.0.store(self.head, Ordering::Release);
            self.head_told = self.head;
        }
        message
    }
}
