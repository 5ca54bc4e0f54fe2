//! Real ranks: this test binary, started several times by the test, by its own PMI server, and by the launchers of the
//! machine.

mod crew;
mod detection;
mod faults;
mod launchers;
mod manager;
mod meet;
mod nodes;
mod slurm;
