//! What a rank finds in its environment. What an outer launcher left there is to be gone before (`bootstrap::makes_a_rank`).

use super::choose::Speaks;
use super::team::Team;

/// Under which number a rank finds its end of the socket.
pub(crate) const RANKS_DESCRIPTOR: i32 = 3;

/// The variables of a rank. Those that PMIx's server wants it to have come on top.
pub(crate) fn of_rank(team: &Team, rank: u32, speaks: Speaks) -> Vec<(String, String)> {
    let place = team.place(rank).unwrap_or_default();
    let mates = team.ranks_at(place);
    let local = mates.iter().position(|mate| *mate == rank).unwrap_or_default();
    let [rank, size, local, locals] = [rank as usize, team.size(), local, mates.len()].map(|number| number.to_string());
    let mut all = Vec::new();
    let mut set = |name: &str, value: &str| all.push((name.to_string(), value.to_string()));
    if let Some(version) = speaks.pmi {
        set("PMI_FD", &RANKS_DESCRIPTOR.to_string());
        set("PMI_RANK", &rank);
        set("PMI_SIZE", &size);
        set("PMI_JOBID", &team.name);
        set("MPI_LOCALRANKID", &local);
        set("MPI_LOCALNRANKS", &locals);
        // MPICH 5 does not start where it sees PMI and PMIx and is not told which to take.
        set("MPIR_CVAR_PMI_VERSION", &version.to_string());
    }
    if speaks.pmix {
        for (name, value) in
            [("RANK", &rank), ("SIZE", &size), ("LOCAL_RANK", &local), ("LOCAL_SIZE", &locals), ("NODE_RANK", &local)]
        {
            // Open MPI does not need them; scripts look at them.
            set(&format!("OMPI_COMM_WORLD_{name}"), value);
        }
        // Open MPI 4 takes itself for the only rank unless some launcher that it knows seems to have started it directly.
        // This one says so and nothing else.
        set("JSM_JSRUN_PORT", "1");
        if speaks.pmi.is_none() {
            set("MPIR_CVAR_PMI_VERSION", "x");
        }
    }
    all
}
