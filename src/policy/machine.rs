//! What policies speak of: nodes with their cpus, memory and GPUs.

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// A node of the job, as those processes see it that are started there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Node {
    /// Its number in the job.
    pub id: NodeId,
    /// The name of its host. Several nodes may be on one host.
    pub name: String,
    /// The numbers of the cpus on which processes of the job may run there, in order: affinity and cpusets are regarded.
    pub cpus: Vec<usize>,
    /// How many of them may be busy at a time: fewer than there are if a control group limits their time. At least 1.
    pub parallelism: usize,
    /// Its NUMA nodes, in order.
    pub numa: Vec<Numa>,
    /// Bytes of memory that the job may use: the machine's, or its control group's.
    pub memory: u64,
    /// The GPUs that processes see there, vendor by vendor: masks in the environment are regarded.
    pub gpus: Vec<Gpu>,
}

/// A NUMA node: cpus that are near to a part of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Numa {
    /// Its number on the host.
    pub number: usize,
    /// Its cpus, whoever may use them, in order.
    pub cpus: Vec<usize>,
    /// Bytes of its memory.
    pub memory: u64,
}

/// Who has made a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Vendor {
    /// Its variable is `CUDA_VISIBLE_DEVICES`.
    Nvidia,
    /// Its variable is `ROCR_VISIBLE_DEVICES`.
    Amd,
    /// Its variable is `ZE_AFFINITY_MASK`.
    Intel,
}

/// A GPU, or a part of one that processes see as a device of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Gpu {
    /// Who has made it.
    pub vendor: Vendor,
    /// What its variable calls it on this node: a number, or the name by which a mask in the environment of the job names it.
    pub name: String,
    /// Its name for all time: `GPU-..` or `MIG-..`. Of an Intel GPU, its address on the bus, and its tile.
    pub uuid: String,
    /// What the vendor calls such a GPU.
    pub model: String,
    /// Bytes of its own memory; 0 if nobody knows.
    pub memory: u64,
}

impl Vendor {
    /// The variable by which a process is told which GPUs of this vendor it sees.
    pub fn variable(self) -> &'static str {
        match self {
            Vendor::Nvidia => "CUDA_VISIBLE_DEVICES",
            Vendor::Amd => "ROCR_VISIBLE_DEVICES",
            Vendor::Intel => "ZE_AFFINITY_MASK",
        }
    }
}

impl std::fmt::Display for Vendor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Vendor::Nvidia => "NVIDIA",
            Vendor::Amd => "AMD",
            Vendor::Intel => "Intel",
        })
    }
}

impl Gpu {
    /// The variable by which a process is told that it sees this GPU.
    pub fn variable(&self) -> &'static str {
        self.vendor.variable()
    }
}

/// Numbers as the kernel lists them: `0-3,8`.
pub(crate) fn numbers(all: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in all {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |(first, last): (usize, usize)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_as_the_kernel_lists_them() {
        for (all, text) in [(&[][..], ""), (&[3], "3"), (&[0, 1], "0-1"), (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8")] {
            assert_eq!(numbers(all), text);
        }
    }
}
