//! What variables in the environment hide: the masks of CUDA, ROCm and Level Zero, read as their libraries read them.

use super::Found;
use crate::policy::{Gpu, Vendor};

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The GPUs that are left, in the masks' order and with the masks' names.
pub(super) fn apply(found: Vec<Found>, environment: &dyn Fn(&str) -> Option<String>) -> Vec<Gpu> {
    let of = |vendor: Vendor| found.iter().filter(|found| found.gpu.vendor == vendor).cloned().collect::<Vec<_>>();
    let mut left = nvidia(of(Vendor::Nvidia), environment);
    left.extend(amd(of(Vendor::Amd), environment));
    left.extend(intel(of(Vendor::Intel), environment));
    left
}

fn nvidia(found: Vec<Found>, environment: Environment<'_>) -> Vec<Gpu> {
    if let Some(mask) = environment("CUDA_VISIBLE_DEVICES") {
        return chosen(&found, &mask);
    }
    // CUDA numbers the fastest first unless told otherwise, and we by the bus: between cards that differ only names are safe.
    let by_bus = environment("CUDA_DEVICE_ORDER").is_some_and(|order| order == "PCI_BUS_ID");
    let alike = found.windows(2).all(|pair| pair[0].gpu.model == pair[1].gpu.model);
    let safe = |found: Found| match alike || by_bus {
        true => found.gpu,
        false => Gpu { name: found.gpu.uuid.clone(), ..found.gpu },
    };
    found.into_iter().map(safe).collect()
}

fn amd(found: Vec<Found>, environment: Environment<'_>) -> Vec<Gpu> {
    let left = match environment("ROCR_VISIBLE_DEVICES") {
        Some(mask) => chosen(&found, &mask),
        None => found.into_iter().map(|found| found.gpu).collect(),
    };
    // HIP counts among what ROCm leaves; its own variable comes before that of CUDA, which is for it too on such machines.
    let Some(mask) = environment("HIP_VISIBLE_DEVICES") else { return left };
    let places = mask.split(',').map_while(|place| place.trim().parse::<usize>().ok());
    places.map_while(|place| left.get(place).cloned()).collect()
}

/// Those that a list of numbers and names names: up to the first entry that names none, as CUDA and ROCm have it.
fn chosen(found: &[Found], mask: &str) -> Vec<Gpu> {
    let mut left: Vec<Gpu> = Vec::new();
    for entry in mask.split(',').map(str::trim) {
        let Some(gpu) = by_number(found, entry).or_else(|| by_name(found, entry)) else { break };
        if !left.iter().any(|other| other.uuid == gpu.uuid) {
            left.push(gpu);
        }
    }
    left
}

/// Of a card in parts its number means the first of them.
fn by_number(found: &[Found], entry: &str) -> Option<Gpu> {
    let card: usize = entry.parse().ok()?;
    let found = found.iter().find(|found| found.card == card)?;
    let name = found.whole.as_ref().map_or_else(|| entry.into(), |_| found.gpu.name.clone());
    Some(Gpu { name, ..found.gpu.clone() })
}

/// A name may be cut short where it still means one. It stays the name, since the mask's is understood for sure.
fn by_name(found: &[Found], entry: &str) -> Option<Gpu> {
    if !entry.starts_with("GPU-") && !entry.starts_with("MIG-") {
        return None;
    }
    let begins = |name: &str| name.get(..entry.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(entry));
    let mut meant = found.iter().filter(|found| begins(&found.gpu.uuid));
    if let (Some(one), None) = (meant.next(), meant.next()) {
        return Some(Gpu { name: entry.into(), ..one.gpu.clone() });
    }
    let part = found.iter().find(|found| found.whole.as_ref().is_some_and(|whole| begins(whole)))?;
    Some(part.gpu.clone())
}

/// Level Zero shows tiles as devices and numbers them through (`FLAT`), or cards with tiles in them: `card` and `card.tile`.
/// An empty mask hides nothing, and an entry that names nothing is passed over.
fn intel(found: Vec<Found>, environment: Environment<'_>) -> Vec<Gpu> {
    let nested = environment("ZE_FLAT_DEVICE_HIERARCHY").is_some_and(|kind| kind.eq_ignore_ascii_case("COMPOSITE"));
    let parts = |card: usize| found.iter().filter(|found| found.card == card).count();
    let name = |(at, one): (usize, &Found)| match nested {
        false => at.to_string(),
        true if parts(one.card) > 1 => format!("{}.{}", one.card, one.part),
        true => one.card.to_string(),
    };
    let named = found.iter().enumerate().map(|(at, one)| Gpu { name: name((at, one)), ..one.gpu.clone() });
    let Some(mask) = environment("ZE_AFFINITY_MASK").filter(|mask| !mask.trim().is_empty()) else {
        return named.collect();
    };
    let entries: Vec<&str> = mask.split(',').map(str::trim).collect();
    let is_meant = |gpu: &Gpu| {
        let card = gpu.name.split('.').next().unwrap_or_default();
        entries.iter().any(|entry| *entry == gpu.name || *entry == card || entry.strip_suffix(".0") == Some(&gpu.name))
    };
    named.filter(is_meant).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gpu;
    use super::*;

    fn cards(vendor: Vendor, uuids: &[&str]) -> Vec<Found> {
        let card = |(card, uuid): (usize, &&str)| Found {
            card,
            whole: None,
            part: 0,
            gpu: gpu(vendor, card.to_string(), uuid.to_string(), "model".into(), 1),
        };
        uuids.iter().enumerate().map(card).collect()
    }

    fn names(found: &[Found], variables: &[(&str, &str)]) -> Vec<String> {
        let environment = |name: &str| Some(variables.iter().find(|(other, _)| *other == name)?.1.to_string());
        apply(found.to_vec(), &environment).into_iter().map(|gpu| gpu.name).collect()
    }

    #[test]
    fn cuda_takes_numbers_and_names_up_to_the_first_that_is_wrong() {
        let four = cards(Vendor::Nvidia, &["GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44"]);
        let seen = |mask: &str| names(&four, &[("CUDA_VISIBLE_DEVICES", mask)]);
        assert_eq!(names(&four, &[]), ["0", "1", "2", "3"]);
        assert_eq!(seen("2,0"), ["2", "0"]);
        assert_eq!(seen(" 3 , 1 "), ["3", "1"]);
        assert_eq!(seen("1,7,2"), ["1"], "nothing behind a wrong one");
        assert_eq!(seen("2,-1,3"), ["2"]);
        assert_eq!(seen("GPU-bb,GPU-aa22"), ["GPU-bb", "GPU-aa22"], "cut short");
        assert_eq!(seen("gpu-bb"), [""; 0]);
        assert_eq!(seen("GPU-aa"), [""; 0], "it means two");
        for none in ["", "NoDevFiles", "none", "-1", "void"] {
            assert_eq!(seen(none), [""; 0], "{none:?}");
        }
        assert_eq!(seen("1,1,2"), ["1", "2"]);
    }

    #[test]
    fn parts_of_a_card_have_names_and_a_card_means_its_first() {
        let mut found = cards(Vendor::Nvidia, &["MIG-p", "MIG-q", "GPU-w"]);
        for (at, card) in [(0, 0), (1, 0)] {
            found[at] = Found { card, whole: Some("GPU-v".into()), part: at, ..found[at].clone() };
            found[at].gpu.name = found[at].gpu.uuid.clone();
        }
        found[2].card = 1;
        found[2].gpu.name = "1".into();
        let seen = |mask: &str| names(&found, &[("CUDA_VISIBLE_DEVICES", mask)]);
        assert_eq!(names(&found, &[]), ["MIG-p", "MIG-q", "1"]);
        assert_eq!(seen("MIG-q,1"), ["MIG-q", "1"]);
        assert_eq!(seen("0"), ["MIG-p"]);
        assert_eq!(seen("GPU-v"), ["MIG-p"]);
    }

    #[test]
    fn cards_that_differ_go_by_their_names() {
        let mut two = cards(Vendor::Nvidia, &["GPU-slow", "GPU-fast"]);
        two[1].gpu.model = "another".into();
        assert_eq!(names(&two, &[]), ["GPU-slow", "GPU-fast"]);
        assert_eq!(names(&two, &[("CUDA_DEVICE_ORDER", "PCI_BUS_ID")]), ["0", "1"]);
    }

    #[test]
    fn rocm_has_two_masks_one_inside_the_other() {
        let eight = cards(Vendor::Amd, &["GPU-0", "GPU-1", "GPU-2", "GPU-3", "GPU-4", "GPU-5", "GPU-6", "GPU-7"]);
        assert_eq!(names(&eight, &[("ROCR_VISIBLE_DEVICES", "4,5,6")]), ["4", "5", "6"]);
        assert_eq!(names(&eight, &[("ROCR_VISIBLE_DEVICES", "4,5,6"), ("HIP_VISIBLE_DEVICES", "2,0")]), ["6", "4"]);
        assert_eq!(names(&eight, &[("HIP_VISIBLE_DEVICES", "7,8,1")]), ["7"]);
        assert_eq!(names(&eight, &[("ROCR_VISIBLE_DEVICES", "GPU-3,1")]), ["GPU-3", "1"]);
        assert_eq!(names(&eight, &[("ROCR_VISIBLE_DEVICES", "")]), [""; 0]);
        assert_eq!(names(&eight, &[("CUDA_VISIBLE_DEVICES", "")]).len(), 8, "not its variable");
    }

    #[test]
    fn level_zero_counts_tiles_or_cards() {
        let tile = |card: usize, part: usize| Found {
            card,
            part,
            whole: None,
            gpu: gpu(Vendor::Intel, String::new(), format!("PCI-{card}.{part}"), String::new(), 1),
        };
        let two_by_two = [tile(0, 0), tile(0, 1), tile(1, 0), tile(1, 1)];
        let nested = ("ZE_FLAT_DEVICE_HIERARCHY", "COMPOSITE");
        assert_eq!(names(&two_by_two, &[]), ["0", "1", "2", "3"]);
        assert_eq!(names(&two_by_two, &[("ZE_AFFINITY_MASK", "3,1")]), ["1", "3"]);
        assert_eq!(names(&two_by_two, &[nested]), ["0.0", "0.1", "1.0", "1.1"]);
        assert_eq!(names(&two_by_two, &[nested, ("ZE_AFFINITY_MASK", "1,0.1")]), ["0.1", "1.0", "1.1"]);
        assert_eq!(names(&two_by_two, &[("ZE_AFFINITY_MASK", "")]).len(), 4, "empty hides nothing");
        assert_eq!(names(&[tile(0, 0), tile(1, 0)], &[nested, ("ZE_AFFINITY_MASK", "1.0,9")]), ["1"]);
    }
}
