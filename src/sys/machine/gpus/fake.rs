//! GPUs that are not there, for tests: `DRAGON_FAKE_GPUS=nvidia:4:80,amd:2,intel:1` are so many of each vendor, with so
//! many GiB of memory. Real ones are not looked for then; masks hold as ever.

use super::{Found, gpu};
use crate::policy::Vendor;

pub(super) const VARIABLE: &str = "DRAGON_FAKE_GPUS";

/// What the variable says. Of what makes no sense there is none.
pub(super) fn read(text: &str) -> Vec<Found> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let some = parts.map(|part| {
        some(part).unwrap_or_else(|| {
            tracing::warn!("{VARIABLE}={text:?}: `{part}` is no `vendor:number` or `vendor:number:GiB`: none of these");
            Vec::new()
        })
    });
    some.flatten().collect()
}

fn some(part: &str) -> Option<Vec<Found>> {
    let mut words = part.split(':');
    let vendor = match words.next()?.to_ascii_lowercase().as_str() {
        "nvidia" => Vendor::Nvidia,
        "amd" => Vendor::Amd,
        "intel" => Vendor::Intel,
        _ => return None,
    };
    let number: usize = words.next()?.parse().ok()?;
    let memory: u64 = words.next().map_or(Some(0), |gib| gib.parse().ok())?;
    let one = |card: usize| Found {
        card,
        whole: None,
        part: 0,
        gpu: gpu(vendor, card.to_string(), format!("GPU-fake-{vendor}-{card}"), format!("fake {vendor}"), memory << 30),
    };
    Some((0..number).map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fakes_are_as_many_as_are_asked_for() {
        let found = read("nvidia:2:80, amd:1,,wrong,intel:x,apple:1,intel:1");
        let told: Vec<_> = found.iter().map(|found| (found.gpu.vendor, found.gpu.name.as_str())).collect();
        assert_eq!(told, [(Vendor::Nvidia, "0"), (Vendor::Nvidia, "1"), (Vendor::Amd, "0"), (Vendor::Intel, "0")]);
        assert_eq!((found[0].gpu.memory, found[2].gpu.memory), (80 << 30, 0));
        assert_ne!(found[0].gpu.uuid, found[2].gpu.uuid);
    }
}
