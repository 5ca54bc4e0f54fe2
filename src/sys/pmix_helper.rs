//! A process that talks to the PMIx server in place of a rank: this very program once more, which becomes the helper
//! before its `main`, does its one errand and ends.
//!
//! ```text
//! rank                                        helper
//! spawn with DRAGON_PMIX=<pid>, a socket ---> connects to the server
//!                        <---  rank, size
//! note to leave, or none --->  put, meet the others, get rank 0's, meet, finalize
//!                        <---  rank 0's note
//! ```
//! An answer that begins with a zero byte is an error in words.

use std::{
    env, fs, io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
};

use super::{birth, pmix::Client, process, socket};

/// Set in the helper's environment to the rank's process id.
const VARIABLE: &str = "DRAGON_PMIX";
/// Which libraries to try, separated by colons.
const LIBRARIES: &str = "DRAGON_PMIX_LIBRARIES";
/// A record between the two is shorter.
pub(crate) const RECORD: usize = 8192;
const GOOD: u8 = 1;

/// Starts a helper. Its socket ends when it does.
pub(crate) fn start() -> io::Result<(Child, OwnedFd)> {
    let (ours, theirs) = socket::pair()?;
    let mut helper = Command::new("/proc/self/exe");
    helper.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
    helper.env(VARIABLE, process::id().to_string()).env(LIBRARIES, libraries().join(":"));
    if env::var("PMIX_GDS_MODULE").is_ok_and(|store| store.contains("ds21") || store.contains("ds12")) {
        // The shared store of version 4.2 loses a rank's words now and then; the plain one does not.
        helper.env("PMIX_MCA_gds", "hash");
    }
    Ok((helper.spawn()?, ours))
}

/// Where libpmix may be: where the launcher's own is (the version that fits for sure), anywhere. Only there where the user
/// says, if he does: another one in its place would hide his mistake.
pub(super) fn libraries() -> Vec<String> {
    if let Some(own) = env::var("DRAGON_LIBPMIX").ok().filter(|own| !own.is_empty()) {
        return vec![own];
    }
    let maps = fs::read_to_string(format!("/proc/{}/maps", process::parent())).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let of_launcher =
        paths.into_iter().find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("libpmix.so")));
    of_launcher.map(String::from).into_iter().chain(["libpmix.so.2".into(), "libpmix.so".into()]).collect()
}

/// What a helper has answered: bytes, or what went wrong.
pub(crate) fn answer(record: &[u8]) -> Result<&[u8], String> {
    match record {
        [GOOD, bytes @ ..] => Ok(bytes),
        [_, words @ ..] => Err(String::from_utf8_lossy(words).into_owned()),
        [] => Err("the helper said nothing".into()),
    }
}

/// Whether this process was started to be a helper.
pub(crate) fn is_asked() -> bool {
    env::var_os(VARIABLE).is_some() && !birth::is_privileged() && birth::stdin_is_control()
}

/// The whole life of a helper.
pub(crate) fn be_helper() -> ! {
    birth::set_name(c"dragon-pmix");
    birth::ignore_broken_pipes();
    if let Ok(rank) = birth::take_stdin() {
        // Who does not hear of it sees the socket end.
        let _ = run(&rank).or_else(|why| say(&rank, 0, why.as_bytes()));
    }
    birth::exit_at_once(0)
}

fn run(rank: &OwnedFd) -> Result<(), String> {
    let libraries: Vec<String> = env::var(LIBRARIES).unwrap_or_default().split(':').map(String::from).collect();
    let client = Client::connect(&libraries)?;
    let (me, size) = client.rank_and_size()?;
    say(rank, GOOD, &[me.to_le_bytes(), size.to_le_bytes()].concat())?;
    let order = socket::receive(rank, RECORD).map_err(|error| error.to_string())?;
    let Some((order, _)) = order else { return Ok(()) };
    // The first byte of an order says whether there is a note to leave; the rest is its key and the note.
    let (leaves, key, note) = match order[..] {
        [leaves, len, ref rest @ ..] if rest.len() >= usize::from(len) => {
            (leaves != 0, &rest[..usize::from(len)], &rest[usize::from(len)..])
        }
        _ => return Err("an order that makes no sense".into()),
    };
    let key = String::from_utf8_lossy(key);
    if leaves {
        client.put(&key, note)?;
    }
    client.meet()?;
    let note = client.bytes_of(0, &key)?;
    // A server forgets what a rank has left when that rank takes its leave.
    client.meet()?;
    say(rank, GOOD, &note)?;
    client.finalize()
}

/// An order for the helper.
pub(crate) fn order(key: &str, note: Option<&[u8]>) -> Vec<u8> {
    let mut order = vec![u8::from(note.is_some()), key.len() as u8];
    order.extend_from_slice(key.as_bytes());
    order.extend_from_slice(note.unwrap_or_default());
    order
}

fn say(rank: &OwnedFd, good: u8, bytes: &[u8]) -> Result<(), String> {
    let record: Vec<u8> = std::iter::once(good).chain(bytes.iter().copied()).take(RECORD).collect();
    socket::send(rank.as_fd(), &record, &[]).map_err(|error| error.to_string())
}
