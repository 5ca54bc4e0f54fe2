//! Where memory comes from, what is left of it, and what happens when there is none left.

use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::mm::Backing;
use crate::mm::HugePages;
use crate::mm::MemError;
use crate::mm::Memory;
use crate::mm::MemoryConfig;
use crate::mm::backing::named;
use crate::mm::tests::basics::small;
use crate::mm::tests::recovery::join;
use crate::sys::shm;
use crate::time::Deadline;

fn config(backing: Backing) -> MemoryConfig {
    MemoryConfig { segment_size: 32 << 20, limit: 128 << 20, backing, ..MemoryConfig::default() }
}

fn works(memory: &Arc<Memory>) {
    let other = join(memory);
    let mut blocks: Vec<_> = (0..100).map(|at| memory.alloc(at * 9000).unwrap()).collect();
    blocks.iter_mut().for_each(|block| block.as_mut_slice().fill(1));
    assert!(memory.heap_stats().segments > 1);
    for block in blocks {
        drop(other.take_over(block.into_handle()).unwrap());
    }
    assert_eq!(memory.heap_stats().in_use_blocks, 0);
}

fn ours_in_dev_shm() -> usize {
    let prefix = named::prefix(shm::user());
    let names = fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(&prefix)).count()
}

#[test]
fn each_backing_works() {
    for backing in [Backing::Auto, Backing::Memfd, Backing::Named] {
        works(&Memory::create(&config(backing)).unwrap());
    }
    // Other tests' names are there for moments.
    let deadline = Deadline::after(Duration::from_secs(5));
    while ours_in_dev_shm() > 0 {
        assert!(!deadline.passed(), "a name is left in /dev/shm");
    }
}

#[test]
fn huge_pages_work_or_are_refused_with_a_reason() {
    let wanted = MemoryConfig { huge_pages: HugePages::Always, ..config(Backing::Auto) };
    match Memory::create(&wanted) {
        Ok(memory) => works(&memory),
        Err(error) => assert!(matches!(error, MemError::NoHugePages), "{error}"),
    }
    works(&Memory::create(&MemoryConfig { huge_pages: HugePages::Never, ..config(Backing::Auto) }).unwrap());
}

#[test]
fn only_our_dead_segments_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let prefix = named::prefix(shm::user());
    let (dead, locked) = (at(&format!("{prefix}00")), at(&format!("{prefix}01")));
    let (theirs, linked) = (at("dragon-4000000000-02"), at(&format!("{prefix}03")));
    for path in [&dead, &locked, &theirs] {
        fs::write(path, b"x").unwrap();
    }
    std::os::unix::fs::symlink(&theirs, &linked).unwrap();
    let holder = File::open(&locked).unwrap();
    assert!(shm::try_lock(&holder).unwrap());
    assert_eq!(named::sweep(folder.path()), 1);
    assert!(!dead.exists() && locked.exists() && theirs.exists() && linked.exists());
    drop(holder);
    assert_eq!(named::sweep(folder.path()), 1);
    assert_eq!(named::sweep(Path::new("/no such folder")), 0);
}

/// More than the machine has is refused before the kernel looks for somebody to kill.
#[test]
fn more_than_the_machine_has_is_an_error_with_figures() {
    let memory = small();
    let error = memory.facts.commit(1 << 40, (1 << 40) + (1 << 46)).unwrap_err();
    assert!(matches!(error, MemError::Full { asked, free } if asked == 1 << 46 && free > 0), "{error}");
    assert!(error.is_out_of_memory() && error.to_string().contains("/dev/shm"));
}

#[test]
fn settings_that_cannot_work_name_their_knob() {
    let base = config(Backing::Auto);
    let refused = |config: MemoryConfig| Memory::create(&config).err().unwrap().to_string();
    assert!(refused(MemoryConfig { segment_size: 1000, ..base.clone() }).contains("DRAGON_DEFAULT_SEG_SZ"));
    assert!(refused(MemoryConfig { segment_size: 1 << 50, ..base.clone() }).contains("DRAGON_DEFAULT_SEG_SZ"));
    assert!(refused(MemoryConfig { limit: 5, ..base }).contains("DRAGON_MEMORY_LIMIT"));
}

#[test]
fn a_tiny_limit_is_kept() {
    let memory = Memory::create(&MemoryConfig { limit: 1 << 20, ..config(Backing::Auto) }).unwrap();
    let blocks: Vec<_> = std::iter::from_fn(|| memory.alloc(1000).ok()).collect();
    assert!(blocks.len() > 500, "{}", blocks.len());
    assert!(memory.heap_stats().committed <= 1 << 20);
    assert!(memory.alloc(100_000).is_err());
    drop(blocks);
    // Another class: the slabs of the first are given back for it.
    assert!(memory.alloc(100_000).is_ok());
    assert!(memory.alloc(5000).is_ok());
}

#[test]
fn files_that_are_no_memory_are_refused() {
    let place = crate::id::ProcId(2);
    let attach = |file: OwnedFd| Memory::attach(file, place).err().unwrap();
    let file = shm::memory_file("empty", false).unwrap();
    assert!(matches!(attach(file), MemError::WrongLayout { .. }));
    let file = shm::memory_file("zero", false).unwrap();
    shm::set_len(&file, 64 << 20).unwrap();
    shm::commit(&file, 0, 4096).unwrap();
    assert!(matches!(attach(file), MemError::WrongLayout { .. }));
    let memory = small();
    let copy = || memory.descriptor().as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(attach(copy()), MemError::NotReserved { place: 2 }));
    assert!(matches!(Memory::attach(copy(), crate::id::ProcId(60_000)), Err(MemError::NotReserved { .. })));
    // Nobody can pull pages from under those who have it.
    assert!(shm::set_len(memory.descriptor(), 0).is_err());
}

/// The real thing, where we may mount a small `/dev/shm` of our own.
#[test]
fn a_full_dev_shm_is_an_error_not_a_signal() {
    let script = "mount -t tmpfs -o size=$1 dragon-test /dev/shm || exit 77; shift; exec \"$@\"";
    for (size, body) in [("8m", "in_a_small_dev_shm"), ("64k", "in_a_tiny_dev_shm")] {
        let ran = std::process::Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh", size])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", &format!("mm::tests::backings::{body}")])
            .env("DRAGON_MM_SMALL", "1")
            .output();
        match ran {
            Ok(ran) if ran.status.success() => assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed")),
            // We may not mount, or there is no such command.
            Ok(ran) if ran.status.code() == Some(77) || ran.stdout.is_empty() => {}
            Ok(ran) => panic!("{:?}: {}", ran.status, String::from_utf8_lossy(&ran.stdout)),
            Err(_) => {}
        }
    }
}

fn asked_for_small() -> bool {
    std::env::var_os("DRAGON_MM_SMALL").is_some()
}

#[test]
#[ignore = "the body of another test"]
fn in_a_small_dev_shm() {
    if !asked_for_small() {
        return;
    }
    let memory = Memory::create(&config(Backing::Named)).unwrap();
    for round in 0..3 {
        let mut blocks = Vec::new();
        let error = loop {
            match memory.alloc(300_000) {
                Ok(mut block) => {
                    block.as_mut_slice().fill(round);
                    blocks.push(block);
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, MemError::Full { asked: 300_000, free } if free < 400_000), "{error}");
        assert!(blocks.len() >= 15, "{}", blocks.len());
        assert!(blocks.iter().all(|block| block.as_slice().iter().all(|byte| *byte == round)));
    }
}

#[test]
#[ignore = "the body of another test"]
fn in_a_tiny_dev_shm() {
    if asked_for_small() {
        assert!(matches!(Memory::create(&config(Backing::Named)), Err(MemError::Full { .. })));
    }
}
