//! Several ranks are one runtime: they meet, use each other's queues, and end together or say who is missing.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use common::{LONG, start, text};
use dragon::{ErrorKind, Pool, Queue, Runtime};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "meet" => meet(&dragon),
        "queues" => queues(&dragon),
        "travel" => travel(&dragon),
        "die" => die(&dragon),
        "lead" => return lead(dragon),
        other => panic!("there is no part {other}"),
    }
    let ended = dragon.finalize();
    if part == "die" {
        let error = ended.unwrap_err();
        assert!(error.kind() == ErrorKind::NodeLost && error.to_string().contains("rank 1"), "{error}");
    } else {
        ended.unwrap();
    }
}

fn nodes() -> Vec<Vec<u32>> {
    vec![vec![0, 0, 0], vec![0, 1], vec![0, 1, 0, 1]]
}

#[test]
fn ranks_know_who_they_are() {
    nodes().iter().for_each(|nodes| start("meet", nodes).ends_well());
}

fn meet(dragon: &Runtime) {
    let rank: usize = std::env::var("DRAGON_RANK").unwrap().parse().unwrap();
    assert_eq!((dragon.rank(), dragon.leader(), dragon.is_leader()), (rank, 0, rank == 0));
    assert!(dragon.size() >= 2 && dragon.local_rank() <= rank);
    assert_eq!(dragon.node().number().to_string(), std::env::var("DRAGON_NODE_ID").unwrap());
    let pool = Pool::new(1).unwrap();
    let worker = pool.submit(|()| dragon::init().map(|dragon| (dragon.rank(), dragon.size())).unwrap(), ());
    assert_eq!(worker.unwrap().get().unwrap(), (rank, dragon.size()), "a worker belongs to its rank");
}

#[test]
fn a_queue_is_found_by_its_name_and_used_from_everywhere() {
    nodes().iter().for_each(|nodes| start("queues", nodes).ends_well());
}

fn queues(dragon: &Runtime) {
    const EACH: u64 = 200;
    let others = dragon.size() as u64 - 1;
    if dragon.rank() == 0 {
        let inbox = Queue::<(usize, u64)>::builder().capacity(8).name("inbox").build().unwrap();
        let outbox = Queue::<u64>::builder().name("outbox").build().unwrap();
        let mut next = vec![0; dragon.size()];
        for _ in 0..others * EACH {
            let (rank, number) = inbox.get().unwrap();
            assert_eq!(number, next[rank], "messages of one rank keep their order");
            next[rank] += 1;
        }
        assert_eq!(inbox.try_get().unwrap_err().kind(), ErrorKind::Empty);
        outbox.put_many(0..others).unwrap();
        outbox.put_many((0..others).map(|_| 1 << 40)).unwrap();
        outbox.close();
        let taken: u64 = (0..others).map(|_| inbox.get().unwrap().1).sum();
        assert_eq!(taken, 2 * others, "each message at one of them");
        return;
    }
    let inbox = open::<(usize, u64)>("inbox");
    assert_eq!((inbox.capacity(), inbox.node().number()), (Some(8), 0));
    assert_eq!(Queue::<String>::open("inbox").unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(Queue::<String>::open("no such").unwrap_err().kind(), ErrorKind::NotFound);
    (0..EACH).for_each(|number| inbox.put((dragon.rank(), number)).unwrap());
    let outbox = open::<u64>("outbox");
    let got = outbox.iter().collect::<dragon::Result<Vec<u64>>>().unwrap();
    assert!(got.iter().all(|number| *number < others || *number == 1 << 40), "{got:?}");
    assert!(outbox.get().unwrap_err().is_closed());
    inbox.put((dragon.rank(), got.len() as u64)).unwrap();
}

/// Another rank makes it about now.
fn open<T: dragon::Message>(name: &str) -> Queue<T> {
    Queue::open_timeout(name, LONG).unwrap()
}

#[test]
fn handles_travel_between_ranks_and_into_their_workers() {
    nodes().iter().for_each(|nodes| start("travel", nodes).ends_well());
}

fn travel(dragon: &Runtime) {
    if dragon.rank() == 0 {
        let calls = Queue::<(Vec<u8>, Queue<Vec<u8>>)>::builder().capacity(4).name("calls").build().unwrap();
        for _ in 1..dragon.size() {
            let (mut bytes, back) = calls.get().unwrap();
            bytes.reverse();
            back.put(bytes).unwrap();
        }
        return;
    }
    let calls = open::<(Vec<u8>, Queue<Vec<u8>>)>("calls");
    let back = Queue::bounded(1).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|x| (x % 251) as u8).collect();
    // From a worker of this rank, which talks to the other node by way of it.
    let pool = Pool::new(1).unwrap();
    type Argument = (Queue<(Vec<u8>, Queue<Vec<u8>>)>, Queue<Vec<u8>>, Vec<u8>);
    let task = pool.submit(
        |(calls, back, bytes): Argument| calls.put((bytes, back)).unwrap(),
        (calls, back.clone(), bytes.clone()),
    );
    task.unwrap().get().unwrap();
    let got = back.get().unwrap();
    assert!(got.len() == bytes.len() && got.iter().eq(bytes.iter().rev()));
}

#[test]
fn a_rank_that_dies_is_named_at_the_end_of_the_others() {
    for nodes in [[0, 0, 0], [0, 1, 0], [0, 1, 1]] {
        let outputs = start("die", &nodes).outputs();
        assert!(!outputs[1].status.success());
        assert!(
            outputs[0].status.success() && outputs[2].status.success(),
            "{}\n{}",
            text(&outputs[0]),
            text(&outputs[2])
        );
    }
}

fn die(dragon: &Runtime) {
    let events = dragon.events();
    if dragon.rank() == 1 {
        open::<()>("go").get().unwrap();
        std::process::abort();
    }
    if dragon.rank() == 0 {
        let go = Queue::<()>::builder().capacity(1).name("go").build().unwrap();
        go.put(()).unwrap();
        let event = events.next_timeout(LONG).expect("the leader hears of it");
        assert!(format!("{event:?}").contains("Lost"), "{event:?}");
    }
}

#[test]
fn run_lets_the_leader_work_and_the_others_wait() {
    nodes().iter().for_each(|nodes| start("lead", nodes).ends_well());
}

fn lead(dragon: Runtime) {
    let rank = dragon.rank();
    let value = dragon::run(|dragon| Ok(dragon.size())).unwrap();
    assert_eq!(value.is_some(), rank == 0);
    drop(dragon);
}
