//! Where checkpoints are stored: a directory, or whatever a user has made a [`Store`] of.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::task::{Thunk, thunk};
use crate::wire::{self, Message};

/// Keeps named objects: files of a directory, or objects of some service.
///
/// A store travels to every process that uses the dictionary, so that whichever retires a checkpoint can store it:
/// it is a value that derives `Serialize` and `Deserialize`, and holds the way to the objects, not the objects.
///
/// ```
/// use std::io::{self, Read, Write};
///
/// /// A directory without any care: what a crash leaves half written stays so.
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Careless(std::path::PathBuf);
///
/// impl dragon::Store for Careless {
///     fn write(&self, name: &str, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
///         fill(&mut std::fs::File::create(self.0.join(name))?)
///     }
///     fn read(&self, name: &str) -> io::Result<Box<dyn Read>> {
///         Ok(Box::new(std::fs::File::open(self.0.join(name))?))
///     }
///     fn length(&self, name: &str) -> io::Result<u64> {
///         Ok(std::fs::metadata(self.0.join(name))?.len())
///     }
///     fn names(&self) -> io::Result<Vec<String>> {
///         let entries = std::fs::read_dir(&self.0)?;
///         entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
///     }
///     fn remove(&self, name: &str) -> io::Result<()> {
///         std::fs::remove_file(self.0.join(name))
///     }
/// }
/// # let folder = tempfile::tempdir().unwrap();
/// let _dragon = dragon::init()?;
/// let store = Careless(folder.path().into());
/// let dict: dragon::DDict<u64, String> =
///     dragon::DDict::builder().name("model of the example").persist(dragon::Persist::to(&store)?).build()?;
/// dict.put(&1, &"one".into())?;
/// dict.persist()?;
/// assert_eq!(dict.persisted()?, [0]);
/// # Ok::<(), dragon::Error>(())
/// ```
pub trait Store: Send + Sync + 'static {
    /// Writes an object, in place of one of this name if there is one. When it returns without an error the object is
    /// there for good; if it does not return at all, there is the old one or none.
    ///
    /// # Errors
    /// Those of `fill`, and the store's own.
    fn write(&self, name: &str, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()>;

    /// Reads an object.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound), and the store's own.
    fn read(&self, name: &str) -> io::Result<Box<dyn Read>>;

    /// Bytes of an object.
    ///
    /// # Errors
    /// As [`read`](Store::read).
    fn length(&self, name: &str) -> io::Result<u64>;

    /// The names of all objects, and of whatever else is there.
    ///
    /// # Errors
    /// The store's own.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Removes an object.
    ///
    /// # Errors
    /// As [`read`](Store::read).
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A directory in which every file is whole or not there, whenever and however a process or the machine stops: it is
/// written under another name, brought to the disk, and then renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Posix {
    folder: PathBuf,
}

impl Posix {
    /// The store in this directory, which is made when something is first written.
    pub fn new(folder: impl AsRef<Path>) -> Posix {
        let folder = folder.as_ref();
        Posix { folder: std::path::absolute(folder).unwrap_or_else(|_| folder.into()) }
    }
}

impl Store for Posix {
    fn write(&self, name: &str, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let half = self.folder.join(format!("{name}.tmp"));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&half)?);
        let filled = fill(&mut file).and_then(|()| file.flush()).and_then(|()| file.get_ref().sync_all());
        mark!("table.store.filled");
        let renamed = filled.and_then(|()| fs::rename(&half, self.folder.join(name)));
        mark!("table.store.renamed");
        match renamed {
            // The name itself is in the directory.
            Ok(()) => File::open(&self.folder)?.sync_all(),
            Err(error) => {
                // What is half written is of no use, and if it cannot be removed it does no harm.
                let _ = fs::remove_file(&half);
                Err(error)
            }
        }
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(File::open(self.folder.join(name))?))
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.folder.join(name))?.len())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        match fs::read_dir(&self.folder) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }
}

/// Where, how often and how many checkpoints of a dictionary are stored.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let _dragon = dragon::init()?;
/// let persist = || dragon::Persist::posix(&folder).every(2).keep(3);
/// let dict: dragon::DDict<u64, u64> = dragon::DDict::builder().name("steps").persist(persist()).build()?;
/// for step in 0..9 {
///     dict.put(&0, &step)?;
///     dict.checkpoint();
/// }
/// drop(dict);
/// // Later, perhaps in another program:
/// let dict: dragon::DDict<u64, u64> = dragon::DDict::builder().name("steps").persist(persist()).build()?;
/// assert_eq!(dict.persisted()?, [2, 4, 6]);
/// dict.restore(4)?;
/// assert_eq!(dict.get(&0)?, 4);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Persist {
    /// Makes the store of its bytes, in any process.
    pub(super) opener: &'static Thunk,
    pub(super) store: Vec<u8>,
    pub(super) every: u32,
    pub(super) keep: Option<u32>,
}

impl Persist {
    /// In a directory that all processes of the job see.
    pub fn posix(folder: impl AsRef<Path>) -> Persist {
        let store = Posix::new(folder);
        // As bytes, so that every name is possible; writing bytes cannot fail.
        let mut bytes = Vec::new();
        let _ = wire::encode(&store.folder.into_os_string().into_encoded_bytes(), &mut bytes);
        let open = |bytes: Vec<u8>| -> Box<dyn Store> {
            Box::new(Posix { folder: std::ffi::OsString::from_vec(bytes).into() })
        };
        Persist { opener: thunk::make(open), store: bytes, every: 1, keep: None }
    }

    /// In a store of your own.
    ///
    /// # Errors
    /// [`Codec`](ErrorKind::Codec) if it cannot be written as bytes.
    pub fn to<S: Store + Message>(store: &S) -> Result<Persist> {
        let mut bytes = Vec::new();
        wire::encode(store, &mut bytes)?;
        let open = |store: S| -> Box<dyn Store> { Box::new(store) };
        Ok(Persist { opener: thunk::make(open), store: bytes, every: 1, keep: None })
    }

    /// Stores each checkpoint whose number is a multiple of this, when it is retired. Default: 1, every one.
    pub fn every(mut self, checkpoints: u32) -> Persist {
        self.every = checkpoints;
        self
    }

    /// Keeps so many stored checkpoints, the newest. Default: all.
    pub fn keep(mut self, checkpoints: u32) -> Persist {
        self.keep = Some(checkpoints);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let refused = |text: &str| Err(Error::new(ErrorKind::InvalidArgument, text));
        if self.every == 0 {
            return refused(
                "checkpoints are stored at every 1, 2, … of them, not at every 0: leave `persist` out to store none",
            );
        }
        if self.keep == Some(0) {
            return refused("of stored checkpoints at least 1 is kept: leave `keep` out to keep all");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Persist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Persist(every {}, keep {:?})", self.every, self.keep)
    }
}
