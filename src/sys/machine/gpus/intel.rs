//! Intel's GPUs with memory of their own, as the kernel's drivers for graphics list them (`i915` and `xe`), tile by tile.
//!
//! Those that are part of a processor are left out: policies are about devices for compute.

use std::fs;
use std::path::Path;

use super::{Found, gpu, line, numbered};
use crate::policy::Vendor;

/// A folder for each card.
pub(super) const CARDS: &str = "/sys/class/drm";

/// A card with its memory and tiles.
struct Card {
    address: String,
    model: String,
    memory: u64,
    tiles: usize,
}

pub(super) fn find(folder: &Path) -> Vec<Found> {
    let mut cards: Vec<Card> = numbered(folder, "card").into_iter().filter_map(|(_, card)| describe(&card)).collect();
    // As Level Zero numbers them.
    cards.sort_by(|a, b| a.address.cmp(&b.address));
    let tiles = |(at, card): (usize, Card)| (0..card.tiles).map(move |part| tile(at, part, &card)).collect::<Vec<_>>();
    cards.into_iter().enumerate().flat_map(tiles).collect()
}

fn tile(at: usize, part: usize, card: &Card) -> Found {
    let of_many = if card.tiles > 1 { format!(".{part}") } else { String::new() };
    let uuid = format!("PCI-{}{of_many}", card.address);
    let memory = card.memory / card.tiles as u64;
    Found { card: at, whole: None, part, gpu: gpu(Vendor::Intel, String::new(), uuid, card.model.clone(), memory) }
}

fn describe(card: &Path) -> Option<Card> {
    let device = card.join("device");
    line(device.join("vendor")).filter(|vendor| vendor == "0x8086")?;
    let events = fs::read_to_string(device.join("uevent")).ok()?;
    let address = events.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME="))?.to_string();
    let model = line(device.join("device")).map_or_else(String::new, |id| format!("Intel {id}"));
    let number = |path: std::path::PathBuf| line(path)?.parse::<u64>().ok();
    // `xe` has a folder for each tile of the device, `i915` one for each engine, of which such cards have one a tile.
    let tiles = numbered(&device, "tile");
    let of_tiles: u64 = tiles.iter().filter_map(|(_, tile)| number(tile.join("physical_vram_size_bytes"))).sum();
    let memory = number(card.join("lmem_total_bytes")).unwrap_or(of_tiles);
    let tiles = tiles.len().max(numbered(&card.join("gt"), "gt").len()).max(1);
    (memory > 0).then_some(Card { address, model, memory, tiles })
}

#[cfg(test)]
mod tests {
    use super::super::super::trees::tree;
    use super::*;

    #[test]
    fn cards_of_both_drivers_are_read_and_those_without_memory_left_out() {
        let at = |address: &str| format!("DRIVER=i915\nPCI_CLASS=38000\nPCI_SLOT_NAME={address}\nMODALIAS=pci\n");
        let (first, second, inside) = (at("0000:18:00.0"), at("0000:9a:00.0"), at("0000:00:02.0"));
        let folder = tree(&[
            ("card1/device/vendor", "0x8086\n"),
            ("card1/device/device", "0x0bd5\n"),
            ("card1/device/uevent", &second),
            ("card1/lmem_total_bytes", "137438953472\n"),
            ("card1/gt/gt0/id", "0\n"),
            ("card1/gt/gt1/id", "1\n"),
            ("card2/device/vendor", "0x8086\n"),
            ("card2/device/device", "0x56c0\n"),
            ("card2/device/uevent", &first),
            ("card2/device/tile0/physical_vram_size_bytes", "17179869184\n"),
            ("card0/device/vendor", "0x8086\n"),
            ("card0/device/uevent", &inside),
            ("card3/device/vendor", "0x102b\n"),
            ("card1-DP-1/status", "disconnected\n"),
            ("renderD128/device/vendor", "0x8086\n"),
        ]);
        let found = find(folder.path());
        let told: Vec<_> = found.iter().map(|one| (one.card, one.part, one.gpu.uuid.as_str())).collect();
        assert_eq!(told, [(0, 0, "PCI-0000:18:00.0"), (1, 0, "PCI-0000:9a:00.0.0"), (1, 1, "PCI-0000:9a:00.0.1")]);
        assert_eq!((found[0].gpu.memory, found[1].gpu.memory), (16 << 30, 64 << 30));
        assert_eq!(found[0].gpu.model, "Intel 0x56c0");
    }
}
