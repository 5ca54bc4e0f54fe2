//! Ends: of operations, of peers, of the engine.

use std::collections::BTreeSet;

use super::{Bed, Note, Party, for_a_while, parties, to, until};
use crate::transport::error::Why;
use crate::transport::{Counts, SendError, Token, Undelivered};

pub(crate) fn every_token_ends_once<B: Bed>() {
    let mut all = parties::<B>(2);
    let count = 2000;
    let mut sent = 0;
    until(&mut all, |all| {
        while sent < count && all[0].engine.send(to(1, (sent % 3) as u8), 0, &[], b"x", Token(sent + 1)).is_ok() {
            sent += 1;
        }
        all[0].ended() as u64 >= count
    });
    for_a_while(&mut all, std::time::Duration::from_millis(30));
    let tokens: BTreeSet<Token> = ended(&all[0], |outcome| outcome.is_ok());
    assert!(tokens.len() as u64 == count && all[0].ended() as u64 == count);
}

/// The tokens that ended as wanted.
fn ended(party: &Party, wanted: impl Fn(&Result<(), Undelivered>) -> bool) -> BTreeSet<Token> {
    let notes = party.book.notes.iter();
    notes
        .filter_map(|note| match note {
            Note::Done { token, outcome } if wanted(outcome) => Some(*token),
            _ => None,
        })
        .collect()
}

pub(crate) fn a_peer_that_is_given_up_is_lost_once<B: Bed>() {
    let mut all = parties::<B>(2);
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    until(&mut all, |all| all[0].ended() == 1);
    // Nobody polls the other: these cannot arrive.
    (2..=5).for_each(|token| all[0].engine.send(to(1, 0), 0, &[], b"x", Token(token)).unwrap());
    all[0].engine.give_up(1, "we know better");
    all[0].engine.give_up(1, "we know better still");
    for_a_while(&mut all[..1], std::time::Duration::from_millis(20));
    let losses = all[0].losses();
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].node, &losses[0].why), (1, &Why::Told("we know better".into())));
    assert_eq!(ended(&all[0], |outcome| matches!(outcome, Err(Undelivered::Lost(_)))), (2..=5).map(Token).collect());
    assert!(matches!(all[0].book.notes.last(), Some(Note::Lost(_))), "tokens end before the peer");
    let refused = all[0].engine.send(to(1, 0), 0, &[], b"x", Token(6));
    assert!(matches!(refused, Err(SendError::Lost(lost)) if *lost == losses[0]));
    // The other learns that it is out, whether it speaks or not.
    all[1].engine.send(to(0, 0), 0, &[], b"x", Token(7)).unwrap();
    until(&mut all, |all| !all[1].losses().is_empty());
    assert_eq!(all[1].losses()[0].why, Why::Expelled);
}

pub(crate) fn a_peer_that_leaves_is_lost_once<B: Bed>() {
    let mut all = parties::<B>(3);
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token::NONE).unwrap();
    all[2].engine.send(to(1, 3), 0, &[], b"x", Token::NONE).unwrap();
    until(&mut all, |all| all[1].bodies().len() == 2);
    let Party { engine, book, .. } = &mut all[1];
    engine.close(book);
    until(&mut all, |all| !all[0].losses().is_empty() && !all[2].losses().is_empty());
    for_a_while(&mut all, std::time::Duration::from_millis(50));
    for at in [0, 2] {
        assert_eq!(all[at].losses().len(), 1);
        assert_eq!(all[at].losses()[0].why, Why::Left);
    }
}

pub(crate) fn closing_ends_all_tokens<B: Bed>() {
    let mut all = parties::<B>(2);
    (1..=50).for_each(|token| all[0].engine.send(to(1, 0), 0, &[], b"x", Token(token)).unwrap());
    let Party { engine, book, .. } = &mut all[0];
    engine.close(book);
    engine.close(book);
    assert_eq!(ended(&all[0], |outcome| *outcome == Err(Undelivered::Closed)).len(), 50);
    assert_eq!(all[0].engine.send(to(1, 0), 0, &[], b"x", Token(51)), Err(SendError::Closed));
    for_a_while(&mut all, std::time::Duration::from_millis(10));
    assert_eq!(all[0].ended(), 50);
}

pub(crate) fn a_new_incarnation_starts_afresh<B: Bed>() {
    let mut all = parties::<B>(2);
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token::NONE).unwrap();
    until(&mut all, |all| all[1].bodies().len() == 1);
    let address = all[1].engine.address();
    all[0].engine.know(1, 1_000_000, &address).unwrap();
    for_a_while(&mut all[..1], std::time::Duration::from_millis(5));
    assert_eq!(all[0].losses().iter().map(|lost| lost.why.clone()).collect::<Vec<_>>(), [Why::Replaced]);
    // Who is there is not who was introduced, and says so.
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    until(&mut all, |all| all[0].losses().len() == 2);
    assert_eq!(all[0].losses()[1].epoch, 1_000_000);
    assert_eq!(all[0].ended(), 1);
}

pub(crate) fn an_idle_engine_wants_nothing<B: Bed>() {
    let mut all = parties::<B>(2);
    let engine = &mut all[0].engine;
    assert!(engine.is_idle() && !engine.wants_poll() && engine.poll_by().is_none());
    assert_eq!(engine.counts(), Counts::default());
    assert!(all[0].poll() == 0 && all[0].engine.poll_by().is_none());
}
