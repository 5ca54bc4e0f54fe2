//! Where a ring's words are: in mapped memory in the product, in a `Vec` under the checkers.

use std::ptr::NonNull;

use super::layout::{Geometry, LINE};
use crate::prim::AtomicU64;

/// The words and bodies of one ring. A slot number is below `capacity`, a power of two.
pub(crate) trait Store {
    fn capacity(&self) -> u64;
    fn tail(&self) -> &AtomicU64;
    fn head(&self) -> &AtomicU64;
    fn returned(&self) -> &AtomicU64;
    fn writer(&self, slot: usize) -> &AtomicU64;
    fn reader(&self, slot: usize) -> &AtomicU64;
    fn seal(&self, slot: usize) -> &AtomicU64;
    /// The user's bytes of a slot, aligned to eight; whoever holds the slot may use them.
    fn body(&self, slot: usize) -> NonNull<u8>;
    /// Tells the processor that this slot is going to be written.
    fn soon_written(&self, _slot: usize) {}
    /// Tells the processor that this slot is going to be read.
    fn soon_read(&self, _slot: usize) {}
    /// Tells the processor that this slot is going to be claimed by a reader.
    fn soon_claimed(&self, _slot: usize) {}
    /// Tells the processor that this slot, whose seal is being watched, will be read as soon as that says so.
    fn awaited(&self, _slot: usize) {}
}

/// Lines of a slot that are fetched ahead for a reader; longer ones the processor recognises by itself.
#[cfg(target_arch = "x86_64")]
const FETCHED_AHEAD: usize = 2;
/// And for a writer, for whom each is one that a reader has to give up first: a message of 1 KiB.
#[cfg(target_arch = "x86_64")]
const OWNED_AHEAD: usize = 17;
/// Lines of a slot that is awaited: its seal's, and the next. If there are more the writer would lose too many again.
#[cfg(target_arch = "x86_64")]
const AWAITED: usize = 2;

/// Asks for the line to write it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn fetch_to_write(at: NonNull<u8>) {
    // SAFETY: a prefetch touches nothing, wherever it points. `_mm_prefetch` would ask for the line to read it, unless compiled
    // for newer processors only; this is a no-op on those that do not know it.
    unsafe {
        std::arch::asm!("prefetchw byte ptr [{}]", in(reg) at.as_ptr(), options(nostack, preserves_flags, readonly));
    }
}

/// A ring in memory that other processes map as well.
#[derive(Clone)]
pub(crate) struct Mapped {
    tail: NonNull<AtomicU64>,
    head: NonNull<AtomicU64>,
    returned: NonNull<AtomicU64>,
    writers: NonNull<AtomicU64>,
    readers: NonNull<AtomicU64>,
    slots: NonNull<u8>,
    geometry: Geometry,
}

// SAFETY: the pointers are to memory that outlives this value (promised to `new`) and is reached through
// atomics, or through slots that the ring protocol gives to one thread at a time.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// # Safety
    /// `base` is aligned to a cache line, and `geometry.bytes()` from there on stay mapped, readable and
    /// writable, for as long as this value and its clones live, and hold nothing but this ring.
    pub(crate) unsafe fn new(base: NonNull<u8>, geometry: Geometry) -> Mapped {
        // SAFETY: all offsets are within `geometry.bytes()`, by `Geometry`.
        unsafe {
            Mapped {
                tail: base.add(Geometry::TAIL).cast(),
                head: base.add(Geometry::HEAD).cast(),
                returned: base.add(Geometry::RETURNED).cast(),
                writers: base.add(Geometry::WRITERS).cast(),
                readers: base.add(geometry.readers()).cast(),
                slots: base.add(geometry.slots()),
                geometry,
            }
        }
    }

    #[inline(always)]
    fn slot(&self, slot: usize) -> NonNull<u8> {
        debug_assert!((slot as u64) < self.geometry.capacity());
        // SAFETY: below capacity, so within the slots.
        unsafe { self.slots.add(slot * self.geometry.stride()) }
    }
}

impl Store for Mapped {
    #[inline(always)]
    fn capacity(&self) -> u64 {
        self.geometry.capacity()
    }

    #[inline(always)]
    fn tail(&self) -> &AtomicU64 {
        // SAFETY: mapped and aligned by the promise to `new`.
        unsafe { self.tail.as_ref() }
    }

    #[inline(always)]
    fn head(&self) -> &AtomicU64 {
        // SAFETY: mapped and aligned by the promise to `new`.
        unsafe { self.head.as_ref() }
    }

    #[inline(always)]
    fn returned(&self) -> &AtomicU64 {
        // SAFETY: mapped and aligned by the promise to `new`.
        unsafe { self.returned.as_ref() }
    }

    #[inline(always)]
    fn writer(&self, slot: usize) -> &AtomicU64 {
        // SAFETY: one word for each slot, mapped and aligned by the promise to `new`.
        unsafe { self.writers.add(slot).as_ref() }
    }

    #[inline(always)]
    fn reader(&self, slot: usize) -> &AtomicU64 {
        // SAFETY: one word for each slot, mapped and aligned by the promise to `new`.
        unsafe { self.readers.add(slot).as_ref() }
    }

    #[inline(always)]
    fn seal(&self, slot: usize) -> &AtomicU64 {
        // SAFETY: the first word of a slot, mapped and aligned by the promise to `new`.
        unsafe { self.slot(slot).cast().as_ref() }
    }

    #[inline(always)]
    fn body(&self, slot: usize) -> NonNull<u8> {
        // SAFETY: a slot is at least one line.
        unsafe { self.slot(slot).add(size_of::<u64>()) }
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    fn soon_written(&self, slot: usize) {
        for line in 0..OWNED_AHEAD.min(self.geometry.stride() / LINE) {
            // SAFETY: within the slot.
            fetch_to_write(unsafe { self.slot(slot).add(line * LINE) });
        }
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    fn soon_claimed(&self, slot: usize) {
        fetch_to_write(NonNull::from_ref(self.reader(slot)).cast());
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    fn awaited(&self, slot: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        if self.geometry.stride() == AWAITED * LINE {
            // SAFETY: within the slot; and a prefetch touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.slot(slot).add(LINE).as_ptr().cast()) };
        }
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    fn soon_read(&self, slot: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in 0..FETCHED_AHEAD.min(self.geometry.stride() / LINE) {
            // SAFETY: within the slot; and a prefetch touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.slot(slot).add(line * LINE).as_ptr().cast()) };
        }
    }
}

/// A ring in this process's heap, for tests and model checkers.
#[cfg(test)]
pub(crate) struct Boxed {
    tail: AtomicU64,
    head: AtomicU64,
    returned: AtomicU64,
    slots: Vec<BoxedSlot>,
}

#[cfg(test)]
struct BoxedSlot {
    writer: AtomicU64,
    reader: AtomicU64,
    seal: AtomicU64,
    body: crate::prim::Plain<[u64; 2]>,
}

#[cfg(test)]
impl Boxed {
    pub(crate) fn new(capacity: usize) -> Boxed {
        assert!(capacity.is_power_of_two());
        let slot = || BoxedSlot {
            writer: AtomicU64::new(0),
            reader: AtomicU64::new(0),
            seal: AtomicU64::new(0),
            body: crate::prim::Plain::new([0; 2]),
        };
        let slots = std::iter::repeat_with(slot).take(capacity).collect();
        Boxed { tail: AtomicU64::new(0), head: AtomicU64::new(0), returned: AtomicU64::new(0), slots }
    }
}

#[cfg(test)]
impl Store for Boxed {
    fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    fn tail(&self) -> &AtomicU64 {
        &self.tail
    }

    fn head(&self) -> &AtomicU64 {
        &self.head
    }

    fn returned(&self) -> &AtomicU64 {
        &self.returned
    }

    fn writer(&self, slot: usize) -> &AtomicU64 {
        &self.slots[slot].writer
    }

    fn reader(&self, slot: usize) -> &AtomicU64 {
        &self.slots[slot].reader
    }

    fn seal(&self, slot: usize) -> &AtomicU64 {
        &self.slots[slot].seal
    }

    fn body(&self, slot: usize) -> NonNull<u8> {
        self.slots[slot].body.with_mut(|body| NonNull::new(body.cast()).expect("a field has an address"))
    }
}
