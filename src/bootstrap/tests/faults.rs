//! What goes wrong when ranks meet: each rank ends with an error that says what, and nobody hangs.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use super::crew::{Crew, FAULT, Outcome, agreeing};
use crate::time;

/// Longer than any start may take here.
const LIMIT: Duration = Duration::from_secs(15);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Ranks at a port; those of `skip` do not come, and `also` may change variables of a rank.
struct Start {
    port: u16,
    size: u32,
    patience: &'static str,
}

impl Start {
    fn new(size: u32, patience: &'static str) -> Start {
        Start { port: free_port(), size, patience }
    }

    fn rank(&self, crew: &mut Crew, rank: u32, also: &[(&str, &str)]) {
        let (place, rank, size) = (format!("127.0.0.1:{}", self.port), rank.to_string(), self.size.to_string());
        let own = [("DRAGON_RENDEZVOUS", place.as_str()), ("DRAGON_RANK", &rank), ("DRAGON_SIZE", &size)];
        let all: Vec<_> =
            own.into_iter().chain([("DRAGON_START_TIMEOUT", self.patience)]).chain(also.iter().copied()).collect();
        crew.start(&all);
    }
}

/// So many ranks failed, all of them in time; what they said.
fn failures(mut crew: Crew, count: usize) -> Vec<String> {
    let begin = time::now();
    let outcomes: Vec<Outcome> = crew.reports(LIMIT);
    assert!(begin.elapsed() < LIMIT, "somebody hung");
    assert_eq!(outcomes.len(), count);
    outcomes.into_iter().map(|outcome| outcome.expect_err("it cannot have gone well")).collect()
}

fn all_say(said: &[String], words: &[&str]) {
    for said in said {
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} are not all in: {said}");
    }
}

#[test]
fn missing_ranks_are_named_on_every_rank() {
    let (start, mut crew) = (Start::new(4, "1"), Crew::new());
    [0, 2].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
    all_say(&failures(crew, 2), &["timeout: 2 of 4 processes came", "missing ranks 1,3", "DRAGON_START_TIMEOUT"]);
}

#[test]
fn without_rank_0_the_others_say_where_they_looked() {
    let (start, mut crew) = (Start::new(3, "1"), Crew::new());
    start.rank(&mut crew, 2, &[]);
    let port = start.port.to_string();
    all_say(
        &failures(crew, 1),
        &["rank 2 of 3 did not find rank 0", "127.0.0.1", &port, "refused", "DRAGON_RENDEZVOUS"],
    );
}

#[test]
fn a_rank_that_comes_twice_ends_it_for_all() {
    let (start, mut crew) = (Start::new(3, "10"), Crew::new());
    [0, 1, 1].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
    all_say(&failures(crew, 3), &["two processes are the same rank: rank 1 (host"]);
}

#[test]
fn who_comes_when_it_is_over_is_told_why() {
    let (start, mut crew) = (Start::new(4, "10"), Crew::new());
    [0, 1].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
    start.rank(&mut crew, 1, &[]);
    crew.until_one_has_ended();
    [2, 3].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
    all_say(&failures(crew, 5), &["two processes are the same rank: rank 1 (host"]);
}

#[test]
fn other_ideas_of_how_many_there_are_end_it_for_all() {
    let (start, mut crew) = (Start::new(3, "10"), Crew::new());
    start.rank(&mut crew, 0, &[]);
    start.rank(&mut crew, 1, &[("DRAGON_SIZE", "4")]);
    all_say(&failures(crew, 2), &["rank 1 (host", "there are 4 ranks", "that there are 3"]);
}

#[test]
fn two_builds_in_one_job_end_it_for_all() {
    let (start, mut crew) = (Start::new(3, "10"), Crew::new());
    start.rank(&mut crew, 0, &[]);
    start.rank(&mut crew, 2, &[(FAULT, "build")]);
    all_say(&failures(crew, 2), &["rank 2 (host", "another build"]);
}

#[test]
fn a_wrong_secret_is_said_at_once_where_it_is_wrong() {
    let (start, mut crew) = (Start::new(2, "2"), Crew::new());
    start.rank(&mut crew, 0, &[("DRAGON_SECRET", "0123456789abcdef0")]);
    start.rank(&mut crew, 1, &[("DRAGON_SECRET", "0123456789abcdef1")]);
    let said = failures(crew, 2);
    let refused = said.iter().find(|said| said.contains("refused")).unwrap();
    all_say(std::slice::from_ref(refused), &["rank 1 was refused at 127.0.0.1", "another secret", "DRAGON_SECRET"]);
    let waited = said.iter().find(|said| said.contains("timeout")).unwrap();
    all_say(std::slice::from_ref(waited), &["missing rank 1", "1 that called did not know the secret"]);
}

#[test]
fn without_any_secret_it_says_how_to_give_one() {
    let (start, mut crew) = (Start::new(2, "5"), Crew::new());
    [0, 1].iter().for_each(|rank| start.rank(&mut crew, *rank, &[("HOME", "/proc/nowhere")]));
    all_say(&failures(crew, 2), &["DRAGON_SECRET"]);
}

#[test]
fn the_port_is_somebody_elses() {
    let (start, mut crew) = (Start::new(2, "1"), Crew::new());
    let taken = TcpListener::bind(("127.0.0.1", start.port)).unwrap();
    [0, 1].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
    let said = failures(crew, 2);
    let port = start.port.to_string();
    all_say(&said, &["127.0.0.1", &port]);
    assert!(said.iter().any(|said| said.contains("listen on")));
    drop(taken);
}

#[test]
fn a_rank_that_dies_ends_it_for_all() {
    let (start, mut crew) = (Start::new(3, "10"), Crew::new());
    [0, 1].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
    start.rank(&mut crew, 2, &[(FAULT, "die")]);
    all_say(&failures(crew, 2), &["rank 2 ended, or its connection did"]);
    let (start, mut crew) = (Start::new(3, "10"), Crew::new());
    [1, 2].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
    start.rank(&mut crew, 0, &[(FAULT, "die")]);
    all_say(&failures(crew, 2), &["rank 0 ended, or the connection to it did"]);
}

#[test]
fn what_a_head_cannot_do_is_told_to_all() {
    for (fault, word) in [("make", "rank 0: there is no memory"), ("admit", "the house is full")] {
        let (start, mut crew) = (Start::new(3, "10"), Crew::new());
        start.rank(&mut crew, 0, &[(FAULT, fault)]);
        [1, 2].iter().for_each(|rank| start.rank(&mut crew, *rank, &[]));
        all_say(&failures(crew, 3), &[word]);
    }
}

/// Calls until somebody answers.
fn dial(port: u16) -> TcpStream {
    loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            return stream;
        }
        std::thread::yield_now();
    }
}

#[test]
fn strangers_at_the_port_do_no_harm() {
    let (start, mut crew) = (Start::new(3, "10"), Crew::new());
    start.rank(&mut crew, 0, &[]);
    start.rank(&mut crew, 1, &[]);
    // One says nothing, one byte comes and no more, and many say anything and stay or go.
    let silent = dial(start.port);
    let mut slow = dial(start.port);
    slow.write_all(b"D").unwrap();
    let mut crowd: Vec<TcpStream> = (0..400).map(|_| dial(start.port)).collect();
    for (at, stranger) in crowd.iter_mut().enumerate() {
        let _ = stranger.write_all(&vec![at as u8; 1 + at * 7]);
        let _ = stranger.write_all(b"GET / HTTP/1.1\r\n\r\n");
    }
    crowd.truncate(200);
    start.rank(&mut crew, 2, &[]);
    agreeing(crew.reports(LIMIT), 3);
    drop((silent, slow, crowd));
}

#[test]
fn the_hub_of_another_job_is_told_nothing() {
    let (start, mut crew) = (Start::new(3, "10"), Crew::new());
    start.rank(&mut crew, 0, &[]);
    // Between this rank and rank 0 sits somebody who passes on what they say, and they name different jobs.
    let middle = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = middle.local_addr().unwrap().to_string();
    start.rank(&mut crew, 1, &[("DRAGON_RENDEZVOUS", &place), ("DRAGON_JOB_ID", "another")]);
    let (mut rank, mut hub) = (middle.accept().unwrap().0, dial(start.port));
    let mut greeting = [0; 48];
    hub.read_exact(&mut greeting).unwrap();
    rank.write_all(&greeting).unwrap();
    assert_eq!(rank.read(&mut [0; 72]).unwrap(), 0, "it hangs up without a word");
}
