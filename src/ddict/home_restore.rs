//! How a dictionary with replicas gets what is stored: all places in steps, so that no copy has anything of before.
//!
//! | step | at each place |
//! |---|---|
//! | begin | nobody writes or fills copies any more |
//! | load | everything is taken out; then every copy that the place has to have comes from what is stored |
//! | end | it may be written again; copies that a loss has left out meanwhile are filled |
//!
//! Each step begins when the one before is done everywhere. Whoever takes them may die: then nobody can write until it
//! was restored again.

use super::archive::Archive;
use super::far_persist::Stored;
use super::home::{Asked, Home};
use super::replica::Copies;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::wire;

/// Steps, as the head of a call has them.
pub(super) mod step {
    pub(in crate::ddict) const BEGIN: u32 = 1;
    pub(in crate::ddict) const LOAD: u32 = 2;
    pub(in crate::ddict) const END: u32 = 3;
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> Home<K, V, C> {
    pub(super) fn restore_step(&self, copies: &Copies, asked: &Asked) -> Result<()> {
        match asked.head.at {
            step::BEGIN => {
                self.handle(0, 0).change_gate(|gate| gate.restoring(true))?;
                mark!("far.restore.begun");
                self.be_quiet(copies)
            }
            step::LOAD => {
                let (checkpoint, places) = wire::decode::<Stored>(asked.value())?;
                self.load(copies, checkpoint, places)
            }
            step::END => {
                self.handle(0, 0).change_gate(|gate| gate.restoring(false))?;
                self.fill_copies();
                Ok(())
            }
            other => Err(Error::new(ErrorKind::Io, format!("a restore has no step {other}"))),
        }
    }

    fn load(&self, copies: &Copies, checkpoint: u32, places: usize) -> Result<()> {
        let dict = self.handle(0, 0);
        let family: Vec<Archive> = dict.family(checkpoint, places)?;
        let mut stored = copies.begin_to_store();
        let _keeper = self.body.table().keep();
        let (mine, directory) = (copies.copies_of(), &copies.directory);
        mark!("far.restore.loading");
        dict.replace_by(checkpoint, &family, |key| {
            let manager = directory.manager_of(key);
            let is_mine = mine.contains(&directory.spot(manager).place);
            is_mine.then(|| directory.shard_at(manager, copies.place)).flatten()
        })?;
        stored.clear();
        Ok(())
    }
}
