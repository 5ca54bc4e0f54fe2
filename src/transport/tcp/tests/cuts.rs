//! Connections that break: nothing that was accepted is lost, and nothing comes twice.

use std::time::{Duration, Instant};

use super::beds::{bridged, identity, settings, tuning};
use super::proxy::{Holes, Proxy};
use crate::transport::conformance::bulk::bulk;
use crate::transport::conformance::soup::Dice;
use crate::transport::conformance::{Note, Party, pattern, to, until};
use crate::transport::error::Why;
use crate::transport::{Engine, Settings, Tcp, Token};

/// What a network does to connections now and then.
fn mishap(proxies: &mut [Proxy; 2], dice: &mut Dice) {
    let proxy = &mut proxies[dice.roll(2) as usize];
    match dice.roll(5) {
        0 => proxy.half_close(),
        1 => proxy.most = 100 + dice.roll(20_000) as usize,
        2 => proxy.delay = Duration::from_micros(dice.roll(3000)),
        _ => proxy.cut(),
    }
}

/// Sends numbered messages, small and large, both ways, while mishaps happen every so many turns.
fn storm(seed: u64, settings: &Settings, count: u64, turns: u64) {
    let dice = &mut Dice(seed);
    let (mut all, mut proxies) = bridged(settings, tuning());
    let mut sent = [0, 0];
    until(&mut all, |all| {
        proxies.iter_mut().for_each(Proxy::turn);
        if dice.roll(turns) == 0 {
            mishap(&mut proxies, dice);
        }
        for me in [0, 1] {
            if sent[me] < count && dice.roll(3) == 0 && send(&mut all[me], 1 - me as u32, sent[me]) {
                sent[me] += 1;
            }
        }
        all.iter().all(|party| party.ended() as u64 == count)
    });
    for party in &all {
        let mut next = 0;
        for note in &party.book.notes {
            match note {
                Note::Message { kind, body, .. } | Note::Landed { kind, body, .. } => {
                    assert_eq!(u64::from(*kind), next, "seed {seed}");
                    assert!(*body == pattern(size(next), next), "seed {seed}, message {next}");
                    next += 1;
                }
                Note::Done { outcome, .. } => assert_eq!(*outcome, Ok(()), "seed {seed}"),
                Note::Lost(lost) => panic!("seed {seed}: {lost}"),
            }
        }
        assert_eq!(next, count);
    }
}

fn size(number: u64) -> usize {
    if number.is_multiple_of(5) { 40_000 } else { (number % 100) as usize }
}

fn send(party: &mut Party, node: u32, number: u64) -> bool {
    let (body, token) = (pattern(size(number), number), Token(number + 1));
    let sent = if number.is_multiple_of(5) {
        let body = bulk(party, &body);
        party.engine.send_bulk(to(node, 0), number as u16, &[], body, token)
    } else {
        party.engine.send(to(node, 0), number as u16, &[], &body, token)
    };
    sent.is_ok()
}

#[test]
fn nothing_is_lost_or_doubled_whatever_breaks() {
    (1..=8).for_each(|seed| storm(seed, &settings(), 200, 60));
}

#[test]
fn nor_when_it_is_encrypted() {
    (1..=3).for_each(|seed| storm(seed, &Settings { encryption: true, ..settings() }, 40, 60));
}

#[test]
fn a_large_body_goes_on_where_it_was_cut() {
    let (mut all, mut proxies) = bridged(&settings(), tuning());
    let len = 8 << 20;
    let body = bulk(&all[0], &pattern(len, 3));
    all[0].engine.send_bulk(to(1, 0), 0, &[], body, Token(1)).unwrap();
    let (mut cuts, mut through) = (0, 0);
    until(&mut all, |all| {
        proxies.iter_mut().for_each(Proxy::turn);
        if proxies[1].record[0].len() - through > len / 4 {
            through = proxies[1].record[0].len();
            proxies[1].cut();
            cuts += 1;
        }
        all[0].ended() == 1
    });
    assert!(cuts >= 3);
    let counts = all[0].engine.counts();
    assert!(counts.broken >= 3 && (counts.resent as usize) < 3 * len / 2 * cuts, "{counts:?}");
    assert!(matches!(&all[1].book.notes[0], Note::Landed { body, .. } if *body == pattern(len, 3)));
}

#[test]
fn calls_that_cross_on_a_slow_network_end_in_one_connection() {
    for seed in 1..=30 {
        let dice = &mut Dice(seed);
        let (mut all, mut proxies) = bridged(&settings(), tuning());
        proxies.iter_mut().for_each(|proxy| proxy.delay = Duration::from_micros(dice.roll(4000)));
        let begin = Instant::now();
        let late = Duration::from_micros(dice.roll(6000));
        send(&mut all[0], 1, 1);
        let mut answered = false;
        until(&mut all, |all| {
            proxies.iter_mut().for_each(Proxy::turn);
            if !answered && begin.elapsed() >= late {
                answered = send(&mut all[1], 0, 1);
            }
            all.iter().all(|party| party.ended() == 1)
        });
        // The one that gave way is gone in a while.
        until(&mut all, |_| {
            proxies.iter_mut().for_each(Proxy::turn);
            proxies.iter().map(Proxy::links).sum::<usize>() == 1
        });
        assert!(all.iter().all(|party| party.bodies().len() == 1 && party.losses().is_empty()));
        assert_eq!(all[0].engine.counts().strangers + all[1].engine.counts().strangers, 0);
    }
}

#[test]
fn one_direction_of_calling_is_enough() {
    for (caller, called) in [(0, 1), (1, 0)] {
        let (mut all, mut proxies) = bridged(&settings(), tuning());
        // Calls the other way reach nobody, and nobody says so.
        proxies[caller].holes = Holes::BOTH;
        for round in 1..=3 {
            send(&mut all[caller], called as u32, 1);
            send(&mut all[called], caller as u32, 1);
            until(&mut all, |all| {
                proxies[called].turn();
                all.iter().all(|party| party.bodies().len() == round)
            });
            proxies[called].cut();
        }
    }
}

#[test]
fn a_process_that_is_gone_is_noticed_at_once() {
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        for gone in [0, 1] {
            let open = |node| Tcp::open(identity(node), settings(), tuning()).unwrap();
            let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(open(0)), Box::new(open(1))];
            super::beds::introduce(&mut engines);
            let mut all: Vec<Party> = engines.into_iter().map(Party::new).collect();
            let left = 1 - gone as u32;
            all[gone].engine.send(to(left, 0), 0, &[], b"x", Token::NONE).unwrap();
            until(&mut all, |all| all[left as usize].bodies().len() == 1);
            // As when it is killed: the system closes what it had.
            drop(all.remove(gone));
            let begin = Instant::now();
            until(&mut all, |all| !all[0].losses().is_empty());
            quickest = quickest.min(begin.elapsed());
            assert!(matches!(all[0].losses()[0].why, Why::Gone { .. }), "{:?}", all[0].losses());
        }
    }
    // The best of them: others are at work on this machine.
    assert!(quickest < Duration::from_millis(50), "{quickest:?}");
}
