//! Policies: where things go, as a value. Evaluating one is `proto::placement`'s business.

mod machine;
mod scope;
mod seat;

use serde::{Deserialize, Serialize};

pub(crate) use self::machine::numbers;
pub use self::machine::{Gpu, Node, Numa, Vendor};
pub(crate) use self::seat::Seat;
use crate::id::NodeId;

/// On which nodes something may go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Placement {
    /// On any node that has the cpus and GPUs which the policy names; those are taken in the order of their numbers, the
    /// caller's own first. The default.
    Anywhere,
    /// On the caller's node. (In DragonHPC `LOCAL` means the next node, whichever that is.)
    Local,
    /// On this node.
    Node(NodeId),
    /// On the nodes of this host. A name without a domain means the host of that name in any domain.
    Host(String),
}

/// How the processes of one policy are shared out among the nodes on which they may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Distribution {
    /// One for each node in turn. The default.
    RoundRobin,
    /// A node is filled, up to one process for each of its cpus, before the next one is begun. When all are full, the rest
    /// goes round robin.
    Block,
}

/// Where processes and objects go: which nodes, in which order, which cpus and GPUs. A field that is `None` leaves the
/// decision to whoever is asked next: what is said for a thing itself beats what is said for its template, that its group,
/// that the innermost [`scope`](Policy::scope), and that the default.
///
/// ```
/// use dragon::{Placement, Policy};
/// let policy = Policy::new().host("node7").cpus(0..4).gpus([0]);
/// assert_eq!(policy.placement, Some(Placement::Host("node7".into())));
/// assert_eq!((policy.cpus, policy.gpus), (Some(vec![0, 1, 2, 3]), Some(vec!["0".into()])));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Policy {
    /// On which nodes. Default: [`Placement::Anywhere`].
    pub placement: Option<Placement>,
    /// In which order. Default: [`Distribution::RoundRobin`].
    pub distribution: Option<Distribution>,
    /// The numbers of the cpus that each process may use: all of these, like its threads and children. Default: those of
    /// its parent.
    pub cpus: Option<Vec<usize>>,
    /// The GPUs that each process sees, as [`Gpu::name`] or [`Gpu::uuid`] names them. None in the list: it sees none.
    /// Default: those that its parent sees.
    pub gpus: Option<Vec<String>>,
}

impl Policy {
    /// A policy that says nothing.
    pub fn new() -> Policy {
        Policy::default()
    }

    /// On any node.
    pub fn anywhere(self) -> Policy {
        self.placement(Placement::Anywhere)
    }

    /// On the caller's node.
    pub fn local(self) -> Policy {
        self.placement(Placement::Local)
    }

    /// On this node.
    pub fn node(self, node: NodeId) -> Policy {
        self.placement(Placement::Node(node))
    }

    /// On the nodes of this host.
    pub fn host(self, name: impl Into<String>) -> Policy {
        self.placement(Placement::Host(name.into()))
    }

    /// On these nodes.
    pub fn placement(mut self, placement: Placement) -> Policy {
        self.placement = Some(placement);
        self
    }

    /// One for each node in turn.
    pub fn round_robin(mut self) -> Policy {
        self.distribution = Some(Distribution::RoundRobin);
        self
    }

    /// One node after the other.
    pub fn block(mut self) -> Policy {
        self.distribution = Some(Distribution::Block);
        self
    }

    /// Each process on these cpus.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Policy {
        self.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// Each process with these GPUs: numbers, or names as in [`Gpu::name`] and [`Gpu::uuid`].
    pub fn gpus<T: ToString>(mut self, gpus: impl IntoIterator<Item = T>) -> Policy {
        self.gpus = Some(gpus.into_iter().map(|gpu| gpu.to_string()).collect());
        self
    }

    /// This policy, completed by what `other` says about the fields of which this one says nothing.
    ///
    /// ```
    /// use dragon::Policy;
    /// let (group, template) = (Policy::new().host("a").gpus([0, 1]), Policy::new().host("b"));
    /// assert_eq!(template.over(&group), Policy::new().host("b").gpus([0, 1]));
    /// ```
    pub fn over(mut self, other: &Policy) -> Policy {
        self.placement = self.placement.or_else(|| other.placement.clone());
        self.distribution = self.distribution.or(other.distribution);
        self.cpus = self.cpus.or_else(|| other.cpus.clone());
        self.gpus = self.gpus.or_else(|| other.gpus.clone());
        self
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Policy::default()
    }

    /// Runs `body` so that this policy completes all that the calling thread makes meanwhile. Scopes may lie in each other: the
    /// innermost says first. Other threads, and tasks in other processes, know nothing of it.
    ///
    /// ```
    /// let _dragon = dragon::init()?;
    /// let pool = dragon::Policy::new().local().scope(|| dragon::Pool::new(2))?;
    /// assert_eq!(pool.size(), 2);
    /// assert!(dragon::Policy::current().is_empty(), "over");
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        scope::within(self.clone().over(&scope::current()), body)
    }

    /// What the scopes that the calling thread is in say together; the empty policy outside of any.
    pub fn current() -> Policy {
        scope::current()
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn policies() -> impl Strategy<Value = Policy> {
        let place = prop_oneof![
            Just(Placement::Anywhere),
            Just(Placement::Local),
            (0..4_u32).prop_map(|node| Placement::Node(NodeId(node))),
            "[a-c]".prop_map(Placement::Host),
        ];
        let order = prop_oneof![Just(Distribution::RoundRobin), Just(Distribution::Block)];
        let (cpus, gpus) = (proptest::collection::vec(0..8_usize, 0..3), proptest::collection::vec("[0-3]", 0..3));
        (option::of(place), option::of(order), option::of(cpus), option::of(gpus))
            .prop_map(|(placement, distribution, cpus, gpus)| Policy { placement, distribution, cpus, gpus })
    }

    proptest! {
        #[test]
        fn to_merge_is_associative_and_the_empty_policy_changes_nothing(a in policies(), b in policies(), c in policies()) {
            prop_assert_eq!(a.clone().over(&b).over(&c), a.clone().over(&b.clone().over(&c)));
            prop_assert_eq!(a.clone().over(&Policy::new()), a.clone());
            prop_assert_eq!(Policy::new().over(&a), a.clone());
            let both = a.clone().over(&b);
            prop_assert_eq!(both.cpus, a.cpus.or(b.cpus), "field by field");
        }

        #[test]
        fn a_policy_travels(a in policies()) {
            let bytes = postcard::to_stdvec(&a).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Policy>(&bytes).unwrap(), a);
        }
    }

    #[test]
    fn a_field_may_come_from_each_level() {
        let (explicit, template) = (Policy::new().local(), Policy::new().host("b").block());
        let (group, scope) = (Policy::new().host("c").cpus([1]), Policy::new().cpus([2]).gpus(["GPU-1"]));
        let all = explicit.over(&template).over(&group).over(&scope);
        assert_eq!(all, Policy::new().local().block().cpus([1]).gpus(["GPU-1"]));
    }

    #[test]
    fn scopes_nest_and_end_even_by_a_panic() {
        let (outer, inner) = (Policy::new().host("a").block(), Policy::new().host("b"));
        outer.scope(|| {
            assert_eq!(Policy::current(), outer);
            inner.scope(|| assert_eq!(Policy::current(), Policy::new().host("b").block()));
            assert_eq!(Policy::current(), outer);
            let panicked = std::panic::catch_unwind(|| inner.scope(|| panic!("on purpose")));
            assert!(panicked.is_err());
            assert_eq!(Policy::current(), outer);
            let elsewhere = std::thread::spawn(Policy::current).join().unwrap();
            assert!(elsewhere.is_empty(), "a scope is of one thread");
        });
        assert!(Policy::current().is_empty());
    }
}
