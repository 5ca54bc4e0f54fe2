//! The roster: which ranks of this node wait at the end of the job, and may be given work until all have come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::lock;
use crate::id::{ObjectId, ProcId};

/// What becomes of a rank of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reservist {
    /// It waits, and takes orders at a channel.
    Here { rank: u32, process: ProcId, pid: u32, duty: ObjectId },
    /// It is lost, and what it held has been repaired, or is about to be by somebody else.
    Gone { rank: u32, how: String },
}

impl Reservist {
    fn rank(&self) -> u32 {
        match self {
            Reservist::Here { rank, .. } | Reservist::Gone { rank, .. } => *rank,
        }
    }
}

/// What is known of the ranks of this node, and who wants to hear more.
#[derive(Default)]
struct Known {
    ranks: BTreeMap<u32, Reservist>,
    listeners: Vec<Sender<Reservist>>,
}

/// The roster of a node.
#[derive(Default)]
pub(super) struct Roster(Mutex<Known>);

impl Roster {
    pub(super) fn new() -> Arc<Roster> {
        Arc::default()
    }

    /// Something has become of a rank.
    pub(super) fn tell(&self, news: Reservist) {
        let mut known = lock(&self.0);
        // Who does not listen any more does not need to know.
        known.listeners.retain(|listener| listener.send(news.clone()).is_ok());
        known.ranks.insert(news.rank(), news);
    }

    /// All that is known, and all that will be.
    pub(super) fn listen(&self) -> Receiver<Reservist> {
        let (listener, hears) = unbounded();
        let mut known = lock(&self.0);
        // Cannot fail: the other end is here.
        known.ranks.values().for_each(|news| drop(listener.send(news.clone())));
        known.listeners.push(listener);
        hears
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_late_hears_the_last_word_of_each() {
        let roster = Roster::new();
        let gone = |rank| Reservist::Gone { rank, how: "was killed".into() };
        let here =
            Reservist::Here { rank: 2, process: ProcId(7), pid: 70, duty: ObjectId::from_word(1 << 32 | 1).unwrap() };
        roster.tell(here.clone());
        roster.tell(gone(1));
        let early = roster.listen();
        roster.tell(gone(2));
        assert_eq!(early.try_iter().collect::<Vec<_>>(), [gone(1), here, gone(2)]);
        assert_eq!(roster.listen().try_iter().collect::<Vec<_>>(), [gone(1), gone(2)]);
    }
}
