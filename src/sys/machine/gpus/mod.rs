//! The GPUs of this machine that this process may use: what the vendors' ways of looking find, less what masks hide.
//!
//! One vendor each in `nvidia.rs`, `amd.rs`, `intel.rs`; the masks in `masks.rs`. For tests of placement on machines without
//! GPUs, `DRAGON_FAKE_GPUS` takes the place of all of them (`fake.rs`).

mod amd;
mod fake;
mod intel;
mod masks;
mod nvidia;
mod nvml;

use crate::policy::{Gpu, Vendor};

/// A GPU, or a part of one, before any mask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// The number of its card among those of its vendor.
    card: usize,
    /// The card's name for all time, if it is a part of one.
    whole: Option<String>,
    /// Its part of the card; 0 if it is the whole.
    part: usize,
    /// What it is called without a mask, and the rest.
    gpu: Gpu,
}

/// The GPUs that this process sees, vendor by vendor, with this environment.
pub(super) fn visible(environment: impl Fn(&str) -> Option<String>) -> Vec<Gpu> {
    let found = match environment(fake::VARIABLE) {
        Some(text) => fake::read(&text),
        None => [nvidia::find(), amd::find(amd::TOPOLOGY.as_ref()), intel::find(intel::CARDS.as_ref())].concat(),
    };
    masks::apply(found, &environment)
}

fn gpu(vendor: Vendor, name: String, uuid: String, model: String, memory: u64) -> Gpu {
    Gpu { vendor, name, uuid, model, memory }
}

/// The text of a small file, without the end of its line.
fn line(path: impl AsRef<std::path::Path>) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_string())
}

/// The entries of a folder whose names are this word and a number, in the order of those.
fn numbered(folder: &std::path::Path, word: &str) -> Vec<(usize, std::path::PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let number = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix(word)?.parse().ok()?;
        Some((number, entry.path()))
    };
    let mut all: Vec<_> = entries.flatten().filter_map(number).collect();
    all.sort();
    all
}
