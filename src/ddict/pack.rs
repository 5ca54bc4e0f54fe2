//! Many keys, or entries, as the bytes of one message.
//!
//! ```text
//! key      length:4 bytes                                                  little-endian
//! item     key length:4 version:4 value length:7 kept:1 and cargo:2 in one; key; value
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::table::Item;

const KEPT: u8 = 1;
const CARGO: u8 = 2;

/// Adds a key.
pub(super) fn add_key(bytes: &mut Vec<u8>, key: &[u8]) {
    bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
    bytes.extend_from_slice(key);
}

/// Adds an entry.
pub(super) fn add_item(bytes: &mut Vec<u8>, item: &Item<'_>) {
    bytes.extend_from_slice(&(item.key.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&item.version.to_le_bytes());
    bytes.extend_from_slice(&(item.value.len() as u64).to_le_bytes()[..7]);
    bytes.push(if item.kept { KEPT } else { 0 } | if item.cargo { CARGO } else { 0 });
    bytes.extend_from_slice(item.key);
    bytes.extend_from_slice(item.value);
}

fn short() -> Error {
    Error::new(ErrorKind::Io, "what another node says of its keys is cut short")
}

fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Result<&'b [u8]> {
    let (front, rest) = bytes.split_at_checked(len).ok_or_else(short)?;
    *bytes = rest;
    Ok(front)
}

fn number(bytes: &mut &[u8]) -> Result<u32> {
    take(bytes, 4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// The keys that were added.
pub(super) fn keys(mut bytes: &[u8]) -> impl Iterator<Item = Result<&[u8]>> {
    std::iter::from_fn(move || if bytes.is_empty() { None } else { Some(key(&mut bytes)) })
}

fn key<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8]> {
    let len = number(bytes)? as usize;
    // What cannot be read ends the list.
    take(bytes, len).inspect_err(|_| *bytes = &[])
}

/// The entries that were added.
pub(super) fn items(mut bytes: &[u8]) -> impl Iterator<Item = Result<Item<'_>>> {
    std::iter::from_fn(move || if bytes.is_empty() { None } else { Some(item(&mut bytes)) })
}

fn item<'b>(bytes: &mut &'b [u8]) -> Result<Item<'b>> {
    read_item(bytes).inspect_err(|_| *bytes = &[])
}

fn read_item<'b>(bytes: &mut &'b [u8]) -> Result<Item<'b>> {
    let (key, version) = (number(bytes)? as usize, number(bytes)?);
    let word = take(bytes, 8)?;
    let value = u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], 0]) as usize;
    let (kept, cargo) = (word[7] & KEPT != 0, word[7] & CARGO != 0);
    Ok(Item { key: take(bytes, key)?, value: take(bytes, value)?, kept, version, cargo })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_comes_out_and_what_is_cut_short_is_an_error() {
        let mut bytes = Vec::new();
        let item = Item { key: b"ab", value: b"cde", kept: true, version: 7, cargo: false };
        (0..3).for_each(|_| add_item(&mut bytes, &item));
        let read: Vec<_> = items(&bytes).map(Result::unwrap).collect();
        assert!(read.len() == 3 && read.iter().all(|one| (one.key, one.value) == (item.key, item.value)));
        assert!(read.iter().all(|one| one.kept && !one.cargo && one.version == 7));
        assert!((1..bytes.len() / 3).all(|len| items(&bytes[..len]).next().unwrap().is_err()));
        let mut packed = Vec::new();
        [&b"x"[..], b"", b"yz"].iter().for_each(|key| add_key(&mut packed, key));
        assert_eq!(keys(&packed).map(Result::unwrap).collect::<Vec<_>>(), [&b"x"[..], b"", b"yz"]);
        assert!(keys(&packed[..packed.len() - 1]).last().unwrap().is_err());
    }
}
