//! The handshake by itself: that members get through, and every way not to.

use proptest::prelude::*;

use super::*;

const SECRET: Secret = Secret([5; 32]);
const JOB: JobId = JobId(77);

fn hello() -> Hello {
    Hello {
        encrypted: true,
        lane: 2,
        build: [3; 16],
        job: JOB,
        from: Incarnation { node: 1, epoch: 10 },
        to: Incarnation { node: 2, epoch: 20 },
        session: 4,
        nonce: [8; 32],
    }
}

fn answer() -> Answer {
    Answer { verdict: Verdict::Welcome, build: [3; 16], session: 4, nonce: [9; 32] }
}

#[test]
fn members_understand_each_other() {
    let said = Hello::read(&hello().write(), JOB).unwrap();
    assert_eq!(said, hello());
    let (called, bytes) = Transcript::answer(&SECRET, &said, &answer());
    let (caller, read) = Transcript::read_answer(&SECRET, &hello(), &bytes).unwrap();
    assert_eq!(read, answer());
    assert_eq!(called.read_proof(&caller.proof(123)), Ok(123));
    assert_eq!(caller.read_welcome(&called.welcome(456)), Ok(456));
    assert_eq!((called.keys().there, called.keys().back), (caller.keys().there, caller.keys().back));
    assert_ne!(called.keys().there, called.keys().back);
}

#[test]
fn another_secret_proves_nothing() {
    let (called, bytes) = Transcript::answer(&SECRET, &hello(), &answer());
    let read = Transcript::read_answer(&Secret([6; 32]), &hello(), &bytes);
    assert_eq!(read.err(), Some(Foreign::NoProof));
    let (stranger, _) = Transcript::answer(&Secret([6; 32]), &hello(), &answer());
    assert_eq!(called.read_proof(&stranger.proof(0)), Err(Foreign::NoProof));
}

#[test]
fn a_proof_cannot_be_sent_back_to_its_maker() {
    let (called, _) = Transcript::answer(&SECRET, &hello(), &answer());
    assert_eq!(called.read_proof(&called.welcome(7)), Err(Foreign::NoProof));
    assert_eq!(called.read_welcome(&called.proof(7)), Err(Foreign::NoProof));
}

#[test]
fn a_proof_of_one_connection_is_none_in_another() {
    let (first, _) = Transcript::answer(&SECRET, &hello(), &answer());
    let replayed = first.proof(1);
    let (second, _) = Transcript::answer(&SECRET, &hello(), &Answer { nonce: [10; 32], ..answer() });
    assert_eq!(second.read_proof(&replayed), Err(Foreign::NoProof), "the called one's nonce is fresh");
    let (_, old_answer) = Transcript::answer(&SECRET, &hello(), &answer());
    let fresh = Hello { nonce: [11; 32], ..hello() };
    let read = Transcript::read_answer(&SECRET, &fresh, &old_answer);
    assert_eq!(read.err(), Some(Foreign::NoProof), "the caller's nonce is fresh");
}

#[test]
fn every_bit_of_what_was_said_is_proven() {
    let (called, bytes) = Transcript::answer(&SECRET, &hello(), &answer());
    for at in 0..ANSWER * 8 {
        let mut bent = bytes;
        bent[at / 8] ^= 1 << (at % 8);
        assert!(Transcript::read_answer(&SECRET, &hello(), &bent).is_err(), "bit {at} of the answer");
    }
    let proof = called.proof(3);
    for at in 0..POSITION * 8 {
        let mut bent = proof;
        bent[at / 8] ^= 1 << (at % 8);
        assert_eq!(called.read_proof(&bent), Err(Foreign::NoProof), "bit {at} of the proof");
    }
    for at in 0..HELLO * 8 {
        let mut bent = hello().write();
        bent[at / 8] ^= 1 << (at % 8);
        let Ok(heard) = Hello::read(&bent, JOB) else { continue };
        if heard == hello() {
            // Bits that say nothing: they are not carried on either.
            assert!((68..72).contains(&(at / 8)), "bit {at} of the hello");
            continue;
        }
        let (_, bytes) = Transcript::answer(&SECRET, &heard, &answer());
        assert!(Transcript::read_answer(&SECRET, &hello(), &bytes).is_err(), "bit {at} of the hello");
    }
}

#[test]
fn strangers_are_told_apart() {
    let bytes = hello().write();
    let read = |change: &dyn Fn(&mut [u8; HELLO])| {
        let mut bytes = bytes;
        change(&mut bytes);
        Hello::read(&bytes, JOB).unwrap_err()
    };
    assert_eq!(read(&|bytes| bytes[..16].copy_from_slice(b"GET / HTTP/1.1\r\n")), Foreign::NotDragon);
    assert_eq!(read(&|bytes| bytes[8] = 9), Foreign::Wire(9));
    assert_eq!(read(&|bytes| bytes[13] = LANES), Foreign::Nonsense);
    assert_eq!(read(&|bytes| bytes[12] = 2), Foreign::Nonsense);
    assert_eq!(Hello::read(&bytes, JobId(78)).unwrap_err(), Foreign::OtherJob);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, reading it does not panic, and without the secret nothing is believed.
    #[test]
    fn garbage_is_not_believed(mut hello_bytes: [[u8; 8]; 13], mut answer_bytes: [[u8; 8]; 13], genuine: bool) {
        if genuine {
            hello_bytes[0] = CALLING;
            answer_bytes[0] = CALLED;
            hello_bytes[1][..4].copy_from_slice(&WIRE.to_le_bytes());
            answer_bytes[1][..4].copy_from_slice(&WIRE.to_le_bytes());
        }
        let flat: [u8; HELLO] = hello_bytes.concat().try_into().unwrap();
        let _ = Hello::read(&flat, JOB);
        let flat: [u8; ANSWER] = answer_bytes.concat().try_into().unwrap();
        prop_assert!(Transcript::read_answer(&SECRET, &hello(), &flat).is_err());
        let (called, _) = Transcript::answer(&SECRET, &hello(), &answer());
        let flat: [u8; POSITION] = flat[..POSITION].try_into().unwrap();
        prop_assert!(called.read_proof(&flat).is_err());
    }
}
