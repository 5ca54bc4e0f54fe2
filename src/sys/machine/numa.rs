//! NUMA nodes, as `/sys/devices/system/node` shows them.

use std::fs;
use std::path::Path;

use crate::policy::Numa;

pub(super) const FOLDER: &str = "/sys/devices/system/node";

/// All NUMA nodes under a folder, in order. A kernel without them has none.
pub(super) fn read(folder: &Path) -> Vec<Numa> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let node = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        let cpus = list(&fs::read_to_string(entry.path().join("cpulist")).ok()?)?;
        let memory = fs::read_to_string(entry.path().join("meminfo")).ok();
        Some(Numa { number, cpus, memory: memory.and_then(|text| total(&text)).unwrap_or(0) })
    };
    let mut all: Vec<Numa> = entries.flatten().filter_map(node).collect();
    all.sort_by_key(|numa| numa.number);
    all
}

/// Bytes in a line like `Node 0 MemTotal:  263737300 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let (_, rest) = meminfo.split_once("MemTotal:")?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Numbers as the kernel lists them: `0-3,8`.
pub(super) fn list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for run in text.trim().split(',').filter(|run| !run.is_empty()) {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        all.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!((list("\n"), list("x"), list("3-")), (Some(vec![]), None, None));
    }

    #[test]
    fn a_machine_with_two_nodes_and_one_of_memory_only_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for (name, cpus, kib) in [("node1", "4-7,12-15\n", 1000), ("node0", "0-3,8-11\n", 2000), ("node2", "\n", 64)] {
            let node = folder.path().join(name);
            fs::create_dir(&node).unwrap();
            fs::write(node.join("cpulist"), cpus).unwrap();
            let number = &name[4..];
            let text = format!("Node {number} MemTotal:       {kib} kB\nNode {number} MemFree:        1 kB\n");
            fs::write(node.join("meminfo"), text).unwrap();
        }
        fs::write(folder.path().join("online"), "0-2\n").unwrap();
        let numa = read(folder.path());
        assert_eq!(numa.iter().map(|numa| numa.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(numa[1].cpus, [4, 5, 6, 7, 12, 13, 14, 15]);
        assert_eq!((numa[0].memory, numa[2].memory, numa[2].cpus.len()), (2000 * 1024, 64 * 1024, 0));
    }
}
