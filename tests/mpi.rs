//! Unmodified MPI programs run as process groups, without any `mpiexec`.
//!
//! They are built here with the compilers of the MPI libraries that are installed; what is not is skipped, loudly.

#[path = "mpi/programs.rs"]
mod programs;

use std::time::Duration;

use dragon::{Exit, Pmi, ProcessGroup, Stdio, Template};
use programs::{Library, installed};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(60);

/// A group of so many ranks of the program, under way.
fn start(template: Template, ranks: usize, pmi: Pmi) -> ProcessGroup {
    let mut group = ProcessGroup::builder().pmi(pmi).build().unwrap();
    group.add(ranks, template.stdout(Stdio::Pipe)).unwrap();
    group.start().unwrap();
    group
}

/// How its processes ended.
fn ends(group: &ProcessGroup, what: &str) -> Vec<Exit> {
    group.join_timeout(LONG).unwrap_or_else(|error| {
        let broken = group.broken();
        drop(group.kill());
        panic!("{what}: {error} ({broken:?}); heard: {:#?}", said(group))
    })
}

/// What its processes said, sorted.
fn said(group: &ProcessGroup) -> Vec<String> {
    let text = |process: dragon::Process| {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut process.stdout().unwrap(), &mut text).unwrap();
        text
    };
    let mut lines: Vec<String> = group
        .processes()
        .into_iter()
        .map(text)
        .flat_map(|text| text.lines().map(String::from).collect::<Vec<_>>())
        .collect();
    lines.sort();
    lines
}

/// Each rank has said that all was right, and ended well.
fn is_right(group: &ProcessGroup, ranks: usize, library: &Library) {
    let exits = ends(group, library.name);
    let said = said(group);
    assert!(exits.iter().all(Exit::success), "{}: {exits:?}, {:?}, {said:#?}", library.name, group.broken());
    for rank in 0..ranks {
        let line = format!("rank {rank} of {ranks}, {rank} of {ranks} on its node: right");
        assert!(said.iter().any(|said| said.starts_with(&line)), "{}: no {line:?} in {said:#?}", library.name);
    }
    assert_eq!(group.broken(), None);
}

#[test]
fn programs_of_every_library_run_as_groups() {
    let _dragon = dragon::init().unwrap();
    for library in installed() {
        for ranks in [1, 4] {
            is_right(&start(library.hello(), ranks, Pmi::Auto), ranks, library);
        }
    }
}

#[test]
fn groups_of_all_libraries_run_side_by_side() {
    let _dragon = dragon::init().unwrap();
    let groups: Vec<_> = installed()
        .iter()
        .flat_map(|library| [library; 2])
        .map(|library| (library, start(library.hello(), 3, Pmi::Auto)))
        .collect();
    groups.iter().for_each(|(library, group)| is_right(group, 3, library));
}

#[test]
fn the_protocol_may_be_named() {
    let _dragon = dragon::init().unwrap();
    for library in installed() {
        let named: &[Pmi] = if library.is_open_mpi { &[Pmi::Pmix] } else { &[Pmi::Pmi1] };
        named.iter().for_each(|pmi| is_right(&start(library.hello(), 2, *pmi), 2, library));
    }
}

#[test]
fn a_program_behind_a_script_is_served_whatever_it_links_to() {
    let _dragon = dragon::init().unwrap();
    for library in installed() {
        let script = Template::program("/bin/sh").args(["-c", "exec \"$0\""]).args([library.program()]);
        is_right(&start(library.with_paths(script), 2, Pmi::Auto), 2, library);
    }
}

#[test]
fn abort_and_bad_ends_end_the_group_with_the_right_codes() {
    let _dragon = dragon::init().unwrap();
    for library in installed() {
        for (how, code, signal, why) in [
            ("abort", Some(7), None, "rank 1 called MPI_Abort with code 7"),
            ("exit", Some(9), None, "1 "),
            ("kill", None, Some(9), "1 "),
            ("leave", Some(0), None, "rank 1 left without MPI_Finalize"),
        ] {
            if library.is_open_mpi && how == "leave" {
                continue; // Open MPI's ranks hear of it from PMIx themselves and end with an error, or wait for ever.
            }
            let group = start(library.hello().args([how]), 3, Pmi::Auto);
            let exits = ends(&group, &format!("{}, {how}", library.name));
            assert_eq!((exits[1].code(), exits[1].signal()), (code, signal), "{}, {how}: {exits:?}", library.name);
            assert!(!exits[0].success() && !exits[2].success(), "{}, {how}: {exits:?}", library.name);
            let broken = group.broken().unwrap();
            assert!(broken.contains(why), "{}, {how}: {broken}", library.name);
        }
    }
}

#[test]
fn a_program_without_mpi_is_no_rank() {
    let _dragon = dragon::init().unwrap();
    let env = Template::program("/usr/bin/env").env("MARK", "here");
    let group = start(Template::program("/usr/bin/printenv").env("MARK", "here"), 2, Pmi::Auto);
    assert!(ends(&group, "printenv").iter().all(Exit::success));
    let lines = said(&group);
    assert_eq!(lines.iter().filter(|line| *line == "MARK=here").count(), 2);
    assert!(!lines.iter().any(|line| line.starts_with("PMI") || line.starts_with("OMPI_")), "{lines:#?}");
    // One that runs others may run an MPI program.
    let group = start(env, 2, Pmi::Auto);
    ends(&group, "env");
    assert!(said(&group).iter().any(|line| line == "PMI_RANK=1"));
}

#[test]
fn ranks_cannot_begin_one_by_one_or_again() {
    let _dragon = dragon::init().unwrap();
    let mut group = ProcessGroup::builder().pmi(Pmi::Pmi1).at_once(1).build().unwrap();
    group.add(2, Template::program("/bin/true")).unwrap();
    let error = group.start().unwrap_err();
    assert!(error.to_string().contains("at_once"), "{error}");
}
