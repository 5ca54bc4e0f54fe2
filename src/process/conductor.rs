//! The one thread of a process that looks after all its groups: it hears of ends and minds what is due.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, select, unbounded};

use super::exit::How;
use super::inner::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::pmi::Ending;
use crate::services::ChildEnd;
use crate::time::now;

/// Longer than anybody waits for something that is due.
const LONG: Duration = Duration::from_secs(3600);

/// The handle on the thread, which ends with the last of them.
pub(super) struct Conductor {
    pub(super) ends: Sender<ChildEnd>,
    /// Hears when the ranks of a group must end.
    pub(super) endings: Sender<(u64, Ending)>,
    wakes: Sender<()>,
    book: Arc<Mutex<Book>>,
}

/// Which process is whose.
struct Launch {
    group: Weak<Inner>,
    member: usize,
    attempt: u32,
}

#[derive(Default)]
struct Book {
    keys: u64,
    launches: HashMap<u64, Launch>,
    groups: Vec<Weak<Inner>>,
}

static CONDUCTOR: Mutex<Weak<Conductor>> = Mutex::new(Weak::new());

/// The conductor of this process.
pub(super) fn conductor() -> Result<Arc<Conductor>> {
    let mut known = CONDUCTOR.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(conductor) = known.upgrade() {
        return Ok(conductor);
    }
    let (ends, ended) = unbounded();
    let (wakes, woken) = unbounded();
    let (endings, ending) = unbounded();
    let book: Arc<Mutex<Book>> = Arc::default();
    let shared = book.clone();
    let started =
        thread::Builder::new().name("dragon-groups".into()).spawn(move || conduct(&shared, &ended, &ending, &woken));
    started.map_err(|error| Error::with_source(ErrorKind::ResourceLimit, "no thread for process groups", error))?;
    let conductor = Arc::new(Conductor { ends, endings, wakes, book });
    *known = Arc::downgrade(&conductor);
    Ok(conductor)
}

impl Conductor {
    /// From now on what is due in this group is minded.
    pub(super) fn admit(&self, group: &Arc<Inner>) {
        lock(&self.book).groups.push(Arc::downgrade(group));
    }

    /// A number under which the end of a process will be told.
    pub(super) fn key(&self, group: &Arc<Inner>, member: usize, attempt: u32) -> u64 {
        let mut book = lock(&self.book);
        book.keys += 1;
        let key = book.keys;
        book.launches.insert(key, Launch { group: Arc::downgrade(group), member, attempt });
        key
    }

    /// That process was not started.
    pub(super) fn forget(&self, key: u64) {
        lock(&self.book).launches.remove(&key);
    }

    /// What is due has changed.
    pub(super) fn wake(&self) {
        // Fails only when the thread is gone, with this process.
        let _ = self.wakes.send(());
    }
}

fn conduct(book: &Mutex<Book>, ended: &Receiver<ChildEnd>, ending: &Receiver<(u64, Ending)>, woken: &Receiver<()>) {
    let mut due: Option<Instant> = None;
    loop {
        let patience = due.map_or(LONG, |due| due.saturating_duration_since(now()));
        select! {
            recv(ended) -> end => {
                let Ok(end) = end else { return };
                // All that came meanwhile, so that what follows is done once.
                let ends: Vec<ChildEnd> = [end].into_iter().chain(ended.try_iter()).collect();
                ends.iter().filter(|end| end.is_bad()).for_each(|end| hear_out(book, end));
                ending.try_iter().for_each(|ending| ranks_end(book, ending));
                ends.into_iter().for_each(|end| tell(book, end));
            }
            recv(ending) -> end => end.into_iter().for_each(|ending| ranks_end(book, ending)),
            recv(woken) -> wake => {
                if wake.is_err() {
                    return;
                }
                woken.try_iter().for_each(drop);
            }
            default(patience) => {}
        }
        let groups: Vec<Arc<Inner>> = {
            let mut book = lock(book);
            book.groups.retain(|group| group.strong_count() > 0);
            book.groups.iter().filter_map(Weak::upgrade).collect()
        };
        due = groups.iter().filter_map(Inner::mind).min();
        drop(groups);
    }
}

fn tell(book: &Mutex<Book>, end: ChildEnd) {
    let Some(Launch { group, member, attempt }) = lock(book).launches.remove(&end.key) else { return };
    let Some(group) = group.upgrade() else { return };
    group.ended(member, attempt, end.pid, how(end));
}

fn hear_out(book: &Mutex<Book>, end: &ChildEnd) {
    let group = lock(book).launches.get(&end.key).and_then(|launch| launch.group.upgrade());
    group.iter().for_each(|group| group.hear_out());
}

fn ranks_end(book: &Mutex<Book>, (key, ending): (u64, Ending)) {
    let group = lock(book).launches.remove(&key).and_then(|launch| launch.group.upgrade());
    group.iter().for_each(|group| group.ranks_end(&ending));
}

/// How a child ended, in words of this floor.
pub(super) fn how(end: ChildEnd) -> How {
    use std::os::unix::process::ExitStatusExt;
    match (end.refusal, end.status) {
        (Some(why), _) => How::NotStarted(why),
        (None, Err(error)) => How::Lost(format!("somebody else reaped it: {error}")),
        (None, Ok(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => How::Code(code),
            (None, signal) => How::Signal(signal.unwrap_or(0)),
        },
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
