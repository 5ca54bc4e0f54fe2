//! Which ranks share a node, in PMI's words; and which protocol programs are given.

use proptest::{collection::vec, prelude::*};

use super::super::Team;
use super::super::choose::{Speaks, by_look};
use crate::sys::elf::Program;

fn mapping(nodes: &[u32]) -> String {
    Team::new("x".into(), nodes).mapping().unwrap()
}

#[test]
fn mappings_are_as_short_as_launchers_write_them() {
    assert_eq!(mapping(&[0, 0, 0, 0]), "(vector,(0,1,4))");
    assert_eq!(mapping(&[3, 3, 5, 5]), "(vector,(0,2,2))", "numbers of the job are places of the team");
    assert_eq!(mapping(&[0, 1, 2, 0, 1, 2, 0]), "(vector,(0,3,1))");
    assert_eq!(mapping(&[0, 0, 1, 1, 2]), "(vector,(0,2,2),(2,1,1))");
    assert_eq!(mapping(&[0, 0, 1]), "(vector,(0,1,2),(1,1,1))");
    assert_eq!(mapping(&[0, 1, 1]), "(vector,(0,1,1),(1,1,2))");
    assert_eq!(mapping(&[0, 1, 2, 0, 1, 0]), "(vector,(0,3,1),(0,2,1))", "the last is the first of a repeat");
}

/// As MPICH reads it: block after block, the whole again and again.
fn read(mapping: &str, size: usize) -> Vec<u32> {
    let numbers: Vec<u32> = mapping.split(['(', ')', ',']).filter_map(|word| word.parse().ok()).collect();
    let blocks = numbers.chunks_exact(3).collect::<Vec<_>>().into_iter().cycle();
    let nodes =
        blocks.flat_map(|block| (0..block[1]).flat_map(move |node| (0..block[2]).map(move |_| block[0] + node)));
    nodes.take(size).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mapping_says_where_each_rank_is(nodes in vec(0..4u32, 1..24)) {
        let team = Team::new("x".into(), &nodes);
        let places: Vec<u32> = (0..nodes.len() as u32).map(|rank| team.place(rank).unwrap()).collect();
        prop_assert_eq!(read(&team.mapping().unwrap(), nodes.len()), places);
    }
}

#[test]
fn places_without_a_rule_are_not_told() {
    let nodes: Vec<u32> = (0..600u32).map(|rank| rank.wrapping_mul(2_654_435_761) >> 26).collect();
    assert_eq!(Team::new("x".into(), &nodes).mapping(), None);
}

#[test]
fn a_program_is_given_what_it_links_to() {
    let look = |name: &str, libraries: &[&str]| {
        let found = Program::Image(libraries.iter().map(|name| name.to_string()).collect());
        let Speaks { pmi, pmix, .. } = by_look(name, &found);
        (pmi, pmix)
    };
    assert_eq!(look("solver", &["libmpich.so.12", "libc.so.6"]), (Some(1), false), "Debian's MPICH");
    assert_eq!(look("solver", &["libmpi.so.12", "libfabric.so.1"]), (Some(1), false), "Intel MPI, MPICH 5");
    assert_eq!(look("solver", &["libmpi.so.40", "libopen-pal.so.40"]), (None, true), "Open MPI");
    assert_eq!(look("solver", &["libmpi.so.12", "libopen-pal.so.13"]), (None, true), "Open MPI 1.10");
    assert_eq!(look("solver", &["libmpi.so.40"]), (None, true), "Open MPI that is not found");
    assert_eq!(look("solver", &["libmpi_abi.so.0"]), (Some(1), true), "any MPI");
    assert_eq!(look("solver", &["libmpi_abi.so.0", "libmpich.so.12"]), (Some(1), false));
    assert_eq!(look("solver", &["libc.so.6"]), (None, false));
    assert_eq!(look("python3.11", &["libc.so.6"]), (Some(1), true));
    assert_eq!(look("bash", &["libc.so.6"]), (Some(1), true));
    let script = by_look("job", &Program::Script);
    assert!(script.pmi == Some(1) && script.pmix && script.without_pmix);
    assert_eq!(by_look("job", &Program::Unknown), Speaks::default());
}
