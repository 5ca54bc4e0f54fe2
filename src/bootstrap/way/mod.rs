//! How rank 0 is found: by a place that all know beforehand, or by what it leaves on a board that all can read.
//!
//! A board is the launcher's own channel or a folder. Only who belongs to the job can read it, so that rank 0 also leaves
//! a secret there, made for this start. Where there is no board the secret is the user's.

mod farewell;
mod folder;
mod named;
pub(super) mod pmi;
mod pmix;

use std::time::Duration;

use socket2::Socket;

use super::address::{Address, Door};
use super::auth::{Meeting, random};
use super::error::BootstrapError;
use super::join::JoinConfig;
use super::message;
use super::plan::{Channel, Plan};
use super::secret;
use crate::time::Deadline;

/// What rank 0 has opened.
pub(super) struct Opened {
    pub(super) doors: Vec<Socket>,
    pub(super) meeting: Meeting,
}

/// Where rank 0 may be.
pub(super) struct Target {
    /// To be tried in this order.
    pub(super) addresses: Vec<Address>,
    pub(super) meeting: Meeting,
    /// How long one of them may take to say who it is.
    pub(super) patience: Duration,
    /// Whether somebody there who has another secret is surely rank 0, and no leftover of an earlier start.
    pub(super) is_sure: bool,
}

/// A way for rank 0 and the others to meet.
pub(super) trait Way {
    /// What only the launcher's channel can tell.
    fn rank_and_size(&mut self, plan: &Plan, _: Deadline) -> Result<(Option<u32>, Option<u32>), BootstrapError> {
        Ok((plan.rank, plan.size))
    }

    /// Rank 0 opens its doors and sees to it that the others find them.
    fn open(&mut self, deadline: Deadline) -> Result<Opened, BootstrapError>;

    /// Where rank 0 is. `None`: nothing is known yet, look again.
    fn look(&mut self, deadline: Deadline) -> Result<Option<Target>, BootstrapError>;

    /// For ranks by arrival: the doors, if this is the machine to open them on and nobody has yet.
    fn try_open(&mut self) -> Result<Option<Opened>, BootstrapError> {
        Ok(None)
    }

    /// Where they meet, for errors.
    fn place(&self) -> String;
}

/// The way that a plan names.
pub(super) fn of(plan: &Plan, config: &JoinConfig) -> Result<Box<dyn Way>, BootstrapError> {
    let own = config.secret.as_deref().map(secret::from_text).transpose()?;
    Ok(match &plan.channel {
        Channel::Folder(folder) => Box::new(OnBoard::new(folder::Folder::new(folder, &plan.job), own)),
        Channel::Pmi(door) => Box::new(OnBoard::new(pmi::Pmi::new(door), own)),
        Channel::Pmix => Box::new(OnBoard::new(pmix::Pmix::new(), own)),
        _ => Box::new(named::Named::new(plan, config, own)?),
    })
}

/// A place where rank 0 leaves a note for all.
pub(super) trait Board {
    /// What only the launcher's channel can tell.
    fn rank_and_size(&mut self, plan: &Plan, _: Deadline) -> Result<(Option<u32>, Option<u32>), BootstrapError> {
        Ok((plan.rank, plan.size))
    }

    /// Rank 0 leaves the note.
    fn write(&mut self, note: &[u8], deadline: Deadline) -> Result<(), BootstrapError>;

    /// The others read it. `None`: it is not there yet.
    fn read(&mut self, deadline: Deadline) -> Result<Option<Vec<u8>>, BootstrapError>;

    /// Whether a note is surely of this start.
    fn is_fresh(&self) -> bool;

    /// Where it is, for errors.
    fn place(&self) -> String;
}

/// Meeting by a note on a board.
struct OnBoard<B> {
    board: B,
    /// The secret that all have by themselves, if they do.
    own: Option<[u8; 32]>,
}

impl<B: Board> OnBoard<B> {
    fn new(board: B, own: Option<[u8; 32]>) -> OnBoard<B> {
        OnBoard { board, own }
    }

    fn meeting(&self, door: &Door) -> Result<Meeting, BootstrapError> {
        let name = secret::hex(&door.job);
        match (self.own, door.secret) {
            (None, None) => Err(BootstrapError::Secret {
                why: "rank 0 has DRAGON_SECRET set and this rank has not: set it to the same on all ranks, or on none"
                    .into(),
            }),
            (own, made) => Ok(Meeting::new(own.or(made).as_ref(), &name)),
        }
    }
}

impl<B: Board> Way for OnBoard<B> {
    fn rank_and_size(&mut self, plan: &Plan, deadline: Deadline) -> Result<(Option<u32>, Option<u32>), BootstrapError> {
        self.board.rank_and_size(plan, deadline)
    }

    fn open(&mut self, deadline: Deadline) -> Result<Opened, BootstrapError> {
        let refused = BootstrapError::io("listen for the other ranks");
        let made = || Ok((self.own.is_none().then(random).transpose()?, random()?));
        let (door, doors) = made().and_then(|(secret, job)| Door::open(secret, job)).map_err(refused)?;
        let meeting = self.meeting(&door)?;
        self.board.write(&message::encode(&door), deadline)?;
        Ok(Opened { doors, meeting })
    }

    fn look(&mut self, deadline: Deadline) -> Result<Option<Target>, BootstrapError> {
        let Some(note) = self.board.read(deadline)? else { return Ok(None) };
        let Some(door) = message::decode::<Door>(&note) else {
            return Err(BootstrapError::Unclear {
                why: format!(
                    "the note of rank 0 at {} cannot be read: is it another build of the program?",
                    self.board.place()
                ),
            });
        };
        let meeting = self.meeting(&door)?;
        let is_sure = self.board.is_fresh();
        Ok(Some(Target { addresses: door.addresses(), meeting, patience: Duration::from_secs(5), is_sure }))
    }

    fn place(&self) -> String {
        self.board.place()
    }
}
