//! What this machine has, as far as this process may use it: cpus, memory, GPUs.

mod gpus;
mod numa;
mod quota;
#[cfg(test)]
mod trees;

use crate::id::NodeId;
use crate::policy::{Gpu, Node};

/// Describes this machine as the node of that number, but for its GPUs: opens a few files.
pub(crate) fn describe(id: NodeId) -> Node {
    let cpus = super::affinity::of_process().unwrap_or_else(|error| {
        tracing::warn!(%error, "the kernel does not say on which cpus this process may run");
        (0..std::thread::available_parallelism().map_or(1, Into::into)).collect()
    });
    Node {
        id,
        name: super::process::host_name(),
        parallelism: quota::of_process().map_or(cpus.len(), |quota| quota.clamp(1, cpus.len())),
        numa: numa::read(numa::FOLDER.as_ref(), &cpus),
        cpus,
        memory: super::shm::memory_of_machine(),
        gpus: Vec::new(),
    }
}

/// The GPUs of this machine. May load a vendor's library, which takes milliseconds, or seconds where it wakes its cards.
pub(crate) fn gpus() -> Vec<Gpu> {
    gpus::visible(|name| std::env::var(name).ok())
}
