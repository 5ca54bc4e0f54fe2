//! What calls for locks, barriers and values of another node consist of.

use bytemuck::{Pod, Zeroable};

use super::words::{deadline_of, patience_of};
use crate::id::ObjectId;
use crate::latch;
use crate::mm::Kind;
use crate::time::Deadline;

/// What can be done to such an object. Not all can be done to each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum SyncOp {
    /// Opens it for the calling process, which must let go of it some day.
    Hold = 1,
    LetGo = 2,
    /// What people want to know about it, in four numbers.
    Figures = 3,
    /// Takes a lock (also an array's), or a permit.
    Take = 4,
    /// Gives a lock back, poisoned if the first word is not 0; or as many permits as that word says.
    Give = 5,
    ClearPoison = 6,
    Read = 7,
    Leave = 8,
    Write = 9,
    /// Is the writer no more; the first word as for a lock.
    WriteEnd = 10,
    /// Arrives at a barrier; acts, if it comes last and the first word is not 0.
    Arrive = 11,
    /// The last party has acted in the generation of the first word.
    Acted = 12,
    Abort = 13,
    Reset = 14,
    Set = 15,
    Clear = 16,
    /// Waits for an event; or at a condition variable, giving back the lock of the first word meanwhile.
    Wait = 17,
    NotifyOne = 18,
    NotifyAll = 19,
    /// Reads a value; or as many bytes of an array as the second word says, from byte number of the first.
    Get = 20,
    /// Writes a value; or bytes of an array, from byte number of the first word on.
    Put = 21,
    /// Where the first half of the bytes stands, puts the second: as `Put`. Answers with what stands there otherwise.
    Exchange = 22,
}

impl SyncOp {
    pub(in crate::services) fn from_word(word: u16) -> Option<SyncOp> {
        use SyncOp::*;
        let all = [
            Hold,
            LetGo,
            Figures,
            Take,
            Give,
            ClearPoison,
            Read,
            Leave,
            Write,
            WriteEnd,
            Arrive,
            Acted,
            Abort,
            Reset,
            Set,
            Clear,
            Wait,
            NotifyOne,
            NotifyAll,
            Get,
            Put,
            Exchange,
        ];
        all.into_iter().find(|op| *op as u16 == word)
    }
}

/// Head of a call; behind it, of some, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::services) struct SyncHead {
    pub(in crate::services) object: u64,
    /// See `words::patience_of`.
    pub(in crate::services) patience: u64,
    /// What the operation wants to know.
    pub(in crate::services) words: [u64; 2],
    pub(in crate::services) op: u16,
    pub(in crate::services) kind: u16,
    /// Which thread of the process calls.
    pub(in crate::services) thread: u32,
    /// Which of the processes that ever had the caller's place.
    pub(in crate::services) incarnation: u32,
    /// What its own node calls it, for texts.
    pub(in crate::services) pid: u32,
}

impl SyncHead {
    pub(in crate::services) fn id(&self) -> Option<ObjectId> {
        ObjectId::from_word(self.object)
    }

    pub(in crate::services) fn kind(&self) -> Option<Kind> {
        latch::KINDS.into_iter().find(|kind| *kind as u32 == u32::from(self.kind))
    }

    pub(in crate::services) fn deadline(&self) -> Deadline {
        deadline_of(self.patience)
    }

    pub(super) fn wait(&mut self, deadline: Deadline) {
        self.patience = patience_of(deadline);
    }
}

/// What an object is, as its home tells it to one who opens it. All 0 but for values and arrays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SyncFacts {
    /// Its type.
    pub(crate) mark: u64,
    /// Bytes of a value, or of an element.
    pub(crate) size: u64,
    /// How many elements.
    pub(crate) length: u64,
}

/// What is said about processes that use objects of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::services) enum GuestCall {
    /// To the own node's host: the calling process is going to use objects of that node.
    Goes { incarnation: u32, to: u32 },
    /// To the own node's host, and from there to all nodes where it went: a process has ended.
    Ended { process: u16, incarnation: u32 },
}
