//! How long anything may be that a program sends. MPICH, Intel MPI and Slurm's clients stay far below.

/// A request with its command: more without an end is no request.
pub(super) const REQUEST_MOST: usize = 64 << 10;
/// The longest key, as announced.
pub(super) const KEY_MOST: usize = 64;
/// The longest value, as announced: what MPICH's own manager says, whose clients have no room for more.
pub(super) const VALUE_SAID: usize = 1024;
/// The longest value that is taken: Intel's manager says so much, and some do not ask.
pub(super) const VALUE_MOST: usize = 4096;
/// The longest name of a store, as announced.
pub(super) const NAME_MOST: usize = 256;
/// All keys and values of a team together.
pub(super) const STORE_MOST: usize = 256 << 20;
/// Requests of a rank that may wait for something at a time: PMI-2 allows one for each of its threads.
pub(super) const WAITING_MOST: usize = 64;
/// The longest description of processes whose places follow no rule; without it MPI libraries find out for themselves.
pub(super) const MAPPING_MOST: usize = 1000;
/// Keys that ranks leave for their own node.
pub(super) const ON_NODE_MOST: usize = 1 << 16;
