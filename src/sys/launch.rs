//! Starting a program: a child that shares this process's memory until it becomes the program.
//!
//! What `posix_spawn` does, and at its price: `clone` with `CLONE_VM | CLONE_VFORK`, so that nothing of a large parent is
//! copied. Besides it does here what `posix_spawn` cannot: the child ends when the thread that started it does, runs on
//! the processors that it is told, gets descriptors under the numbers that it is told, and comes with its pidfd.
//!
//! Until `execve` the child runs on memory of this process while the calling thread stands still. So it makes system
//! calls and nothing else: it takes no lock, allocates nothing, and all it works on was prepared before.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::process;

/// What is to be started.
pub(crate) struct Launch<'a> {
    /// The file.
    pub(crate) program: &'a CStr,
    /// Its arguments, from the zeroth on.
    pub(crate) arguments: &'a [CString],
    /// Its whole environment: `NAME=value`.
    pub(crate) environment: &'a [CString],
    /// Where it begins; where this process is, by default.
    pub(crate) cwd: Option<&'a CStr>,
    /// Descriptors, and the number of each in the child.
    pub(crate) descriptors: &'a [(BorrowedFd<'a>, i32)],
    /// Processors it may use; all that this thread may, by default.
    pub(crate) cpus: &'a [usize],
    /// Whether it leads a process group of its own.
    pub(crate) leads_group: bool,
}

/// Why nothing was started: the step, and what the kernel said of it.
pub(crate) struct NotLaunched {
    pub(crate) step: &'static str,
    pub(crate) source: io::Error,
}

/// A processor mask, in words of the kernel's.
type Mask = [u64; 16];

/// All that the child works on.
struct Script {
    program: *const c_char,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    cwd: *const c_char,
    /// Descriptor and number; the child moves those that are in the way.
    descriptors: Vec<(c_int, c_int)>,
    cpus: Option<Mask>,
    leads_group: bool,
    parent: c_int,
    /// The child's word when it fails.
    failed: (Step, c_int),
}

#[derive(Clone, Copy)]
#[repr(usize)]
enum Step {
    None,
    Group,
    Parent,
    Cpus,
    Cwd,
    Descriptors,
    Exec,
}

const STEPS: [&str; 7] = [
    "nothing",
    "its process group",
    "its tie to its parent",
    "its processors",
    "its working directory",
    "its descriptors",
    "the program",
];

/// More than the child needs.
const STACK: usize = 64 << 10;

#[repr(align(16))]
struct Stack(#[expect(dead_code, reason = "room for the child")] [MaybeUninit<u8>; STACK]);

/// Starts it. The child is killed when the calling thread ends.
pub(crate) fn launch(launch: &Launch<'_>) -> Result<(u32, OwnedFd), NotLaunched> {
    let mut script = prepare(launch)?;
    let blocked = block_signals();
    let born = clone(&mut script);
    restore_signals(&blocked);
    let (pid, pidfd) = born.map_err(|source| NotLaunched { step: "the process itself", source })?;
    match script.failed {
        (Step::None, _) => Ok((pid, pidfd)),
        (step, errno) => {
            // It has ended, and nobody else knows of it.
            let _ = process::wait(pidfd.as_fd());
            Err(NotLaunched { step: STEPS[step as usize], source: io::Error::from_raw_os_error(errno) })
        }
    }
}

fn prepare(launch: &Launch<'_>) -> Result<Script, NotLaunched> {
    let list = |strings: &[CString]| {
        let pointers = strings.iter().map(|string| string.as_ptr());
        pointers.chain([ptr::null()]).collect::<Vec<_>>()
    };
    let mut cpus = (!launch.cpus.is_empty()).then_some([0; 16]);
    for cpu in launch.cpus {
        let word = cpus.as_mut().and_then(|words| words.get_mut(cpu / 64));
        let none = || NotLaunched { step: STEPS[Step::Cpus as usize], source: io::ErrorKind::InvalidInput.into() };
        *word.ok_or_else(none)? |= 1 << (cpu % 64);
    }
    Ok(Script {
        program: launch.program.as_ptr(),
        arguments: list(launch.arguments),
        environment: list(launch.environment),
        cwd: launch.cwd.map_or(ptr::null(), CStr::as_ptr),
        descriptors: launch.descriptors.iter().map(|(from, to)| (from.as_raw_fd(), *to)).collect(),
        cpus,
        leads_group: launch.leads_group,
        parent: process::id() as c_int,
        failed: (Step::None, 0),
    })
}

/// The child begins here and never returns, so that this returns once: in the parent, when the child is the program.
fn clone(script: &mut Script) -> io::Result<(u32, OwnedFd)> {
    let mut stack = Box::<Stack>::new_uninit();
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the stack grows down from its end, is aligned, belongs to nobody else, and outlives the child's use of it,
    // because this thread stands still until the child has become the program or has ended; so does the script. The
    // kernel writes the pidfd before it returns.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(1).cast::<c_void>();
        libc::clone(child, top, flags, ptr::from_mut(script).cast(), &raw mut pidfd)
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made it for us.
        pid => Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

extern "C" fn child(script: *mut c_void) -> c_int {
    // SAFETY: what `clone` was given; its owner stands still.
    let script = unsafe { &mut *script.cast::<Script>() };
    let step = become_program(script);
    // SAFETY: reads this thread's number of the last failure.
    script.failed = (step, unsafe { *libc::__errno_location() });
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(127) }
}

/// Returns the step that failed.
fn become_program(script: &mut Script) -> Step {
    // SAFETY: system calls on what `prepare` has made: strings that end, lists that end with null.
    unsafe {
        if script.leads_group && libc::setpgid(0, 0) == -1 {
            return Step::Group;
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 || libc::getppid() != script.parent {
            return Step::Parent;
        }
        if let Some(mask) = &script.cpus
            && libc::sched_setaffinity(0, size_of::<Mask>(), ptr::from_ref(mask).cast()) == -1
        {
            return Step::Cpus;
        }
        if !script.cwd.is_null() && libc::chdir(script.cwd) == -1 {
            return Step::Cwd;
        }
        if !place(&mut script.descriptors) {
            return Step::Descriptors;
        }
        forget_handlers();
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        libc::execve(script.program, script.arguments.as_ptr(), script.environment.as_ptr());
        Step::Exec
    }
}

/// Gives descriptors their numbers. First those are moved away that have a number which another is to get.
fn place(descriptors: &mut [(c_int, c_int)]) -> bool {
    let above = descriptors.iter().map(|(_, to)| *to).max().unwrap_or(0) + 1;
    for (from, _) in descriptors.iter_mut().filter(|(from, _)| *from < above) {
        // SAFETY: of a descriptor, by number; in the child's own table.
        *from = unsafe { libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, above) };
        if *from == -1 {
            return false;
        }
    }
    // SAFETY: as above.
    descriptors.iter().all(|(from, to)| unsafe { libc::dup2(*from, *to) } != -1)
}

/// A handler of this process must not run in the child, on this process's memory; and the program begins with a broken
/// pipe being what it is by default.
///
/// # Safety
/// For the child of `clone` only, which has a table of handlers of its own.
unsafe fn forget_handlers() {
    for signal in 1..=64 {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: reads into it, and writes what all zero is: the default. Signals that may not be changed refuse.
        unsafe {
            if libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == -1 {
                continue;
            }
            let now = action.assume_init_ref().sa_sigaction;
            let stays = now == libc::SIG_DFL || (now == libc::SIG_IGN && signal != libc::SIGPIPE);
            if !stays {
                libc::sigaction(signal, MaybeUninit::zeroed().as_ptr(), ptr::null_mut());
            }
        }
    }
}

fn block_signals() -> libc::sigset_t {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: fills both; only this thread is concerned.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: what was there before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}

/// A descriptor of nothing: reads end at once, writes vanish.
pub(crate) fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}
