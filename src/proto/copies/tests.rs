//! Decisions one by one.

use super::{Need, Refusal, Ring, Standing, Verdict};

fn ring(places: usize, replicas: usize) -> Ring {
    Ring { places, managers: 1, replicas }
}

#[test]
fn a_place_acts_when_all_before_it_are_lost_and_all_others_know() {
    let mut second = Standing::new(ring(3, 1), 1);
    assert!(second.acts(1) && !second.acts(0));
    assert_eq!(second.need(0), Ok(Need::Agree(0)));
    assert_eq!(second.judge(0, &[0, 1, 2], &[2], 1), Verdict::Reachable);
    assert_eq!(second.judge(0, &[0, 1, 2], &[1, 2], 1), Verdict::Lost);
    assert_eq!(second.need(0), Ok(Need::Tell(2)));
    second.told(2, 0);
    assert_eq!(second.need(0), Ok(Need::Tell(2)), "it was told of another set");
    second.told(2, 1);
    assert!(second.acts(0) && second.acts(1));
    assert_eq!(second.to_fill(), [(0, 2)]);
    assert!(second.order().eq([0, 2]));
    // The third has no full copy of it yet.
    let mut third = Standing::new(ring(3, 1), 2);
    third.adopt(1, 1).unwrap();
    assert_eq!(third.judge(1, &[1, 2], &[2], 2), Verdict::Alone, "half, without the lowest");
    assert_eq!(third.need(0), Err(Refusal::Alone));
    let mut third = Standing::new(ring(3, 1), 2);
    third.adopt(1, 1).unwrap();
    assert_eq!(third.judge(1, &[1, 2, 3], &[2, 3], 2), Verdict::Lost);
    assert_eq!(third.need(0), Err(Refusal::Gone));
}

#[test]
fn a_lost_place_is_refused_and_learns_of_it() {
    let mut second = Standing::new(ring(3, 1), 1);
    assert_eq!(second.judge(0, &[0, 1, 2], &[1, 2], 1), Verdict::Lost);
    assert_eq!(second.adopt(0, 0), Err(Refusal::Deposed));
    let mut first = Standing::new(ring(3, 1), 0);
    assert_eq!(first.adopt(1, 1), Err(Refusal::Alone));
    assert!(first.is_alone() && !first.acts(0));
}
