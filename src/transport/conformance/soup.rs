//! Anything at random: sizes, lanes, directions, and how often who polls.

use std::{collections::BTreeMap, time::Instant};

use super::{Bed, LONG, Note, parties, pattern, to};
use crate::transport::{LANES, Token};

/// Numbers that look random and are the same in every run with one seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `most`.
    pub(crate) fn roll(&mut self, most: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % most
    }
}

pub(crate) fn anything_at_random_arrives_in_order<B: Bed>() {
    (1..=4).for_each(|seed| soup::<B>(&mut Dice(seed)));
}

fn soup<B: Bed>(dice: &mut Dice) {
    const NODES: u64 = 3;
    let messages = 600 / B::SLOWER;
    let mut all = parties::<B>(NODES as u32);
    // What was sent from, to, on lane; in order.
    let mut sent: BTreeMap<(u32, u32, u8), Vec<(usize, u64)>> = BTreeMap::new();
    let (mut tokens, begin) = (0, Instant::now());
    while tokens < messages {
        let (from, node, lane) = (dice.roll(NODES) as u32, dice.roll(NODES) as u32, dice.roll(u64::from(LANES)) as u8);
        if from != node {
            let (large, seed) = (dice.roll(4) == 0, dice.roll(1000));
            let size = dice.roll(if large { 300_000 } else { 9000 }) as usize;
            let (body, party) = (pattern(size, seed), &mut all[from as usize]);
            let taken = if large {
                let body = super::bulk::bulk(party, &body);
                party.engine.send_bulk(to(node, lane), 1, &[], body, Token(tokens + 1))
            } else {
                party.engine.send(to(node, lane), 0, &[], &body, Token(tokens + 1))
            };
            if taken.is_ok() {
                tokens += 1;
                sent.entry((from, node, lane)).or_default().push((size, seed));
            }
        }
        let who = dice.roll(NODES + 2) as usize;
        if let Some(party) = all.get_mut(who) {
            party.poll();
        }
        assert!(begin.elapsed() < LONG);
    }
    super::until(&mut all, |all| all.iter().map(|party| party.ended() as u64).sum::<u64>() == messages);
    for (node, party) in all.iter().enumerate() {
        for note in &party.book.notes {
            let (from, kind, body) = match note {
                Note::Message { from, kind, body, .. } | Note::Landed { from, kind, body, .. } => (from, kind, body),
                Note::Done { outcome, .. } => {
                    assert_eq!(*outcome, Ok(()));
                    continue;
                }
                Note::Lost(lost) => panic!("{lost}"),
            };
            let (size, seed) = sent.get_mut(&(from.node, node as u32, from.lane)).unwrap().remove(0);
            assert!(*body == pattern(size, seed) && (*kind == 1) == matches!(note, Note::Landed { .. }));
        }
    }
    assert!(sent.values().all(Vec::is_empty), "something is missing: {sent:?}");
}
