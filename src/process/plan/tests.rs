//! The plan without processes: what it decides, and what it never does, whatever happens in which order.

use proptest::prelude::*;

use super::*;
use crate::time::now;

fn plan(members: usize, restart: Restart, at_once: usize) -> Plan {
    let mut plan = Plan::new(restart, at_once, None);
    (0..members).for_each(|_| plan.add(0));
    plan
}

fn launches(effects: &[Effect]) -> Vec<(usize, u32)> {
    let launch = |effect: &Effect| match effect {
        Effect::Launch { member, attempt } => Some((*member, *attempt)),
        _ => None,
    };
    effects.iter().filter_map(launch).collect()
}

fn signals(effects: &[Effect]) -> Vec<(usize, Signal)> {
    let signal = |effect: &Effect| match effect {
        Effect::Signal { member, signal } => Some((*member, *signal)),
        _ => None,
    };
    effects.iter().filter_map(signal).collect()
}

#[test]
fn an_end_that_is_heard_before_the_start_counts() {
    let (mut plan, begun) = (plan(1, Restart::Never, 1), now());
    assert_eq!(launches(&plan.start(begun)), [(0, 1)]);
    let effects = plan.ended(0, 1, 77, How::Code(0), begun);
    assert!(matches!(effects[0], Effect::Tell(GroupEvent::Started { pid: 77, .. })), "{effects:?}");
    assert_eq!(effects.last(), Some(&Effect::Tell(GroupEvent::Finished)));
    assert!(plan.started(0, 1, 77, begun).is_empty(), "that was told");
    assert_eq!((plan.state(), plan.exit(0).unwrap().pid()), (GroupState::Idle, 77));
}

#[test]
fn pushes_escalate_and_reach_those_that_are_being_started() {
    let (mut plan, begun) = (plan(2, Restart::Never, 2), now());
    plan.start(begun);
    plan.started(0, 1, 10, begun);
    let second = Duration::from_secs(1);
    assert_eq!(signals(&plan.stop(0..2, 2 * second, begun)), [(0, Signal::INT)]);
    assert_eq!(signals(&plan.started(1, 1, 11, begun)), [(1, Signal::INT)], "as soon as it is there");
    assert_eq!(plan.deadline(), Some(begun + second));
    assert_eq!(signals(&plan.tick(begun + second)), [(0, Signal::TERM), (1, Signal::TERM)]);
    let ended = plan.ended(0, 1, 10, How::Signal(15), begun + second);
    assert_eq!(signals(&ended), [(0, Signal::KILL)], "what it leaves behind");
    assert_eq!(signals(&plan.tick(begun + 2 * second)), [(1, Signal::KILL)]);
    assert_eq!(plan.deadline(), None);
}

#[test]
fn who_keeps_ending_pauses_longer_and_longer() {
    let (mut plan, begun) = (plan(1, Restart::Always { max: 100 }, 1), now());
    let (mut effects, mut time, mut pauses) = (plan.start(begun), begun, Vec::new());
    for attempt in 1..=12 {
        assert_eq!(launches(&effects), [(0, attempt)]);
        let ended = plan.ended(0, attempt, attempt, How::Code(1), time);
        let next = plan.deadline().unwrap_or(time);
        pauses.push(next - time);
        time = next;
        effects = if launches(&ended).is_empty() { plan.tick(time) } else { ended };
    }
    assert_eq!(pauses[..3], [Duration::ZERO, PAUSE, 2 * PAUSE]);
    assert!(pauses.is_sorted() && pauses.last() == Some(&WELL), "{pauses:?}");
    plan.started(0, 13, 13, time);
    let well = plan.ended(0, 13, 13, How::Code(1), time + WELL);
    assert_eq!(launches(&well), [(0, 14)], "it had begun well");
}

#[test]
fn a_lost_node_ends_its_members_for_good() {
    let (mut plan, begun) = (Plan::new(Restart::Always { max: 9 }, 3, None), now());
    [0, 1, 1].into_iter().for_each(|node| plan.add(node));
    plan.start(begun);
    (0..2).for_each(|member| drop(plan.started(member, 1, 5, begun)));
    let effects = plan.lost(1, "silent", begun);
    assert!(launches(&effects).is_empty(), "{effects:?}");
    assert_eq!(plan.member_state(0), ProcessState::Running);
    assert!((1..3).all(|member| matches!(plan.exit(member).unwrap().how, How::Lost(_))));
}

/// Something that may happen.
#[derive(Clone, Debug)]
enum Step {
    Started(usize),
    Ended(usize, bool),
    Refused(usize),
    Stop(usize),
    Kill,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_usize).prop_map(Step::Started),
        4 => ((0..8_usize), any::<bool>()).prop_map(|(which, well)| Step::Ended(which, well)),
        1 => (0..8_usize).prop_map(Step::Refused),
        1 => (0..8_usize).prop_map(Step::Stop),
        1 => Just(Step::Kill),
        3 => (0..2_000_u64).prop_map(Step::Pass),
    ]
}

/// What the world does with effects, and what must hold of them.
#[derive(Default)]
struct World {
    /// Ordered and not yet started or refused; and started.
    ordered: Vec<(usize, u32)>,
    running: Vec<(usize, u32)>,
    finished: usize,
    stopped: Vec<usize>,
}

impl World {
    fn take(&mut self, effects: Vec<Effect>, at_once: usize) {
        for effect in effects {
            match effect {
                Effect::Launch { member, attempt } => {
                    assert!(!self.stopped.contains(&member), "{member} begins although it was stopped");
                    self.ordered.push((member, attempt));
                }
                Effect::Tell(GroupEvent::Finished) => self.finished += 1,
                Effect::Signal { .. } | Effect::Tell(_) => {}
            }
        }
        assert!(self.ordered.len() + self.running.len() <= at_once);
    }
}

fn pick(from: &mut Vec<(usize, u32)>, which: usize) -> Option<(usize, u32)> {
    (!from.is_empty()).then(|| from.remove(which % from.len()))
}

proptest! {
    #[test]
    fn whatever_happens_a_group_ends_once_and_never_overfills(
        members in 1..6_usize,
        at_once in 1..4_usize,
        kind in 0..3_usize,
        steps in prop::collection::vec(steps(), 0..60),
    ) {
        let restart = [Restart::Never, Restart::OnFailure { max: 2 }, Restart::Always { max: 2 }][kind];
        let (mut plan, mut time, mut world) = (plan(members, restart, at_once), now(), World::default());
        let effects = plan.start(time);
        world.take(effects, at_once);
        for step in steps {
            let effects = match step {
                Step::Started(which) => pick(&mut world.ordered, which).map(|(member, attempt)| {
                    world.running.push((member, attempt));
                    plan.started(member, attempt, 7, time)
                }),
                Step::Ended(which, well) => pick(&mut world.running, which)
                    .map(|(member, attempt)| plan.ended(member, attempt, 7, How::Code(i32::from(!well)), time)),
                Step::Refused(which) => pick(&mut world.ordered, which)
                    .map(|(member, attempt)| plan.ended(member, attempt, 0, How::NotStarted("no".into()), time)),
                Step::Stop(which) => {
                    let member = which % members;
                    world.stopped.push(member);
                    Some(plan.stop(member..member + 1, WELL, time))
                }
                Step::Kill => {
                    world.stopped.extend(0..members);
                    Some(plan.kill(0..members))
                }
                Step::Pass(milliseconds) => {
                    time += Duration::from_millis(milliseconds);
                    let effects = plan.tick(time);
                    // Else the thread that minds it would turn and turn.
                    prop_assert!(plan.deadline().is_none_or(|due| due > time));
                    Some(effects)
                }
            };
            world.take(effects.unwrap_or_default(), at_once);
        }
        // In the end everything that lives ends, and so does the group: once.
        let effects = plan.kill(0..members);
        world.stopped.extend(0..members);
        world.take(effects, at_once);
        for (member, attempt) in world.ordered.drain(..).chain(world.running.drain(..)).collect::<Vec<_>>() {
            let effects = plan.ended(member, attempt, 7, How::Signal(9), time);
            world.take(effects, at_once);
        }
        prop_assert_eq!(plan.state(), GroupState::Idle);
        prop_assert_eq!(world.finished, 1);
        prop_assert!((0..members).all(|member| plan.exit(member).is_some()));
    }
}
