//! What has come is owed to the sender, who keeps it until he hears of it.

use std::time::Duration;

use super::beds::{identity, introduce, settings, tuning};
use crate::transport::conformance::{Party, to, until};
use crate::transport::{Engine, SendError, Settings, Tcp, Token, Tuning};

/// Each time the sender may keep no more, the receiver, who has nothing to say himself, tells him in time: long before the
/// next tick, which here never comes.
#[test]
fn debts_are_paid_again_and_again() {
    const ROUNDS: usize = 5;
    let never = Settings { silence: Duration::from_secs(24 * 3600), ..settings() };
    let open = |node| Tcp::open(identity(node), never.clone(), Tuning { lane_bytes: 1 << 20, ..tuning() });
    let mut engines: Vec<Box<dyn Engine>> =
        [0, 1].map(|node| Box::new(open(node).unwrap()) as Box<dyn Engine>).into_iter().collect();
    introduce(&mut engines);
    let mut all: Vec<Party> = engines.into_iter().map(Party::new).collect();
    let (body, mut sent) = ([7; 4096], 0);
    for _ in 0..ROUNDS {
        loop {
            match all[0].engine.send(to(1, 0), 0, &[], &body, Token(1 + sent as u64)) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        until(&mut all, |all| all[0].ended() == sent);
    }
    assert!(sent * body.len() > (ROUNDS - 1) << 20, "{sent}: heads count as well");
}
