//! The control groups of this process, of either version: where their files are.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
pub(crate) const MOUNT: &str = "/sys/fs/cgroup";

/// A control group's folder and those it lies in, innermost first, as version 2 has it or as version 1 for one controller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// Whether it is of version 2: the names of files differ.
    pub(crate) unified: bool,
    /// The folders.
    pub(crate) folders: Vec<PathBuf>,
}

/// The groups of this process that limit what `controller` controls.
pub(crate) fn of_process(controller: &str) -> Vec<Groups> {
    let listed = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    find(&listed, MOUNT.as_ref(), controller)
}

/// The groups that `/proc/self/cgroup` lists, whose lines are `number:controllers:path`.
pub(crate) fn find(listed: &str, mount: &Path, controller: &str) -> Vec<Groups> {
    let groups = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let unified = controllers.is_empty();
        let root = match unified {
            // Beside version 1 it has a folder of its own.
            true if mount.join("unified").is_dir() => mount.join("unified"),
            true => mount.into(),
            false if controllers.split(',').any(|name| name == controller) => mount.join(controller),
            false => return None,
        };
        let group = root.join(path.trim_start_matches('/'));
        let folders = group.ancestors().take_while(|at| at.starts_with(&root)).map(Into::into).collect();
        Some(Groups { unified, folders })
    };
    listed.lines().filter_map(groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_either_version_are_found() {
        let found = |listed: &str| find(listed, "/mount".as_ref(), "cpu");
        let folders = |folders: &[&str]| folders.iter().map(PathBuf::from).collect::<Vec<_>>();
        let two = found("0::/user.slice/job_7\n");
        assert_eq!(
            two,
            [Groups { unified: true, folders: folders(&["/mount/user.slice/job_7", "/mount/user.slice", "/mount"]) }]
        );
        let one = found("4:cpu,cpuacct:/slurm/job_7\n3:memory:/elsewhere\n1:name=systemd:/\n");
        assert_eq!(
            one,
            [Groups {
                unified: false,
                folders: folders(&["/mount/cpu/slurm/job_7", "/mount/cpu/slurm", "/mount/cpu"])
            }]
        );
        assert_eq!(found("nonsense\n\n7:cpuset:/x\n"), []);
    }
}
