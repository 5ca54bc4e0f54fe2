//! Whatever a stranger may send, given to those who read it: for the fuzzer, and for the corpus as a test.

use super::frame::{First, first};
use super::handshake::{ANSWER, Answer, HELLO, Hello, Incarnation, POSITION, Transcript, Verdict};
use crate::id::JobId;
use crate::transport::{BODY_MOST, HEADER_MOST, LANES, Secret};

/// Bodies that are believed.
const BULK_MOST: u64 = 1 << 30;

/// A row of frames, as it comes from a lane. How many there were.
pub(crate) fn frames(mut bytes: &[u8]) -> usize {
    let mut found = 0;
    loop {
        let size = match first(bytes, BULK_MOST) {
            Err(_) => return found,
            Ok(First::Incomplete { need }) => {
                assert!(need > bytes.len() && need <= 64 + HEADER_MOST + BODY_MOST, "a length within the limits");
                return found;
            }
            Ok(First::Whole { header, body, size, .. }) => {
                assert!(header.len() <= HEADER_MOST && body.len() <= BODY_MOST && size <= bytes.len());
                size
            }
            Ok(First::Bulk { frame, header, size }) => {
                assert!(header.len() <= HEADER_MOST && frame.len <= BULK_MOST && size <= bytes.len());
                size
            }
        };
        found += 1;
        bytes = &bytes[size..];
    }
}

fn hello() -> Hello {
    let [from, to] = [1, 2].map(|node| Incarnation { node, epoch: 7 });
    Hello { encrypted: false, lane: 0, build: [3; 16], job: JobId(9), from, to, session: 0, nonce: [5; 32] }
}

/// One record of a handshake, from somebody who does not know the secret: nothing of it is believed.
pub(crate) fn handshake(bytes: &[u8]) {
    let Some((which, record)) = bytes.split_first() else { return };
    let secret = Secret([42; 32]);
    let answer = Answer { verdict: Verdict::Welcome, build: [3; 16], session: 0, nonce: [6; 32] };
    match which % 4 {
        0 => {
            let Some(record) = record.first_chunk::<HELLO>() else { return };
            if let Ok(said) = Hello::read(record, JobId(9)) {
                assert!(said.lane < LANES);
                assert_eq!(Hello::read(&said.write(), JobId(9)).ok(), Some(said), "it is read as it is written");
            }
        }
        1 => {
            let Some(record) = record.first_chunk::<ANSWER>() else { return };
            assert!(Transcript::read_answer(&secret, &hello(), record).is_err(), "no proof, no belief");
        }
        side => {
            let Some(record) = record.first_chunk::<POSITION>() else { return };
            let (transcript, _) = Transcript::answer(&secret, &hello(), &answer);
            let read = if side == 2 { transcript.read_proof(record) } else { transcript.read_welcome(record) };
            assert!(read.is_err(), "no proof, no belief");
        }
    }
}

/// What the seeds of the corpus are: well-formed, so that changes of them get far.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::frame::{Frame, What};
    let message = Frame { what: What::Message, kind: 7, header: 3, len: 5, ack: 99 };
    let bulk = Frame { what: What::Bulk, kind: 1, header: 2, len: 70_000, ack: 0 };
    let row =
        [&message.write()[..], b"hdrbody!", &Frame::passing(What::Ping, 5).write(), &bulk.write(), b"hd"].concat();
    let answer = Answer { verdict: Verdict::Expelled, build: [3; 16], session: 1, nonce: [6; 32] };
    let (transcript, said) = Transcript::answer(&Secret([1; 32]), &hello(), &answer);
    let with = |which: u8, record: &[u8]| [&[which][..], record].concat();
    vec![
        ("frames", row),
        ("handshake", with(0, &hello().write())),
        ("handshake", with(1, &said)),
        ("handshake", with(2, &transcript.proof(7))),
        ("handshake", with(3, &transcript.welcome(7))),
    ]
}
