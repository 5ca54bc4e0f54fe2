//! The processes of a group on another node, as the group's owner sees them. The other half is `site.rs`.
//!
//! What is to be told comes as the answer to a standing question, into a channel of this process. When the node is lost,
//! the mesh answers in its place.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::exit::{How, Signal};
use super::inner::Inner;
use super::ranks::Crew;
use super::site::{self, FarStart, Founded, Founding, Refusal, StreamId, Told, op};
use super::template::Wish;
use crate::channel::{Channel, ChannelError};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeNumber;
use crate::mesh::{Mesh, MeshError, ReplyHead};
use crate::pmi::Speaks;
use crate::services::FarSession;
use crate::task::{self, thunk};
use crate::time::Deadline;
use crate::wire;

/// How often it is looked whether this node is cut off from all others.
const LOOK: Duration = Duration::from_secs(1);
/// Answers to standing questions of this size need no block.
const INLINE: usize = 112;

/// A group's processes on one node that is not this.
pub(super) struct FarSite {
    session: FarSession,
    /// What its processes are given, to be ranks of an MPI program, by wish.
    pub(super) speaks: Vec<Speaks>,
    /// The node's name, unlike that of any other.
    pub(super) host: String,
}

impl FarSite {
    /// Checks there what these processes need. Starts nothing.
    fn found(mesh: Mesh, node: NodeNumber, inbox: &Channel, founding: &Founding) -> Result<FarSite> {
        let entry = task::name_in_full(thunk::one(site::open))?;
        let mut argument = Vec::new();
        wire::encode(founding, &mut argument)?;
        let (session, answer) = FarSession::open(mesh, node, inbox.id(), entry, argument)?;
        match wire::decode::<std::result::Result<Founded, Refusal>>(&answer)? {
            Ok((host, speaks)) => Ok(FarSite { session, speaks, host }),
            Err((kind, text)) => Err(Error::new(kind, text)),
        }
    }

    pub(super) fn node(&self) -> NodeNumber {
        self.session.node()
    }

    /// Starts these, all or none.
    pub(super) fn start(&self, starts: &[FarStart]) -> Result<Vec<u32>> {
        let mut message = Vec::new();
        wire::encode(&starts.to_vec(), &mut message)?;
        let answer = self.session.call(op::LAUNCH, &message)?;
        wire::decode::<std::result::Result<Vec<u32>, Refusal>>(&answer)?.map_err(|(kind, text)| Error::new(kind, text))
    }

    /// From now on its ranks are served there.
    pub(super) fn enlist(&self, crew: &Crew) -> Result<()> {
        let mut message = Vec::new();
        wire::encode(crew, &mut message)?;
        let answer = self.session.call(op::RANKS, &message)?;
        wire::decode::<std::result::Result<(), Refusal>>(&answer)?.map_err(|(kind, text)| Error::new(kind, text))
    }

    pub(super) fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        let mut message = Vec::new();
        wire::encode(&(member as u32, signal.as_raw()), &mut message)?;
        // Processes of a lost node are ended as lost by whoever hears of it: to signal them is no error.
        let told = self.session.tell(op::SIGNAL, &message);
        told.unwrap_or_else(|error| tracing::debug!(member, %error, "a signal does not get to another node"));
        Ok(())
    }

    pub(super) fn clear(&self) {
        // One that is lost has nothing left.
        let _ = self.session.tell(op::CLEAR, &[]);
    }

    /// Waits for what is there to read; nothing at the end.
    pub(super) fn read(&self, stream: StreamId) -> Result<Vec<u8>> {
        let mut message = Vec::new();
        wire::encode(&stream, &mut message)?;
        Ok(self.session.call(op::READ, &message)?)
    }

    /// Waits until the pipe has taken it all.
    pub(super) fn write(&self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        let mut message = vec![0];
        wire::encode(&stream, &mut message)?;
        message[0] = (message.len() - 1) as u8;
        message.extend_from_slice(bytes);
        self.session.call(op::WRITE, &message)?;
        Ok(())
    }

    /// Nobody here reads or writes it any more.
    pub(super) fn shut(&self, stream: StreamId) {
        let mut message = Vec::new();
        if wire::encode(&stream, &mut message).is_ok() {
            let _ = self.session.tell(op::SHUT, &message); // as in `clear`
        }
    }

    fn stand(&self, inbox: &Channel, at: usize) {
        if let Err(error) = self.session.ask(op::STAND, &[], at as u64) {
            // The thread that waits for the answer finds it out.
            tracing::warn!(node = self.node(), channel = ?inbox.id(), %error, "a site of a group is lost");
        }
    }
}

impl Drop for FarSite {
    fn drop(&mut self) {
        let _ = self.session.tell(op::END, &[]); // as in `clear`
    }
}

/// All sites of a group, and where their answers come.
#[derive(Default)]
pub(super) struct Sites {
    list: Vec<Arc<FarSite>>,
    inbox: Option<Channel>,
}

impl Sites {
    /// Founds a site on each of these nodes, all at the same time; an error of any is an error of all.
    pub(super) fn found(group: &Arc<Inner>, wanted: Vec<(NodeNumber, Vec<Option<Wish>>)>) -> Result<Sites> {
        if wanted.is_empty() {
            return Ok(Sites::default());
        }
        let alone = || Error::new(ErrorKind::NotFound, "there is no other node in this job");
        let mesh = group.core.mesh()?.ok_or_else(alone)?;
        let inbox = Channel::create(group.core.memory(), 2 * wanted.len() + 2, INLINE)?;
        let founded: Vec<Result<FarSite>> = thread::scope(|scope| {
            let found = |(node, wishes)| {
                let founding = Founding { wishes, name: group.name.clone(), pmi: group.pmi };
                let inbox = &inbox;
                scope.spawn(move || FarSite::found(mesh.clone(), node, inbox, &founding))
            };
            let threads: Vec<_> = wanted.into_iter().map(found).collect();
            let panicked = |_| Err(Error::new(ErrorKind::Io, "a thread that founds a group's site panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        let list = founded.into_iter().map(|one| one.map(Arc::new)).collect::<Result<Vec<_>>>()?;
        let sites = Sites { list: list.clone(), inbox: Some(inbox.clone()) };
        let group = Arc::downgrade(group);
        let list: Vec<_> = list.iter().map(Arc::downgrade).collect();
        let listen = thread::Builder::new().name("dragon-far-group".into()).spawn(move || {
            listen(&group, &list, &inbox);
        });
        listen.map_err(|error| Error::with_source(ErrorKind::ResourceLimit, "no thread for far processes", error))?;
        Ok(sites)
    }

    pub(super) fn on(&self, node: NodeNumber) -> Option<Arc<FarSite>> {
        self.list.iter().find(|site| site.node() == node).cloned()
    }

    pub(super) fn clear(&self) {
        self.list.iter().for_each(|site| site.clear());
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        // Nobody listens any more.
        self.inbox.iter().for_each(|inbox| inbox.close());
    }
}

/// Hears of ends on other nodes, until the group is gone or started anew.
fn listen(group: &Weak<Inner>, sites: &[Weak<FarSite>], inbox: &Channel) {
    let stand = |at: usize| sites[at].upgrade().iter().for_each(|site| site.stand(inbox, at));
    (0..sites.len()).for_each(stand);
    loop {
        let message = match inbox.recv(Deadline::after(LOOK)) {
            Ok(message) => message,
            Err(ChannelError::TimedOut | ChannelError::Empty) => {
                let cut = sites.iter().filter_map(Weak::upgrade).find(|site| site.session.is_cut());
                match (cut, group.upgrade()) {
                    (None, Some(_)) => continue,
                    (Some(_), Some(group)) => {
                        let lost = sites.iter().filter_map(Weak::upgrade);
                        lost.for_each(|site| group.lost(site.node(), &MeshError::NoHub.to_string()));
                        return;
                    }
                    (_, None) => return,
                }
            }
            Err(_) => return,
        };
        let Some((head, rest)) = message.split_at_checked(size_of::<ReplyHead>()) else { continue };
        let head: ReplyHead = bytemuck::pod_read_unaligned(head);
        let at = head.call as usize;
        let (Some(site), Some(group)) = (sites.get(at).and_then(Weak::upgrade), group.upgrade()) else { return };
        if head.failed != 0 || head.status != 0 {
            let why = wire::decode::<MeshError>(rest).map_or_else(|_| "it has ended".into(), |error| error.to_string());
            group.lost(site.node(), &why);
            continue;
        }
        let told: Told = wire::decode(rest).unwrap_or_default();
        told.endings.iter().for_each(|ending| group.ranks_end(ending));
        for (member, attempt, pid, how) in told.ends {
            let how: How = how;
            group.ended(member as usize, attempt, pid, how);
        }
        drop(group);
        stand(at);
    }
}
