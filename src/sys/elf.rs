//! What a program that is to be started is made of: which libraries it and they need, as the loader will find them, without
//! running anything.
//!
//! ```text
//! program ── DT_NEEDED ──▶ "libfoo.so.1": in DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, /etc/ld.so.cache, /lib .. ── its needs ──▶ ..
//! ```
//! A file that is no 64-bit program of this machine's byte order says nothing. What cannot be found counts by its name.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// A program that needs more is looked at no further.
const LIBRARIES_MOST: usize = 1024;
/// A table of an image that is longer is none.
const TABLE_MOST: u64 = 16 << 20;
const PLACES: &[&str] =
    &["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];

/// What kind of file a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The kernel hands it to another program.
    Script,
    /// It needs these libraries, itself or by others.
    Image(BTreeSet<String>),
    /// Something else.
    Unknown,
}

/// Looks at the file of a program. `library_path` is the `LD_LIBRARY_PATH` it will have.
pub(crate) fn look_at(program: &Path, library_path: &OsStr) -> io::Result<Program> {
    let mut begin = [0; 2];
    let mut file = File::open(program)?;
    // One that is shorter is neither.
    let _ = file.read(&mut begin)?;
    if &begin == b"#!" {
        return Ok(Program::Script);
    }
    let Some(needs) = Needs::of(&file, program) else { return Ok(Program::Unknown) };
    Ok(Program::Image(closure(needs, library_path)))
}

/// All libraries that are needed, by name.
fn closure(program: Needs, library_path: &OsStr) -> BTreeSet<String> {
    let mut cache = None;
    let inherited = program.rpath.clone();
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut todo = vec![program];
    while let Some(image) = todo.pop() {
        for name in &image.libraries {
            if found.len() >= LIBRARIES_MOST || !found.insert(name.clone()) {
                continue;
            }
            let places = image.places(&inherited, library_path);
            let by_place = places.iter().map(|place| place.join(name)).find_map(|path| Needs::at(&path));
            let by_cache = || {
                let cache = cache.get_or_insert_with(|| std::fs::read("/etc/ld.so.cache").unwrap_or_default());
                cached(cache, name).iter().find_map(|path| Needs::at(path))
            };
            let by_default =
                || PLACES.iter().map(|place| Path::new(place).join(name)).find_map(|path| Needs::at(&path));
            todo.extend(by_place.or_else(by_cache).or_else(by_default));
        }
    }
    found
}

/// What one image asks of the loader.
struct Needs {
    libraries: Vec<String>,
    rpath: Vec<PathBuf>,
    runpath: Vec<PathBuf>,
}

impl Needs {
    fn at(path: &Path) -> Option<Needs> {
        Needs::of(&File::open(path).ok()?, path)
    }

    fn of(file: &File, path: &Path) -> Option<Needs> {
        let headers = program_headers(file)?;
        let dynamic = headers.iter().find(|header| header.kind == PT_DYNAMIC);
        // A static program needs nothing.
        let table = dynamic.map_or(Some(Vec::new()), |header| read(file, header.offset, header.size))?;
        let entries: Vec<(u64, u64)> = table.chunks_exact(16).map(|entry| (word(entry, 0), word(entry, 8))).collect();
        let value = |tag| entries.iter().find(|(other, _)| *other == tag).map(|(_, value)| *value);
        let strings = match (value(DT_STRTAB), value(DT_STRSZ)) {
            (Some(address), Some(size)) => read(file, in_file(&headers, address)?, size)?,
            _ => Vec::new(),
        };
        let all =
            |tag| entries.iter().filter(move |(other, _)| *other == tag).filter_map(|(_, at)| text(&strings, *at));
        let origin = std::fs::canonicalize(path).ok().and_then(|path| path.parent().map(Path::to_path_buf));
        let paths = |tag| all(tag).flat_map(|list| expand(&list, origin.as_deref())).collect();
        Some(Needs { libraries: all(DT_NEEDED).collect(), rpath: paths(DT_RPATH), runpath: paths(DT_RUNPATH) })
    }

    /// Where its libraries are looked for first. `DT_RPATH` is that of whoever needs it, too, and counts only where there
    /// is no `DT_RUNPATH`.
    fn places(&self, inherited: &[PathBuf], library_path: &OsStr) -> Vec<PathBuf> {
        let given = library_path.as_bytes().split(|byte| *byte == b':').filter(|place| !place.is_empty());
        let given = given.map(|place| PathBuf::from(OsStr::from_bytes(place)));
        let rpath: &[PathBuf] = if self.runpath.is_empty() { &self.rpath } else { &[] };
        let inherited: &[PathBuf] = if self.runpath.is_empty() { inherited } else { &[] };
        let first = rpath.iter().chain(inherited).cloned();
        first.chain(given).chain(self.runpath.iter().cloned()).collect()
    }
}

struct Header {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

fn program_headers(file: &File) -> Option<Vec<Header>> {
    let head = read(file, 0, 64)?;
    let native_order = if cfg!(target_endian = "little") { 1 } else { 2 };
    // The mark of the format, 64 bits, the order of bytes.
    if head[..4] != *b"\x7fELF" || head[4] != 2 || head[5] != native_order {
        return None;
    }
    let (offset, size, count) = (word(&head, 32), half(&head, 54), half(&head, 56));
    let table = read(file, offset, u64::from(size) * u64::from(count))?;
    let header = |bytes: &[u8]| {
        let [offset, address, size] = [8, 16, 32].map(|at| word(bytes, at));
        Header { kind: word(bytes, 0) & 0xffff_ffff, offset, address, size }
    };
    (size >= 56).then(|| table.chunks_exact(size.into()).map(header).collect())
}

/// Where in the file the byte is that will be at this address.
fn in_file(headers: &[Header], address: u64) -> Option<u64> {
    let mut loaded = headers.iter().filter(|header| header.kind == PT_LOAD);
    let part = loaded.find(|part| address.checked_sub(part.address).is_some_and(|within| within < part.size))?;
    part.offset.checked_add(address - part.address)
}

fn read(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok().filter(|_| size <= TABLE_MOST)?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// A list of folders, with the words that the loader replaces.
fn expand(list: &str, origin: Option<&Path>) -> Vec<PathBuf> {
    let origin = origin.map(|origin| origin.to_string_lossy().into_owned()).unwrap_or_default();
    let folders = list.split(':').filter(|folder| !folder.is_empty());
    let replace = |folder: &str| folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
    folders.map(|folder| PathBuf::from(replace(folder))).collect()
}

/// Where the loader's cache knows a library of this name to be.
///
/// After its mark the cache has the count of entries at 20, and from 48 on entries of 24 bytes, each with the places of
/// name and path at 4 and 8.
fn cached(cache: &[u8], name: &str) -> Vec<PathBuf> {
    const MARK: &[u8] = b"glibc-ld.so.cache1.1";
    // An older format may come first.
    let Some(begin) = cache.windows(MARK.len()).position(|window| window == MARK) else { return Vec::new() };
    let cache = &cache[begin..];
    let count = cache.get(20..24).map_or(0, |bytes| single(bytes, 0)) as usize;
    let entries = cache.get(48..).unwrap_or_default().chunks_exact(24).take(count);
    let same = entries.filter(|entry| text(cache, single(entry, 4).into()).as_deref() == Some(name));
    same.filter_map(|entry| text(cache, single(entry, 8).into())).map(PathBuf::from).collect()
}

/// The text that begins there and ends with a zero.
fn text(strings: &[u8], at: u64) -> Option<String> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok().map(Into::into)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn single(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_needs_the_libraries_it_has_loaded() {
        let own = std::env::current_exe().unwrap();
        let Program::Image(needs) = look_at(&own, OsStr::new("")).unwrap() else { panic!("no program") };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(needs.iter().any(|name| name.starts_with("libc.")), "{needs:?}");
        assert!(needs.iter().all(|name| maps.contains(name.split(".so").next().unwrap())), "{needs:?}");
    }

    #[test]
    fn scripts_and_rubbish_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let look = |bytes: &[u8]| {
            let path = folder.path().join("file");
            std::fs::write(&path, bytes).unwrap();
            look_at(&path, OsStr::new("")).unwrap()
        };
        assert_eq!(look(b"#!/bin/sh\n"), Program::Script);
        assert_eq!(
            (look(b""), look(b"\x7fELF"), look(&[0xff; 300])),
            (Program::Unknown, Program::Unknown, Program::Unknown)
        );
        assert_eq!(look_at(Path::new("/no/such"), OsStr::new("")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Whatever one byte of a program says, it is read to an end.
    #[test]
    fn a_damaged_program_does_no_harm() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for at in 0..1024 {
            let mut bytes = own[..own.len().min(1 << 16)].to_vec();
            bytes[at] ^= 0xff;
            std::fs::write(&path, &bytes).unwrap();
            let _ = look_at(&path, OsStr::new("")).unwrap();
        }
    }

    #[test]
    fn the_loader_s_words_are_replaced() {
        let found = expand("$ORIGIN/../lib:/opt:${ORIGIN}", Some(Path::new("/a/b")));
        assert_eq!(found, ["/a/b/../lib", "/opt", "/a/b"].map(PathBuf::from));
    }

    #[test]
    fn the_loader_s_cache_knows_the_c_library() {
        let cache = std::fs::read("/etc/ld.so.cache").unwrap_or_default();
        if !cache.is_empty() {
            assert!(cached(&cache, "libc.so.6").iter().all(|path| path.ends_with("libc.so.6")));
            assert!(!cached(&cache, "libc.so.6").is_empty() || cfg!(target_env = "musl"));
        }
        assert!(cached(&cache, "no such library").is_empty() && cached(&[1; 99], "libc.so.6").is_empty());
    }
}
