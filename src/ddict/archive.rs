//! Stored checkpoints as bytes: a part for each manager, and a manifest that says which parts there are.
//!
//! ```text
//! part       magic:8 version:4 checkpoint:4 label:8                                  little-endian
//!            records: key length:4 kept:4 value length:8 key value
//!            end: 0xFFFF_FFFF:4 0:4 number of records:8 crc32 of all before:4
//! manifest   lines of text: see `Manifest`; the last is the crc32 of all before
//! ```
//! The manifest is written last. A checkpoint without a whole manifest, or of which a part is not there in its full
//! length, is not offered; one with a part that is not what it was is refused when it is read.

use std::io::{self, BufReader, Read, Write};

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use super::store::{Persist, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::task::{self, FnRef, Scope};
use crate::wire;

const MAGIC: &[u8; 8] = b"dragonDD";
const VERSION: u32 = 1;
const END: u32 = u32::MAX;
const FIRST_LINE: &str = "dragon dictionary checkpoint, version 1";

/// What a table's note holds of a [`Persist`].
#[derive(Serialize, Deserialize)]
struct Note {
    opener: FnRef,
    store: Vec<u8>,
    every: u32,
    keep: Option<u32>,
    name: String,
}

/// The stored checkpoints of a dictionary.
pub(super) struct Archive {
    store: Box<dyn Store>,
    pub(super) every: u32,
    keep: Option<u32>,
    name: String,
}

/// A part as a manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    bytes: u64,
    crc: u32,
}

/// What belongs to a stored checkpoint.
struct Manifest {
    checkpoint: u32,
    label: u64,
    parts: Vec<Part>,
}

/// An entry as it is stored.
pub(super) struct Record<'r> {
    pub(super) key: &'r [u8],
    pub(super) value: &'r [u8],
    pub(super) kept: bool,
}

/// Writes a part; made for each anew.
pub(super) struct PartWriter<'w> {
    out: &'w mut dyn Write,
    crc: Hasher,
    bytes: u64,
    records: u64,
}

impl PartWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Adds an entry.
    pub(super) fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.records += 1;
        self.write(&(record.key.len() as u32).to_le_bytes())?;
        self.write(&u32::from(record.kept).to_le_bytes())?;
        self.write(&(record.value.len() as u64).to_le_bytes())?;
        self.write(record.key)?;
        self.write(record.value)
    }

    fn begin(&mut self, checkpoint: u32, label: u64) -> io::Result<()> {
        self.write(MAGIC)?;
        self.write(&VERSION.to_le_bytes())?;
        self.write(&checkpoint.to_le_bytes())?;
        self.write(&label.to_le_bytes())
    }

    fn end(&mut self) -> io::Result<(u64, u32)> {
        self.write(&END.to_le_bytes())?;
        self.write(&0_u32.to_le_bytes())?;
        self.write(&self.records.to_le_bytes())?;
        let crc = self.crc.clone().finalize();
        self.write(&crc.to_le_bytes())?;
        Ok((self.bytes, crc))
    }
}

/// For `map_err`: what was being done to which object when the store refused.
fn failed(what: &'static str, name: &str) -> impl FnOnce(io::Error) -> Error {
    let text = format!("cannot {what} `{name}` of the stored checkpoints");
    move |why| Error::with_source(ErrorKind::Io, text, why)
}

fn refuse(name: &str, why: &str) -> Error {
    let text = format!("`{name}` is refused: {why}; `persisted` says which checkpoints are whole");
    Error::new(ErrorKind::NoCheckpoint, text)
}

impl Archive {
    /// What a table notes of it.
    pub(super) fn note(persist: Persist, name: &str) -> Result<Vec<u8>> {
        let opener = task::reference(persist.opener)?;
        let Persist { store, every, keep, .. } = persist;
        let mut note = Vec::new();
        wire::encode(&Note { opener, store, every, keep, name: file_name(name) }, &mut note)?;
        Ok(note)
    }

    /// Opens the store that a note tells of.
    pub(super) fn open(note: &[u8]) -> Result<Archive> {
        let Note { opener, store, every, keep, name } = wire::decode(note)?;
        let mut nothing = Vec::new();
        let mut scope = Scope::new(&store, &mut nothing);
        let made = task::resolve(&opener)?.call(&mut scope);
        made.map_err(|failure| Error::from_failure(&failure, "the store of checkpoints"))?;
        let store = scope.made.and_then(|made| made.downcast::<Box<dyn Store>>().ok());
        let store = *store.ok_or_else(|| Error::new(ErrorKind::WrongBuild, "the store of checkpoints is no store"))?;
        Ok(Archive { store, every, keep, name })
    }

    /// The same, of a dictionary of another name.
    pub(super) fn named(note: &[u8], name: &str) -> Result<Archive> {
        Ok(Archive { name: file_name(name), ..Archive::open(note)? })
    }

    /// In how many parts dictionaries of this name have been stored.
    pub(super) fn counts(note: &[u8], base: &str) -> Result<Vec<usize>> {
        let (archive, base) = (Archive::open(note)?, file_name(base));
        let count = |name: &String| {
            let rest = name.strip_suffix(".manifest")?.strip_prefix(&base)?;
            let (part, _) = rest.rsplit_once('-')?;
            match part.strip_prefix("%40").and_then(|part| part.split_once('.')) {
                Some((_, count)) => count.parse().ok(),
                None => part.is_empty().then_some(1),
            }
        };
        let mut counts: Vec<usize> =
            archive.store.names().map_err(failed("list", &base))?.iter().filter_map(count).collect();
        counts.sort_unstable();
        counts.dedup();
        Ok(counts)
    }

    fn part_name(&self, checkpoint: u32, part: usize) -> String {
        format!("{}-{checkpoint}-{part}.ddict", self.name)
    }

    fn manifest_name(&self, checkpoint: u32) -> String {
        format!("{}-{checkpoint}.manifest", self.name)
    }

    /// Stores a checkpoint: `fill` writes the part of each manager.
    pub(super) fn store(
        &self,
        checkpoint: u32,
        label: u64,
        managers: usize,
        mut fill: impl FnMut(usize, &mut PartWriter<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut parts = Vec::new();
        for part in 0..managers {
            let name = self.part_name(checkpoint, part);
            let (mut written, mut refused) = (None, None);
            let stored = self.store.write(&name, &mut |out| {
                let mut writer = PartWriter { out, crc: Hasher::new(), bytes: 0, records: 0 };
                writer.begin(checkpoint, label)?;
                if let Err(error) = fill(part, &mut writer) {
                    refused = Some(error);
                    return Err(io::Error::other("the dictionary could not be read"));
                }
                written = Some(writer.end()?);
                Ok(())
            });
            refused.map_or(Ok(()), Err)?;
            stored.map_err(failed("write", &name))?;
            let (bytes, crc) = written.unwrap_or_default();
            parts.push(Part { name, bytes, crc });
        }
        let (name, text) = (self.manifest_name(checkpoint), Manifest { checkpoint, label, parts }.text());
        self.store.write(&name, &mut |out| out.write_all(text.as_bytes())).map_err(failed("write", &name))?;
        self.forget_old()
    }

    /// Removes stored checkpoints beyond those that are kept.
    fn forget_old(&self) -> Result<()> {
        let Some(keep) = self.keep else { return Ok(()) };
        let mut stored = self.numbers()?;
        stored.truncate(stored.len().saturating_sub(keep as usize));
        stored.into_iter().try_for_each(|checkpoint| self.forget(checkpoint))
    }

    /// Removes a stored checkpoint, the manifest first: what is left of it then is not offered.
    pub(super) fn forget(&self, checkpoint: u32) -> Result<()> {
        let manifest = self.manifest_name(checkpoint);
        self.store.remove(&manifest).map_err(failed("remove", &manifest))?;
        let prefix = format!("{}-{checkpoint}-", self.name);
        let names = self.store.names().map_err(failed("list", &prefix))?;
        for name in names.iter().filter(|name| name.starts_with(&prefix) && name.contains(".ddict")) {
            self.store.remove(name).map_err(failed("remove", name))?;
        }
        Ok(())
    }

    /// The numbers for which there are manifests, whole or not.
    fn numbers(&self) -> Result<Vec<u32>> {
        let prefix = format!("{}-", self.name);
        let names = self.store.names().map_err(failed("list", &prefix))?;
        let number = |name: &String| name.strip_prefix(&prefix)?.strip_suffix(".manifest")?.parse().ok();
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The stored checkpoints that are offered.
    pub(super) fn offered(&self, label: u64) -> Result<Vec<u32>> {
        let mut numbers = self.numbers()?;
        numbers.retain(|checkpoint| self.manifest(*checkpoint, label).is_ok());
        Ok(numbers)
    }

    /// Reads a manifest, and looks whether its parts are there.
    fn manifest(&self, checkpoint: u32, label: u64) -> Result<Manifest> {
        let name = self.manifest_name(checkpoint);
        let mut text = Vec::new();
        let read = self.store.read(&name).and_then(|mut file| file.read_to_end(&mut text));
        match read {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                return Err(refuse(&name, "there is no stored checkpoint of this number"));
            }
            read => read.map_err(failed("read", &name))?,
        };
        let manifest = Manifest::parse(&text).ok_or_else(|| refuse(&name, "it is no whole manifest"))?;
        if manifest.checkpoint != checkpoint {
            return Err(refuse(&name, "it is of another checkpoint"));
        }
        if manifest.label != label {
            return Err(refuse(&name, "it is of a dictionary with other types"));
        }
        for part in &manifest.parts {
            match self.store.length(&part.name) {
                Ok(bytes) if bytes == part.bytes => {}
                Ok(bytes) => {
                    let why = format!("it has {bytes} bytes where {} were written", part.bytes);
                    return Err(refuse(&part.name, &why));
                }
                Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(refuse(&part.name, "it is missing")),
                Err(why) => return Err(failed("look at", &part.name)(why)),
            }
        }
        Ok(manifest)
    }

    /// Looks at every byte of a stored checkpoint.
    pub(super) fn verify(&self, checkpoint: u32, label: u64) -> Result<()> {
        self.load(checkpoint, label, |_| Ok(()))
    }

    /// Shows every entry of a stored checkpoint. An error at the end says that what was shown is not to be believed.
    pub(super) fn load(
        &self,
        checkpoint: u32,
        label: u64,
        mut see: impl FnMut(Record<'_>) -> Result<()>,
    ) -> Result<()> {
        for part in self.manifest(checkpoint, label)?.parts {
            let file = self.store.read(&part.name).map_err(failed("read", &part.name))?;
            PartReader { file: BufReader::with_capacity(1 << 20, file), crc: Hasher::new(), part: &part }
                .read(checkpoint, label, &mut see)?;
        }
        Ok(())
    }
}

/// Reads a part, and believes nothing of it before it has to.
struct PartReader<'p> {
    file: BufReader<Box<dyn Read>>,
    crc: Hasher,
    part: &'p Part,
}

impl PartReader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes).map_err(|why| match why.kind() {
            io::ErrorKind::UnexpectedEof => refuse(&self.part.name, "it ends too early"),
            _ => failed("read", &self.part.name)(why),
        })?;
        self.crc.update(bytes);
        Ok(())
    }

    fn refuse(&self, why: &str) -> Error {
        refuse(&self.part.name, why)
    }

    fn read(mut self, checkpoint: u32, label: u64, see: &mut impl FnMut(Record<'_>) -> Result<()>) -> Result<()> {
        if self.bytes::<8>()? != *MAGIC || u32::from_le_bytes(self.bytes()?) != VERSION {
            return Err(self.refuse("it is no part of a dictionary, or of another version"));
        }
        if u32::from_le_bytes(self.bytes()?) != checkpoint || u64::from_le_bytes(self.bytes()?) != label {
            return Err(self.refuse("it is of another checkpoint or dictionary"));
        }
        let (mut records, mut buffer) = (0, Vec::new());
        loop {
            let key = u32::from_le_bytes(self.bytes()?);
            let kept = u32::from_le_bytes(self.bytes()?) != 0;
            let value = u64::from_le_bytes(self.bytes()?);
            if key == END {
                return self.end(records, value);
            }
            // Never more than the file has, whatever it says.
            let len = u64::from(key).saturating_add(value);
            if len > self.part.bytes {
                return Err(self.refuse("an entry in it is longer than the whole"));
            }
            buffer.resize(len as usize, 0);
            self.fill(&mut buffer)?;
            let (key, value) = buffer.split_at(key as usize);
            see(Record { key, value, kept })?;
            records += 1;
        }
    }

    fn end(mut self, records: u64, said: u64) -> Result<()> {
        let crc = self.crc.clone().finalize();
        let stored = u32::from_le_bytes(self.bytes()?);
        if (records, crc, crc) != (said, stored, self.part.crc) {
            return Err(self.refuse("its checksum is wrong: some byte of it is not what was written"));
        }
        Ok(())
    }
}

impl Manifest {
    fn text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\ncheckpoint {}\nlabel {:016x}\n", self.checkpoint, self.label);
        for part in &self.parts {
            text += &format!("part {} {} {:08x}\n", part.name, part.bytes, part.crc);
        }
        let crc = crc32fast::hash(text.as_bytes());
        text + &format!("crc {crc:08x}\n")
    }

    fn parse(bytes: &[u8]) -> Option<Manifest> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (said, last) = text.split_at(text.rfind("crc ")?);
        let crc = u32::from_str_radix(last.strip_prefix("crc ")?.strip_suffix('\n')?, 16).ok()?;
        if crc != crc32fast::hash(said.as_bytes()) {
            return None;
        }
        let mut lines = said.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let checkpoint = lines.next()?.strip_prefix("checkpoint ")?.parse().ok()?;
        let label = u64::from_str_radix(lines.next()?.strip_prefix("label ")?, 16).ok()?;
        let part = |line: &str| {
            let mut words = line.strip_prefix("part ")?.split(' ');
            let (name, bytes, crc) = (words.next()?.into(), words.next()?.parse().ok()?, words.next()?);
            Some(Part { name, bytes, crc: u32::from_str_radix(crc, 16).ok()? })
        };
        Some(Manifest { checkpoint, label, parts: lines.map(part).collect::<Option<_>>()? })
    }
}

/// A dictionary's name as part of a file's: letters, digits, `_` and `.` as they are.
fn file_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let part = |byte: u8| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02x}") };
    name.bytes().map(part).collect()
}
