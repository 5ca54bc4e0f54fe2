//! The first words on a connection, which prove in both directions that the other knows the secret.
//!
//! ```text
//! hub   -> spoke  MAGIC tag[8] nonce[32]              at once, so that a stranger who holds the port is told by his silence
//! spoke -> hub    MAGIC nonce[32] proof[32]           HMAC(key, "spoke" tag hub-nonce spoke-nonce)
//! hub   -> spoke  ACCEPTED or REFUSED, proof[32]      HMAC(key, "hub" tag hub-nonce spoke-nonce)
//! ```
//! All three have fixed lengths and nothing in them is parsed. `key` is HMAC(secret, job name); `tag` is a public digest
//! of the job's name, which tells another job of the same user from a wrong secret. From the same numbers both make a key
//! for each direction, with which every later message is authenticated.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Length of secrets, keys, nonces and digests.
pub(super) const KEY: usize = 32;
/// Length of the hub's first words.
pub(super) const GREETING: usize = 8 + 8 + KEY;
/// Length of the spoke's.
pub(super) const CLAIM: usize = 8 + KEY + KEY;
/// Length of the hub's answer.
pub(super) const VERDICT: usize = 8 + KEY;

const MAGIC: &[u8; 8] = b"DRAGON\0\x01";
const ACCEPTED: &[u8; 8] = b"ACCEPTED";
const REFUSED: &[u8; 8] = b"REFUSED\0";

/// What a meeting's members know of each other before they meet.
#[derive(Clone)]
pub(super) struct Meeting {
    key: [u8; KEY],
    tag: [u8; 8],
}

/// One key for each direction of a connection.
#[derive(Clone)]
pub(super) struct SessionKeys {
    pub(super) to_hub: [u8; KEY],
    pub(super) to_spoke: [u8; KEY],
}

/// What a spoke makes of a hub's first words.
pub(super) enum Greeted {
    /// The claim to send, and what the hub's verdict must be.
    Claim([u8; CLAIM], Expected),
    /// A hub of ours, of another job.
    OtherJob,
    /// No hub at all.
    Stranger,
}

/// What a spoke waits for.
pub(super) struct Expected {
    proof: [u8; KEY],
    keys: SessionKeys,
}

/// What a spoke makes of a hub's verdict.
pub(super) enum Judged {
    /// Both know the secret.
    Accepted(SessionKeys),
    /// The hub does not take our secret for the right one.
    Refused,
    /// It accepts us, but does not know the secret itself.
    Impostor,
}

/// HMAC-SHA256 over parts, each preceded by its length so that no two lists of parts look alike.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; KEY] {
    // `expect`: HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256.
pub(super) fn digest(bytes: &[u8]) -> [u8; KEY] {
    Sha256::digest(bytes).into()
}

/// Whether two secrets or proofs are the same, in a time that does not say where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// Bytes that nobody can predict.
pub(super) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

impl Meeting {
    /// A meeting under this secret, or of processes of one user only if there is none.
    pub(super) fn new(secret: Option<&[u8; KEY]>, job: &str) -> Meeting {
        let job_digest = digest(job.as_bytes());
        let mut tag = [0; 8];
        tag.copy_from_slice(&job_digest[..8]);
        Meeting { key: mac(secret.unwrap_or(&[0; KEY]), &[b"dragon meeting", &job_digest]), tag }
    }

    /// The secret of the world that comes of this meeting.
    pub(super) fn world_secret(&self, job: &[u8]) -> [u8; KEY] {
        mac(&self.key, &[b"dragon world", job])
    }

    /// The hub's first words.
    pub(super) fn greeting(&self, hub: &[u8; KEY]) -> [u8; GREETING] {
        let mut words = [0; GREETING];
        words[..8].copy_from_slice(MAGIC);
        words[8..16].copy_from_slice(&self.tag);
        words[16..].copy_from_slice(hub);
        words
    }

    /// The spoke's answer to them; `spoke` is its own nonce.
    pub(super) fn claim(&self, greeting: &[u8; GREETING], spoke: &[u8; KEY]) -> Greeted {
        if &greeting[..8] != MAGIC {
            return Greeted::Stranger;
        }
        if greeting[8..16] != self.tag {
            return Greeted::OtherJob;
        }
        let hub = &greeting[16..];
        let mut words = [0; CLAIM];
        words[..8].copy_from_slice(MAGIC);
        words[8..8 + KEY].copy_from_slice(spoke);
        words[8 + KEY..].copy_from_slice(&self.proof(b"spoke", hub, spoke));
        Greeted::Claim(words, Expected { proof: self.proof(b"hub", hub, spoke), keys: self.session(hub, spoke) })
    }

    /// The hub's verdict on a claim, and the keys if it is good.
    pub(super) fn judge(&self, claim: &[u8; CLAIM], hub: &[u8; KEY]) -> ([u8; VERDICT], Option<SessionKeys>) {
        let (magic, rest) = claim.split_at(8);
        let (spoke, proof) = rest.split_at(KEY);
        let good = magic == MAGIC && same(proof, &self.proof(b"spoke", hub, spoke));
        let mut words = [0; VERDICT];
        words[..8].copy_from_slice(if good { ACCEPTED } else { REFUSED });
        if good {
            words[8..].copy_from_slice(&self.proof(b"hub", hub, spoke));
        }
        (words, good.then(|| self.session(hub, spoke)))
    }

    fn proof(&self, who: &[u8], hub: &[u8], spoke: &[u8]) -> [u8; KEY] {
        mac(&self.key, &[who, &self.tag, hub, spoke])
    }

    fn session(&self, hub: &[u8], spoke: &[u8]) -> SessionKeys {
        let key = |direction: &[u8]| mac(&self.key, &[b"session", direction, hub, spoke]);
        SessionKeys { to_hub: key(b"to hub"), to_spoke: key(b"to spoke") }
    }
}

impl Expected {
    /// What the hub's verdict means.
    pub(super) fn judge(self, verdict: &[u8; VERDICT]) -> Judged {
        match &verdict[..8] {
            word if word == ACCEPTED && same(&verdict[8..], &self.proof) => Judged::Accepted(self.keys),
            word if word == REFUSED => Judged::Refused,
            _ => Judged::Impostor,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HUB: [u8; KEY] = [1; KEY];
    const SPOKE: [u8; KEY] = [2; KEY];

    fn claimed(meeting: &Meeting, greeting: &[u8; GREETING]) -> ([u8; CLAIM], Expected) {
        match meeting.claim(greeting, &SPOKE) {
            Greeted::Claim(claim, expected) => (claim, expected),
            _ => panic!("not greeted"),
        }
    }

    #[test]
    fn who_knows_the_secret_is_accepted_and_has_the_same_keys() {
        let meeting = Meeting::new(Some(&[7; KEY]), "job");
        let (claim, expected) = claimed(&meeting, &meeting.greeting(&HUB));
        let (verdict, keys) = meeting.judge(&claim, &HUB);
        let Judged::Accepted(mine) = expected.judge(&verdict) else { panic!("not accepted") };
        let keys = keys.unwrap();
        assert_eq!((mine.to_hub, mine.to_spoke), (keys.to_hub, keys.to_spoke));
        assert_ne!(keys.to_hub, keys.to_spoke);
    }

    #[test]
    fn a_wrong_secret_is_refused_and_another_job_is_told_apart() {
        let (hub, spoke) = (Meeting::new(Some(&[7; KEY]), "job"), Meeting::new(Some(&[8; KEY]), "job"));
        let (claim, expected) = claimed(&spoke, &hub.greeting(&HUB));
        let (verdict, keys) = hub.judge(&claim, &HUB);
        assert!(keys.is_none() && matches!(expected.judge(&verdict), Judged::Refused));
        let other = Meeting::new(Some(&[7; KEY]), "another job");
        assert!(matches!(other.claim(&hub.greeting(&HUB), &SPOKE), Greeted::OtherJob));
    }

    #[test]
    fn a_claim_cannot_be_replayed_and_a_hub_that_knows_nothing_is_found_out() {
        let meeting = Meeting::new(Some(&[7; KEY]), "job");
        let (claim, expected) = claimed(&meeting, &meeting.greeting(&HUB));
        assert!(meeting.judge(&claim, &[3; KEY]).1.is_none(), "to another nonce of the hub's it is no proof");
        let mut words = [0; VERDICT];
        words[..8].copy_from_slice(ACCEPTED);
        words[8..].copy_from_slice(&claim[8 + KEY..]);
        assert!(matches!(expected.judge(&words), Judged::Impostor), "the spoke's own proof is not the hub's");
    }

    proptest! {
        #[test]
        fn garbage_is_never_accepted(bytes in proptest::collection::vec(any::<u8>(), CLAIM), greeting in proptest::collection::vec(any::<u8>(), GREETING)) {
            let meeting = Meeting::new(Some(&[7; KEY]), "job");
            prop_assert!(meeting.judge(bytes[..].try_into().unwrap(), &HUB).1.is_none());
            prop_assert!(matches!(meeting.claim(greeting[..].try_into().unwrap(), &SPOKE), Greeted::Stranger));
        }
    }
}
