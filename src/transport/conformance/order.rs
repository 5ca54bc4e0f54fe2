//! Small messages: what is sent arrives, once, in order.

use super::{Bed, Note, parties, pattern, to, until};
use crate::transport::{BODY_MOST, HEADER_MOST, LANES, SendError, Token};

pub(crate) fn every_size_arrives_as_it_was<B: Bed>() {
    let mut all = parties::<B>(2);
    let sizes = [0, 1, 7, 8, 63, 1000, 4096, 10_000, BODY_MOST - 1, BODY_MOST];
    let headers = [0, 1, 24, HEADER_MOST];
    for (n, size) in sizes.into_iter().enumerate() {
        for header in headers {
            let (header, body) = (pattern(header, 3), pattern(size, n as u64));
            all[0].engine.send(to(1, 0), n as u16, &header, &body, Token::NONE).unwrap();
        }
    }
    until(&mut all, |all| all[1].book.notes.len() == sizes.len() * headers.len());
    let mut notes = std::mem::take(&mut all[1].book.notes).into_iter();
    for (n, size) in sizes.into_iter().enumerate() {
        for header in headers {
            let (header, body) = (pattern(header, 3), pattern(size, n as u64));
            assert!(notes.next() == Some(Note::Message { from: to(0, 0), kind: n as u16, header, body }));
        }
    }
}

pub(crate) fn lanes_keep_their_order<B: Bed>() {
    let mut all = parties::<B>(2);
    let each = 500_u32;
    for n in 0..each {
        for lane in 0..LANES {
            all[0].engine.send(to(1, lane), u16::from(lane), &[], &n.to_le_bytes(), Token::NONE).unwrap();
        }
    }
    until(&mut all, |all| all[1].book.notes.len() == each as usize * usize::from(LANES));
    let mut next = [0_u32; LANES as usize];
    for note in &all[1].book.notes {
        let Note::Message { from, kind, body, .. } = note else { panic!("{note:?}") };
        assert_eq!(u16::from(from.lane), *kind);
        let next = &mut next[usize::from(from.lane)];
        assert_eq!(body[..], next.to_le_bytes());
        *next += 1;
    }
}

pub(crate) fn all_talk_to_all<B: Bed>() {
    let count = 4;
    let mut all = parties::<B>(count);
    for from in 0..count {
        for node in (0..count).filter(|node| *node != from) {
            all[from as usize]
                .engine
                .send(to(node, 1), from as u16, &[], b"hello", Token(u64::from(node) + 1))
                .unwrap();
        }
    }
    let others = count as usize - 1;
    until(&mut all, |all| all.iter().all(|party| party.bodies().len() == others && party.ended() == others));
}

pub(crate) fn both_call_at_once<B: Bed>() {
    for round in 0..20 {
        let mut all = parties::<B>(2);
        for n in 0..50_u8 {
            all[0].engine.send(to(1, 0), 0, &[], &[n], Token::NONE).unwrap();
            all[1].engine.send(to(0, 0), 0, &[], &[n], Token::NONE).unwrap();
            // How far one has got when the other begins differs from round to round.
            (0..round % 5).for_each(|_| all[(n % 2) as usize].turn());
        }
        let expected: Vec<Vec<u8>> = (0..50).map(|n| vec![n]).collect();
        until(&mut all, |all| all.iter().all(|party| party.bodies().len() >= 50));
        assert!(all.iter().all(|party| party.bodies() == expected));
    }
}

/// Messages that are held back to go out together go out although nobody asks for it.
pub(crate) fn a_burst_goes_out_without_anybody_pushing<B: Bed>() {
    let mut all = parties::<B>(2);
    for round in 1..=20 {
        for n in 0..100_u8 {
            all[0].engine.send(to(1, 0), 0, &[], &[n], Token::NONE).unwrap();
        }
        until(&mut all, |all| all[1].bodies().len() == 100 * round);
    }
}

pub(crate) fn refusals_name_what_is_wrong<B: Bed>() {
    let mut all = parties::<B>(2);
    let engine = &mut all[0].engine;
    let mut send = |node, lane, header: &[u8], body: &[u8]| engine.send(to(node, lane), 0, header, body, Token(1));
    assert_eq!(send(77, 0, &[], &[]), Err(SendError::Unknown(77)));
    assert_eq!(send(1, LANES, &[], &[]), Err(SendError::NoLane(LANES)));
    let long = vec![0; BODY_MOST + 1];
    assert!(matches!(send(1, 0, &long[..HEADER_MOST + 1], &[]), Err(SendError::TooLong { what: "a header", .. })));
    assert!(matches!(send(1, 0, &[], &long), Err(SendError::TooLong { what: "a body", .. })));
    super::for_a_while(&mut all, std::time::Duration::from_millis(20));
    assert_eq!(all[0].ended(), 0, "what was not accepted has no end");
}
