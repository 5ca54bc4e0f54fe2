//! Peers from which nothing comes: patience, and its end.

use std::time::{Duration, Instant};

use super::beds::{bridged, identity, nodes, settings, tuning};
use super::proxy::{Holes, Proxy};
use crate::transport::conformance::{Party, for_a_while, to, until};
use crate::transport::error::Why;
use crate::transport::{Engine, SendError, Settings, Tcp, Token, Tuning, Undelivered};

const SILENCE: Duration = Duration::from_millis(600);

fn impatient() -> Settings {
    Settings { silence: SILENCE, ..settings() }
}

/// Two nodes with an open lane through proxies.
fn connected() -> (Vec<Party>, [Proxy; 2]) {
    let (mut all, mut proxies) = bridged(&impatient(), tuning());
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token::NONE).unwrap();
    until(&mut all, |all| {
        proxies.iter_mut().for_each(Proxy::turn);
        all[1].bodies().len() == 1
    });
    (all, proxies)
}

#[test]
fn who_has_nothing_to_say_is_not_lost() {
    let (mut all, mut proxies) = connected();
    let begin = Instant::now();
    until(&mut all, |_| {
        proxies.iter_mut().for_each(Proxy::turn);
        begin.elapsed() > 3 * SILENCE
    });
    assert!(all.iter().all(|party| party.losses().is_empty() && party.engine.counts().broken == 0));
}

#[test]
fn a_short_silence_is_survived() {
    let (mut all, mut proxies) = connected();
    all[0].engine.send(to(1, 0), 0, &[], b"y", Token(1)).unwrap();
    let begin = Instant::now();
    until(&mut all, |all| {
        let hole = begin.elapsed() < SILENCE / 2;
        proxies.iter_mut().for_each(|proxy| {
            proxy.holes = if hole { Holes::BOTH } else { Holes::default() };
            proxy.turn();
        });
        all[0].ended() == 1
    });
    assert!(begin.elapsed() >= SILENCE / 2);
    assert!(all.iter().all(|party| party.losses().is_empty() && party.engine.counts().broken == 0));
}

#[test]
fn a_long_silence_is_the_end_for_both_and_in_time() {
    for holes in [Holes::BOTH, Holes { there: true, back: false }, Holes { there: false, back: true }] {
        let (mut all, mut proxies) = connected();
        all[0].engine.send(to(1, 0), 0, &[], b"y", Token(1)).unwrap();
        proxies.iter_mut().for_each(|proxy| proxy.holes = holes);
        let begin = Instant::now();
        until(&mut all, |all| {
            proxies.iter_mut().for_each(Proxy::turn);
            all.iter().any(|party| !party.losses().is_empty())
        });
        let took = begin.elapsed();
        assert!(took > SILENCE / 2 && took < 2 * SILENCE, "{took:?}");
        until(&mut all, |all| {
            proxies.iter_mut().for_each(Proxy::turn);
            all.iter().all(|party| !party.losses().is_empty())
        });
        assert!(all[0].ended() == 1 && begin.elapsed() < 4 * SILENCE);
        let whys: Vec<Why> = all.iter().map(|party| party.losses()[0].why.clone()).collect();
        assert!(whys.contains(&Why::Silent(SILENCE)), "{whys:?}");
    }
}

/// A process that was stopped: others lose it, and it does not come back under its old number.
#[test]
fn who_wakes_up_after_being_declared_lost_is_refused_by_its_epoch() {
    let mut all: Vec<Party> = nodes(2, &impatient()).into_iter().map(Party::new).collect();
    all[1].engine.send(to(0, 0), 0, &[], b"x", Token::NONE).unwrap();
    until(&mut all, |all| all[0].bodies().len() == 1);
    // Nobody polls the second.
    until(&mut all[..1], |all| !all[0].losses().is_empty());
    assert_eq!(all[0].losses()[0].why, Why::Silent(SILENCE));
    all[1].engine.send(to(0, 0), 0, &[], b"from the dead", Token(1)).unwrap();
    until(&mut all, |all| !all[1].losses().is_empty());
    assert_eq!(all[1].losses()[0].why, Why::Expelled);
    assert_eq!((all[0].bodies().len(), all[1].ended()), (1, 1));
    assert_eq!(all[0].losses().len(), 1);
    // Its successor is another, and welcome once it has been introduced.
    let mut next = identity(1);
    next.epoch += 100;
    let mut engine = Tcp::open(next.clone(), impatient(), tuning()).unwrap();
    engine.know(0, identity(0).epoch, &all[0].engine.address()).unwrap();
    all[1] = Party::new(Box::new(engine));
    all[1].engine.send(to(0, 0), 0, &[], b"from the living", Token(1)).unwrap();
    for_a_while(&mut all, Duration::from_millis(50));
    assert_eq!(all[1].ended(), 0, "nobody has introduced it");
    let address = all[1].engine.address();
    all[0].engine.know(1, next.epoch, &address).unwrap();
    until(&mut all, |all| all[1].ended() == 1);
    assert_eq!(all[0].bodies().last().unwrap(), b"from the living");
}

/// All stood still, as with a suspended machine: nobody was silent towards anybody.
#[test]
fn who_did_not_listen_does_not_blame_others() {
    let mut all: Vec<Party> = nodes(2, &impatient()).into_iter().map(Party::new).collect();
    all[1].engine.send(to(0, 0), 0, &[], b"x", Token::NONE).unwrap();
    until(&mut all, |all| all[0].bodies().len() == 1);
    // Time itself is what is waited for.
    std::thread::sleep(2 * SILENCE);
    for_a_while(&mut all, SILENCE / 4);
    all[0].engine.send(to(1, 0), 0, &[], b"good morning", Token(1)).unwrap();
    until(&mut all, |all| all[0].ended() == 1);
    assert!(all.iter().all(|party| party.losses().is_empty()));
}

#[test]
fn nobody_answers_and_the_error_says_where_and_what_to_do() {
    let connect = Duration::from_millis(300);
    let (mut all, mut proxies) = bridged(&settings(), Tuning { connect, ..tuning() });
    proxies.iter_mut().for_each(|proxy| proxy.holes = Holes::BOTH);
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    let begin = Instant::now();
    until(&mut all, |all| {
        proxies.iter_mut().for_each(Proxy::turn);
        !all[0].losses().is_empty()
    });
    assert!(begin.elapsed() >= connect && begin.elapsed() < connect + SILENCE);
    let said = all[0].losses()[0].to_string();
    for part in ["127.0.0.1:", "0.3 s", "DRAGON_PORT", "DRAGON_NETWORK_PREFIX"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(all[0].ended(), 1);
}

#[test]
fn a_port_where_nobody_is_is_an_error_at_once() {
    let mut all: Vec<Party> = nodes(2, &settings()).into_iter().map(Party::new).collect();
    drop(all.remove(1));
    let begin = Instant::now();
    // The system may say so at once, or a moment later.
    let sent = all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1));
    until(&mut all, |all| !all[0].losses().is_empty());
    assert!(begin.elapsed() < SILENCE);
    assert!(matches!(all[0].losses()[0].why, Why::Unreachable { .. }));
    if let Err(error) = sent {
        return assert!(matches!(error, SendError::Lost(_)));
    }
    let ended = &all[0].book.notes[0];
    assert!(matches!(ended, crate::transport::conformance::Note::Done { outcome: Err(Undelivered::Lost(_)), .. }));
}
