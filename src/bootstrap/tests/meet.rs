//! Ranks that the test starts itself, meeting in every way that needs no launcher.

use std::{net::TcpListener, time::Duration};

use super::crew::{Crew, Outcome, Report, agreeing};

const SOON: Duration = Duration::from_secs(40);

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// So many ranks, each with the variables that `of` gives it.
fn run(size: u32, of: impl Fn(u32) -> Vec<(&'static str, String)>) -> Vec<Outcome> {
    let mut crew = Crew::new();
    for rank in 0..size {
        let variables = of(rank);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        crew.start(&variables);
    }
    crew.reports(SOON)
}

fn on_one_node(reports: &[Report]) {
    assert!(reports.iter().all(|report| report.nodes.iter().all(|node| *node == 0)));
}

#[test]
fn alone() {
    let reports = agreeing(run(1, |_| vec![]), 1);
    assert_eq!(reports[0].launcher, "single");
}

#[test]
fn at_a_port() {
    let place = format!("127.0.0.1:{}", free_port());
    let reports = agreeing(
        run(4, |rank| {
            vec![("DRAGON_RENDEZVOUS", place.clone()), ("DRAGON_SIZE", "4".into()), ("DRAGON_RANK", rank.to_string())]
        }),
        4,
    );
    on_one_node(&reports);
}

#[test]
fn at_a_port_in_the_order_of_arrival() {
    let place = format!("localhost:{}", free_port());
    let reports = agreeing(run(5, |_| vec![("DRAGON_RENDEZVOUS", place.clone()), ("DRAGON_SIZE", "5".into())]), 5);
    on_one_node(&reports);
}

#[test]
fn by_the_variables_of_torchrun() {
    let port = free_port().to_string();
    let of = |rank: u32| {
        vec![
            ("RANK", rank.to_string()),
            ("WORLD_SIZE", "3".into()),
            ("LOCAL_RANK", rank.to_string()),
            ("MASTER_ADDR", "127.0.0.1".into()),
            ("MASTER_PORT", port.clone()),
        ]
    };
    let reports = agreeing(run(3, of), 3);
    on_one_node(&reports);
    assert_eq!(reports[0].launcher, "env");
}

#[test]
fn in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("file:{}/new", folder.path().display());
    let of = |rank: u32| {
        vec![("DRAGON_RENDEZVOUS", place.clone()), ("DRAGON_SIZE", "4".into()), ("DRAGON_RANK", rank.to_string())]
    };
    on_one_node(&agreeing(run(4, of), 4));
    assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_variable_splits_a_machine_into_nodes() {
    let place = format!("127.0.0.1:{}", free_port());
    let of = |rank: u32| {
        vec![
            ("DRAGON_RENDEZVOUS", place.clone()),
            ("DRAGON_SIZE", "5".into()),
            ("DRAGON_RANK", rank.to_string()),
            ("DRAGON_NODE_ID", ["a", "b"][rank as usize % 2].into()),
        ]
    };
    let reports = agreeing(run(5, of), 5);
    assert_eq!(reports[0].nodes, [0, 1, 0, 1, 0]);
}
