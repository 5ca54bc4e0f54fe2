//! Names of objects on this node: found by all its processes, gone with their object.
//!
//! ```text
//! entry of 16 words   0      the object, or 0
//!                     1      bytes of the name
//!                     2 ..   the name
//! lock                0      the process that has it, or 0
//!                     8      WaitCell: who waits for it
//! ```
//!
//! Word 0 alone says whether a name is there: it is written last, and an entry whose object is not live counts
//! as free, so nobody has to take a name away. Only who gives a name takes the lock, since two must not
//! give the same one; looking needs none. The lock names its holder, so the repair of a death frees it; and what a
//! dead holder had begun to write has no word 0.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::id::{ObjectId, ProcId};
use crate::mm::{MemError, Memory};
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until};

/// The longest name, in bytes.
pub(crate) const LONGEST: usize = 112;

/// How long one waits for another who is giving a name. It takes microseconds, and a death is repaired in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an object did not get a name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    /// It is no name.
    #[error("a name has 1 to {LONGEST} bytes; `{name}` has {}", name.len())]
    Length { name: String },
    /// Another object has it.
    #[error("the name `{name}` is taken")]
    Taken { name: String },
    /// There are too many.
    #[error("this node has as many names as there can be")]
    TooMany,
    /// Somebody who is stopped holds the lock.
    #[error("a process that is stopped holds the lock of the names")]
    Stopped,
    /// No pages for it.
    #[error(transparent)]
    Memory(#[from] MemError),
}

/// Gives an object a name that no other live object of this node has.
pub(crate) fn give(memory: &Memory, name: &str, object: ObjectId) -> Result<(), NameError> {
    if name.is_empty() || name.len() > LONGEST {
        return Err(NameError::Length { name: name.into() });
    }
    let _lock = Lock::take(memory)?;
    mark!("object.name.locked");
    if find(memory, name).is_some() {
        return Err(NameError::Taken { name: name.into() });
    }
    loop {
        if let Some(free) = memory.name_entries().entries.iter().find(|entry| object_in(memory, *entry).is_none()) {
            write(free, name, object);
            return Ok(());
        }
        if !memory.more_names()? {
            return Err(NameError::TooMany);
        }
    }
}

/// The live object of this name.
pub(crate) fn find(memory: &Memory, name: &str) -> Option<ObjectId> {
    let entries = memory.name_entries().entries;
    entries.iter().filter(|entry| is_named(*entry, name)).find_map(|entry| object_in(memory, entry))
}

/// The name of a live object, if it has one.
pub(crate) fn of(memory: &Memory, object: ObjectId) -> Option<String> {
    let mut entries = memory.name_entries().entries.iter();
    let entry = entries.find(|entry| entry[0].load(Ordering::Acquire) == object.to_word())?; // pairs with `write`
    let bytes = read(entry)?;
    object_in(memory, entry).filter(|now| *now == object)?;
    String::from_utf8(bytes).ok()
}

/// The names in these entries, and whose they are or were.
pub(crate) fn all(entries: &[[AtomicU64; 16]]) -> Vec<(ObjectId, String)> {
    let one = |entry: &[AtomicU64; 16]| {
        let object = entry[0].load(Ordering::Acquire); // pairs with `write`
        let name = String::from_utf8(read(entry)?).ok()?;
        // The same object before and after: the name was its. As in `is_named`.
        let same = entry[0].load(Ordering::Acquire) == object;
        Some((ObjectId::from_word(object).filter(|_| same)?, name))
    };
    entries.iter().filter_map(one).collect()
}

/// Frees the lock, if the dead had it.
pub(crate) fn repair(memory: &Memory, dead: ProcId) {
    let lock = memory.name_entries().lock;
    // SeqCst: pairs with `Lock::take`.
    let _ = lock[0].compare_exchange(u64::from(dead.0), 0, Ordering::SeqCst, Ordering::SeqCst);
    mark!("object.name.unlocked");
    cell(lock).heal();
}

fn object_in(memory: &Memory, entry: &[AtomicU64]) -> Option<ObjectId> {
    // Acquire: pairs with `write`.
    ObjectId::from_word(entry[0].load(Ordering::Acquire)).filter(|object| memory.is_live(*object))
}

fn is_named(entry: &[AtomicU64], name: &str) -> bool {
    // Acquire: pairs with `write`. The same object before and after: the name was its.
    let object = entry[0].load(Ordering::Acquire);
    object != 0 && read(entry).is_some_and(|bytes| bytes == name.as_bytes()) && {
        entry[0].load(Ordering::Acquire) == object // as above
    }
}

/// Acquire, each: so that a later look at the object comes after them; pairs with `write`.
fn read(entry: &[AtomicU64]) -> Option<Vec<u8>> {
    let len = usize::try_from(entry[1].load(Ordering::Acquire)).ok().filter(|len| *len <= LONGEST)?;
    let words = entry[2..2 + len.div_ceil(8)].iter();
    let mut bytes: Vec<u8> = words.flat_map(|word| word.load(Ordering::Acquire).to_le_bytes()).collect();
    bytes.truncate(len);
    Some(bytes)
}

fn write(entry: &[AtomicU64], name: &str, object: ObjectId) {
    // First the old one away, then the name, then the object: who sees the object sees its name.
    // AcqRel: pairs with the acquires in `is_named`; what follows stays behind it.
    entry[0].swap(0, Ordering::AcqRel);
    mark!("object.name.cleared");
    let put = |word: &AtomicU64, value: u64| word.store(value, Ordering::Release); // Release: pairs with `read`
    put(&entry[1], name.len() as u64);
    for (word, part) in entry[2..].iter().zip(name.as_bytes().chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        put(word, u64::from_le_bytes(bytes));
    }
    mark!("object.name.written");
    put(&entry[0], object.to_word());
}

fn cell(lock: &[AtomicU64; 16]) -> &WaitCell {
    WaitCell::in_words(lock.last_chunk().expect("the second of two lines"))
}

/// The threads of this process among each other, since the shared lock knows processes only.
static THREADS: Mutex<()> = Mutex::new(());

/// The right to give names; given back when dropped.
struct Lock<'m> {
    words: &'m [AtomicU64; 16],
    _threads: std::sync::MutexGuard<'static, ()>,
}

impl<'m> Lock<'m> {
    fn take(memory: &'m Memory) -> Result<Lock<'m>, NameError> {
        let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let words = memory.name_entries().lock;
        let me = u64::from(memory.me().0);
        // SeqCst: pairs with `drop` and `repair`.
        let free = || words[0].compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).ok();
        wait_until(cell(words), &mut Patience::new(), Deadline::after(PATIENCE), free)
            .map_err(|_| NameError::Stopped)?;
        Ok(Lock { words, _threads: threads })
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // SeqCst: pairs with `take`, and with the registration of a sleeper.
        self.words[0].swap(0, Ordering::SeqCst);
        cell(self.words).notify_one();
    }
}
