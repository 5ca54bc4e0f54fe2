//! Several puts as few messages: gathered by the node they are for, and all nodes at work at the same time.
//!
//! ```text
//! record   shard:4 key length:4 value length:7 kept, removes, dated: a bit each of one; little-endian
//!          checkpoint:4, if dated; else that of the whole batch; key; value
//! ```

use super::DDict;
use super::encode::{with_key, with_value};
use super::far::{Calls, Head, op};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::prim::Ordering;

/// From so many bytes on the records for a place are sent.
const ENOUGH: usize = 32 << 10;
/// Calls of a batch that wait for an answer at a time.
const IN_FLIGHT: usize = 16;
const RECORD: usize = 16;

/// A put of a batch.
pub(super) struct Record<'r> {
    pub(super) shard: usize,
    pub(super) key: &'r [u8],
    pub(super) value: &'r [u8],
    pub(super) kept: bool,
    /// The checkpoint; none: that of the batch.
    pub(super) at: Option<u32>,
}

/// Bits of a record's last byte.
const KEPT: u8 = 1;
const REMOVES: u8 = 2;
const DATED: u8 = 4;

/// Adds a record to a batch.
pub(super) fn add(space: &mut Vec<u8>, record: &Record<'_>, removes: bool) {
    let last = if record.kept { KEPT } else { 0 } | if removes { REMOVES } else { 0 };
    begin(space, record.shard, record.key, record.value.len(), (last, record.at));
    space.extend_from_slice(record.value);
}

/// Shows the records of a batch, and whether they remove their key, until `see` refuses.
pub(super) fn each(mut bytes: &[u8], mut see: impl FnMut(Record<'_>, bool) -> Result<()>) -> Result<()> {
    let short = || Error::new(ErrorKind::Io, "a batch is cut short");
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<RECORD>().ok_or_else(short)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let word = u64::from_le_bytes([head[8], head[9], head[10], head[11], head[12], head[13], head[14], 0]);
        let dated = head[15] & DATED != 0;
        let (at, rest) = rest.split_at_checked(if dated { 4 } else { 0 }).ok_or_else(short)?;
        let at = at.first_chunk().map(|at| u32::from_le_bytes(*at));
        let (key, rest) = rest.split_at_checked(number(4)).ok_or_else(short)?;
        let (value, rest) = rest.split_at_checked(word as usize).ok_or_else(short)?;
        see(Record { shard: number(0), key, value, kept: head[15] & KEPT != 0, at }, head[15] & REMOVES != 0)?;
        bytes = rest;
    }
    Ok(())
}

/// Puts that are on their way.
pub(super) struct Outbox<'d> {
    calls: Calls<'d>,
    /// Records by place, not sent yet.
    gathered: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Outbox<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbox({} calls under way)", self.calls.under_way())
    }
}

impl<'d> Outbox<'d> {
    /// For a dictionary of several nodes.
    pub(super) fn of<K, V, C>(dict: &'d DDict<K, V, C>) -> Result<Option<Outbox<'d>>> {
        let Some(tie) = &dict.tie else { return Ok(None) };
        let gathered = vec![Vec::new(); tie.map.directory.places.len()];
        Ok(Some(Outbox { calls: Calls::new(&tie.map)?, gathered }))
    }

    /// Adds a put, if it is for another node. Whether it was.
    pub(super) fn add<K: 'static, V: 'static, C: Codec<K> + Codec<V>>(
        &mut self,
        dict: &DDict<K, V, C>,
        (key, value): (&K, &V),
        kept: bool,
    ) -> Result<bool> {
        with_key::<K, C, _>(key, |bytes| {
            let key = dict.body.table().key(bytes);
            let Some((_, spot)) = dict.away_to_write(&key) else { return Ok(false) };
            let space = &mut self.gathered[spot.place];
            let added = match <C as Codec<V>>::length(value) {
                Some(len) => {
                    begin(space, spot.shard, bytes, len, (u8::from(kept), None));
                    let at = space.len();
                    space.resize(at + len, 0);
                    <C as Codec<V>>::write(value, &mut space[at..]);
                    true
                }
                None => with_value::<V, C, _>(value, |value, cargo| {
                    if cargo.is_empty() {
                        begin(space, spot.shard, bytes, value.len(), (u8::from(kept), None));
                        space.extend_from_slice(value);
                    }
                    Ok(cargo.is_empty())
                })?,
            };
            if space.len() >= ENOUGH || !added {
                self.send(dict, spot.place)?;
            }
            Ok(added)
        })
    }

    fn send<K, V, C>(&mut self, dict: &DDict<K, V, C>, place: usize) -> Result<()> {
        while self.calls.under_way() >= IN_FLIGHT
            && let Some((_, reply)) = self.calls.next()?
        {
            reply?;
        }
        let records = std::mem::take(&mut self.gathered[place]);
        if records.is_empty() {
            return Ok(());
        }
        let writer = dict.tie.as_ref().map_or(0, |tie| tie.writer());
        // Relaxed: this handle's own.
        let head = Head { writer, at: dict.at.load(Ordering::Relaxed), ..Head::new(op::BATCH) };
        self.calls.ask_with(place, &head, &records)?;
        mark!("far.batch.sent");
        self.gathered[place] = records;
        self.gathered[place].clear();
        Ok(())
    }

    /// Sends the rest, and waits until all is there.
    pub(super) fn finish<K, V, C>(mut self, dict: &DDict<K, V, C>) -> Result<()> {
        for place in 0..self.gathered.len() {
            self.send(dict, place)?;
        }
        mark!("far.batch.all_sent");
        self.calls.finish(|_, _| Ok(()))
    }
}

fn begin(space: &mut Vec<u8>, shard: usize, key: &[u8], value: usize, (last, at): (u8, Option<u32>)) {
    space.extend_from_slice(&(shard as u32).to_le_bytes());
    space.extend_from_slice(&(key.len() as u32).to_le_bytes());
    space.extend_from_slice(&(value as u64).to_le_bytes()[..7]);
    space.push(last | if at.is_some() { DATED } else { 0 });
    at.iter().for_each(|at| space.extend_from_slice(&at.to_le_bytes()));
    space.extend_from_slice(key);
}
