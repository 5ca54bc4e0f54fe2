//! Reads the environment and says who started this process. Pure: no connection is made, nothing is changed.
//!
//! The first that applies, in the order of [`DOORS`]. Launchers nest (`mpirun` in an allocation starts its daemons by
//! `srun`, and ranks inherit the daemons' variables), so the order is not taste: what is nearer to the rank comes first.
//! A launcher that says there are several of us but cannot be reached is an error: N processes that each believe to be
//! alone are the worst that could happen.

use std::path::PathBuf;

use super::address;
use super::environment::Environment;
use super::error::BootstrapError;
use super::hostlist;
use super::pals;
use super::plan::{Channel, Launcher, Plan, PmiDoor};

type Result<T> = std::result::Result<T, BootstrapError>;

/// One launcher: `None` if it is not this one.
type Door = fn(&Seen<'_>) -> Result<Option<Plan>>;

const DOORS: &[(Launcher, Door)] = &[
    (Launcher::Rendezvous, rendezvous),
    (Launcher::Pmi, pmi),
    (Launcher::Slurm, slurm),
    (Launcher::Pmix, pmix),
    (Launcher::Pals, pals_apinfo),
    (Launcher::Env, env),
    (Launcher::Kubernetes, kubernetes),
    (Launcher::Single, single),
];

/// Variables that come as pairs: never a rank of one launcher with the size of another.
const PAIRS: &[(&str, &str)] = &[
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
];

/// Ranks without a size.
const RANKS: &[&str] = &["PMIX_RANK", "PALS_RANKID", "JOB_COMPLETION_INDEX"];

/// Under which names a PMIx server tells its address, one for each version of the protocol.
const PMIX_SERVERS: &[&str] = &[
    "PMIX_SERVER_URI",
    "PMIX_SERVER_URI2",
    "PMIX_SERVER_URI21",
    "PMIX_SERVER_URI3",
    "PMIX_SERVER_URI4",
    "PMIX_SERVER_URI41",
    "PMIX_SERVER_URI5",
    "PMIX_SERVER_URI51",
];

/// What to do when nothing else helps.
const WAYS_OUT: &str =
    "set DRAGON_RENDEZVOUS=host:port, or DRAGON_BOOTSTRAP=single if this process is meant to be alone";

/// Finds out who started this process and how its ranks can meet.
pub(crate) fn detect(environment: &dyn Environment) -> Result<Plan> {
    if environment.is_worker() {
        return Err(BootstrapError::Worker);
    }
    let seen = Seen(environment);
    let plan = match seen.text("DRAGON_BOOTSTRAP") {
        Some(name) if name != "auto" => forced(&seen, &name)?,
        _ => first(&seen)?,
    };
    check(&plan)?;
    Ok(Plan { node_id: seen.text("DRAGON_NODE_ID"), ..alone_if_one(plan) })
}

fn first(seen: &Seen<'_>) -> Result<Plan> {
    for (launcher, door) in DOORS {
        if *launcher == Launcher::Single {
            not_abandoned(seen)?;
        }
        if let Some(plan) = door(seen)? {
            return Ok(plan);
        }
    }
    unreachable!("the last door, that of a process alone, is always open")
}

fn forced(seen: &Seen<'_>, name: &str) -> Result<Plan> {
    let known = Launcher::ALL.iter().find(|(known, _)| *known == name);
    let door = known.and_then(|(_, launcher)| DOORS.iter().find(|(of, _)| of == launcher));
    let names = || Launcher::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some((_, door)) = door else {
        return Err(variable("DRAGON_BOOTSTRAP", name, format!("expected auto, {}", names())));
    };
    let missing =
        || variable("DRAGON_BOOTSTRAP", name, "this process has none of the variables that this launcher sets".into());
    door(seen)?.ok_or_else(missing)
}

fn check(plan: &Plan) -> Result<()> {
    match (plan.rank, plan.size) {
        (_, Some(0)) => Err(unclear(format!("{} says that there are 0 ranks", plan.launcher.name()))),
        (Some(rank), Some(size)) if rank >= size => Err(unclear(format!(
            "{} says that this is rank {rank} of {size}; ranks count from 0",
            plan.launcher.name()
        ))),
        _ => Ok(()),
    }
}

fn alone_if_one(plan: Plan) -> Plan {
    match plan.size {
        Some(1) => Plan { rank: Some(0), channel: Channel::Alone, ..plan },
        _ => plan,
    }
}

/// 1. The user says where to meet; who is who may come from anywhere.
fn rendezvous(seen: &Seen<'_>) -> Result<Option<Plan>> {
    let Some(place) = seen.text("DRAGON_RENDEZVOUS") else { return Ok(None) };
    let (rank, size) = rank_and_size(seen)?;
    let size = size.ok_or_else(|| {
        variable("DRAGON_RENDEZVOUS", &place, "how many ranks are there? Set DRAGON_SIZE, the same everywhere".into())
    })?;
    let channel = match place.strip_prefix("file:") {
        Some(folder) => Channel::Folder(PathBuf::from(folder.strip_prefix("//").unwrap_or(folder))),
        None => host_and_port(&place)?,
    };
    if matches!(channel, Channel::Folder(_)) && rank.is_none() && size > 1 {
        return Err(variable(
            "DRAGON_RENDEZVOUS",
            &place,
            "with a folder every rank must know itself: set DRAGON_RANK".into(),
        ));
    }
    let job = seen.text("DRAGON_JOB_ID").unwrap_or_else(|| format!("rendezvous {place}"));
    Ok(Some(Plan { launcher: Launcher::Rendezvous, rank, size: Some(size), job, channel, node_id: None }))
}

fn host_and_port(place: &str) -> Result<Channel> {
    let found = place.strip_prefix("tcp://").unwrap_or(place).rsplit_once(':');
    let found = found.and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port != 0)?)));
    let Some((host, port)) = found.filter(|(host, _)| !host.is_empty()) else {
        return Err(variable(
            "DRAGON_RENDEZVOUS",
            place,
            "expected host:port or file:/a/folder/that/all/ranks/see".into(),
        ));
    };
    Ok(Channel::Fixed { host: host.trim_matches(['[', ']']).into(), port })
}

/// Rank and size from our own variables, else from the first pair that is there and fits.
fn rank_and_size(seen: &Seen<'_>) -> Result<(Option<u32>, Option<u32>)> {
    let (rank, size) = (seen.number("DRAGON_RANK")?, seen.number("DRAGON_SIZE")?);
    if rank.is_some() {
        return Ok((rank, size));
    }
    for (rank_name, size_name) in PAIRS {
        if let (Some(rank), Some(of)) = (seen.number(rank_name)?, seen.number(size_name)?)
            && size.is_none_or(|size| size == of)
        {
            return Ok((Some(rank), Some(of)));
        }
    }
    for name in RANKS {
        if let (Some(rank), Some(of)) = (seen.number(name)?, size)
            && rank < of
        {
            return Ok((Some(rank), size));
        }
    }
    Ok((None, size))
}

/// 2. A process manager that speaks PMI-1, with a descriptor that is really there.
///
/// Not under `srun --mpi=pmi2`: that plugin bears only one `init` on the descriptor, which belongs to MPI, and Slurm's own
/// variables say everything. On one machine nothing needs to be asked: all ranks know the manager's process.
fn pmi(seen: &Seen<'_>) -> Result<Option<Plan>> {
    let of_slurm = seen.is("SLURM_MPI_TYPE", "pmi2") && !seen.has("HYDI_CONTROL_FD");
    let plan = |rank, size, job: Option<String>, channel| {
        let job = job.unwrap_or_else(|| "pmi".into());
        Some(Plan { launcher: Launcher::Pmi, rank, size, job, channel, node_id: None })
    };
    if let (Some(rank), Some(size), Some(fd)) =
        (seen.number("PMI_RANK")?, seen.number("PMI_SIZE")?, seen.text("PMI_FD"))
    {
        let fd = fd.parse().unwrap_or(-1);
        if size > 1 && (of_slurm || !seen.0.is_socket(fd)) {
            return Ok(None);
        }
        let on_one_node = seen.number("MPI_LOCALNRANKS")? == Some(size);
        return Ok(match seen.0.peer(fd).filter(|_| on_one_node) {
            Some(manager) => plan(Some(rank), Some(size), Some(format!("pmi {manager}")), Channel::Local),
            None => plan(Some(rank), Some(size), None, Channel::Pmi(PmiDoor::Descriptor(fd))),
        });
    }
    match (seen.text("PMI_PORT"), seen.number("PMI_ID")?) {
        (Some(address), Some(id)) if !seen.has("PMI_FD") => {
            Ok(plan(None, None, None, Channel::Pmi(PmiDoor::Port { address, id })))
        }
        _ => Ok(None),
    }
}

/// 3. A step of Slurm. A batch script has a rank and a number of tasks too, and is one process; a step has an id.
fn slurm(seen: &Seen<'_>) -> Result<Option<Plan>> {
    let (Some(rank), Some(size)) = (seen.number("SLURM_PROCID")?, seen.number("SLURM_STEP_NUM_TASKS")?) else {
        return Ok(None);
    };
    let Some(step) = seen.text("SLURM_STEP_ID").or_else(|| seen.text("SLURM_STEPID")) else { return Ok(None) };
    if is_of_another_launcher(seen, rank, size)? {
        return Ok(None);
    }
    let job = [
        "slurm".to_string(),
        seen.text("SLURM_JOB_ID").unwrap_or_default(),
        step,
        seen.text("SLURM_RESTART_COUNT").unwrap_or_default(),
    ];
    let job = job.join(".");
    let channel = match seen.number("SLURM_STEP_NUM_NODES")? {
        Some(1) => Channel::Local,
        _ => {
            let list = seen.needed("SLURM_STEP_NODELIST", "SLURM_STEP_ID")?;
            let host = hostlist::first(&list)
                .ok_or_else(|| variable("SLURM_STEP_NODELIST", &list, "no list of hosts".into()))?;
            let reserved =
                seen.text("SLURM_STEP_RESV_PORTS").and_then(|text| hostlist::ports(&text)).unwrap_or_default();
            let ports = reserved.into_iter().take(8).chain(ports(&job)).collect();
            Channel::Derived { host, ports }
        }
    };
    Ok(Some(Plan { launcher: Launcher::Slurm, rank: Some(rank), size: Some(size), job, channel, node_id: None }))
}

/// Whether Slurm's variables are those of a daemon that another launcher started by `srun`, or of a shell in which it ran.
fn is_of_another_launcher(seen: &Seen<'_>, rank: u32, size: u32) -> Result<bool> {
    let marks =
        ["HYDI_CONTROL_FD", "OMPI_COMM_WORLD_SIZE", "PRTE_LAUNCHED", "PMI_PORT", "MPI_LOCALNRANKS", "FLUX_TASK_RANK"];
    let differs = |name, own| Ok::<_, BootstrapError>(seen.number(name)?.is_some_and(|other: u32| other != own));
    let foreign_space = seen.text("PMIX_NAMESPACE").is_some_and(|space| !space.starts_with("slurm.pmix"));
    Ok(marks.iter().any(|mark| seen.has(mark))
        || foreign_space
        || differs("PMI_RANK", rank)?
        || differs("PMI_SIZE", size)?)
}

/// 4. PMIx. On one machine nothing needs to be asked of it, which matters: it bears no second client in the process.
fn pmix(seen: &Seen<'_>) -> Result<Option<Plan>> {
    let (Some(space), Some(rank)) = (seen.text("PMIX_NAMESPACE"), seen.number("PMIX_RANK")?) else { return Ok(None) };
    let Some(server) = PMIX_SERVERS.iter().find_map(|name| seen.text(name)) else { return Ok(None) };
    let size = seen.number("OMPI_COMM_WORLD_SIZE")?;
    let on_one_node = size.is_some() && seen.number("OMPI_COMM_WORLD_LOCAL_SIZE")? == size;
    let (channel, job) = if on_one_node {
        (Channel::Local, format!("pmix {space} {server}"))
    } else {
        (Channel::Pmix, format!("pmix {space}"))
    };
    Ok(Some(Plan { launcher: Launcher::Pmix, rank: Some(rank), size, job, channel, node_id: None }))
}

/// 5. PALS, which leaves a file.
fn pals_apinfo(seen: &Seen<'_>) -> Result<Option<Plan>> {
    let (Some(rank), Some(path)) = (seen.number("PALS_RANKID")?, seen.text("PALS_APINFO")) else { return Ok(None) };
    let bytes = seen.0.read(&path).map_err(|why| variable("PALS_APINFO", &path, format!("cannot read it: {why}")))?;
    let info = pals::parse(&bytes).ok_or_else(|| variable("PALS_APINFO", &path, "not a file of PALS".into()))?;
    let job = format!("pals {}", seen.text("PALS_APID").unwrap_or_default());
    let channel = match info.is_one_node {
        true => Channel::Local,
        false => Channel::Derived { host: info.first_host, ports: ports(&job) },
    };
    Ok(Some(Plan { launcher: Launcher::Pals, rank: Some(rank), size: Some(info.size), job, channel, node_id: None }))
}

/// 6. `torchrun` and its like. `MASTER_PORT` is only part of the job's name: the port belongs to somebody else.
fn env(seen: &Seen<'_>) -> Result<Option<Plan>> {
    // These names are anybody's: only all three together mean us.
    let Some(host) = seen.text("MASTER_ADDR").filter(|_| seen.has("RANK") && seen.has("WORLD_SIZE")) else {
        return Ok(None);
    };
    let (Some(rank), Some(size)) = (seen.number("RANK")?, seen.number("WORLD_SIZE")?) else { return Ok(None) };
    let names = ["MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "DRAGON_JOB_ID"];
    let job = names.map(|name| seen.text(name).unwrap_or_default()).join(" ");
    let on_one_node = seen.number("LOCAL_WORLD_SIZE")? == Some(size) || address::loopback(&host).is_some();
    let channel = if on_one_node { Channel::Local } else { Channel::Derived { host, ports: ports(&job) } };
    Ok(Some(Plan { launcher: Launcher::Env, rank: Some(rank), size: Some(size), job, channel, node_id: None }))
}

/// 7. An indexed Job of Kubernetes, if it says how many we are: most such jobs are so many programs for themselves.
fn kubernetes(seen: &Seen<'_>) -> Result<Option<Plan>> {
    let (Some(rank), Some(size)) = (seen.number("JOB_COMPLETION_INDEX")?, seen.number("DRAGON_SIZE")?) else {
        return Ok(None);
    };
    let own = seen.0.host_name();
    // Pods of an indexed Job are called <job>-<index>; the name of the first resolves where the pods have a service.
    let derived = own.strip_suffix(&format!("-{rank}")).map(|job| format!("{job}-0"));
    let host = seen.text("DRAGON_HEAD").or(derived).ok_or_else(|| {
        unclear(format!(
            "JOB_COMPLETION_INDEX and DRAGON_SIZE are set, but this pod ({own}) is not called <job>-{rank}: set DRAGON_HEAD to the \
             host name of the pod with index 0, or DRAGON_RENDEZVOUS=host:port"
        ))
    })?;
    let job = format!("kubernetes {host} {}", seen.text("DRAGON_JOB_ID").unwrap_or_default());
    let channel = Channel::Derived { host, ports: ports(&job) };
    Ok(Some(Plan { launcher: Launcher::Kubernetes, rank: Some(rank), size: Some(size), job, channel, node_id: None }))
}

/// 9. Nobody started us.
fn single(_: &Seen<'_>) -> Result<Option<Plan>> {
    let job = "single".to_string();
    Ok(Some(Plan {
        launcher: Launcher::Single,
        rank: Some(0),
        size: Some(1),
        job,
        channel: Channel::Alone,
        node_id: None,
    }))
}

/// 8. A launcher started several of us, and its channel did not reach this process.
fn not_abandoned(seen: &Seen<'_>) -> Result<()> {
    let above_one = |name| seen.number(name).ok().flatten().filter(|size| *size > 1);
    if let (Some(size), Some(fd)) = (above_one("PMI_SIZE"), seen.text("PMI_FD")) {
        return Err(unclear(format!(
            "PMI_SIZE={size}, but PMI_FD={fd} is not open here: something between mpiexec and this process closed it, as Python's \
             subprocess and containers do. Use `mpiexec -pmi-port`, pass the descriptor on, {WAYS_OUT}"
        )));
    }
    let sizes = PAIRS.iter().filter(|(_, size)| !size.starts_with("SLURM")).map(|(_, size)| *size);
    for name in sizes.chain(["DRAGON_SIZE"]) {
        if let Some(size) = above_one(name) {
            let hint = if name == "WORLD_SIZE" { "set MASTER_ADDR to the host of rank 0 and RANK, or " } else { "" };
            return Err(unclear(format!(
                "{name}={size}, but nothing here says how to find the other ranks: {hint}{WAYS_OUT}"
            )));
        }
    }
    Ok(())
}

/// Ports to try, the same on all ranks of a job; below those that the system gives to connections.
fn ports(job: &str) -> Vec<u16> {
    let start = job
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (0..8).map(|k| (20_000 + start.wrapping_add(k * 1499) % 12_000) as u16).collect()
}

fn variable(name: &str, value: &str, why: String) -> BootstrapError {
    BootstrapError::Variable { name: name.into(), value: value.into(), why }
}

fn unclear(why: String) -> BootstrapError {
    BootstrapError::Unclear { why }
}

/// Variables, with their mistakes.
struct Seen<'a>(&'a dyn Environment);

impl Seen<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.0.var(name).map(|value| value.trim().to_string()).filter(|value| !value.is_empty())
    }

    fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.text(name).is_some_and(|found| found == value)
    }

    fn number(&self, name: &str) -> Result<Option<u32>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| variable(name, &text, "expected a whole number".into()))
    }

    fn needed(&self, name: &str, because: &str) -> Result<String> {
        self.text(name).ok_or_else(|| unclear(format!("{because} is set, but {name} is not: {WAYS_OUT}")))
    }
}
