//! What the processes do that are going to be killed.
use std::{collections::HashMap, thread};

use dragon::Queue;

use crate::ledger::{Ledger, MOST, PRODUCERS};

/// Producer, number, and bytes.
pub type Messages = Queue<(usize, usize, Vec<u8>)>;

/// Of which role somebody is: what it works with, and which producer it is.
pub type Job = (Messages, Ledger, usize);

/// Puts until it has put enough, or the queue is closed.
pub fn produce((queue, ledger, me): Job) {
    // Most lie in the ring itself, some in a block of their own.
    let body = |number: usize| vec![number as u8; if number.is_multiple_of(16) { 3000 } else { 8 }];
    for number in (0..MOST).take_while(|_| me < PRODUCERS) {
        if queue.put((me, number, body(number))).is_err() {
            break;
        }
        ledger.put(me, number);
        // Without a bound it would grow without end.
        while queue.len() > 5000 && !queue.is_closed() {
            thread::yield_now();
        }
    }
}

/// Gets until the queue is closed and empty.
pub fn consume((queue, ledger, _): Job) {
    let mut newest = HashMap::new();
    for message in &queue {
        let (producer, number, body) = message.expect("it can be read");
        assert!(body.iter().all(|byte| *byte == number as u8), "its bytes are those that were put");
        ledger.came(producer, number, newest.entry(producer).or_insert(0));
    }
}
