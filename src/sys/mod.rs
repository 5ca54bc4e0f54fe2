//! The machine: every call to the kernel and to libc, in words the floors above use.
//!
//! Nothing here decides anything. A function does one call, turns its failure into `io::Error`, and
//! retries only what the kernel says to retry (`EINTR`).

pub(crate) mod affinity;
pub(crate) mod birth;
pub(crate) mod cgroup;
pub(crate) mod elf;
pub(crate) mod epoll;
pub(crate) mod futex;
pub(crate) mod identity;
pub(crate) mod image;
pub(crate) mod launch;
pub(crate) mod machine;
pub(crate) mod net;
pub(crate) mod overflow;
mod pmix;
pub(crate) mod pmix_helper;
pub(crate) mod pmix_office;
mod pmix_server;
pub(crate) mod pmix_words;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod rendezvous;
pub(crate) mod shm;
pub(crate) mod socket;
