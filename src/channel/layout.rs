//! What lies where in a channel's block, and in a message's slot.
//!
//! ```text
//! block   0     magic    u64   what this is, and the version of this drawing
//!         8     capacity u64   slots, a power of two
//!         16    body     u64   bytes of a slot's body
//!         24    closed   u32   0 or 1
//!         128   readers        WaitCell: who waits for messages
//!         256   writers        WaitCell: who waits for room
//!         384   ring           crate::ring::Geometry
//!
//! body    0     len      u32   bytes of the message, if it is in the slot
//!         4     kind     u32   1: here, 2: in a block
//!         8     the message, or the handle of its block
//! ```

use std::ptr::NonNull;

use super::error::ChannelError;
use crate::mm::Handle;
use crate::prim::{AtomicU32, AtomicU64};
use crate::ring::{Geometry, Mapped, Ring};
use crate::wait::WaitCell;

const MAGIC: u64 = u64::from_le_bytes(*b"drgchan\x01");
const READERS: usize = 128;
const WRITERS: usize = 256;
const RING: usize = 384;

const IN_SLOT: u32 = 1;
const IN_BLOCK: u32 = 2;

#[repr(C)]
struct Head {
    magic: u64,
    capacity: u64,
    body: u64,
    closed: AtomicU32,
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

/// The shape of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    geometry: Geometry,
}

impl Layout {
    pub(super) fn new(capacity: usize, inline: usize) -> Result<Layout, ChannelError> {
        let shape = |why| ChannelError::Shape { capacity, inline, why };
        if capacity == 0 {
            return Err(shape("it must hold at least one message"));
        }
        let body = inline.max(Handle::SIZE).saturating_add(size_of::<Label>());
        let geometry = Geometry::new(capacity, body).ok_or(shape("that is more than a channel can have"))?;
        Ok(Layout { geometry })
    }

    pub(super) fn bytes(self) -> usize {
        RING + self.geometry.bytes()
    }

    pub(super) fn inline(self) -> usize {
        self.geometry.body() - size_of::<Label>()
    }

    /// # Safety
    /// `base` is the start of `self.bytes()` bytes, aligned to a cache line, that nobody else uses.
    pub(super) unsafe fn initialise(self, base: NonNull<u8>) {
        // SAFETY: all within the promised bytes. Zero bytes are fresh wait cells.
        unsafe {
            base.write_bytes(0, RING);
            let (capacity, body) = (self.geometry.capacity(), self.geometry.body() as u64);
            base.cast::<Head>().write(Head { magic: MAGIC, capacity, body, closed: AtomicU32::new(0) });
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
        // SAFETY: long enough; these three are never written again.
        let (magic, capacity, body) = unsafe {
            let head = base.cast::<Head>().as_ptr();
            ((*head).magic, (*head).capacity, (*head).body)
        };
        let geometry = Geometry::new(usize::try_from(capacity).ok()?, usize::try_from(body).ok()?)?;
        let layout = Layout { geometry };
        let sound = magic == MAGIC
            && geometry.capacity() == capacity
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
        (ring, Shared { base })
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

    #[inline]
    pub(super) fn closed(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &(*self.base.cast::<Head>().as_ptr()).closed }
    }
}

/// A message as its slot tells it.
pub(super) enum Labelled<'a> {
    Here(&'a [u8]),
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
        match label.kind {
            IN_SLOT if label.len as usize <= inline => {
                Labelled::Here(std::slice::from_raw_parts(bytes.as_ptr(), label.len as usize))
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
