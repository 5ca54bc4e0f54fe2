//! A hand-made caller: a member that breaks the rules, or somebody who is none.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::super::address;
use super::super::handshake::{ANSWER, Hello, Incarnation, POSITION, Transcript};
use super::beds::identity;
use crate::transport::conformance::Party;
use crate::transport::{Node, Secret};

/// One connection to an engine that the test polls.
pub(super) struct Fake {
    pub(super) stream: TcpStream,
}

/// What a member of the test's job says to node 0.
pub(super) fn hello(node: Node) -> Hello {
    let (me, them) = (identity(node), identity(0));
    Hello {
        encrypted: false,
        lane: 0,
        build: me.build,
        job: me.job,
        from: Incarnation { node, epoch: me.epoch },
        to: Incarnation { node: 0, epoch: them.epoch },
        session: 0,
        nonce: [1; 32],
    }
}

impl Fake {
    pub(super) fn call(party: &Party) -> Fake {
        let stream = TcpStream::connect(address::read(&party.engine.address()).unwrap()[0]).unwrap();
        stream.set_nonblocking(true).unwrap();
        Fake { stream }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) {
        // Fails when the engine has hung up, which the test sees by other means.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads exactly so much while the engine is polled. `None`: it hung up.
    pub(super) fn read<const N: usize>(&mut self, party: &mut Party) -> Option<[u8; N]> {
        let (mut bytes, mut have) = ([0; N], 0);
        let begin = Instant::now();
        while have < N {
            party.poll();
            match self.stream.read(&mut bytes[have..]) {
                Ok(0) => return None,
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "neither bytes nor an end");
        }
        Some(bytes)
    }

    /// Whether the engine hangs up, which it is given time for.
    pub(super) fn is_hung_up_on(&mut self, party: &mut Party) -> bool {
        self.read::<1>(party).is_none()
    }

    /// Goes through the whole handshake with node 0. `None`: it was refused.
    pub(super) fn enter(party: &mut Party, hello: Hello, secret: &Secret, position: u64) -> Option<Fake> {
        let mut fake = Fake::call(party);
        fake.say(&hello.write());
        let answer = fake.read::<ANSWER>(party)?;
        let (transcript, _) = Transcript::read_answer(secret, &hello, &answer).ok()?;
        fake.say(&transcript.proof(position));
        let welcome = fake.read::<POSITION>(party)?;
        transcript.read_welcome(&welcome).ok()?;
        Some(fake)
    }
}
