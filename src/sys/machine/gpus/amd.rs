//! AMD's GPUs, as the kernel's driver for compute lists them (`kfd`), in the order in which ROCm numbers them.

use std::fs;
use std::path::Path;

use super::{Found, gpu, line, numbered};
use crate::policy::Vendor;

/// A folder for each cpu and each GPU. What a container may not use cannot be read.
pub(super) const TOPOLOGY: &str = "/sys/class/kfd/kfd/topology/nodes";

/// Kinds of memory that are on the card.
const ON_CARD: [u64; 2] = [1, 2];

pub(super) fn find(folder: &Path) -> Vec<Found> {
    let described = numbered(folder, "").into_iter().filter_map(|(_, node)| describe(&node));
    let card = |(card, (uuid, model, memory)): (usize, (String, String, u64))| Found {
        card,
        whole: None,
        part: 0,
        gpu: gpu(Vendor::Amd, card.to_string(), uuid, model, memory),
    };
    described.enumerate().map(card).collect()
}

fn describe(node: &Path) -> Option<(String, String, u64)> {
    // A cpu's is 0.
    line(node.join("gpu_id"))?.parse::<u64>().ok().filter(|id| *id != 0)?;
    let properties = fs::read_to_string(node.join("properties")).ok()?;
    let unique = number(&properties, "unique_id").unwrap_or(0);
    let uuid = match unique {
        // Cards for desks have none: their address on the bus, then.
        0 => {
            let (domain, at) = (number(&properties, "domain").unwrap_or(0), number(&properties, "location_id")?);
            format!("PCI-{domain:04x}:{:02x}:{:02x}.{}", at >> 8 & 0xff, at >> 3 & 0x1f, at & 7)
        }
        unique => format!("GPU-{unique:016x}"),
    };
    let banks = numbered(&node.join("mem_banks"), "").into_iter();
    let bank = |(_, bank): (usize, std::path::PathBuf)| {
        let text = fs::read_to_string(bank.join("properties")).ok()?;
        let is_on_card = ON_CARD.contains(&number(&text, "heap_type")?);
        number(&text, "size_in_bytes").filter(|_| is_on_card)
    };
    Some((uuid, line(node.join("name")).unwrap_or_default(), banks.filter_map(bank).sum()))
}

/// The number behind a name, of lines with one each.
fn number(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(other, _)| *other == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::trees::tree;
    use super::*;

    #[test]
    fn a_node_with_a_cpu_and_three_cards_is_read() {
        let cpu = "cpu_cores_count 64\nsimd_count 0\nunique_id 0\n";
        let gpu = |unique: u64| {
            format!(
                "cpu_cores_count 0\nsimd_count 440\nlocation_id 49408\ndomain 0\ndrm_render_minor 128\nunique_id {unique}\n"
            )
        };
        let (first, second, desk) = (gpu(0x1234_5678_9abc_def0), gpu(0xf), gpu(0));
        let (video, system) =
            ("heap_type 1\nsize_in_bytes 68702699520\nflags 0\n", "heap_type 0\nsize_in_bytes 540000000\n");
        let folder = tree(&[
            ("0/gpu_id", "0\n"),
            ("0/properties", cpu),
            ("0/mem_banks/0/properties", system),
            ("10/gpu_id", "51234\n"),
            ("10/name", "aldebaran\n"),
            ("10/properties", &second),
            ("2/gpu_id", "27222\n"),
            ("2/name", "aldebaran\n"),
            ("2/properties", &first),
            ("2/mem_banks/0/properties", video),
            ("2/mem_banks/1/properties", system),
            ("11/gpu_id", "777\n"),
            ("11/properties", &desk),
            ("12/gpu_id", "778\n"),
        ]);
        let found = find(folder.path());
        let told: Vec<_> = found.iter().map(|found| (found.gpu.name.as_str(), found.gpu.uuid.as_str())).collect();
        assert_eq!(told, [("0", "GPU-123456789abcdef0"), ("1", "GPU-000000000000000f"), ("2", "PCI-0000:c1:00.0")]);
        assert_eq!((found[0].gpu.memory, found[1].gpu.memory), (68_702_699_520, 0));
        assert_eq!(found[0].gpu.model, "aldebaran");
    }
}
