//! All that a key has, at whichever checkpoint: what another table needs so that it shows the same.

use super::TableError;
use super::ground::Ground;
use super::pin::Cargo;
use super::read::{Found, Key, Look};
use super::shard::Shard;

/// What a key has since a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    /// The checkpoint.
    pub(crate) version: u32,
    /// It survives checkpoints by itself.
    pub(crate) kept: bool,
    /// None: the key was removed.
    pub(crate) value: Option<Vec<u8>>,
}

impl<'t, G: Ground> Shard<'t, G> {
    /// What a key has, the newest first. What no checkpoint needs any more may be among it.
    pub(super) fn past(&self, key: &Key<'_>, cargo: &mut Cargo) -> Result<Vec<Past>, Box<TableError>> {
        self.seek(key, 0, |newest| self.past_from(newest, cargo)).unwrap_or_else(|| Ok(Vec::new()))
    }

    /// `None`: something of it changed meanwhile.
    fn past_from(&self, newest: Found<'t>, cargo: &mut Cargo) -> Option<Result<Vec<Past>, Box<TableError>>> {
        let (mut all, mut found) = (Vec::new(), newest);
        loop {
            let (version, kept) = (found.entry.version(), found.form.is_kept());
            let mut value = None;
            if !found.form.is_gone() {
                match self.take(&found, cargo, &mut |bytes: &[u8]| value = Some(bytes.to_vec())) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(refused) => return Some(Err(refused)),
                }
            }
            let behind = self.behind(&found);
            all.push(Past { version, kept, value });
            match behind {
                Look::Yes(older) => found = older,
                Look::No => return Some(Ok(all)),
                Look::Changed => return None,
            }
        }
    }
}
