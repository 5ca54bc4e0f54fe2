//! A segment in `/dev/shm` that has a name only while it is being opened.
//!
//! What a crash in that moment leaves behind carries our prefix and user id and is locked by nobody;
//! the next start sweeps it. A file that is locked, or somebody else's, is never touched.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::OwnedFd,
    path::Path,
};

use shared_memory::{Shmem, ShmemConf, ShmemError};

use crate::mm::error::MemError;
use crate::mm::layout;
use crate::sys::shm;

const FOLDER: &str = "/dev/shm";
/// Somebody's sweep may take the name away before the lock is held; then again with another name.
const ATTEMPTS: usize = 8;

/// A sparse file of this size, nameless by the time this returns.
pub(super) fn create(size: u64) -> Result<OwnedFd, MemError> {
    sweep(Path::new(FOLDER));
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..ATTEMPTS {
        match create_once(size) {
            Ok(file) => return Ok(file),
            Err(again) if again.kind() == io::ErrorKind::NotFound && Path::new(FOLDER).is_dir() => last = again,
            Err(source) => return Err(MemError::Io { what: "create a segment in /dev/shm", source }),
        }
    }
    Err(MemError::Io { what: "create a segment in /dev/shm", source: last })
}

fn create_once(size: u64) -> io::Result<OwnedFd> {
    let name = format!("{}{:016x}", prefix(shm::user()), random()?);
    let mut segment =
        ShmemConf::new().os_id(format!("/{name}")).size(layout::PAGE as usize).create().map_err(refused)?;
    mark!("heap.named.created");
    let file = take_name(&name, &mut segment)?;
    shm::set_len(&file, size)?;
    Ok(file)
}

/// Opens the segment by its path, locks it, and removes its name. `segment` unmaps its page and does
/// no more.
fn take_name(name: &str, segment: &mut Shmem) -> io::Result<OwnedFd> {
    let path = Path::new(FOLDER).join(name);
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    shm::try_lock(&file)?;
    segment.set_owner(false);
    mark!("heap.named.locked");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(file.into()),
    }
}

fn refused(error: ShmemError) -> io::Error {
    match error {
        ShmemError::MapCreateFailed(code) | ShmemError::UnknownOsError(code) => {
            io::Error::from_raw_os_error(code as i32)
        }
        other => io::Error::other(other),
    }
}

/// What the names of this user's segments start with.
pub(in crate::mm) fn prefix(user: u32) -> String {
    format!("dragon-{user}-")
}

/// Whether a file that `/proc` calls so may be one of ours.
pub(super) fn is_called(name: &Path) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(&format!("{FOLDER}/{}", prefix(shm::user()))))
}

/// An unpredictable number.
fn random() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// Removes this user's segments that nobody has locked. How many.
pub(in crate::mm) fn sweep(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let prefix = prefix(shm::user());
    let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.filter(|entry| sweep_one(&entry.path()).unwrap_or(false)).count()
}

fn sweep_one(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(false);
    }
    let file = File::open(path)?;
    let dead = shm::facts(&file)?.uid == shm::user() && shm::try_lock(&file)?;
    if dead {
        fs::remove_file(path)?;
    }
    Ok(dead)
}
