//! A job inside of control groups that limit its cpus, their time and its memory: what it sees is what it may use.
//!
//! Needs the right to make control groups; passed over, loudly, where it is not given.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::start_through;
use dragon::{Policy, Pool, Runtime};

#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "time" => time(&dragon),
        "cpuset" => cpuset(&dragon),
        "memory" => memory(&dragon),
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

/// A control group that lives as long as this.
struct Group(PathBuf);

impl Group {
    /// A group below this process's own, under whichever version this machine has, with these settings: a file's name in
    /// version 1 and in version 2, and what is written to it.
    fn new(controller: &str, settings: &[(&str, &str, &str)]) -> Option<Group> {
        let listed = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            let is_first = controllers.split(',').any(|name| name == controller);
            is_first.then(|| (Path::new("/sys/fs/cgroup").join(controller).join(path), true))
        };
        let second = || (PathBuf::from("/sys/fs/cgroup"), false);
        let (folder, is_first) = listed.lines().find_map(own).unwrap_or_else(second);
        let group = Group(folder.join(format!("dragon-test-{controller}-{}", std::process::id())));
        let made = fs::create_dir(&group.0).and_then(|()| {
            settings.iter().try_for_each(|(first, second, text)| {
                let file = if is_first { *first } else { *second };
                if file.is_empty() { Ok(()) } else { fs::write(group.0.join(file), text) }
            })
        });
        if let Err(error) = made {
            println!("SKIPPED: no control group for {controller} can be made here: {error}");
            return None;
        }
        Some(group)
    }

    fn run(&self, part: &str) {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display());
        start_through(&["sh", "-c", &enter], part, &[0], |_| Vec::new()).ends_well();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It may still have a process that is about to end, and then stays empty.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_quota_of_time_limits_how_many_run_at_a_time() {
    let version_2 = ("", "cpu.max", "150000 100000");
    let group = Group::new("cpu", &[("cpu.cfs_quota_us", "", "150000"), version_2]);
    if let Some(group) = group {
        group.run("time");
    }
}

fn time(dragon: &Runtime) {
    let system = dragon.system();
    assert_eq!(system.here().parallelism, 1, "one and a half, rounded down");
    let pool = Pool::builder().policy(Policy::new().local().gpus([0; 0])).build().unwrap();
    assert_eq!(pool.size(), 1);
}

#[test]
fn a_cpuset_leaves_its_cpus_and_no_others() {
    let group = Group::new("cpuset", &[("cpuset.mems", "cpuset.mems", "0"), ("cpuset.cpus", "cpuset.cpus", "0")]);
    if let Some(group) = group {
        group.run("cpuset");
    }
}

fn cpuset(dragon: &Runtime) {
    let system = dragon.system();
    assert_eq!((&system.here().cpus[..], system.here().parallelism), (&[0][..], 1));
    let error = Pool::builder().processes(1).policy(Policy::new().cpus([1])).build().unwrap_err();
    assert!(error.to_string().contains("cpu 1 ") && error.to_string().contains("its cpus are 0"), "{error}");
    let pool = Pool::builder().policies(system.cpu_policies(), 1).build().unwrap();
    assert_eq!(pool.map(|x: u32| x + 1, [1]).unwrap(), [2]);
}

#[test]
fn a_limit_of_memory_is_all_that_there_is() {
    let limit = (256_u64 << 20).to_string();
    if let Some(group) = Group::new("memory", &[("memory.limit_in_bytes", "memory.max", &limit)]) {
        group.run("memory");
    }
}

fn memory(dragon: &Runtime) {
    assert_eq!(dragon.system().here().memory, 256 << 20);
    assert_eq!(dragon.system().memory(), 256 << 20);
}
