//! A queue whose home is another node.

use super::words::{NewQueue, QUEUE, QueueFacts, QueueHead, QueueOp, Why};
use super::{FarError, well};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::{Body, Mesh};
use crate::time::Deadline;
use crate::wire;

/// This process's hold on a queue of another node: it lives at least as long as this.
pub(crate) struct FarQueue {
    mesh: Mesh,
    home: NodeNumber,
    queue: ObjectId,
    facts: QueueFacts,
}

impl FarQueue {
    /// Opens a queue by what its home calls it.
    pub(crate) fn open(mesh: Mesh, home: NodeNumber, queue: ObjectId) -> Result<FarQueue, FarError> {
        let head = QueueHead::new(queue, QueueOp::Hold, Deadline::Now);
        let reply = well(mesh.call(home, QUEUE, bytemuck::bytes_of(&head))?)?;
        let unclear = FarError::Refused { why: Why::Unclear, text: format!("node {home} says nothing of its queue") };
        let facts = reply.body.get(..size_of::<QueueFacts>()).ok_or(unclear)?;
        let facts = bytemuck::pod_read_unaligned(facts);
        Ok(FarQueue { mesh, home, queue, facts })
    }

    /// Has another node make a queue, and opens it.
    pub(crate) fn make(mesh: Mesh, home: NodeNumber, new: &NewQueue) -> Result<FarQueue, FarError> {
        let unclear = |text: String| FarError::Refused { why: Why::Unclear, text };
        // Names no queue: there is none yet.
        let head = QueueHead { queue: u64::MAX, patience: u64::MAX, op: QueueOp::Make as u32, spare: 0 };
        let mut call = bytemuck::bytes_of(&head).to_vec();
        wire::encode(new, &mut call).map_err(|error| unclear(error.to_string()))?;
        let reply = well(mesh.call(home, QUEUE, &call)?)?;
        let made = reply.body.first_chunk().map(|word| u64::from_le_bytes(*word)).and_then(ObjectId::from_word);
        let queue = made.ok_or_else(|| unclear(format!("node {home} says nothing of the queue it made")))?;
        let facts = QueueFacts { label: new.label, capacity: new.capacity.unwrap_or(0) as u64 };
        Ok(FarQueue { mesh, home, queue, facts })
    }

    pub(crate) fn home(&self) -> NodeNumber {
        self.home
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.queue
    }

    pub(crate) fn label(&self) -> u64 {
        self.facts.label
    }

    pub(crate) fn capacity(&self) -> Option<usize> {
        (self.facts.capacity > 0).then_some(self.facts.capacity as usize)
    }

    /// Puts `len` bytes that `fill` writes.
    pub(crate) fn put(&self, len: usize, deadline: Deadline, fill: impl FnOnce(&mut [u8])) -> Result<(), FarError> {
        let head = QueueHead::new(self.queue, QueueOp::Put, deadline);
        well(self.mesh.call_with(self.home, QUEUE, bytemuck::bytes_of(&head), len, fill)?).map(drop)
    }

    /// Takes a message.
    pub(crate) fn get(&self, deadline: Deadline) -> Result<Body, FarError> {
        self.ask(QueueOp::Get, deadline)
    }

    pub(crate) fn len(&self) -> Result<usize, FarError> {
        let body = self.ask(QueueOp::Len, Deadline::Now)?;
        Ok(number(&body))
    }

    pub(crate) fn close(&self) -> Result<(), FarError> {
        self.ask(QueueOp::Close, Deadline::Now).map(drop)
    }

    pub(crate) fn is_closed(&self) -> Result<bool, FarError> {
        let body = self.ask(QueueOp::Len, Deadline::Now)?;
        Ok(body.get(8) == Some(&1))
    }

    /// Whether a message could be declared done; `None` if nobody counts.
    pub(crate) fn declare_done(&self) -> Result<Option<bool>, FarError> {
        let body = self.ask(QueueOp::Done, Deadline::Now)?;
        Ok(match number(&body) {
            0 => None,
            word => Some(word == 2),
        })
    }

    /// Whether all messages were declared done in time; `None` if nobody counts.
    pub(crate) fn wait_done(&self, deadline: Deadline) -> Result<Option<()>, FarError> {
        let body = self.ask(QueueOp::Join, deadline)?;
        Ok((number(&body) != 0).then_some(()))
    }

    /// Whether there is something to take, or will never be.
    pub(crate) fn poll(&self, deadline: Deadline) -> Result<bool, FarError> {
        match self.ask(QueueOp::Poll, deadline) {
            Ok(_) => Ok(true),
            Err(FarError::Refused { why: Why::TimedOut | Why::Empty, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether there is room for a message, or will never be.
    pub(crate) fn poll_room(&self, deadline: Deadline) -> Result<bool, FarError> {
        match self.ask(QueueOp::PollRoom, deadline) {
            Ok(_) => Ok(true),
            Err(FarError::Refused { why: Why::TimedOut | Why::Full, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, op: QueueOp, deadline: Deadline) -> Result<Body, FarError> {
        self.call(bytemuck::bytes_of(&QueueHead::new(self.queue, op, deadline)))
    }

    fn call(&self, call: &[u8]) -> Result<Body, FarError> {
        Ok(well(self.mesh.call(self.home, QUEUE, call)?)?.body)
    }
}

impl Drop for FarQueue {
    fn drop(&mut self) {
        let head = QueueHead::new(self.queue, QueueOp::LetGo, Deadline::Now);
        // A home that is lost holds nothing.
        let _ = self.mesh.tell(self.home, QUEUE, bytemuck::bytes_of(&head));
    }
}

fn number(body: &[u8]) -> usize {
    body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes) as usize)
}
