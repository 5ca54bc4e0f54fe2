//! The part of a dictionary that is in the memory of another node, or that this node's host looks after.
//!
//! What is said to it are words of the floor of dictionaries: this floor carries them, and sees to it that the part lives as
//! long as somebody has it open. The other half is `services/host/dicts.rs`.

use bytemuck::{Pod, Zeroable};

use super::words::{DICT, Why};
use super::{FarError, Travels, well, well_or_own};
use crate::id::{NodeNumber, ObjectId};
use crate::mesh::{Mesh, MeshError, Reply};
use crate::mm::Memory;
use crate::wire;

/// Statuses of a reply from this on are words of the floor of dictionaries.
pub(crate) const OWN_WORDS: u16 = 1000;

/// Bytes of a call's head that are left for the floor above.
pub(crate) const OWN_HEAD_MOST: usize = crate::mesh::HEAD_MOST - size_of::<DictHead>();

/// Head of a call for a part of a dictionary.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::services) struct DictHead {
    /// What its node calls the part; 0: there is none yet.
    pub(in crate::services) dict: u64,
    /// Which of all processes that ever had the caller's place it is.
    pub(in crate::services) incarnation: u32,
    pub(in crate::services) op: u32,
}

/// Runs a function that makes or opens a part; the caller has it open from then on. A [`DictOpening`] follows.
pub(in crate::services) const OPEN: u32 = 1;
/// The caller lets go of it.
pub(in crate::services) const LET_GO: u32 = 2;
/// What follows is for the part.
pub(in crate::services) const CALL: u32 = 3;

/// Is answered at once.
pub(in crate::services) const PING: u32 = 4;
/// Whether the node that stands in place of the part is lost to the node that is asked.
pub(in crate::services) const IS_LOST: u32 = 5;

/// To which of these nodes a node is lost. It takes as long as the transport needs to give one up.
pub(crate) fn lost_to(mesh: &Mesh, voters: &[NodeNumber], node: NodeNumber) -> Vec<NodeNumber> {
    let ask = |voter: NodeNumber| {
        let head = DictHead { dict: u64::from(node), incarnation: 0, op: IS_LOST };
        let reply = mesh.call_with(voter, DICT, bytemuck::bytes_of(&head), 0, |_| ());
        (reply.ok()?.body.first() == Some(&1)).then_some(voter)
    };
    std::thread::scope(|scope| {
        let others = voters.iter().copied().filter(|voter| *voter != node);
        let threads: Vec<_> = others.map(|voter| scope.spawn(move || ask(voter))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

/// Whether a node is lost to this one.
pub(in crate::services) fn is_lost(mesh: &Mesh, node: NodeNumber) -> bool {
    let head = DictHead { dict: 0, incarnation: 0, op: PING };
    let reply = mesh.call_with(node, DICT, bytemuck::bytes_of(&head), 0, |_| ());
    matches!(reply, Err(MeshError::Lost { .. }))
}

/// Names the function that makes or opens a part.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::services) struct DictOpening {
    pub(in crate::services) entry: Vec<u8>,
    pub(in crate::services) argument: Vec<u8>,
}

/// This process's hold on a part of a dictionary: it lives at least as long as this.
pub(crate) struct FarDict {
    mesh: Mesh,
    home: NodeNumber,
    part: ObjectId,
    incarnation: u32,
    held: bool,
}

impl FarDict {
    /// A part to be called that others hold.
    pub(crate) fn unheld(mesh: &Mesh, home: NodeNumber, part: ObjectId) -> FarDict {
        FarDict { mesh: mesh.clone(), home, part, incarnation: 0, held: false }
    }

    /// Has the node run a function of that name with an encoded argument, which makes or opens a part, or refuses. With it,
    /// what the function returned.
    pub(crate) fn open(
        mesh: &Mesh,
        memory: &Memory,
        travels: &Travels,
        home: NodeNumber,
        entry: Vec<u8>,
        argument: Vec<u8>,
    ) -> Result<(Option<FarDict>, Vec<u8>), FarError> {
        let incarnation = memory.incarnation(memory.me());
        travels.go(mesh, incarnation, home)?;
        let head = DictHead { dict: 0, incarnation, op: OPEN };
        let mut body = Vec::new();
        let unclear = |text: String| FarError::Refused { why: Why::Unclear, text };
        wire::encode(&DictOpening { entry, argument }, &mut body).map_err(|error| unclear(error.to_string()))?;
        let fill = |space: &mut [u8]| space.copy_from_slice(&body);
        let reply = well(mesh.call_with(home, DICT, bytemuck::bytes_of(&head), body.len(), fill)?)?;
        let (word, said) = reply
            .body
            .split_first_chunk()
            .ok_or_else(|| unclear(format!("node {home} says nothing of its part of a dictionary")))?;
        let part = ObjectId::from_word(u64::from_le_bytes(*word));
        let opened = part.map(|part| FarDict { mesh: mesh.clone(), home, part, incarnation, held: true });
        Ok((opened, said.to_vec()))
    }

    /// What its node calls it.
    pub(crate) fn part(&self) -> ObjectId {
        self.part
    }

    fn head(&self, op: u32) -> DictHead {
        DictHead { dict: self.part.to_word(), incarnation: self.incarnation, op }
    }

    /// Calls it with a head of at most [`OWN_HEAD_MOST`] bytes and a body of `len` bytes that `fill` writes to where they are sent
    /// from, and waits for the answer. A refusal of this floor is an error; any other is the caller's to read.
    pub(crate) fn call(&self, own: &[u8], len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Reply, FarError> {
        let head = self.head(CALL);
        let mut space = [0; crate::mesh::HEAD_MOST];
        let (front, rest) = space.split_at_mut(size_of::<DictHead>());
        front.copy_from_slice(bytemuck::bytes_of(&head));
        rest[..own.len()].copy_from_slice(own);
        let whole = size_of::<DictHead>() + own.len();
        let reply = self.mesh.call_with(self.home, DICT, &space[..whole], len, fill)?;
        well_or_own(reply)
    }

    /// Calls it without waiting: the answer comes into a channel of this process, with this tag. `own` is the head of the call.
    pub(crate) fn ask(&self, own: &[u8], body: &[u8], reply: ObjectId, tag: u64) -> Result<(), MeshError> {
        let front = [bytemuck::bytes_of(&self.head(CALL)), own].concat();
        self.mesh.ask(self.home, DICT, [&front, body], reply, tag)
    }

    /// Says something that needs no answer.
    pub(crate) fn tell(&self, own: &[u8]) -> Result<(), MeshError> {
        self.mesh.tell(self.home, DICT, &[bytemuck::bytes_of(&self.head(CALL)), own].concat())
    }

    /// The hub of this node is gone: nothing comes or goes any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.mesh.is_cut()
    }
}

impl Drop for FarDict {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        // A home that is lost holds nothing.
        let _ = self.mesh.tell(self.home, DICT, bytemuck::bytes_of(&self.head(LET_GO)));
    }
}
