//! How two engines make sure of each other before either believes a frame.
//!
//! ```text
//!  who dials                                          who is called
//!     │ Hello   who I am, whom I want, lane, nonce       │ is that me? may it come in?
//!     ├─────────────────────────────────────────────────▶│
//!     │ Answer  verdict, nonce, proof                    │
//!     │◀─────────────────────────────────────────────────┤
//!     │ Proof   where I stand, proof                     │ only now its old connection is dropped
//!     ├─────────────────────────────────────────────────▶│
//!     │ Welcome where I stand, proof                     │
//!     │◀─────────────────────────────────────────────────┤   frames, both ways
//! ```
//! A proof is an HMAC-SHA256 under the job's secret of its own label and of all of `Hello` and `Answer`: both
//! nonces, job, nodes, incarnations, builds, version, lane. So none can be replayed (the nonces are fresh), sent
//! back to who made it (the labels differ), or used at another place. A refusal is an `Answer` too, and proven
//! like one: nobody outside the job can make a node believe that it was expelled.
//!
//! Nothing here does anything: nonces come as arguments, bytes go out as values.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::JobId;
use crate::transport::{LANES, Node, Secret};

/// Changes with everything that is drawn here and in `frame.rs`.
pub(super) const WIRE: u32 = 1;

const CALLING: [u8; 8] = *b"dragon->";
const CALLED: [u8; 8] = *b"dragon<-";

pub(super) const HELLO: usize = 104;
pub(super) const ANSWER: usize = ANSWER_CLAIMS + PROOF;
const ANSWER_CLAIMS: usize = 72;
const PROOF: usize = 32;
/// `Proof` and `Welcome`: a position and its proof.
pub(super) const POSITION: usize = 8 + PROOF;

/// A fresh random number.
pub(super) type Nonce = [u8; 32];

/// One incarnation of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incarnation {
    pub(super) node: Node,
    pub(super) epoch: u64,
}

/// What whoever dials says first. Nothing of it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) encrypted: bool,
    pub(super) lane: u8,
    pub(super) build: [u8; 16],
    pub(super) job: JobId,
    pub(super) from: Incarnation,
    pub(super) to: Incarnation,
    /// How many connections of the lane have come about, as far as the caller knows.
    pub(super) session: u32,
    pub(super) nonce: Nonce,
}

/// What the called one thinks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// Come in, when you have proven that you belong here.
    Welcome = 0,
    /// I am another node, or another incarnation of it.
    NotMe = 1,
    /// I run another build.
    OtherBuild = 2,
    /// I encrypt and you do not, or the other way round.
    OtherEncryption = 3,
    /// I have declared you lost.
    Expelled = 4,
    /// I know a later incarnation of you, or do not know this one yet.
    UnknownEpoch = 5,
    /// I have called you, and you have answered: use that connection.
    Crossed = 6,
    /// I am about to end.
    Leaving = 7,
}

impl Verdict {
    fn read(byte: u8) -> Option<Verdict> {
        use Verdict::{Crossed, Expelled, Leaving, NotMe, OtherBuild, OtherEncryption, UnknownEpoch, Welcome};
        let all = [Welcome, NotMe, OtherBuild, OtherEncryption, Expelled, UnknownEpoch, Crossed, Leaving];
        all.into_iter().find(|verdict| *verdict as u8 == byte)
    }
}

/// The claims of an `Answer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) build: [u8; 16],
    pub(super) session: u32,
    pub(super) nonce: Nonce,
}

/// Why what came is not what belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// No member of any job of ours says that.
    NotDragon,
    /// Another version of this protocol.
    Wire(u32),
    /// Another job.
    OtherJob,
    /// A lane or a field that does not exist.
    Nonsense,
    /// The proof is wrong.
    NoProof,
}

/// Puts fields one behind the other.
struct Pack<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Pack<N> {
    fn new() -> Self {
        Pack { bytes: [0; N], at: 0 }
    }

    fn put(mut self, field: &[u8]) -> Self {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
        self
    }

    fn done(self) -> [u8; N] {
        debug_assert_eq!(self.at, N, "the fields fill the record");
        self.bytes
    }
}

/// Takes fields one behind the other.
struct Unpack<'a>(&'a [u8]);

impl Unpack<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        // The records' lengths are constants, and every reader below takes as much as its writer puts.
        let (field, rest) = self.0.split_first_chunk().expect("a record is as long as its fields");
        self.0 = rest;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn incarnation(&mut self) -> Incarnation {
        Incarnation { node: self.u32(), epoch: self.u64() }
    }

    /// The two fields that are at the same place in every version.
    fn preamble(&mut self, magic: [u8; 8]) -> Result<(), Foreign> {
        if self.take() != magic {
            return Err(Foreign::NotDragon);
        }
        match self.u32() {
            WIRE => Ok(()),
            other => Err(Foreign::Wire(other)),
        }
    }
}

impl Hello {
    pub(super) fn write(&self) -> [u8; HELLO] {
        Pack::new()
            .put(&CALLING)
            .put(&WIRE.to_le_bytes())
            .put(&[u8::from(self.encrypted), self.lane, 0, 0])
            .put(&self.build)
            .put(&self.job.0.to_le_bytes())
            .put(&self.from.node.to_le_bytes())
            .put(&self.from.epoch.to_le_bytes())
            .put(&self.to.node.to_le_bytes())
            .put(&self.to.epoch.to_le_bytes())
            .put(&self.session.to_le_bytes())
            .put(&[0; 4])
            .put(&self.nonce)
            .done()
    }

    /// Reads what a stranger or a peer says, for a member of `job`.
    pub(super) fn read(bytes: &[u8; HELLO], job: JobId) -> Result<Hello, Foreign> {
        let mut fields = Unpack(bytes);
        fields.preamble(CALLING)?;
        let [encrypted, lane, zero0, zero1] = fields.take();
        let hello = Hello {
            encrypted: encrypted == 1,
            lane,
            build: fields.take(),
            job: JobId(fields.u64()),
            from: fields.incarnation(),
            to: fields.incarnation(),
            session: fields.u32(),
            nonce: {
                let _zeros: [u8; 4] = fields.take();
                fields.take()
            },
        };
        if hello.job != job {
            return Err(Foreign::OtherJob);
        }
        let sound = encrypted <= 1 && lane < LANES && [zero0, zero1] == [0, 0];
        if sound { Ok(hello) } else { Err(Foreign::Nonsense) }
    }
}

impl Answer {
    fn write(&self) -> [u8; ANSWER_CLAIMS] {
        Pack::new()
            .put(&CALLED)
            .put(&WIRE.to_le_bytes())
            .put(&[self.verdict as u8, 0, 0, 0])
            .put(&self.build)
            .put(&self.session.to_le_bytes())
            .put(&[0; 4])
            .put(&self.nonce)
            .done()
    }

    fn read(bytes: &[u8]) -> Result<Answer, Foreign> {
        let mut fields = Unpack(bytes);
        fields.preamble(CALLED)?;
        let [verdict, ..]: [u8; 4] = fields.take();
        let build = fields.take();
        let session = fields.u32();
        let _zeros: [u8; 4] = fields.take();
        let nonce = fields.take();
        let verdict = Verdict::read(verdict).ok_or(Foreign::Nonsense)?;
        Ok(Answer { verdict, build, session, nonce })
    }
}

/// What is said to one who speaks another version: which one this is, at the place where every version has it.
pub(super) fn farewell() -> [u8; ANSWER] {
    Pack::new().put(&CALLED).put(&WIRE.to_le_bytes()).put(&[0; ANSWER - 12]).done()
}

/// What a proof proves. The labels are of equal length, so no two proven texts can be confused.
#[derive(Clone, Copy)]
enum Label {
    Answer,
    Proof,
    Welcome,
    KeyThere,
    KeyBack,
}

impl Label {
    fn text(self) -> &'static [u8; 16] {
        match self {
            Label::Answer => b"dragon tcp1 answ",
            Label::Proof => b"dragon tcp1 prov",
            Label::Welcome => b"dragon tcp1 welc",
            Label::KeyThere => b"dragon tcp1 key>",
            Label::KeyBack => b"dragon tcp1 key<",
        }
    }
}

/// All that both sides have said before a proof.
#[derive(Clone)]
pub(super) struct Transcript {
    secret: Secret,
    hello: [u8; HELLO],
    answer: [u8; ANSWER_CLAIMS],
}

/// The keys of the two directions of one connection.
pub(super) struct Keys {
    /// From who dialled.
    pub(super) there: [u8; 32],
    /// To who dialled.
    pub(super) back: [u8; 32],
}

impl Transcript {
    fn mac(&self, label: Label, more: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret.0).expect("HMAC takes a key of 32 bytes");
        mac.update(label.text());
        mac.update(&self.hello);
        mac.update(&self.answer);
        mac.update(more);
        mac
    }

    fn prove(&self, label: Label, more: &[u8]) -> [u8; PROOF] {
        self.mac(label, more).finalize().into_bytes().into()
    }

    /// Takes the same time wherever the difference is.
    fn check(&self, label: Label, more: &[u8], proof: &[u8]) -> Result<(), Foreign> {
        self.mac(label, more).verify_slice(proof).map_err(|_| Foreign::NoProof)
    }

    /// The called side: answers, and keeps what was said.
    pub(super) fn answer(secret: &Secret, hello: &Hello, answer: &Answer) -> (Transcript, [u8; ANSWER]) {
        let transcript = Transcript { secret: secret.clone(), hello: hello.write(), answer: answer.write() };
        let proof = transcript.prove(Label::Answer, &[]);
        let bytes = Pack::new().put(&transcript.answer).put(&proof).done();
        (transcript, bytes)
    }

    /// The dialling side: reads the answer to its `hello`, and believes it only with its proof.
    pub(super) fn read_answer(
        secret: &Secret,
        hello: &Hello,
        bytes: &[u8; ANSWER],
    ) -> Result<(Transcript, Answer), Foreign> {
        let (claims, proof) = bytes.split_at(ANSWER_CLAIMS);
        let answer = Answer::read(claims)?;
        let transcript = Transcript { secret: secret.clone(), hello: hello.write(), answer: answer.write() };
        if transcript.answer != claims {
            return Err(Foreign::Nonsense);
        }
        transcript.check(Label::Answer, &[], proof)?;
        Ok((transcript, answer))
    }

    /// The dialling side's `Proof`: it has received everything before `position`.
    pub(super) fn proof(&self, position: u64) -> [u8; POSITION] {
        self.position(Label::Proof, position)
    }

    /// The called side's `Welcome`, likewise.
    pub(super) fn welcome(&self, position: u64) -> [u8; POSITION] {
        self.position(Label::Welcome, position)
    }

    /// The called side reads the `Proof`.
    pub(super) fn read_proof(&self, bytes: &[u8; POSITION]) -> Result<u64, Foreign> {
        self.read_position(Label::Proof, bytes)
    }

    /// The dialling side reads the `Welcome`.
    pub(super) fn read_welcome(&self, bytes: &[u8; POSITION]) -> Result<u64, Foreign> {
        self.read_position(Label::Welcome, bytes)
    }

    fn position(&self, label: Label, position: u64) -> [u8; POSITION] {
        let position = position.to_le_bytes();
        let proof = self.prove(label, &position);
        Pack::new().put(&position).put(&proof).done()
    }

    fn read_position(&self, label: Label, bytes: &[u8; POSITION]) -> Result<u64, Foreign> {
        let (position, proof) = bytes.split_at(8);
        self.check(label, position, proof)?;
        Ok(Unpack(position).u64())
    }

    /// Keys that only who knows the secret can have, and that no other connection has.
    pub(super) fn keys(&self) -> Keys {
        Keys { there: self.prove(Label::KeyThere, &[]), back: self.prove(Label::KeyBack, &[]) }
    }
}

#[cfg(test)]
mod tests;
