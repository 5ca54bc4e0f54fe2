//! What must not reach the children of a rank: variables by which they, or an MPI library in them, would take
//! themselves for that rank.

/// Families of variables, by how their names begin.
const FAMILIES: &[&str] = &[
    "PMI_",
    "PMI2_",
    "PMIX_",
    "HYDI_",
    "HYDRA_",
    "OMPI_",
    "OPAL_",
    "PRTE_",
    "ORTE_",
    "PALS_",
    "MPI_LOCAL",
    "MV2_COMM_WORLD",
    "I_MPI_HYDRA",
    "I_MPI_INFO",
    "FLUX_TASK",
    "JSM_",
    "TORCHELASTIC_",
    "SLURM_PMI",
];

/// Single variables. Of Slurm's, only those that make a task of a process: its children may start steps of their own.
const NAMES: &[&str] = &[
    "DRAGON_RENDEZVOUS",
    "DRAGON_RANK",
    "DRAGON_SIZE",
    "DRAGON_HEAD",
    "DRAGON_NODE_ID",
    "DRAGON_BOOTSTRAP",
    "DRAGON_JOB_ID",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "ALPS_APP_PE",
    "FLUX_JOB_SIZE",
    "JOB_COMPLETION_INDEX",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_STEP_ID",
    "SLURM_STEPID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_MPI_TYPE",
    "SLURM_GTIDS",
];

/// Whether a variable is one that makes a rank of a process: to be removed from what children inherit.
pub(crate) fn makes_a_rank(variable: &str) -> bool {
    NAMES.contains(&variable) || FAMILIES.iter().any(|family| variable.starts_with(family))
}
