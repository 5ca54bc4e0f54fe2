//! Where this process is: which start of which kernel, which network, which shared memory.

use std::{fs, os::unix::fs::MetadataExt};

use rustix::fs::Access;

/// The folder of shared memory with names.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// The random name of this start of the kernel; empty where the system hides it.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_string()
}

/// The number of this process's network namespace; zero where the system hides it.
pub(crate) fn network_namespace() -> u64 {
    fs::metadata("/proc/self/ns/net").map_or(0, |found| found.ino())
}

/// The number of the file system behind [`SHARED_MEMORY`], if this process may make files there.
pub(crate) fn shared_memory_device() -> Option<u64> {
    let usable = rustix::fs::access(SHARED_MEMORY, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let found = fs::metadata(SHARED_MEMORY).ok()?;
    (usable && found.is_dir()).then(|| found.dev())
}
