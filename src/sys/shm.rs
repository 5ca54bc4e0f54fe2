//! Shared memory of the machine: files without a name, their pages, seals and locks, and how much there is.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
};

use rustix::{
    fs::{FallocateFlags, FlockOperation, MemfdFlags, SealFlags},
    mm::Advice,
    process::Resource,
};

use super::cgroup;

/// The size of the huge pages that a memory file may be made of.
pub(crate) const HUGE_PAGE: u64 = 2 << 20;

/// `fallocate` undoes its work when a signal comes; in steps of this size it always gets on.
const COMMIT_STEP: u64 = 64 << 20;

/// What the kernel says about an open file.
pub(crate) struct FileFacts {
    pub(crate) uid: u32,
    pub(crate) len: u64,
}

/// A memory file without a name, of ordinary or of huge pages, that can be sealed.
pub(crate) fn memory_file(name: &str, huge: bool) -> io::Result<OwnedFd> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if huge {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    Ok(rustix::fs::memfd_create(name, flags)?)
}

/// Sets the size of a file. Its pages come later.
pub(crate) fn set_len(file: impl AsFd, len: u64) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&file, len))?)
}

/// Makes the kernel set the pages of `from..from + len` aside. What is there already stays as it is.
pub(crate) fn commit(file: impl AsFd, mut from: u64, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let step = len.min(COMMIT_STEP);
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(&file, FallocateFlags::empty(), from, step))?;
        from += step;
        len -= step;
    }
    Ok(())
}

/// Nobody can change the size of the file any more, so that no peer can pull pages from under us.
pub(crate) fn seal_len(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW)?)
}

/// Takes the lock of an open file if nobody has it. The kernel drops it with its last holder.
pub(crate) fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// Owner and size of an open file.
pub(crate) fn facts(file: impl AsFd) -> io::Result<FileFacts> {
    let stat = rustix::fs::fstat(file)?;
    Ok(FileFacts { uid: stat.st_uid, len: stat.st_size as u64 })
}

/// Bytes that the file's file system can still take; `None` where it has no size of its own.
pub(crate) fn free_space(file: impl AsFd) -> Option<u64> {
    let stat = rustix::fs::fstatfs(file).ok()?;
    (stat.f_blocks > 0).then_some(stat.f_bavail.saturating_mul(stat.f_bsize as u64))
}

/// This process's effective user.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The size of an ordinary page.
pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// How long a file this process may make; going beyond would be a signal, not an error.
pub(crate) fn file_size_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Fsize).current
}

/// Asks for huge pages where the system gives them to those who ask. Failure only means smaller pages.
///
/// # Safety
/// The range must be mapped by the caller for as long as the call takes.
pub(crate) unsafe fn ask_for_huge_pages(at: NonNull<u8>, len: usize) {
    // SAFETY: this advice changes no bytes; the caller vouches for the range.
    let _ = unsafe { rustix::mm::madvise(at.as_ptr().cast(), len, Advice::LinuxHugepage) };
}

/// Bytes of memory of this machine that this process may use: the machine's, or its control group's.
pub(crate) fn memory_of_machine() -> u64 {
    let machine = meminfo("MemTotal:").unwrap_or(u64::MAX);
    control_group_limit().map_or(machine, |limit| limit.min(machine))
}

/// Bytes of memory that could be had now without swapping, if the kernel says.
pub(crate) fn memory_available() -> Option<u64> {
    meminfo("MemAvailable:")
}

fn meminfo(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit on the way from this process's control group to the root, of either version.
fn control_group_limit() -> Option<u64> {
    let limits = cgroup::of_process("memory").into_iter().flat_map(|groups| {
        let file = if groups.unified { "memory.max" } else { "memory.limit_in_bytes" };
        groups.folders.into_iter().filter_map(move |at| fs::read_to_string(at.join(file)).ok()?.trim().parse().ok())
    });
    limits.min()
}
