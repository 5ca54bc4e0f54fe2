//! A lock, a barrier, a value and their like whose home is another node.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::sync_words::{GuestCall, SyncFacts, SyncHead, SyncOp};
use super::words::{GUEST, SYNC, Why};
use super::{FarError, well};
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::latch::Who;
use crate::mesh::{Body, Mesh};
use crate::mm::{Kind, Memory};
use crate::sys;
use crate::time::Deadline;
use crate::wire;

/// Where this process has said that it comes, so that the news of its end gets there.
#[derive(Default)]
pub(crate) struct Travels(Mutex<BTreeSet<NodeNumber>>);

impl Travels {
    /// Says to the own node's host that this process is going to use objects of that node.
    pub(super) fn go(&self, mesh: &Mesh, incarnation: u32, to: NodeNumber) -> Result<(), FarError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&to) {
            well(mesh.call(mesh.me(), GUEST, &encode(&GuestCall::Goes { incarnation, to }))?)?;
            known.insert(to);
        }
        Ok(())
    }
}

/// Says to the host of this node that a process of the node has ended, so that other nodes hear of it.
pub(crate) fn tell_end(mesh: &Mesh, process: ProcId, incarnation: u32) -> Result<(), FarError> {
    Ok(mesh.tell(mesh.me(), GUEST, &encode(&GuestCall::Ended { process: process.0, incarnation }))?)
}

pub(in crate::services) fn encode(call: &GuestCall) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Numbers into memory: nothing in it can fail.
    let _ = wire::encode(call, &mut bytes);
    bytes
}

/// This process's hold on an object of another node: it lives at least as long as this.
pub(crate) struct FarObject {
    mesh: Mesh,
    home: NodeNumber,
    id: ObjectId,
    facts: SyncFacts,
    /// Of every call.
    head: SyncHead,
}

impl FarObject {
    /// Opens an object by what its home calls it, in the name of the process that this memory is of.
    pub(crate) fn open(
        mesh: &Mesh,
        memory: &Memory,
        travels: &Travels,
        (home, id, kind): (NodeNumber, ObjectId, Kind),
    ) -> Result<FarObject, FarError> {
        let incarnation = memory.incarnation(memory.me());
        travels.go(mesh, incarnation, home)?;
        let head = SyncHead {
            object: id.to_word(),
            patience: 0,
            words: [0; 2],
            op: SyncOp::Hold as u16,
            kind: kind as u16,
            thread: 0,
            incarnation,
            pid: sys::process::id(),
        };
        let reply = well(mesh.call(home, SYNC, bytemuck::bytes_of(&head))?)?;
        let facts = reply.body.get(..size_of::<SyncFacts>()).map(bytemuck::pod_read_unaligned);
        let unclear = FarError::Refused { why: Why::Unclear, text: format!("node {home} says nothing of its object") };
        Ok(FarObject { mesh: mesh.clone(), home, id, facts: facts.ok_or(unclear)?, head })
    }

    pub(crate) fn home(&self) -> NodeNumber {
        self.home
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    pub(crate) fn facts(&self) -> SyncFacts {
        self.facts
    }

    /// Does it, without waiting.
    pub(crate) fn tell(&self, op: SyncOp, word: u64) -> Result<(), FarError> {
        self.ask(op, [word, 0], Deadline::Now, &[]).map(drop)
    }

    /// Does it, waiting at its home if need be.
    pub(crate) fn ask(&self, op: SyncOp, words: [u64; 2], deadline: Deadline, bytes: &[u8]) -> Result<Body, FarError> {
        let thread = Who::here(ProcId::NONE).thread;
        let mut head = SyncHead { op: op as u16, words, thread, ..self.head };
        head.wait(deadline);
        let reply = match bytes {
            [] => self.mesh.call(self.home, SYNC, bytemuck::bytes_of(&head)),
            bytes => self.mesh.call(self.home, SYNC, &[bytemuck::bytes_of(&head), bytes].concat()),
        };
        Ok(well(reply?)?.body)
    }

    /// What people want to know about it; all 0 if its home is lost.
    pub(crate) fn figures(&self) -> [u64; 4] {
        let body = self.ask(SyncOp::Figures, [0; 2], Deadline::Now, &[]);
        let read = |body: Body| Some(bytemuck::pod_read_unaligned(body.get(..size_of::<[u64; 4]>())?));
        body.ok().and_then(read).unwrap_or_default()
    }
}

impl Drop for FarObject {
    fn drop(&mut self) {
        let head = SyncHead { op: SyncOp::LetGo as u16, ..self.head };
        // A home that is lost holds nothing.
        let _ = self.mesh.tell(self.home, SYNC, bytemuck::bytes_of(&head));
    }
}
