//! Where an engine listens, as bytes that others carry without reading them.
//!
//! ```text
//! 't' │ version │ count │ for each: 4 or 6 │ 4 or 16 bytes │ port, little-endian │
//! ```

use std::net::{IpAddr, SocketAddr};

const KIND: u8 = b't';
const VERSION: u8 = 1;

/// Most places of one engine.
pub(super) const PLACES_MOST: usize = 4;

/// Puts places into bytes, in the order in which they are to be tried.
pub(in crate::transport) fn write(places: &[SocketAddr]) -> Vec<u8> {
    let places = &places[..places.len().min(PLACES_MOST)];
    // At most PLACES_MOST.
    let mut bytes = vec![KIND, VERSION, places.len() as u8];
    for place in places {
        match place.ip() {
            IpAddr::V4(v4) => {
                bytes.push(4);
                bytes.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                bytes.push(6);
                bytes.extend(v6.octets());
            }
        }
        bytes.extend(place.port().to_le_bytes());
    }
    bytes
}

/// Reads them, or says what is wrong.
pub(in crate::transport) fn read(bytes: &[u8]) -> Result<Vec<SocketAddr>, &'static str> {
    let [kind, version, count, rest @ ..] = bytes else { return Err("it is too short") };
    if *kind != KIND {
        return Err("it is of another kind of transport");
    }
    if *version != VERSION {
        return Err("it was written by another version");
    }
    if *count == 0 || usize::from(*count) > PLACES_MOST {
        return Err("it names no place, or too many");
    }
    let mut rest = rest;
    let places = (0..*count).map(|_| place(&mut rest)).collect::<Option<Vec<_>>>();
    places.filter(|_| rest.is_empty()).ok_or("its length is wrong")
}

fn place(rest: &mut &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = match take::<1>(rest)? {
        [4] => take::<4>(rest)?.into(),
        [6] => take::<16>(rest)?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_le_bytes(take(rest)?)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_read_as_written() {
        let places: Vec<SocketAddr> =
            ["10.0.0.1:7", "[fd00::9]:65535", "127.0.0.1:1"].map(|p| p.parse().unwrap()).into();
        assert_eq!(read(&write(&places)).unwrap(), places);
        let many = vec![places[0]; 9];
        assert_eq!(read(&write(&many)).unwrap().len(), PLACES_MOST);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = write(&["10.0.0.1:7".parse().unwrap()]);
        assert!(read(&[]).unwrap_err().contains("short"));
        assert!(read(b"u\x01\x01").unwrap_err().contains("kind"));
        assert!(read(b"t\x09\x01").unwrap_err().contains("version"));
        assert!(read(b"t\x01\x00").unwrap_err().contains("no place"));
        assert!(read(&good[..good.len() - 1]).unwrap_err().contains("length"));
        assert!(read(&[&good[..], b"x"].concat()).unwrap_err().contains("length"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn garbage_is_refused_or_reads_as_places(mut bytes in prop::collection::vec(any::<u8>(), 0..90), genuine: bool) {
            if genuine {
                bytes.splice(0..0, [KIND, VERSION]);
            }
            if let Ok(places) = read(&bytes) {
                prop_assert_eq!(write(&places), bytes);
            }
        }
    }
}
