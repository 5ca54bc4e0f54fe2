//! Processes on other nodes of a job: started there, heard here, and gone when they should be.
//!
//! Each test starts a job (`common`) whose ranks run the part that is named.

mod common;

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{LONG, start};
use dragon::{
    ErrorKind, Exit, NodeId, Policy, Process, ProcessGroup, Queue, Restart, Runtime, Signal, Stdio, Template,
};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    let leads = dragon.rank() == 0;
    match &part[..] {
        "programs" if leads => programs(&dragon),
        "functions" if leads => functions(&dragon),
        "streams" if leads => streams(&dragon),
        "refusals" if leads => refusals(&dragon),
        "handles" => handles(&dragon),
        "programs" | "functions" | "streams" | "refusals" => {}
        "lose_node" => lose_node(&dragon),
        "lose_owner" => lose_owner(&dragon),
        other => panic!("there is no part {other}"),
    }
    let ended = dragon.finalize();
    assert!(part.starts_with("lose_") || ended.is_ok(), "{ended:?}");
}

fn nodes() -> Vec<Vec<u32>> {
    vec![vec![0, 1], vec![0, 1, 1, 2]]
}

fn shell(script: &str) -> Template {
    Process::program("/bin/sh").args(["-c", script])
}

/// The node that comes last: never the leader's.
fn last(dragon: &Runtime) -> NodeId {
    *dragon.nodes().last().unwrap()
}

#[test]
fn programs_run_where_they_are_told() {
    nodes().iter().for_each(|nodes| start("programs", nodes).ends_well());
}

fn programs(dragon: &Runtime) {
    let mut group = ProcessGroup::builder().name("far").build().unwrap();
    for node in dragon.nodes() {
        // What makes a rank is not handed on.
        let script = format!("test -z \"$DRAGON_RANK$DRAGON_NODE_ID\" && exit {}", 10 + node.number());
        group.add(3, shell(&script).node(node)).unwrap();
    }
    group.start().unwrap();
    let exits = group.join_timeout(LONG).unwrap();
    assert!(exits.iter().all(|exit| exit.code() == Some(10 + exit.node().number() as i32)), "{exits:?}");
    assert_eq!(exits.len(), 3 * dragon.nodes().len());

    let mut sleepers = ProcessGroup::builder().node(last(dragon)).build().unwrap();
    sleepers.add(2, Process::program("sleep").arg("1000")).unwrap();
    sleepers.start().unwrap();
    let pids: Vec<u32> = sleepers.processes().iter().map(|process| process.pid().unwrap()).collect();
    assert!(sleepers.processes().iter().all(|process| process.node() == last(dragon)));
    assert_eq!(sleepers.join_timeout(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::TimedOut);
    sleepers.signal(Signal::TERM).unwrap();
    assert!(sleepers.join_timeout(LONG).unwrap().iter().all(|exit| exit.signal() == Some(15)));
    assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    sleepers.start().unwrap();
    sleepers.stop(LONG).unwrap();
    let again = ProcessGroup::builder().restart(Restart::OnFailure { max: 3 }).node(last(dragon));
    let mut again = again.build().unwrap();
    again.add(1, shell("exit 1")).unwrap();
    again.start().unwrap();
    assert_eq!(again.join_timeout(LONG).unwrap()[0].restarts(), 3);
}

#[test]
fn functions_are_processes_of_the_job_on_their_node() {
    nodes().iter().for_each(|nodes| start("functions", nodes).ends_well());
}

fn functions(dragon: &Runtime) {
    let queue = Queue::<u32>::bounded(64).unwrap();
    let say = |queue: Queue<u32>| queue.put(dragon::init().unwrap().node().number()).unwrap();
    let mut group = ProcessGroup::new().unwrap();
    for node in dragon.nodes() {
        group.add(2, Template::function(say, queue.clone()).node(node)).unwrap();
    }
    group.start().unwrap();
    assert!(group.join_timeout(LONG).unwrap().iter().all(Exit::success));
    let mut said: Vec<u32> = queue.get_many(64).unwrap();
    said.sort_unstable();
    assert!(said.into_iter().eq(dragon.nodes().iter().flat_map(|node| [node.number(); 2])));
    let long: Vec<u8> = vec![7; 1 << 20];
    let code = |bytes: Vec<u8>| bytes.iter().map(|byte| i32::from(*byte)).sum::<i32>() % 251;
    let expected = code(long.clone());
    let exit = Template::function(code, long).node(last(dragon)).start().unwrap().join().unwrap();
    assert_eq!(exit.code(), Some(expected));
}

#[test]
fn streams_of_far_processes_are_whole_and_wait_for_their_reader() {
    nodes().iter().for_each(|nodes| start("streams", nodes).ends_well());
}

fn streams(dragon: &Runtime) {
    let there = last(dragon);
    let process = Process::program("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).node(there).start().unwrap();
    let (mut input, mut output) = (process.stdin().unwrap(), process.stdout().unwrap());
    let sent: Vec<u8> = (0..5_000_000_u32).map(|at| (at * 7 / 3) as u8).collect();
    let received = std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || input.write_all(sent).unwrap());
        let mut received = Vec::new();
        output.read_to_end(&mut received).unwrap();
        received
    });
    assert!(received == sent && process.join_timeout(LONG).unwrap().success());
    // It dies at once, and what it said is read later.
    let script = "printf out; printf err >&2; kill -9 $$";
    let process = shell(script).stdout(Stdio::Pipe).stderr(Stdio::Pipe).node(there).start().unwrap();
    assert_eq!(process.join_timeout(LONG).unwrap().signal(), Some(9));
    let (mut out, mut err) = (String::new(), String::new());
    process.stdout().unwrap().read_to_string(&mut out).unwrap();
    process.stderr().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out", "err"));
    flood(dragon, there);
}

/// Nobody reads: the child stands still at its own pipe, and no memory fills.
fn flood(dragon: &Runtime, there: NodeId) {
    let before = dragon.stats().memory.in_use;
    let folder = tempfile::tempdir().unwrap();
    let script = "i=0; while :; do printf %065536d $i; i=$((i+1)); echo $i > count; done";
    let process = shell(script).cwd(folder.path()).stdout(Stdio::Pipe).node(there).start().unwrap();
    let mut output = process.stdout().unwrap();
    output.read_exact(&mut [0; 65536]).unwrap();
    let count = || {
        let text = std::fs::read_to_string(folder.path().join("count")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    // What its pipe holds, and what has come at the first reading.
    let begun = Instant::now();
    let mut last = (count(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(200) {
        assert!(begun.elapsed() < LONG && last.0 < 64, "it goes on writing: {}", last.0);
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        std::thread::yield_now();
    }
    assert!(dragon.stats().memory.in_use < before + (16 << 20));
    // Read on, it goes on.
    let mut space = vec![0; 1 << 20];
    (0..8).for_each(|_| output.read_exact(&mut space).unwrap());
    while count() <= last.0 {
        assert!(begun.elapsed() < 2 * LONG, "it does not go on");
        std::thread::yield_now();
    }
    process.kill().unwrap();
}

#[test]
fn what_cannot_begin_there_begins_nowhere() {
    nodes().iter().for_each(|nodes| start("refusals", nodes).ends_well());
}

fn refusals(dragon: &Runtime) {
    let there = last(dragon);
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mut group = ProcessGroup::new().unwrap();
    group.add(1, Process::program("touch").arg(&mark)).unwrap();
    group.add(1, Process::program("/no/such/program").node(there)).unwrap();
    let error = group.start().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{text}");
    assert!(text.contains("/no/such/program") && text.contains(&format!("node {}", there.number())), "{text}");
    assert!(!mark.exists(), "the first was started");
    let error = Process::program("true").cwd("/no/such/folder").node(there).start().unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("/no/such/folder"), "{error}");
    let error = Process::program("true").stdout(Stdio::File("/no/such/file".into())).node(there).start().unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("/no/such/file"), "{error}");
}

#[test]
fn a_lost_node_is_the_end_of_its_processes() {
    let mut job = start("lose_node", &[0, 1]);
    let other = job.0.remove(1);
    let status = job.outputs();
    assert!(status[0].status.success(), "{}", common::text(&status[0]));
    drop(other.wait_with_output());
}

fn lose_node(dragon: &Runtime) {
    let jobs = |name: &str| Queue::<u32>::open_timeout(name, LONG).unwrap();
    if dragon.rank() == 1 {
        jobs("pids").put(std::process::id()).unwrap();
        // until it is killed
        std::thread::sleep(LONG);
    }
    let pids = Queue::<u32>::builder().capacity(4).name("pids").build().unwrap();
    let victim = pids.get_timeout(LONG).unwrap();
    let mut group = ProcessGroup::builder().restart(Restart::Always { max: 9 }).build().unwrap();
    group.add(2, shell("while :; do sleep 0.1; done").stdout(Stdio::Pipe).node(last(dragon))).unwrap();
    group.add(1, Process::program("sleep").arg("1000").policy(Policy::new().local())).unwrap();
    group.start().unwrap();
    let processes = group.processes();
    let children: Vec<u32> = processes[..2].iter().map(|process| process.pid().unwrap()).collect();
    let mut output = processes[0].stdout().unwrap();
    assert!(std::process::Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap().success());
    let exit = processes[1].join_timeout(LONG).unwrap();
    assert!(exit.code().is_none() && exit.signal().is_none() && exit.to_string().contains("lost"), "{exit}");
    assert!(output.read(&mut [0; 16]).is_err(), "nobody can know whether that was all");
    assert!(processes[2].pid().is_some(), "it is on this node");
    // They are killed with the process that was their parent.
    let begun = Instant::now();
    while children.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()) {
        assert!(begun.elapsed() < LONG, "{children:?} live on");
        std::thread::yield_now();
    }
    group.close().unwrap();
}

#[test]
fn when_their_owner_dies_far_processes_end() {
    let mut job = start("lose_owner", &[0, 0, 1]);
    let owner = job.0.remove(1);
    let outputs = job.outputs();
    assert!(
        outputs.iter().all(|output| output.status.success()),
        "{}\n{}",
        common::text(&outputs[0]),
        common::text(&outputs[1])
    );
    drop(owner.wait_with_output());
}

fn lose_owner(dragon: &Runtime) {
    if dragon.rank() == 1 {
        let mut group = ProcessGroup::builder().node(last(dragon)).build().unwrap();
        group.add(2, shell("while :; do sleep 0.1; done")).unwrap();
        group.start().unwrap();
        let told = Queue::<u32>::open_timeout("told", LONG).unwrap();
        group.processes().iter().for_each(|process| told.put(process.pid().unwrap()).unwrap());
        told.put(std::process::id()).unwrap();
        // until it is killed
        std::thread::sleep(LONG);
    }
    if dragon.rank() == 0 {
        let told = Queue::<u32>::builder().capacity(4).name("told").build().unwrap();
        let next = || told.get_timeout(LONG).unwrap();
        let (children, owner) = ([next(), next()], next());
        assert!(std::process::Command::new("kill").args(["-9", &owner.to_string()]).status().unwrap().success());
        let begun = Instant::now();
        while children.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()) {
            assert!(begun.elapsed() < LONG, "{children:?} live on");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_handle_works_on_another_node() {
    nodes().iter().for_each(|nodes| start("handles", nodes).ends_well());
}

/// Rank 0 makes a group, of processes on all nodes; the last rank ends it.
fn handles(dragon: &Runtime) {
    let last_rank = dragon.size() - 1;
    if dragon.rank() == 0 {
        let way = Queue::<ProcessGroup>::builder().capacity(4).name("way").build().unwrap();
        let mut group = ProcessGroup::builder().name("everywhere").build().unwrap();
        group.add(2 * dragon.nodes().len(), Process::program("sleep").arg("1000")).unwrap();
        group.start().unwrap();
        let mut used: Vec<u32> = group.processes().iter().map(|process| process.node().number()).collect();
        used.sort_unstable();
        assert!(used.into_iter().eq(dragon.nodes().iter().flat_map(|node| [node.number(); 2])), "two on each");
        let done = Queue::<()>::builder().capacity(1).name("done").build().unwrap();
        way.put(group.clone()).unwrap();
        assert!(group.join().unwrap().iter().all(|exit| exit.signal() == Some(15)));
        // It is gone with this handle.
        done.get_timeout(LONG).unwrap();
    } else if dragon.rank() == last_rank {
        let group = Queue::<ProcessGroup>::open_timeout("way", LONG).unwrap().get_timeout(LONG).unwrap();
        assert_eq!((group.len(), group.name()), (2 * dragon.nodes().len(), "everywhere"));
        assert!(group.processes().iter().all(|process| process.pid().is_some()));
        assert!(group.join_timeout(Duration::from_millis(20)).unwrap_err().is_timeout());
        group.signal(Signal::TERM).unwrap();
        assert!(group.join().unwrap().iter().all(|exit| exit.signal() == Some(15)));
        Queue::<()>::open_timeout("done", LONG).unwrap().put(()).unwrap();
    }
}
