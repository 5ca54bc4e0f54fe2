//! A folder that all ranks see: rank 0 leaves its note in a file that only the user can read.
//!
//! A note that an earlier start has left there does no harm: nobody answers where it points to, or somebody of another
//! name, and the others look again until rank 0 has replaced it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::Board;
use crate::bootstrap::auth::digest;
use crate::bootstrap::error::BootstrapError;
use crate::bootstrap::secret::{hex, read, unhex, write_private};
use crate::time::Deadline;

/// The folder and the file.
pub(super) struct Folder {
    folder: PathBuf,
    note: PathBuf,
    /// Rank 0 removes what it has written.
    is_mine: bool,
}

impl Folder {
    pub(super) fn new(folder: &Path, job: &str) -> Folder {
        let name = format!("dragon-{}", hex(&digest(job.as_bytes())[..8]));
        Folder { folder: folder.into(), note: folder.join(name), is_mine: false }
    }

    fn refused(&self, what: &str, why: &io::Error) -> BootstrapError {
        let what = format!("{what} {}", self.note.display());
        BootstrapError::Channel { launcher: "rendezvous", what, why: format!("{why} (DRAGON_RENDEZVOUS)") }
    }
}

impl Board for Folder {
    fn write(&mut self, note: &[u8], _: Deadline) -> Result<(), BootstrapError> {
        let written = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        let written = written.and_then(|()| write_private(&self.folder, hex(note).as_bytes()));
        let placed =
            written.and_then(|file| fs::rename(&file, &self.note).inspect_err(|_| drop(fs::remove_file(&file))));
        placed.map_err(|why| self.refused("write", &why))?;
        self.is_mine = true;
        Ok(())
    }

    fn read(&mut self, _: Deadline) -> Result<Option<Vec<u8>>, BootstrapError> {
        // Reading the folder first makes network file systems forget that the file was not there.
        let _ = fs::read_dir(&self.folder).map(Iterator::count);
        match read(&self.note) {
            Ok(text) => Ok(unhex(&text)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(self.refused("read", &why)),
        }
    }

    fn is_fresh(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        self.note.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_mine {
            // All have met, or will not: nobody needs it, and if it stays it does no harm.
            let _ = fs::remove_file(&self.note);
        }
    }
}
