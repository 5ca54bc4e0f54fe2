//! The file in which Cray PALS, and Slurm's `cray_shasta` plugin, write down who runs where. `PALS_APINFO` names it.
//!
//! ```text
//! i32 version, padding, u64 length of the file
//! five sections as (u64 size of an entry, u64 offset, u64 entries): profile, command, process, node, interface
//! process  {i32 index on its node, i32 command, i32 node}, by rank
//! node     {i32 number, char name[64]}
//! ```
//! The sizes stand in the file, so entries may grow at their ends.

/// What of it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AppInfo {
    /// How many ranks.
    pub(super) size: u32,
    /// The machine of rank 0.
    pub(super) first_host: String,
    /// Whether all ranks are on it.
    pub(super) is_one_node: bool,
}

const SECTIONS: usize = 16;
const PROCESSES: usize = 2;
const NODES: usize = 3;

struct Section {
    entry: usize,
    offset: usize,
    count: usize,
}

/// Reads the file. `None` if it is no such file.
pub(super) fn parse(bytes: &[u8]) -> Option<AppInfo> {
    if i32_at(bytes, 0)? < 1 || u64_at(bytes, 8)? > bytes.len() {
        return None;
    }
    let (processes, nodes) = (section(bytes, PROCESSES)?, section(bytes, NODES)?);
    if processes.entry < 12 || nodes.entry <= 4 || processes.count == 0 {
        return None;
    }
    let node_of = |rank: usize| i32_at(bytes, processes.offset + rank * processes.entry + 8);
    let first = node_of(0)?;
    let is_one_node = (1..processes.count).all(|rank| node_of(rank) == Some(first));
    let first = usize::try_from(first).ok().filter(|node| *node < nodes.count)?;
    let at = nodes.offset + first * nodes.entry;
    let name = bytes.get(at + 4..at + nodes.entry)?.split(|byte| *byte == 0).next()?;
    let first_host = String::from_utf8_lossy(name).into_owned();
    Some(AppInfo { size: u32::try_from(processes.count).ok()?, first_host, is_one_node })
}

fn section(bytes: &[u8], number: usize) -> Option<Section> {
    let at = SECTIONS + 24 * number;
    let found = Section { entry: u64_at(bytes, at)?, offset: u64_at(bytes, at + 8)?, count: u64_at(bytes, at + 16)? };
    let end = found.entry.checked_mul(found.count)?.checked_add(found.offset)?;
    (end <= bytes.len()).then_some(found)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Such a file with these ranks: the node of each, and the nodes' names.
#[cfg(test)]
pub(super) fn written(node_of_rank: &[i32], hosts: &[&str]) -> Vec<u8> {
    let (process, node) = (12, 68);
    let processes_at = SECTIONS + 24 * 5;
    let nodes_at = processes_at + process * node_of_rank.len();
    let length = nodes_at + node * hosts.len();
    let mut bytes = [1i32.to_le_bytes(), [0; 4]].concat();
    bytes.extend((length as u64).to_le_bytes());
    let sections =
        [(0, 0, 0), (0, 0, 0), (process, processes_at, node_of_rank.len()), (node, nodes_at, hosts.len()), (0, 0, 0)];
    for (entry, offset, count) in sections {
        bytes.extend([entry, offset, count].into_iter().flat_map(|number| (number as u64).to_le_bytes()));
    }
    for on in node_of_rank {
        bytes.extend([0, 0, *on].into_iter().flat_map(i32::to_le_bytes));
    }
    for (number, host) in hosts.iter().enumerate() {
        bytes.extend((number as i32).to_le_bytes());
        bytes.extend(host.bytes().chain(std::iter::repeat(0)).take(64));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn size_and_first_host_are_found() {
        let file = written(&[1, 1, 0], &["nid1", "nid2"]);
        assert_eq!(parse(&file), Some(AppInfo { size: 3, first_host: "nid2".into(), is_one_node: false }));
        assert!(parse(&written(&[0, 0], &["nid1"])).unwrap().is_one_node);
        assert_eq!(parse(&written(&[7], &["nid1"])), None, "no such node");
        assert_eq!(parse(&file[..file.len() - 1]), None, "cut off");
    }

    proptest! {
        #[test]
        fn nonsense_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200, with in any::<u8>()) {
            let _ = parse(&bytes);
            let mut file = written(&[0, 1, 1], &["a", "b"]);
            file[at] = with;
            let _ = parse(&file);
        }
    }
}
