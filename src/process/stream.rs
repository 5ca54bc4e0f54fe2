//! The caller's ends of a process's pipes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::site::{CHUNK, StreamId};
use super::sites::FarSite;

/// What a process writes, to be read to the last byte: the end comes when the process, and all that it gave its output
/// to, have ended or closed it.
///
/// Reading waits until there is something. What nobody reads stays in the process's pipe, and the process stands still
/// when that is full.
#[derive(Debug)]
pub struct Output(Source);

#[derive(Debug)]
enum Source {
    Near(File),
    Far {
        way: Way,
        /// What has come and was not read yet.
        bytes: Vec<u8>,
        read: usize,
        over: bool,
    },
}

/// The way to a pipe on another node. Nothing is asked for that nobody reads, so nothing gathers on the way.
struct Way {
    site: Arc<FarSite>,
    stream: StreamId,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a pipe on node {}", self.site.node())
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.site.shut(self.stream);
    }
}

impl Output {
    pub(super) fn near(pipe: OwnedFd) -> Output {
        Output(Source::Near(pipe.into()))
    }

    pub(super) fn far(site: Arc<FarSite>, stream: StreamId) -> Output {
        Output(Source::Far { way: Way { site, stream }, bytes: Vec::new(), read: 0, over: false })
    }
}

impl Read for Output {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Near(pipe) => pipe.read(space),
            Source::Far { over: true, .. } => Ok(0),
            Source::Far { way, bytes, read, over } => {
                if *read == bytes.len() {
                    (*bytes, *read) = (way.site.read(way.stream).map_err(io::Error::other)?, 0);
                    *over = bytes.is_empty();
                }
                let len = (&bytes[*read..]).read(space)?;
                *read += len;
                Ok(len)
            }
        }
    }
}

/// What a process reads: it sees the end when this value is dropped.
///
/// Writing waits while the process's pipe is full. To a process that has ended it fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe).
#[derive(Debug)]
pub struct Input(Sink);

#[derive(Debug)]
enum Sink {
    Near(File),
    Far(Way),
}

impl Input {
    pub(super) fn near(pipe: OwnedFd) -> Input {
        Input(Sink::Near(pipe.into()))
    }

    pub(super) fn far(site: Arc<FarSite>, stream: StreamId) -> Input {
        Input(Sink::Far(Way { site, stream }))
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Sink::Near(pipe) => pipe.write(bytes),
            Sink::Far(way) => {
                let bytes = &bytes[..bytes.len().min(CHUNK)];
                way.site.write(way.stream, bytes).map_err(|error| match error.is_closed() {
                    true => io::Error::new(io::ErrorKind::BrokenPipe, error),
                    false => io::Error::other(error),
                })?;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
