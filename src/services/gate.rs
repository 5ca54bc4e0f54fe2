//! A meeting that ends when everybody has come or is known not to come: how a world ends together.

use std::collections::{BTreeMap, BTreeSet};

/// Who is still missing, who waits, and who will never come.
pub(super) struct Gate<A> {
    missing: BTreeSet<u32>,
    waiting: Vec<A>,
    lost: BTreeMap<u32, String>,
}

/// All who waited, and why others did not come.
pub(super) struct Opened<A> {
    pub(super) waiting: Vec<A>,
    pub(super) lost: Vec<String>,
}

impl<A> Gate<A> {
    pub(super) fn new(all: impl IntoIterator<Item = u32>) -> Gate<A> {
        Gate { missing: all.into_iter().collect(), waiting: Vec::new(), lost: BTreeMap::new() }
    }

    /// Somebody has come, with what others had to tell of losses.
    pub(super) fn arrive(&mut self, who: u32, waits: A, losses: &[String]) -> Option<Opened<A>> {
        self.missing.remove(&who);
        self.waiting.push(waits);
        if !losses.is_empty() {
            self.lost.entry(who).or_insert_with(|| losses.join("; "));
        }
        self.look()
    }

    /// Somebody will not come. Nothing changes for one who has come already.
    pub(super) fn lose(&mut self, who: u32, why: String) -> Option<Opened<A>> {
        if !self.missing.remove(&who) {
            return None;
        }
        self.lost.insert(who, why);
        self.look()
    }

    fn look(&mut self) -> Option<Opened<A>> {
        (self.missing.is_empty() && !self.waiting.is_empty())
            .then(|| Opened { waiting: std::mem::take(&mut self.waiting), lost: self.lost.values().cloned().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_the_last_has_come() {
        let mut gate = Gate::new(0..3);
        assert!(gate.arrive(1, 'b', &[]).is_none() && gate.arrive(0, 'a', &[]).is_none());
        let opened = gate.arrive(2, 'c', &[]).unwrap();
        assert_eq!((opened.waiting, opened.lost.len()), (vec!['b', 'a', 'c'], 0));
    }

    #[test]
    fn who_is_lost_is_not_waited_for_and_named() {
        let mut gate = Gate::new(0..3);
        assert!(gate.lose(2, "rank 2 was killed".into()).is_none());
        assert!(gate.arrive(0, 'a', &[]).is_none());
        assert!(gate.lose(0, "it left later".into()).is_none(), "it had come");
        let opened = gate.arrive(1, 'b', &["rank 7 was killed".into()]).unwrap();
        assert_eq!(opened.lost, ["rank 7 was killed", "rank 2 was killed"]);
    }

    #[test]
    fn the_last_to_be_lost_opens_it_too() {
        let mut gate = Gate::new(0..2);
        assert!(gate.arrive(0, 'a', &[]).is_none());
        assert_eq!(gate.lose(1, "gone".into()).unwrap().lost, ["gone"]);
        assert!(Gate::<char>::new([0]).lose(0, "gone".into()).is_none(), "nobody waits");
    }
}
