//! The beginning and the end of a child: from being asked, by a variable and a socket, to its entry
//! function; and that it never outlives its parent.
//!
//! ```text
//! parent                                      child
//! socket pair, spawn with DRAGON_CHILD=<pid>  before main: variable seen, other constructors run
//! send Hello and descriptors  ------------->  found the entry? no: Refusal back, exit REFUSED
//!                                             entry runs on its own thread; the first thread watches
//! ends in whatever way        - - - - - - ->  ORPHANED, at once
//!                                             entry returns: 0; panics: PANICKED
//! ```
//! A parent that wants a child to end by itself must keep its end of the socket open until it has ended.

use std::{
    env, io,
    os::fd::{AsFd, OwnedFd},
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use serde::{Deserialize, Serialize};

use super::{FnRef, Scope, Thunk, panics, resolve};
use crate::sys::{birth as own, overflow, pmix_helper, pmix_office, process, socket};
use crate::wire;

/// Set in a child's environment to its parent's process id.
pub(crate) const VARIABLE: &str = "DRAGON_CHILD";
/// Exit code of a child whose parent is gone.
pub(crate) const ORPHANED: i32 = 86;
/// Exit code of a child that could not do what it was asked. It has sent a [`Refusal`].
pub(crate) const REFUSED: i32 = 87;
/// Exit code of a child whose worker thread overflowed its stack.
pub(crate) const OVERFLOWED: i32 = 88;
/// Exit code of a child whose entry panicked; the same as that of a `main` that panicked.
pub(crate) const PANICKED: i32 = 101;
/// A `Hello` may take this many bytes as a record.
pub(crate) const HELLO_MAX: usize = 128 << 10;
/// Of the thread that runs the entry: what a main thread usually has.
const STACK: usize = 8 << 20;

/// The first record on the control socket: what the child is to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// An `entry` thunk.
    pub(crate) entry: FnRef,
    /// What it is called with.
    pub(crate) argument: Vec<u8>,
}

/// The only record a child sends by itself: why it will not be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal(pub(crate) String);

/// What a child was born with.
#[derive(Debug)]
pub(crate) struct Birth {
    /// Its end of the control socket, which the first thread watches too.
    pub(crate) socket: OwnedFd,
    /// What came with the `Hello`.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The parent's process id.
    #[cfg_attr(not(test), expect(dead_code, reason = "for entries that talk to their parent"))]
    pub(crate) parent: u32,
}

static CHILD: OnceLock<()> = OnceLock::new();
static BIRTH: Mutex<Option<Birth>> = Mutex::new(None);

/// Whether this process was started by ours and has no `main`.
#[cfg(test)]
pub(crate) fn is_child() -> bool {
    CHILD.get().is_some()
}

/// Hands the entry its things, once.
pub(crate) fn take() -> Option<Birth> {
    BIRTH.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Becomes a child, and never returns, if this process was started to be one and the hook did not see
/// to it. To be called before anything else that the library does.
pub(crate) fn become_child_if_asked() {
    #[cfg(feature = "ctor")]
    super::hook::ensure_linked();
    if pmix_helper::is_asked() {
        pmix_helper::be_helper();
    }
    if pmix_office::is_asked() {
        pmix_office::be_server();
    }
    if let Some(parent) = asked() {
        forget_asked();
        become_child(parent);
    }
}

/// The parent's id, if this process was started to be a child. The variable alone may have leaked from
/// anywhere; only together with the socket on standard input does it mean us.
pub(super) fn asked() -> Option<u32> {
    let value = env::var_os(VARIABLE)?;
    let parent = value.to_str()?.parse().ok()?;
    (!own::is_privileged() && own::stdin_is_control()).then_some(parent)
}

/// Removes the variable, so that our own children are ordinary processes.
pub(super) fn forget_asked() {
    // SAFETY: before `main` there is no other thread, unless a constructor started one; from `init()`,
    // the first statement of `main`, likewise. The standard library's own accesses are locked anyway.
    unsafe { env::remove_var(VARIABLE) };
}

/// The rest of this process's life.
pub(super) fn become_child(parent: u32) -> ! {
    let _ = CHILD.set(());
    own::set_name(c"dragon");
    own::ignore_broken_pipes();
    panics::install();
    let Ok(socket) = own::take_stdin() else { own::exit_at_once(REFUSED) };
    // Opened before the parent is known to live: if it does, it is not another process of the same id.
    let pidfd = process::pidfd(parent).ok();
    if process::parent() != parent {
        own::exit_at_once(ORPHANED);
    }
    match begin(&socket, parent) {
        Ok(true) => {
            own::wait_for_end(socket.as_fd(), pidfd.as_ref().map(AsFd::as_fd));
            own::exit_at_once(ORPHANED)
        }
        Ok(false) => own::exit_at_once(ORPHANED),
        Err(why) => refuse(&socket, why),
    }
}

/// Hears what to be and starts being it. `false`: the parent is gone already.
fn begin(socket: &OwnedFd, parent: u32) -> Result<bool, String> {
    let failed = |error: io::Error| format!("the child cannot start: {error}");
    mark!("process.birth.unborn");
    let Some((record, descriptors)) = socket::receive(socket, HELLO_MAX).map_err(failed)? else {
        return Ok(false);
    };
    let hello: Hello =
        wire::decode(&record).map_err(|error| format!("the child cannot be told what to be: {error}"))?;
    let entry = resolve(&hello.entry).map_err(|error| error.to_string())?;
    let own = socket.try_clone().map_err(failed)?;
    *BIRTH.lock().unwrap_or_else(PoisonError::into_inner) = Some(Birth { socket: own, descriptors, parent });
    let thread = thread::Builder::new().name("dragon-worker".into()).stack_size(STACK);
    thread.spawn(move || live(entry, &hello.argument)).map_err(failed)?;
    Ok(true)
}

/// Runs the entry and ends the process: properly, with exit handlers, because those write what profilers
/// and coverage have gathered. The first thread watches to the last.
fn live(entry: &Thunk, argument: &[u8]) -> ! {
    // Without it an overflow is a segmentation fault, which ends the child as surely.
    let _ = overflow::exit_on_overflow(OVERFLOWED);
    mark!("process.birth.entry");
    let mut output = Vec::new();
    let mut scope = Scope::new(argument, &mut output);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| entry.call(&mut scope)));
    std::process::exit(if matches!(ended, Ok(Ok(()))) { 0 } else { PANICKED })
}

/// Ends a child with this code: properly, with exit handlers.
pub(crate) fn finish(code: i32) -> ! {
    std::process::exit(code)
}

/// Ends a child that cannot be what it was asked to be, in a way that the parent hears why.
pub(crate) fn give_up(socket: &OwnedFd, why: String) -> ! {
    refuse(socket, why)
}

/// What a child that has ended said on its control socket, if it said why it would not begin.
pub(crate) fn refusal(control: &OwnedFd) -> Option<String> {
    // Without waiting: a process that the child left behind may hold its end of the socket.
    let (record, _) = socket::receive_now(control, HELLO_MAX).ok()??;
    wire::decode::<Refusal>(&record).ok().map(|Refusal(why)| why)
}

fn refuse(socket: &OwnedFd, why: String) -> ! {
    let mut record = Vec::new();
    // Who does not hear it still sees the exit code.
    if wire::encode(&Refusal(why), &mut record).is_ok() {
        let _ = socket::send(socket.as_fd(), &record, &[]);
    }
    own::exit_at_once(REFUSED)
}
