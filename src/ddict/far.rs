//! Calls to the parts of a dictionary that are on other nodes: what they consist of, and the callers' half.
//!
//! A call is one message to the part's node and one back. The other half, which answers, is `home.rs`.

use bytemuck::{Pod, Zeroable};

use super::DDict;
use super::encode::{decode, with_key, with_value};
use super::place::{Map, Spot};
use crate::channel::{Channel, ChannelError, Message};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::mesh::{MeshError, Reply, read_reply};
use crate::prim::Ordering;
use crate::services::{FarDict, FarError, OWN_HEAD_MOST, OWN_WORDS, deadline_of, patience_of};
use crate::table::{Expect, Key, Name, Wrote};
use crate::time::Deadline;
use crate::wait::Patience;
use crate::wire;

/// What can be asked of a part.
pub(super) mod op {
    /// Writes the directory, once. It follows.
    pub(in crate::ddict) const SETTLE: u16 = 1;
    /// The value of a key.
    pub(in crate::ddict) const GET: u16 = 2;
    pub(in crate::ddict) const PUT: u16 = 3;
    pub(in crate::ddict) const REMOVE: u16 = 4;
    pub(in crate::ddict) const CONTAINS: u16 = 5;
    /// As `GET`, as soon as the key is there.
    pub(in crate::ddict) const AWAIT: u16 = 6;
    /// Answers as soon as a key has the value that follows.
    pub(in crate::ddict) const AWAIT_EQUAL: u16 = 7;
    /// Puts of several keys: see `far_batch.rs`.
    pub(in crate::ddict) const BATCH: u16 = 8;
    /// Runs a function on the part's node: see `far_whole.rs`.
    pub(in crate::ddict) const RUN: u16 = 9;
    /// A handle that writes goes to a checkpoint.
    pub(in crate::ddict) const SIT: u16 = 10;
    /// Gives the part a name: in place of a key.
    pub(in crate::ddict) const NAME: u16 = 12;
    /// What the acting copy of some keys does: see `replica.rs`. The head's name is the set of lost places.
    pub(in crate::ddict) const COPY: u16 = 13;
    /// Which places are lost, before another acts for them.
    pub(in crate::ddict) const ADOPT: u16 = 14;
    /// The copy of a shard has all keys. Who writes, where others wait for writers, follows.
    pub(in crate::ddict) const FULL: u16 = 15;
    /// With replicas, how all places go on to a checkpoint: see `home_steps.rs`. Answers when nobody needs to be waited for.
    pub(in crate::ddict) const WAIT: u16 = 16;
    /// From now on it is the newest. What is retired by it is stored.
    pub(in crate::ddict) const TURN: u16 = 17;
    /// What is retired by it is taken out.
    pub(in crate::ddict) const SWEEP: u16 = 18;
    /// With replicas: answers when all writes are over that had begun, if others still agree with the place.
    pub(in crate::ddict) const QUIET: u16 = 19;
    /// With replicas: a step of a restore, which the head's `at` names. See `home_restore.rs`.
    pub(in crate::ddict) const RESTORE: u16 = 20;
    /// With replicas: what another place knows of a handle that wrote is over.
    pub(in crate::ddict) const GONE: u16 = 21;
    /// A handle that wrote is gone.
    pub(in crate::ddict) const RISE: u16 = 11;
}

/// Bits of a head's flags.
pub(super) mod flag {
    /// The value survives checkpoints by itself.
    pub(in crate::ddict) const KEPT: u16 = 1;
    /// The value holds handles.
    pub(in crate::ddict) const CARGO: u16 = 2;
    /// The key stands behind the head; else at the front of the body.
    pub(in crate::ddict) const KEY_IN_HEAD: u16 = 4;
    /// Only if the key is not there.
    pub(in crate::ddict) const ABSENT: u16 = 8;
    /// Only if the key's value is of the entry that is named.
    pub(in crate::ddict) const SAME: u16 = 16;
    /// The name of the entry shall stand before the value.
    pub(in crate::ddict) const NAME: u16 = 32;
}

/// Statuses of a reply; 0 is well.
pub(super) mod status {
    use super::OWN_WORDS;

    /// The key is not there.
    pub(in crate::ddict) const MISSING: u16 = OWN_WORDS;
    /// It is not as expected.
    pub(in crate::ddict) const REFUSED: u16 = OWN_WORDS + 1;
    /// The kind of an error and its text follow.
    pub(in crate::ddict) const ERROR: u16 = OWN_WORDS + 2;
}

/// Head of a call for a part.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Head {
    pub(super) op: u16,
    pub(super) flags: u16,
    /// Which of the part's shards.
    pub(super) shard: u32,
    /// The caller's checkpoint.
    pub(super) at: u32,
    /// Bytes of the key.
    pub(super) key: u32,
    /// The entry that is expected.
    pub(super) name: u64,
    /// Nanoseconds to wait, as in all calls between nodes.
    pub(super) patience: u64,
    /// The handle that calls, where homes keep an account of writers.
    pub(super) writer: u64,
}

pub(super) const HEAD: usize = size_of::<Head>();
/// Longer keys stand at the front of the body.
const KEY_MOST: usize = OWN_HEAD_MOST - HEAD;

impl Head {
    pub(super) fn new(op: u16) -> Head {
        Head { op, ..Head::zeroed() }
    }

    pub(super) fn expecting(mut self, expect: Expect) -> Head {
        match expect {
            Expect::Any => {}
            Expect::Absent => self.flags |= flag::ABSENT,
            Expect::Same(name) => {
                self.flags |= flag::SAME;
                self.name = name.word();
            }
        }
        self
    }

    pub(super) fn expected(&self) -> Expect {
        match self.flags & (flag::ABSENT | flag::SAME) {
            0 => Expect::Any,
            flag::ABSENT => Expect::Absent,
            _ => Expect::Same(Name::from_word(self.name)),
        }
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn deadline(&self) -> Deadline {
        deadline_of(self.patience)
    }
}

/// What stands in a reply of status [`status::ERROR`].
pub(super) type SaidError = (ErrorKind, String);

/// Sends a call with a key and a value of `len` bytes that `fill` writes.
pub(super) fn send(
    home: &FarDict,
    mut head: Head,
    key: &[u8],
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> std::result::Result<Reply, FarError> {
    head.key = key.len() as u32;
    let mut space = [0; OWN_HEAD_MOST];
    if key.len() <= KEY_MOST {
        head.flags |= flag::KEY_IN_HEAD;
        space[..HEAD].copy_from_slice(bytemuck::bytes_of(&head));
        space[HEAD..HEAD + key.len()].copy_from_slice(key);
        return home.call(&space[..HEAD + key.len()], len, fill);
    }
    home.call(bytemuck::bytes_of(&head), key.len() + len, |space| {
        let (front, rest) = space.split_at_mut(key.len());
        front.copy_from_slice(key);
        fill(rest);
    })
}

impl Map {
    /// What a reply of a place means.
    pub(super) fn read(&self, place: usize, reply: std::result::Result<Reply, FarError>) -> Result<Reply> {
        match reply {
            Ok(reply) if reply.status == status::ERROR => {
                let (kind, text) = wire::decode::<SaidError>(&reply.body)?;
                Err(Error::new(kind, text))
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.unreachable(place, error)),
        }
    }

    #[cold]
    fn unreachable(&self, place: usize, error: FarError) -> Error {
        let node = self.node(place);
        let replicated = self.directory.shape.replicas > 0;
        match error {
            FarError::Mesh(lost @ MeshError::Lost { .. }) if replicated => {
                self.lose(place);
                let text = format!(
                    "{} may have done what it was asked or not when its node {node} was lost; the next call goes to a copy",
                    self.body.name()
                );
                Error::with_source(ErrorKind::NodeLost, text, lost)
            }
            FarError::Mesh(lost @ MeshError::Lost { .. }) => {
                let managers = self.directory.managers_of(place);
                let text = format!(
                    "managers {} to {} of {} are lost with their node {node}, and there are no replicas of them \
                     (`replicas` makes some); keys of others can be used",
                    managers.start,
                    managers.end - 1,
                    self.body.name()
                );
                Error::with_source(ErrorKind::ManagerLost, text, lost)
            }
            other => other.into(),
        }
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// Where a key is read, if not in the memory of this node.
    #[inline]
    pub(super) fn away(&self, key: &Key<'_>) -> Option<(&Map, Spot)> {
        let map = &*self.tie.as_ref()?.map;
        Some((map, map.away(self.manager, key, false)?))
    }

    /// Where a key is written, if not in the memory of this node.
    #[inline]
    pub(super) fn away_to_write(&self, key: &Key<'_>) -> Option<(&Map, Spot)> {
        let map = &*self.tie.as_ref()?.map;
        Some((map, map.away(self.manager, key, true)?))
    }

    fn head(&self, op: u16, spot: Spot) -> Head {
        let at = self.at.load(Ordering::Relaxed); // this handle's own
        Head { shard: spot.shard as u32, at, ..Head::new(op) }
    }

    /// Asks the copy that acts. One that reads goes on to the next when that is lost; one that writes cannot know
    /// whether it was done.
    fn ask(&self, to: (&Map, Spot), head: Head, key: &[u8]) -> Result<Reply> {
        self.ask_with(to, head, key, &[])
    }

    fn ask_with(&self, (map, mut spot): (&Map, Spot), mut head: Head, key: &[u8], value: &[u8]) -> Result<Reply> {
        loop {
            let fill = |space: &mut [u8]| space.copy_from_slice(value);
            let reply = send(map.home(spot.place)?, head, key, value.len(), fill);
            mark!("far.call.answered");
            let writes = head.op == op::REMOVE;
            if !writes && matches!(reply, Err(FarError::Mesh(MeshError::Lost { .. }))) {
                // Whether this thread notes the loss or another has: what counts is whether there is somebody else to ask.
                map.lose(spot.place);
                let next = map.acting(spot.manager);
                if next.place != spot.place {
                    spot = next;
                    head.shard = spot.shard as u32;
                    continue;
                }
            }
            return map.read(spot.place, reply);
        }
    }

    fn writing(&self, op: u16, spot: Spot, expect: Expect) -> Head {
        let writer = self.tie.as_ref().map_or(0, |tie| tie.writer());
        Head { writer, ..self.head(op, spot) }.expecting(expect)
    }

    #[cold]
    #[allow(clippy::too_many_arguments, reason = "where, what and how; each of its own type")]
    pub(super) fn far_put(
        &self,
        (map, spot): (&Map, Spot),
        key: &Key<'_>,
        len: usize,
        expect: Expect,
        kept: bool,
        cargo: bool,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Wrote> {
        let mut head = self.writing(op::PUT, spot, expect);
        head.flags |= if kept { flag::KEPT } else { 0 } | if cargo { flag::CARGO } else { 0 };
        let reply = map.read(spot.place, send(map.home(spot.place)?, head, key.bytes, len, fill))?;
        Ok(if reply.status == status::REFUSED { Wrote::Refused } else { Wrote::Over })
    }

    #[cold]
    pub(super) fn far_put_value(
        &self,
        to: (&Map, Spot),
        key: &Key<'_>,
        value: &V,
        expect: Expect,
        kept: bool,
    ) -> Result<Wrote> {
        match <C as Codec<V>>::length(value) {
            Some(len) => {
                let write = |space: &mut [u8]| <C as Codec<V>>::write(value, space);
                self.far_put(to, key, len, expect, kept, false, write)
            }
            None => with_value::<V, C, _>(value, |bytes, cargo| {
                let fill = |space: &mut [u8]| space.copy_from_slice(bytes);
                self.far_put(to, key, bytes.len(), expect, kept, !cargo.is_empty(), fill)
            }),
        }
    }

    /// The value of a key as soon as it is there, wherever that is.
    pub(super) fn await_value(&self, key: &K, deadline: Deadline) -> Result<V> {
        let far = with_key::<K, C, _>(key, |bytes| {
            let Some(to) = self.away(&self.body.table().key(bytes)) else { return Ok(None) };
            let mut value = None;
            self.far_await(to, bytes, deadline, |found| value = Some(decode::<V, C>(found)))?;
            value.transpose()
        })?;
        match far {
            Some(value) => Ok(value),
            None => self.wait(deadline, || self.try_get(key).transpose()),
        }
    }

    #[cold]
    pub(super) fn far_remove(&self, to: (&Map, Spot), key: &Key<'_>, expect: Expect) -> Result<Wrote> {
        let reply = self.ask(to, self.writing(op::REMOVE, to.1, expect), key.bytes)?;
        Ok(if reply.status == status::REFUSED { Wrote::Refused } else { Wrote::Over })
    }

    /// As `look`, of a key of another node. The name of the entry comes only if it is `named`.
    #[cold]
    pub(super) fn far_look(
        &self,
        to: (&Map, Spot),
        key: &Key<'_>,
        named: bool,
        take: impl FnOnce(&[u8]),
    ) -> Result<Option<Name>> {
        let mut head = self.head(op::GET, to.1);
        head.flags |= if named { flag::NAME } else { 0 };
        let reply = self.ask(to, head, key.bytes)?;
        if reply.status == status::MISSING {
            return Ok(None);
        }
        let short = || Error::new(ErrorKind::Io, "another node's answer is too short");
        match named {
            true => {
                let (name, value) = reply.body.split_first_chunk().ok_or_else(short)?;
                take(value);
                Ok(Some(Name::from_word(u64::from_le_bytes(*name))))
            }
            false => {
                take(&reply.body);
                Ok(Some(Name::from_word(u64::MAX)))
            }
        }
    }

    /// The bytes of a value of another node, where they landed.
    #[cold]
    pub(super) fn far_bytes(&self, to: (&Map, Spot), key: &Key<'_>) -> Result<Option<crate::mesh::Body>> {
        let reply = self.ask(to, self.head(op::GET, to.1), key.bytes)?;
        Ok((reply.status != status::MISSING).then_some(reply.body))
    }

    #[cold]
    pub(super) fn far_contains(&self, to: (&Map, Spot), key: &Key<'_>) -> Result<bool> {
        Ok(self.ask(to, self.head(op::CONTAINS, to.1), key.bytes)?.status != status::MISSING)
    }

    /// The value of a key of another node, as soon as it is there.
    #[cold]
    pub(super) fn far_await(
        &self,
        to: (&Map, Spot),
        key: &[u8],
        deadline: Deadline,
        take: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let head = Head { patience: patience_of(deadline), ..self.head(op::AWAIT, to.1) };
        take(&self.ask(to, head, key)?.body);
        Ok(())
    }

    /// Waits until a key of another node has a value.
    #[cold]
    pub(super) fn far_await_equal(
        &self,
        (map, spot): (&Map, Spot),
        key: &[u8],
        wanted: &[u8],
        deadline: Deadline,
    ) -> Result<()> {
        let head = Head { patience: patience_of(deadline), ..self.head(op::AWAIT_EQUAL, spot) };
        self.ask_with((map, spot), head, key, wanted).map(drop)
    }
}

/// Tells all homes something about a handle. One that is lost needs not hear it.
pub(super) fn tell_all(map: &Map, op: u16, writer: u64, at: u32) {
    let head = Head { writer, at, ..Head::new(op) };
    for place in map.far_places() {
        if let Ok(home) = map.home(place) {
            let _ = home.tell(bytemuck::bytes_of(&head));
        }
    }
}

/// Most calls of one round that wait for an answer at a time.
const IN_FLIGHT: usize = 64;
/// Answers of so many bytes need no block.
const INLINE: usize = 112;

/// Calls to several places at the same time.
pub(super) struct Calls<'m> {
    map: &'m Map,
    inbox: Channel,
    /// The place of each call under way.
    asked: Vec<(u64, usize)>,
    next: u64,
    early: Vec<(usize, Result<Reply>)>,
}

impl<'m> Calls<'m> {
    pub(super) fn new(map: &'m Map) -> Result<Calls<'m>> {
        let inbox = Channel::create(map.body.core.memory(), IN_FLIGHT, INLINE)?;
        Ok(Calls { map, inbox, asked: Vec::new(), next: 1, early: Vec::new() })
    }

    /// Asks a place, without waiting for the answer; for room it waits.
    pub(super) fn ask(&mut self, place: usize, op: u16, at: u32, body: &[u8]) -> Result<()> {
        self.ask_with(place, &Head { at, ..Head::new(op) }, body)
    }

    pub(super) fn ask_with(&mut self, place: usize, head: &Head, body: &[u8]) -> Result<()> {
        while self.asked.len() >= IN_FLIGHT {
            let answered = self.take()?;
            self.early.push(answered);
        }
        let tag = self.next;
        self.next += 1;
        if Some(place) == self.map.here {
            // To the own node there is no call without waiting.
            let fill = |space: &mut [u8]| space.copy_from_slice(body);
            let reply = self.map.home(place)?.call(bytemuck::bytes_of(head), body.len(), fill);
            self.early.push((place, self.map.read(place, reply)));
            return Ok(());
        }
        let asked = self.map.home(place)?.ask(bytemuck::bytes_of(head), body, self.inbox.id(), tag);
        match asked {
            Ok(()) => self.asked.push((tag, place)),
            Err(error) => self.early.push((place, self.map.read(place, Err(error.into())))),
        }
        Ok(())
    }

    /// How many calls have no answer yet.
    pub(super) fn under_way(&self) -> usize {
        self.asked.len()
    }

    /// Waits for an answer: of which place, and what it says.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Result<Reply>)>> {
        match self.early.pop() {
            Some(answered) => Ok(Some(answered)),
            None if self.asked.is_empty() => Ok(None),
            None => self.take().map(Some),
        }
    }

    /// Waits for all answers, each into `see`; all come in before the first error is returned.
    pub(super) fn finish(mut self, mut see: impl FnMut(usize, Reply) -> Result<()>) -> Result<()> {
        let mut wrong = None;
        while let Some((place, reply)) = self.next()? {
            let seen = reply.and_then(|reply| see(place, reply));
            wrong = wrong.take().or(seen.err());
        }
        wrong.map_or(Ok(()), Err)
    }

    fn take(&mut self) -> Result<(usize, Result<Reply>)> {
        loop {
            let (tag, reply) = self.receive()?;
            let Some(at) = self.asked.iter().position(|(asked, _)| *asked == tag) else { continue };
            let (_, place) = self.asked.swap_remove(at);
            let reply = reply.map_err(FarError::from).and_then(crate::services::well_or_own);
            return Ok((place, self.map.read(place, reply)));
        }
    }

    fn receive(&self) -> Result<(u64, std::result::Result<Reply, MeshError>)> {
        let cut =
            || self.map.far_places().next().and_then(|place| self.map.home(place).ok()).is_some_and(FarDict::is_cut);
        let mut patience = Patience::new();
        let mut receive = |deadline, stop: &dyn Fn() -> bool| {
            self.inbox.recv_with(&mut patience, deadline, stop, |_, payload| Message::from(payload))
        };
        let message = match receive(Deadline::Never, &cut) {
            // The last that a hub does may be to answer.
            Err(ChannelError::Interrupted) => receive(Deadline::Now, &|| false).map_err(|_| MeshError::NoHub)?,
            received => received?,
        };
        read_reply(message).ok_or_else(|| Error::new(ErrorKind::Io, "an answer is shorter than its head"))
    }
}
