//! What a process did to its keys, noted where its death does not reach, and what others may find of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dragon::{DDict, Error, ErrorKind};

pub type Shared = DDict<u64, Vec<u64>>;

/// Keys of each process.
pub const KEYS: u64 = 24;
/// From this one on they are put by batches.
const BATCHED: u64 = 12;

/// The key of a process.
pub fn key(who: usize, n: u64) -> u64 {
    100 * (who as u64 + 1) + n
}

/// Of some keys every other step removes what the one before has put.
fn removes(key: u64, step: u64) -> bool {
    key % 100 < BATCHED && key % 4 == 3 && step.is_multiple_of(2)
}

/// The value of a step: of a length that follows from it, and the same in all its words.
fn value(key: u64, step: u64) -> Vec<u64> {
    vec![key << 32 | step; (3 + key * 7 + step * 131) as usize % 900 + 1]
}

/// The step that put a value, which is whole.
pub fn step_of(key: u64, found: &[u64]) -> u64 {
    let step = found[0] & 0xFFFF_FFFF;
    assert!(
        found == value(key, step),
        "torn: key {key} has {} words, of which the first is {:x}",
        found.len(),
        found[0]
    );
    step
}

/// By key: the step that was begun last, and the last that was answered.
pub struct Steps {
    file: File,
    who: usize,
}

impl Steps {
    pub fn open(folder: &Path, who: usize) -> Steps {
        let at = folder.join(format!("steps {who}"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(at).unwrap();
        Steps { file, who }
    }

    fn note(&self, n: u64, at: u64, step: u64) {
        self.file.write_all_at(&step.to_le_bytes(), 16 * n + 8 * at).unwrap();
    }

    fn word(&self, n: u64, at: u64) -> u64 {
        let mut word = [0; 8];
        // Who never wrote has a shorter file.
        self.file.read_exact_at(&mut word, 16 * n + 8 * at).map_or(0, |()| u64::from_le_bytes(word))
    }

    /// What was begun last, and what was answered.
    pub fn of(&self, n: u64) -> (u64, u64) {
        (self.word(n, 0), self.word(n, 1))
    }

    /// Whatever it is, it was written, and nothing of before what was answered.
    pub fn check(&self, n: u64, found: Option<&[u64]>, what: &str) {
        let (key, (begun, answered)) = (key(self.who, n), self.of(n));
        match found {
            Some(found) => {
                let step = step_of(key, found);
                assert!((answered..=begun).contains(&step), "{what}: key {key}: {step}, not of {answered}..={begun}");
            }
            None => {
                let gone = (answered..=begun).any(|step| step == 0 || removes(key, step));
                assert!(gone, "{what}: key {key} is not there; answered {answered}, begun {begun}");
            }
        }
    }

    fn write(&self, dict: &Shared, n: u64, excuse: &impl Fn(u64, &Error)) {
        let (key, (begun, answered)) = (key(self.who, n), self.of(n));
        let step = begun + 1;
        self.note(n, 0, step);
        let done = if removes(key, step) { dict.remove(&key) } else { dict.put(&key, &value(key, step)) };
        match done {
            Ok(()) => self.note(n, 1, step),
            Err(error) if error.kind() == ErrorKind::KeyNotFound => {
                assert!(removes(key, step) && answered < begun, "key {key}, which was put, is gone: {error}");
                self.note(n, 1, step);
            }
            Err(error) => excuse(key, &error),
        }
    }

    /// One step of every key, and a look at it. `excuse` says whether an error may be.
    pub fn round(&self, dict: &Shared, excuse: &impl Fn(u64, &Error)) {
        for n in 0..BATCHED {
            self.write(dict, n, excuse);
            self.look(dict, n, excuse);
        }
        let steps: Vec<u64> = (BATCHED..KEYS).map(|n| self.of(n).0 + 1).collect();
        (BATCHED..KEYS).zip(&steps).for_each(|(n, step)| self.note(n, 0, *step));
        let put = |n: u64, step: u64| (key(self.who, n), value(key(self.who, n), step));
        let pairs: Vec<_> = (BATCHED..KEYS).zip(&steps).map(|(n, step)| put(n, *step)).collect();
        match dict.batch(|batch| pairs.iter().try_for_each(|(key, value)| batch.put(key, value))) {
            Ok(_) => (BATCHED..KEYS).zip(&steps).for_each(|(n, step)| self.note(n, 1, *step)),
            // Some may be there: of one of its keys it is said that it cannot.
            Err(error) => assert!(error.is_lost(), "{error}"),
        }
        (BATCHED..KEYS).for_each(|n| self.look(dict, n, excuse));
    }

    /// Looks at one of the own keys, which nobody else writes.
    pub fn look(&self, dict: &Shared, n: u64, excuse: &impl Fn(u64, &Error)) {
        let key = key(self.who, n);
        match dict.try_get(&key) {
            Ok(found) => self.check(n, found.as_deref(), "meanwhile"),
            Err(error) => excuse(key, &error),
        }
    }
}
