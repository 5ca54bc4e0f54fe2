//! MPI programs whose ranks are on several nodes of a job: each node serves its own, and they meet over the mesh.
//!
//! The nodes are ranks of this machine that differ in `DRAGON_NODE_ID`.

mod common;
#[path = "mpi/programs.rs"]
mod programs;

use std::io::Read;
use std::time::Duration;

use common::start;
use dragon::{Exit, Pmi, Policy, Process, ProcessGroup, Runtime, Stdio, Template};
use programs::{Library, installed};

const LONG: Duration = Duration::from_secs(40);

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    // One rank makes the groups, of processes on all nodes.
    if dragon.rank() == 0 {
        match &part[..] {
            "hello" => hello(&dragon),
            "fetch" => fetch(&dragon),
            "side by side" => side_by_side(&dragon),
            "abort" => abort(&dragon),
            other => panic!("there is no part {other}"),
        }
    }
    dragon.finalize().unwrap();
}

fn nodes(dragon: &Runtime) -> Vec<dragon::NodeId> {
    dragon.nodes()
}

/// A group with so many ranks on each node, node after node, or in turn.
fn group(dragon: &Runtime, template: &Template, each: usize, in_turn: bool) -> ProcessGroup {
    let mut group = ProcessGroup::builder().pmi(Pmi::Auto).build().unwrap();
    let nodes = nodes(dragon);
    let (rounds, at_once) = if in_turn { (each, 1) } else { (1, each) };
    for _ in 0..rounds {
        for node in &nodes {
            let template = template.clone().stdout(Stdio::Pipe).policy(Policy::new().node(*node));
            group.add(at_once, template).unwrap();
        }
    }
    group.start().unwrap();
    group
}

fn ends(group: &ProcessGroup, what: &str) -> Vec<Exit> {
    group.join_timeout(LONG).unwrap_or_else(|error| {
        drop(group.kill());
        panic!("{what}: {error} ({:?})", group.broken())
    })
}

fn is_right(group: &ProcessGroup, library: &Library, each: usize) {
    let exits = ends(group, library.name);
    let text = |process: Process| {
        let mut text = String::new();
        process.stdout().unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let said: Vec<String> = group.processes().into_iter().map(text).collect();
    assert!(exits.iter().all(Exit::success), "{}: {exits:?}, {:?}, {said:#?}", library.name, group.broken());
    let ranks = group.len();
    for (rank, said) in said.iter().enumerate() {
        assert!(
            said.contains(&format!("rank {rank} of {ranks}")) && said.contains("right"),
            "{}: {said}",
            library.name
        );
        assert!(said.contains(&format!("of {each} on its node")), "{}: {said}", library.name);
    }
}

#[test]
fn ranks_of_one_program_are_on_several_nodes() {
    if !installed().is_empty() {
        start("hello", &[0, 1]).ends_well();
    }
}

fn hello(dragon: &Runtime) {
    for library in installed() {
        for in_turn in [false, true] {
            is_right(&group(dragon, &library.hello(), 2, in_turn), library, 2);
        }
    }
}

/// Open MPI can leave out what ranks tell each other at the start, and ask one by one when it sends the first message: then
/// what a rank has left is fetched from its node.
#[test]
fn what_a_rank_has_left_is_fetched_from_its_node() {
    if installed().iter().any(|library| library.is_open_mpi) {
        start("fetch", &[0, 1]).ends_well();
    }
}

fn fetch(dragon: &Runtime) {
    for library in installed().iter().filter(|library| library.is_open_mpi) {
        let lazy =
            library.hello().env("OMPI_MCA_pmix_base_collect_data", "0").env("OMPI_MCA_pmix_base_async_modex", "1");
        is_right(&group(dragon, &lazy, 2, false), library, 2);
    }
}

#[test]
fn groups_on_several_nodes_run_side_by_side() {
    if !installed().is_empty() {
        start("side by side", &[0, 1, 2]).ends_well();
    }
}

fn side_by_side(dragon: &Runtime) {
    let groups: Vec<_> = installed()
        .iter()
        .flat_map(|library| [library; 2])
        .map(|library| (library, group(dragon, &library.hello(), 1, false)))
        .collect();
    groups.iter().for_each(|(library, group)| is_right(group, library, 1));
}

#[test]
fn abort_on_one_node_ends_the_ranks_on_all() {
    if !installed().is_empty() {
        start("abort", &[0, 1]).ends_well();
    }
}

fn abort(dragon: &Runtime) {
    for library in installed() {
        for (how, code, signal) in [("abort", Some(7), None), ("exit", Some(9), None), ("kill", None, Some(9))] {
            // Rank 1 is on the node that is not the group's owner's.
            let group = group(dragon, &library.hello().args([how]), 1, false);
            let exits = ends(&group, how);
            assert_eq!((exits[1].code(), exits[1].signal()), (code, signal), "{}, {how}: {exits:?}", library.name);
            assert!(!exits[0].success() && group.broken().is_some(), "{}, {how}: {exits:?}", library.name);
        }
    }
}
