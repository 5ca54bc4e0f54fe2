//! What crosses between a pool and its workers: two small heads, everything behind them is the task's own.

use bytemuck::{Pod, Zeroable};

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

    pub(super) fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
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

/// Head of a message from a worker. What stands behind it depends on `status`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ResultHead {
    pub(super) ticket: Ticket,
    pub(super) status: Status,
}

/// What became of a task, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Status(u64);

impl Status {
    /// Behind the head: the encoded results.
    pub(super) const DONE: Status = Status(1);
    /// Behind the head: an encoded [`Failure`](crate::task::Failure).
    pub(super) const FAILED: Status = Status(2);
    /// Behind the head: nothing. The task had been cancelled and never ran.
    pub(super) const SKIPPED: Status = Status(3);
    /// Behind the head: text. The worker could not even begin.
    pub(super) const REFUSED: Status = Status(4);
    /// Behind the head: text. There is no shared memory for the result.
    pub(super) const NO_ROOM: Status = Status(6);
    /// Behind the head: text. The worker cannot go on, and no other could: the pool breaks down.
    pub(super) const UNFIT: Status = Status(5);
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
        let head = ResultHead { ticket: Ticket::new(1, 1), status: Status::DONE };
        let mut bytes = bytemuck::bytes_of(&head).to_vec();
        bytes.push(9);
        let (read, rest) = split::<ResultHead>(&bytes).unwrap();
        assert_eq!((read.ticket, read.status, rest), (head.ticket, Status::DONE, &[9][..]));
        assert!(split::<ResultHead>(&bytes[..15]).is_none());
    }
}
