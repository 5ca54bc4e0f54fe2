//! What crosses between a pool and its workers: two small heads, everything behind them is the task's own.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use crate::mesh::ReplyHead;
use crate::mm::Handle;

/// Names one attempt at one part of a job: place in the pool's table of flights, and which tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Ticket(pub(super) u64);

impl Ticket {
    /// No task. Generations start at 1, so no real ticket is zero.
    pub(super) const NONE: Ticket = Ticket(0);

    pub(super) fn new(index: usize, generation: u32) -> Ticket {
        Ticket(u64::from(generation) << 32 | index as u64)
    }

    /// No task either: a question to a site, when it ends or what is new. Sites count from 1.
    pub(super) fn standing(site: usize) -> Ticket {
        Ticket::new(site, 0)
    }

    pub(super) fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What a site has to say besides answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum News {
    /// So many ranks are there to work.
    Ranks(u64),
    /// A worker is lost: its process id, how it ended, which function it was running.
    Lost { pid: u32, how: String, task: Option<String> },
}

/// Head of a message to the workers. Behind it: a [`ContextRef`] if `with_context`, then the encoded items.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct TaskHead {
    pub(super) ticket: Ticket,
    /// Where the function's reference stands in the board's log.
    pub(super) function: u32,
    pub(super) with_context: u32,
}

/// A context that many tasks share: encoded once, in a block that the pool keeps while tasks need it.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ContextRef {
    /// Tells contexts of one pool apart, so that a worker decodes each only once.
    pub(super) id: u64,
    /// Where the function that decodes it stands in the board's log.
    pub(super) decoder: u64,
    pub(super) block: Handle,
}

/// Head of an answer. What stands behind it depends on `status`. Workers of this node write it, and for those of others the
/// mesh does: it is a [`ReplyHead`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ResultHead {
    pub(super) ticket: Ticket,
    /// Unless 0, there is no answer, and why stands behind: an encoded [`MeshError`](crate::mesh::MeshError).
    pub(super) failed: u32,
    pub(super) status: Status,
}

const _: () = assert!(size_of::<ResultHead>() == size_of::<ReplyHead>());

impl ResultHead {
    pub(super) fn new(ticket: Ticket, status: Status) -> ResultHead {
        ResultHead { ticket, failed: 0, status }
    }

    /// Not what a worker says of its task.
    pub(super) fn is_news(self) -> bool {
        self.failed != 0
            || self.status.0 > Status::NO_ROOM.0
            || (self.status.0 != 0 && self.status.0 < Status::FAILED.0)
    }
}

/// What became of a task, as a word. Those between 0 and 33 are refusals of the services: [`Why`](crate::services::Why).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Status(pub(super) u32);

impl Status {
    /// Behind the head: the encoded results.
    pub(super) const DONE: Status = Status(0);
    /// Behind the head: an encoded [`Failure`](crate::task::Failure).
    pub(super) const FAILED: Status = Status(33);
    /// Behind the head: nothing. The task had been cancelled and never ran.
    pub(super) const SKIPPED: Status = Status(34);
    /// Behind the head: text. The worker could not even begin.
    pub(super) const REFUSED: Status = Status(35);
    /// Behind the head: text. There is no shared memory for the result.
    pub(super) const NO_ROOM: Status = Status(36);
    /// Behind the head: text. The worker cannot go on, and no other could: the pool breaks down.
    pub(super) const UNFIT: Status = Status(37);
    /// Behind the head: text. The worker that had the task is lost.
    pub(super) const LOST: Status = Status(38);
    /// Behind the head: an encoded kind of error and its text. Of a task, or of a whole site.
    pub(super) const ERROR: Status = Status(39);
    /// A site has ended as it was told.
    pub(super) const ENDED: Status = Status(40);
    /// Behind the head: its place. A rank does not work for the pool any more.
    pub(super) const LEFT: Status = Status(41);
    /// Behind the head: encoded [`News`] of a site.
    pub(super) const NEWS: Status = Status(42);

    /// For an answer to another node.
    pub(super) fn word(self) -> u16 {
        self.0 as u16
    }
}

/// What a pool says to its workers' site on another node. Numbers below 16 are the services' own.
pub(super) mod op {
    /// A task, as for a worker of this node. Answered like one.
    pub(in crate::pool) const TASK: u32 = 16;
    /// The next entry of the board's log.
    pub(in crate::pool) const FUNCTION: u32 = 17;
    /// A context: its number, and its bytes behind. Answered when it is there.
    pub(in crate::pool) const CONTEXT: u32 = 18;
    /// The number of a context that no task needs any more.
    pub(in crate::pool) const FORGET: u32 = 19;
    /// Answered when the site ends.
    pub(in crate::pool) const STAND: u32 = 20;
    /// Tickets to be given up. Answered with a byte: 1 if none of them has begun or ever will.
    pub(in crate::pool) const CANCEL: u32 = 21;
    /// Nothing more comes: the workers may go.
    pub(in crate::pool) const FINISH: u32 = 22;
    /// Give up all tasks.
    pub(in crate::pool) const STOP: u32 = 23;
    /// Kill the workers.
    pub(in crate::pool) const KILL: u32 = 24;
    /// Answered with what the workers do.
    pub(in crate::pool) const WORKERS: u32 = 25;
    /// Answered when there is something new. Says how many ranks are known to be there.
    pub(in crate::pool) const NEWS: u32 = 26;
}

/// Splits a message into its head and the rest.
pub(super) fn split<H: Pod>(bytes: &[u8]) -> Option<(H, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<H>())?;
    Some((bytemuck::pod_read_unaligned(head), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_names_place_and_tenant() {
        let ticket = Ticket::new(1023, 7);
        assert_eq!((ticket.index(), ticket.generation()), (1023, 7));
        assert_ne!(ticket, Ticket::NONE);
    }

    #[test]
    fn a_message_shorter_than_its_head_is_refused() {
        let head = ResultHead::new(Ticket::new(1, 1), Status::DONE);
        let mut bytes = bytemuck::bytes_of(&head).to_vec();
        bytes.push(9);
        let (read, rest) = split::<ResultHead>(&bytes).unwrap();
        assert_eq!((read.ticket, read.status, rest), (head.ticket, Status::DONE, &[9][..]));
        assert!(split::<ResultHead>(&bytes[..15]).is_none());
    }
}
