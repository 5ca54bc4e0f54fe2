//! Checkpoints in an object store: S3 and what speaks its language, or a directory, or the memory of a process, by a URL.

use std::future::Future;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, parse_url_opts};
use once_cell::sync::OnceCell;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::store::Store;

/// Bytes that are sent, or asked for, at a time.
const PIECE: usize = 8 << 20;

/// A [`Store`] behind a URL: `s3://bucket/folder`, `file:///folder`, `memory:///`, and whatever else the crate
/// `object_store` was built to know. Needs feature `object-store`; for S3 the program itself also depends on `object_store`
/// with its feature `aws`.
///
/// An object is there as a whole or not at all, whoever dies when. How soon an object outlives a machine that
/// stops is the service's affair; a directory is brought to the disk by [`Posix`](super::Posix).
///
/// ```
/// use dragon::{DDict, Objects, Persist};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let _dragon = dragon::init()?;
/// let store = Objects::at(&format!("file://{}", folder.path().display()));
/// let dict: DDict<u64, String> = DDict::builder().name("objects").persist(Persist::to(&store)?).build()?;
/// dict.put(&1, &"one".into())?;
/// dict.persist()?;
/// assert_eq!(dict.persisted()?, [0]);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Serialize, Deserialize)]
pub struct Objects {
    url: String,
    options: Vec<(String, String)>,
    #[serde(skip)]
    open: OnceCell<Arc<Open>>,
}

/// The store as this process has it open.
struct Open {
    store: Box<dyn ObjectStore>,
    folder: Path,
    /// Turns the store's futures; only within threads of its own, so that it may be used inside of another such runtime.
    runtime: Runtime,
}

impl Objects {
    /// The store at a URL, which is looked at when it is first used.
    pub fn at(url: &str) -> Objects {
        Objects { url: url.into(), options: Vec::new(), open: OnceCell::new() }
    }

    /// An option of the store, by the names that `object_store` knows: `aws_region`, `aws_endpoint`, … They travel with the
    /// dictionary to its processes; what is secret better stands in their environment.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Objects {
        self.options.push((name.into(), value.into()));
        self
    }

    fn open(&self) -> io::Result<&Arc<Open>> {
        self.open.get_or_try_init(|| {
            let url = Url::parse(&self.url).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
            let (store, folder) = parse_url_opts(&url, self.options.clone())?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            Ok(Arc::new(Open { store, folder, runtime }))
        })
    }
}

impl Open {
    fn wait<T: Send>(&self, work: impl Future<Output = object_store::Result<T>> + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let worker = thread::Builder::new().spawn_scoped(scope, || self.runtime.block_on(work))?;
            let done = worker.join().map_err(|_| io::Error::other("the store has panicked"))?;
            done.map_err(io::Error::from)
        })
    }

    fn path(&self, name: &str) -> io::Result<Path> {
        // Names hold nothing that paths would have to write otherwise.
        Path::parse(format!("{}/{name}", self.folder).trim_start_matches('/')).map_err(io::Error::other)
    }
}

/// What is written of an object before it is there.
struct Sink<'o> {
    open: &'o Open,
    path: Path,
    piece: Vec<u8>,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl Sink<'_> {
    fn send_piece(&mut self) -> io::Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(self.open.wait(self.open.store.put_multipart(&self.path))?),
        };
        let piece = PutPayload::from(std::mem::take(&mut self.piece));
        self.open.wait(upload.put_part(piece))
    }

    /// From here on the object is there.
    fn finish(&mut self) -> io::Result<()> {
        if self.upload.is_none() {
            let whole = PutPayload::from(std::mem::take(&mut self.piece));
            return self.open.wait(self.open.store.put(&self.path, whole)).map(drop);
        }
        self.send_piece()?;
        self.upload.as_mut().map_or(Ok(()), |upload| self.open.wait(upload.complete()).map(drop))
    }

    fn abandon(&mut self) {
        if let Some(upload) = &mut self.upload {
            // What cannot be taken back is no object, and the service removes it some day.
            let _ = self.open.wait(upload.abort());
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == PIECE {
            self.send_piece()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads an object piece by piece.
struct Source {
    open: Arc<Open>,
    path: Path,
    len: u64,
    at: u64,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Source {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read(space)?;
        if read > 0 || self.at == self.len || space.is_empty() {
            return Ok(read);
        }
        let end = self.len.min(self.at + PIECE as u64);
        let open = &self.open;
        self.piece = io::Cursor::new(open.wait(open.store.get_range(&self.path, self.at..end))?.to_vec());
        self.at = end;
        self.piece.read(space)
    }
}

impl Store for Objects {
    fn write(&self, name: &str, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let open = self.open()?;
        let mut sink = Sink { open, path: open.path(name)?, piece: Vec::new(), upload: None };
        let written = fill(&mut sink).and_then(|()| sink.finish());
        if written.is_err() {
            sink.abandon();
        }
        written
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read>> {
        let open = self.open()?;
        let path = open.path(name)?;
        let len = open.wait(open.store.head(&path))?.size;
        let open = open.clone();
        Ok(Box::new(Source { open, path, len, at: 0, piece: io::Cursor::default() }))
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let open = self.open()?;
        Ok(open.wait(open.store.head(&open.path(name)?))?.size)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let open = self.open()?;
        let found = open.wait(open.store.list_with_delimiter(Some(&open.folder)))?;
        Ok(found.objects.iter().filter_map(|object| Some(object.location.filename()?.to_string())).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let open = self.open()?;
        open.wait(open.store.delete(&open.path(name)?))
    }
}
