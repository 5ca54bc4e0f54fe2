//! The shell's side of the process with libpmix: started when the first team wants it, for all that follow.

use std::io;

use super::line::Line;
use crate::bootstrap::makes_a_rank;
use crate::sys::epoll::Epoll;
use crate::sys::pmix_office::Office as Process;
use crate::sys::pmix_words::{Order, Report, frame, take};

/// The process, and the way to it.
pub(super) struct Office {
    line: Line,
    come: Vec<u8>,
    process: Process,
}

impl Office {
    pub(super) fn start(epoll: &Epoll, key: u64, host: &str) -> io::Result<Office> {
        let (process, socket) = Process::start(host, |name| !makes_a_rank(name))?;
        Ok(Office { line: Line::new(epoll, socket, key)?, come: Vec::new(), process })
    }

    pub(super) fn order(&mut self, epoll: &Epoll, order: &Order) {
        self.line.write(epoll, &frame(order));
    }

    pub(super) fn flush(&mut self, epoll: &Epoll) {
        self.line.flush(epoll);
    }

    /// What it has to say. An error is its end.
    pub(super) fn hear(&mut self) -> Result<Vec<Report>, String> {
        let bytes = self.line.read().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("the PMIx server (process {}) has ended", self.process.id()),
            _ => format!("the PMIx server: {error}"),
        })?;
        self.come.extend_from_slice(&bytes);
        let mut reports = Vec::new();
        while let Some(report) = take(&mut self.come)? {
            reports.push(report);
        }
        Ok(reports)
    }
}
