//! What members of a job are told when something is wrong with them, and what they may not send.

use std::time::Duration;

use super::super::frame::{Frame, What};
use super::super::handshake::{HELLO, Incarnation};
use super::beds::{identity, introduce, nodes, settings, tuning};
use super::fake::{Fake, hello};
use super::proxy::Proxy;
use crate::transport::conformance::soup::Dice;
use crate::transport::conformance::{Party, for_a_while, to, until};
use crate::transport::error::Why;
use crate::transport::{BODY_MOST, Engine, Identity, Lost, Secret, Settings, Tcp, Token, Tuning};

/// Two nodes that should belong together but do not.
fn pair(second: Identity, settings_of_second: Settings) -> Vec<Party> {
    let open = |identity, settings| Box::new(Tcp::open(identity, settings, tuning()).unwrap()) as Box<dyn Engine>;
    let mut engines = vec![open(identity(0), settings()), open(second, settings_of_second)];
    introduce(&mut engines);
    engines.into_iter().map(Party::new).collect()
}

/// How the first loses the second, and the second the first, when both want to talk.
fn quarrel(mut all: Vec<Party>) -> [Lost; 2] {
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    until(&mut all, |all| !all[0].losses().is_empty());
    all[1].engine.send(to(0, 1), 0, &[], b"x", Token(1)).unwrap();
    until(&mut all, |all| !all[1].losses().is_empty());
    assert!(all.iter().all(|party| party.bodies().is_empty() && party.ended() == 1));
    [0, 1].map(|at| all[at].losses()[0].clone())
}

#[test]
fn two_builds_in_one_job_are_named_on_both_sides() {
    let losses = quarrel(pair(Identity { build: [0xab; 16], ..identity(1) }, settings()));
    for lost in &losses {
        assert!(matches!(lost.why, Why::OtherBuild { .. }));
        let said = lost.to_string();
        assert!(said.contains(&"ab".repeat(16)) && said.contains(&"07".repeat(16)), "{said}");
    }
}

#[test]
fn encryption_on_one_side_only_is_named_with_its_knob() {
    for lost in quarrel(pair(identity(1), Settings { encryption: true, ..settings() })) {
        assert!(lost.to_string().contains("DRAGON_ENCRYPTION"), "{lost}");
    }
}

#[test]
fn another_secret_is_no_member() {
    let all = pair(Identity { secret: Secret([1; 32]), ..identity(1) }, settings());
    for lost in quarrel(all) {
        assert!(matches!(lost.why, Why::Stranger { .. }));
    }
}

#[test]
fn who_is_somebody_else_is_not_taken_for_the_peer() {
    let mut all: Vec<Party> = nodes(3, &settings()).into_iter().map(Party::new).collect();
    let wrong = all[2].engine.address();
    all[0].engine.know(1, identity(1).epoch, &wrong).unwrap();
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    until(&mut all, |all| !all[0].losses().is_empty());
    assert_eq!(all[0].losses()[0].why, Why::Replaced);
    assert!(all[2].bodies().is_empty());
}

#[test]
fn of_several_places_the_one_that_answers_is_used() {
    let mut all: Vec<Party> = nodes(2, &settings()).into_iter().map(Party::new).collect();
    let good = super::super::address::read(&all[1].engine.address()).unwrap()[0];
    // One where nobody listens, one where somebody else does.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = super::super::address::read(&all[0].engine.address()).unwrap()[0];
    let address = super::super::address::write(&[nobody, other, good]);
    all[0].engine.know(1, identity(1).epoch, &address).unwrap();
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    until(&mut all, |all| all[0].ended() == 1);
    assert_eq!(all[1].bodies().len(), 1);
}

#[test]
fn a_caller_whom_nobody_introduced_gets_in_by_its_proof() {
    let open = |node| Tcp::open(identity(node), settings(), tuning()).unwrap();
    let (first, mut second) = (open(0), open(1));
    second.know(0, identity(0).epoch, &first.address()).unwrap();
    let mut all: Vec<Party> = [first, second].into_iter().map(|engine| Party::new(Box::new(engine))).collect();
    all[1].engine.send(to(0, 0), 0, &[], b"hello", Token(1)).unwrap();
    until(&mut all, |all| all[1].ended() == 1);
    all[0].engine.send(to(1, 0), 0, &[], b"welcome", Token(1)).unwrap();
    until(&mut all, |all| all[1].bodies().len() == 1);
}

#[test]
fn numbers_beyond_the_job_are_nobodys() {
    let mut engine = Tcp::open(identity(0), settings(), Tuning { nodes: 2, ..tuning() }).unwrap();
    let address = engine.address();
    assert!(engine.know(2, 1, &address).unwrap_err().to_string().contains("no node 2 in a job of 2"));
    assert!(engine.know(1, 1, b"nonsense").unwrap_err().to_string().contains("node 1"));
    let mut party = Party::new(Box::new(engine));
    for node in [0, 2, u32::MAX] {
        let from = Incarnation { node, epoch: 1 };
        let entered =
            Fake::enter(&mut party, super::super::handshake::Hello { from, ..hello(1) }, &identity(0).secret, 0);
        assert!(entered.is_none(), "node {node}");
    }
}

/// A member that has lost its mind: its connection is cut, in the end it is lost, and nobody else is harmed.
#[test]
fn lengths_beyond_the_limits_end_the_connection() {
    let bulk_most = tuning().bulk_most;
    let frame = |what, header, len| Frame { what, kind: 0, header, len, ack: 0 };
    for bad in [
        frame(What::Message, 0, BODY_MOST as u64 + 1),
        frame(What::Message, u16::MAX, 0),
        frame(What::Bulk, 0, bulk_most + 1),
        frame(What::Bulk, 0, u64::MAX),
        Frame { ack: 1 << 40, ..frame(What::Ack, 0, 0) },
    ] {
        let mut all: Vec<Party> = nodes(2, &settings()).into_iter().map(Party::new).collect();
        for round in 0..3 {
            let greeting = super::super::handshake::Hello { session: round, ..hello(2) };
            let mut fake = Fake::enter(&mut all[0], greeting, &identity(0).secret, 0).expect("it is a member");
            fake.say(&bad.write());
            fake.say(&[0; 100]);
            assert!(fake.is_hung_up_on(&mut all[0]), "{bad:?}");
        }
        until(&mut all, |all| !all[0].losses().is_empty());
        assert!(matches!(all[0].losses()[..], [Lost { node: 2, why: Why::Garbled(_), .. }]), "{bad:?}");
        all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
        until(&mut all, |all| all[0].ended() == 1);
    }
}

/// Frames at random, some of them genuine, from somebody who has the secret: no panic, no hang, no harm to others.
#[test]
fn anything_a_member_sends_is_survived() {
    let dice = &mut Dice(7);
    let mut all: Vec<Party> = nodes(2, &settings()).into_iter().map(Party::new).collect();
    for node in 2..60 {
        let Some(mut fake) = Fake::enter(&mut all[0], hello(node), &identity(0).secret, 0) else {
            panic!("node {node} is a member");
        };
        for _ in 0..dice.roll(40) {
            let what = [What::Message, What::Bulk, What::Refused, What::Ack, What::Ping][dice.roll(5) as usize];
            let header = if what == What::Refused { 8 } else { dice.roll(30) as u16 };
            let header = if matches!(what, What::Ack | What::Ping) { 0 } else { header };
            let len = if matches!(what, What::Message | What::Bulk) { dice.roll(9000) } else { 0 };
            let mut bytes = Frame { what, kind: dice.roll(9) as u16, header, len, ack: 0 }.write().to_vec();
            bytes.extend((0..u64::from(header) + len).map(|at| at as u8));
            for _ in 0..dice.roll(2) * dice.roll(3) {
                let at = dice.roll(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.roll(8);
            }
            bytes.truncate(bytes.len() - (dice.roll(8) == 0) as usize);
            fake.say(&bytes);
            all[0].poll();
        }
        drop(fake);
        for_a_while(&mut all, Duration::from_millis(1));
    }
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    until(&mut all, |all| all[0].ended() == 1);
}

/// What a member said, said again by somebody who listened: the nonces make it worthless.
#[test]
fn a_recorded_handshake_opens_nothing() {
    let mut all: Vec<Party> = nodes(2, &settings()).into_iter().map(Party::new).collect();
    let mut proxy = Proxy::to(&all[0].engine.address());
    all[1].engine.know(0, identity(0).epoch, &proxy.address()).unwrap();
    all[1].engine.send(to(0, 0), 0, &[], b"pay 100", Token(1)).unwrap();
    until(&mut all, |all| {
        proxy.turn();
        all[1].ended() == 1
    });
    let said = proxy.record[0].clone();
    for cut in [HELLO, HELLO + 40, said.len()] {
        let mut replay = Fake::call(&all[0]);
        replay.say(&said[..cut]);
        for_a_while(&mut all, Duration::from_millis(20));
        // It may still be told the answer to the hello, which proves nothing.
        drop(replay);
        for_a_while(&mut all, Duration::from_millis(5));
        assert_eq!(all[0].bodies().len(), 1, "the message was taken twice");
    }
    assert!(all[0].engine.counts().strangers >= 3);
    assert!(all.iter().all(|party| party.losses().is_empty() && party.engine.counts().broken == 0));
}
