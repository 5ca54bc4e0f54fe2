//! A channel against a `VecDeque`.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*};

use super::memory;
use crate::channel::{Channel, ChannelError, Payload};
use crate::time::Deadline;
use crate::wait::Patience;

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    SendBlock(usize),
    Receive,
    Look,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![0usize..48, 0usize..5000];
    prop_oneof![
        10 => length.clone().prop_map(Step::Send),
        4 => length.prop_map(Step::SendBlock),
        9 => Just(Step::Receive),
        3 => Just(Step::Look),
        1 => Just(Step::Close),
    ]
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + seed) as u8).collect()
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Done(Option<Vec<u8>>),
    Full,
    Empty,
    Closed,
}

fn outcome(result: Result<Option<Vec<u8>>, ChannelError>) -> Outcome {
    match result {
        Ok(bytes) => Outcome::Done(bytes),
        Err(ChannelError::Full) => Outcome::Full,
        Err(ChannelError::Empty) => Outcome::Empty,
        Err(ChannelError::Closed) => Outcome::Closed,
        Err(other) => panic!("{other}"),
    }
}

fn act(channel: &Channel, step: &Step, seed: usize) -> Outcome {
    let now = Deadline::Now;
    outcome(match step {
        Step::Send(len) => channel.send(&bytes(*len, seed), now).map(|_| None),
        Step::SendBlock(len) => {
            let mut block = channel.loan(len + 10).unwrap();
            block.as_mut_slice()[..*len].copy_from_slice(&bytes(*len, seed));
            channel.send_block(block, *len, now).map(|_| None).map_err(|(error, _)| error)
        }
        Step::Receive => channel.recv(now).map(|message| Some(message.to_vec())),
        Step::Look => {
            let take = |_: u64, payload: Payload<'_>| Some(payload.to_vec());
            channel.recv_with(&mut Patience::new(), now, &|| false, take)
        }
        Step::Close => {
            channel.close();
            Ok(None)
        }
    })
}

struct Model {
    capacity: usize,
    line: VecDeque<Vec<u8>>,
    closed: bool,
}

impl Model {
    fn act(&mut self, step: &Step, seed: usize) -> Outcome {
        match step {
            Step::Send(_) | Step::SendBlock(_) if self.closed => return Outcome::Closed,
            Step::Send(_) | Step::SendBlock(_) if self.line.len() == self.capacity => {
                return Outcome::Full;
            }
            Step::Send(len) | Step::SendBlock(len) => self.line.push_back(bytes(*len, seed)),
            Step::Receive | Step::Look => {
                return match self.line.pop_front() {
                    Some(bytes) => Outcome::Done(Some(bytes)),
                    None if self.closed => Outcome::Closed,
                    None => Outcome::Empty,
                };
            }
            Step::Close => self.closed = true,
        }
        Outcome::Done(None)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_channel_is_a_queue(steps in vec(step(), 0..150), bits in 0u32..4) {
        let memory = memory();
        let channel = Channel::create(&memory, 1 << bits, 48).unwrap();
        let mut model = Model { capacity: channel.capacity(), line: VecDeque::new(), closed: false };
        for (seed, step) in steps.iter().enumerate() {
            prop_assert_eq!(act(&channel, step, seed), model.act(step, seed), "{:?}", step);
            prop_assert_eq!(channel.len(), model.line.len());
        }
        drop(channel);
        prop_assert_eq!(memory.heap_stats().in_use_blocks, 0);
    }
}
