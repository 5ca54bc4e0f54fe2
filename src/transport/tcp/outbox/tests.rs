//! The outbox against a model: a vector of bytes and three positions.

use std::io::IoSlice;

use proptest::prelude::*;

use super::*;

fn pieces(outbox: &Outbox) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let used = outbox.next_pieces(&mut slices);
    slices[..used].iter().flat_map(|slice| slice.to_vec()).collect()
}

fn ended(outbox: &mut Outbox, at: u64) -> Vec<(u64, bool)> {
    let mut all = Vec::new();
    outbox.arrived(at, |token, well| all.push((token.0, well))).unwrap();
    all
}

#[test]
fn what_is_pushed_comes_out_once() {
    let mut outbox = Outbox::default();
    outbox.push([b"ab", b"", b"c"], Token(1));
    assert_eq!(pieces(&outbox), b"abc");
    outbox.advance(2);
    outbox.push([b"d", b"e", b"f"], Token(2));
    assert_eq!(pieces(&outbox), b"cdef");
    outbox.advance(4);
    assert_eq!((pieces(&outbox), outbox.unsent(), outbox.kept()), (vec![], 0, 6));
    assert_eq!(ended(&mut outbox, 5), [(1, true)]);
    assert_eq!(ended(&mut outbox, 6), [(2, true)]);
    assert_eq!(outbox.kept(), 0);
}

#[test]
fn a_refusal_ends_its_operation_badly_and_no_other() {
    let mut outbox = Outbox::default();
    for token in 1..=3 {
        outbox.push([b"x", b"", b""], Token(token));
    }
    outbox.advance(3);
    outbox.refused(2);
    assert_eq!(ended(&mut outbox, 3), [(1, true), (2, false), (3, true)]);
}

#[test]
fn impossible_positions_are_refused() {
    let mut outbox = Outbox::default();
    outbox.push([b"abcd", b"", b""], Token::NONE);
    outbox.advance(3);
    assert!(outbox.arrived(4, |_, _| ()).is_err(), "that byte was not sent");
    outbox.arrived(2, |_, _| ()).unwrap();
    assert!(outbox.resume(1).is_err(), "that byte is gone");
    assert!(outbox.resume(4).is_err(), "that byte was not sent");
    assert_eq!(outbox.resume(2), Ok(1));
    assert_eq!(pieces(&outbox), b"cd");
}

#[test]
fn an_abandoned_outbox_names_what_did_not_arrive() {
    let mut outbox = Outbox::default();
    (1..=4).for_each(|token| outbox.push([b"x", b"", b""], Token(token)));
    outbox.advance(2);
    assert_eq!(ended(&mut outbox, 1), [(1, true)]);
    assert_eq!(outbox.abandon().map(|token| token.0).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((outbox.kept(), outbox.end()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Send(usize),
    Arrive(usize),
    Resume(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // Some are larger than half a chunk, so that chunks change.
        4 => prop_oneof![0..200_usize, 20_000..70_000_usize].prop_map(Step::Push),
        4 => (0..100_000_usize).prop_map(Step::Send),
        2 => (0..100_000_usize).prop_map(Step::Arrive),
        1 => (0..100_000_usize).prop_map(Step::Resume),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_outbox_is_a_row_of_bytes(steps in prop::collection::vec(step(), 0..60)) {
        let mut outbox = Outbox::default();
        let (mut all, mut base, mut sent) = (Vec::<u8>::new(), 0_usize, 0_usize);
        let mut waiting = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(len) => {
                    let body = vec![number as u8; len];
                    outbox.push([b"h", b"", &body], Token(number as u64 + 1));
                    all.push(b'h');
                    all.extend(body);
                    waiting.push((all.len(), number as u64 + 1));
                }
                Step::Send(most) => {
                    let ready = pieces(&outbox);
                    prop_assert!(all[sent..].starts_with(&ready));
                    prop_assert_eq!(ready.is_empty(), sent == all.len());
                    let taken = most.min(ready.len());
                    outbox.advance(taken);
                    sent += taken;
                }
                Step::Arrive(more) => {
                    base = (base + more).min(sent);
                    let told = ended(&mut outbox, base as u64);
                    let there = waiting.iter().take_while(|(at, _)| *at <= base).count();
                    let expected: Vec<_> = waiting.drain(..there).map(|(_, token)| (token, true)).collect();
                    prop_assert_eq!(told, expected);
                }
                Step::Resume(back) => {
                    let at = sent.saturating_sub(back).max(base);
                    prop_assert_eq!(outbox.resume(at as u64), Ok((sent - at) as u64));
                    sent = at;
                }
            }
            prop_assert_eq!(outbox.kept(), (all.len() - base) as u64);
            prop_assert_eq!(outbox.unsent(), (all.len() - sent) as u64);
        }
    }
}
