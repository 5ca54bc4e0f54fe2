//! The caller's ends of a process's pipes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

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
}

impl Output {
    pub(super) fn near(pipe: OwnedFd) -> Output {
        Output(Source::Near(pipe.into()))
    }
}

impl Read for Output {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Near(pipe) => pipe.read(space),
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
}

impl Input {
    pub(super) fn near(pipe: OwnedFd) -> Input {
        Input(Sink::Near(pipe.into()))
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Sink::Near(pipe) => pipe.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
