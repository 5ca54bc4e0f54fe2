//! From a plan to a world: rank 0 opens its doors and gathers, the others find it and sit down.

use std::{path::PathBuf, time::Duration};

use super::auth::{Meeting, random};
use super::environment::Environment;
use super::error::{BootstrapError, Failure, FailureKind};
use super::gather::gather;
use super::message::{BUILD_MAX, CARD_MAX, Claims, Hello, VERSION, Welcome};
use super::plan::{Channel, Plan};
use super::secret;
use super::spoke::{Call, Spoke, call};
use super::way::{self, Opened, Target, Way};
use super::world::{Star, World};
use crate::sys::identity;
use crate::sys::process;
use crate::sys::rendezvous;
use crate::sys::shm;
use crate::time::Deadline;

const PATIENCE: Duration = Duration::from_secs(60);
/// Until somebody whom nobody has answered looks again; doubled each time.
const AGAIN_AT_FIRST: Duration = Duration::from_millis(2);
const AGAIN_AT_MOST: Duration = Duration::from_millis(100);

/// Settings of a start.
#[derive(Clone)]
pub(crate) struct JoinConfig {
    /// How long to wait for the others, at the start and in each round.
    pub(crate) patience: Duration,
    /// What the ranks know each other by; `None`: what the launcher has, else the cookie.
    pub(crate) secret: Option<String>,
    /// Where the user's cookie lies.
    pub(crate) cookie: Option<PathBuf>,
    /// What build of the program this is: the same bytes for all ranks of a job.
    pub(crate) build: Vec<u8>,
}

impl JoinConfig {
    /// What the environment says.
    pub(crate) fn read(environment: &dyn Environment, build: Vec<u8>) -> Result<JoinConfig, BootstrapError> {
        let name = "DRAGON_START_TIMEOUT";
        let patience = match environment.var(name) {
            None => PATIENCE,
            Some(value) => seconds(&value).ok_or_else(|| BootstrapError::Variable {
                name: name.into(),
                value,
                why: "expected seconds, more than 0".into(),
            })?,
        };
        let (secret, cookie) = (environment.var("DRAGON_SECRET"), secret::cookie_path(environment));
        Ok(JoinConfig { patience, secret, cookie, build })
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let found = Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()?;
    (!found.is_zero()).then_some(found)
}

/// Meets the other ranks. `card` is what this one has to tell them, of at most [`CARD_MAX`] bytes.
pub(crate) fn join(plan: &Plan, config: &JoinConfig, card: &[u8]) -> Result<World, BootstrapError> {
    if card.len() > CARD_MAX || config.build.len() > BUILD_MAX {
        return Err(BootstrapError::Unclear { why: format!("a card of {} bytes, of at most {CARD_MAX}", card.len()) });
    }
    let claims = claims(plan);
    if plan.channel == Channel::Alone {
        return alone(config, card, claims);
    }
    let deadline = Deadline::after(config.patience);
    let mut way = way::of(plan, config)?;
    let (rank, size) = way.rank_and_size(plan, deadline)?;
    let size = size.filter(|size| *size > 0).ok_or_else(|| BootstrapError::Unclear {
        why: format!("{} does not say how many ranks there are", plan.launcher.name()),
    })?;
    if size == 1 {
        return alone(config, card, claims);
    }
    let hello = Hello {
        version: VERSION,
        build: config.build.clone(),
        rank,
        size,
        patience: config.patience.as_millis() as u64,
        host: process::host_name(),
        pid: process::id(),
        card: card.to_vec(),
        claims,
    };
    let joiner = Joiner { hello, deadline, patience: config.patience };
    match rank {
        Some(0) => {
            let opened = way.open(deadline)?;
            joiner.host(opened)
        }
        _ => joiner.find(&mut *way),
    }
}

fn alone(config: &JoinConfig, card: &[u8], claims: Claims) -> Result<World, BootstrapError> {
    let refused = |_| BootstrapError::Secret { why: "the system has no random numbers".into() };
    let job = random().map_err(refused)?;
    let meeting = Meeting::new(Some(&random().map_err(refused)?), "alone");
    let welcome = Welcome::new(job, std::iter::once((card.to_vec(), claims)));
    Ok(World::new(0, Star::Alone, &meeting, welcome, config.patience))
}

fn claims(plan: &Plan) -> Claims {
    Claims {
        boot: identity::boot_id(),
        uid: shm::user(),
        shared_memory: identity::shared_memory_device(),
        network: identity::network_namespace(),
        node_id: plan.node_id.clone(),
    }
}

/// A rank on its way into the world.
struct Joiner {
    hello: Hello,
    deadline: Deadline,
    patience: Duration,
}

impl Joiner {
    /// Rank 0: gathers the others.
    fn host(self, opened: Opened) -> Result<World, BootstrapError> {
        let job = random().map_err(BootstrapError::io("make up a name for the job"))?;
        let own = Hello { rank: Some(0), ..self.hello };
        let (hub, welcome) = gather(opened.doors, &opened.meeting, own, job, self.deadline)?;
        Ok(World::new(0, Star::Hub(hub), &opened.meeting, welcome, self.patience))
    }

    /// Any other rank: finds rank 0. Without a rank, becomes it if nobody is.
    fn find(self, way: &mut dyn Way) -> Result<World, BootstrapError> {
        let (mut again, mut last) = (AGAIN_AT_FIRST, "nothing is known of it".to_string());
        loop {
            if self.hello.rank.is_none()
                && let Some(opened) = way.try_open()?
            {
                return self.host(opened);
            }
            if let Some(target) = way.look(self.deadline)?
                && let Some(found) = self.try_all(&target, &mut last, &way.place())?
            {
                let (spoke, rank, welcome) = Spoke::join(found, self.hello, self.deadline)?;
                return Ok(World::new(rank, Star::Spoke(spoke), &target.meeting, welcome, self.patience));
            }
            if self.deadline.passed() {
                return Err(self.nobody(&way.place(), &last));
            }
            rendezvous::pause(Deadline::after(again.min(self.deadline.left().unwrap_or(again))));
            again = (again * 2).min(AGAIN_AT_MOST);
        }
    }

    fn try_all(
        &self,
        target: &Target,
        last: &mut String,
        place: &str,
    ) -> Result<Option<super::link::Link>, BootstrapError> {
        for address in &target.addresses {
            let patience = target.patience.min(self.deadline.left().unwrap_or(target.patience));
            match call(address, &target.meeting, Deadline::after(patience)) {
                Call::Hub(link) => return Ok(Some(link)),
                Call::Refused(why) if target.is_sure => return Err(self.refused(place, why)),
                Call::Refused(why) => *last = format!("{address}: {why}"),
                Call::Nobody(why) => *last = format!("{address}: {why}"),
            }
        }
        Ok(None)
    }

    fn refused(&self, place: &str, why: &str) -> BootstrapError {
        let text = format!(
            "{} was refused at {place}: {why}. Set DRAGON_SECRET to the same on all ranks, or let them share the user's home",
            self.name()
        );
        Failure::error(FailureKind::WrongSecret, text)
    }

    fn nobody(&self, place: &str, last: &str) -> BootstrapError {
        let text = format!(
            "timeout: {} of {} did not find rank 0 at {place} ({last}). Raise DRAGON_START_TIMEOUT if it only is slow, or say \
             where to meet by DRAGON_RENDEZVOUS=host:port",
            self.name(),
            self.hello.size
        );
        Failure::error(FailureKind::Timeout, text)
    }

    fn name(&self) -> String {
        self.hello.rank.map_or("a process without a rank".into(), |rank| format!("rank {rank}"))
    }
}
