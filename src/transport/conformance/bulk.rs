//! Large messages: from block to block, refused or not, and lanes that are full.

use std::sync::Arc;

use super::{Bed, Note, Party, parties, pattern, to, until};
use crate::transport::{Bulk, SendError, Token, Undelivered};

/// A block with these bytes, of which all are to be sent.
pub(crate) fn bulk(party: &Party, bytes: &[u8]) -> Bulk {
    let block = party.memory.store(bytes).unwrap();
    Bulk { block: Arc::new(block), len: bytes.len() }
}

pub(crate) fn blocks_land_once_in_the_block_given<B: Bed>() {
    let mut all = parties::<B>(2);
    let sizes = [0, 1, 4071, 4072, 4096, 65_536, 100_000, 1 << 20, 5_000_001 / B::SLOWER as usize];
    for (n, size) in sizes.into_iter().enumerate() {
        let body = bulk(&all[0], &pattern(size, n as u64));
        all[0].engine.send_bulk(to(1, 2), n as u16, b"head", body, Token(n as u64 + 1)).unwrap();
        until(&mut all, |all| all[0].ended() == n + 1);
        let landed =
            Note::Landed { from: to(0, 2), kind: n as u16, header: b"head".into(), body: pattern(size, n as u64) };
        assert!(all[1].book.notes.pop() == Some(landed), "{size} bytes");
        assert!(all[1].book.notes.is_empty());
        assert_eq!(all[0].book.notes[n], Note::Done { token: Token(n as u64 + 1), outcome: Ok(()) });
    }
}

pub(crate) fn small_and_large_keep_their_order<B: Bed>() {
    let mut all = parties::<B>(2);
    let count = 60 / B::SLOWER as u16;
    let mut sent = 0;
    until(&mut all, |all| {
        while sent < count {
            let body = pattern(usize::from(sent) * 3001, 5);
            let taken = if sent % 3 == 0 {
                let body = bulk(&all[0], &body);
                all[0].engine.send_bulk(to(1, 0), sent, b"h", body, Token::NONE)
            } else {
                all[0].engine.send(to(1, 0), sent, b"h", &body[..body.len().min(60_000)], Token::NONE)
            };
            match taken {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    break;
                }
            }
        }
        all[1].book.notes.len() == usize::from(count)
    });
    for (n, note) in all[1].book.notes.iter().enumerate() {
        let (kind, body) = match note {
            Note::Message { kind, body, .. } | Note::Landed { kind, body, .. } => (*kind, body),
            other => panic!("{other:?}"),
        };
        assert_eq!(usize::from(kind), n);
        assert!(body[..] == pattern(n * 3001, 5)[..body.len()]);
    }
}

pub(crate) fn a_refused_block_is_told_to_its_sender<B: Bed>() {
    let mut all = parties::<B>(2);
    all[1].book.refuse = true;
    for (token, size) in [(1, 10), (2, 300_000), (3, 3_000_000 / B::SLOWER as usize)] {
        let body = bulk(&all[0], &pattern(size, 1));
        all[0].engine.send_bulk(to(1, 0), 0, &[], body, Token(token)).unwrap();
        all[0].engine.send(to(1, 0), 0, &[], b"between", Token(10 * token)).unwrap();
    }
    until(&mut all, |all| all[0].ended() == 6);
    for token in 1..=3 {
        let refused = Note::Done { token: Token(token), outcome: Err(Undelivered::Refused) };
        let fine = Note::Done { token: Token(10 * token), outcome: Ok(()) };
        assert!(all[0].book.notes.contains(&refused) && all[0].book.notes.contains(&fine));
    }
    assert_eq!(all[1].bodies(), [b"between"; 3]);
    all[1].book.refuse = false;
    let body = bulk(&all[0], b"welcome again");
    all[0].engine.send_bulk(to(1, 0), 0, &[], body, Token(99)).unwrap();
    until(&mut all, |all| all[0].book.notes.contains(&Note::Done { token: Token(99), outcome: Ok(()) }));
}

pub(crate) fn both_ways_at_once_do_not_stand_still<B: Bed>() {
    let mut all = parties::<B>(2);
    let (each, size) = (40 / B::SLOWER, 1 << 20);
    let blocks = [bulk(&all[0], &pattern(size, 1)), bulk(&all[1], &pattern(size, 2))];
    let mut sent = [0, 0];
    all.iter_mut().for_each(|party| party.book.counting = true);
    until(&mut all, |all| {
        for (me, other) in [(0, 1), (1, 0)] {
            if sent[me] < each && all[me].engine.send_bulk(to(other, 0), 0, &[], blocks[me].clone(), Token(1)).is_ok() {
                sent[me] += 1;
            }
        }
        all.iter().all(|party| party.book.count == each && party.ended() as u64 == each)
    });
}

pub(crate) fn a_full_lane_says_so_and_recovers<B: Bed>() {
    let mut all = parties::<B>(2);
    let body = pattern(50_000, 9);
    let mut sent = 0;
    // Nobody reads: the kernel's buffers and the lane's bounds fill up, whatever that takes.
    let full = loop {
        match all[0].engine.send(to(1, 0), 0, &[], &body, Token(sent + 1)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "without bounds");
    };
    assert_eq!(full, SendError::Full);
    until(&mut all, |all| all[1].book.count == sent && all[0].ended() as u64 == sent);
    assert!(all[1].bodies().iter().all(|got| *got == body));
    assert!(all[0].engine.is_idle());
    all[0].engine.send(to(1, 0), 0, &[], &body, Token::NONE).unwrap();
    until(&mut all, |all| all[1].book.count == sent + 1);
}
