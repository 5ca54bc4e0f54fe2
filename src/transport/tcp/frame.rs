//! The frames of a lane: one head for all of them, and how to read what came without believing it.
//!
//! ```text
//!  0        8        16    18     20   21            24
//!  ├── ack ──┼── len ──┼ kind ┼ hlen ┼what┼── zeros ──┤ header (hlen bytes) │ body (len bytes)
//! ```
//! All little-endian. `ack`: position in the stream of the other direction up to which everything has come. The
//! stream of a direction is its *lasting* frames, one behind the other, over all connections that the lane ever
//! has; passing frames (`Ack`, `Ping`, `Bye`) stand between them, belong to one connection, and have no position.

use crate::transport::{BODY_MOST, HEADER_MOST};

/// Bytes of a head.
pub(super) const HEAD: usize = 24;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    /// A small message. Lasting.
    Message = 1,
    /// A large message: the body lands in a block. Lasting.
    Bulk = 2,
    /// The large message that ends at the position in the header was refused. Lasting.
    Refused = 3,
    /// Only the head's `ack` matters.
    Ack = 4,
    /// Somebody lives here.
    Ping = 5,
    /// The sender ends and will not come back.
    Bye = 6,
}

impl What {
    fn read(byte: u8) -> Option<What> {
        [What::Message, What::Bulk, What::Refused, What::Ack, What::Ping, What::Bye]
            .into_iter()
            .find(|w| *w as u8 == byte)
    }

    /// Whether frames of this kind have a place in the stream.
    pub(super) fn is_lasting(self) -> bool {
        matches!(self, What::Message | What::Bulk | What::Refused)
    }
}

/// A head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) what: What,
    pub(super) kind: u16,
    pub(super) header: u16,
    pub(super) len: u64,
    pub(super) ack: u64,
}

/// Bytes that no peer of this build sends, and what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) &'static str);

impl Frame {
    /// A frame that is nothing but a head.
    pub(super) fn passing(what: What, ack: u64) -> Frame {
        Frame { what, kind: 0, header: 0, len: 0, ack }
    }

    /// Its bytes.
    #[inline]
    pub(super) fn write(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0..8].copy_from_slice(&self.ack.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.kind.to_le_bytes());
        bytes[18..20].copy_from_slice(&self.header.to_le_bytes());
        bytes[20] = self.what as u8;
        bytes
    }

    /// Reads a head, and checks every length in it before anybody acts on one.
    #[inline]
    pub(super) fn read(bytes: &[u8; HEAD], bulk_most: u64) -> Result<Frame, Garbled> {
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, l4, l5, l6, l7, k0, k1, h0, h1, what, z0, z1, z2] = *bytes;
        let what = What::read(what).ok_or(Garbled("a frame of no known kind"))?;
        let frame = Frame {
            what,
            kind: u16::from_le_bytes([k0, k1]),
            header: u16::from_le_bytes([h0, h1]),
            len: u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]),
            ack: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        };
        let (header, body) = match what {
            What::Message => (HEADER_MOST, BODY_MOST as u64),
            What::Bulk => (HEADER_MOST, bulk_most),
            What::Refused => (8, 0),
            What::Ack | What::Ping | What::Bye => (0, 0),
        };
        if [z0, z1, z2] != [0; 3] || (what == What::Refused && frame.header != 8) {
            return Err(Garbled("a head with something in it that does not belong there"));
        }
        if usize::from(frame.header) > header || frame.len > body {
            return Err(Garbled("a length beyond the limit"));
        }
        Ok(frame)
    }

    /// Bytes of head and header.
    #[inline]
    pub(super) fn before_body(&self) -> usize {
        HEAD + usize::from(self.header)
    }
}

/// The first thing in a row of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First<'a> {
    /// Not all of it is there. At least so many bytes are needed before another look says more.
    Incomplete { need: usize },
    /// A frame, all of it, `size` bytes.
    Whole { frame: Frame, header: &'a [u8], body: &'a [u8], size: usize },
    /// The beginning of a large message, `size` bytes; its body follows.
    Bulk { frame: Frame, header: &'a [u8], size: usize },
}

/// Reads the first frame of what came.
#[inline]
pub(super) fn first(bytes: &[u8], bulk_most: u64) -> Result<First<'_>, Garbled> {
    let Some(head) = bytes.first_chunk() else { return Ok(First::Incomplete { need: HEAD }) };
    let frame = Frame::read(head, bulk_most)?;
    let before_body = frame.before_body();
    let bulk = frame.what == What::Bulk;
    // A small body's length was checked, so this does not overflow.
    let size = if bulk { before_body } else { before_body + frame.len as usize };
    if bytes.len() < size {
        return Ok(First::Incomplete { need: size });
    }
    let header = &bytes[HEAD..before_body];
    Ok(if bulk {
        First::Bulk { frame, header, size }
    } else {
        First::Whole { frame, header, body: &bytes[before_body..size], size }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: u64 = 1 << 30;

    fn message(header: u16, len: u64) -> Frame {
        Frame { what: What::Message, kind: 7, header, len, ack: 99 }
    }

    #[test]
    fn heads_are_read_as_written() {
        for frame in [
            message(3, 4),
            Frame { what: What::Bulk, kind: u16::MAX, header: 0, len: MOST, ack: u64::MAX },
            Frame { what: What::Refused, kind: 0, header: 8, len: 0, ack: 0 },
            Frame::passing(What::Ping, 5),
        ] {
            assert_eq!(Frame::read(&frame.write(), MOST), Ok(frame));
        }
    }

    #[test]
    fn a_length_beyond_its_limit_is_not_believed() {
        let bulk = |len| Frame { what: What::Bulk, kind: 0, header: 0, len, ack: 0 };
        for frame in [
            message(HEADER_MOST as u16 + 1, 0),
            message(0, BODY_MOST as u64 + 1),
            bulk(MOST + 1),
            bulk(u64::MAX),
            Frame { header: 1, ..Frame::passing(What::Ack, 0) },
            Frame { len: 1, ..Frame::passing(What::Ping, 0) },
        ] {
            assert!(Frame::read(&frame.write(), MOST).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn a_frame_is_seen_when_all_of_it_is_there() {
        let frame = message(2, 3);
        let mut bytes = frame.write().to_vec();
        bytes.extend(b"hhbbb");
        for cut in 0..bytes.len() {
            let need = if cut < HEAD { HEAD } else { bytes.len() };
            assert_eq!(first(&bytes[..cut], MOST), Ok(First::Incomplete { need }));
        }
        bytes.push(9);
        let whole = First::Whole { frame, header: b"hh", body: b"bbb", size: HEAD + 5 };
        assert_eq!(first(&bytes, MOST), Ok(whole));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: no panic, nothing beyond the limits, nothing read that is not there.
        #[test]
        fn garbage_is_refused_or_within_limits(mut bytes in prop::collection::vec(any::<u8>(), 0..200), what in 0..9_u8, small: bool) {
            if bytes.len() >= HEAD && small {
                // Most garbage has no kind; this gets further.
                bytes[8..24].fill(0);
                bytes[20] = what;
            }
            match first(&bytes, MOST) {
                Ok(First::Whole { size, header, body, .. }) => {
                    prop_assert!(size <= bytes.len() && header.len() + body.len() + HEAD == size);
                }
                Ok(First::Bulk { frame, size, .. }) => prop_assert!(size <= bytes.len() && frame.len <= MOST),
                Ok(First::Incomplete { need }) => prop_assert!(need > bytes.len() && need <= HEAD + HEADER_MOST + BODY_MOST),
                Err(Garbled(_)) => {}
            }
        }
    }
}
