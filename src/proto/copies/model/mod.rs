//! All that can happen to small worlds of copies: places and messages, clients that write and read, deaths, a cable that is cut.
//!
//! Whatever somebody was told, as the answer to a write or as a value read, is in all that is told to whoever asks later. Without
//! one of the rules that is not so, which is found out as well. Unoptimised the worlds are smaller: it is slow there.

mod explore;
mod world;

use super::{Need, Ring, Standing, Verdict};
use explore::explore;
use world::{Flaw, World};

/// What a client calls, one after the other: `w`rites and `r`eads.
type Calls<'c> = &'c [&'c [u8]];

const SLOW: bool = cfg!(debug_assertions);

fn world(replicas: usize, calls: Calls<'_>, deaths: usize) -> World {
    World::new(Ring { places: 3, managers: 1, replicas }, calls, deaths)
}

/// Goes through a world.
fn goes_well(world: &World) {
    match explore(world) {
        Ok(states) => assert!(states > 100, "{states} states: nothing happens in it"),
        Err(path) => panic!("{path}"),
    }
}

/// Whether the same rules without one of them are found out.
fn is_found(world: World, flaw: Flaw) {
    let path = explore(&world.with(flaw)).expect_err("it makes a difference");
    assert!(path.contains("is told"), "{flaw:?}: {path}");
}

#[test]
fn with_one_replica_a_death_takes_nothing_back() {
    goes_well(&world(1, if SLOW { &[b"w", b"r"] } else { &[b"w", b"wr"] }, 1));
}

#[test]
fn with_one_replica_a_second_death_takes_nothing_back_once_the_copy_is_full() {
    goes_well(&world(1, if SLOW { &[b"r"] } else { &[b"w", b"r"] }, 2));
}

#[test]
fn with_two_replicas_two_deaths_take_nothing_back() {
    goes_well(&world(2, if SLOW { &[b"r"] } else { &[b"w", b"r"] }, 2));
}

#[test]
fn a_place_that_is_cut_off_answers_no_write_that_others_do_not_know() {
    goes_well(&world(1, if SLOW { &[b"w"] } else { &[b"w", b"r"] }, 0).with_a_cut());
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes if unoptimised: `tests/run.sh model`")]
fn a_write_that_is_answered_before_others_have_it_is_found_out() {
    is_found(world(1, &[b"w", b"r"], 1), Flaw::AnswerFirst);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes if unoptimised: `tests/run.sh model`")]
fn what_a_deposed_place_said_and_is_done_late_is_found_out() {
    is_found(world(1, &[b"w", b"wr"], 1), Flaw::LateFollowers);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes if unoptimised: `tests/run.sh model`")]
fn a_copy_that_is_filled_beside_older_writes_is_found_out() {
    is_found(world(1, &[b"w", b"r"], 2), Flaw::UnsettledFill);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes if unoptimised: `tests/run.sh model`")]
fn one_that_takes_over_and_shows_what_those_behind_it_lack_is_found_out() {
    is_found(world(2, &[b"w", b"rr"], 2), Flaw::NextFirst);
}
