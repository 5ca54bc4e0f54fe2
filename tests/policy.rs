//! Where things go: workers report the cpus and GPUs that they have, near and on another node, and what is not there is
//! named before anything starts.
//!
//! The GPUs are fakes (`DRAGON_FAKE_GPUS`), since what a worker sees is what its variables say.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::{LONG, start_with};
use dragon::{ErrorKind, Placement, Policy, Pool, Queue, Runtime, Vendor};

/// Runs in every rank; in the test's own process it is nobody.
#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        _ if dragon.rank() != 0 => {}
        "figures" => figures(&dragon),
        "cpus" => cpus(&dragon),
        "gpus" => gpus(&dragon),
        "masked" => masked(&dragon),
        "spread" => spread(&dragon),
        "missing" => missing(&dragon),
        "homes" => homes(&dragon),
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

fn run(part: &str, nodes: &[u32], gpus: &'static str) {
    start_with(part, nodes, |_| vec![("DRAGON_FAKE_GPUS", gpus.into())]).ends_well();
}

/// What a worker says of itself.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Report {
    node: u32,
    pid: u32,
    /// The cpus of the thread that runs the task, of one that it starts, and of a program.
    cpus: [String; 3],
    cuda: Option<String>,
    rocr: Option<String>,
    hip: Option<String>,
    /// The GPUs that the runtime sees from there.
    seen: Vec<String>,
}

fn allowed(status: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_string()
}

fn report(_: u32) -> Report {
    // so that the other workers get something to do as well
    std::thread::sleep(Duration::from_millis(20));
    let own = || allowed(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
    let program = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
    let program = allowed(&String::from_utf8(program.stdout).unwrap());
    let dragon = dragon::init().unwrap();
    let variable = |name: &str| std::env::var(name).ok();
    Report {
        node: dragon.node().number(),
        pid: std::process::id(),
        cpus: [own(), std::thread::spawn(own).join().unwrap(), program],
        cuda: variable("CUDA_VISIBLE_DEVICES"),
        rocr: variable("ROCR_VISIBLE_DEVICES"),
        hip: variable("HIP_VISIBLE_DEVICES"),
        seen: dragon.system().here().gpus.iter().map(|gpu| format!("{}:{}", gpu.vendor, gpu.name)).collect(),
    }
}

/// A report of each worker.
fn reports(pool: &Pool) -> Vec<Report> {
    let (begun, mut all) = (Instant::now(), BTreeMap::new());
    while all.len() < pool.size() {
        assert!(begun.elapsed() < LONG, "{} of {} workers say something", all.len(), pool.size());
        let some = pool.chunk(1).map(report, 0..4 * pool.size() as u32).unwrap();
        all.extend(some.into_iter().map(|report| ((report.node, report.pid), report)));
    }
    all.into_values().collect()
}

/// How many workers are on each node.
fn counts(pool: &Pool) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    pool.workers().iter().for_each(|worker| *counts.entry(worker.node.number()).or_default() += 1);
    counts
}

#[test]
fn the_figures_of_this_machine_are_those_that_the_system_gives() {
    run("figures", &[0], "nvidia:2:80");
}

fn figures(dragon: &Runtime) {
    let system = dragon.system();
    let here = system.here();
    let said = |command: &str, arguments: &[&str]| {
        let output = std::process::Command::new(command).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    assert_eq!(here.cpus.len().to_string(), said("nproc", &[]));
    assert_eq!(here.parallelism, std::thread::available_parallelism().unwrap().get());
    assert_eq!(here.name, said("uname", &["-n"]));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = meminfo.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(here.memory > 0 && here.memory <= total * 1024);
    for numa in &here.numa {
        let listed = std::fs::read_to_string(format!("/sys/devices/system/node/node{}/cpulist", numa.number)).unwrap();
        assert!(numa.cpus.is_empty() == listed.trim().is_empty(), "{numa:?} {listed}");
    }
    assert_eq!(here.gpus.len(), 2);
    assert_eq!((here.gpus[1].vendor, here.gpus[1].memory), (Vendor::Nvidia, 80 << 30));
    assert_eq!(here.gpus[1].variable(), "CUDA_VISIBLE_DEVICES");
    assert_eq!(system.cpu_policies().len(), here.cpus.len());
    assert_eq!(system.node_policies(), [Policy::new().node(dragon.node())]);
    assert!(system.node("no such host").is_none());
}

#[test]
fn workers_have_the_cpus_of_their_policy_and_so_has_all_that_they_start() {
    [&[0][..], &[0, 1], &[0, 1, 1]].iter().for_each(|nodes| run("cpus", nodes, "nvidia:0"));
}

fn cpus(dragon: &Runtime) {
    let system = dragon.system();
    let pool = Pool::builder().policies(system.cpu_policies(), 1).build().unwrap();
    assert_eq!(pool.size(), system.cpus().len());
    let mut seen: Vec<_> = reports(&pool).into_iter().map(|report| (report.node, report.cpus)).collect();
    seen.sort();
    let wanted = system.cpus().into_iter().map(|(node, cpu)| (node.number(), [(); 3].map(|()| cpu.to_string())));
    assert_eq!(seen, wanted.collect::<Vec<_>>());
    // Who takes a dead worker's place has its seat.
    let killed = pool.workers().iter().map(|worker| worker.pid).collect::<BTreeSet<u32>>();
    for pid in &killed {
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    }
    let begun = Instant::now();
    while pool.workers().iter().any(|worker| killed.contains(&worker.pid)) || pool.workers().len() < pool.size() {
        assert!(begun.elapsed() < LONG, "the dead are not replaced");
        std::thread::yield_now();
    }
    let mut again: Vec<_> = reports(&pool).into_iter().map(|report| (report.node, report.cpus)).collect();
    again.sort();
    assert_eq!(again, seen);
    // Without a word about cpus they have those of their parent.
    let free = Pool::builder().processes(1).policy(Policy::new().local()).build().unwrap();
    assert!(reports(&free)[0].cpus.iter().all(|cpus| *cpus == allowed_here()));
}

fn allowed_here() -> String {
    allowed(&std::fs::read_to_string("/proc/self/status").unwrap())
}

#[test]
fn workers_see_the_gpus_of_their_policy_and_no_others() {
    [&[0][..], &[0, 1], &[0, 1, 1]].iter().for_each(|nodes| run("gpus", nodes, "nvidia:2,amd:1"));
}

fn gpus(dragon: &Runtime) {
    let system = dragon.system();
    let nodes = dragon.nodes().len();
    let policies = system.gpu_policies();
    assert_eq!(policies.len(), 3 * nodes);
    let pool = Pool::builder().policies(policies, 2).build().unwrap();
    assert_eq!(
        (pool.size(), counts(&pool)),
        (6 * nodes, dragon.nodes().iter().map(|node| (node.number(), 6)).collect())
    );
    let mut had: BTreeMap<(u32, Vec<String>), usize> = BTreeMap::new();
    for report in reports(&pool) {
        match (&report.cuda, &report.rocr) {
            (Some(cuda), None) => assert!(report.seen.contains(&format!("NVIDIA:{cuda}")), "{report:?}"),
            (None, Some(rocr)) => assert_eq!((rocr.as_str(), report.hip.as_deref()), ("0", Some("0"))),
            _ => panic!("it sees too much, or too little: {report:?}"),
        }
        *had.entry((report.node, [report.cuda, report.rocr].into_iter().flatten().collect())).or_default() += 1;
    }
    let cuda_and_rocr = [("0", 4), ("1", 2)]; // `0` is of both vendors
    let wanted = dragon
        .nodes()
        .into_iter()
        .flat_map(|node| cuda_and_rocr.map(|(gpu, n)| ((node.number(), vec![gpu.into()]), n)));
    assert_eq!(had, wanted.collect());
    let two = Pool::builder().processes(nodes).policy(Policy::new().gpus([1, 0])).build().unwrap();
    assert!(reports(&two).iter().all(|report| report.cuda.as_deref() == Some("1,0")));
    let none: [&str; 0] = [];
    let blind = Pool::builder().processes(nodes).policy(Policy::new().gpus(none)).build().unwrap();
    assert!(reports(&blind).iter().all(|report| report.cuda.as_deref() == Some("") && report.seen.is_empty()));
}

#[test]
fn masks_in_the_environment_hold() {
    let mask = |_| {
        vec![
            ("DRAGON_FAKE_GPUS", "nvidia:4,amd:2".into()),
            ("CUDA_VISIBLE_DEVICES", "GPU-fake-NVIDIA-2,0".into()),
            ("ROCR_VISIBLE_DEVICES", "1".into()),
        ]
    };
    start_with("masked", &[0, 1], mask).ends_well();
}

fn masked(dragon: &Runtime) {
    let system = dragon.system();
    for node in system.nodes() {
        let names: Vec<_> = node.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
        assert_eq!(names, ["GPU-fake-NVIDIA-2", "0", "1"]);
    }
    let pool = Pool::builder().policies(system.gpu_policies(), 1).build().unwrap();
    let mut seen: Vec<_> =
        reports(&pool).into_iter().map(|report| (report.node, report.cuda, report.rocr, report.hip)).collect();
    seen.sort();
    let some = |text: &str| Some(text.to_string());
    let masks = (some("GPU-fake-NVIDIA-2,0"), some("1"));
    // A variable that the policy does not speak of stays as it was.
    let wanted = [0, 1].into_iter().flat_map(|node| {
        [
            (node, some("0"), masks.1.clone(), None),
            (node, some("GPU-fake-NVIDIA-2"), masks.1.clone(), None),
            (node, masks.0.clone(), some("1"), some("0")),
        ]
    });
    assert_eq!(seen, wanted.collect::<Vec<_>>());
    let error = Pool::builder().processes(1).policy(Policy::new().gpus([3])).build().unwrap_err();
    assert!(error.to_string().contains("GPU `3`"), "hidden is not there: {error}");
}

#[test]
fn a_list_of_policies_and_a_number_for_each_give_that_many_workers_there() {
    run("spread", &[0, 1, 2], "nvidia:0");
}

fn spread(dragon: &Runtime) {
    let [a, b, c] = dragon.nodes()[..] else { panic!("three nodes") };
    let on = |node| Policy::new().node(node);
    let pool = Pool::builder().policies([on(b), on(c)], 2).build().unwrap();
    assert_eq!((pool.size(), counts(&pool)), (4, [(1, 2), (2, 2)].into()));
    let from: BTreeSet<u32> = reports(&pool).iter().map(|report| report.node).collect();
    assert_eq!(from, [1, 2].into());
    let both = Pool::builder().processes(2).policies([on(b)], 2).build().unwrap_err();
    assert!(both.kind() == ErrorKind::InvalidArgument && both.to_string().contains("processes"), "{both}");
    let none = Pool::builder().policies([], 2).build().unwrap_err();
    assert_eq!(none.kind(), ErrorKind::InvalidArgument);
    let twice = Pool::builder().processes(1).local().policy(on(b)).build().unwrap_err();
    assert!(twice.to_string().contains("contradict"), "{twice}");
    // By name: all three fake nodes are on this host.
    let name = dragon.system().here().name.clone();
    let hosted = Pool::builder().processes(6).policy(Policy::new().host(name)).build().unwrap();
    assert_eq!(counts(&hosted), [(0, 2), (1, 2), (2, 2)].into());
    let cpus = dragon.system().here().parallelism;
    let block = Pool::builder().processes(cpus + 1).policy(Policy::new().block()).build().unwrap();
    assert_eq!(counts(&block), [(0, cpus), (1, 1)].into());
    let all = Pool::builder().policy(on(c)).build().unwrap();
    assert_eq!(counts(&all), [(2, cpus)].into(), "as many as that node can run");
    let one =
        Pool::builder().nodes([b, c]).policy(Policy::new().cpus([dragon.system().here().cpus[0]])).build().unwrap();
    assert_eq!(counts(&one), [(1, 1), (2, 1)].into());
    on(c).scope(|| {
        assert_eq!(counts(&Pool::new(2).unwrap()), [(2, 2)].into());
        let explicit = Pool::builder().processes(2).policy(on(b)).build().unwrap();
        assert_eq!(counts(&explicit), [(1, 2)].into());
        let local = Pool::builder().processes(2).local().build().unwrap();
        assert_eq!(counts(&local), [(a.number(), 2)].into());
    });
    assert_eq!(counts(&Pool::new(3).unwrap()).len(), 3, "the scope is over");
}

#[test]
fn what_is_not_there_is_an_error_that_names_it_and_nothing_is_started() {
    run("missing", &[0, 1], "nvidia:1");
}

fn missing(dragon: &Runtime) {
    let before = dragon.stats();
    let told = |policy: Policy| {
        let error = Pool::builder().processes(2).policy(policy).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        error.to_string()
    };
    let last = *dragon.nodes().last().unwrap();
    let text = told(Policy::new().cpus([0, 4711]));
    assert!(text.contains("cpu 4711 ") && text.contains("its cpus are"), "{text}");
    let text = told(Policy::new().node(last).gpus([5]));
    assert!(text.contains("GPU `5`") && text.contains("node 1"), "{text}");
    let text = told(Policy::new().host("atlantis"));
    assert!(text.contains("`atlantis`") && text.contains(&dragon.system().here().name), "{text}");
    let list = [Policy::new().node(last), Policy::new().node(last).cpus([9999])];
    let error = Pool::builder().policies(list, 1).build().unwrap_err();
    assert!(error.to_string().contains("9999"), "{error}");
    assert_eq!(dragon.stats().processes.len(), before.processes.len());
    assert!(Queue::<u8>::builder().policy(Policy::new().host("atlantis")).build().is_err());
}

#[test]
fn queues_are_where_their_policy_says() {
    run("homes", &[0, 1, 2], "nvidia:1");
}

fn homes(dragon: &Runtime) {
    let [a, b, c] = dragon.nodes()[..] else { panic!("three nodes") };
    let home = |policy: Policy| Queue::<u64>::builder().capacity(4).policy(policy).build().unwrap().node();
    assert_eq!(home(Policy::new()), a);
    assert_eq!(home(Policy::new().anywhere().block()), a);
    assert_eq!(home(Policy::new().node(b)), b);
    assert_eq!(home(Policy::new().node(b).gpus([77])), b, "only its placement counts");
    Policy::new().node(c).scope(|| {
        assert_eq!(home(Policy::new()), c);
        assert_eq!(Queue::<u64>::bounded(4).unwrap().node(), c);
        assert_eq!(home(Policy::new().local()), a);
        let explicit = Queue::<u64>::builder().node(b).build().unwrap();
        assert_eq!(explicit.node(), b);
    });
    // A message passed around a ring of queues, one on each node, is what it was.
    let ring: Vec<Queue<String>> = dragon
        .system()
        .node_policies()
        .into_iter()
        .map(|p| Queue::builder().capacity(4).policy(p).build().unwrap())
        .collect();
    ring[0].put("round and round".into()).unwrap();
    for hop in 0..3 * ring.len() {
        let message = ring[hop % ring.len()].get().unwrap();
        ring[(hop + 1) % ring.len()].put(message).unwrap();
    }
    assert_eq!(ring[0].get().unwrap(), "round and round");
    assert!(matches!(Policy::new().local().placement, Some(Placement::Local)));
}
