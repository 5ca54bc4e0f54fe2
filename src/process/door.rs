//! Handles of a group in processes that did not make it.
//!
//! A handle that travels is a channel for questions and a lock. The process that made the group has a thread that answers;
//! it holds the lock for as long as it lives, so whoever waits for an answer can tell whether one may still come. Both
//! exist since the first handle was sent anywhere.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crossbeam::channel::bounded;
use serde::{Deserialize, Serialize};

use super::calls::{Answer, Call};
use super::inner::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Channel;
use crate::sync::Lock;
use crate::wire;

/// How often one who waits looks whether the group is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Questions that may wait.
const QUESTIONS: usize = 64;
/// Bytes that need no block.
const INLINE: usize = 240;

/// Where questions to a group go.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Address {
    questions: Channel,
    alive: Lock,
    name: String,
}

/// A question, and where its answer goes.
#[derive(Serialize, Deserialize)]
struct Question {
    call: Call,
    answer: Channel,
}

impl Address {
    /// Begins to answer questions to this group.
    pub(super) fn open(group: &Arc<Inner>) -> Result<Address> {
        let (questions, alive) = (Channel::create(QUESTIONS, INLINE)?, Lock::new()?);
        let address = Address { questions, alive, name: group.name.clone() };
        let (own, weak) = (address.clone(), Arc::downgrade(group));
        let (ready, begun) = bounded(1);
        let answer = move || {
            let Ok(_held) = own.alive.lock() else { return };
            let _ = ready.send(()); // who does not listen needs not know
            answer_all(&weak, &own.questions);
        };
        let started = thread::Builder::new().name("dragon-door".into()).spawn(answer);
        started
            .map_err(|error| Error::with_source(ErrorKind::ResourceLimit, "no thread for a group's handles", error))?;
        let failed = |_| Error::new(ErrorKind::Io, "the lock of a new group cannot be taken");
        begun.recv().map_err(failed)?;
        Ok(address)
    }

    /// Answers no more.
    pub(super) fn close(&self) {
        self.questions.close();
    }
}

fn answer_all(group: &Weak<Inner>, questions: &Channel) {
    while let Ok(question) = questions.recv() {
        let question: Question = match wire::decode(&question) {
            Ok(question) => question,
            // One whose asker is gone, as a rule.
            Err(error) => {
                tracing::debug!(%error, "a question to a group cannot be answered");
                continue;
            }
        };
        let Some(group) = group.upgrade() else { return };
        if !question.call.waits() {
            question.settle(&group);
            continue;
        }
        let settle = move || question.settle(&group);
        if let Err(error) = thread::Builder::new().name("dragon-call".into()).spawn(settle) {
            tracing::error!(%error, "no thread for a question to a group that may wait");
        }
    }
}

impl Question {
    fn settle(&self, group: &Arc<Inner>) {
        let answer = self.call.perform(group);
        let answer = answer.unwrap_or_else(|error| Answer::Failed(error.kind(), error.to_string()));
        let mut bytes = Vec::new();
        let sent = wire::encode(&answer, &mut bytes).map_err(Error::from).and_then(|()| self.answer.send(&bytes));
        if let Err(error) = sent {
            tracing::debug!(%error, "who asked a group is gone");
        }
    }
}

/// A group of another process.
pub(super) struct Remote {
    pub(super) address: Address,
    /// For answers: as many as threads have asked at a time.
    answers: Mutex<Vec<Channel>>,
}

impl Remote {
    pub(super) fn new(address: Address) -> Remote {
        Remote { address, answers: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.address.name
    }

    /// Asks, and waits for the answer for as long as there may be one.
    pub(super) fn ask(&self, call: &Call) -> Result<Answer> {
        match call {
            Call::Wait(whom, None) => loop {
                match self.ask_once(&Call::Wait(*whom, Some(LOOK))) {
                    Err(error) if error.kind() == ErrorKind::TimedOut => {}
                    answered => return answered,
                }
            },
            call => self.ask_once(call),
        }
    }

    fn ask_once(&self, call: &Call) -> Result<Answer> {
        let free = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let answer = free.map_or_else(|| Channel::create(2, INLINE), Ok)?;
        let question = Question { call: call.clone(), answer };
        let mut bytes = Vec::new();
        wire::encode(&question, &mut bytes)?;
        self.patiently(|| self.address.questions.send_timeout(&bytes, LOOK))?;
        let received = self.patiently(|| question.answer.recv_timeout(LOOK))?;
        let told = wire::decode(&received)?;
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(question.answer);
        match told {
            Answer::Failed(kind, text) => Err(Error::new(kind, text)),
            answer => Ok(answer),
        }
    }

    /// Waits as long as the group is there.
    fn patiently<T>(&self, wait: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            match wait() {
                Err(error) if error.is_timeout() => {
                    if self.is_gone() {
                        return Err(self.gone(None));
                    }
                }
                Err(error) if error.is_closed() || error.kind() == ErrorKind::NotFound => {
                    return Err(self.gone(None));
                }
                Err(error) if error.is_lost() => return Err(self.gone(Some(error))),
                done => return done,
            }
        }
    }

    /// Whether nobody answers any more: then the lock is free.
    fn is_gone(&self) -> bool {
        match self.address.alive.try_lock() {
            Ok(_held) => true,
            Err(error) => !error.is_timeout(),
        }
    }

    fn gone(&self, error: Option<Error>) -> Error {
        let text = format!("group {:?} is gone with the process that made it", self.address.name);
        match error {
            Some(error) => Error::new(error.kind(), format!("{text}: {error}")),
            None => Error::new(ErrorKind::Closed, text),
        }
    }
}
