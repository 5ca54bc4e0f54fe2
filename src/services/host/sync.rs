//! Locks, barriers, values and their like of this node, for processes of other nodes.
//!
//! What can be done at once is done on the thread that brought the call; what must wait does so on a thread of its own, as
//! long as the guest lives for whom it waits.

use std::sync::Arc;

use super::super::far::sync_words::{SyncFacts, SyncHead, SyncOp};
use super::super::far::words::Why;
use super::super::threads::Threads;
use super::guests::{Guest, Guests};
use super::latches::{self, Refused};
use super::unclear;
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::latch::{Refusal, Row, Who, unless_gone};
use crate::mesh::{Answer, Request};
use crate::mm::{Kind, MemError, Object};
use crate::prim::AtomicU64;
use crate::time::Deadline;

/// One thing to do in the name of a guest.
pub(super) struct Call {
    guest: Arc<Guest>,
    object: Object,
    /// The lock of one who waits at a condition variable.
    lock: Option<Object>,
    home: NodeNumber,
    pub(super) kind: Kind,
    pub(super) op: SyncOp,
    pub(super) word: [u64; 2],
    pub(super) bytes: Vec<u8>,
    head: SyncHead,
}

impl Call {
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.object.words()
    }

    pub(super) fn lock_words(&self) -> Option<&[AtomicU64]> {
        self.lock.as_ref().map(Object::words)
    }

    pub(super) fn who(&self) -> Who {
        self.guest.who(self.head.thread)
    }

    /// A process as people know it.
    pub(super) fn process(&self, id: ProcId) -> String {
        let entry = self.object.memory().processes().into_iter().find(|entry| entry.id == id);
        let Some(entry) = entry else { return "a process that has ended".into() };
        let (node, pid) = entry.guest().unwrap_or((self.home, entry.pid));
        format!("process {pid} of node {node}")
    }

    /// Whether it cannot be tried without waiting.
    fn only_waits(&self) -> bool {
        matches!((self.op, self.kind), (SyncOp::Arrive, _) | (SyncOp::Wait, Kind::Condvar))
    }

    fn answer(&self, outcome: Result<Vec<u8>, Refused>, answer: Answer) {
        match outcome {
            Ok(bytes) => answer.send(0, &bytes),
            Err(Refused::Unclear(what)) => unclear(answer, what),
            Err(Refused::No(refusal)) => {
                // A call that does not wait may be made often: no look around for its text.
                let state =
                    if self.head.deadline() == Deadline::Now { String::new() } else { latches::state(self, refusal) };
                answer.send(why(refusal) as u16, state.as_bytes());
            }
        }
    }
}

fn why(refusal: Refusal) -> Why {
    match refusal {
        Refusal::TimedOut => Why::TimedOut,
        Refusal::Mine => Why::Mine,
        Refusal::Broken => Why::Broken,
        Refusal::TooMany => Why::TooMany,
    }
}

/// Takes a call.
pub(super) fn serve(guests: &Guests, home: NodeNumber, threads: &Threads, request: &Request, answer: Answer) {
    let Some((head, bytes)) = request.body.split_first_chunk::<{ size_of::<SyncHead>() }>() else {
        return unclear(answer, "a call for a lock or its like is shorter than its head");
    };
    let head: SyncHead = bytemuck::pod_read_unaligned(head);
    let (Some(op), Some(kind), Some(id)) = (SyncOp::from_word(head.op), head.kind(), head.id()) else {
        return unclear(answer, "a call for a lock or its like that makes no sense");
    };
    match op {
        SyncOp::Hold => hold(guests, request, &head, (id, kind), answer),
        SyncOp::LetGo => guests.let_go(request, &head, id),
        _ => {
            let Some((guest, object)) = guests.find(request, &head, id) else {
                return answer.send(Why::Gone as u16, b"the caller does not have it open, or counts as ended");
            };
            let lock = ObjectId::from_word(head.words[0]).filter(|_| op == SyncOp::Wait && kind == Kind::Condvar);
            let lock = lock.and_then(|id| guest.object(id));
            let (word, bytes) = (head.words, bytes.to_vec());
            carry_out(threads, Call { guest, object, lock, home, kind, op, word, bytes, head }, answer);
        }
    }
}

fn carry_out(threads: &Threads, call: Call, answer: Answer) {
    let deadline = call.head.deadline();
    if !call.only_waits() {
        match latches::perform(&call, Deadline::Now) {
            Err(Refused::No(Refusal::TimedOut)) if deadline != Deadline::Now => {}
            done => return call.answer(done, answer),
        }
    }
    threads.run(move || {
        let gone = call.guest.gone.clone();
        let done = unless_gone(&gone, || latches::perform(&call, deadline));
        call.answer(done, answer);
    });
}

fn hold(guests: &Guests, request: &Request, head: &SyncHead, (id, kind): (ObjectId, Kind), answer: Answer) {
    match guests.hold(request, head, id, kind) {
        Ok(object) => {
            let row = Row::in_words(object.words());
            let facts = match kind {
                Kind::Value => SyncFacts { mark: row.mark(), size: row.size() as u64, length: 0 },
                Kind::Array => SyncFacts { mark: row.mark(), size: row.size() as u64, length: row.length() as u64 },
                _ => SyncFacts::default(),
            };
            answer.send(0, bytemuck::bytes_of(&facts));
        }
        Err(error) => refuse(answer, &error),
    }
}

fn refuse(answer: Answer, error: &MemError) {
    answer.send(Why::of_memory(error) as u16, error.to_string().as_bytes());
}
