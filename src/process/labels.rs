//! Lines of processes with a name before each, on this process's own standard output and error.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::sys::epoll::{Epoll, Interest};
use crate::sys::poll::Bell;
use std::sync::Arc;

/// The bell's number in the set.
const BELL: u64 = 0;
/// A line longer than this is cut into several.
const LONGEST: usize = 64 << 10;

/// Labels lines, on a thread that begins with the first process.
pub(super) struct Labels {
    name: String,
    desk: Mutex<Option<Desk>>,
}

#[derive(Clone)]
struct Desk {
    work: Sender<Work>,
    bell: Arc<Bell>,
}

enum Work {
    Pipe {
        member: usize,
        which: usize,
        pipe: OwnedFd,
    },
    /// Answers when all that was written before has been labelled.
    Flush(Sender<()>),
    End,
}

/// One pipe, and what has come of a line that is not complete.
struct Source {
    member: usize,
    which: usize,
    pipe: File,
    line: Vec<u8>,
}

impl Labels {
    pub(super) fn new(name: &str) -> Labels {
        Labels { name: name.into(), desk: Mutex::default() }
    }

    /// From now on lines of this pipe are labelled, until it ends.
    pub(super) fn add(&self, member: usize, which: usize, pipe: OwnedFd) -> io::Result<()> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if desk.is_none() {
            *desk = Some(begin(self.name.clone())?);
        }
        if let Some(desk) = &*desk {
            desk.say(Work::Pipe { member, which, pipe });
        }
        Ok(())
    }

    /// Waits until what processes have written by now has been labelled.
    pub(super) fn flush(&self) {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(desk) = desk {
            let (done, wait) = bounded(1);
            desk.say(Work::Flush(done));
            let _ = wait.recv(); // fails only when the thread is gone, and with it what could be waited for
        }
    }
}

impl Drop for Labels {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.get_mut().unwrap_or_else(PoisonError::into_inner) {
            desk.say(Work::End);
        }
    }
}

impl Desk {
    fn say(&self, work: Work) {
        let _ = self.work.send(work); // fails only when the thread is gone
        self.bell.ring();
    }
}

fn begin(name: String) -> io::Result<Desk> {
    let (set, bell) = (Epoll::new()?, Arc::new(Bell::new()?));
    set.add(&*bell, BELL, Interest::READ)?;
    let (work, todo) = unbounded();
    let rung = bell.clone();
    thread::Builder::new().name("dragon-labels".into()).spawn(move || label(&name, &set, &rung, &todo))?;
    Ok(Desk { work, bell })
}

fn label(name: &str, set: &Epoll, bell: &Bell, todo: &Receiver<Work>) {
    let mut sources: HashMap<u64, Source> = HashMap::new();
    let mut last = BELL;
    loop {
        let mut ready = Vec::new();
        set.sleep(None);
        if set.look(&mut ready).is_err() {
            return;
        }
        bell.answer();
        let (mut waiting, mut over) = (Vec::new(), false);
        for work in todo.try_iter() {
            match work {
                Work::Pipe { member, which, pipe } => {
                    last += 1;
                    if let Err(error) = set.add(&pipe, last, Interest::READ) {
                        tracing::error!(%error, "the lines of a process cannot be labelled");
                        continue;
                    }
                    sources.insert(last, Source { member, which, pipe: pipe.into(), line: Vec::new() });
                }
                Work::Flush(done) => waiting.push(done),
                Work::End => over = true,
            }
        }
        read(name, &mut sources, ready.iter().map(|ready| ready.key));
        if over || !waiting.is_empty() {
            drain(name, set, &mut sources);
        }
        for done in waiting {
            let _ = done.send(()); // who waits no more needs not hear it
        }
        if over {
            return;
        }
    }
}

/// Reads on until nothing is there.
fn drain(name: &str, set: &Epoll, sources: &mut HashMap<u64, Source>) {
    loop {
        let mut ready = Vec::new();
        let looked = set.look(&mut ready);
        ready.retain(|ready| ready.key != BELL);
        if looked.is_err() || ready.is_empty() {
            return;
        }
        read(name, sources, ready.iter().map(|ready| ready.key));
    }
}

fn read(name: &str, sources: &mut HashMap<u64, Source>, ready: impl Iterator<Item = u64>) {
    for key in ready {
        let Some(source) = sources.get_mut(&key) else { continue };
        let mut space = [0; 16 << 10];
        match source.pipe.read(&mut space) {
            Ok(len @ 1..) => source.take(name, &space[..len]),
            Ok(0) | Err(_) => {
                source.end(name);
                sources.remove(&key);
            }
        }
    }
}

impl Source {
    fn take(&mut self, name: &str, bytes: &[u8]) {
        self.line.extend_from_slice(bytes);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let rest = self.line.split_off(end + 1);
            self.write(name);
            self.line = rest;
        }
        if self.line.len() > LONGEST {
            self.end(name);
        }
    }

    /// A line without an end gets one.
    fn end(&mut self, name: &str) {
        if !self.line.is_empty() {
            self.line.push(b'\n');
            self.write(name);
            self.line.clear();
        }
    }

    fn write(&self, name: &str) {
        let space = if name.is_empty() { "" } else { " " };
        let line = [format!("[{name}{space}{}] ", self.member).as_bytes(), &self.line].concat();
        // One call for a line keeps lines of processes apart; a terminal that is gone takes none.
        let _ = if self.which == 1 { io::stdout().write_all(&line) } else { io::stderr().write_all(&line) };
    }
}
