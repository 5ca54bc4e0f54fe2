//! Jobs on nodes that are cut off, frozen, killed and switched off.
//!
//! As root, a node is a set of namespaces (`tests/nodes.sh`) with a network of its own. Elsewhere the same program runs as
//! ranks of this machine that count as different nodes, and what needs cables is skipped, loudly.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragon::{DDict, ErrorKind, Event, Queue, Runtime};

const LONG: Duration = Duration::from_secs(90);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nodes.sh");

/// One bed at a time: there is one bridge.
fn alone() -> MutexGuard<'static, ()> {
    static BED: Mutex<()> = Mutex::new(());
    BED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn script(words: &[&str]) -> bool {
    let status = Command::new("bash").arg(SCRIPT).args(words).stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Nodes of the test, one rank on each.
struct Bed {
    nodes: usize,
    real: bool,
    ranks: Vec<Child>,
    said: Receiver<(usize, String)>,
    heard: Vec<(usize, String)>,
    /// How many of the lines heard were looked at already for what this rank says.
    asked: Vec<usize>,
    _alone: MutexGuard<'static, ()>,
}

impl Bed {
    /// Starts a rank on each of so many nodes. `None`: this needs nodes that can be cut off, and there are none.
    fn start(part: &str, nodes: usize, needs_cables: bool) -> Option<Bed> {
        let alone = alone();
        let real = script(&["up", &nodes.to_string()]);
        if !real && needs_cables {
            println!("SKIPPED: {part}: only root can make nodes that can be cut off ({SCRIPT} up)");
            return None;
        }
        let (tell, said) = channel();
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
        let ranks = (0..nodes).map(|rank| {
            let mut command = if real {
                let mut command = Command::new("bash");
                command.args([SCRIPT, "exec", &rank.to_string()]).arg(std::env::current_exe().unwrap());
                command
            } else {
                Command::new(std::env::current_exe().unwrap())
            };
            let head = if real { "10.78.0.1" } else { "127.0.0.1" };
            command
                .args(["a_rank_of_a_job", "--exact", "--nocapture"])
                .env("PART", part)
                .env("DRAGON_RENDEZVOUS", format!("{head}:{port}"))
                .env("DRAGON_RANK", rank.to_string())
                .env("DRAGON_SIZE", nodes.to_string())
                .env("DRAGON_SECRET", "a secret of this test and no other")
                .env("RUST_BACKTRACE", "0");
            if !real {
                command.env("DRAGON_NODE_ID", rank.to_string());
            }
            let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            listen(rank, child.stdout.take().unwrap(), tell.clone());
            listen(rank, child.stderr.take().unwrap(), tell.clone());
            child
        });
        let ranks = ranks.collect();
        Some(Bed { nodes, real, ranks, said, heard: Vec::new(), asked: vec![0; nodes], _alone: alone })
    }

    /// Waits until a rank says these words, in a line behind the one that it was last heard to say.
    fn hear(&mut self, rank: usize, words: &str) {
        let begun = Instant::now();
        loop {
            // It may have said so while another was listened to.
            while let Some((who, line)) = self.heard.get(self.asked[rank]) {
                self.asked[rank] += 1;
                if *who == rank && line.contains(words) {
                    return;
                }
            }
            assert!(begun.elapsed() < LONG, "rank {rank} does not say `{words}`; heard so far: {:#?}", self.heard);
            self.heard.extend(self.said.recv_timeout(Duration::from_millis(100)));
        }
    }

    fn command(&self, words: &[&str]) {
        assert!(script(words), "{words:?}");
    }

    /// How a rank ended.
    fn end_of(&mut self, rank: usize) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ranks[rank].try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > LONG {
                self.heard.extend(self.said.try_iter());
                panic!("rank {rank} hangs; heard so far: {:#?}", self.heard);
            }
            // between two looks
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ends_well(&mut self, ranks: impl IntoIterator<Item = usize>) {
        for rank in ranks {
            let status = self.end_of(rank);
            self.heard.extend(self.said.try_iter());
            assert!(status.success(), "rank {rank}: {status}; heard: {:#?}", self.heard);
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.real {
            for node in 0..self.nodes {
                script(&["thaw", &node.to_string()]);
            }
        }
        self.ranks.iter_mut().for_each(|rank| drop(rank.kill()));
        self.ranks.iter_mut().for_each(|rank| drop(rank.wait()));
        if self.real {
            script(&["down"]);
        }
    }
}

fn listen(rank: usize, from: impl std::io::Read + Send + 'static, tell: std::sync::mpsc::Sender<(usize, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = tell.send((rank, line));
        }
    });
}

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    println!("up");
    match &part[..] {
        "stream" => stream(&dragon, false),
        "stream without one" => stream(&dragon, true),
        "count up" => count_up(&dragon),
        other => panic!("there is no part {other}"),
    }
    match dragon.finalize() {
        Ok(()) => println!("ended with all"),
        Err(error) => println!("ended: {:?}: {error}", error.kind()),
    }
}

/// Every other rank puts numbers into a queue of rank 0, as fast as they are confirmed, for `ROUNDS` rounds after
/// rank 0 has seen them all at work; rank 0 looks whether each comes once and in its order.
fn stream(dragon: &Runtime, may_lose: bool) {
    const LAST: u64 = u64::MAX;
    if dragon.rank() > 0 {
        let inbox: Queue<(usize, u64)> = Queue::open_timeout("inbox", LONG).unwrap();
        let over: Queue<()> = Queue::open_timeout("over", LONG).unwrap();
        let mut number = 0;
        let begun = Instant::now();
        let outcome = loop {
            // A call is confirmed by its answer, so what is put is put once.
            if let Err(error) = inbox.put((dragon.rank(), number)) {
                break Err(error.kind());
            }
            number += 1;
            match over.is_closed() {
                true => break inbox.put((dragon.rank(), LAST)).map_err(|error| error.kind()),
                false => assert!(begun.elapsed() < LONG, "nobody says that it is over"),
            }
        };
        println!("put {number} numbers: {outcome:?}");
        assert!(outcome.is_ok() || outcome == Err(ErrorKind::NodeLost) || may_lose, "{outcome:?}");
        return;
    }
    let events = dragon.events();
    let inbox = Queue::<(usize, u64)>::builder().capacity(64).name("inbox").build().unwrap();
    let over = Queue::<()>::builder().capacity(1).name("over").build().unwrap();
    let (mut next, mut done, mut shown) = (vec![0; dragon.size()], 1, 0);
    let mut lost = Vec::new();
    let (begun, mut closing) = (Instant::now(), None);
    while done + lost.len() < dragon.size() {
        if let Ok((rank, number)) = inbox.get_timeout(Duration::from_millis(100)) {
            if number == LAST {
                done += 1;
            } else {
                assert_eq!(number, next[rank], "rank {rank}: in order, none lost, none twice");
                next[rank] += 1;
            }
        }
        let slowest = (1..dragon.size()).filter(|rank| !lost.contains(rank)).map(|rank| next[rank]).min().unwrap_or(0);
        // Told again and again, so that the test knows that things go on after what it did.
        if slowest >= shown + 100 {
            shown = slowest;
            println!("all have put {shown}");
        }
        if let Some(event) = events.try_next() {
            println!("event after {:?}: {event:?}", begun.elapsed());
            if let Event::NodeLost { node, .. } = event {
                lost.push(node.number() as usize);
            }
        }
        let told = Path::new(&std::env::var("STOP").unwrap_or_default()).exists();
        if closing.is_none() && (told || begun.elapsed() > Duration::from_secs(8)) {
            closing = Some(Instant::now());
            over.close();
        }
        assert!(closing.is_none_or(|since| since.elapsed() < LONG), "they do not end: {next:?}, lost {lost:?}");
    }
    println!("got {next:?}, lost {lost:?}");
    assert_eq!(lost.is_empty(), !may_lose, "{lost:?}");
}

#[test]
fn four_nodes_stream_into_one() {
    let mut bed = Bed::start("stream", 4, false).unwrap();
    bed.hear(0, "all have put 100");
    bed.ends_well(0..4);
}

#[test]
fn a_cable_that_is_out_for_a_second_loses_nothing() {
    let Some(mut bed) = Bed::start("stream", 3, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["cut", "1"]);
    // The length of the fault is what is tested.
    std::thread::sleep(Duration::from_secs(1));
    bed.command(&["heal", "1"]);
    bed.hear(0, "all have put");
    bed.ends_well(0..3);
}

#[test]
fn packets_lost_in_one_direction_for_a_second_lose_nothing() {
    let Some(mut bed) = Bed::start("stream", 2, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["deaf", "1", "0"]);
    // The length of the fault is what is tested.
    std::thread::sleep(Duration::from_secs(1));
    bed.command(&["hear", "1", "0"]);
    bed.hear(0, "all have put");
    bed.ends_well(0..2);
}

#[test]
fn a_node_that_stands_still_for_a_moment_is_no_loss() {
    let Some(mut bed) = Bed::start("stream", 3, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["freeze", "2"]);
    // The length of the fault is what is tested.
    std::thread::sleep(Duration::from_millis(700));
    bed.command(&["thaw", "2"]);
    bed.hear(0, "all have put");
    bed.ends_well(0..3);
}

#[test]
fn a_cable_that_stays_out_is_an_event_and_an_error_on_both_sides() {
    let Some(mut bed) = Bed::start("stream without one", 3, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["cut", "1"]);
    bed.hear(0, "NodeLost");
    bed.hear(1, "NodeLost");
    bed.ends_well([0, 2]);
    bed.end_of(1);
}

#[test]
fn one_direction_that_stays_out_is_an_event_and_an_error_on_both_sides() {
    let Some(mut bed) = Bed::start("stream without one", 3, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["deaf", "1", "0"]);
    bed.hear(0, "NodeLost");
    bed.hear(1, "NodeLost");
    bed.ends_well([0, 2]);
    bed.end_of(1);
}

#[test]
fn a_node_that_crashes_is_lost_and_the_others_go_on() {
    let Some(mut bed) = Bed::start("stream without one", 3, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["crash", "2"]);
    bed.hear(0, "NodeLost");
    bed.ends_well([0, 1]);
}

#[test]
fn a_node_that_is_switched_off_is_lost_and_the_others_go_on() {
    let Some(mut bed) = Bed::start("stream without one", 3, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["off", "2"]);
    bed.hear(0, "NodeLost");
    bed.ends_well([0, 1]);
}

#[test]
fn a_frozen_node_that_wakes_after_it_was_given_up_is_told_so() {
    let Some(mut bed) = Bed::start("stream without one", 3, true) else { return };
    bed.hear(0, "all have put 100");
    bed.command(&["freeze", "1"]);
    bed.hear(0, "NodeLost");
    bed.command(&["thaw", "1"]);
    bed.hear(1, "NodeLost");
    bed.ends_well([0, 2]);
    bed.end_of(1);
}

/// Every rank counts up keys of its own in a dictionary with replicas, says so after each round of which all was put, and goes
/// on for a while after a node was lost. In the end rank 0 says what it finds.
fn count_up(dragon: &Runtime) {
    const KEYS: u64 = 16;
    let dict = match dragon.rank() {
        0 => DDict::<u64, Vec<u64>>::builder().memory_per_node(16 << 20).replicas(1).name("counts").build().unwrap(),
        _ => {
            Queue::<()>::open_timeout("made", LONG).unwrap();
            DDict::open("counts").unwrap()
        }
    };
    let _made = (dragon.rank() == 0).then(|| Queue::<()>::builder().name("made").build().unwrap());
    let (events, begun) = (dragon.events(), Instant::now());
    let (mut last, mut since_loss, mut refused) = ([0; KEYS as usize], 0, 0);
    for n in 1.. {
        let mut all = true;
        for key in 0..KEYS {
            let mine = 100 * dragon.rank() as u64 + key;
            match dict.put(&mine, &vec![n; 64]) {
                Ok(()) => last[key as usize] = n,
                Err(error) => {
                    assert!(error.is_lost(), "{error}");
                    (all, refused) = (false, refused + 1);
                }
            }
            match dict.get(&mine) {
                Ok(got) => {
                    assert!(got.iter().all(|word| *word == got[0]), "torn: {got:?}");
                    assert!(got[0] >= last[key as usize], "{} after {}", got[0], last[key as usize]);
                }
                Err(error) => assert!(error.is_lost() || last[key as usize] == 0, "{error}"),
            }
        }
        if all {
            println!("counted {n}");
        }
        if let Some(Event::NodeLost { node, .. }) = events.try_next() {
            println!("NodeLost {node}");
            since_loss = since_loss.max(1);
        }
        since_loss += u64::from(since_loss > 0);
        if since_loss > 60 {
            break;
        }
        assert!(begun.elapsed() < LONG, "no node is lost");
    }
    println!("refused {refused}");
    for rank in (0..dragon.size() as u64).filter(|_| dragon.rank() == 0) {
        let found = (0..KEYS).map(|key| dict.get(&(100 * rank + key)).unwrap()[0]).min();
        println!("found {rank} {}", found.unwrap());
    }
}

/// What a rank has put at least, and rank 0 must have found.
fn nothing_is_lost(bed: &mut Bed, rank: usize) {
    bed.heard.extend(bed.said.try_iter());
    let number = |line: &String, before: &str| line.strip_prefix(before)?.parse::<u64>().ok();
    let counted =
        bed.heard.iter().filter(|(who, _)| *who == rank).filter_map(|(_, line)| number(line, "counted ")).max();
    let found = bed.heard.iter().find_map(|(_, line)| number(line, &format!("found {rank} ")));
    assert!(counted.is_some() && found >= counted, "counted {counted:?}, found {found:?}: {:#?}", bed.heard);
}

#[test]
fn a_dictionary_with_replicas_outlives_a_node_that_crashes() {
    let Some(mut bed) = Bed::start("count up", 3, true) else { return };
    bed.hear(1, "counted 20");
    bed.command(&["crash", "1"]);
    bed.ends_well([0, 2]);
    nothing_is_lost(&mut bed, 1);
}

#[test]
fn a_dictionary_with_replicas_goes_on_without_a_node_that_is_cut_off_and_that_refuses() {
    let Some(mut bed) = Bed::start("count up", 3, true) else { return };
    bed.hear(2, "counted 20");
    bed.command(&["cut", "1"]);
    bed.ends_well([0, 2]);
    bed.end_of(1);
    nothing_is_lost(&mut bed, 1);
    let refused = bed.heard.iter().filter(|(rank, line)| *rank == 1 && line.starts_with("refused "));
    assert!(refused.into_iter().all(|(_, line)| line != "refused 0"), "{:#?}", bed.heard);
}
