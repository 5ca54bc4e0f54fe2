//! Whether recorded calls can have been those of one register per key.
//!
//! Every value is written once, so the writes and reads of a value form a cluster, and the test of Gibbons and Korach
//! ("Testing shared memories", 1997) decides in `n log n` steps. Of a cluster the earliest end and the latest begin
//! span a zone: forward, if some call of it ended before another began, so that the value was there all the time
//! in between; backward otherwise. A history is that of a register if and only if no read ends before its write
//! begins, no two forward zones overlap, and no backward zone lies within a forward one.

use std::collections::BTreeMap;
use std::path::Path;

/// What a line of a log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    WriteBegins = 1,
    WriteEnds = 2,
    ReadBegins = 3,
    ReadEnds = 4,
}

/// A call and its result.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub writes: bool,
    pub key: u64,
    pub value: u64,
    pub begin: u64,
    /// `u64::MAX`, if its caller did not live to see it.
    pub end: u64,
}

pub struct Checked {
    /// Writes of which nobody learnt whether they came about.
    pub open_writes: usize,
}

/// The calls of all clients.
pub fn read_log(folder: &Path) -> Vec<Call> {
    let mut calls = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let (lines, rest) = bytes.as_chunks::<32>();
        assert!(rest.is_empty(), "a line was written by one call");
        for line in lines {
            let [kind, key, value, time] =
                [0, 8, 16, 24].map(|at| u64::from_ne_bytes(line[at..at + 8].try_into().unwrap()));
            match kind {
                1 | 3 => calls.push(Call { writes: kind == 1, key, value, begin: time, end: u64::MAX }),
                _ => {
                    let last: &mut Call = calls.last_mut().unwrap();
                    (last.value, last.end) = (value, time);
                }
            }
        }
    }
    // A read whose end nobody wrote down told nobody anything.
    calls.retain(|call| call.writes || call.end != u64::MAX);
    calls
}

/// The calls with one value of a key.
#[derive(Clone, Copy, Debug)]
struct Zone {
    value: u64,
    earliest_end: u64,
    latest_begin: u64,
}

impl Zone {
    fn is_forward(&self) -> bool {
        self.earliest_end < self.latest_begin
    }

    fn span(&self) -> (u64, u64) {
        (self.earliest_end.min(self.latest_begin), self.earliest_end.max(self.latest_begin))
    }
}

/// Panics if some key's history is not a register's.
pub fn check(calls: &[Call]) -> Checked {
    let mut keys: BTreeMap<u64, BTreeMap<u64, Vec<Call>>> = BTreeMap::new();
    for call in calls {
        keys.entry(call.key).or_default().entry(call.value).or_default().push(*call);
    }
    let mut open_writes = 0;
    for (key, clusters) in keys {
        let zones = clusters.into_iter().filter_map(|(value, cluster)| {
            let write = cluster.iter().find(|call| call.writes);
            let write = write.unwrap_or_else(|| panic!("key {key}: {value:#x} was read and never written"));
            let reads = cluster.iter().filter(|call| !call.writes);
            for read in reads.clone() {
                assert!(read.end >= write.begin, "key {key}: {value:#x} was read before it was written");
            }
            open_writes += usize::from(write.end == u64::MAX);
            // One that nobody read and whose writer died need not have been.
            (write.end != u64::MAX || reads.count() > 0).then(|| Zone {
                value,
                earliest_end: cluster.iter().map(|call| call.end).min().unwrap_or(u64::MAX),
                latest_begin: cluster.iter().map(|call| call.begin).max().unwrap_or(0),
            })
        });
        judge(key, zones.collect());
    }
    Checked { open_writes }
}

fn judge(key: u64, zones: Vec<Zone>) {
    let (mut forward, backward): (Vec<Zone>, Vec<Zone>) = zones.into_iter().partition(Zone::is_forward);
    forward.sort_by_key(Zone::span);
    for two in forward.windows(2) {
        let (first, second) = (two[0], two[1]);
        assert!(
            first.span().1 <= second.span().0,
            "key {key}: {:#x} and {:#x} were both the value at the same time",
            first.value,
            second.value
        );
    }
    for zone in backward {
        let (low, high) = zone.span();
        let before = forward.partition_point(|forward| forward.span().0 < low);
        let around = before.checked_sub(1).map(|at| forward[at]).filter(|forward| high < forward.span().1);
        assert!(around.is_none(), "key {key}: {:#x} was written and gone while {around:?} was the value", zone.value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, check};

    fn write(value: u64, begin: u64, end: u64) -> Call {
        Call { writes: true, key: 1, value, begin, end }
    }

    fn read(value: u64, begin: u64, end: u64) -> Call {
        Call { writes: false, ..write(value, begin, end) }
    }

    #[test]
    fn a_history_of_a_register_passes() {
        check(&[write(1, 0, 1), read(1, 2, 3), write(2, 2, 9), read(2, 4, 5), read(2, 6, 7), write(3, 8, u64::MAX)]);
        check(&[write(1, 0, 1), write(2, 2, u64::MAX), read(1, 3, 4), read(2, 5, 6)]);
    }

    #[test]
    #[should_panic(expected = "at the same time")]
    fn old_after_new_is_found() {
        check(&[write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6), read(2, 7, 8)]);
    }

    #[test]
    #[should_panic(expected = "written and gone")]
    fn a_lost_write_is_found() {
        check(&[write(1, 0, 1), write(2, 3, 4), read(1, 6, 7)]);
    }

    #[test]
    #[should_panic(expected = "before it was written")]
    fn a_value_from_the_future_is_found() {
        check(&[read(1, 0, 1), write(1, 2, 3)]);
    }
}
