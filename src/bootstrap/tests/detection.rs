//! What launchers leave in the environment of a rank, as recorded from real starts where not said otherwise, and what
//! detection makes of it.

use std::{collections::HashMap, io};

use crate::bootstrap::environment::Environment;
use crate::bootstrap::pals;
use crate::bootstrap::plan::{Channel, Launcher, PmiDoor};
use crate::bootstrap::{BootstrapError, Plan, detect, makes_a_rank};

/// Descriptor 9 is a socket; the file `/apinfo` is one of PALS with 3 ranks on two nodes.
#[derive(Default)]
struct Fake {
    variables: HashMap<String, String>,
    host: &'static str,
    is_worker: bool,
}

impl Environment for Fake {
    fn var(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn is_socket(&self, fd: i32) -> bool {
        fd == 9
    }

    fn peer(&self, fd: i32) -> Option<String> {
        (fd == 9).then(|| "77 1234".into())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match path {
            "/apinfo" => Ok(pals::written(&[0, 0, 1], &["nid1", "nid2"])),
            "/broken" => Ok(vec![1; 40]),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn host_name(&self) -> String {
        self.host.into()
    }

    fn is_worker(&self) -> bool {
        self.is_worker
    }
}

fn fake(texts: &[&str]) -> Fake {
    let pairs = texts.iter().flat_map(|text| text.split_whitespace()).filter_map(|pair| pair.split_once('='));
    Fake { variables: pairs.map(|(name, value)| (name.into(), value.into())).collect(), ..Fake::default() }
}

fn plan(texts: &[&str]) -> Plan {
    detect(&fake(texts)).unwrap()
}

fn who(texts: &[&str]) -> (Launcher, Option<u32>, Option<u32>) {
    let plan = plan(texts);
    (plan.launcher, plan.rank, plan.size)
}

fn why(texts: &[&str]) -> String {
    detect(&fake(texts)).unwrap_err().to_string()
}

const SINGLE: (Launcher, Option<u32>, Option<u32>) = (Launcher::Single, Some(0), Some(1));

const SBATCH: &str = "SLURM_JOB_ID=18 SLURM_JOB_NUM_NODES=2 SLURM_TASKS_PER_NODE=3,1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 \
    SLURM_NODELIST=n[0-1] SLURM_NNODES=2 SLURM_NTASKS=4 SLURM_NPROCS=4 SLURM_GTIDS=0";
const SRUN: &str = "SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_STEPID=0 SLURM_PROCID=2 SLURM_LOCALID=0 SLURM_NODEID=1 SLURM_NTASKS=3 \
    SLURM_NPROCS=3 SLURM_STEP_NUM_TASKS=3 SLURM_STEP_NUM_NODES=2 SLURM_STEP_TASKS_PER_NODE=2,1 SLURM_STEP_NODELIST=n[00-01] \
    SLURM_LAUNCH_NODE_IPADDR=127.0.0.1 SLURM_GTIDS=2";
const SRUN_PMI2: &str = "SLURM_MPI_TYPE=pmi2 PMI_FD=9 PMI_RANK=2 PMI_SIZE=3 PMI_JOBID=1.0";
const SRUN_PMIX: &str = "SLURM_MPI_TYPE=pmix PMIX_NAMESPACE=slurm.pmix.1.0 PMIX_RANK=2 PMIX_HOSTNAME=n01 \
    PMIX_SERVER_URI4=pmix-server.11016;tcp4://127.0.0.1:38537 PMIX_GDS_MODULE=ds21,ds12,hash";
const SRUN_PALS: &str = "SLURM_MPI_TYPE=cray_shasta PALS_APID=13.0 PALS_RANKID=2 PALS_NODEID=1 PALS_APINFO=/apinfo";
/// The daemon that `srun` started for `mpirun` or `mpiexec` passes on its own step's variables.
const DAEMON: &str = "SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=2 \
    SLURM_STEP_TASKS_PER_NODE=1(x2) SLURM_STEP_NODELIST=n[0-1]";
const MPICH: &str = "PMI_RANK=3 PMI_SIZE=5 PMI_FD=9 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=2 HYDI_CONTROL_FD=7";
const MPICH_ONE_NODE: &str = "PMI_RANK=3 PMI_SIZE=5 PMI_FD=9 MPI_LOCALRANKID=3 MPI_LOCALNRANKS=5 HYDI_CONTROL_FD=7";
const MPICH_PORT: &str = "PMI_PORT=head:46011 PMI_ID=1 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2 HYDI_CONTROL_FD=7";
const OPEN_MPI: &str = "OMPI_COMM_WORLD_RANK=4 OMPI_COMM_WORLD_SIZE=5 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 \
    OMPI_UNIVERSE_SIZE=8 PMIX_NAMESPACE=1204224001 PMIX_RANK=4 PMIX_SERVER_URI2=1204224000.1;tcp4://127.0.0.1:47567";
/// Not recorded here: said by the authors' documentation.
const PRTERUN: &str =
    "PMIX_NAMESPACE=prterun-head-4711@1 PMIX_RANK=2 PMIX_SERVER_URI5=prterun;tcp4://10.0.0.1:4000 PRTE_LAUNCHED=1";
const FLUX: &str = "FLUX_TASK_RANK=2 FLUX_JOB_SIZE=4 FLUX_TASK_LOCAL_ID=0 FLUX_JOB_NNODES=2 FLUX_JOB_ID=ƒ1 PMI_FD=9 PMI_RANK=2 PMI_SIZE=4";
const CRAY: &str = "PALS_RANKID=1 PALS_NODEID=0 PALS_LOCAL_RANKID=1 PALS_APID=7 PALS_APINFO=/apinfo PMI_RANK=1 PMI_SIZE=3 \
    PMI_CONTROL_PORT=1 PMI_SHARED_SECRET=2";
const TORCHRUN: &str = "RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 GROUP_RANK=0 MASTER_ADDR=node0 MASTER_PORT=29500 \
    TORCHELASTIC_RUN_ID=r1 TORCHELASTIC_RESTART_COUNT=0";
const KUBERNETES: &str =
    "JOB_COMPLETION_INDEX=2 DRAGON_SIZE=3 DRAGON_HEAD=train-0.train KUBERNETES_SERVICE_HOST=10.0.0.1";

const ALL: &[&[&str]] = &[
    &[SRUN],
    &[SRUN, SRUN_PMI2],
    &[SRUN, SRUN_PMIX],
    &[SRUN, SRUN_PALS],
    &[DAEMON, MPICH],
    &[DAEMON, OPEN_MPI],
    &[MPICH],
    &[MPICH_PORT],
    &[PRTERUN],
    &[FLUX],
    &[CRAY],
    &[TORCHRUN],
    &[KUBERNETES],
    &["DRAGON_RENDEZVOUS=h:1 DRAGON_SIZE=3"],
];

#[test]
fn nobody_started_it() {
    assert_eq!(who(&[]), SINGLE);
    assert_eq!(plan(&[]).channel, Channel::Alone);
    assert_eq!(who(&["JOB_COMPLETION_INDEX=3"]), SINGLE, "most indexed jobs are so many programs for themselves");
    assert_eq!(who(&["RANK=admiral WORLD_SIZE=big"]), SINGLE, "anybody's names");
}

#[test]
fn a_batch_script_is_one_process() {
    assert_eq!(who(&[SBATCH]), SINGLE);
}

#[test]
fn a_step_of_slurm_is_known_by_its_own_variables() {
    for also in ["", SRUN_PMI2, SRUN_PMIX, SRUN_PALS] {
        let plan = plan(&[SRUN, also]);
        assert_eq!((plan.launcher, plan.rank, plan.size), (Launcher::Slurm, Some(2), Some(3)), "{also}");
        let Channel::Derived { host, ports } = plan.channel else { panic!("{also}: {:?}", plan.channel) };
        assert_eq!((host.as_str(), ports.len()), ("n00", 8));
        assert!(ports.iter().all(|port| (20_000..32_000).contains(port)));
    }
    assert_eq!(plan(&[SRUN, "SLURM_STEP_NUM_NODES=1"]).channel, Channel::Local);
    let Channel::Derived { ports, .. } = plan(&[SRUN, "SLURM_STEP_RESV_PORTS=12000-12003"]).channel else { panic!() };
    assert_eq!(ports[..4], [12000, 12001, 12002, 12003]);
    assert!(why(&[SRUN, "SLURM_STEP_NODELIST=n["]).contains("SLURM_STEP_NODELIST"));
}

#[test]
fn what_is_nearer_to_the_rank_outranks_slurm() {
    assert_eq!(who(&[DAEMON, MPICH]), (Launcher::Pmi, Some(3), Some(5)));
    assert_eq!(who(&[DAEMON, MPICH_PORT]), (Launcher::Pmi, None, None));
    assert_eq!(who(&[DAEMON, OPEN_MPI]), (Launcher::Pmix, Some(4), Some(5)));
    assert_eq!(who(&[DAEMON, PRTERUN]), (Launcher::Pmix, Some(2), None));
    // A shell of `srun --mpi=pmix`, and `mpirun` in it: the step is of one task, the ranks are five.
    let shell = SRUN.replace("STEP_NUM_TASKS=3", "STEP_NUM_TASKS=1").replace("PROCID=2", "PROCID=0");
    assert_eq!(who(&[&shell, SRUN_PMIX, OPEN_MPI]), (Launcher::Pmix, Some(4), Some(5)));
    assert_eq!(who(&[&shell, SRUN_PMI2, MPICH]), (Launcher::Pmi, Some(3), Some(5)));
}

#[test]
fn mpich_is_asked_only_if_there_are_several_machines() {
    assert_eq!(plan(&[MPICH]).channel, Channel::Pmi(PmiDoor::Descriptor(9)));
    let here = plan(&[MPICH_ONE_NODE]);
    assert_eq!((here.channel, here.job.as_str()), (Channel::Local, "pmi 77 1234"));
    assert_eq!(plan(&[MPICH_PORT]).channel, Channel::Pmi(PmiDoor::Port { address: "head:46011".into(), id: 1 }));
    assert_eq!(plan(&["PMI_RANK=0 PMI_SIZE=1 PMI_FD=9"]).channel, Channel::Alone);
    assert_eq!(who(&[FLUX]), (Launcher::Pmi, Some(2), Some(4)));
}

#[test]
fn a_descriptor_that_is_gone_is_an_error_with_advice() {
    let why = why(&["PMI_RANK=3 PMI_SIZE=5 PMI_FD=3 HYDI_CONTROL_FD=7"]);
    for word in ["PMI_FD=3", "PMI_SIZE=5", "-pmi-port", "DRAGON_RENDEZVOUS", "DRAGON_BOOTSTRAP=single"] {
        assert!(why.contains(word), "{word}: {why}");
    }
    assert_eq!(who(&["PMI_RANK=3 PMI_SIZE=5 PMI_FD=3 DRAGON_BOOTSTRAP=single"]), SINGLE);
}

#[test]
fn several_without_a_way_to_meet_is_an_error() {
    assert!(why(&["WORLD_SIZE=4 RANK=1"]).contains("MASTER_ADDR"));
    assert!(why(&["OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4"]).contains("DRAGON_RENDEZVOUS"));
    assert!(why(&["DRAGON_SIZE=4"]).contains("DRAGON_RENDEZVOUS"));
}

#[test]
fn pmix_is_asked_only_if_there_are_several_machines() {
    assert_eq!(plan(&[OPEN_MPI]).channel, Channel::Pmix);
    let here = plan(&[OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE=5"]);
    assert_eq!(here.channel, Channel::Local);
    assert!(here.job.contains("1204224001") && here.job.contains("47567"), "{}", here.job);
}

#[test]
fn pals_is_read_from_its_file() {
    let plan = plan(&[CRAY]);
    assert_eq!((plan.launcher, plan.rank, plan.size), (Launcher::Pals, Some(1), Some(3)));
    assert!(matches!(plan.channel, Channel::Derived { host, .. } if host == "nid1"));
    assert!(why(&["PALS_RANKID=1 PALS_APINFO=/nowhere"]).contains("PALS_APINFO"));
    assert!(why(&["PALS_RANKID=1 PALS_APINFO=/broken"]).contains("not a file of PALS"));
}

#[test]
fn torchruns_own_port_is_left_alone() {
    let first = plan(&[TORCHRUN]);
    assert_eq!((first.launcher, first.rank, first.size), (Launcher::Env, Some(1), Some(4)));
    let Channel::Derived { host, ports } = &first.channel else { panic!() };
    assert!(host == "node0" && !ports.contains(&29500));
    let restarted = plan(&[TORCHRUN, "TORCHELASTIC_RESTART_COUNT=1"]);
    assert_ne!(first.job, restarted.job, "ranks of the last attempt must not meet those of this one");
    assert_eq!(plan(&[TORCHRUN, "LOCAL_WORLD_SIZE=4"]).channel, Channel::Local);
    assert_eq!(plan(&[TORCHRUN, "MASTER_ADDR=127.0.0.1"]).channel, Channel::Local);
}

#[test]
fn kubernetes_finds_its_head_by_name() {
    assert_eq!(who(&[KUBERNETES]), (Launcher::Kubernetes, Some(2), Some(3)));
    let pod = Fake { host: "train-2", ..fake(&["JOB_COMPLETION_INDEX=2 DRAGON_SIZE=3"]) };
    assert!(matches!(detect(&pod).unwrap().channel, Channel::Derived { host, .. } if host == "train-0"));
    let other = Fake { host: "elsewhere", ..pod };
    assert!(detect(&other).unwrap_err().to_string().contains("DRAGON_HEAD"));
}

#[test]
fn the_users_word_comes_first() {
    let plan = plan(&[MPICH, "DRAGON_RENDEZVOUS=h:1 DRAGON_RANK=2 DRAGON_SIZE=3"]);
    assert_eq!((plan.launcher, plan.rank, plan.size), (Launcher::Rendezvous, Some(2), Some(3)));
    assert_eq!(plan.channel, Channel::Fixed { host: "h".into(), port: 1 });
    let of = |texts: &[&str]| (who(texts).1, who(texts).2);
    assert_eq!(of(&[MPICH, "DRAGON_RENDEZVOUS=h:1"]), (Some(3), Some(5)), "who is who may come from the launcher");
    assert_eq!(of(&[DAEMON, MPICH, "DRAGON_RENDEZVOUS=h:1 DRAGON_SIZE=5"]), (Some(3), Some(5)), "never a pair of two");
    assert_eq!(of(&["DRAGON_RENDEZVOUS=h:1 DRAGON_SIZE=3"]), (None, Some(3)), "by arrival");
    assert_eq!(of(&[PRTERUN, "DRAGON_RENDEZVOUS=h:1 DRAGON_SIZE=3"]), (Some(2), Some(3)));
}

#[test]
fn places_are_read() {
    let channel = |place: &str| plan(&[&format!("DRAGON_RENDEZVOUS={place} DRAGON_RANK=0 DRAGON_SIZE=2")]).channel;
    assert_eq!(channel("[::1]:7"), Channel::Fixed { host: "::1".into(), port: 7 });
    assert_eq!(channel("tcp://a.b:7"), Channel::Fixed { host: "a.b".into(), port: 7 });
    assert_eq!(channel("file:/a/b"), Channel::Folder("/a/b".into()));
    assert_eq!(channel("file:///a/b"), Channel::Folder("/a/b".into()));
    for wrong in ["h", "h:", "h:0", "h:99999", ":7"] {
        let why = why(&[&format!("DRAGON_RENDEZVOUS={wrong} DRAGON_RANK=0 DRAGON_SIZE=2")]);
        assert!(why.contains("DRAGON_RENDEZVOUS") && why.contains("host:port"), "{why}");
    }
    assert!(why(&["DRAGON_RENDEZVOUS=h:1"]).contains("DRAGON_SIZE"));
    assert!(why(&["DRAGON_RENDEZVOUS=file:/a DRAGON_SIZE=2"]).contains("DRAGON_RANK"));
}

#[test]
fn what_makes_no_sense_is_named() {
    assert!(why(&[SRUN, "SLURM_PROCID=x"]).contains("SLURM_PROCID"));
    assert!(why(&["DRAGON_RENDEZVOUS=h:1 DRAGON_RANK=3 DRAGON_SIZE=3"]).contains("rank 3 of 3"));
    assert!(why(&["DRAGON_BOOTSTRAP=magic"]).contains("kubernetes"));
    assert!(why(&["DRAGON_BOOTSTRAP=pmix"]).contains("none of the variables"));
    assert_eq!(who(&[SRUN, SRUN_PALS, "DRAGON_BOOTSTRAP=pals"]).0, Launcher::Pals);
    assert_eq!(who(&[MPICH, "DRAGON_BOOTSTRAP=auto"]).0, Launcher::Pmi);
}

#[test]
fn children_without_those_variables_are_nobodys_rank() {
    for texts in ALL {
        let mut rank = fake(texts);
        assert_ne!(detect(&rank).unwrap().launcher, Launcher::Single, "{texts:?}");
        rank.variables.retain(|name, _| !makes_a_rank(name));
        assert_eq!(detect(&rank).unwrap().launcher, Launcher::Single, "{texts:?}");
    }
    assert!(!makes_a_rank("SLURM_JOB_ID") && !makes_a_rank("PATH") && !makes_a_rank("DRAGON_SECRET"));
}

#[test]
fn a_worker_never_is() {
    for texts in ALL {
        let worker = Fake { is_worker: true, ..fake(texts) };
        assert!(matches!(detect(&worker), Err(BootstrapError::Worker)));
    }
}

#[test]
fn a_node_can_be_named() {
    assert_eq!(plan(&[MPICH, "DRAGON_NODE_ID=left"]).node_id.as_deref(), Some("left"));
}
