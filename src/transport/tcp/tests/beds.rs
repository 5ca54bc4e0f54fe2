//! Engines for tests: on the loopback, as members of one job.

use std::time::Duration;

use super::proxy::Proxy;
use crate::id::JobId;
use crate::transport::conformance::{Bed, Party};
use crate::transport::{Engine, Identity, Node, Secret, Settings, Tcp, Tuning};

/// Nodes of a job on the loopback.
pub(in crate::transport) fn identity(node: Node) -> Identity {
    Identity { job: JobId(0xdead), node, epoch: 10 + u64::from(node), build: [7; 16], secret: Secret([42; 32]) }
}

pub(in crate::transport) fn settings() -> Settings {
    Settings { prefix: Some("127.0.0.1".into()), ..Settings::default() }
}

pub(in crate::transport) fn tuning() -> Tuning {
    Tuning { nodes: 100, connect: Duration::from_secs(5), ..Tuning::default() }
}

/// Introduces all to all.
pub(in crate::transport) fn introduce(engines: &mut [Box<dyn Engine>]) {
    let addresses: Vec<Vec<u8>> = engines.iter().map(|engine| engine.address()).collect();
    for (at, engine) in engines.iter_mut().enumerate() {
        for (node, address) in addresses.iter().enumerate().filter(|(node, _)| *node != at) {
            engine.know(node as Node, identity(node as Node).epoch, address).unwrap();
        }
    }
}

/// So many nodes with these settings.
pub(in crate::transport) fn nodes(count: Node, settings: &Settings) -> Vec<Box<dyn Engine>> {
    let open = |node| Box::new(Tcp::open(identity(node), settings.clone(), tuning()).unwrap()) as Box<dyn Engine>;
    let mut engines: Vec<_> = (0..count).map(open).collect();
    introduce(&mut engines);
    engines
}

pub(super) struct Plain;

impl Bed for Plain {
    fn engines(count: u32) -> Vec<Box<dyn Engine>> {
        nodes(count, &settings())
    }
}

pub(super) struct Encrypted;

impl Bed for Encrypted {
    // Without optimisation a cipher makes a megabyte a second.
    const SLOWER: u64 = if cfg!(debug_assertions) { 20 } else { 1 };

    fn engines(count: u32) -> Vec<Box<dyn Engine>> {
        nodes(count, &Settings { encryption: true, ..settings() })
    }
}

pub(super) struct Six;

impl Bed for Six {
    fn engines(count: u32) -> Vec<Box<dyn Engine>> {
        nodes(count, &Settings { prefix: Some("::1".into()), ..settings() })
    }
}

/// Two nodes with a proxy before each: `proxies[n]` leads to node `n`.
pub(super) fn bridged(settings: &Settings, tuning: Tuning) -> (Vec<Party>, [Proxy; 2]) {
    let open = |node| Tcp::open(identity(node), settings.clone(), tuning.clone()).unwrap();
    let mut engines = [open(0), open(1)];
    let proxies = [0, 1].map(|node: usize| Proxy::to(&engines[node].address()));
    engines[0].know(1, identity(1).epoch, &proxies[1].address()).unwrap();
    engines[1].know(0, identity(0).epoch, &proxies[0].address()).unwrap();
    (engines.into_iter().map(|engine| Party::new(Box::new(engine))).collect(), proxies)
}
