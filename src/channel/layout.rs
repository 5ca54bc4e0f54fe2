//! What lies where in a channel's block, and in a message's slot.
//!
//! ```text
//! block   0     magic    u64   what this is, and the version of this drawing
//!         8     capacity u64   most messages; slots are the next power of two
//!         16    body     u64   bytes of a slot's body
//!         24    closed   u32   0 or 1
//!         28    tallied  u32   0 or 1: whether there is a tally
//!         32    label    u64   what it is for; 0: plain bytes
//!         40    usual    u64   bytes that a message usually has, 0 if it is for none: figures.rs
//!         128   readers        WaitCell: who waits for messages
//!         256   writers        WaitCell: who waits for room
//!         384   ring           crate::ring::Geometry
//!         392   figures        in the line of the ring's tail, which writers write: figures.rs
//!         then  tally          if there is one: tally.rs
//!
//! body    0     len      u32   bytes of the message, if it is in the slot
//!         4     kind     u32   1: here, 2: in a block; + 256: it holds objects, see `cargo.rs`
//!         8     the message, or the handle of its block
//! ```

use std::ptr::NonNull;

use super::error::ChannelError;
use super::tally::Tally;
use crate::mm::Handle;
use crate::prim::{AtomicU32, AtomicU64};
use crate::ring::{Geometry, Mapped, Ring};
use crate::wait::WaitCell;

const MAGIC: u64 = u64::from_le_bytes(*b"drgchan\x05");
const READERS: usize = 128;
const WRITERS: usize = 256;
const RING: usize = 384;

const IN_SLOT: u32 = 1;
const IN_BLOCK: u32 = 2;
const WITH_CARGO: u32 = 256;

#[repr(C)]
struct Head {
    magic: u64,
    capacity: u64,
    body: u64,
    closed: AtomicU32,
    tallied: u32,
    label: u64,
    usual: u64,
}

/// What a slot begins with.
#[repr(C)]
#[derive(Clone, Copy)]
struct Label {
    len: u32,
    kind: u32,
}

#[cfg(not(feature = "shuttle"))]
const _: () = assert!(size_of::<Head>() <= READERS && size_of::<AtomicU64>() == 8);
const _: () = assert!(size_of::<Label>() == 8);

/// The shape of one channel, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    geometry: Geometry,
    capacity: u64,
    tallied: bool,
    label: u64,
    usual: u64,
}

impl Layout {
    /// Room for exactly `capacity` messages.
    pub(super) fn new(capacity: usize, inline: usize) -> Result<Layout, ChannelError> {
        let shape = |why| ChannelError::Shape { capacity, inline, why };
        if capacity == 0 {
            return Err(shape("it must hold at least one message"));
        }
        let body = inline.max(Handle::SIZE).saturating_add(size_of::<Label>());
        let geometry = Geometry::new(capacity, body).ok_or(shape("that is more than a channel can have"))?;
        Ok(Layout { geometry, capacity: capacity as u64, tallied: false, label: 0, usual: inline as u64 })
    }

    /// The same with a tally, or without.
    pub(super) fn tallied(self, tallied: bool) -> Layout {
        Layout { tallied, ..self }
    }

    /// The same for a purpose. Without one nobody counts every message's bytes, so none are usual.
    pub(super) fn labelled(self, label: u64) -> Layout {
        Layout { label, usual: if label == 0 { 0 } else { self.usual }, ..self }
    }

    /// Bytes that a message usually has: as many as were asked for.
    pub(super) fn usual(self) -> u64 {
        self.usual
    }

    pub(super) fn label(self) -> u64 {
        self.label
    }

    pub(super) fn bytes(self) -> usize {
        self.tally_at() + if self.tallied { Tally::WORDS * size_of::<u64>() } else { 0 }
    }

    fn tally_at(self) -> usize {
        RING + self.geometry.bytes()
    }

    /// Where the words of the tally begin, in words of the block, if there is one.
    pub(super) fn tally(self) -> Option<usize> {
        self.tallied.then_some(self.tally_at() / size_of::<u64>())
    }

    pub(super) fn inline(self) -> usize {
        self.geometry.body() - size_of::<Label>()
    }

    /// # Safety
    /// `base` is the start of `self.bytes()` bytes, aligned to a cache line, that nobody else uses.
    pub(super) unsafe fn initialise(self, base: NonNull<u8>) {
        // SAFETY: all within the promised bytes. Zero bytes are fresh wait cells, fresh figures, and a fresh tally.
        unsafe {
            base.write_bytes(0, RING + Geometry::BESIDE_TAIL + 8 * Geometry::BESIDE);
            base.cast::<Head>().write(Head {
                magic: MAGIC,
                capacity: self.capacity,
                body: self.geometry.body() as u64,
                closed: AtomicU32::new(0),
                tallied: u32::from(self.tallied),
                label: self.label,
                usual: self.usual,
            });
            base.add(self.tally_at()).write_bytes(0, self.bytes() - self.tally_at());
            Ring::<Mapped>::initialise(&Mapped::new(base.add(RING), self.geometry), 0);
        }
    }

    /// The shape of the channel at `base`, if there is one that fits.
    ///
    /// # Safety
    /// `base` is the start of `len` mapped bytes, aligned to a cache line.
    pub(super) unsafe fn read(base: NonNull<u8>, len: usize) -> Option<Layout> {
        if len < RING {
            return None;
        }
        // SAFETY: long enough; these are never written again.
        let (magic, capacity, body, tallied, label, usual) = unsafe {
            let head = base.cast::<Head>().as_ptr();
            ((*head).magic, (*head).capacity, (*head).body, (*head).tallied, (*head).label, (*head).usual)
        };
        let geometry = Geometry::new(usize::try_from(capacity).ok()?, usize::try_from(body).ok()?)?;
        let layout = Layout { geometry, capacity, tallied: tallied == 1, label, usual };
        let sound = magic == MAGIC
            && geometry.body() as u64 == body
            && geometry.body() >= size_of::<Label>() + Handle::SIZE
            && layout.bytes() <= len;
        sound.then_some(layout)
    }

    /// # Safety
    /// `base` is the start of a channel of this shape, which stays mapped as long as what this returns is used.
    pub(super) unsafe fn parts(self, base: NonNull<u8>) -> (Ring<Mapped>, Shared) {
        // SAFETY: the caller's promise; the offsets are within the block.
        let ring = Ring::new(unsafe { Mapped::new(base.add(RING), self.geometry) });
        (ring.with_limit(self.capacity), Shared { base })
    }
}

/// What all users of a channel share besides the ring.
pub(super) struct Shared {
    base: NonNull<u8>,
}

// SAFETY: only atomics are reached through it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    #[inline]
    pub(super) fn readers(&self) -> &WaitCell {
        // SAFETY: within the channel's block, by the promise to `Layout::parts`; all bits are valid.
        unsafe { self.base.add(READERS).cast().as_ref() }
    }

    #[inline]
    pub(super) fn writers(&self) -> &WaitCell {
        // SAFETY: as above.
        unsafe { self.base.add(WRITERS).cast().as_ref() }
    }

    /// Words in the line of the ring's tail, for what whoever puts counts.
    #[inline]
    pub(super) fn beside_tail(&self) -> &[AtomicU64; Geometry::BESIDE] {
        // SAFETY: as above; the ring leaves these words alone.
        unsafe { self.base.add(RING + Geometry::BESIDE_TAIL).cast().as_ref() }
    }

    #[inline]
    pub(super) fn closed(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &(*self.base.cast::<Head>().as_ptr()).closed }
    }
}

/// A message as its slot tells it.
pub(super) enum Labelled<'a> {
    /// The slot's space for messages, and how many of its bytes the message is.
    Here(&'a [u8], usize),
    InBlock(Handle),
    Garbled,
}

/// Labels a slot for a message of `len` bytes and gives the bytes.
///
/// # Safety
/// `body` is that of a claimed slot, which is the caller's alone for `'a` and holds `len` bytes behind the label.
#[inline]
pub(super) unsafe fn label_here<'a>(body: NonNull<u8>, len: usize) -> &'a mut [u8] {
    // SAFETY: the caller's promise. The bytes were initialised at some time: shared pages begin as zeros.
    unsafe {
        body.cast::<Label>().write(Label { len: len as u32, kind: IN_SLOT });
        std::slice::from_raw_parts_mut(body.add(size_of::<Label>()).as_ptr(), len)
    }
}

/// Labels a slot for a message in a block.
///
/// # Safety
/// `body` is that of a claimed slot, which is the caller's alone.
#[inline]
pub(super) unsafe fn label_block(body: NonNull<u8>, handle: Handle) {
    // SAFETY: the caller's promise; a slot is long enough for a handle, by `Layout`.
    unsafe {
        body.cast::<Label>().write(Label { len: 0, kind: IN_BLOCK });
        body.add(size_of::<Label>()).cast::<Handle>().write(handle);
    }
}

/// Notes in a slot's label that the message holds objects.
///
/// # Safety
/// `body` is that of a claimed slot with a label, which is the caller's alone.
#[cold]
pub(super) unsafe fn label_cargo(body: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { (*body.cast::<Label>().as_ptr()).kind |= WITH_CARGO };
}

/// Whether a message holds objects.
///
/// # Safety
/// `body` is that of a slot of a ring of channel messages that nobody writes.
#[inline]
pub(super) unsafe fn has_cargo(body: NonNull<u8>) -> bool {
    // SAFETY: the caller's promise.
    unsafe { body.cast::<Label>().read() }.kind & WITH_CARGO != 0
}

/// The bytes of a message that lies in its slot and holds no objects, which is most often all there is to it.
///
/// # Safety
/// As for [`read_label`].
#[inline(always)]
pub(super) unsafe fn read_plain<'a>(body: NonNull<u8>, inline: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe {
        let label = body.cast::<Label>().read();
        let len = label.len as usize;
        let bytes = body.add(size_of::<Label>()).as_ptr();
        (label.kind == IN_SLOT && len <= inline).then(|| std::slice::from_raw_parts(bytes, len))
    }
}

/// Reads a slot whose bytes may be anything.
///
/// # Safety
/// `body` is that of a slot of a ring of channel messages, with `inline` bytes behind the label, that nobody writes for `'a`.
#[inline]
pub(super) unsafe fn read_label<'a>(body: NonNull<u8>, inline: usize) -> Labelled<'a> {
    // SAFETY: the caller's promise.
    unsafe {
        let label = body.cast::<Label>().read();
        let bytes = body.add(size_of::<Label>());
        match label.kind & !WITH_CARGO {
            IN_SLOT if label.len as usize <= inline => {
                Labelled::Here(std::slice::from_raw_parts(bytes.as_ptr(), inline), label.len as usize)
            }
            IN_BLOCK => Labelled::InBlock(bytes.cast::<Handle>().read()),
            _ => Labelled::Garbled,
        }
    }
}

/// The blocks of all messages that nobody has received yet.
pub(super) fn pending_blocks(ring: &Ring<Mapped>) -> Vec<Handle> {
    let read = |body| {
        // SAFETY: a slot of a channel. If somebody writes it meanwhile, `pending` discards what was read.
        match unsafe { read_label(body, 0) } {
            Labelled::InBlock(handle) => Some(handle),
            _ => None,
        }
    };
    ring.pending(read).into_iter().flatten().collect()
}
