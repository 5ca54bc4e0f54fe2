//! What the ranks of a job know each other by, where the launcher has no private channel to hand it out:
//! `DRAGON_SECRET`, else a cookie in the user's home that only the user can read.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::auth::{KEY, digest, mac, random};
use super::environment::Environment;
use super::error::BootstrapError;
use crate::sys::shm;

/// Anything shorter can be guessed.
const SHORTEST: usize = 16;
/// A cookie file is this long at most.
const LONGEST_COOKIE: u64 = 4096;

/// The key that a text stands for.
pub(super) fn from_text(text: &str) -> Result<[u8; KEY], BootstrapError> {
    if text.len() < SHORTEST {
        let (len, why) = (text.len(), "too short to be a secret");
        return Err(BootstrapError::Secret {
            why: format!("DRAGON_SECRET: {len} characters are {why}, at least {SHORTEST}: try `openssl rand -hex 32`"),
        });
    }
    Ok(mac(b"dragon secret", &[text.as_bytes()]))
}

/// Where the user's cookie lies.
pub(super) fn cookie_path(environment: &dyn Environment) -> Option<PathBuf> {
    let state = environment.var("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(environment.var("HOME")?).join(".local/state"));
    Some(state.or_else(home)?.join("dragon/cookie"))
}

/// The user's cookie, made if there is none yet.
pub(super) fn cookie(path: &Path) -> Result<[u8; KEY], BootstrapError> {
    let refused = |source: io::Error| BootstrapError::Secret {
        why: format!(
            "the cookie {} cannot be used: {source}; set DRAGON_SECRET, the same on all ranks",
            path.display()
        ),
    };
    let text = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path).map_err(refused)?;
            read(path)
        }
        other => other,
    };
    Ok(digest(text.map_err(refused)?.as_bytes()))
}

/// Reads a file that must be this user's alone.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let found = fs::symlink_metadata(path)?;
    let wrong = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if !found.is_file() || found.len() > LONGEST_COOKIE {
        return wrong("it is no small ordinary file".into());
    }
    if found.uid() != shm::user() {
        return wrong(format!("it belongs to user {}, not to us", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return wrong(format!("others may read it (mode {:o}, needs 600)", found.mode() & 0o777));
    }
    let text = fs::read_to_string(path)?;
    if text.len() < SHORTEST { wrong("it is too short".into()) } else { Ok(text) }
}

/// Writes a cookie under another name and links it into place, so that nobody ever reads half of one; if somebody was
/// faster, his is there.
fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mine = write_private(folder, hex(&random::<KEY>()?).as_bytes())?;
    match fs::hard_link(&mine, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A file system without links; two who get here at once differ, and say so.
            fs::rename(&mine, path)
        }
        _ => fs::remove_file(&mine),
    }
}

/// A new file with an unpredictable name that only this user can read.
pub(super) fn write_private(folder: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join(format!(".dragon-{}", hex(&random::<8>()?)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(&path)))?;
    Ok(path)
}

/// Bytes as text that any channel carries.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Such text as bytes.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_who_make_the_cookie_at_once_get_the_same() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/dragon/cookie");
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| cookie(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|cookie| *cookie == all[0]));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_cookie_that_others_can_read_or_that_is_a_link_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("cookie");
        cookie(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = cookie(&path).unwrap_err().to_string();
        assert!(error.contains("others may read it") && error.contains("DRAGON_SECRET"), "{error}");
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(cookie(&link).is_err());
        assert!(cookie(Path::new("/proc/dragon/cookie")).unwrap_err().to_string().contains("DRAGON_SECRET"));
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        assert!(from_text("secret").unwrap_err().to_string().contains("DRAGON_SECRET"));
        assert_ne!(from_text("0123456789abcdef").unwrap(), from_text("0123456789abcdeg").unwrap());
    }

    #[test]
    fn hex_goes_there_and_back() {
        assert_eq!(unhex(&hex(&[0, 1, 0xFE])), Some(vec![0, 1, 0xFE]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
    }
}
