//! What this machine has, as far as this process may use it: cpus, memory, GPUs.

mod gpus;
mod numa;
mod quota;
#[cfg(test)]
mod trees;

use crate::id::NodeId;
use crate::policy::Node;

/// Describes this machine as the node of that number. Opens files and may load a vendor's library: milliseconds to, at the
/// first GPU after a start of the machine, seconds.
pub(crate) fn describe(id: NodeId) -> Node {
    let cpus = super::affinity::of_process().unwrap_or_else(|error| {
        tracing::warn!(%error, "the kernel does not say on which cpus this process may run");
        (0..std::thread::available_parallelism().map_or(1, Into::into)).collect()
    });
    Node {
        id,
        name: super::process::host_name(),
        parallelism: quota::of_process().map_or(cpus.len(), |quota| quota.clamp(1, cpus.len())),
        cpus,
        numa: numa::read(numa::FOLDER.as_ref()),
        memory: super::shm::memory_of_machine(),
        gpus: gpus::visible(|name| std::env::var(name).ok()),
    }
}
