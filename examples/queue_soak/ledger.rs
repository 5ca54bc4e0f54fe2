//! What producers and consumers write down in shared memory, where a `kill -9` cannot take it back.
use dragon::Result;
use dragon::sync::{Array, Value};
use serde::{Deserialize, Serialize};

/// Messages of one producer, at most.
pub const MOST: usize = 1 << 12;

/// Producers that can be written down; what further ones do is not.
pub const PRODUCERS: usize = 1 << 13;

/// The books of a soak. A handle is a value.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ledger {
    /// Of each producer: how many of its messages are put.
    put: Array<u32>,
    /// Of each message: how often it came.
    came: Array<u8>,
    /// Messages that came after a later one of the same producer to the same consumer.
    late: Value<u64>,
}

/// What the books say at the end.
#[derive(Debug)]
pub struct Balance {
    pub put: usize,
    pub lost: usize,
    pub doubled: usize,
    pub late: u64,
}

impl Ledger {
    /// Empty books.
    pub fn new() -> Result<Ledger> {
        Ok(Ledger { put: Array::zeroed(PRODUCERS)?, came: Array::zeroed(PRODUCERS * MOST)?, late: Value::new(0)? })
    }

    /// Message `number` of a producer is put.
    pub fn put(&self, producer: usize, number: usize) {
        self.put.set(producer, number as u32 + 1).expect("there is a line for each producer");
    }

    /// It came. `newest` is the newest that this consumer had of that producer.
    pub fn came(&self, producer: usize, number: usize, newest: &mut usize) {
        self.came.update(producer * MOST + number, |times| *times += 1).expect("there is a place for each message");
        if number < *newest {
            self.late.update(|late| *late += 1).expect("it is on this node");
        }
        *newest = number.max(*newest);
    }

    /// A message of which the put returned, and which never came, is lost.
    pub fn balance(&self) -> Result<Balance> {
        let (put, came) = (self.put.to_vec()?, self.came.to_vec()?);
        let lost = |(n, came): (&u32, &[u8])| came[..*n as usize].iter().filter(|times| **times == 0).count();
        Ok(Balance {
            put: put.iter().map(|n| *n as usize).sum(),
            lost: put.iter().zip(came.chunks(MOST)).map(lost).sum(),
            doubled: came.iter().filter(|times| **times > 1).count(),
            late: self.late.get()?,
        })
    }
}
