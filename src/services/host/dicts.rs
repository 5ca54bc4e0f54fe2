//! Parts of dictionaries in this node's memory, for processes of other nodes, and for those of this one that want the
//! host to do something for them.
//!
//! What a part is, and what calls of it mean, the floor of dictionaries knows: a caller names a function of the program that
//! makes or opens the part and seats whoever answers for it ([`seat`]). Here it is known who has which part open: it is let
//! go of when the last of them has, has ended, or was lost with its node.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::super::far::dict::{CALL, DictHead, DictOpening, IS_LOST, LET_GO, OPEN, PING, is_lost};
use super::super::far::words::Why;
use super::super::threads::Threads;
use super::{Inner, lock, unclear};
use crate::id::{NodeNumber, ObjectId, ProcId};
use crate::mesh::{Answer, Body, Request};
use crate::task::{self, Scope};
use crate::wire;

const HEAD: usize = size_of::<DictHead>();

/// A call for a part, in words of the floor above.
pub(crate) struct DictCall {
    /// The node it comes from.
    pub(crate) from: NodeNumber,
    /// The process there.
    pub(crate) process: ProcId,
    /// Its head; empty, if that is at the front of the body.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
}

/// Who answers for a part.
pub(crate) trait DictHome: Send + Sync {
    /// Takes a call. Must not wait: what may gets a thread.
    fn call(self: Arc<Self>, call: DictCall, answer: Answer, threads: &Arc<Threads>);

    /// A process has let go of it or ended: `None`, all of a node that is lost.
    fn left(self: Arc<Self>, node: NodeNumber, process: Option<ProcId>, threads: &Arc<Threads>);
}

/// Who has a part open: node, process, and which of all that had its place.
type Holder = (NodeNumber, ProcId, u32);

struct Seated {
    home: Arc<dyn DictHome>,
    holders: HashMap<Holder, usize>,
}

/// What an opening function leaves: a part, and who answers for it.
type Stage = Option<(ObjectId, Arc<dyn DictHome>)>;

thread_local! {
    static STAGE: RefCell<Stage> = const { RefCell::new(None) };
}

/// Who answers for a part from now on, if nobody does yet: inside the function that makes or opens it.
pub(crate) fn seat(part: ObjectId, home: Arc<dyn DictHome>) {
    STAGE.set(Some((part, home)));
}

/// The parts of dictionaries that anybody has open by way of this host.
#[derive(Default)]
pub(super) struct Dicts(Mutex<HashMap<ObjectId, Seated>>);

impl Dicts {
    pub(super) fn serve(&self, host: &Arc<Inner>, request: Request, answer: Answer) {
        let Request { from, process, head, body, .. } = request;
        let apart = !head.is_empty();
        let read = if apart { head.get(..HEAD) } else { body.get(..HEAD) };
        let Some(known) = read.map(bytemuck::pod_read_unaligned::<DictHead>) else {
            return unclear(answer, "a call for a dictionary that is shorter than its head");
        };
        let (own, body) = if apart { (head[HEAD..].to_vec(), body) } else { (Vec::new(), body.skip(HEAD)) };
        let holder = (from, process, known.incarnation);
        match (known.op, ObjectId::from_word(known.dict)) {
            (CALL, Some(id)) => {
                let home = lock(&self.0).get(&id).map(|seated| seated.home.clone());
                match home {
                    Some(home) => home.call(DictCall { from, process, head: own, body }, answer, &host.threads),
                    None => answer.send(Why::Gone as u16, b"that part of the dictionary is not there any more"),
                }
            }
            (PING, _) => answer.send(0, &[]),
            (IS_LOST, _) => {
                let mesh = host.mesh();
                host.threads.run(move || answer.send(0, &[u8::from(is_lost(&mesh, known.dict as NodeNumber))]));
            }
            (OPEN, _) => {
                let asks = host.clone();
                host.threads.run(move || asks.dicts.open(&asks, holder, &body, answer));
            }
            (LET_GO, Some(id)) => self.let_go(host, holder, id),
            _ => unclear(answer, "a call for a dictionary that makes no sense"),
        }
    }

    fn open(&self, host: &Arc<Inner>, holder: Holder, opening: &[u8], answer: Answer) {
        mark!("far.open.heard");
        let (part, home, said) = match make(opening) {
            Ok((Some((part, home)), said)) => (part, home, said),
            Ok((None, said)) => return answer.send(0, &[&0_u64.to_le_bytes()[..], &said].concat()),
            Err(text) => return answer.send(Why::Other as u16, text.as_bytes()),
        };
        mark!("far.open.made");
        let mut homes = lock(&self.0);
        // Whoever ends meanwhile is noted there first, and looks here afterwards.
        if host.guests.is_past(holder.0, holder.1, holder.2) {
            return answer.send(Why::Gone as u16, b"the caller counts as ended");
        }
        let seated = homes.entry(part).or_insert_with(|| Seated { home, holders: HashMap::new() });
        *seated.holders.entry(holder).or_default() += 1;
        drop(homes);
        mark!("far.open.seated");
        answer.send(0, &[&part.to_word().to_le_bytes()[..], &said].concat());
    }

    fn let_go(&self, host: &Arc<Inner>, holder: Holder, id: ObjectId) {
        let mut homes = lock(&self.0);
        let Some(seated) = homes.get_mut(&id) else { return };
        let Some(times) = seated.holders.get_mut(&holder) else { return };
        *times -= 1;
        if *times > 0 {
            return;
        }
        seated.holders.remove(&holder);
        let home = seated.home.clone();
        let last = seated.holders.is_empty().then(|| homes.remove(&id));
        drop(homes);
        drop(last);
        home.left(holder.0, Some(holder.1), &host.threads);
    }

    /// A process has ended.
    pub(super) fn ended(&self, host: &Arc<Inner>, node: NodeNumber, process: ProcId, incarnation: u32) {
        self.forget(host, (node, Some(process)), |holder| {
            (holder.0, holder.1) == (node, process) && holder.2 <= incarnation
        });
    }

    /// A node is lost. Parts that nobody of it had open hear of it too.
    pub(super) fn lost(&self, host: &Arc<Inner>, node: NodeNumber) {
        self.forget(host, (node, None), |holder| holder.0 == node);
    }

    fn forget(&self, host: &Arc<Inner>, (node, process): (NodeNumber, Option<ProcId>), gone: impl Fn(&Holder) -> bool) {
        let mut homes = lock(&self.0);
        let (mut tell, mut last) = (Vec::new(), Vec::new());
        for (id, seated) in homes.iter_mut() {
            let before = seated.holders.len();
            seated.holders.retain(|holder, _| !gone(holder));
            if seated.holders.is_empty() {
                last.push(*id);
            } else if process.is_none() || seated.holders.len() < before {
                tell.push(seated.home.clone());
            }
        }
        let last: Vec<_> = last.iter().filter_map(|id| homes.remove(id)).collect();
        drop(homes);
        // To let go of the last hold may take a while: all entries are taken out.
        host.threads.run(move || drop(last));
        tell.into_iter().for_each(|home| home.left(node, process, &host.threads));
    }

    /// The node ends.
    pub(super) fn close(&self) {
        let homes = std::mem::take(&mut *lock(&self.0));
        drop(homes);
    }
}

/// The part, unless the function refused; and what it said.
type Made = (Stage, Vec<u8>);

/// Runs an opening function.
fn make(opening: &[u8]) -> Result<Made, String> {
    let opening: DictOpening = wire::decode(opening).map_err(|error| error.to_string())?;
    let entry = task::find_in_full(&opening.entry)?;
    STAGE.set(None);
    let mut said = Vec::new();
    let called = entry.call(&mut Scope::new(&opening.argument, &mut said));
    let seated = STAGE.take();
    called.map_err(|failure| failure.to_string())?;
    // What the function returned says why there is nobody.
    Ok((seated, said))
}
