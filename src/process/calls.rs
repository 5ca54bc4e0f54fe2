//! What can be asked of a group, as a value, so that a handle elsewhere asks the same as one here.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exit::{Exit, GroupState, ProcessState, Signal};
use super::inner::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Deadline;

/// All processes of a group, or one.
pub(super) type Whom = Option<usize>;

/// A question or an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Call {
    Look,
    LookAt(usize),
    History,
    /// Why an MPI program ended before its time.
    Broken,
    Start,
    Signal(Whom, Signal),
    /// Pushes to end, and does not wait.
    Stop(Whom, Duration),
    Kill(Whom),
    /// Waits for at most so long; for ever without.
    Wait(Whom, Option<Duration>),
    Close,
}

/// What comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Group { state: GroupState, len: usize },
    Process(View),
    Exits(Vec<Exit>),
    Broken(Option<String>),
    Done,
    Failed(ErrorKind, String),
}

/// One process, at the moment of the question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct View {
    pub(super) state: ProcessState,
    pub(super) pid: Option<u32>,
    pub(super) node: u32,
    pub(super) exit: Option<Exit>,
}

impl Call {
    /// Whether the answer may take its time.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Call::Start | Call::Wait(..))
    }

    /// Does it, in the process that made the group.
    pub(super) fn perform(&self, group: &Arc<Inner>) -> Result<Answer> {
        match self {
            Call::Look => {
                let state = group.lock();
                return Ok(Answer::Group { state: state.plan.state(), len: state.plan.len() });
            }
            Call::LookAt(at) => {
                let plan = &group.lock().plan;
                let (state, node) = (plan.member_state(*at), plan.node(*at));
                return Ok(Answer::Process(View { state, node, pid: plan.pid(*at), exit: plan.exit(*at) }));
            }
            Call::History => return Ok(Answer::Exits(group.lock().plan.history().to_vec())),
            Call::Broken => return Ok(Answer::Broken(group.lock().broken.clone())),
            Call::Start => group.start()?,
            Call::Signal(whom, signal) => {
                must_run(group, *whom)?;
                if !(1..=64).contains(&signal.as_raw()) {
                    return Err(group.refused(&format!("cannot be sent signal {}: there is none", signal.as_raw())));
                }
                group.decide(|plan, _| plan.signal(range(*whom, plan.len()), *signal))?;
            }
            Call::Stop(whom, patience) => {
                must_run(group, *whom)?;
                group.decide(|plan, now| plan.stop(range(*whom, plan.len()), *patience, now))?;
            }
            Call::Kill(whom) => {
                must_run(group, *whom)?;
                group.decide(|plan, _| plan.kill(range(*whom, plan.len())))?;
            }
            Call::Wait(whom, patience) => {
                let deadline = patience.map_or(Deadline::Never, Deadline::after);
                return Ok(Answer::Exits(match whom {
                    None => group.wait(deadline)?,
                    Some(at) => vec![group.wait_for(*at, deadline)?],
                }));
            }
            Call::Close => group.close()?,
        }
        Ok(Answer::Done)
    }
}

fn range(whom: Whom, len: usize) -> std::ops::Range<usize> {
    whom.map_or(0..len, |at| at..at + 1)
}

/// Orders to a whole group are refused when there is nobody to obey; a process that has ended needs none.
fn must_run(group: &Inner, whom: Whom) -> Result<()> {
    let state = group.lock().plan.state();
    match (state, whom) {
        (GroupState::Running, _) | (GroupState::Idle, Some(_)) => Ok(()),
        (GroupState::Closed, _) => Err(group.closed()),
        (GroupState::Idle, None) => Err(group.refused("does not run")),
    }
}

/// An answer of another kind than was asked for: the other side is another build, or memory is damaged.
pub(super) fn strange() -> Error {
    Error::new(ErrorKind::WrongBuild, "a group gives an answer that does not fit the question")
}
