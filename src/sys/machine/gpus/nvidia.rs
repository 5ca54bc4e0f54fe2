//! NVIDIA's GPUs: by their library, or, where that cannot be loaded, as the driver lists them.

use std::fs;
use std::path::Path;

use super::{Found, gpu, nvml};
use crate::policy::Vendor;

/// A folder for each card, named after its address on the bus.
const DRIVER: &str = "/proc/driver/nvidia/gpus";

pub(super) fn find() -> Vec<Found> {
    nvml::find().unwrap_or_else(|| of_driver(DRIVER.as_ref()))
}

/// What the driver lists, in the order of the bus. It says nothing of memory.
fn of_driver(folder: &Path) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut cards: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    cards.sort();
    let described = cards.iter().filter_map(|card| {
        let text = fs::read_to_string(card.join("information")).ok()?;
        let field = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_string()));
        Some((field("GPU UUID:")?, field("Model:").unwrap_or_default()))
    });
    let card = |(card, (uuid, model)): (usize, (String, String))| Found {
        card,
        whole: None,
        part: 0,
        gpu: gpu(Vendor::Nvidia, card.to_string(), uuid, model, 0),
    };
    described.enumerate().map(card).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::trees::tree;
    use super::*;

    #[test]
    fn the_drivers_list_is_read() {
        let information = |model: &str, uuid: &str| {
            format!(
                "Model: \t\t {model}\nIRQ:   \t\t 120\nGPU UUID: \t {uuid}\nVideo BIOS: \t 96.00\nDevice Minor: \t 1\n"
            )
        };
        let (a, b) = (information("NVIDIA A100-SXM4-40GB", "GPU-5a"), information("NVIDIA A100-SXM4-40GB", "GPU-07"));
        let folder =
            tree(&[("0000:c7:00.0/information", &a), ("0000:07:00.0/information", &b), ("0000:0a:00.0/registry", "")]);
        let found = of_driver(folder.path());
        let told: Vec<_> = found.iter().map(|found| (found.card, found.gpu.uuid.as_str())).collect();
        assert_eq!(told, [(0, "GPU-07"), (1, "GPU-5a")]);
        assert_eq!(found[1].gpu.model, "NVIDIA A100-SXM4-40GB");
        assert_eq!(of_driver("/nowhere".as_ref()), []);
    }
}
