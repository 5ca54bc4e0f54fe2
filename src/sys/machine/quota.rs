//! How many cpus' time a control group gives this process.

use std::fs;
use std::path::Path;

use crate::sys::cgroup::{self, Groups};

/// Whole cpus that the quotas of this process's control groups amount to, rounded down; `None`: no quota.
pub(super) fn of_process() -> Option<usize> {
    smallest(&cgroup::of_process("cpu"))
}

/// The smallest quota on the way from a group to the root.
fn smallest(groups: &[Groups]) -> Option<usize> {
    let quotas = groups.iter().flat_map(|group| group.folders.iter().map(|folder| (group.unified, folder)));
    quotas.filter_map(|(unified, folder)| if unified { of_version_2(folder) } else { of_version_1(folder) }).min()
}

/// `cpu.max` holds microseconds of time, or `max`, in each of so many.
fn of_version_2(folder: &Path) -> Option<usize> {
    let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
    let mut words = text.split_ascii_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    whole(quota, words.next().map_or(Some(100_000), |period| period.parse().ok())?)
}

fn of_version_1(folder: &Path) -> Option<usize> {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    // No quota is -1, which is no number here.
    whole(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
}

fn whole(quota: u64, period: u64) -> Option<usize> {
    usize::try_from(quota.checked_div(period)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::trees::tree;
    use super::*;
    use crate::sys::cgroup::find;

    #[test]
    fn the_smallest_quota_on_the_way_counts_in_version_2() {
        let pod = "kubepods.slice/kubepods-burstable.slice";
        let (outer, inner) = (format!("{pod}/cpu.max"), format!("{pod}/cri-1/cpu.max"));
        let listed = format!("0::/{pod}/cri-1\n");
        for (texts, cpus) in [
            (["max 100000\n", "350000 100000\n"], Some(3)),
            (["200000 100000\n", "350000 100000\n"], Some(2)),
            (["max 100000\n", "max 100000\n"], None),
            (["50000 100000\n", "max\n"], Some(0)),
            (["400000\n", "x y\n"], Some(4)),
        ] {
            let mount = tree(&[(&outer, texts[0]), (&inner, texts[1])]);
            assert_eq!(smallest(&find(&listed, mount.path(), "cpu")), cpus, "{texts:?}");
        }
    }

    #[test]
    fn version_1_has_two_files() {
        let (quota, period) = ("cpu/slurm/job_7/cpu.cfs_quota_us", "cpu/slurm/job_7/cpu.cfs_period_us");
        let listed = "4:cpu,cpuacct:/slurm/job_7\n";
        for (texts, cpus) in [(["600000", "100000"], Some(6)), (["-1", "100000"], None), (["1", "0"], None)] {
            let mount = tree(&[(quota, texts[0]), (period, texts[1])]);
            assert_eq!(smallest(&find(listed, mount.path(), "cpu")), cpus, "{texts:?}");
        }
    }
}
